//! Channel names, validated once (protocol.md 2.1).

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::limits::MAX_USER_ID;

/// The prefix of the channel that carries events to one signed-in user (protocol.md 4.2).
pub const USER_CHANNEL_PREFIX: &str = "#server-to-user-";

/// A legal channel name together with what its prefix says about it. Cloning is a reference count.
#[derive(Clone)]
pub struct ChannelName {
    name: Arc<str>,
    kind: ChannelKind,
}

/// Who may subscribe to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Whoever shows a signature of the application.
    Signed,
    /// Whoever shows a signature that also names the member.
    Presence,
    /// Only connections signed in as the user in the name; no signature.
    User,
}

/// What the prefix of a channel name decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelKind {
    /// Who may subscribe.
    pub access: Access,
    /// Whether the last published event is kept for new subscribers.
    pub cache: bool,
    /// Whether payloads are ciphertext that only the clients can read.
    pub encrypted: bool,
}

impl ChannelKind {
    const fn new(access: Access, cache: bool, encrypted: bool) -> Self {
        Self { access, cache, encrypted }
    }

    /// The table of protocol.md 2.1: longest prefix first, all of them anchored, all of them with their dash.
    fn of(name: &str) -> Self {
        const TABLE: [(&str, ChannelKind); 8] = [
            ("private-encrypted-cache-", ChannelKind::new(Access::Signed, true, true)),
            ("private-encrypted-", ChannelKind::new(Access::Signed, false, true)),
            ("private-cache-", ChannelKind::new(Access::Signed, true, false)),
            ("private-", ChannelKind::new(Access::Signed, false, false)),
            ("presence-cache-", ChannelKind::new(Access::Presence, true, false)),
            ("presence-", ChannelKind::new(Access::Presence, false, false)),
            ("cache-", ChannelKind::new(Access::Open, true, false)),
            (USER_CHANNEL_PREFIX, ChannelKind::new(Access::User, false, false)),
        ];
        TABLE.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(Self::new(Access::Open, false, false), |(_, kind)| *kind)
    }

    /// A short name of the kind; there are eight.
    pub fn as_str(self) -> &'static str {
        match (self.access, self.cache, self.encrypted) {
            (Access::Open, false, _) => "public",
            (Access::Open, true, _) => "cache",
            (Access::Signed, false, false) => "private",
            (Access::Signed, true, false) => "private-cache",
            (Access::Signed, false, true) => "private-encrypted",
            (Access::Signed, true, true) => "private-encrypted-cache",
            (Access::Presence, false, _) => "presence",
            (Access::Presence, true, _) => "presence-cache",
            (Access::User, ..) => "user",
        }
    }

    /// Whether a subscriber has to show a signature.
    pub fn needs_signature(self) -> bool {
        matches!(self.access, Access::Signed | Access::Presence)
    }

    /// Whether the channel has members.
    pub fn is_presence(self) -> bool {
        self.access == Access::Presence
    }

    /// Whether clients may send `client-*` events on it (protocol.md 3, condition 3).
    pub fn takes_client_events(self) -> bool {
        self.needs_signature() && !self.encrypted
    }
}

/// Why a text is not a channel name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// Empty, a character outside `A–Z a–z 0–9 _ - = @ , . ;`, or a `#` name other than `#server-to-user-{id}`.
    #[error("Invalid channel name.")]
    Illegal,
    /// Longer than the application allows.
    #[error("The channel name is longer than the allowed {max} characters.")]
    TooLong {
        /// The limit, in bytes (all legal characters are one byte).
        max: usize,
    },
}

/// Whether every byte may stand in a channel name or in a user id that becomes part of one.
pub(crate) fn has_legal_characters(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'=' | b'@' | b',' | b'.' | b';'))
}

impl ChannelName {
    /// Checks a name against the alphabet and the length limit (bytes).
    ///
    /// # Errors
    /// [`ChannelNameError::TooLong`] above `max`, [`ChannelNameError::Illegal`] for everything else that is wrong.
    pub fn parse(name: &str, max: usize) -> Result<Self, ChannelNameError> {
        let kind = ChannelKind::of(name);
        let free_part = match name.strip_prefix(USER_CHANNEL_PREFIX) {
            Some(id) if id.len() > MAX_USER_ID => return Err(ChannelNameError::Illegal),
            Some(id) => id,
            None if name.len() > max => return Err(ChannelNameError::TooLong { max }),
            None => name,
        };
        if free_part.is_empty() || !has_legal_characters(free_part) {
            return Err(ChannelNameError::Illegal);
        }
        Ok(Self { name: name.into(), kind })
    }

    /// The channel that reaches one signed-in user; `None` when the id cannot stand in a channel name.
    pub fn of_user(user_id: &str) -> Option<Self> {
        Self::parse(&format!("{USER_CHANNEL_PREFIX}{user_id}"), usize::MAX).ok()
    }

    /// The name as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What the prefix decides.
    pub fn kind(&self) -> ChannelKind {
        self.kind
    }

    /// The user this channel belongs to, when it is a `#server-to-user-` channel.
    pub fn user_id(&self) -> Option<&str> {
        self.name.strip_prefix(USER_CHANNEL_PREFIX)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelName({})", self.name)
    }
}

// The name decides the kind, so the name alone is compared and hashed: exactly as `str` does it, which `Borrow` asks for.
impl PartialEq for ChannelName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ChannelName {}

impl Hash for ChannelName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl PartialOrd for ChannelName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ChannelName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

/// Lets maps keyed by [`ChannelName`] be searched with a plain text.
impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(name: &str) -> ChannelKind {
        ChannelName::parse(name, 200).unwrap().kind()
    }

    #[test]
    fn every_row_of_the_prefix_table() {
        use Access::{Open, Presence, Signed, User};
        for (name, access, cache, encrypted, client_events) in [
            ("private-encrypted-cache-x", Signed, true, true, false),
            ("private-encrypted-x", Signed, false, true, false),
            ("private-cache-x", Signed, true, false, true),
            ("private-x", Signed, false, false, true),
            ("private-", Signed, false, false, true),
            ("presence-cache-x", Presence, true, false, true),
            ("presence-x", Presence, false, false, true),
            ("presence-", Presence, false, false, true),
            ("cache-x", Open, true, false, false),
            ("news", Open, false, false, false),
            ("privateer", Open, false, false, false),
            ("presenceful", Open, false, false, false),
            ("cached", Open, false, false, false),
            ("my-private-x", Open, false, false, false),
            ("#server-to-user-42", User, false, false, false),
        ] {
            assert_eq!(kind(name), ChannelKind::new(access, cache, encrypted), "{name}");
            assert_eq!(kind(name).takes_client_events(), client_events, "{name}");
        }
    }

    #[test]
    fn illegal_names_are_refused() {
        for name in ["", "a b", "a:b", "ü", "news\n", "#", "#x", "#server-to-user-", "#server-to-user-a:b", "a/b", "a#b", "private-é"] {
            assert_eq!(ChannelName::parse(name, 200), Err(ChannelNameError::Illegal), "{name:?}");
        }
        assert!(ChannelName::parse(&format!("#server-to-user-{}", "x".repeat(129)), 200).is_err());
    }

    #[test]
    fn a_map_of_names_is_searched_with_a_text() {
        let map = std::collections::HashMap::from([(ChannelName::parse("private-x", 200).unwrap(), 1)]);
        assert_eq!(map.get("private-x"), Some(&1));
    }

    #[test]
    fn the_length_limit_is_inclusive() {
        assert!(ChannelName::parse(&"x".repeat(200), 200).is_ok());
        assert_eq!(ChannelName::parse(&"x".repeat(201), 200), Err(ChannelNameError::TooLong { max: 200 }));
    }

    proptest! {
        #[test]
        fn only_the_alphabet_of_the_law_is_accepted(name in "\\PC{0,40}") {
            let legal = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-=@,.;".contains(c));
            prop_assert_eq!(ChannelName::parse(&name, 200).is_ok(), legal);
        }

        #[test]
        fn a_legal_name_survives_unchanged(name in "[A-Za-z0-9_\\-=@,.;]{1,200}") {
            let parsed = ChannelName::parse(&name, 200).unwrap();
            prop_assert_eq!(parsed.as_str(), name.as_str());
        }
    }
}
