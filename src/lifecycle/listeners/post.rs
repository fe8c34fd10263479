//! Signed requests to an address of the application: what every kind of delivery has in common.
//!
//! The body is signed as Pusher's webhooks are: the hexadecimal HMAC-SHA256 of its exact bytes, with the app's secret. Redirects are not
//! followed, no proxy of the system is used, and neither the address nor a header gets into an error: either may have a secret in it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};

use super::signers::Signer;
use crate::{
    domain::FormerKey,
    lifecycle::{
        listener::Retry,
        stats::{PostStats, Posted},
    },
    protocol::SigningKey,
};

/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Where to.
#[derive(Clone)]
pub(crate) struct PostSettings {
    /// Where to.
    pub(crate) url: String,
    /// More headers. They cannot replace its own.
    pub(crate) headers: Vec<(String, String)>,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
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

/// Posts JSON to one address.
pub(crate) struct SignedPost {
    url: Url,
    headers: HeaderMap,
    client: Client,
    stats: Arc<PostStats>,
}

impl fmt::Debug for SignedPost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedPost").finish_non_exhaustive()
    }
}

impl SignedPost {
    /// Checks address and headers, and makes the client.
    ///
    /// # Errors
    /// [`HttpSetupError`].
    pub(crate) fn try_new(settings: PostSettings) -> Result<Self, HttpSetupError> {
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
        // An error only says that the program has chosen one already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder()
            .user_agent(concat!("holdline/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(settings.timeout);
        // Without HTTPS it shall start on a system that has no certificates, too.
        let client = if url.scheme() == "http" { client.tls_certs_only([]) } else { client };
        Ok(Self { client: client.build().map_err(HttpSetupError::Client)?, url, headers, stats: Arc::default() })
    }

    /// Signs a body and sends it; the answer, if it is a 2xx. Its own body is still to be read.
    ///
    /// # Errors
    /// [`Retry`]: an outage when nobody is there, or says that it is not there for anybody.
    pub(super) async fn send(&self, signer: &Signer, body: String, mut headers: HeaderMap) -> Result<Response, Retry> {
        headers.insert("x-pusher-key", HeaderValue::try_from(&signer.app_key)?);
        let former = signer.former_key.as_ref().and_then(FormerKey::valid);
        let again = former.map(|key| (key, body.clone(), headers.clone()));
        match (self.post(&signer.signing_key, body, headers).await?, again) {
            // While a secret is being replaced, the receiver may not know the new one yet.
            (response, Some((former, body, headers))) if is_refusal(response.status()) => taken(self.post(former, body, headers).await?),
            (response, _) => taken(response),
        }
    }

    async fn post(&self, key: &SigningKey, body: String, headers: HeaderMap) -> Result<Response, Retry> {
        let request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header("x-pusher-signature", key.sign(&[&body]))
            .headers(headers)
            .body(body);
        let began = Instant::now();
        let answer = request.send().await;
        let outcome = match &answer {
            Ok(response) if response.status().is_success() => Posted::Delivered,
            Ok(_) => Posted::Refused,
            Err(error) if error.is_timeout() => Posted::TimedOut,
            Err(error) if error.is_connect() => Posted::Unreachable,
            Err(_) => Posted::Failed,
        };
        self.stats.posted(outcome, began.elapsed());
        answer.map_err(broken)
    }

    /// What became of the requests.
    pub(super) fn stats(&self) -> &Arc<PostStats> {
        &self.stats
    }
}

/// Whether an answer may mean that the signature is not what its receiver expects.
fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn taken(response: Response) -> Result<Response, Retry> {
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(refused(status, response.headers())),
    }
}

/// An error of the line, without the address: it may have a password in it.
pub(super) fn broken(error: reqwest::Error) -> Retry {
    match error.is_connect() {
        true => Retry::unavailable(Retry::from(error.without_url())),
        false => Retry::from(error.without_url()),
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
    match headers.get(RETRY_AFTER).and_then(|value| wait(value.to_str().ok()?.trim(), SystemTime::now())) {
        Some(wait) => retry.after(wait.min(LONGEST_WAIT)),
        None => retry,
    }
}

/// `Retry-After`: seconds, or a date.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let seconds = || text.parse().ok().map(Duration::from_secs);
    seconds().or_else(|| httpdate::parse_http_date(text).ok()?.duration_since(now).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_ask_for_time_in_seconds_or_until_a_date() {
        let now = httpdate::parse_http_date("Tue, 14 Nov 2023 22:13:20 GMT").unwrap();
        for (text, expected) in [
            ("7", Some(Duration::from_secs(7))),
            ("Tue, 14 Nov 2023 22:14:20 GMT", Some(Duration::from_secs(60))),
            ("Tue, 14 Nov 2023 22:12:20 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(wait(text, now), expected, "{text}");
        }
    }
}
