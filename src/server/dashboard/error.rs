//! Every refusal of the dashboard: its status, and a JSON object with one sentence, which the page shows.

use std::borrow::Cow;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde_json::json;

use crate::{cluster::PublishError, http::ApiError, lifecycle::store::StoreError};

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
    /// 404: no connection of the application at this node has this id.
    #[error("This connection is not there any more, or is one of another node")]
    UnknownSocket,
    /// 409: a subscription that does more than listen.
    #[error("Subscribing to {channel} takes a lock by a rule of this application: send \"take_lock\": true to do so all the same")]
    WouldLock {
        /// The channel.
        channel: String,
    },
    /// What the HTTP API refuses, too.
    #[error(transparent)]
    Api(#[from] ApiError),
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
        Self::Api(error.into())
    }
}

impl From<StoreError> for DashboardError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadCursor => Self::field("after", "must be a `next` that this log has given"),
            error => Self::Api(error.into()),
        }
    }
}

impl ResponseError for DashboardError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Field { .. } | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::Foreign | Self::Origin => StatusCode::FORBIDDEN,
            Self::UnknownSocket => StatusCode::NOT_FOUND,
            Self::WouldLock { .. } => StatusCode::CONFLICT,
            Self::TooManyTries { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Api(error) => error.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Api(ApiError::Store(error)) => tracing::error!(%error, "The dashboard gets no answer: {error}"),
            Self::Api(ApiError::StoreDown(error)) => tracing::debug!(%error, "The dashboard gets no answer: {error}"),
            _ => {}
        }
        let mut response = if let Self::Api(error) = self { error.head() } else { HttpResponse::build(self.status_code()) };
        match self {
            Self::TooManyTries { seconds } => drop(response.insert_header((RETRY_AFTER, seconds.to_string()))),
            Self::NoToken | Self::WrongToken => drop(response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"dashboard\""))),
            _ => {}
        }
        let field = if let Self::Field { field, .. } = self { Some(field) } else { None };
        response.json(json!({ "error": self.to_string(), "field": field }))
    }
}
