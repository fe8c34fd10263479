//! Why a configuration is refused. Each text names the place, the key and the reason; none contains a secret.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

use super::origin::Origin;
use crate::{
    domain::{HoldRuleError, TemplateError},
    protocol::PatternError,
};

/// Where a refused value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, variable or flag.
    pub origin: Origin,
    /// The line of the file, counted from one, when it is known.
    pub line: Option<usize>,
}

impl Place {
    pub(super) fn of(origin: &Origin) -> Self {
        Self { origin: origin.clone(), line: None }
    }

    pub(super) fn variable(name: &str) -> Self {
        Self::of(&Origin::Variable(name.to_owned()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.origin),
            None => self.origin.fmt(f),
        }
    }
}

/// Why a value does not do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// A TOML value of another kind.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What the key takes.
        expected: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A text that cannot be read as what the key takes.
    #[error("expected {expected}, found {found:?}")]
    Malformed {
        /// What the key takes.
        expected: &'static str,
        /// The text.
        found: String,
    },
    /// A text that cannot be read, and may hold a secret.
    #[error("expected {expected}")]
    Unreadable {
        /// What the key takes.
        expected: &'static str,
    },
    /// A number, time or size outside its limits.
    #[error("{found} is out of range: at least {at_least}, at most {at_most}{or}")]
    OutOfRange {
        /// The value.
        found: String,
        /// The lower limit, which is allowed.
        at_least: String,
        /// The upper limit, which is allowed.
        at_most: String,
        /// A value outside of the range that is allowed too, such as `, or 0s`.
        or: &'static str,
    },
    /// A word that is not in the list.
    #[error("expected one of {allowed}, found {found:?}")]
    NotOneOf {
        /// The words.
        allowed: String,
        /// What was there.
        found: String,
    },
    /// A time that the protocol can only carry in whole seconds.
    #[error("{found} is not a whole number of seconds")]
    NotWholeSeconds {
        /// The time.
        found: String,
    },
    /// A text of no characters where one is needed.
    #[error("must not be empty")]
    Empty,
    /// A text that is too long.
    #[error("has {length} bytes, at most {at_most} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest that is allowed.
        at_most: usize,
    },
    /// A secret that could be guessed.
    #[error("has {length} bytes, at least {at_least} are needed")]
    TooShort {
        /// Its length in bytes.
        length: usize,
        /// The shortest that is allowed.
        at_least: usize,
    },
    /// A list with too many entries.
    #[error("has {count} entries, at most {at_most} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        at_most: usize,
    },
    /// A character that this text may not contain.
    #[error("must not contain {character:?}: {allowed}")]
    ForbiddenCharacter {
        /// The first one found.
        character: char,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// A value that another entry has already.
    #[error("{value:?} is already taken by {by}")]
    Taken {
        /// The value.
        value: String,
        /// The key that has it.
        by: String,
    },
    /// A key without a default that was not given.
    #[error("is required")]
    Required,
    /// A key without a default in this case.
    #[error("is required for {whose}")]
    RequiredFor {
        /// The case: `kind = "http"`.
        whose: String,
    },
    /// A key that means nothing in this case.
    #[error("means nothing for {whose}; remove it")]
    ForeignTo {
        /// The case: `kind = "http"`.
        whose: String,
    },
    /// A value that another one limits.
    #[error("{found} is more than {at_most}, {of}")]
    MoreThan {
        /// The value.
        found: String,
        /// The limit, which is allowed.
        at_most: String,
        /// What makes the limit.
        of: &'static str,
    },
    /// A URL, or a word in its place, that names nothing we have.
    #[error("expected {allowed}, found {found}")]
    UnknownUrl {
        /// What is allowed, in words.
        allowed: &'static str,
        /// Its scheme. Not the whole: it may hold a password.
        found: String,
    },
    /// A part that the configured store does not have.
    #[error("needs {what}, and store.url is {found}")]
    NeedsStore {
        /// What is missing.
        what: &'static str,
        /// The store, without its password.
        found: String,
    },
    /// A part that this program was built without.
    #[error("this program was built without it: it needs {what}")]
    NotBuilt {
        /// What is missing.
        what: &'static str,
    },
    /// No channel pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// No template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A rule that cannot work.
    #[error(transparent)]
    HoldRule(#[from] HoldRuleError),
    /// Two rules for one channel.
    #[error("matches {channel}, as {other} of this application does, and a channel has one rule")]
    Overlaps {
        /// The other rule.
        other: String,
        /// A channel of both.
        channel: String,
    },
    /// An id that no application has.
    #[error("no application has the id {id:?}")]
    UnknownApp {
        /// The id.
        id: String,
    },
    /// An entry of a table that breaks its rule.
    #[error("{name}: {reason}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: Box<Reason>,
    },
}

/// A key whose value breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}: {reason}")]
pub struct Violation {
    /// The dotted key.
    pub key: String,
    /// What is wrong.
    pub reason: Reason,
}

impl Violation {
    pub(super) fn at(key: &str, reason: Reason) -> Self {
        Self { key: key.to_owned(), reason }
    }

    /// The same, seen from what is around the section.
    pub(super) fn below(self, section: &str) -> Self {
        Self { key: format!("{section}.{}", self.key), ..self }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// Counted from one, in characters.
        column: usize,
        /// What the parser says. Without the line itself: it may hold a secret.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key {key:?}{}", suggestion(nearest))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The dotted key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// A `HOLDLINE_` variable that means nothing.
    #[error("unknown environment variable {name}{}", suggestion(nearest))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable that was probably meant.
        nearest: Option<String>,
    },
    /// A variable whose value is not Unicode.
    #[error("{name}: the value is not valid UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// A value that breaks the rule of its key.
    #[error("{place}: {violation}")]
    Invalid {
        /// Where it stands.
        place: Place,
        /// The key and the reason.
        violation: Box<Violation>,
    },
    /// One part of the default application's identity was given in the environment, another was not.
    #[error("{given} names the application, but {missing} is not set: id, key and secret are needed together")]
    IncompleteIdentity {
        /// A variable that was given.
        given: String,
        /// The variable that is missing.
        missing: String,
    },
    /// A variable that describes the one default application beside a configuration that names its own.
    #[error("{name}: describes the one default application, but {named_by} names the applications; remove one of the two")]
    AppsNamedElsewhere {
        /// The variable.
        name: String,
        /// The file or variable with the applications.
        named_by: Origin,
    },
    /// A setting for a part that does not exist yet.
    #[error("{place}: {key}: fan-out between nodes over a bus such as Redis or NATS is not built yet; remove this setting")]
    NotBuilt {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
    },
}

impl ConfigError {
    pub(super) fn invalid(place: Place, key: impl Into<String>, reason: Reason) -> Self {
        Self::Invalid { place, violation: Box::new(Violation { key: key.into(), reason }) }
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|key| format!("; did you mean {key:?}?")).unwrap_or_default()
}
