//! One word out of a closed list.

use std::marker::PhantomData;

use super::{Given, Rule, kind, list::structured, string};
use crate::config::error::Reason;

/// A closed list of words.
pub(crate) trait Keyword: Copy + PartialEq + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// The word of this value.
    fn word(self) -> &'static str;
}

/// Lets lists that are declared with `words!` be values of keys.
macro_rules! keywords {
    ($($name:ty),+) => {
        $(impl $crate::config::rules::Keyword for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}
pub(crate) use keywords;

/// A word of `K`.
pub(crate) struct Word<K>(PhantomData<K>);

impl<K> Word<K> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Keyword> Rule for Word<K> {
    type Value = K;

    fn decode(&self, value: &toml::Value) -> Result<K, Reason> {
        let text = string(value, "a word")?;
        K::ALL.iter().copied().find(|value| value.word() == text).ok_or_else(|| {
            let allowed: Vec<&str> = K::ALL.iter().map(|value| value.word()).collect();
            Reason::NotOneOf { allowed: allowed.join(", "), found: text.to_owned() }
        })
    }

    fn check(&self, _: &K) -> Result<(), Reason> {
        Ok(())
    }

    fn encode(&self, value: &K) -> toml::Value {
        toml::Value::String(value.word().to_owned())
    }
}

/// A list of words of `K`, each once.
pub(crate) struct Words<K>(PhantomData<K>);

impl<K> Words<K> {
    const EXPECTED: &'static str = r#"a list of words such as ["a", "b"]"#;

    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Keyword> Rule for Words<K> {
    type Value = Vec<K>;

    fn decode(&self, value: &toml::Value) -> Result<Vec<K>, Reason> {
        let words = value.as_array().ok_or(Reason::WrongType { expected: Self::EXPECTED, found: kind(value) })?;
        words.iter().map(|word| Word::new().decode(word)).collect()
    }

    fn parse(&self, text: &str) -> Result<Vec<K>, Reason> {
        let value = structured(text).ok_or_else(|| Reason::Malformed { expected: Self::EXPECTED, found: text.to_owned() })?;
        self.read(Given::Value(&value))
    }

    fn check(&self, words: &Vec<K>) -> Result<(), Reason> {
        let twice = words.iter().enumerate().find_map(|(i, word)| Some((word, words[..i].iter().position(|earlier| earlier == word)?)));
        match twice {
            Some((word, first)) => Err(Reason::Taken { value: word.word().to_owned(), by: format!("entry {}", first + 1) }),
            None => Ok(()),
        }
    }

    fn encode(&self, words: &Vec<K>) -> toml::Value {
        words.iter().map(|word| word.word()).collect::<Vec<_>>().into()
    }
}
