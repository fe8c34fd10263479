//! What the broker says. The rule that `data` is a JSON text *inside* a JSON string lives here and nowhere else.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{close::CloseCode, member::Member, socket_id::SocketId, wire::WireFrame};

/// A message to clients. [`ServerFrame::to_json`] gives its text, [`ServerFrame::encode`] the frame that is shared.
#[derive(Clone, Copy, Debug)]
pub enum ServerFrame<'a> {
    /// The first frame of an accepted connection (1.2).
    ConnectionEstablished {
        /// The new connection.
        socket_id: SocketId,
        /// Seconds without traffic after which the client asks.
        activity_timeout: u64,
    },
    /// `pusher:error`: the one frame whose `data` is an object (1.4).
    Error {
        /// What went wrong.
        code: CloseCode,
        /// One stable sentence.
        message: &'a str,
        /// The channel it is about, if any.
        channel: Option<&'a str>,
    },
    /// The answer to `pusher:ping` (1.3).
    Pong,
    /// A subscription on a channel without members (2.2).
    SubscriptionSucceeded {
        /// The channel.
        channel: &'a str,
    },
    /// A refused subscription (2.5).
    SubscriptionError {
        /// The channel, as the client wrote it.
        channel: &'a str,
        /// What went wrong, in full.
        error: &'a SubscriptionError,
    },
    /// A user's first connection joined (2.4).
    MemberAdded {
        /// The channel.
        channel: &'a str,
        /// Who.
        member: &'a Member,
    },
    /// A user's last connection left (2.4).
    MemberRemoved {
        /// The channel.
        channel: &'a str,
        /// Who.
        user_id: &'a str,
    },
    /// How many connections are subscribed (2.9).
    SubscriptionCount {
        /// The channel.
        channel: &'a str,
        /// Connections.
        count: usize,
    },
    /// A cache channel had nothing to replay (2.8).
    CacheMiss {
        /// The channel.
        channel: &'a str,
    },
    /// The answer to `pusher:signin` (4.1).
    SigninSuccess {
        /// The signed text, byte for byte.
        user_data: &'a str,
    },
    /// Watched users that came or went (4.3). A group without users is left out.
    Watchlist {
        /// Now signed in.
        online: &'a [&'a str],
        /// No longer signed in.
        offline: &'a [&'a str],
    },
    /// An event of the application or of another client (2.7, 3).
    Event {
        /// Its name.
        event: &'a str,
        /// The channel; `None` for an event to one connection.
        channel: Option<&'a str>,
        /// The publisher's text, unchanged.
        data: &'a str,
        /// The sending member, on client events of presence channels.
        user_id: Option<&'a str>,
    },
}

/// The `data` of `pusher:subscription_error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionError {
    /// The class of failure: `AuthError`, `InvalidChannel`, `LimitReached`, or an application's own.
    #[serde(rename = "type")]
    pub kind: String,
    /// One stable sentence.
    pub error: String,
    /// An HTTP-like status, or the Pusher code of the limit.
    pub status: u16,
    /// What else the client may know, beside these three.
    #[serde(flatten)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

impl SubscriptionError {
    /// An error of protocol.md 2.5.
    pub fn new(kind: impl Into<String>, status: u16, error: impl Into<String>) -> Self {
        Self { kind: kind.into(), error: error.into(), status, details: serde_json::Map::new() }
    }

    /// The refusal of a missing or wrong signature.
    pub fn unauthorized() -> Self {
        Self::new("AuthError", 401, "The connection is unauthorized.")
    }
}

/// `{event, channel?, data, user_id?}` with `data` as a string.
#[derive(Serialize)]
struct Message<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
}

/// Values made of texts and numbers cannot fail to serialise: there is no map with odd keys and no foreign `Serialize` in them.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn message(event: &str, channel: Option<&str>, data: &str) -> String {
    json(&Message { event, channel, data, user_id: None })
}

/// A text that is already JSON, as a value inside another one.
fn raw(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}

impl ServerFrame<'_> {
    /// The text of the frame.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Established {
            socket_id: String,
            activity_timeout: u64,
        }
        #[derive(Serialize)]
        struct ErrorData<'a> {
            code: u16,
            message: &'a str,
        }
        #[derive(Serialize)]
        struct ErrorMessage<'a> {
            event: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            channel: Option<&'a str>,
            data: ErrorData<'a>,
        }
        #[derive(Serialize)]
        struct MemberData<'a> {
            user_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            user_info: Option<&'a RawValue>,
        }
        #[derive(Serialize)]
        struct Count {
            subscription_count: usize,
        }
        #[derive(Serialize)]
        struct UserData<'a> {
            user_data: &'a str,
        }
        match *self {
            Self::ConnectionEstablished { socket_id, activity_timeout } => {
                let data = json(&Established { socket_id: socket_id.to_string(), activity_timeout });
                message("pusher:connection_established", None, &data)
            }
            Self::Error { code, message, channel } => {
                json(&ErrorMessage { event: "pusher:error", channel, data: ErrorData { code: code.as_u16(), message } })
            }
            Self::Pong => message("pusher:pong", None, "{}"),
            Self::SubscriptionSucceeded { channel } => message("pusher_internal:subscription_succeeded", Some(channel), "{}"),
            Self::SubscriptionError { channel, error } => message("pusher:subscription_error", Some(channel), &json(error)),
            Self::MemberAdded { channel, member } => {
                let data = json(&MemberData { user_id: &member.user_id, user_info: member.user_info.as_deref().and_then(raw) });
                message("pusher_internal:member_added", Some(channel), &data)
            }
            Self::MemberRemoved { channel, user_id } => {
                message("pusher_internal:member_removed", Some(channel), &json(&MemberData { user_id, user_info: None }))
            }
            Self::SubscriptionCount { channel, count } => {
                message("pusher_internal:subscription_count", Some(channel), &json(&Count { subscription_count: count }))
            }
            Self::CacheMiss { channel } => message("pusher:cache_miss", Some(channel), "{}"),
            Self::SigninSuccess { user_data } => message("pusher:signin_success", None, &json(&UserData { user_data })),
            Self::Watchlist { online, offline } => message("pusher_internal:watchlist_events", None, &watchlist(online, offline)),
            Self::Event { event, channel, data, user_id } => json(&Message { event, channel, data, user_id }),
        }
    }

    /// The frame as it goes over the wire, to be shared by all receivers.
    pub fn encode(&self) -> WireFrame {
        WireFrame::text(&self.to_json())
    }
}

fn watchlist(online: &[&str], offline: &[&str]) -> String {
    #[derive(Serialize)]
    struct Group<'a> {
        name: &'a str,
        user_ids: &'a [&'a str],
    }
    #[derive(Serialize)]
    struct Events<'a> {
        events: Vec<Group<'a>>,
    }
    let groups = [("online", online), ("offline", offline)];
    let events = groups.into_iter().filter(|(_, ids)| !ids.is_empty()).map(|(name, user_ids)| Group { name, user_ids }).collect();
    json(&Events { events })
}

/// The success frame of a presence channel, with the snapshot of its members (2.4). `hash` is an object even when it is empty.
pub fn presence_succeeded<'a>(channel: &str, members: impl ExactSizeIterator<Item = &'a Member>) -> WireFrame {
    let count = members.len();
    let (mut ids, mut hash) = (String::new(), String::new());
    for (i, member) in members.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let id = json(&&*member.user_id);
        // Writing to a String cannot fail.
        let _ = write!(ids, "{comma}{id}");
        let _ = write!(hash, "{comma}{id}:{}", member.user_info.as_deref().unwrap_or("null"));
    }
    let data = format!(r#"{{"presence":{{"count":{count},"ids":[{ids}],"hash":{{{hash}}}}}}}"#);
    WireFrame::text(&message("pusher_internal:subscription_succeeded", Some(channel), &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: WireFrame) -> String {
        let bytes = frame.into_bytes();
        let header = match bytes[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        String::from_utf8(bytes[header..].to_vec()).unwrap()
    }

    fn member(id: &str, info: Option<&str>) -> Member {
        Member { user_id: id.into(), user_info: info.map(Into::into) }
    }

    #[test]
    fn the_frames_of_the_law() {
        let socket_id = SocketId::parse("123456.7890123").unwrap().unwrap();
        let refusal = SubscriptionError::unauthorized();
        let bob = member("7", Some(r#"{"name":"Bob"}"#));
        let (news, room) = ("news", "presence-room");
        for (frame, json) in [
            (
                ServerFrame::ConnectionEstablished { socket_id, activity_timeout: 120 },
                r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"123456.7890123\",\"activity_timeout\":120}"}"#,
            ),
            (
                ServerFrame::Error { code: CloseCode::UNKNOWN_APP, message: "App key app-keyx does not exist", channel: None },
                r#"{"event":"pusher:error","data":{"code":4001,"message":"App key app-keyx does not exist"}}"#,
            ),
            (ServerFrame::Pong, r#"{"event":"pusher:pong","data":"{}"}"#),
            (
                ServerFrame::SubscriptionSucceeded { channel: news },
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#,
            ),
            (
                ServerFrame::SubscriptionError { channel: "private-foobar", error: &refusal },
                r#"{"event":"pusher:subscription_error","channel":"private-foobar","data":"{\"type\":\"AuthError\",\"error\":\"The connection is unauthorized.\",\"status\":401}"}"#,
            ),
            (
                ServerFrame::MemberAdded { channel: room, member: &bob },
                r#"{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"7\",\"user_info\":{\"name\":\"Bob\"}}"}"#,
            ),
            (
                ServerFrame::MemberRemoved { channel: room, user_id: "7" },
                r#"{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"7\"}"}"#,
            ),
            (
                ServerFrame::SubscriptionCount { channel: news, count: 3 },
                r#"{"event":"pusher_internal:subscription_count","channel":"news","data":"{\"subscription_count\":3}"}"#,
            ),
            (ServerFrame::CacheMiss { channel: "cache-stock" }, r#"{"event":"pusher:cache_miss","channel":"cache-stock","data":"{}"}"#),
            (
                ServerFrame::SigninSuccess { user_data: r#"{"id":"42"}"# },
                r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"42\\\"}\"}"}"#,
            ),
            (
                ServerFrame::Watchlist { online: &["7"], offline: &["9"] },
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"7\"]},{\"name\":\"offline\",\"user_ids\":[\"9\"]}]}"}"#,
            ),
            (
                ServerFrame::Watchlist { online: &[], offline: &["9"] },
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"offline\",\"user_ids\":[\"9\"]}]}"}"#,
            ),
            (
                ServerFrame::Event { event: "client-typing", channel: Some(room), data: r#"{"on":true}"#, user_id: Some("42") },
                r#"{"event":"client-typing","channel":"presence-room","data":"{\"on\":true}","user_id":"42"}"#,
            ),
            (
                ServerFrame::Event { event: r"App\Events\X", channel: Some(news), data: r#"{"a":"\/ \u00eb"}"#, user_id: None },
                r#"{"event":"App\\Events\\X","channel":"news","data":"{\"a\":\"\\/ \\u00eb\"}"}"#,
            ),
        ] {
            assert_eq!(frame.to_json(), json);
        }
    }

    #[test]
    fn the_snapshot_of_a_presence_channel() {
        let members = [member("42", Some(r#"{"name":"Ada"}"#)), member("7", None)];
        assert_eq!(
            text(presence_succeeded("presence-room", members.iter())),
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":2,\"ids\":[\"42\",\"7\"],\"hash\":{\"42\":{\"name\":\"Ada\"},\"7\":null}}}"}"#
        );
        assert!(text(presence_succeeded("presence-x", [].iter())).contains(r#"\"ids\":[],\"hash\":{}"#));
    }

    #[test]
    fn a_member_without_info_has_no_info_key() {
        let frame = ServerFrame::MemberAdded { channel: "presence-x", member: &member("7", None) }.to_json();
        assert!(frame.ends_with(r#""data":"{\"user_id\":\"7\"}"}"#), "{frame}");
    }
}
