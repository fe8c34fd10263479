//! Names of channels, patterns over them, and templates of what is made of them.

use std::{borrow::Cow, convert::Infallible};

use super::engine::Fuzz;
use crate::{
    domain::Template,
    protocol::{Access, ChannelName, ChannelPattern, PatternError},
};

#[test]
fn channel_names_have_their_alphabet_and_length() {
    let seeds = [
        "news",
        "private-foobar",
        "presence-room",
        "private-encrypted-vault",
        "private-cache-stock",
        "presence-cache-x",
        "cache-stock",
        "private-encrypted-cache-x",
        "#server-to-user-42",
        "a_b-c=d@e,f.g;h",
        "Private-x",
        "news\n",
        "#x",
        "private-",
    ];
    let words = ["private-", "presence-", "cache-", "encrypted-", "#server-to-user-", ":", "\n"];
    Fuzz::new("channel_name").seeds(seeds).tokens(&words).run(20_000, |input| {
        let text = String::from_utf8_lossy(input);
        let (user, max) = (text.strip_prefix("#server-to-user-"), 60);
        let part = user.unwrap_or(&text);
        let alphabet = |c: char| c.is_ascii_alphanumeric() || "_-=@,.;".contains(c);
        let legal = !part.is_empty() && part.chars().all(alphabet) && part.len() <= if user.is_some() { 128 } else { max };
        let parsed = ChannelName::parse(&text, max);
        assert_eq!(parsed.is_ok(), legal, "{text:?}");
        let Ok(name) = parsed else { return "illegal".to_owned() };
        assert_eq!(name.as_str(), text);
        assert_eq!(name.user_id(), user);
        let kind = name.kind();
        assert_eq!(kind.is_presence(), text.starts_with("presence-"));
        assert_eq!(kind.needs_signature(), text.starts_with("presence-") || text.starts_with("private-"));
        assert_eq!(kind.access == Access::User, user.is_some());
        format!("{kind:?}")
    });
}

/// Whether the rest of a pattern matches the rest of a name: all ways at once, one column for each step.
fn matches(pattern: &str, name: &[char]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let mut next = vec![false; name.len() + 1];
        match c {
            '*' => {
                let first = reached.iter().position(|is| *is).unwrap_or(usize::MAX);
                next.iter_mut().skip(first).for_each(|is| *is = true);
            }
            '{' => {
                assert!(rest.any(|c| c == '}'));
                for from in (0..name.len()).filter(|from| reached[*from]) {
                    let length = name[from..].iter().take_while(|c| **c != '.').count();
                    next[from + 1..=from + length].iter_mut().for_each(|is| *is = true);
                }
            }
            c => (0..name.len()).filter(|at| reached[*at] && name[*at] == c).for_each(|at| next[at + 1] = true),
        }
        reached = next;
    }
    reached[name.len()]
}

/// The names in braces; `None` if it is no pattern.
fn names_in_braces(pattern: &str) -> Option<Vec<&str>> {
    let mut names: Vec<&str> = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let (name, after) = rest[at..].strip_prefix('{')?.split_once('}')?;
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let fine = starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !names.contains(&name);
        names.extend(fine.then_some(name));
        if !fine {
            return None;
        }
        rest = after;
    }
    Some(names)
}

#[test]
fn patterns_match_what_they_say() {
    let seeds = [
        "private-order.{order_id}\nprivate-*\nprivate-order.42",
        "presence-{room}.{seat}\npresence-a.*\npresence-a.b",
        "*\n{x}\nabc",
        "client-order.*\n*.order.*\nclient-order.x.order.y",
        "a{b}c{d}e*f\n*ace\nabcade",
        "a.b(c)[d]+?^$|\\\n*\na.b(c)[d]+?^$|\\",
        "{a}{b}\n{c}\n12",
        "****\n***a***\na",
    ];
    let words = ["{", "}", "*", "{x}", "{_1}", "{é}", ".", "(?<x>", "\\d", "[^.]+", "$", "\n", "(a*)*"];
    Fuzz::new("pattern").seeds(seeds).tokens(&words).run(12_000, |input| {
        let text = String::from_utf8_lossy(&input[..input.len().min(600)]).into_owned();
        let mut lines = text.splitn(3, '\n');
        let [one, other, name] = std::array::from_fn(|_| lines.next().unwrap_or_default());
        let parse = |text: &str| {
            let parsed = ChannelPattern::parse(text);
            let model = names_in_braces(text).filter(|_| !text.is_empty() && text.len() <= 200);
            assert_eq!(parsed.is_ok(), model.is_some(), "{text:?}");
            parsed
        };
        let (one_pattern, other_pattern) = match (parse(one), parse(other)) {
            (Ok(one), Ok(other)) => (one, other),
            (Err(error), _) | (_, Err(error)) => {
                return match error {
                    PatternError::BadCapture { .. } => "bad capture".to_owned(),
                    PatternError::Unbalanced(_) => "unbalanced".to_owned(),
                    other => format!("{other:?}"),
                };
            }
        };
        let characters: Vec<char> = name.chars().collect();
        let both = [(one, &one_pattern), (other, &other_pattern)].map(|(text, pattern)| {
            assert_eq!(pattern.matches(name), matches(text, &characters), "{text:?} {name:?}");
            let captures = pattern.captures(name);
            assert_eq!(captures.is_some(), pattern.matches(name));
            if let Some(captures) = captures {
                let filled = captures.iter().fold(text.to_owned(), |text, (key, value)| {
                    assert!(!value.is_empty() && !value.contains('.'), "{value:?}");
                    // A star in a value is a character.
                    text.replace(&format!("{{{key}}}"), if value.contains(['*', '{', '}']) { "*" } else { value })
                });
                assert!(matches(&filled, &characters), "{text:?} with its captures is {filled:?}, not {name:?}");
            }
            pattern.matches(name)
        });
        let common = one_pattern.common_name(&other_pattern);
        assert_eq!(common.is_some(), other_pattern.overlaps(&one_pattern), "whoever is asked");
        if let Some(common) = &common {
            assert!(one_pattern.matches(common) && other_pattern.matches(common), "{common:?} is in both");
        }
        if both == [true, true] {
            let shortest = common.as_ref().map(|common| common.chars().count());
            assert!(shortest.is_some_and(|shortest| shortest <= characters.len()), "{common:?} is a shortest of both, {name:?} another");
        }
        format!("{both:?} {}", common.is_some())
    });
}

#[test]
fn templates_are_filled_where_they_say() {
    let seeds =
        ["order:{order_id}", "orders-{token.team}", "{a}{b}", "{query.x y}", "x", "", "{channel_data.user.name}", "{signin.é}", "a}b{c"];
    let words = ["{", "}", "{{", "{token.", "{signin.", "{channel_data.", "{query.", "{header.", "{cookie.", "{other.x}", "."];
    Fuzz::new("template").seeds(seeds).tokens(&words).run(20_000, |input| {
        let text = String::from_utf8_lossy(input);
        let template = match Template::parse(&text) {
            Ok(template) => template,
            Err(error) => return format!("{error:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        };
        assert_eq!(template.as_str(), text);
        let itself = template.fill(|placeholder| Ok::<_, Infallible>(Cow::Owned(placeholder.to_string())));
        assert_eq!(itself.as_deref(), Ok(&*text), "every placeholder in its place");
        let count = template.placeholders().count();
        assert_eq!(count, text.matches('{').count(), "a brace is a placeholder's");
        let braces = template.fill(|_| Ok::<_, Infallible>(Cow::Borrowed("{x}"))).unwrap_or_default();
        assert_eq!(braces.matches("{x}").count(), count, "what is filled in is not read again");
        format!("{}", count.min(4))
    });
}
