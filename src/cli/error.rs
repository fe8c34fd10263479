//! What a command can fail of, and its exit code.

use std::{error::Error, io, process::ExitCode};

use thiserror::Error;

use crate::{config::ConfigError, protocol::ChannelNameError};

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
    #[error("the broker refused the event: {status} {text}")]
    PublishRefused { status: u16, text: String },
    #[error("the broker refused the subscription to {channel}: {text}")]
    SubscriptionRefused { channel: String, text: String },
    #[error("the broker refused the connection: {code} {text}")]
    ConnectionRefused { code: u16, text: String },
    #[error("cannot write to the standard output")]
    Output(#[source] io::Error),
    #[error("the system clock stands before 1970")]
    Clock,
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Url { .. } | Self::Channel { .. } | Self::MissingCredential { .. } => USAGE,
            Self::Unreachable { .. }
            | Self::NoWebSocket { .. }
            | Self::PublishRefused { .. }
            | Self::SubscriptionRefused { .. }
            | Self::ConnectionRefused { .. }
            | Self::Output(_)
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
