//! Every refusal of the desk: its status, and one line of plain text, which the page shows.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header::ContentType},
};

use super::orders::NotSaved;
use crate::lifecycle::store::{Fence, StoreError};

#[derive(Debug, thiserror::Error)]
pub(super) enum DeskError {
    /// 403: from another site, or by another name.
    #[error("The order desk is for this machine only: open it as 127.0.0.1 or localhost")]
    Foreign,
    /// 400: not `123.456`.
    #[error("Invalid socket id")]
    SocketId,
    /// 403: not a private channel.
    #[error("The desk signs for private channels only")]
    Channel,
    /// 403: nobody of this name works here.
    #[error("There is no such person at the desk")]
    Person,
    /// 404: it has been cut already, or never was there.
    #[error("There is no such connection")]
    NoWire,
    /// 502: not a WebSocket handshake, or the broker did not take it.
    #[error("The broker did not take the connection")]
    Wire(#[source] std::io::Error),
    /// 404: no lock has this fence.
    #[error("There is no lock with fence {0}")]
    NoLock(Fence),
    /// 409: it ended before.
    #[error("Fence {0} is over")]
    Over(Fence),
    /// 409: the lock that came with a write is not the one that is alive.
    #[error("Fence {given} is over: {current}")]
    NotCurrent {
        /// What came with the write.
        given: Fence,
        /// How things stand.
        current: String,
    },
    /// 404, 409 or 413, by what it says.
    #[error(transparent)]
    NotSaved(#[from] NotSaved),
    /// 400: no place in this log.
    #[error("This is no place in the log")]
    BadCursor,
    /// 503: the broker was told to keep no locks.
    #[error("This broker keeps no locks and no log: its store.url is \"none\"")]
    NoLocks,
    /// 503: the development application is not there.
    #[error("The development application is not there")]
    NoApp,
    /// 503: the store has no answer.
    #[error("The store does not answer")]
    Store(#[source] StoreError),
    /// 500: an answer could not be written.
    #[error("Internal server error")]
    Answer(#[source] serde_json::Error),
}

impl From<StoreError> for DeskError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadCursor => Self::BadCursor,
            error => Self::Store(error),
        }
    }
}

impl ResponseError for DeskError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::SocketId | Self::BadCursor => StatusCode::BAD_REQUEST,
            Self::Foreign | Self::Channel | Self::Person => StatusCode::FORBIDDEN,
            Self::NoWire | Self::NoLock(_) | Self::NotSaved(NotSaved::Unknown) => StatusCode::NOT_FOUND,
            Self::Over(_) | Self::NotCurrent { .. } | Self::NotSaved(NotSaved::Stale { .. }) => StatusCode::CONFLICT,
            Self::NotSaved(NotSaved::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoLocks | Self::NoApp | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Wire(_) => StatusCode::BAD_GATEWAY,
            Self::Answer(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        if let Self::Store(error) = self {
            tracing::warn!(%error, "The order desk gets no answer: {error}");
        }
        HttpResponse::build(self.status_code()).content_type(ContentType::plaintext()).body(self.to_string())
    }
}
