//! What the broker says. The rule that `data` is a JSON text *inside* a JSON string lives here and nowhere else.

use serde::Serialize;

use super::{close::CloseCode, json_out::Sink, member::Member, socket_id::SocketId, wire::WireFrame};

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

/// `{event, channel?, data}` with `data` as a string, whose characters `data` writes.
fn message(out: &mut dyn Sink, event: &str, channel: Option<&str>, data: impl FnOnce(&mut dyn Sink)) {
    head(out, channel, |out| out.raw(event));
    out.raw(r#","data":""#);
    data(out);
    out.raw(r#""}"#);
}

/// `{event, channel?` and no more yet.
fn head(out: &mut dyn Sink, channel: Option<&str>, event: impl FnOnce(&mut dyn Sink)) {
    out.raw(r#"{"event":""#);
    event(out);
    out.raw("\"");
    if let Some(channel) = channel {
        out.raw(r#","channel":""#);
        out.escaped(channel);
        out.raw("\"");
    }
}

/// A list of strings, without its brackets, in a JSON text that stands in a string.
fn list<'a>(out: &mut dyn Sink, texts: impl Iterator<Item = &'a str>) {
    for (at, text) in texts.enumerate() {
        out.raw(if at == 0 { r#"\""# } else { r#",\""# });
        out.escaped_twice(text);
        out.raw(r#"\""#);
    }
}

impl ServerFrame<'_> {
    /// The text of the frame.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out, &self.refusal());
        String::from_utf8(out).unwrap_or_default()
    }

    /// The frame as it goes over the wire, to be shared by all receivers.
    pub fn encode(&self) -> WireFrame {
        let refusal = self.refusal();
        WireFrame::written(|out| self.write(out, &refusal))
    }

    /// The one `data` that has fields of its sender's choice. It is made of texts, numbers and values that were JSON before: that cannot fail.
    fn refusal(&self) -> String {
        if let Self::SubscriptionError { error, .. } = self { serde_json::to_string(error).unwrap_or_default() } else { String::new() }
    }

    fn write(&self, out: &mut dyn Sink, refusal: &str) {
        match *self {
            Self::ConnectionEstablished { socket_id, activity_timeout } => message(out, "pusher:connection_established", None, |out| {
                let (left, right) = socket_id.halves();
                out.raw(r#"{\"socket_id\":\""#);
                out.number(left);
                out.raw(".");
                out.number(right);
                out.raw(r#"\",\"activity_timeout\":"#);
                out.number(activity_timeout);
                out.raw("}");
            }),
            Self::Error { code, message, channel } => {
                head(out, channel, |out| out.raw("pusher:error"));
                out.raw(r#","data":{"code":"#);
                out.number(code.as_u16().into());
                out.raw(r#","message":""#);
                out.escaped(message);
                out.raw(r#""}}"#);
            }
            Self::Pong => message(out, "pusher:pong", None, |out| out.raw("{}")),
            Self::SubscriptionSucceeded { channel } => {
                message(out, "pusher_internal:subscription_succeeded", Some(channel), |out| out.raw("{}"));
            }
            Self::SubscriptionError { channel, .. } => {
                message(out, "pusher:subscription_error", Some(channel), |out| out.escaped(refusal));
            }
            Self::MemberAdded { channel, member } => message(out, "pusher_internal:member_added", Some(channel), |out| {
                out.raw(r#"{\"user_id\":\""#);
                out.escaped_twice(&member.user_id);
                out.raw(r#"\""#);
                if let Some(info) = &member.user_info {
                    out.raw(r#",\"user_info\":"#);
                    out.escaped(info);
                }
                out.raw("}");
            }),
            Self::MemberRemoved { channel, user_id } => message(out, "pusher_internal:member_removed", Some(channel), |out| {
                out.raw(r#"{\"user_id\":\""#);
                out.escaped_twice(user_id);
                out.raw(r#"\"}"#);
            }),
            Self::SubscriptionCount { channel, count } => message(out, "pusher_internal:subscription_count", Some(channel), |out| {
                out.raw(r#"{\"subscription_count\":"#);
                out.number(count as u64);
                out.raw("}");
            }),
            Self::CacheMiss { channel } => message(out, "pusher:cache_miss", Some(channel), |out| out.raw("{}")),
            Self::SigninSuccess { user_data } => message(out, "pusher:signin_success", None, |out| {
                out.raw(r#"{\"user_data\":\""#);
                out.escaped_twice(user_data);
                out.raw(r#"\"}"#);
            }),
            Self::Watchlist { online, offline } => {
                message(out, "pusher_internal:watchlist_events", None, |out| watchlist(out, online, offline));
            }
            Self::Event { event, channel, data, user_id } => {
                head(out, channel, |out| out.escaped(event));
                out.raw(r#","data":""#);
                out.escaped(data);
                out.raw("\"");
                if let Some(user_id) = user_id {
                    out.raw(r#","user_id":""#);
                    out.escaped(user_id);
                    out.raw("\"");
                }
                out.raw("}");
            }
        }
    }
}

fn watchlist(out: &mut dyn Sink, online: &[&str], offline: &[&str]) {
    out.raw(r#"{\"events\":["#);
    let groups = [(r#"{\"name\":\"online\",\"user_ids\":["#, online), (r#"{\"name\":\"offline\",\"user_ids\":["#, offline)];
    for (at, (head, ids)) in groups.into_iter().filter(|(_, ids)| !ids.is_empty()).enumerate() {
        if at > 0 {
            out.raw(",");
        }
        out.raw(head);
        list(out, ids.iter().copied());
        out.raw("]}");
    }
    out.raw("]}");
}

/// The success frame of a presence channel, with the snapshot of its members (2.4). `hash` is an object even when it is empty.
pub fn presence_succeeded<'a>(channel: &str, members: impl ExactSizeIterator<Item = &'a Member> + Clone) -> WireFrame {
    let snapshot = |out: &mut dyn Sink| {
        out.raw(r#"{\"presence\":{\"count\":"#);
        out.number(members.len() as u64);
        out.raw(r#",\"ids\":["#);
        list(out, members.clone().map(|member| &*member.user_id));
        out.raw(r#"],\"hash\":{"#);
        for (at, member) in members.clone().enumerate() {
            out.raw(if at == 0 { r#"\""# } else { r#",\""# });
            out.escaped_twice(&member.user_id);
            out.raw(r#"\":"#);
            out.escaped(member.user_info.as_deref().unwrap_or("null"));
        }
        out.raw("}}}");
    };
    WireFrame::written(|out| message(out, "pusher_internal:subscription_succeeded", Some(channel), snapshot))
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
