//! What a debug console does: sends an event, and signs for the page that wants to listen.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    DashboardError,
    channels::parse,
    input::{Answer, Asked, Body, json as answer},
};
use crate::{
    cluster::NewPublication,
    http::ApiError,
    protocol::{ChannelName, Signed, SocketId},
};

#[derive(Deserialize)]
pub(super) struct Event {
    app: String,
    channels: Vec<String>,
    event: String,
    data: String,
}

/// `POST api/publish`: an event for some channels; `data` is JSON text.
pub(super) async fn publish(asked: Asked, body: Body<Event>) -> Answer {
    let Body(Event { app, channels, event, data }) = body;
    let hub = asked.dashboard.app(&app)?;
    let broker = &asked.dashboard.0.broker;
    let names = channels.iter().map(|channel| parse(&hub, "channels", channel)).collect::<Result<Vec<_>, _>>()?;
    if names.iter().any(|name| name.kind().encrypted) {
        return Err(DashboardError::field("channels", "must not be encrypted: the broker has no key to encrypt with"));
    }
    if let Err(error) = serde_json::from_str::<&RawValue>(&data) {
        return Err(DashboardError::field("data", format!("must be JSON: {error}")));
    }
    if broker.is_short_of_memory() {
        return Err(ApiError::OverCapacity.into());
    }
    let channels = names.iter().map(ChannelName::as_str).collect();
    broker.publish(&app, NewPublication { channels, event, data, socket_id: None })?;
    let now = Instant::now();
    let reached: usize = names.iter().map(|name| hub.channel(name, now).subscription_count).sum();
    answer(&json!({ "published": names.len(), "subscribers": reached }))
}

#[derive(Deserialize)]
pub(super) struct Listen {
    app: String,
    socket_id: String,
    channel: String,
    /// Who the page is there as, on a presence channel.
    user_id: Option<String>,
    user_info: Option<Value>,
    /// That the subscription takes a lock is meant.
    #[serde(default)]
    take_lock: bool,
}

/// `POST api/auth`: the signature with which the page subscribes to a private or presence channel.
pub(super) async fn authorize(asked: Asked, body: Body<Listen>) -> Answer {
    let Body(Listen { app: id, socket_id, channel, user_id, user_info, take_lock }) = body;
    let hub = asked.dashboard.app(&id)?;
    let app = hub.app();
    // What is signed is joined with colons, so a socket id of any other form could stand for something else (protocol.md 1.2).
    SocketId::parse(&socket_id).map_err(|_| DashboardError::field("socket_id", "must have the form 123.456"))?;
    let channel = parse(&hub, "channel", &channel)?;
    let kind = channel.kind();
    if !kind.needs_signature() {
        return Err(DashboardError::field("channel", "must be a private or presence channel: others need no signature"));
    }
    if kind.encrypted {
        return Err(DashboardError::field("channel", "must not be encrypted: the broker has no key to decrypt with"));
    }
    if !take_lock && asked.dashboard.0.holds.ask_at(&id, channel.as_str()) {
        return Err(DashboardError::WouldLock { channel: channel.as_str().to_owned() });
    }
    let data = match (kind.is_presence(), user_id) {
        (true, None) => return Err(DashboardError::field("user_id", "is required for a presence channel")),
        (_, Some(user_id)) => Some(json!({ "user_id": user_id, "user_info": user_info }).to_string()),
        (false, None) => None,
    };
    let signed = Signed::Channel { socket_id: &socket_id, channel: channel.as_str(), channel_data: data.as_deref() };
    answer(&json!({ "auth": signed.auth(&app.key, &app.signing_key), "channel_data": data }))
}
