//! What a client may say (protocol.md 1.3, 2.2, 3, 4.1): one text message in, one [`ClientFrame`] out.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json;

/// One message of a client, borrowed from its text where it can be.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// `pusher:ping`, whatever its `data`.
    Ping,
    /// `pusher:pong`, whatever its `data`.
    Pong,
    /// `pusher:subscribe`.
    Subscribe(SubscribeRequest<'a>),
    /// `pusher:unsubscribe`.
    Unsubscribe {
        /// The channel, not yet validated.
        channel: Cow<'a, str>,
    },
    /// `pusher:signin`.
    Signin {
        /// `key:signature`.
        auth: Cow<'a, str>,
        /// The signed JSON text, byte for byte.
        user_data: Cow<'a, str>,
    },
    /// An event whose name starts with `client-`.
    Event {
        /// The name.
        event: Cow<'a, str>,
        /// The channel, not yet validated.
        channel: Cow<'a, str>,
        /// What goes out as `data`: a string unchanged, any other value as its compact JSON text, nothing as `null`.
        data: Cow<'a, str>,
    },
}

/// The `data` of `pusher:subscribe`.
#[derive(Debug, PartialEq, Eq)]
pub struct SubscribeRequest<'a> {
    /// The channel, not yet validated.
    pub channel: Cow<'a, str>,
    /// `key:signature`; `None` when absent, and when it is no text at all.
    pub auth: Option<Cow<'a, str>>,
    /// The signed JSON text, byte for byte.
    pub channel_data: ChannelData<'a>,
}

/// The `channel_data` field of a subscribe.
#[derive(Debug, PartialEq, Eq)]
pub enum ChannelData<'a> {
    /// Not there, or `null`.
    Absent,
    /// A text, as it must be.
    Text(Cow<'a, str>),
    /// There, but not a text: no signature can be over it.
    NotText,
}

/// Why a message cannot be understood. The text is what the client is told, with code 4300.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, not an object, `event` not a text, or a field twice.
    #[error("Invalid message format")]
    Malformed,
    /// A field that the event needs is missing or is no text.
    #[error("The data of {event} must contain {field} as a string")]
    MissingField {
        /// The event.
        event: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A client event without a channel.
    #[error("Invalid client event (must contain channel and data)")]
    InvalidClientEvent,
    /// An event that clients may not send.
    #[error("Unsupported event received on socket: {0}")]
    Unsupported(String),
}

/// How much of an unknown event name is repeated to the client, in bytes.
const MAX_ECHOED_NAME: usize = 100;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_data: Option<&'a RawValue>,
    #[serde(borrow)]
    user_data: Option<&'a RawValue>,
}

impl<'a> ClientFrame<'a> {
    /// Reads one text message.
    ///
    /// # Errors
    /// [`FrameError`], whose text may be shown to the client. The connection goes on.
    pub fn parse(message: &'a str) -> Result<Self, FrameError> {
        // What pusher-js sends every two minutes on every connection.
        if message == r#"{"event":"pusher:ping","data":{}}"# {
            return Ok(Self::Ping);
        }
        if !json::is_object(message) {
            return Err(FrameError::Malformed);
        }
        let Envelope { event, channel, data } = serde_json::from_str(message).map_err(|_| FrameError::Malformed)?;
        let event = event.and_then(json::text).ok_or(FrameError::Malformed)?;
        match &*event {
            "pusher:ping" => Ok(Self::Ping),
            "pusher:pong" => Ok(Self::Pong),
            "pusher:subscribe" => with_data(data, subscribe),
            "pusher:unsubscribe" => with_data(data, unsubscribe),
            "pusher:signin" => with_data(data, signin),
            name if name.starts_with("client-") => {
                let channel = channel.and_then(json::text).ok_or(FrameError::InvalidClientEvent)?;
                let data = match data {
                    None => Cow::Borrowed("null"),
                    Some(raw) if raw.get().starts_with('"') => json::text(raw).ok_or(FrameError::Malformed)?,
                    Some(raw) => json::compact(raw.get()),
                };
                Ok(Self::Event { event, channel, data })
            }
            name => Err(FrameError::Unsupported(super::wire::cut(name, MAX_ECHOED_NAME).to_owned())),
        }
    }

    /// The same frame with texts of its own, for when `data` was itself a JSON string and its content is about to go.
    fn into_owned(self) -> ClientFrame<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        match self {
            Self::Ping => ClientFrame::Ping,
            Self::Pong => ClientFrame::Pong,
            Self::Subscribe(SubscribeRequest { channel, auth, channel_data }) => ClientFrame::Subscribe(SubscribeRequest {
                channel: own(channel),
                auth: auth.map(own),
                channel_data: match channel_data {
                    ChannelData::Absent => ChannelData::Absent,
                    ChannelData::Text(text) => ChannelData::Text(own(text)),
                    ChannelData::NotText => ChannelData::NotText,
                },
            }),
            Self::Unsubscribe { channel } => ClientFrame::Unsubscribe { channel: own(channel) },
            Self::Signin { auth, user_data } => ClientFrame::Signin { auth: own(auth), user_data: own(user_data) },
            Self::Event { event, channel, data } => ClientFrame::Event { event: own(event), channel: own(channel), data: own(data) },
        }
    }
}

fn subscribe(data: Data<'_>) -> Result<ClientFrame<'_>, FrameError> {
    let channel_data = match data.channel_data {
        None => ChannelData::Absent,
        Some(raw) => json::text(raw).map_or(ChannelData::NotText, ChannelData::Text),
    };
    Ok(ClientFrame::Subscribe(SubscribeRequest {
        channel: required(data.channel, "pusher:subscribe", "channel")?,
        auth: data.auth.and_then(json::text),
        channel_data,
    }))
}

fn unsubscribe(data: Data<'_>) -> Result<ClientFrame<'_>, FrameError> {
    Ok(ClientFrame::Unsubscribe { channel: required(data.channel, "pusher:unsubscribe", "channel")? })
}

fn signin(data: Data<'_>) -> Result<ClientFrame<'_>, FrameError> {
    Ok(ClientFrame::Signin {
        auth: required(data.auth, "pusher:signin", "auth")?,
        user_data: required(data.user_data, "pusher:signin", "user_data")?,
    })
}

/// `data` as an object, or as a string that contains one (protocol.md 2.2).
fn with_data<'a>(
    raw: Option<&'a RawValue>,
    read: impl for<'d> Fn(Data<'d>) -> Result<ClientFrame<'d>, FrameError>,
) -> Result<ClientFrame<'a>, FrameError> {
    fn fields(json: &str) -> Result<Data<'_>, FrameError> {
        if !json::is_object(json) {
            return Err(FrameError::Malformed);
        }
        serde_json::from_str(json).map_err(|_| FrameError::Malformed)
    }
    match raw {
        None => read(Data::default()),
        Some(raw) if raw.get().starts_with('"') => {
            let text = json::text(raw).ok_or(FrameError::Malformed)?;
            fields(&text).and_then(read).map(ClientFrame::into_owned)
        }
        Some(raw) => fields(raw.get()).and_then(read),
    }
}

fn required<'a>(raw: Option<&'a RawValue>, event: &'static str, field: &'static str) -> Result<Cow<'a, str>, FrameError> {
    raw.and_then(json::text).ok_or(FrameError::MissingField { event, field })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<ClientFrame<'_>, FrameError> {
        ClientFrame::parse(text)
    }

    #[test]
    fn pings_of_every_client() {
        for text in [
            r#"{"event":"pusher:ping","data":{}}"#,
            r#"{"event": "pusher:ping"}"#,
            r#"{"data":"","event":"pusher:ping"}"#,
            r#" {"event":"pusher:ping","data":"{}","x":[[[]]]}"#,
        ] {
            assert_eq!(parse(text), Ok(ClientFrame::Ping), "{text}");
        }
        assert_eq!(parse(r#"{"event":"pusher:pong","data":{}}"#), Ok(ClientFrame::Pong));
    }

    #[test]
    fn what_is_no_message() {
        for text in [
            "",
            "not json",
            "[]",
            "1",
            "null",
            r#""x""#,
            "{}",
            r#"{"event":1}"#,
            r#"{"event":null}"#,
            r#"["pusher:ping"]"#,
            r#"{"event":"pusher:ping""#,
            r#"{"event":"\ud800"}"#,
        ] {
            assert_eq!(parse(text), Err(FrameError::Malformed), "{text}");
        }
    }

    #[test]
    fn subscribe_takes_an_object_or_a_string() {
        let expected = |channel| {
            ClientFrame::Subscribe(SubscribeRequest {
                channel: Cow::Borrowed(channel),
                auth: Some(Cow::Borrowed("k:s")),
                channel_data: ChannelData::Text(Cow::Borrowed(r#"{"user_id":"7","user_info":{"name":"Zo\u00eb \/ x"}}"#)),
            })
        };
        let object =
            r#"{"auth":"k:s","channel":"presence-x","channel_data":"{\"user_id\":\"7\",\"user_info\":{\"name\":\"Zo\\u00eb \\/ x\"}}"}"#;
        assert_eq!(parse(&format!(r#"{{"event":"pusher:subscribe","data":{object}}}"#)), Ok(expected("presence-x")));
        let string = serde_json::to_string(object).unwrap();
        assert_eq!(parse(&format!(r#"{{"event":"pusher:subscribe","data":{string}}}"#)), Ok(expected("presence-x")));
    }

    #[test]
    fn fields_of_a_wrong_kind() {
        assert_eq!(
            parse(r#"{"event":"pusher:subscribe","data":{"channel":1}}"#),
            Err(FrameError::MissingField { event: "pusher:subscribe", field: "channel" })
        );
        assert!(matches!(parse(r#"{"event":"pusher:subscribe"}"#), Err(FrameError::MissingField { .. })));
        assert!(matches!(parse(r#"{"event":"pusher:unsubscribe","data":{}}"#), Err(FrameError::MissingField { .. })));
        assert!(matches!(parse(r#"{"event":"pusher:signin","data":{"auth":"x"}}"#), Err(FrameError::MissingField { .. })));
        assert_eq!(parse(r#"{"event":"pusher:subscribe","data":[]}"#), Err(FrameError::Malformed));
        let Ok(ClientFrame::Subscribe(odd)) = parse(r#"{"event":"pusher:subscribe","data":{"channel":"x","auth":5,"channel_data":{}}}"#)
        else {
            panic!("a subscribe")
        };
        assert_eq!((odd.auth, odd.channel_data), (None, ChannelData::NotText));
    }

    #[test]
    fn data_of_a_client_event_becomes_a_string() {
        for (data, out) in [
            (r#","data":{"on": true}"#, r#"{"on":true}"#),
            (r#","data":"as it is""#, "as it is"),
            (r#","data":[1.0, 1e3]"#, "[1.0,1e3]"),
            (r#","data":null"#, "null"),
            ("", "null"),
            (r#","data":12345678901234567890"#, "12345678901234567890"),
        ] {
            let text = format!(r#"{{"event":"client-x","channel":"private-y"{data}}}"#);
            let Ok(ClientFrame::Event { data, .. }) = parse(&text) else { panic!("{text}") };
            assert_eq!(data, out);
        }
        assert_eq!(parse(r#"{"event":"client-x","data":1}"#), Err(FrameError::InvalidClientEvent));
        assert_eq!(parse(r#"{"event":"client-x","channel":7}"#), Err(FrameError::InvalidClientEvent));
    }

    #[test]
    fn unknown_events_are_named_in_the_answer() {
        let error = parse(r#"{"event":"pusher:nonsense"}"#).unwrap_err();
        assert_eq!(error.to_string(), "Unsupported event received on socket: pusher:nonsense");
        assert!(matches!(parse(r#"{"event":"my-event","channel":"x","data":"1"}"#), Err(FrameError::Unsupported(_))));
        let long = parse(&format!(r#"{{"event":"{}"}}"#, "é".repeat(500))).unwrap_err().to_string();
        assert!(long.len() < 150);
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"event":"client-x","channel":"private-y","data":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert!(matches!(parse(&deep), Ok(ClientFrame::Event { .. }) | Err(FrameError::Malformed)));
    }

    proptest! {
        #[test]
        fn no_text_can_make_it_panic(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn nor_can_near_misses(
            event in "(pusher:(ping|pong|subscribe|unsubscribe|signin)|client-x|x)",
            data in r#"(\{"channel":"?[a-z#"\\]{0,6}"?\}|"[^"]{0,6}"|[0-9]{1,3}|\[\]|null)"#,
        ) {
            let text = format!(r#"{{"event":"{event}","data":{data}}}"#);
            let _ = parse(&text);
        }
    }
}
