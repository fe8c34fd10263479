//! Patterns over channel and event names: `private-order.{id}`, `client-order.*`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use regex_lite::Regex;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 200;

/// A pattern in which `{name}` captures one or more characters except `.`, and `*` matches any run of characters.
///
/// Everything else stands for itself, and the whole name has to match.
#[derive(Clone)]
pub struct ChannelPattern {
    text: Arc<str>,
    regex: Regex,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing at all.
    #[error("a channel pattern is empty")]
    Empty,
    /// Longer than 200 bytes.
    #[error("the channel pattern is longer than {MAX_PATTERN} bytes")]
    TooLong,
    /// A `{` without its `}`, or a `}` without its `{`.
    #[error("the channel pattern `{0}` has an unbalanced brace")]
    Unbalanced(String),
    /// The name in braces is not an identifier, or stands there twice.
    #[error(
        "the channel pattern `{pattern}` has the capture `{{{capture}}}`: a capture is a name of letters, digits and `_` that occurs once"
    )]
    BadCapture {
        /// The whole pattern.
        pattern: String,
        /// What stood between the braces.
        capture: String,
    },
}

impl ChannelPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong with it.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        if pattern.len() > MAX_PATTERN {
            return Err(PatternError::TooLong);
        }
        let unbalanced = || PatternError::Unbalanced(pattern.to_owned());
        let mut regex = String::from("^");
        let mut captures = Vec::new();
        let mut rest = pattern;
        while let Some(at) = rest.find(['{', '}', '*']) {
            regex.push_str(&regex_lite::escape(&rest[..at]));
            rest = match rest.as_bytes()[at] {
                b'*' => {
                    regex.push_str(".*");
                    &rest[at + 1..]
                }
                b'{' => {
                    let (name, after) = rest[at + 1..].split_once('}').ok_or_else(unbalanced)?;
                    if !is_identifier(name) || captures.contains(&name) {
                        return Err(PatternError::BadCapture { pattern: pattern.to_owned(), capture: name.to_owned() });
                    }
                    captures.push(name);
                    regex.push_str(&format!("(?<{name}>[^.]+)"));
                    after
                }
                _ => return Err(unbalanced()),
            };
        }
        regex.push_str(&regex_lite::escape(rest));
        regex.push('$');
        // At most 200 bytes of escaped text, `.*` and named groups: nothing here can be rejected, but a refusal is an error, not a panic.
        let regex = Regex::new(&regex).map_err(|_| unbalanced())?;
        Ok(Self { text: pattern.into(), regex })
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    /// What the `{captures}` stand for in this name; `None` when it does not match.
    pub fn captures(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let found = self.regex.captures(name)?;
        let named = self.regex.capture_names().flatten();
        Some(named.filter_map(|key| Some((key.to_owned(), found.name(key)?.as_str().to_owned()))).collect())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl fmt::Debug for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelPattern({})", self.text)
    }
}

impl PartialEq for ChannelPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).unwrap()
    }

    #[test]
    fn a_capture_takes_everything_but_a_dot() {
        let order = pattern("private-order.{id}");
        assert_eq!(order.captures("private-order.42").unwrap()["id"], "42");
        assert!(!order.matches("private-order."));
        assert!(!order.matches("private-order.42.7"));
        assert!(!order.matches("my-private-order.42"));
        let two = pattern("presence-{shop}.order.{id}");
        let found = two.captures("presence-acme.order.9").unwrap();
        assert_eq!((found["shop"].as_str(), found["id"].as_str()), ("acme", "9"));
    }

    #[test]
    fn a_star_takes_any_run() {
        assert!(pattern("private-order.*").matches("private-order.1.2"));
        assert!(pattern("*").matches("news"));
        assert!(!pattern("client-order.*").matches("client-orders"));
    }

    #[test]
    fn punctuation_is_literal() {
        assert!(!pattern("a.b").matches("axb"));
        assert!(pattern("a=b;c,d@e").matches("a=b;c,d@e"));
    }

    #[test]
    fn bad_patterns_say_why() {
        assert_eq!(ChannelPattern::parse(""), Err(PatternError::Empty));
        assert_eq!(ChannelPattern::parse(&"x".repeat(201)), Err(PatternError::TooLong));
        assert!(matches!(ChannelPattern::parse("a{id"), Err(PatternError::Unbalanced(_))));
        assert!(matches!(ChannelPattern::parse("a}"), Err(PatternError::Unbalanced(_))));
        assert!(matches!(ChannelPattern::parse("{}"), Err(PatternError::BadCapture { .. })));
        assert!(matches!(ChannelPattern::parse("{a}.{a}"), Err(PatternError::BadCapture { .. })));
        assert!(matches!(ChannelPattern::parse("{4}"), Err(PatternError::BadCapture { .. })));
    }
}
