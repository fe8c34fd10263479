//! Entries of the log as signed requests to an address of the application: no Rust needed at the other end.
//!
//! The body is the entry as everywhere, with `id` and `time_ms`. It is signed as webhooks are: HMAC-SHA256 of the body with the app's
//! secret. Any 2xx is a receipt. An end of a lock is sent until there is one; of other entries one attempt is made, and more until
//! they are `retry_for` old.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;

pub(crate) use super::post::HttpSetupError;
use super::{
    post::{PostSettings, SignedPost},
    signers::Signers,
};
use crate::lifecycle::{
    PostStats,
    listener::{Delivered, EventFilter, Listener, ListenerOptions, Retry},
    store::{EventKind, EventRow, Timestamp},
};

/// How many resources of one shard are on their way at the same time.
const AT_ONCE: usize = 8;

/// What an [`HttpDelivery`] is made of.
#[derive(Clone)]
pub(crate) struct HttpDeliverySettings {
    /// Under which its offset is stored.
    pub(crate) name: String,
    /// Where to.
    pub(crate) url: String,
    /// In whose name: that of each entry's application.
    pub(crate) signers: Signers,
    /// More headers. They cannot replace its own.
    pub(crate) headers: Vec<(String, String)>,
    /// How old an entry that ends no lock may become.
    pub(crate) retry_for: Duration,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// Which entries.
    pub(crate) filter: EventFilter,
}

impl fmt::Debug for HttpDeliverySettings {
    /// Without address and headers: either may have a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDeliverySettings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Sends each entry to one address.
#[derive(Debug)]
pub(crate) struct HttpDelivery {
    name: String,
    retry_for: Duration,
    filter: EventFilter,
    signers: Signers,
    post: SignedPost,
}

#[derive(Serialize)]
struct Body<'a> {
    id: String,
    time_ms: i64,
    #[serde(flatten)]
    event: &'a EventRow,
}

impl HttpDelivery {
    /// Checks address and headers, and makes the client.
    ///
    /// # Errors
    /// [`HttpSetupError`].
    pub(crate) fn try_new(settings: HttpDeliverySettings) -> Result<Self, HttpSetupError> {
        let HttpDeliverySettings { name, url, signers, headers, retry_for, timeout, filter } = settings;
        Ok(Self { name, retry_for, filter, signers, post: SignedPost::try_new(PostSettings { url, headers, timeout })? })
    }

    /// What became of its requests.
    pub(crate) fn stats(&self) -> &Arc<PostStats> {
        self.post.stats()
    }

    async fn post(&self, event: &Delivered) -> Result<(), Retry> {
        let Some(signer) = self.signers.of(&event.app).await? else {
            let (name, id, event_type, app) = (&self.name, event.id(), &event.event_type, &event.app);
            tracing::warn!(listener.name = %name, event.id = %id, event.type = %event_type, app.id = %app,
                "Listener {name} drops {event_type} {id}: there is no application {app} any more to sign it");
            return Ok(());
        };
        let id = event.id().to_string();
        let mut headers = HeaderMap::new();
        headers.insert("x-holdline-event-id", HeaderValue::try_from(&id)?);
        headers.insert("x-holdline-position", event.position.into());
        if let Some(fence) = event.fence {
            headers.insert("x-holdline-fence", fence.0.into());
        }
        let body = serde_json::to_string(&Body { id, time_ms: event.at.0, event })?;
        self.post.send(&signer, body, headers).await.map(drop)
    }
}

impl Listener for HttpDelivery {
    fn name(&self) -> &str {
        &self.name
    }

    async fn handle(&self, event: &Delivered) -> Result<(), Retry> {
        let Err(retry) = self.post(event).await else { return Ok(()) };
        let age = Duration::from_millis(u64::try_from(Timestamp::now().0 - event.at.0).unwrap_or(0));
        if event.kind == EventKind::Unlocked || age < self.retry_for {
            return Err(retry);
        }
        let (name, id, event_type) = (&self.name, event.id(), &event.event_type);
        tracing::warn!(listener.name = %name, event.id = %id, event.type = %event_type, age_ms = age.as_millis() as u64, error = %retry,
            "Listener {name} drops {event_type} {id}, {age:?} old: {retry}");
        Ok(())
    }

    /// It is given up by age, not by attempts.
    fn options(&self) -> ListenerOptions {
        ListenerOptions { filter: self.filter.clone(), max_attempts: u32::MAX, concurrency: AT_ONCE, ..ListenerOptions::default() }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
pub(in crate::lifecycle) mod tests;
