//! Truth values and whole numbers.

use std::{fmt::Display, ops::RangeInclusive};

use super::{Rule, kind};
use crate::config::error::Reason;

/// `true` or `false`.
pub(crate) struct Flag;

impl Rule for Flag {
    type Value = bool;

    fn decode(&self, value: &toml::Value) -> Result<bool, Reason> {
        value.as_bool().ok_or(Reason::WrongType { expected: "true or false", found: kind(value) })
    }

    fn parse(&self, text: &str) -> Result<bool, Reason> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "yes" => Ok(true),
            "false" | "0" | "off" | "no" => Ok(false),
            _ => Err(Reason::Malformed { expected: "true or false", found: text.to_owned() }),
        }
    }

    fn check(&self, _: &bool) -> Result<(), Reason> {
        Ok(())
    }

    fn encode(&self, value: &bool) -> toml::Value {
        toml::Value::Boolean(*value)
    }
}

/// A whole number within limits.
pub(crate) struct Number<T>(pub(crate) RangeInclusive<T>);

impl<T> Number<T>
where
    T: TryFrom<i64> + TryInto<i64> + Copy + PartialOrd + Display,
{
    fn out_of_range(&self, found: impl Display) -> Reason {
        Reason::OutOfRange { found: found.to_string(), at_least: self.0.start().to_string(), at_most: self.0.end().to_string(), or: "" }
    }
}

impl<T> Rule for Number<T>
where
    T: TryFrom<i64> + TryInto<i64> + Copy + PartialOrd + Display,
{
    type Value = T;

    fn decode(&self, value: &toml::Value) -> Result<T, Reason> {
        let number = value.as_integer().ok_or(Reason::WrongType { expected: "a whole number", found: kind(value) })?;
        T::try_from(number).map_err(|_| self.out_of_range(number))
    }

    fn parse(&self, text: &str) -> Result<T, Reason> {
        let number: i64 = text.trim().parse().map_err(|_| Reason::Malformed { expected: "a whole number", found: text.to_owned() })?;
        T::try_from(number).map_err(|_| self.out_of_range(number))
    }

    fn check(&self, value: &T) -> Result<(), Reason> {
        if self.0.contains(value) { Ok(()) } else { Err(self.out_of_range(value)) }
    }

    fn encode(&self, value: &T) -> toml::Value {
        toml::Value::Integer((*value).try_into().unwrap_or(i64::MAX))
    }
}

/// One of a few numbers.
pub(crate) struct Choice(pub(crate) &'static [u16]);

impl Choice {
    fn refuse(&self, found: impl Display) -> Reason {
        let allowed: Vec<String> = self.0.iter().map(u16::to_string).collect();
        Reason::NotOneOf { allowed: allowed.join(", "), found: found.to_string() }
    }
}

impl Rule for Choice {
    type Value = u16;

    fn decode(&self, value: &toml::Value) -> Result<u16, Reason> {
        let number = value.as_integer().ok_or(Reason::WrongType { expected: "a whole number", found: kind(value) })?;
        u16::try_from(number).map_err(|_| self.refuse(number))
    }

    fn parse(&self, text: &str) -> Result<u16, Reason> {
        text.trim().parse().map_err(|_| self.refuse(text))
    }

    fn check(&self, value: &u16) -> Result<(), Reason> {
        if self.0.contains(value) { Ok(()) } else { Err(self.refuse(value)) }
    }

    fn encode(&self, value: &u16) -> toml::Value {
        toml::Value::Integer(i64::from(*value))
    }
}
