//! Shares of a whole.

use super::{Rule, kind};
use crate::config::error::Reason;

/// What a whole is divided into, so that two shares can be compared.
const PARTS: f64 = 1_000_000.0;

/// A share, 0 to 1, exact to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// The whole.
    pub const ALL: Self = Self(1_000_000);

    /// The share as a number between 0 and 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / PARTS
    }
}

/// A number from 0 to 1.
pub(crate) struct Ratio;

impl Ratio {
    fn read(number: f64) -> Result<Share, Reason> {
        if !(0.0..=1.0).contains(&number) {
            return Err(Reason::OutOfRange { found: number.to_string(), at_least: "0".to_owned(), at_most: "1".to_owned(), or: "" });
        }
        // In range, so it fits.
        Ok(Share((number * PARTS).round() as u32))
    }
}

impl Rule for Ratio {
    type Value = Share;

    fn decode(&self, value: &toml::Value) -> Result<Share, Reason> {
        match value {
            toml::Value::Float(number) => Self::read(*number),
            toml::Value::Integer(number) => Self::read(*number as f64),
            other => Err(Reason::WrongType { expected: "a number from 0 to 1", found: kind(other) }),
        }
    }

    fn parse(&self, text: &str) -> Result<Share, Reason> {
        let number = text.trim().parse().map_err(|_| Reason::Malformed { expected: "a number from 0 to 1", found: text.to_owned() })?;
        Self::read(number)
    }

    fn check(&self, _: &Share) -> Result<(), Reason> {
        Ok(())
    }

    fn encode(&self, value: &Share) -> toml::Value {
        toml::Value::Float(value.as_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::Given;

    #[test]
    fn a_share_is_a_number_from_0_to_1() {
        let read = |text: &str| Rule::read(&Ratio, Given::Text(text)).map(Share::as_f64);
        assert_eq!((read("0"), read("1"), read("0.25"), read("1e-3")), (Ok(0.0), Ok(1.0), Ok(0.25), Ok(0.001)));
        for wrong in ["", "1.1", "-0.1", "NaN", "inf", "half", "10%"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let file = |value: toml::Value| Rule::read(&Ratio, Given::Value(&value)).is_ok();
        assert!(file(toml::Value::Integer(1)) && file(toml::Value::Float(0.5)) && !file(toml::Value::Integer(2)));
        assert!(!file(toml::Value::String("0.5".into())));
    }
}
