//! Holdline: a Pusher-protocol-compatible realtime broker in which the life of a connection is business data.
//!
//! Point Laravel Echo or pusher-js at it, publish through its HTTP API, and write a [`Handler`] for what an application knows
//! and decides about its connections.
//!
//! # The map
//!
//! | layer | what it is |
//! |---|---|
//! | [`protocol`] | the wire as values: names, frames, signatures |
//! | [`domain`] | channels, connections and users in memory; the [`Handler`] trait |
//! | `lifecycle` | locks, holds, the durable log and its listeners; the end of a connection, where it cannot be lost |
//! | [`cluster`] | the [`Broker`]: what transports call and applications hold |
//! | `connection` | one actor per WebSocket |
//! | `http` | the HTTP API |
//! | [`config`] | what can be configured |
//! | `server` | the parts put together: [`Server`] |
//!
//! The way of a client's frame: `connection::guard` → `connection::machine` → `connection::actor` → [`domain::Hub`] →
//! [`domain::Outbox`] → `connection::body`. The way of a published event: `http::events` → [`Broker`] → [`domain::Hub`] → the
//! same outboxes. `docs::architecture` has the reasons.

#[doc(hidden)]
pub mod cli;
pub mod cluster;
pub mod config;
mod connection;
pub mod domain;
mod http;
mod lifecycle;
pub mod protocol;
mod server;

#[cfg(test)]
#[path = "../tests/fuzz/inside.rs"]
mod fuzz;

/// The long texts, readable as files in `src/docs/`. Files lie beside each other and rustdoc's pages do not, so links have their targets in
/// `links.md` for rustdoc, and at the end of each file for its readers.
pub mod docs {
    #[doc = include_str!("docs/applications.md")]
    pub mod applications {}
    #[doc = include_str!("docs/architecture.md")]
    pub mod architecture {}
    #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
    #[doc = include_str!("docs/dashboard.md")]
    pub mod dashboard {}
    #[doc = include_str!("docs/deploy.md")]
    pub mod deploy {}
    #[doc = include_str!("docs/guarantees.md")]
    pub mod guarantees {}
    #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
    #[doc = include_str!("docs/laravel.md")]
    pub mod laravel {}
    #[doc = include_str!("docs/limits.md")]
    pub mod limits {}
    #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
    #[doc = include_str!("docs/listeners.md")]
    pub mod listeners {}
    #[doc = include_str!("docs/locks.md")]
    pub mod locks {}
    #[doc = include_str!("docs/receipts.md")]
    pub mod receipts {}
    #[doc = include_str!("docs/webhooks.md")]
    pub mod webhooks {}
    #[doc = include_str!("docs/metrics.md")]
    pub mod metrics {}
    #[doc = include_str!("docs/proxies.md")]
    pub mod proxies {}
    #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
    #[doc = include_str!("docs/threat-model.md")]
    pub mod threat_model {}
    #[doc = include_str!("docs/performance.md")]
    pub mod performance {}
    #[doc = include_str!("docs/decisions/0001-the-outbox-ends-connections.md")]
    pub mod decision_0001 {}

    /// Step by step, each command and each piece of code run by a test.
    pub mod guides {
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/first-hour.md")]
        pub mod first_hour {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/order-locks.md")]
        pub mod order_locks {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/handlers.md")]
        pub mod handlers {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/listeners.md")]
        pub mod listeners {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/production.md")]
        pub mod production {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/faq.md")]
        pub mod faq {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/moving-from-pusher.md")]
        pub mod moving_from_pusher {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/moving-from-soketi.md")]
        pub mod moving_from_soketi {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/moving-from-reverb.md")]
        pub mod moving_from_reverb {}
        #[cfg_attr(not(doctest), doc = include_str!("docs/guides/links.md"))]
        #[doc = include_str!("docs/guides/moving-from-laravel-websockets.md")]
        pub mod moving_from_laravel_websockets {}
    }
}

/// Compiles the Rust in README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc(inline)]
pub use cluster::Broker;
pub use config::Settings;
#[doc(inline)]
pub use domain::{Handler, MessageRouter, PerApp};
#[doc(inline)]
pub use lifecycle::{
    Delivered, EventFilter, EventId, Listener, ListenerError, ListenerOptions, LockManager, Retry, TransactionalListener, store,
};
pub use server::{Application, OpenError, Server, ServerError, StopHandle, TlsError, UnixSocketError};

/// What an implementer types: `use holdline::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Application, Broker, Delivered, EventFilter, Handler, Listener, ListenerOptions, MessageRouter, PerApp, Retry, Server, ServerError,
        Settings, StopHandle, TransactionalListener,
        cluster::{NewPublication, PublishError},
        config::AppSettings,
        domain::{
            ClientEvent, CloseCause, Closing, Conflict, Conn, ConnState, ConnectionError, DomainEvent, Fence, Handshake, Hold, IfTaken,
            Mode, NeverOpened, Outcome, Principal, Reject, RouteFuture, Stage, Subscribe,
        },
        protocol::{ChannelName, ChannelPattern, CloseCode, Member, SignedUser, SocketId},
    };
}
