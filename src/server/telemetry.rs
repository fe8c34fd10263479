//! The log: pretty on a terminal, one JSON object a line otherwise, always on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use super::ServerError;
use crate::config::{LogFormat, LogSettings};

/// What the libraries below say is of use to their developers only: an account of the workers, an error for every peer that sends bad
/// bytes, every statement, and an error for every connection that a database which is away does not take, which the broker says itself.
const QUIET: [&str; 4] = ["actix_server=warn", "actix_http=off", "sqlx=off", "sqlx_core=off"];

/// Starts the log of the process. A second call changes nothing: the first subscriber stays.
///
/// # Errors
/// [`ServerError::LogFilter`] when the level is no filter.
pub(super) fn start(settings: &LogSettings) -> Result<(), ServerError> {
    let bad_filter = |source| ServerError::LogFilter { filter: settings.level.clone(), source };
    let mut filter = EnvFilter::try_new(&settings.level).map_err(bad_filter)?;
    // A plain level is about the broker; whoever writes directives gets what they say.
    if !settings.level.contains(['=', ',']) {
        for directive in QUIET {
            filter = filter.add_directive(directive.parse().map_err(bad_filter)?);
        }
    }
    let json = match settings.format {
        LogFormat::Auto => !stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false).with_writer(stderr)).try_init()
    } else {
        registry.with(fmt::layer().with_target(false).with_ansi(stderr().is_terminal()).with_writer(stderr)).try_init()
    };
    if started.is_err() {
        tracing::debug!("A log was there already");
    }
    Ok(())
}
