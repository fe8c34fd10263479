//! Patterns over channel and event names: `private-order.{id}`, `client-order.*`.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use regex_lite::Regex;

use super::channel_name::has_legal_characters;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 200;

/// A pattern in which `{name}` captures one or more characters except `.`, and `*` matches any run of characters.
///
/// Everything else stands for itself, and the whole name has to match.
#[derive(Clone)]
pub struct ChannelPattern {
    text: Arc<str>,
    steps: Arc<[Step]>,
    captures: Arc<[Box<str>]>,
    regex: Regex,
}

/// One step of matching, for questions about two patterns at once; the matching itself is the regular expression's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// This character.
    Literal(char),
    /// One character that is no dot.
    One,
    /// Any number of characters that are no dots.
    Run,
    /// Any number of characters.
    Any,
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
        // `s`: a star takes line ends too, which an event name may have.
        let mut regex = String::from("(?s)^");
        let (mut steps, mut captures) = (Vec::new(), Vec::<Box<str>>::new());
        let mut rest = pattern;
        while let Some(at) = rest.find(['{', '}', '*']) {
            regex.push_str(&regex_lite::escape(&rest[..at]));
            steps.extend(rest[..at].chars().map(Step::Literal));
            rest = match rest.as_bytes()[at] {
                b'*' => {
                    regex.push_str(".*");
                    steps.push(Step::Any);
                    &rest[at + 1..]
                }
                b'{' => {
                    let (name, after) = rest[at + 1..].split_once('}').ok_or_else(unbalanced)?;
                    if !is_identifier(name) || captures.iter().any(|earlier| **earlier == *name) {
                        return Err(PatternError::BadCapture { pattern: pattern.to_owned(), capture: name.to_owned() });
                    }
                    captures.push(name.into());
                    regex.push_str(&format!("(?<{name}>[^.]+)"));
                    steps.extend([Step::One, Step::Run]);
                    after
                }
                _ => return Err(unbalanced()),
            };
        }
        regex.push_str(&regex_lite::escape(rest));
        regex.push('$');
        steps.extend(rest.chars().map(Step::Literal));
        // At most 200 bytes of escaped text, `.*` and named groups: nothing here can be rejected, but a refusal is an error, not a panic.
        let regex = Regex::new(&regex).map_err(|_| unbalanced())?;
        Ok(Self { text: pattern.into(), steps: steps.into(), captures: captures.into(), regex })
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

    /// The names in braces, from left to right.
    pub fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.captures.iter().map(|name| &**name)
    }

    /// Whether some name matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.common_name(other).is_some()
    }

    /// A shortest name that matches both patterns; `None` when there is none. Names of any length count.
    ///
    /// Both patterns are walked at once, over the pairs of places in them: at most 400 by 400.
    pub fn common_name(&self, other: &Self) -> Option<String> {
        let end = (self.steps.len(), other.steps.len());
        let mut ways: HashMap<Place, Option<Arrival>> = HashMap::new();
        let mut queue = VecDeque::from([((0, 0), None)]);
        while let Some((place, arrival)) = queue.pop_front() {
            if ways.contains_key(&place) {
                continue;
            }
            ways.insert(place, arrival);
            if place == end {
                return Some(spelled(place, &ways));
            }
            let (left, right) = (self.steps.get(place.0), other.steps.get(place.1));
            // Passing over a repetition makes the name no longer: those places come first.
            for (step, next) in [(left, (place.0 + 1, place.1)), (right, (place.0, place.1 + 1))] {
                if step.is_some_and(|step| step.repeats()) {
                    queue.push_front((next, Some((place, None))));
                }
            }
            if let Some((left, right)) = left.zip(right)
                && let Some(character) = left.common(*right)
            {
                let next = (place.0 + usize::from(!left.repeats()), place.1 + usize::from(!right.repeats()));
                queue.push_back((next, Some((place, Some(character)))));
            }
        }
        None
    }

    /// The first character outside of braces that no channel name can have.
    pub(crate) fn illegal_character(&self) -> Option<char> {
        let mut literals = self.steps.iter().filter_map(|step| if let Step::Literal(c) = step { Some(*c) } else { None });
        literals.find(|c| !has_legal_characters(c.encode_utf8(&mut [0; 4])))
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What every matching name begins with.
    pub(crate) fn prefix(&self) -> &str {
        self.text.split(['{', '*']).next().unwrap_or_default()
    }
}

impl Step {
    fn repeats(self) -> bool {
        matches!(self, Self::Run | Self::Any)
    }

    /// A character that both steps take.
    fn common(self, other: Self) -> Option<char> {
        match (self, other) {
            (Self::Literal(a), Self::Literal(b)) => (a == b).then_some(a),
            (Self::Literal(c), Self::Any) | (Self::Any, Self::Literal(c)) => Some(c),
            (Self::Literal(c), _) | (_, Self::Literal(c)) => (c != '.').then_some(c),
            _ => Some('1'),
        }
    }
}

/// A place in each of two patterns.
type Place = (usize, usize);
/// Where a place was reached from, and by which character.
type Arrival = (Place, Option<char>);

/// The characters on the way from the beginning to a place.
fn spelled(mut place: Place, ways: &HashMap<Place, Option<Arrival>>) -> String {
    let mut backwards: Vec<char> = Vec::new();
    while let Some(Some((before, character))) = ways.get(&place) {
        backwards.extend(character);
        place = *before;
    }
    backwards.into_iter().rev().collect()
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

impl Eq for ChannelPattern {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn a_star_takes_line_ends_too() {
        assert!(pattern("client-*").matches("client-a\nb"));
    }

    #[test]
    fn two_patterns_overlap_when_some_name_matches_both() {
        let common = |a: &str, b: &str| pattern(a).common_name(&pattern(b));
        for (a, b, name) in [
            ("private-order.{id}", "private-{kind}.7", "private-order.7"),
            ("private-order.{id}", "private-order.{other}", "private-order.1"),
            ("private-*", "*.42", "private-.42"),
            ("private-{x}", "private-encrypted-*", "private-encrypted-"),
            ("presence-{a}.{b}", "*", "presence-1.1"),
            ("a*b", "a{x}b", "a1b"),
            ("{a}{b}", "*", "11"),
        ] {
            assert_eq!(common(a, b).as_deref(), Some(name), "{a} and {b}");
        }
        for (a, b) in [
            ("private-order.{id}", "private-orders.{id}"),
            ("private-order.{id}", "private-order.{id}.{line}"),
            ("private-order.{id}", "presence-order.{id}"),
            ("private-order.{id}", "private-order."),
            ("{a}{b}", "x"),
            ("*.a", "{x}"),
            ("private-encrypted-*", "private-order.{id}"),
        ] {
            assert_eq!(common(a, b), None, "{a} and {b}");
        }
    }

    #[test]
    fn the_largest_patterns_are_compared_at_once() {
        let stars = pattern(&"a*".repeat(100));
        let captures = pattern("{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{n}{o}{p}{q}{r}{s}{t}");
        assert!(stars.overlaps(&stars) && stars.overlaps(&captures));
        let alternating = pattern(&"*ab".repeat(66));
        assert_eq!(stars.common_name(&alternating).map(|name| stars.matches(&name) && alternating.matches(&name)), Some(true));
        assert!(!pattern(&format!("{}b", "a*".repeat(99))).overlaps(&pattern(&format!("{}a", "*b".repeat(99)))));
    }

    #[test]
    fn what_a_pattern_says_about_every_name() {
        assert_eq!(pattern("private-order.{id}").prefix(), "private-order.");
        assert_eq!(pattern("*x").prefix(), "");
        assert_eq!(pattern("{shop}.{id}").capture_names().collect::<Vec<_>>(), ["shop", "id"]);
        assert_eq!(pattern("private-order:{id}").illegal_character(), Some(':'));
        assert_eq!(pattern("private-order.{id}").illegal_character(), None);
    }

    /// Patterns over an alphabet so small that their names can be listed.
    fn small() -> impl Strategy<Value = String> {
        let piece = prop_oneof![Just("a"), Just("b"), Just("."), Just("*"), Just("{}")];
        proptest::collection::vec(piece, 1..4).prop_map(|pieces| {
            let named = pieces.iter().enumerate().map(|(i, piece)| piece.replace("{}", &format!("{{c{i}}}")));
            named.collect()
        })
    }

    /// Every text over a, b and dot, up to this length.
    fn texts(length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let to = all.len();
            for i in from..to {
                all.extend(["a", "b", "."].map(|c| format!("{}{c}", all[i])));
            }
            from = to;
        }
        all
    }

    proptest! {
        #[test]
        fn patterns_overlap_exactly_when_a_name_of_both_can_be_listed(a in small(), b in small()) {
            let (a, b) = (pattern(&a), pattern(&b));
            // A shortest common name of three pieces each has at most six characters, of which all but the literals may be any.
            let listed = texts(6).into_iter().find(|name| a.matches(name) && b.matches(name));
            let common = a.common_name(&b);
            prop_assert_eq!(common.is_some(), listed.is_some(), "{:?} and {:?}: {:?}, {:?}", a, b, common, listed);
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            if let (Some(common), Some(listed)) = (common, listed) {
                prop_assert!(a.matches(&common) && b.matches(&common), "{:?} of {:?} and {:?}", common, a, b);
                prop_assert_eq!(common.len(), listed.len());
            }
        }

        #[test]
        fn a_name_made_from_one_pattern_that_matches_another_shows_that_they_overlap(
            (text, other) in ("private-[a-c]{0,2}", "[a-c.*]{0,4}", "(private-)?[a-c.*]{1,5}").prop_map(|(a, b, c)| (a + &b + "{x}", c + "{y}")),
            captured in "[a-c]{1,3}",
            run in "[a-c.]{0,3}",
        ) {
            let (made, other) = (pattern(&text), pattern(&other));
            let name = text.replace("{x}", &captured).replace('*', &run);
            prop_assert!(made.matches(&name));
            prop_assert_eq!(made.captures(&name).unwrap().len(), 1);
            prop_assert!(made.overlaps(&made));
            if other.matches(&name) {
                prop_assert!(made.overlaps(&other), "{} and {} share {}", made.as_str(), other.as_str(), name);
            }
        }
    }
}
