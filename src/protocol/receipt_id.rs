//! What a client calls an event of which it wants to know that it arrived.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json;

/// The top-level `id` of a client event. A number and the same number as a text are two ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum ReceiptId {
    /// A text of 1 to [`ReceiptId::MAX_BYTES`] bytes.
    Text(Arc<str>),
    /// An integer.
    Number(i64),
}

/// An `id` that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The id of a client event must be a string of 1 to {} bytes, or an integer of 64 bits", ReceiptId::MAX_BYTES)]
pub struct InvalidReceiptId;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl ReceiptId {
    /// Most bytes of a text.
    pub const MAX_BYTES: usize = 64;

    /// The id in a message, if it has one; `null` is none. Read for itself, so that a message to somebody who does not look at ids means what
    /// it always meant, whatever its `id` is.
    ///
    /// # Errors
    /// [`InvalidReceiptId`], also if there are several.
    pub fn of_message(message: &str) -> Result<Option<Self>, InvalidReceiptId> {
        let Envelope { id } = serde_json::from_str(message).map_err(|_| InvalidReceiptId)?;
        let Some(raw) = id else { return Ok(None) };
        if raw.get().starts_with('"') {
            let text = json::text(raw).filter(|text| (1..=Self::MAX_BYTES).contains(&text.len())).ok_or(InvalidReceiptId)?;
            return Ok(Some(Self::Text(text.into())));
        }
        raw.get().parse().map(|number| Some(Self::Number(number))).map_err(|_| InvalidReceiptId)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(id: &str) -> Result<Option<ReceiptId>, InvalidReceiptId> {
        ReceiptId::of_message(&format!(r#"{{"event":"client-x","id":{id},"channel":"private-y"}}"#))
    }

    #[test]
    fn a_short_text_or_an_integer_is_an_id() {
        let text = |text: &str| Ok(Some(ReceiptId::Text(text.into())));
        assert_eq!(read(r#""a""#), text("a"));
        assert_eq!(read(r#""\u00e9\"""#), text("é\""));
        assert_eq!(read(&format!("\"{}\"", "é".repeat(32))), text(&"é".repeat(32)), "64 bytes");
        assert_eq!(read("7"), Ok(Some(ReceiptId::Number(7))));
        assert_ne!(read("7"), read(r#""7""#));
        for edge in [i64::MIN, i64::MAX, 0, -1] {
            assert_eq!(read(&edge.to_string()), Ok(Some(ReceiptId::Number(edge))));
        }
        assert_eq!(read("null"), Ok(None));
        assert_eq!(ReceiptId::of_message(r#"{"event":"client-x"}"#), Ok(None));
    }

    #[test]
    fn anything_else_is_refused_with_the_limit() {
        let long = format!("\"{}\"", "x".repeat(65));
        for bad in [r#""""#, &long, "1.5", "1e3", "9223372036854775808", "true", "[]", "{}", r#""\ud800""#, r#"1,"id":1"#] {
            assert_eq!(read(bad), Err(InvalidReceiptId), "{bad}");
        }
        assert_eq!(InvalidReceiptId.to_string(), "The id of a client event must be a string of 1 to 64 bytes, or an integer of 64 bits");
    }

    proptest! {
        #[test]
        fn texts_and_numbers_are_read_as_serde_reads_them(text in "\\PC{0,40}", number in any::<i128>(), spaces in "[ \n\t]{0,2}") {
            let json = serde_json::to_string(&text).unwrap();
            let expected = if (1..=64).contains(&text.len()) { Ok(Some(ReceiptId::Text(text.as_str().into()))) } else { Err(InvalidReceiptId) };
            prop_assert_eq!(read(&format!("{spaces}{json}{spaces}")), expected);
            let expected = i64::try_from(number).map(|number| Some(ReceiptId::Number(number))).map_err(|_| InvalidReceiptId);
            prop_assert_eq!(read(&format!("{spaces}{number}{spaces}")), expected);
        }

        #[test]
        fn no_message_makes_it_panic(message in "[{}\\[\\]\":,id0-9.eE+\\\\-]{0,40}") {
            let _ = ReceiptId::of_message(&message);
        }
    }

    #[test]
    fn it_is_written_as_it_was_read() {
        for id in [r#""a\"b""#, "-7"] {
            assert_eq!(serde_json::to_string(&read(id).unwrap()).unwrap(), id);
        }
    }
}
