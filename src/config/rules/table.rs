//! Tables of texts: `{ team = "{token.team}" }`.

use super::{Rule, kind, list::structured, string, text};
use crate::config::{
    error::Reason,
    secret::{REDACTED, Secret},
};

/// Most entries in a table.
const MAX_ENTRIES: usize = 100;
/// Longest name of an entry, in bytes.
const MAX_NAME: usize = 200;
/// Longest value of a header, in bytes.
const MAX_HEADER: usize = 4_096;
const EXPECTED: &str = r#"a table of strings such as { a = "b" }"#;

fn table<T>(value: &toml::Value, read: impl Fn(&str) -> T) -> Result<Vec<(String, T)>, Reason> {
    let table = value.as_table().ok_or(Reason::WrongType { expected: EXPECTED, found: kind(value) })?;
    table.iter().map(|(name, value)| Ok((name.clone(), read(string(value, EXPECTED)?)))).collect()
}

fn parsed(text: &str) -> Result<toml::Value, Reason> {
    // Not echoed: it may hold secrets.
    structured(text).ok_or(Reason::Unreadable { expected: EXPECTED })
}

fn check<T>(entries: &[(String, T)], of: impl Fn(&str, &T) -> Result<(), Reason>) -> Result<(), Reason> {
    if entries.len() > MAX_ENTRIES {
        return Err(Reason::TooMany { count: entries.len(), at_most: MAX_ENTRIES });
    }
    entries.iter().try_for_each(|(name, value)| {
        let checked = text::not_empty(name).and_then(|()| text::at_most(name, MAX_NAME)).and_then(|()| of(name, value));
        checked.map_err(|reason| Reason::Entry { name: name.clone(), reason: Box::new(reason) })
    })
}

fn encoded<'a>(entries: impl Iterator<Item = (&'a String, &'a str)>) -> toml::Value {
    toml::Value::Table(entries.map(|(name, value)| (name.clone(), value.into())).collect())
}

/// A table of texts of one shape.
pub(crate) struct TextMap(pub(crate) fn(&str) -> Result<(), Reason>);

impl Rule for TextMap {
    type Value = Vec<(String, String)>;

    fn decode(&self, value: &toml::Value) -> Result<Self::Value, Reason> {
        table(value, str::to_owned)
    }

    fn parse(&self, text: &str) -> Result<Self::Value, Reason> {
        self.decode(&parsed(text)?)
    }

    fn check(&self, value: &Self::Value) -> Result<(), Reason> {
        check(value, |name, value| {
            text::only(name, |c| !c.is_control(), text::PRINTABLE)?;
            (self.0)(value)
        })
    }

    fn encode(&self, value: &Self::Value) -> toml::Value {
        encoded(value.iter().map(|(name, value)| (name, value.as_str())))
    }
}

/// Headers of requests that we send. Their values may be credentials: no reason of this rule contains one.
pub(crate) struct HeaderMap;

/// Headers that say what is sent; they are set by whoever sends it.
const OURS: [&str; 8] =
    ["host", "connection", "content-length", "content-type", "transfer-encoding", "upgrade", "x-pusher-key", "x-pusher-signature"];
/// Those that begin so are ours, too.
const OUR_PREFIX: &str = "x-holdline-";

impl Rule for HeaderMap {
    type Value = Vec<(String, Secret)>;

    fn decode(&self, value: &toml::Value) -> Result<Self::Value, Reason> {
        table(value, |text| Secret::new(text))
    }

    fn parse(&self, text: &str) -> Result<Self::Value, Reason> {
        self.decode(&parsed(text)?)
    }

    fn check(&self, value: &Self::Value) -> Result<(), Reason> {
        check(value, |name, header| {
            text::only(name, |c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c), "the characters of a header's name only")?;
            let lower = name.to_ascii_lowercase();
            if OURS.contains(&lower.as_str()) || lower.starts_with(OUR_PREFIX) {
                return Err(Reason::ForeignTo { whose: "the headers of a delivery, which sets it itself".to_owned() });
            }
            let header = header.expose();
            text::at_most(header, MAX_HEADER)?;
            if header == REDACTED {
                return Err(Reason::Unreadable { expected: "the value itself, not its redacted form" });
            }
            text::only(header, |c| c == ' ' || c.is_ascii_graphic(), "printable ASCII only")
        })?;
        for (i, (name, _)) in value.iter().enumerate() {
            if let Some((first, _)) = value[..i].iter().find(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                return Err(Reason::Taken { value: name.clone(), by: first.clone() });
            }
        }
        Ok(())
    }

    fn encode(&self, value: &Self::Value) -> toml::Value {
        encoded(value.iter().map(|(name, _)| (name, REDACTED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::{Given, context_field};

    fn headers(text: &str) -> Result<Vec<(String, Secret)>, String> {
        HeaderMap.read(Given::Text(text)).map_err(|reason| reason.to_string())
    }

    #[test]
    fn a_table_keeps_its_order_and_its_shape() {
        let rule = TextMap(context_field);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let read = rule.read(Given::Text(r#"{ team = "{token.team}", a = "b" }"#));
        assert_eq!(read, Ok(vec![pair("team", "{token.team}"), pair("a", "b")]));
        assert_eq!(rule.decode(&rule.encode(read.as_ref().unwrap())), read);
        let refused = |text: &str| rule.read(Given::Text(text)).map_err(|reason| reason.to_string()).expect_err(text);
        assert_eq!(refused(r#"{ team = "{team" }"#), "team: `{team` has an unbalanced brace");
        assert_eq!(refused(r#"{ "" = "x" }"#), ": must not be empty");
        assert_eq!(refused("{ a = 1 }"), r#"expected a table of strings such as { a = "b" }, found a whole number"#);
        assert_eq!(refused("[]"), r#"expected a table of strings such as { a = "b" }, found a list"#);
        assert!(refused(&format!(r#"{{ {} = "x" }}"#, "n".repeat(201))).ends_with("has 201 bytes, at most 200 are allowed"));
        let many: String = (0..=MAX_ENTRIES).map(|i| format!("a{i} = \"x\", ")).collect();
        assert_eq!(refused(&format!("{{ {} }}", many.trim_end_matches(", "))), "has 101 entries, at most 100 are allowed");
    }

    #[test]
    fn a_header_can_be_sent_and_its_value_is_not_shown() {
        let read = headers(r#"{ X-Env = "prod", Authorization = "Bearer s3cret" }"#).unwrap();
        assert_eq!(read[1].1.expose(), "Bearer s3cret");
        assert!(!HeaderMap.encode(&read).to_string().contains("s3cret"));
        for (bad, reason) in [
            (r#"{ "X Env" = "s3cret" }"#, "X Env: must not contain ' '"),
            (r#"{ X-Env = "s3cret\n" }"#, "X-Env: must not contain '\\n'"),
            (r#"{ Content-Type = "s3cret" }"#, "Content-Type: means nothing for the headers of a delivery"),
            (r#"{ x-pusher-signature = "s3cret" }"#, "x-pusher-signature: means nothing"),
            (r#"{ X-Holdline-Event-Id = "s3cret" }"#, "X-Holdline-Event-Id: means nothing"),
            (r#"{ X-A = "s3cret", x-a = "s3cret" }"#, r#""x-a" is already taken by X-A"#),
            (r#"{ X-A = "<redacted>" }"#, "X-A: expected the value itself, not its redacted form"),
            (r#"{ X-A = "s3cret"#, "expected a table"),
        ] {
            let said = headers(bad).expect_err(bad);
            assert!(said.starts_with(reason) && !said.contains("s3cret"), "{said}");
        }
    }
}
