//! Who a client says it is: presence members and signed-in users (protocol.md 2.4, 4.1).
//!
//! Both texts are signed by the application; they are read only after the signature was verified.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{channel_name::has_legal_characters, json};

/// A member of a presence channel. The id is a text on the inside whatever came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The application's id for the user.
    pub user_id: Arc<str>,
    /// The JSON text the application signed, untouched; `None` when absent or `null`.
    pub user_info: Option<Arc<str>>,
}

/// The user a connection has signed in as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUser {
    /// The application's id for the user; legal in a channel name.
    pub id: Arc<str>,
    /// The JSON text the application signed, untouched; `None` when absent or `null`.
    pub user_info: Option<Arc<str>>,
    /// The users whose comings and goings this connection wants to hear of; `None` without the key.
    pub watchlist: Option<Vec<Arc<str>>>,
    /// All of what the application signed, untouched.
    pub user_data: Arc<str>,
}

/// The limits a member or a user is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberLimits {
    /// Longest user id, in characters.
    pub max_user_id: usize,
    /// Largest `user_info`, in bytes of its JSON text.
    pub max_user_info_bytes: usize,
}

/// Why a signed text does not name anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Not a JSON object, no id, or an id of a wrong kind.
    #[error("Invalid channel_data.")]
    Invalid,
    /// The id or the info is above its limit.
    #[error("The maximum size for a channel member is {max} bytes.")]
    TooLarge {
        /// The limit that was crossed: bytes of `user_info`, or characters of the id.
        max: usize,
    },
}

#[derive(Deserialize)]
struct ChannelData<'a> {
    #[serde(borrow)]
    user_id: &'a RawValue,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct UserData<'a> {
    id: String,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
    watchlist: Option<Vec<String>>,
}

impl MemberLimits {
    fn check_id(self, id: &str) -> Result<(), MemberError> {
        if id.chars().count() > self.max_user_id { Err(MemberError::TooLarge { max: self.max_user_id }) } else { Ok(()) }
    }

    fn check_info(self, info: Option<&str>) -> Result<(), MemberError> {
        let too_large = info.is_some_and(|info| info.len() > self.max_user_info_bytes);
        if too_large { Err(MemberError::TooLarge { max: self.max_user_info_bytes }) } else { Ok(()) }
    }
}

impl Member {
    /// Reads `channel_data`. A numeric `user_id` becomes the text of its JSON token.
    ///
    /// # Errors
    /// [`MemberError::Invalid`] when it is not an object with a non-empty `user_id`, [`MemberError::TooLarge`] above a limit.
    pub fn parse(channel_data: &str, limits: MemberLimits) -> Result<Self, MemberError> {
        if !json::is_object(channel_data) {
            return Err(MemberError::Invalid);
        }
        let data: ChannelData<'_> = serde_json::from_str(channel_data).map_err(|_| MemberError::Invalid)?;
        let token = data.user_id.get();
        let id = match token.as_bytes().first() {
            Some(b'"') => json::text(data.user_id).ok_or(MemberError::Invalid)?,
            Some(b'-' | b'0'..=b'9') => token.into(),
            _ => return Err(MemberError::Invalid),
        };
        if id.is_empty() {
            return Err(MemberError::Invalid);
        }
        limits.check_id(&id)?;
        let user_info = data.user_info.map(RawValue::get);
        limits.check_info(user_info)?;
        Ok(Self { user_id: Arc::from(id), user_info: user_info.map(Arc::from) })
    }

    /// The member that a signed-in connection is when it subscribes without `channel_data` (protocol.md 2.4).
    ///
    /// # Errors
    /// [`MemberError::TooLarge`] when the user's info is above the limit of a member's.
    pub fn of_user(user: &SignedUser, limits: MemberLimits) -> Result<Self, MemberError> {
        limits.check_info(user.user_info.as_deref())?;
        Ok(Self { user_id: Arc::clone(&user.id), user_info: user.user_info.clone() })
    }
}

impl SignedUser {
    /// Reads `user_data`. The watchlist is not cut here: the caller knows the limit and what to answer. The size of `user_info` is
    /// a limit of presence channels, checked when the user joins one.
    ///
    /// # Errors
    /// [`MemberError`] as for a member; an `id` that is not a text, or cannot stand in a channel name, is [`MemberError::Invalid`].
    pub fn parse(user_data: &str, limits: MemberLimits) -> Result<Self, MemberError> {
        if !json::is_object(user_data) {
            return Err(MemberError::Invalid);
        }
        let data: UserData<'_> = serde_json::from_str(user_data).map_err(|_| MemberError::Invalid)?;
        if data.id.is_empty() || !has_legal_characters(&data.id) {
            return Err(MemberError::Invalid);
        }
        limits.check_id(&data.id)?;
        let user_info = data.user_info.map(|info| Arc::from(info.get()));
        let watchlist = data.watchlist.map(|ids| ids.into_iter().map(Arc::from).collect());
        Ok(Self { id: data.id.into(), user_info, watchlist, user_data: user_data.into() })
    }

    /// A field of what the application signed, as text: of the data itself, else of its `user_info`.
    pub fn field(&self, name: &str) -> Option<String> {
        signed_field(&self.user_data, name)
    }
}

/// A field of a signed JSON object, or else of the `user_info` in it: the characters of a string, the token of a number or a truth value.
/// `None` for anything else.
pub(crate) fn signed_field(signed: &str, name: &str) -> Option<String> {
    type Fields<'a> = BTreeMap<String, &'a RawValue>;
    let fields: Fields<'_> = serde_json::from_str(signed).ok()?;
    let info = || serde_json::from_str::<Fields<'_>>(fields.get("user_info")?.get()).ok()?.get(name).copied();
    let value = fields.get(name).copied().or_else(info)?;
    match value.get().as_bytes().first() {
        Some(b'"') => json::text(value).map(Cow::into_owned),
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Some(value.get().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MemberLimits = MemberLimits { max_user_id: 128, max_user_info_bytes: 1024 };

    fn member(text: &str) -> Result<Member, MemberError> {
        Member::parse(text, LIMITS)
    }

    #[test]
    fn a_number_keeps_the_text_of_its_token() {
        assert_eq!(&*member(r#"{"user_id":10}"#).unwrap().user_id, "10");
        assert_eq!(&*member(r#"{"user_id":9007199254740993}"#).unwrap().user_id, "9007199254740993");
    }

    #[test]
    fn user_info_is_kept_as_it_was_signed() {
        let signed = member(r#"{"user_id":"7","user_info":{"b":1.0,"a":"Zo\u00eb \/ x"}}"#).unwrap();
        assert_eq!(signed.user_info.as_deref(), Some(r#"{"b":1.0,"a":"Zo\u00eb \/ x"}"#));
        assert_eq!(member(r#"{"user_id":"7","user_info":null}"#).unwrap().user_info, None);
    }

    #[test]
    fn nobody_is_nobody() {
        for text in [
            "",
            "x",
            "[]",
            r#"["7"]"#,
            "{}",
            r#"{"user_id":""}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":{}}"#,
            r#"{"user_id":"\ud800"}"#,
        ] {
            assert_eq!(member(text), Err(MemberError::Invalid), "{text}");
        }
    }

    #[test]
    fn limits_are_inclusive() {
        assert!(member(&format!(r#"{{"user_id":"{}"}}"#, "é".repeat(128))).is_ok());
        assert_eq!(member(&format!(r#"{{"user_id":"{}"}}"#, "é".repeat(129))), Err(MemberError::TooLarge { max: 128 }));
        let info = |n: usize| format!(r#"{{"user_id":"1","user_info":"{}"}}"#, "x".repeat(n - 2));
        assert!(member(&info(1024)).is_ok());
        assert_eq!(member(&info(1025)), Err(MemberError::TooLarge { max: 1024 }));
    }

    #[test]
    fn a_signed_field_is_of_the_data_or_of_its_user_info() {
        let signed = r#"{"id":"42","team":"Zo\u00eb","n":9007199254740993,"on":true,"none":null,"user_info":{"team":"other","role":"cook","list":[]}}"#;
        let user = SignedUser::parse(signed, LIMITS).unwrap();
        for (name, value) in [
            ("id", Some("42")),
            ("team", Some("Zoë")),
            ("n", Some("9007199254740993")),
            ("on", Some("true")),
            ("role", Some("cook")),
            ("none", None),
            ("list", None),
            ("user_info", None),
            ("nowhere", None),
        ] {
            assert_eq!(user.field(name).as_deref(), value, "{name}");
        }
        assert_eq!(signed_field("[]", "0"), None);
        assert_eq!(signed_field(r#"{"user_info":"text"}"#, "x"), None);
    }

    #[test]
    fn a_user_id_must_be_a_text_that_fits_a_channel_name() {
        let user = |text: &str| SignedUser::parse(text, LIMITS);
        let ada = user(r#"{"id":"42","user_info":{"name":"Ada"},"watchlist":["7","9"]}"#).unwrap();
        assert_eq!((&*ada.id, ada.watchlist.unwrap().len()), ("42", 2));
        for text in [r#"{"id":42}"#, r#"{"id":""}"#, r#"{"id":"a:b"}"#, r#"{"id":"a b"}"#, r#"{"id":"1","watchlist":"7"}"#, "[]"] {
            assert_eq!(user(text), Err(MemberError::Invalid), "{text}");
        }
    }
}
