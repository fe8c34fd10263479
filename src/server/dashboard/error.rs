//! Every refusal of the dashboard: its status, and a JSON object with one sentence, which the page shows.

use std::borrow::Cow;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde_json::json;

use crate::{cluster::PublishError, lifecycle::store::StoreError};

#[derive(Debug, thiserror::Error)]
pub(super) enum DashboardError {
    /// 403: without a token, and not from this machine.
    #[error("Without dashboard.token the dashboard is for this machine only: open it as 127.0.0.1 or localhost, or set a token")]
    Foreign,
    /// 403: a page of somebody else.
    #[error("The origin of this page is not allowed: add it to dashboard.allowed_origins")]
    Origin,
    /// 401: none was shown.
    #[error("A token is needed: Authorization: Bearer, and the dashboard.token")]
    NoToken,
    /// 401: not ours.
    #[error("This is not the dashboard.token")]
    WrongToken,
    /// 429: whoever guesses has to wait.
    #[error("Too many wrong tokens from this address: try again in {seconds} s")]
    TooManyTries {
        /// How long.
        seconds: u64,
    },
    /// 400: a field of the body, or a parameter of the query, breaks its rule.
    #[error("{field} {rule}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it must be.
        rule: Cow<'static, str>,
    },
    /// 400: not the JSON that is taken.
    #[error("The request body must be a JSON object: {0}")]
    Body(serde_json::Error),
    /// 400: the body broke off.
    #[error("The request body is incomplete or malformed")]
    BrokenBody,
    /// 413: too much.
    #[error("The request body is too large: at most {max} bytes are allowed")]
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// 404: no application has this id.
    #[error("Unknown app: no application has this id")]
    UnknownApp,
    /// 404: no connection of the application at this node has this id.
    #[error("This connection is not there any more, or is one of another node")]
    UnknownSocket,
    /// 404: no lock of the application has this fence.
    #[error("There is no lock with this fence")]
    UnknownLock,
    /// 409: it ended before.
    #[error("This lock is over already")]
    LockOver,
    /// 404: no dead letter of the application has this id.
    #[error("There is no such dead letter any more")]
    UnknownDeadLetter,
    /// 404: nothing is served here.
    #[error("There is nothing at this path")]
    UnknownPath,
    /// 405: something is, but not so.
    #[error("Method not allowed: this path takes {allow}")]
    Method {
        /// What it takes.
        allow: &'static str,
    },
    /// 409: a subscription that does more than listen.
    #[error("Subscribing to {channel} takes a lock by a rule of this application: send \"take_lock\": true to do so all the same")]
    WouldLock {
        /// The channel.
        channel: String,
    },
    /// 400 or 413: the event cannot be published as it is.
    #[error(transparent)]
    Publish(PublishError),
    /// 503: too much waits to be written.
    #[error("Over capacity: too much waits to be delivered, try again")]
    OverCapacity,
    /// 501: a broker that is configured to keep nothing.
    #[error("This broker keeps no locks and no log: its store.url is \"none\"")]
    NoStore,
    /// 503: whether anything was done is not known.
    #[error("The store does not answer, try again")]
    StoreDown(#[source] StoreError),
    /// 500: the store answered with something that is nobody's fault outside.
    #[error("Internal server error")]
    Store(#[source] StoreError),
}

impl DashboardError {
    pub(super) fn field(field: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::Field { field, rule: rule.into() }
    }

    pub(super) fn response(&self) -> HttpResponse {
        self.error_response()
    }
}

impl From<PublishError> for DashboardError {
    fn from(error: PublishError) -> Self {
        if let PublishError::UnknownApp = error { Self::UnknownApp } else { Self::Publish(error) }
    }
}

impl From<StoreError> for DashboardError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadCursor => Self::field("after", "must be a `next` that this log has given"),
            // A node that is fenced registers anew, as soon as the store answers.
            error if error.is_retryable() || matches!(error, StoreError::Fenced) => Self::StoreDown(error),
            error => Self::Store(error),
        }
    }
}

impl ResponseError for DashboardError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Publish(PublishError::DataTooLarge { .. }) | Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Field { .. } | Self::Body(_) | Self::BrokenBody | Self::Publish(_) => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::Foreign | Self::Origin => StatusCode::FORBIDDEN,
            Self::UnknownApp | Self::UnknownSocket | Self::UnknownLock | Self::UnknownDeadLetter | Self::UnknownPath => {
                StatusCode::NOT_FOUND
            }
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::LockOver | Self::WouldLock { .. } => StatusCode::CONFLICT,
            Self::TooManyTries { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NoStore => StatusCode::NOT_IMPLEMENTED,
            Self::OverCapacity | Self::StoreDown(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Store(error) => tracing::error!(%error, "The dashboard gets no answer: {error}"),
            Self::StoreDown(error) => tracing::debug!(%error, "The dashboard gets no answer: {error}"),
            _ => {}
        }
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Method { allow } => drop(response.insert_header((ALLOW, *allow))),
            Self::TooManyTries { seconds } => drop(response.insert_header((RETRY_AFTER, seconds.to_string()))),
            Self::NoToken | Self::WrongToken => drop(response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"dashboard\""))),
            _ => {}
        }
        let field = if let Self::Field { field, .. } = self { Some(field) } else { None };
        response.json(json!({ "error": self.to_string(), "field": field }))
    }
}
