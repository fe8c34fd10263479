//! The parts put together: what listens, what runs beside it, how it stops. Only wires; knows no rule of the protocol.
//!
//! Start with [`Server`] (the builder), then `bootstrap.rs` (every long-running task) and `shutdown.rs` (the drain).

pub(crate) mod apps;
mod bootstrap;
mod builder;
mod dashboard;
mod desk;
pub(crate) mod endpoints;
mod error;
mod feed;
mod hold_rules;
mod listeners;
mod locks;
mod metrics;
#[cfg(not(feature = "otlp"))]
#[path = "no_otlp.rs"]
mod otlp;
#[cfg(feature = "otlp")]
mod otlp;
mod patience;
mod publisher;
mod serving;
mod shutdown;
mod socket;
mod sockets;
pub(crate) mod store;
mod telemetry;
pub(crate) mod tls;
mod unix_socket;
mod wiring;

pub use bootstrap::{Application, StopHandle};
pub use builder::Server;
pub use error::ServerError;
pub(crate) use socket::room_for_connections;
pub use store::OpenError;
pub use tls::TlsError;
pub use unix_socket::UnixSocketError;

use crate::config::Loaded;

/// Runs a broker as a program of its own: log, runtime, listener, until it is told to stop.
///
/// # Errors
/// [`ServerError`] when it cannot start, or fails.
pub(crate) fn run(loaded: Loaded) -> Result<(), ServerError> {
    let settings = loaded.settings;
    let traces = telemetry::start(&settings.log, &settings.otlp)?;
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let ended = actix::System::new().block_on(async {
        let server = Server::new(settings);
        let desk = desk::Desk::try_new(&server.settings, server.broker());
        let Some(desk) = desk else { return server.run().await };
        let application = server.routes(move |routes| desk.configure(routes)).build().await?;
        if let Some(addr) = application.addrs().first() {
            let scheme = if application.speaks_tls() { "https" } else { "http" };
            tracing::info!("Order desk: {scheme}://{addr}/desk");
        }
        application.run_until_stopped().await
    });
    traces.finish();
    ended
}
