//! One word out of a closed list.

use std::marker::PhantomData;

use super::{Rule, string};
use crate::config::error::Reason;

/// An enumeration that is written as a word.
pub(crate) trait Keyword: Copy + PartialEq + 'static {
    /// Every word and its value.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

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
        K::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let allowed: Vec<&str> = K::WORDS.iter().map(|(word, _)| *word).collect();
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
