//! Webhooks as Pusher sends them (protocol.md 7): what happened on channels, signed, to an address of the application.
//!
//! The body is written anew at every attempt, with the time of that attempt, and signed as it is sent: receivers refuse an old one.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    post::{HttpSetupError, PostSettings, SignedPost, broken},
    signers::Signer,
};
use crate::{
    domain::{WebhookFilter, WebhookKind},
    lifecycle::{
        PostStats,
        listener::{Delivered, Endpoint, EndpointOptions, Retry, consumer_name},
        store::{EventKind, EventRow},
        webhook::sent,
    },
};

/// So much of an answer's body is read, and thrown away, so that the connection can be used again.
const MOST_ANSWER: usize = 64 * 1024;
/// The order of an event's fields behind `name` and `channel`; the store does not keep one.
const FIELDS: [&str; 5] = ["event", "data", "socket_id", "user_id", "subscription_count"];

/// What a [`WebhookEndpoint`] is made of.
#[derive(Clone)]
pub(crate) struct WebhookEndpointSettings {
    /// Its name within the application.
    pub(crate) name: String,
    /// What it wants to hear.
    pub(crate) filter: WebhookFilter,
    /// How it is served.
    pub(crate) options: EndpointOptions,
    /// Where to.
    pub(crate) post: PostSettings,
    /// As whom.
    pub(crate) signer: Signer,
}

/// Sends an application's webhooks to one address.
pub(crate) struct WebhookEndpoint {
    consumer: String,
    filter: WebhookFilter,
    options: EndpointOptions,
    post: SignedPost,
    signer: Signer,
}

impl fmt::Debug for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookEndpoint").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl WebhookEndpoint {
    /// Checks address and headers, and makes the client.
    ///
    /// # Errors
    /// [`HttpSetupError`].
    pub(crate) fn try_new(settings: WebhookEndpointSettings) -> Result<Self, HttpSetupError> {
        let WebhookEndpointSettings { name, filter, options, post, signer } = settings;
        Ok(Self { consumer: consumer_name(&options.app, &name), filter, options, post: SignedPost::try_new(post)?, signer })
    }

    /// What became of its requests.
    pub(crate) fn stats(&self) -> &Arc<PostStats> {
        self.post.stats()
    }

    async fn send(&self, events: &[EventRow]) -> Result<(), Retry> {
        let mut headers = HeaderMap::new();
        if let Some(first) = events.first() {
            let id = Delivered::new(first.clone(), 1).id();
            headers.insert("x-holdline-event-id", HeaderValue::try_from(id.to_string())?);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut answer = self.post.send(&self.signer, body(now, events)?, headers).await?;
        let mut read = 0;
        // An answer that breaks off is none: whoever was writing it may not have done what it says.
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            read += chunk.len();
            if read > MOST_ANSWER {
                break;
            }
        }
        Ok(())
    }
}

impl Endpoint for WebhookEndpoint {
    fn consumer(&self) -> &str {
        &self.consumer
    }

    fn options(&self) -> &EndpointOptions {
        &self.options
    }

    fn wants(&self, event: &EventRow) -> bool {
        event.kind == EventKind::Webhook
            && event.app == self.options.app
            && WebhookKind::parse(&event.event_type).is_ok_and(|kind| self.filter.wants(kind, &event.resource))
    }

    fn deliver<'a>(&'a self, events: &'a [EventRow]) -> BoxFuture<'a, Result<(), Retry>> {
        Box::pin(self.send(events))
    }
}

#[derive(Serialize)]
struct Body<'a> {
    time_ms: u64,
    events: Vec<Event<'a>>,
}

struct Event<'a>(&'a EventRow);

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.0.event_type)?;
        map.serialize_entry("channel", &self.0.resource)?;
        let fields = self.0.payload.as_object();
        for name in FIELDS {
            if let Some(value) = fields.and_then(|fields| fields.get(name)) {
                map.serialize_entry(name, &*sent(value))?;
            }
        }
        let more =
            fields.into_iter().flatten().filter(|(name, _)| !FIELDS.contains(&name.as_str()) && *name != "name" && *name != "channel");
        for (name, value) in more {
            map.serialize_entry(name, &*sent(value))?;
        }
        map.end()
    }
}

/// The bytes that are signed and sent.
fn body(now: Duration, events: &[EventRow]) -> Result<String, serde_json::Error> {
    let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    serde_json::to_string(&Body { time_ms, events: events.iter().map(Event).collect() })
}

#[cfg(test)]
#[path = "../../../tests/fuzz/webhooks.rs"]
mod fuzz;
#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
