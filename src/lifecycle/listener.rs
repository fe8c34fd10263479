//! What an application writes to hear of locks and events: a named reader of the log with an offset of its own.
//!
//! A [`Listener`] is told of each entry at least once; a [`TransactionalListener`] writes to the broker's own PostgreSQL, and its
//! effect is committed together with its offset: exactly once, whatever is killed in between. Neither knows how entries are read,
//! claimed or tried again: that is the dispatcher's.

mod endpoint;
mod erased;
mod filter;
mod retry;

use std::{fmt, future::Future, ops::Deref};

use sqlx::PgConnection;

pub(crate) use self::endpoint::{Batching, ENDPOINT_PREFIX, Endpoint, EndpointOptions, consumer_name, endpoint_of};
pub(crate) use self::erased::{BoxedListener, ErasedListener, ErasedTransactional};
pub(super) use self::retry::{Fault, is_outage};
pub use self::{filter::EventFilter, retry::Retry};
use super::store::{EventRow, StartAt};

/// Hears of each entry of the log at least once, in its order for each resource.
///
/// Entries of one resource come one after the other; those of different resources may come at the same time. An entry that was
/// handled may come again if its process died before the offset was stored: let the effect be one that can be done twice, or
/// recognise the entry by [`Delivered::id`]. What an entry says of a lock counts only for its fence.
///
/// ```
/// use holdline::prelude::*;
///
/// struct Audit;
///
/// impl Listener for Audit {
///     fn name(&self) -> &str {
///         "audit"
///     }
///
///     async fn handle(&self, event: &Delivered) -> Result<(), Retry> {
///         println!("{} {} of {} by {:?}", event.id(), event.event_type, event.resource, event.principal);
///         Ok(())
///     }
/// }
/// ```
pub trait Listener: Send + Sync + 'static {
    /// Under which its offset is stored. Another name is another listener, which begins anew.
    fn name(&self) -> &str;

    /// One entry. An error, a panic, or no answer in time, and the entry comes again.
    fn handle(&self, event: &Delivered) -> impl Future<Output = Result<(), Retry>> + Send;

    /// How it wants to be served.
    fn options(&self) -> ListenerOptions {
        ListenerOptions::default()
    }
}

/// A listener whose effects are rows in the broker's own PostgreSQL: they are committed with its offset, so each entry takes effect
/// exactly once. With another store the server does not start.
///
/// ```
/// use holdline::prelude::*;
///
/// struct Orders;
///
/// impl TransactionalListener for Orders {
///     fn name(&self) -> &str {
///         "orders"
///     }
///
///     async fn handle(&self, transaction: &mut sqlx::PgConnection, event: &Delivered) -> Result<(), Retry> {
///         if event.event_type == "OrderUnlocked" {
///             // The fence: an end of an older lock does not touch a newer one.
///             sqlx::query("UPDATE orders SET locked_by = NULL WHERE id = $1 AND lock_fence = $2")
///                 .bind(event.payload["order_id"].as_str())
///                 .bind(event.fence.map(|fence| fence.0))
///                 .execute(transaction)
///                 .await?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait TransactionalListener: Send + Sync + 'static {
    /// Under which its offset is stored. Another name is another listener, which begins anew.
    fn name(&self) -> &str;

    /// Before its first entry after a start, on each node, in a transaction: make a table, fill it.
    fn prepare(&self, transaction: &mut PgConnection) -> impl Future<Output = Result<(), Retry>> + Send {
        let _ = transaction;
        async { Ok(()) }
    }

    /// One entry, in a transaction that other entries may share and that is not the listener's to end.
    fn handle(&self, transaction: &mut PgConnection, event: &Delivered) -> impl Future<Output = Result<(), Retry>> + Send;

    /// How it wants to be served.
    fn options(&self) -> ListenerOptions {
        ListenerOptions::default()
    }
}

/// How a listener is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Where it begins when its name is new.
    pub start_at: StartAt,
    /// Which entries it is told of.
    pub filter: EventFilter,
    /// After so many failures an entry is left to an operator, with all that comes after it for its resource. An end of a lock is
    /// tried for ever: what it frees would stay locked in the listener's eyes.
    pub max_attempts: u32,
    /// How many resources of one shard it may be told of at the same time; a transactional listener: one.
    pub concurrency: usize,
}

impl Default for ListenerOptions {
    /// From the oldest entry, all of them, 10 attempts, one at a time in each shard.
    fn default() -> Self {
        Self { start_at: StartAt::Beginning, filter: EventFilter::default(), max_attempts: 10, concurrency: 1 }
    }
}

/// An entry of the log, as a listener gets it: its fields are those of the [`EventRow`].
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    event: EventRow,
    attempt: u32,
}

impl Delivered {
    /// An entry at its n-th attempt; for tests of listeners.
    pub fn new(event: EventRow, attempt: u32) -> Self {
        Self { event, attempt }
    }

    /// What the entry is recognised by, for as long as the log lives: shard and position.
    pub fn id(&self) -> EventId {
        EventId { shard: self.event.shard.0, position: self.event.position }
    }

    /// 1 the first time. At least: an attempt that died with its process is not counted.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl Deref for Delivered {
    type Target = EventRow;

    fn deref(&self) -> &EventRow {
        &self.event
    }
}

/// The identity of an entry; printed as `3-71`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    shard: i16,
    position: i64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.position)
    }
}
