//! The few things that JSON text needs beyond serde: borrowed strings and whitespace-free copies.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The value of a JSON string, borrowed where it has no escapes. `None` for any other kind of value, and for a string whose
/// escapes are no characters (a lone surrogate).
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw.get()).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Whether the text is a JSON object (derive would take an array for a struct).
pub(crate) fn is_object(json: &str) -> bool {
    json.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

/// A valid JSON text without the white space between its tokens; the tokens themselves are untouched.
pub(crate) fn compact(json: &str) -> Cow<'_, str> {
    if !json.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if matches!(c, ' ' | '\t' | '\r' | '\n') {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn compacting_leaves_tokens_alone() {
        assert_eq!(
            compact(r#" { "a b" : [ 1.0e3 , "x \" y" , 12345678901234567890 ] } "#),
            r#"{"a b":[1.0e3,"x \" y",12345678901234567890]}"#
        );
        assert_eq!(compact(r#"{"a":"\\" , "b":1}"#), r#"{"a":"\\","b":1}"#);
        assert_eq!(compact("[1,2]"), "[1,2]");
    }

    proptest! {
        #[test]
        fn a_compacted_text_means_the_same(keys in proptest::collection::vec("\\PC{0,8}", 0..5), n in any::<i64>()) {
            let value = serde_json::json!({ "keys": keys, "n": n });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty).into_owned(), serde_json::to_string(&value).unwrap());
        }

        #[test]
        fn a_borrowed_string_reads_as_serde_reads_it(value in "\\PC{0,20}") {
            let json = serde_json::to_string(&value).unwrap();
            let raw: &RawValue = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(text(raw).unwrap().into_owned(), value);
        }
    }
}
