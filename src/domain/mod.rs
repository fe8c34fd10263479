//! Channels, connections and users in memory, and what applications decide about them. Synchronous; knows time only as an
//! argument, and no socket, runtime or database.
//!
//! Start with [`Hub`], the live state of one application, then [`Handler`], the public extension point. What waits for one
//! connection is in [`Conn::outbox`]; the lock order is in `docs/locks.md`.

mod app;
mod cause;
mod census;
mod channel;
mod compose;
mod configured_holds;
mod conn;
mod glance;
mod handler;
mod histogram;
mod hold;
mod hub;
mod memory;
mod origin;
mod outbox;
mod outcome;
mod pacer;
mod pairs;
mod per_app;
mod presence;
mod proxies;
mod rates;
mod receipts;
mod registry;
mod router;
mod stats;
mod subscribers;
mod template;
mod users;
mod watch;
mod words;

pub use app::{App, AppLimits, FormerKey, HandshakeAuth};
pub use cause::{CloseCause, Closing};
pub use census::{Census, ChannelCensus};
pub use channel::{ChannelFull, ChannelInfo, Delivery, Join, Joined};
pub use compose::{Both, Only};
pub use configured_holds::{
    ConfiguredHolds, Guest, HoldLimits, HoldRule, HoldRuleError, Means, Misfit, Occasion, OnMismatch, PrincipalFrom,
};
#[cfg(test)]
pub(crate) use conn::tests as conn_tests;
pub use conn::{Conn, ConnState, NewConn};
pub use glance::ChannelGlance;
pub use handler::{ClientEvent, ConnectionError, Handler, Handshake, NeverOpened, Stage, Subscribe};
pub use histogram::{Histogram, HistogramView};
pub(crate) use hold::EventNames;
pub use hold::{Conflict, DomainEvent, Fence, Hold, HoldOutcome, Holder, IfTaken, LockState, Mode, Principal};
pub use hub::{Hub, OverQuota};
pub use memory::{OutboxMemory, Pressure};
pub use origin::OriginPolicy;
pub use outbox::{End, Outbox, Pushed};
pub use outcome::{Outcome, Push, Reject};
pub use pacer::{Pace, Pacer};
pub(crate) use pairs::Pairs;
pub use per_app::{PerApp, Session};
pub use proxies::{NoProxy, TrustedProxies, TrustedProxy};
pub use rates::{Rates, TooFast};
pub use receipts::{Begun, Receipt, Receipts, Sender, Unfinished};
pub use router::{MessageRouter, RouteFuture};
pub use stats::{
    ClientEventRefusal, Counts, EventSource, HandshakeRefusal, Hook, HttpTraffic, HubStats, KeyedPublish, Meter, ReceiptStatus, Traffic,
};
pub use template::{Carrier, Placeholder, Template, TemplateError};
pub use watch::{ChannelWatch, Seen, WebhookFilter, WebhookKind};
pub use words::UnknownWord;
pub(crate) use words::words;
