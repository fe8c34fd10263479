//! One actor per WebSocket, and the way there. The only place that knows WebSocket sockets and actix actors.
//!
//! Start with `upgrade.rs` (request → 101) and `peer.rs` (who asks), then `machine.rs` (what the protocol makes of a frame, pure), `actor.rs`
//! and `hooks.rs` (carry it out; by way of `holds.rs` and `calls.rs`, and never back), `link.rs` (the socket, and how it leaves HTTP),
//! `inbound.rs` (what comes in) and `writer.rs` (what goes out).

mod actor;
mod admission;
mod body;
mod calls;
mod doorkeeper;
mod express;
mod forwarded;
mod holds;
mod hooks;
mod inbound;
mod link;
mod liveness;
mod machine;
#[cfg(test)]
mod machine_tests;
mod peer;
mod random;
mod receipts;
mod scanner;
mod settings;
mod upgrade;
mod writer;

#[cfg(test)]
#[path = "../../tests/fuzz/connection.rs"]
mod fuzz;

use std::sync::Arc;

use actix_web::web;

pub(crate) use doorkeeper::{Doorkeeper, household};
pub(crate) use express::{Express, express};
pub(crate) use link::{Handoff, Socket};
pub(crate) use peer::{Peer, TlsPeer, UnixPeer};
pub(crate) use settings::ConnectionSettings;

use crate::{
    cluster::Broker,
    domain::{Handler, Pacer},
    lifecycle::Handover,
};

/// What the connections of one worker share.
pub(crate) struct Transport<H: Handler> {
    /// Applications and their live state.
    pub(crate) broker: Broker,
    /// The application's code.
    pub(crate) handler: Arc<H>,
    /// Who runs `on_close`.
    pub(crate) handover: Handover<H::Conn>,
    /// Who may come in how often.
    pub(crate) door: Arc<Doorkeeper>,
    /// Limits and times.
    pub(crate) settings: Arc<ConnectionSettings>,
    /// The number of this worker.
    pub(crate) worker: usize,
    /// Who wakes its connections, when many are to be woken.
    pub(crate) pacer: Arc<Pacer>,
}

/// Where WebSockets are opened with an application's key alone.
pub(crate) const APP: &str = "/app/{key}";

/// The WebSocket routes.
pub(crate) fn configure<H: Handler>(routes: &mut web::ServiceConfig) {
    for path in [APP, "/ctx/{token}/app/{key}"] {
        let others = web::to(upgrade::method_not_allowed);
        routes.service(web::resource(path).route(web::get().to(upgrade::upgrade::<H>)).default_service(others));
    }
}
