//! Every refusal of the HTTP side: its status, and one line of plain text for whoever debugs the other end (protocol.md 6.11). The dashboard
//! gives the same ones as JSON.

use std::borrow::Cow;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    },
    web,
};

use super::{HttpSettings, body};
use crate::{cluster::PublishError, domain::TooFast, lifecycle::store::StoreError};

/// Most characters of a client's own text that are sent back to it.
const MAX_ECHO: usize = 2_000;
/// Most characters of its signature: enough to find it by, and never a good one.
const MAX_SIGNATURE_ECHO: usize = 16;

/// Why a request is refused. The display text is what is logged; [`ApiError::text`] is what the client reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// 400: the body broke off, or its chunks are malformed.
    #[error("The request body is incomplete or malformed")]
    BrokenBody,
    /// 408: the body did not come in time.
    #[error("The request body took too long")]
    BodyTooSlow,
    /// 400: not the JSON the endpoint takes.
    #[error("The request body must be a JSON object in UTF-8")]
    NotAnObject,
    /// 400: a field of the body, or a parameter of the query, breaks its rule.
    #[error("{field} {rule}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// 400: more events in one batch than the limit.
    #[error("Batch too large: at most {max} events are allowed, this one has {count}")]
    BatchTooLarge {
        /// The limit.
        max: usize,
        /// What was sent.
        count: usize,
    },
    /// 400: what is signed would be ambiguous.
    #[error("A query parameter is given twice")]
    DuplicateParameter(String),
    /// 400: an attribute that the addressed channels do not have.
    #[error("user_count may only be requested for presence channels")]
    NoUserCount,
    /// 400: an attribute that a list does not show.
    #[error("cache may only be requested for a single channel")]
    NoCacheInList,
    /// 400: members exist on presence channels only.
    #[error("Users can only be retrieved for presence channels")]
    NoUsers,
    /// 400: the event cannot be published as it is.
    #[error(transparent)]
    Publish(PublishError),
    /// 401: a parameter of the authentication is not there.
    #[error("Missing query parameter: {0}")]
    MissingParameter(&'static str),
    /// 401: no application has this key, or another one has it.
    #[error("Unknown auth_key: it is not the key of this app")]
    UnknownKey,
    /// 401: not the version we speak.
    #[error("Invalid auth_version: only 1.0 is supported")]
    Version,
    /// 401: not a number.
    #[error("Invalid auth_timestamp: it must be Unix time in whole seconds")]
    Timestamp,
    /// 401: a replay, or a clock that is wrong.
    #[error("Timestamp expired: Given timestamp ({given}) not within {tolerance}s of server time ({now})")]
    TimestampExpired {
        /// What was sent, in Unix seconds.
        given: u64,
        /// The limit, in seconds.
        tolerance: u64,
        /// Our clock, in Unix seconds.
        now: u64,
    },
    /// 401: the body is not the one that was signed.
    #[error("Invalid body_md5: it must be the lower-case hex MD5 of the request body")]
    BodyMd5,
    /// 401: the signature is not the application's.
    #[error("Invalid signature")]
    Signature {
        /// What is signed; the client has all of it.
        canonical: String,
        /// What the client sent.
        sent: String,
    },
    /// 403: the application is switched off.
    #[error("The app is disabled")]
    AppDisabled,
    /// 404: no application has this id.
    #[error("Unknown app id")]
    UnknownApp,
    /// 404: no connection of the application has this id.
    #[error("Unknown socket id")]
    UnknownSocket,
    /// 404: no lock of the application has this fence. What others have is not said.
    #[error("Unknown fence: there is no such lock")]
    UnknownLock,
    /// 404: no dead letter of the application has this id.
    #[error("Unknown id: there is no such dead letter")]
    UnknownDeadLetter,
    /// 409: the lock is over.
    #[error("The lock is over already")]
    LockOver,
    /// 409: the same publish, by the same key, is at work.
    #[error("A request with this Idempotency-Key is at work, try again")]
    KeyAtWork,
    /// 422: the key belongs to another request.
    #[error("This Idempotency-Key was given with another request: another path or another body")]
    KeyMismatch,
    /// 404: nothing is served here.
    #[error("There is nothing at this path")]
    UnknownPath,
    /// 405: something is, but not so.
    #[error("Method not allowed: this path takes {allow}")]
    Method {
        /// The methods it takes.
        allow: &'static str,
    },
    /// 413: one event has more data than the limit, in bytes.
    #[error("The data content of this event exceeds the allowed maximum ({max} bytes).")]
    DataTooLarge {
        /// The limit.
        max: usize,
    },
    /// 413: the whole body is larger than the limit, in bytes.
    #[error("The request body exceeds the allowed maximum ({max} bytes).")]
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// 429: the application publishes, or asks, faster than it may.
    #[error("Too many {what}: at most {} per second are allowed for this app", limit.per_second)]
    TooFast {
        /// `events` or `requests`.
        what: &'static str,
        /// The limit, and when to try again.
        limit: TooFast,
    },
    /// 503: too much waits to be written.
    #[error("Over capacity: too much waits to be delivered, try again")]
    OverCapacity,
    /// 501: a broker that is configured to keep nothing. Not 404, which says that one lock is not there.
    #[error("This broker keeps no locks and no log: its store.url is \"none\"")]
    NoStore,
    /// 503: whether anything was done is not known; the same request may be sent again.
    #[error("The store does not answer, try again")]
    StoreDown(#[source] StoreError),
    /// 500: the store answered, and would again, with something that is nobody's fault outside.
    #[error("Internal server error")]
    Store(#[source] StoreError),
    /// 500: an answer could not be written.
    #[error("Internal server error")]
    Answer(#[source] serde_json::Error),
    /// 500: a route without its data.
    #[error("Internal server error")]
    NotConfigured,
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::DataTooLarge { max, .. } => Self::DataTooLarge { max },
            PublishError::UnknownApp => Self::UnknownApp,
            other => Self::Publish(other),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        // A node that is fenced registers anew, as soon as the store answers.
        if error.is_retryable() || matches!(error, StoreError::Fenced) { Self::StoreDown(error) } else { Self::Store(error) }
    }
}

impl ApiError {
    /// The line the client reads. What it sent comes back escaped and shortened, so that it stays one line.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Signature { canonical, sent } => format!(
                "Invalid signature: you should have sent HmacSHA256Hex({:?}, your_secret_key), but you sent {:?}",
                shortened(canonical, MAX_ECHO),
                shortened(sent, MAX_SIGNATURE_ECHO)
            ),
            Self::DuplicateParameter(name) => format!("The query parameter {:?} is given twice", shortened(name, MAX_ECHO)),
            other => other.to_string(),
        }
    }

    /// The answer without its text: status, and what a client goes by.
    pub(crate) fn head(&self) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(self.status_code());
        if let Self::Method { allow } = self {
            response.insert_header((ALLOW, HeaderValue::from_static(allow)));
        }
        let after = match self {
            Self::StoreDown(_) | Self::OverCapacity | Self::KeyAtWork => Some(1),
            // Whole seconds, and never too early.
            Self::TooFast { limit, .. } => Some(limit.after.as_millis().div_ceil(1_000).max(1)),
            _ => None,
        };
        if let Some(seconds) = after {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        response
    }

    /// Logs the refusal, once, and gives it back.
    pub(super) fn logged(self, app_id: &str) -> Self {
        let status = self.status_code().as_u16();
        if let Self::Store(source) = &self {
            tracing::error!(
                app.id = app_id,
                error = source as &dyn std::error::Error,
                "Cannot answer a request for app {app_id}: {source}"
            );
            return self;
        }
        tracing::debug!(app.id = app_id, http.status = status, error = %self, "Refused a request for app {app_id} with {status}");
        self
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody
            | Self::NotAnObject
            | Self::Field { .. }
            | Self::BatchTooLarge { .. }
            | Self::DuplicateParameter(_)
            | Self::NoUserCount
            | Self::NoCacheInList
            | Self::NoUsers
            | Self::Publish(_) => StatusCode::BAD_REQUEST,
            Self::MissingParameter(_)
            | Self::UnknownKey
            | Self::Version
            | Self::Timestamp
            | Self::TimestampExpired { .. }
            | Self::BodyMd5
            | Self::Signature { .. } => StatusCode::UNAUTHORIZED,
            Self::AppDisabled => StatusCode::FORBIDDEN,
            Self::UnknownApp | Self::UnknownSocket | Self::UnknownLock | Self::UnknownDeadLetter | Self::UnknownPath => {
                StatusCode::NOT_FOUND
            }
            Self::LockOver | Self::KeyAtWork => StatusCode::CONFLICT,
            Self::KeyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoStore => StatusCode::NOT_IMPLEMENTED,
            Self::TooFast { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::StoreDown(_) | Self::OverCapacity => StatusCode::SERVICE_UNAVAILABLE,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::DataTooLarge { .. } | Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Store(_) | Self::Answer(_) | Self::NotConfigured => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.head();
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
        response.body(self.text())
    }
}

/// The answer to a path that nobody serves; for the default service of the whole server.
pub(crate) async fn not_found(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    refuse(request, payload, ApiError::UnknownPath).await
}

/// The answer to a method that a path does not take.
pub(super) async fn method_not_allowed(request: HttpRequest, payload: web::Payload, allow: &'static str) -> HttpResponse {
    refuse(request, payload, ApiError::Method { allow }).await
}

/// Reads the body away before it refuses: the connection is closed over a body that was never read.
async fn refuse(request: HttpRequest, payload: web::Payload, error: ApiError) -> HttpResponse {
    let limit = request.app_data::<web::Data<HttpSettings>>().map_or(0, |settings| settings.max_request_bytes);
    let discarded = body::discard(payload.into_inner(), request.headers(), limit).await;
    discarded.err().unwrap_or(error).logged("-").error_response()
}

fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_error_is_one_line_with_the_text_that_is_signed() {
        let error = ApiError::Signature { canonical: "POST\n/apps/1/events\na=\"b\"".into(), sent: "x\r\n".into() };
        assert_eq!(
            error.text(),
            r#"Invalid signature: you should have sent HmacSHA256Hex("POST\n/apps/1/events\na=\"b\"", your_secret_key), but you sent "x\r\n""#
        );
        assert_eq!(error.to_string(), "Invalid signature", "the query is not logged");
    }

    #[test]
    fn what_a_client_sent_comes_back_shortened() {
        let error = ApiError::Signature { canonical: "é".repeat(1_000_000), sent: "0123456789abcdefg".repeat(4) };
        assert!(error.text().len() < 2 * MAX_ECHO + 200);
        assert!(error.text().ends_with("but you sent \"0123456789abcdef…\""), "{}", error.text());
    }

    #[test]
    fn too_much_data_is_413_and_all_else_about_an_event_is_400() {
        let large = ApiError::from(PublishError::DataTooLarge { max: 10_240, bytes: 10_241 });
        assert_eq!(large.status_code(), 413);
        assert_eq!(large.text(), "The data content of this event exceeds the allowed maximum (10240 bytes).");
        for error in [PublishError::InvalidChannel, PublishError::NoChannel, PublishError::ReservedEventName, PublishError::InvalidSocketId]
        {
            assert_eq!(ApiError::from(error).status_code(), 400);
        }
    }
}
