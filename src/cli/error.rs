//! What a command can fail of, and its exit code.

use std::{error::Error, io, process::ExitCode};

use thiserror::Error;

use crate::{
    config::ConfigError,
    lifecycle::store::StoreError,
    protocol::ChannelNameError,
    server::{TlsError, store::OpenError},
};

/// The exit code of a command that was refused or failed.
const FAILED: u8 = 1;
/// The exit code of a wrong command line or configuration.
pub(super) const USAGE: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug, Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{url:?} is not the address of a broker: {reason}")]
    Url { url: String, reason: &'static str },
    #[error("{channel}: {source}")]
    Channel { channel: String, source: ChannelNameError },
    #[error("{purpose} needs {flag}, or the --key of a configured application")]
    MissingCredential { purpose: String, flag: &'static str },
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: Box<dyn Error> },
    #[error("{url} answered the handshake with {status}")]
    NoWebSocket { url: String, status: u16 },
    #[error("the broker refused the {what}: {status} {text}")]
    Refused { what: &'static str, status: u16, text: String },
    #[error("the broker refused the subscription to {channel}: {text}")]
    SubscriptionRefused { channel: String, text: String },
    #[error("the broker refused the connection: {code} {text}")]
    ConnectionRefused { code: u16, text: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("{cursor:?} is not a cursor of this log: give one that `holdline events` has printed")]
    Cursor { cursor: String },
    #[error("--app {id:?}: no application of the configuration, or of the table, has this id")]
    UnknownApp { id: String },
    #[error("{address} answers {path} with {status}")]
    NotHealthy { address: String, path: &'static str, status: u16 },
    #[error("{0}")]
    NotThere(String),
    #[error("{0}; --force does it all the same")]
    NeedsForce(String),
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
    #[error("{0}")]
    Sign(String),
    #[error("{url} answered with something that is not a broker's: {source}")]
    Answer { url: String, source: serde_json::Error },
    #[error("the system has no randomness")]
    Random,
    #[error("the system clock stands before 1970")]
    Clock,
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Url { .. }
            | Self::Channel { .. }
            | Self::MissingCredential { .. }
            | Self::Cursor { .. }
            | Self::Sign(_)
            | Self::UnknownApp { .. }
            | Self::Tls(_)
            | Self::Store(OpenError::Memory | OpenError::Nothing | OpenError::UnknownUrl) => USAGE,
            Self::Unreachable { .. }
            | Self::NoWebSocket { .. }
            | Self::Refused { .. }
            | Self::SubscriptionRefused { .. }
            | Self::ConnectionRefused { .. }
            | Self::Store(_)
            | Self::Answer { .. }
            | Self::NotHealthy { .. }
            | Self::NotThere(_)
            | Self::NeedsForce(_)
            | Self::Output(_)
            | Self::Random
            | Self::Clock => FAILED,
        }
    }

    /// Says on the standard error what went wrong; the exit code.
    pub(super) fn report(&self) -> ExitCode {
        report(self);
        ExitCode::from(self.exit_code())
    }
}

/// Says on the standard error what went wrong, and why.
pub(super) fn report(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        // Many errors repeat their source in their own text.
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    eprintln!("holdline: {text}");
}
