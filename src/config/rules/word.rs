//! One word out of a closed list.

use std::marker::PhantomData;

use super::{Rule, string};
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
