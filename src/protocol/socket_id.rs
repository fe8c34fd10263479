//! Socket ids: two numbers with a dot between them (protocol.md 1.2).

use std::fmt;

/// Both halves stay below 2^53, so that every language reads them as exact numbers.
const HALF_MASK: u64 = (1 << 53) - 1;
/// Longest text that is looked at, in bytes.
const MAX_TEXT: usize = 64;

/// The identity of one connection. Made of 106 random bits: unguessable, and never used twice in a cluster's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    left: u64,
    right: u64,
}

/// The text is not of the form `^[0-9]+\.[0-9]+$`, or longer than 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid socket id")]
pub struct InvalidSocketId;

impl SocketId {
    /// An id from 128 random bits; those above 2^53 in each half are dropped.
    pub fn from_random(bits: u128) -> Self {
        Self { left: (bits >> 64) as u64 & HALF_MASK, right: bits as u64 & HALF_MASK }
    }

    /// The two numbers.
    pub(super) fn halves(self) -> (u64, u64) {
        (self.left, self.right)
    }

    /// Reads an id that somebody else sent.
    ///
    /// `Ok(None)` is an id of the right form that cannot be one of ours (leading zeros, or a number of 2^53 and more).
    ///
    /// # Errors
    /// [`InvalidSocketId`] when the form is wrong.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidSocketId> {
        let (left, right) = text.split_once('.').ok_or(InvalidSocketId)?;
        let digits = |half: &str| !half.is_empty() && half.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > MAX_TEXT || !digits(left) || !digits(right) {
            return Err(InvalidSocketId);
        }
        let number = |half: &str| half.parse().ok().filter(|n| *n <= HALF_MASK && (half == "0" || !half.starts_with('0')));
        Ok(number(left).zip(number(right)).map(|(left, right)| Self { left, right }))
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.left, self.right)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_id_of_the_vectors_round_trips() {
        let id = SocketId::parse("123456.7890123").unwrap().unwrap();
        assert_eq!(id.to_string(), "123456.7890123");
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", ".", "1.", ".1", "1", "1.2.3", "a.1", "1.b", "-1.2", "1.2\n", " 1.2", "+1.2", "1.2:private-x"] {
            assert_eq!(SocketId::parse(text), Err(InvalidSocketId), "{text:?}");
        }
        assert_eq!(SocketId::parse(&format!("{}.1", "1".repeat(63))), Err(InvalidSocketId));
    }

    #[test]
    fn a_foreign_number_is_well_formed_but_nobody() {
        assert_eq!(SocketId::parse("00.1"), Ok(None));
        assert_eq!(SocketId::parse("99999999999999999999999.1"), Ok(None));
    }

    proptest! {
        #[test]
        fn every_random_id_parses_back(bits in any::<u128>()) {
            let id = SocketId::from_random(bits);
            prop_assert_eq!(SocketId::parse(&id.to_string()), Ok(Some(id)));
        }
    }
}
