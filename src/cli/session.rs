//! What `listen` says and does on each frame of the broker. Pure: text in, steps out.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::CliError,
    event::{Event, printable},
    target::{Target, missing},
};
use crate::protocol::{ChannelName, Signed, SigningKey};

/// The name of the frame that asks whether the other side lives.
pub(super) const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;
const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;
/// Events with these prefixes are about the connection and not from the application.
const PROTOCOL_EVENTS: [&str; 2] = ["pusher:", "pusher_internal:"];

/// What is listened to, and as whom.
pub(super) struct Subscriptions {
    channels: Vec<ChannelName>,
    app_key: String,
    /// Absent only when no channel needs a signature.
    signing_key: Option<SigningKey>,
    /// The member that presence channels see.
    user_id: String,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this text frame.
    Send(String),
    /// The broker accepted the connection; it wants to be asked whether it lives after this time of silence.
    Established(Duration),
    /// Print an event.
    Print(Event),
    /// Tell the user.
    Note(String),
    /// A subscription was refused: give up.
    Refused { channel: String, text: String },
    /// The broker refuses the connection with a code; the close that follows says no more.
    Closed { code: u16, text: String },
}

#[derive(Deserialize)]
struct Frame {
    event: String,
    channel: Option<String>,
    #[serde(default)]
    data: Value,
    user_id: Option<String>,
}

#[derive(Deserialize)]
struct Established {
    socket_id: String,
    activity_timeout: u64,
}

impl Subscriptions {
    /// Checks names and credentials before anything is connected.
    pub(super) fn try_new(target: &Target, channels: &[String], user_id: &str) -> Result<Self, CliError> {
        let channels = channels
            .iter()
            .map(|name| {
                // How long a name may be is the broker's business.
                ChannelName::parse(name, usize::MAX).map_err(|source| CliError::Channel { channel: printable(name), source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let signing_key = target.secret.as_ref().map(|secret| SigningKey::new(secret.expose()));
        if let (Some(channel), None) = (channels.iter().find(|channel| channel.kind().needs_signature()), &signing_key) {
            return Err(missing(channel.as_str(), "--secret"));
        }
        Ok(Self { channels, app_key: target.key.clone(), signing_key, user_id: user_id.to_owned() })
    }

    fn frame(&self, channel: &ChannelName, socket_id: &str) -> String {
        let channel_data = channel.kind().is_presence().then(|| json!({ "user_id": self.user_id }).to_string());
        let mut data = json!({ "channel": channel.as_str() });
        if let (true, Some(key)) = (channel.kind().needs_signature(), &self.signing_key) {
            let signed = Signed::Channel { socket_id, channel: channel.as_str(), channel_data: channel_data.as_deref() };
            data["auth"] = signed.auth(&self.app_key, key).into();
        }
        if let Some(channel_data) = channel_data {
            data["channel_data"] = channel_data.into();
        }
        json!({ "event": "pusher:subscribe", "data": data }).to_string()
    }
}

/// One connection.
pub(super) struct Session<'a> {
    subscriptions: &'a Subscriptions,
    established: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(subscriptions: &'a Subscriptions) -> Self {
        Self { subscriptions, established: false }
    }

    /// What to do on one text frame.
    pub(super) fn on_text(&mut self, text: &str) -> Vec<Step> {
        let Ok(frame) = serde_json::from_str::<Frame>(text) else {
            return vec![Step::Note("The broker sent a frame that is not a Pusher event".to_owned())];
        };
        let channel = frame.channel.as_deref().map(printable).unwrap_or_default();
        match frame.event.as_str() {
            "pusher:connection_established" => self.on_established(&frame.data),
            "pusher:ping" => vec![Step::Send(PONG.to_owned())],
            "pusher:pong" => Vec::new(),
            "pusher:error" => vec![self.on_error(&frame.data)],
            "pusher_internal:subscription_succeeded" => vec![Step::Note(format!("Subscribed to {channel}"))],
            "pusher:subscription_error" | "pusher_internal:subscription_error" => {
                vec![Step::Refused { channel, text: refusal(&frame.data) }]
            }
            name if PROTOCOL_EVENTS.iter().any(|prefix| name.starts_with(prefix)) => {
                vec![Step::Note(printable(&format!("{name} {channel} {}", text_of(frame.data))))]
            }
            _ => vec![Step::Print(Event { channel: frame.channel, event: frame.event, data: text_of(frame.data), user_id: frame.user_id })],
        }
    }

    fn on_established(&mut self, data: &Value) -> Vec<Step> {
        let Ok(Established { socket_id, activity_timeout }) = serde_json::from_value(inner(data)) else {
            return vec![Step::Note("The broker's first frame has no socket_id or no activity_timeout".to_owned())];
        };
        self.established = true;
        let mut steps = vec![
            Step::Note(format!("Connected as {}", printable(&socket_id))),
            Step::Established(Duration::from_secs(activity_timeout.max(1))),
        ];
        steps.extend(self.subscriptions.channels.iter().map(|channel| Step::Send(self.subscriptions.frame(channel, &socket_id))));
        steps
    }

    fn on_error(&self, data: &Value) -> Step {
        let data = inner(data);
        let text = printable(data["message"].as_str().unwrap_or("no message"));
        match data["code"].as_u64().and_then(|code| u16::try_from(code).ok()) {
            // On a live connection the code decides nothing: a close frame does.
            Some(code) if !self.established => Step::Closed { code, text },
            Some(code) => Step::Note(format!("The broker reports {code}: {text}")),
            None => Step::Note(format!("The broker reports: {text}")),
        }
    }
}

/// `data` as a value, whether it came as JSON or as a string with JSON in it.
fn inner(data: &Value) -> Value {
    match data {
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        other => other.clone(),
    }
}

/// `data` as the publisher's text.
fn text_of(data: Value) -> String {
    match data {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// `AuthError 401: The connection is unauthorized.`
fn refusal(data: &Value) -> String {
    let data = inner(data);
    let error = data["error"].as_str().unwrap_or("no reason given");
    let kind = data["type"].as_str().unwrap_or("Error");
    printable(&data["status"].as_u64().map_or_else(|| format!("{kind}: {error}"), |status| format!("{kind} {status}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::target::TargetArgs;

    const ESTABLISHED: &str =
        r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"123456.7890123\",\"activity_timeout\":120}"}"#;

    fn subscriptions(channels: &[&str]) -> Subscriptions {
        let channels: Vec<String> = channels.iter().map(|name| (*name).to_owned()).collect();
        let target = TargetArgs::default().with(&crate::config::Settings::default()).unwrap();
        Subscriptions::try_new(&target, &channels, "42").unwrap()
    }

    fn sent(steps: &[Step]) -> Vec<Value> {
        steps.iter().filter_map(|step| if let Step::Send(text) = step { serde_json::from_str(text).ok() } else { None }).collect()
    }

    #[test]
    fn every_channel_is_subscribed_with_the_signature_it_needs() {
        let subscriptions = subscriptions(&["news", "private-foobar", "presence-room", "private-encrypted-vault"]);
        let steps = Session::new(&subscriptions).on_text(ESTABLISHED);
        assert!(steps.contains(&Step::Established(Duration::from_secs(120))));
        let frames = sent(&steps);
        assert_eq!(frames[0], json!({"event": "pusher:subscribe", "data": {"channel": "news"}}));
        // Vectors A1 and A7 of the contract.
        assert_eq!(frames[1]["data"]["auth"], "app-key:5c9f17e1509a58a80a4f52ec397b2f197843284ecb63add4272a207ab0a44bce");
        assert_eq!(frames[2]["data"]["channel_data"], r#"{"user_id":"42"}"#);
        assert!(frames[2]["data"]["auth"].is_string());
        assert_eq!(frames[3]["data"]["auth"], "app-key:b14dcc87118a40b433ecfd78788ad8fe5ecb5ada880c89808fc352ec38a83623");
    }

    #[test]
    fn a_ping_is_answered_and_an_event_is_printed_as_it_was_published() {
        let subscriptions = subscriptions(&["news"]);
        let mut session = Session::new(&subscriptions);
        assert_eq!(session.on_text(r#"{"event":"pusher:ping","data":"{}"}"#), [Step::Send(PONG.to_owned())]);
        let event = |name: &str, data: &str, user_id: Option<&str>| Event {
            channel: Some("news".to_owned()),
            event: name.to_owned(),
            data: data.to_owned(),
            user_id: user_id.map(str::to_owned),
        };
        assert_eq!(
            session.on_text(r#"{"event":"client-x","channel":"news","data":"{\"a\": 1}","user_id":"7"}"#),
            [Step::Print(event("client-x", "{\"a\": 1}", Some("7")))]
        );
        assert_eq!(
            session.on_text(r#"{"event":"holdline:locked","channel":"news","data":{"a":1}}"#),
            [Step::Print(event("holdline:locked", "{\"a\":1}", None))]
        );
    }

    #[test]
    fn frames_of_the_protocol_are_notes() {
        let subscriptions = subscriptions(&["news"]);
        let mut session = Session::new(&subscriptions);
        for frame in [
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#,
            r#"{"event":"pusher_internal:member_added","channel":"presence-x","data":"{\"user_id\":\"7\"}"}"#,
            r#"{"event":"pusher:cache_miss","channel":"cache-x","data":"{}"}"#,
            "not json",
        ] {
            assert!(matches!(session.on_text(frame)[..], [Step::Note(_)]), "{frame}");
        }
    }

    #[test]
    fn a_refusal_names_its_reason() {
        let subscriptions = subscriptions(&["private-x"]);
        let frame = r#"{"event":"pusher:subscription_error","channel":"private-x","data":"{\"type\":\"AuthError\",\"error\":\"The connection is unauthorized.\",\"status\":401}"}"#;
        assert_eq!(
            Session::new(&subscriptions).on_text(frame),
            [Step::Refused { channel: "private-x".to_owned(), text: "AuthError 401: The connection is unauthorized.".to_owned() }]
        );
    }

    #[test]
    fn an_error_before_the_connection_stands_is_a_close_and_afterwards_a_note() {
        let subscriptions = subscriptions(&["news"]);
        let mut session = Session::new(&subscriptions);
        let error = r#"{"event":"pusher:error","data":{"code":4001,"message":"App key x does not exist"}}"#;
        assert_eq!(session.on_text(error), [Step::Closed { code: 4001, text: "App key x does not exist".to_owned() }]);
        session.on_text(ESTABLISHED);
        assert!(matches!(session.on_text(error)[..], [Step::Note(_)]));
    }

    #[test]
    fn a_signature_needs_a_secret_and_a_channel_a_legal_name() {
        let mut target = TargetArgs::default().with(&crate::config::Settings::default()).unwrap();
        target.secret = None;
        let try_new = |name: &str| Subscriptions::try_new(&target, &[name.to_owned()], "cli");
        assert!(try_new("news").is_ok());
        assert!(matches!(try_new("private-x"), Err(CliError::MissingCredential { .. })));
        assert!(matches!(try_new("a b"), Err(CliError::Channel { .. })));
    }
}
