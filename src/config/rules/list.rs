//! Lists of texts.

use super::{Given, Rule, kind, string};
use crate::config::error::Reason;

/// Most entries in a list.
const MAX_ENTRIES: usize = 1_000;
/// Most pairs in `heartbeat.raw_pairs`: they are compared with every text frame.
const MAX_RAW_PAIRS: usize = 16;
/// Longest text in a raw pair, in bytes.
const MAX_RAW_TEXT: usize = 125;

/// Reads a list or table out of a variable: TOML, or else JSON.
pub(crate) fn structured(text: &str) -> Option<toml::Value> {
    text.parse().ok().or_else(|| serde_json::from_str(text).ok())
}

fn array<'a>(value: &'a toml::Value, expected: &'static str) -> Result<&'a [toml::Value], Reason> {
    value.as_array().map(Vec::as_slice).ok_or(Reason::WrongType { expected, found: kind(value) })
}

/// A list of texts of one shape.
pub(crate) struct TextList(pub(crate) fn(&str) -> Result<(), Reason>);

impl TextList {
    const EXPECTED: &'static str = r#"a list of strings such as ["a", "b"]"#;
}

impl Rule for TextList {
    type Value = Vec<String>;

    fn decode(&self, value: &toml::Value) -> Result<Vec<String>, Reason> {
        array(value, Self::EXPECTED)?.iter().map(|entry| string(entry, Self::EXPECTED).map(str::to_owned)).collect()
    }

    fn parse(&self, text: &str) -> Result<Vec<String>, Reason> {
        let value = structured(text).ok_or_else(|| Reason::Malformed { expected: Self::EXPECTED, found: text.to_owned() })?;
        self.decode(&value)
    }

    fn check(&self, value: &Vec<String>) -> Result<(), Reason> {
        if value.len() > MAX_ENTRIES {
            return Err(Reason::TooMany { count: value.len(), at_most: MAX_ENTRIES });
        }
        value.iter().try_for_each(|entry| (self.0)(entry))
    }

    fn encode(&self, value: &Vec<String>) -> toml::Value {
        value.iter().map(String::as_str).collect::<Vec<&str>>().into()
    }
}

/// Pairs of raw texts: a text frame in, a text frame out.
pub(crate) struct RawPairs;

impl RawPairs {
    const EXPECTED: &'static str = r#"a list of pairs such as [["ping", "pong"]]"#;
}

impl Rule for RawPairs {
    type Value = Vec<(String, String)>;

    fn decode(&self, value: &toml::Value) -> Result<Self::Value, Reason> {
        let wrong = |found| Reason::WrongType { expected: Self::EXPECTED, found };
        array(value, Self::EXPECTED)?
            .iter()
            .map(|pair| match array(pair, Self::EXPECTED)? {
                [toml::Value::String(incoming), toml::Value::String(outgoing)] => Ok((incoming.clone(), outgoing.clone())),
                [_, _] => Err(wrong("a pair of something else")),
                _ => Err(wrong("a list of another length")),
            })
            .collect()
    }

    fn parse(&self, text: &str) -> Result<Self::Value, Reason> {
        let value = structured(text).ok_or_else(|| Reason::Malformed { expected: Self::EXPECTED, found: text.to_owned() })?;
        self.read(Given::Value(&value))
    }

    fn check(&self, value: &Self::Value) -> Result<(), Reason> {
        if value.len() > MAX_RAW_PAIRS {
            return Err(Reason::TooMany { count: value.len(), at_most: MAX_RAW_PAIRS });
        }
        for (i, (incoming, outgoing)) in value.iter().enumerate() {
            for text in [incoming, outgoing] {
                if text.is_empty() {
                    return Err(Reason::Empty);
                }
                if text.len() > MAX_RAW_TEXT {
                    return Err(Reason::TooLong { length: text.len(), at_most: MAX_RAW_TEXT });
                }
            }
            if let Some(first) = value[..i].iter().position(|(earlier, _)| earlier == incoming) {
                return Err(Reason::Taken { value: incoming.clone(), by: format!("pair {}", first + 1) });
            }
        }
        Ok(())
    }

    fn encode(&self, value: &Self::Value) -> toml::Value {
        value.iter().map(|(incoming, outgoing)| vec![incoming.as_str(), outgoing.as_str()]).collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_a_variable_is_toml_or_json() {
        let rule = TextList(|_| Ok(()));
        assert_eq!(rule.read(Given::Text(r#"["a", 'b']"#)), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(rule.read(Given::Text("[]")), Ok(vec![]));
        assert!(rule.read(Given::Text("a,b")).is_err());
        assert!(rule.read(Given::Text("[1]")).is_err());
        assert_eq!(structured(r#"[{"id": "x"}]"#), structured(r#"[{id = "x"}]"#));
    }

    #[test]
    fn raw_pairs_are_two_texts_each_and_answer_a_text_once() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(RawPairs.read(Given::Text(r##"[["~H#C~", "~H#S~"]]"##)), Ok(vec![pair("~H#C~", "~H#S~")]));
        for bad in [r#"["a", "b"]"#, r#"[["a"]]"#, r#"[["a", 1]]"#, r#"[["", "b"]]"#, r#"[["a", "b"], ["a", "c"]]"#, "x"] {
            assert!(RawPairs.read(Given::Text(bad)).is_err(), "{bad}");
        }
        let many: Vec<_> = (0..=MAX_RAW_PAIRS).map(|i| pair(&i.to_string(), "x")).collect();
        assert_eq!(RawPairs.check(&many), Err(Reason::TooMany { count: 17, at_most: 16 }));
        assert!(RawPairs.check(&vec![pair(&"x".repeat(126), "x")]).is_err());
    }
}
