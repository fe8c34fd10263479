//! Entries of the log as signed requests to an address of the application: no Rust needed at the other end.
//!
//! The body is the entry as everywhere, with `id` and `time_ms`. It is signed as webhooks are: HMAC-SHA256 of the body with the app's
//! secret. Any 2xx is a receipt. An end of a lock is sent until there is one; of other entries one attempt is made, and more until
//! they are `retry_for` old.

use std::{fmt, time::Duration};

use reqwest::{
    Client, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::Serialize;

use crate::{
    lifecycle::{
        listener::{Delivered, EventFilter, Listener, ListenerOptions, Retry},
        store::{EventKind, EventRow, Timestamp},
    },
    protocol::SigningKey,
};

/// How many resources of one shard are on their way at the same time.
const AT_ONCE: usize = 8;
/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What an [`HttpDelivery`] is made of.
#[derive(Clone)]
pub(crate) struct HttpDeliverySettings {
    /// Under which its offset is stored.
    pub(crate) name: String,
    /// Where to.
    pub(crate) url: String,
    /// `X-Pusher-Key`.
    pub(crate) app_key: String,
    /// What bodies are signed with.
    pub(crate) signing_key: SigningKey,
    /// More headers. They cannot replace its own.
    pub(crate) headers: Vec<(String, String)>,
    /// How old an entry that ends no lock may become.
    pub(crate) retry_for: Duration,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// Which entries; of one app, whose key it is.
    pub(crate) filter: EventFilter,
}

/// Why it cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpSetupError {
    /// Not an address.
    #[error("the url is no http:// or https:// address")]
    Url,
    /// Not a header.
    #[error("{name:?} with its value is no HTTP header")]
    Header {
        /// The header's name. The value may be a secret.
        name: String,
    },
    /// One that it sets itself.
    #[error("the header {name} is set by the delivery itself")]
    OwnHeader {
        /// The header's name.
        name: HeaderName,
    },
    /// No TLS.
    #[error("HTTPS needs the certificates of this system's authorities (package ca-certificates): {0}")]
    Client(#[source] reqwest::Error),
}

impl fmt::Debug for HttpDeliverySettings {
    /// Without address and headers: either may have a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDeliverySettings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Sends each entry to one address.
pub(crate) struct HttpDelivery {
    settings: HttpDeliverySettings,
    url: Url,
    headers: HeaderMap,
    client: Client,
}

impl fmt::Debug for HttpDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDelivery").field("settings", &self.settings).finish_non_exhaustive()
    }
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
        let url = Url::parse(&settings.url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or(HttpSetupError::Url)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let bad = || HttpSetupError::Header { name: name.clone() };
            let name = HeaderName::try_from(name).map_err(|_| bad())?;
            if matches!(name.as_str(), "content-type" | "content-length" | "host" | "x-pusher-key" | "x-pusher-signature")
                || name.as_str().starts_with("x-holdline-")
            {
                return Err(HttpSetupError::OwnHeader { name });
            }
            let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let key = HeaderValue::try_from(&settings.app_key).map_err(|_| HttpSetupError::Header { name: "X-Pusher-Key".to_owned() })?;
        headers.insert("x-pusher-key", key);
        // An error only says that the program has chosen one already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder()
            .user_agent(concat!("holdline/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(settings.timeout);
        // Without HTTPS it shall start on a system that has no certificates, too.
        let client = if url.scheme() == "http" { client.tls_certs_only([]) } else { client };
        Ok(Self { client: client.build().map_err(HttpSetupError::Client)?, settings, url, headers })
    }

    async fn post(&self, event: &Delivered) -> Result<(), Retry> {
        let id = event.id().to_string();
        let body = serde_json::to_string(&Body { id: id.clone(), time_ms: event.at.0, event })?;
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header("x-pusher-signature", self.settings.signing_key.sign(&[&body]))
            .header("x-holdline-event-id", id)
            .header("x-holdline-position", event.position);
        if let Some(fence) = event.fence {
            request = request.header("x-holdline-fence", fence.0);
        }
        match request.body(body).send().await {
            Ok(response) => match response.status() {
                status if status.is_success() => Ok(()),
                status => Err(refused(status, response.headers())),
            },
            // Without the address: it may have a password in it.
            Err(error) => Err(match error.is_connect() {
                true => Retry::unavailable(Retry::from(error.without_url())),
                false => Retry::from(error.without_url()),
            }),
        }
    }
}

fn refused(status: StatusCode, headers: &HeaderMap) -> Retry {
    let hint = if status.is_redirection() { "; redirects are not followed" } else { "" };
    let message = format!("the endpoint answered {status}{hint}");
    let retry = match status {
        // Whoever is in front of it, or itself, says that it is not there for anybody.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Retry::unavailable(message),
        _ => Retry::new(message),
    };
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match seconds.map(Duration::from_secs) {
        Some(wait) => retry.after(wait.min(LONGEST_WAIT)),
        None => retry,
    }
}

impl Listener for HttpDelivery {
    fn name(&self) -> &str {
        &self.settings.name
    }

    async fn handle(&self, event: &Delivered) -> Result<(), Retry> {
        let Err(retry) = self.post(event).await else { return Ok(()) };
        let age = Duration::from_millis(u64::try_from(Timestamp::now().0 - event.at.0).unwrap_or(0));
        if event.kind == EventKind::Unlocked || age < self.settings.retry_for {
            return Err(retry);
        }
        let (name, id, event_type) = (&self.settings.name, event.id(), &event.event_type);
        tracing::warn!(listener.name = %name, event.id = %id, event.type = %event_type, age_ms = age.as_millis() as u64, error = %retry,
            "Listener {name} drops {event_type} {id}, {age:?} old: {retry}");
        Ok(())
    }

    /// It is given up by age, not by attempts.
    fn options(&self) -> ListenerOptions {
        ListenerOptions { filter: self.settings.filter.clone(), max_attempts: u32::MAX, concurrency: AT_ONCE, ..ListenerOptions::default() }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
