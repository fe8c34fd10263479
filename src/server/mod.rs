//! The parts put together: what listens, what runs beside it, how it stops. Only wires; knows no rule of the protocol.
//!
//! Start with [`Server`] (the builder), then `bootstrap.rs` (every long-running task) and `shutdown.rs` (the drain).

mod bootstrap;
mod builder;
mod error;
mod hold_rules;
mod listeners;
mod locks;
mod publisher;
mod shutdown;
mod socket;
pub(crate) mod store;
mod telemetry;
mod wiring;

pub use bootstrap::{Application, StopHandle};
pub use builder::Server;
pub use error::ServerError;
pub use store::OpenError;

use crate::config::Loaded;

/// Runs a broker as a program of its own: log, runtime, listener, until it is told to stop.
///
/// # Errors
/// [`ServerError`] when it cannot start, or fails.
pub(crate) fn run(loaded: Loaded) -> Result<(), ServerError> {
    let settings = loaded.settings;
    telemetry::start(&settings.log)?;
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    actix::System::new().block_on(Server::new(settings).run())
}
