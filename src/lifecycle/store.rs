//! Where locks, holds and the log are kept, so that they outlive every process that serves them.
//!
//! [`LifecycleStore`] is the contract; [`PostgresStore`] is for any number of nodes, [`SqliteStore`] for one with a data directory,
//! and its in-memory form ([`SqliteStore::in_memory`]) for tests and for those who need no durability. One conformance suite runs over all of them. A store knows
//! values and SQL; no connection, no channel, no handler. The guarantees are in `docs::guarantees`.
//!
//! # The rules every store keeps
//! * A write belongs to an incarnation, and one of a fenced incarnation changes nothing ([`StoreError::Fenced`]).
//! * An op is written whole or not at all, and a replay of it, by the same ids, changes nothing.
//! * Entries of one shard have dense positions in the order of commits; all that concerns one resource is in one shard.
//! * A lock has one `locked` and at most one `unlocked` entry, and no clock decides whether a node lives.
//!
//! # Why a trait object
//! Which store it is, is read from the configuration, and the broker would otherwise carry a type parameter through every layer.
//! The price is one box per call, beside a round trip to a database.

mod apps;
mod bell;
mod census;
mod columns;
mod consumer;
mod directory;
mod error;
mod ids;
mod json;
mod keys;
mod measured;
mod migrate;
#[cfg(feature = "mutants")]
#[allow(dead_code, unreachable_pub, reason = "what `words!` makes is for lists that others see, too")]
pub(crate) mod mutants;
#[cfg(not(feature = "mutants"))]
#[path = "store/no_mutants.rs"]
pub(crate) mod mutants;
mod occupancy;
mod ops;
mod postgres;
mod rows;
mod sqlite;
mod words;

#[cfg(test)]
pub(in crate::lifecycle) mod conformance;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;

pub use apps::{AppRow, AppTable, AppWrite};
pub use bell::{Bell, Ring};
pub use census::StoreCensus;
pub use consumer::{Ack, Claim, ConsumerRow, DeadQuery, Delivery, ParkedPlace, ParkedRow, StartAt, Step};
pub use directory::DataDirectory;
pub(super) use error::is_outage;
pub use error::{Source, StoreError};
pub use ids::{BootId, HoldId, Incarnation, Lane, OpId, Shard, Timestamp};
pub use keys::{KeyClaim, KeyVerdict};
pub(crate) use measured::{MeasuredStore, StoreStats};
pub use migrate::{Migrated, Migrations};
pub use occupancy::{Sighting, Sightings};
pub use ops::{Answer, Certainty, CommitOp, Denied, Ending, Granted, Holder, InvalidOp, NewEvent, NewHold, ReleaseOp, StoreLimits};
pub(crate) use postgres::{Diagnosis, LISTENER_PATIENCE, Pooled};
pub use postgres::{PostgresOptions, PostgresStore};
pub use rows::{Cursor, EventRow, HoldDigest, HolderRow, LockQuery, LockRow, Naming, NewNode, NodeRow, NodeView, Swept};
pub use sqlite::SqliteStore;
pub use words::{EventKind, NodeState, ParkReason};

#[doc(inline)]
pub use crate::domain::{CloseCause, Fence, HoldOutcome, IfTaken, LockState, Mode};

/// What a store's calls return.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Locks, holds, the log and its readers. See the module for what all implementations promise.
///
/// Every call may fail with [`StoreError::Unavailable`] or [`StoreError::TimedOut`]; then it is not known whether a write was done.
/// Dropping a future is such a failure too.
pub trait LifecycleStore: Send + Sync + fmt::Debug {
    /// How many shards the store has; fixed when it was installed.
    fn shards(&self) -> u16;

    /// Makes a process a node. Idempotent by `boot`. With [`Naming::Unique`], predecessors of the name are fenced.
    fn register<'a>(&'a self, node: &'a NewNode) -> StoreFuture<'a, Incarnation>;

    /// Moves the node's counter; all nodes that are not swept, itself included.
    fn heartbeat(&self, node: Incarnation) -> StoreFuture<'_, Vec<NodeView>>;

    /// Fences a node whose counter the caller saw stand at `seen` for its ttl. False if it has moved, or is fenced already.
    fn declare_dead(&self, by: Incarnation, node: Incarnation, seen: i64) -> StoreFuture<'_, bool>;

    /// Says that the node is about to stop. It still writes.
    fn set_draining(&self, node: Incarnation) -> StoreFuture<'_, ()>;

    /// Signs off: what is left is swept, with cause `shutdown`. False if the node was fenced already.
    fn deregister(&self, node: Incarnation) -> StoreFuture<'_, bool>;

    /// Writes connections' outcomes; one answer per op, in their order. A refused op leaves the others alone.
    fn commit<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> StoreFuture<'a, Vec<Answer>>;

    /// Writes the ends of connections, or of some of their holds. Idempotent; holds of other nodes, or none, are passed over. How
    /// many entries the log got.
    fn release<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> StoreFuture<'a, u64>;

    /// Records who is on which channels, and appends the webhooks that follow. A batch is written whole, in order, and once: one whose
    /// number is not above the last of its node changes nothing.
    ///
    /// Fails with [`StoreError::Invalid`] if one of them cannot be stored, and writes nothing: see [`Sighting::validate`].
    fn record<'a>(&'a self, node: Incarnation, sightings: &'a Sightings) -> StoreFuture<'a, ()>;

    /// Ends one lock, whoever holds it. False if it is over already.
    fn force_release(&self, by: Incarnation, fence: Fence, cause: CloseCause) -> StoreFuture<'_, bool>;

    /// Shards that [`Self::sweep`] has work in. A read.
    fn due_shards(&self) -> StoreFuture<'_, Vec<Shard>>;

    /// Drops up to `limit` holds of fenced nodes, and ends up to `limit` graces that are over; the same for what fenced nodes saw on
    /// channels, and for channels and members that have been away for their delay.
    fn sweep(&self, by: Incarnation, shard: Shard, limit: u32) -> StoreFuture<'_, Swept>;

    /// Marks fenced nodes of which nothing is left as swept. How many.
    fn finish_dead(&self, by: Incarnation) -> StoreFuture<'_, u64>;

    /// The digest of a node's holds.
    fn digest(&self, node: Incarnation) -> StoreFuture<'_, HoldDigest>;

    /// All holds of a node, with their fence, app and resource.
    fn holds_of(&self, node: Incarnation) -> StoreFuture<'_, Vec<HeldHold>>;

    /// Deletes up to `limit` of the oldest entries of a shard that are older than `keep`, never past the slowest consumer or a parked
    /// entry; and locks, tombstones and nodes that nothing refers to any more. How many entries. Dead letters hold nothing back: only
    /// their own entries are kept.
    fn retain(&self, by: Incarnation, shard: Shard, keep: Duration, limit: u32) -> StoreFuture<'_, u64>;

    /// Locks, by fence.
    fn locks<'a>(&'a self, query: &'a LockQuery) -> StoreFuture<'a, Vec<LockRow>>;

    /// One lock.
    fn lock(&self, fence: Fence) -> StoreFuture<'_, Option<LockRow>>;

    /// Nodes, newest first.
    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>>;

    /// The end of the log.
    fn head(&self) -> StoreFuture<'_, Cursor>;

    /// Up to `limit` entries after a place, and the place after them.
    fn events_after<'a>(&'a self, cursor: &'a Cursor, limit: u32) -> StoreFuture<'a, (Vec<EventRow>, Cursor)>;

    /// The same, for the one reader through which a node learns what became of its locks: it waits behind nobody else's reads.
    fn follow<'a>(&'a self, cursor: &'a Cursor, limit: u32) -> StoreFuture<'a, (Vec<EventRow>, Cursor)> {
        self.events_after(cursor, limit)
    }

    /// One entry.
    fn event(&self, shard: Shard, position: i64) -> StoreFuture<'_, Option<EventRow>>;

    /// Creates a consumer, if there is none of the name.
    fn create_consumer<'a>(&'a self, name: &'a str, start: StartAt) -> StoreFuture<'a, ()>;

    /// Creates a consumer of one shard only, if there is none of the name there.
    fn create_consumer_of<'a>(&'a self, name: &'a str, shard: Shard, start: StartAt) -> StoreFuture<'a, ()>;

    /// Claims the owner's shards of a consumer, and of those that nobody has a lease on as many as are its share: all, divided by the
    /// owners there are. A claim is newer than all former ones.
    fn claim<'a>(&'a self, name: &'a str, owner: &'a str, lease: Duration) -> StoreFuture<'a, Vec<Claim>> {
        self.claim_beside(name, owner, lease, &[])
    }

    /// As [`Self::claim`], for an owner that looks again: it leaves alone the shards that it is at work on, whose claims stay the
    /// newest. If it has less than its share, those who have more lose the difference to it: they see it when they renew, and it gets
    /// these shards from a later call, when they have had time to finish.
    fn claim_beside<'a>(&'a self, name: &'a str, owner: &'a str, lease: Duration, at_work: &'a [Shard]) -> StoreFuture<'a, Vec<Claim>>;

    /// Renews all leases of an owner in one write. How many.
    fn renew_leases<'a>(&'a self, owner: &'a str, lease: Duration) -> StoreFuture<'a, u64>;

    /// Gives leases of an owner back: all, or those on one consumer.
    fn give_up_leases<'a>(&'a self, owner: &'a str, of: Option<&'a str>) -> StoreFuture<'a, u64>;

    /// The entries after a claim's position.
    ///
    /// Fails with [`StoreError::Trimmed`] or [`StoreError::LogHole`] if the next one is missing.
    fn read<'a>(&'a self, claim: &'a Claim, limit: u32) -> StoreFuture<'a, Vec<Delivery>>;

    /// Moves a consumer on.
    fn acknowledge<'a>(&'a self, ack: Ack<'a>) -> StoreFuture<'a, Step>;

    /// Notes a failed attempt at the entry after the claim's position.
    fn note_failure<'a>(&'a self, claim: &'a Claim, error: &'a str, retry_in: Duration) -> StoreFuture<'a, Step>;

    /// Puts the entry after the claim's position aside, and moves past it.
    fn park<'a>(&'a self, claim: &'a Claim, reason: ParkReason, error: Option<&'a str>) -> StoreFuture<'a, Step>;

    /// Entries that are parked and wait to be tried again, by shard and position; those that must go first, first.
    fn parked<'a>(&'a self, name: &'a str, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>>;

    /// The first parked entry of each resource, if it is to be tried again: an `unlocked` always, others as long as they had less than
    /// `max_attempts`. After these, all that are late.
    fn parked_heads<'a>(&'a self, name: &'a str, max_attempts: u32, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>>;

    /// What is parked about the resource of `first` from there on, in order. What is late or dead does not belong to it, and a `first`
    /// that is late is alone.
    fn parked_behind<'a>(&'a self, name: &'a str, first: &'a EventRow, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>>;

    /// Notes a failed attempt at a parked entry. False if it is parked no more, or dead.
    fn note_parked_failure<'a>(&'a self, name: &'a str, shard: Shard, position: i64, error: &'a str) -> StoreFuture<'a, bool>;

    /// Forgets a parked entry, because it was applied or is to be dropped. False unless it is late, dead, or the first of its resource.
    fn unpark<'a>(&'a self, name: &'a str, shard: Shard, position: i64) -> StoreFuture<'a, bool>;

    /// Lets what follows a parked entry pass ([`ParkReason::Late`]), or gives it up ([`ParkReason::Dead`]). A dead letter that becomes
    /// late is replayed: its attempts are counted anew. False if it is parked no more; nothing becomes poison this way.
    fn set_parked_reason<'a>(&'a self, name: &'a str, shard: Shard, position: i64, reason: ParkReason) -> StoreFuture<'a, bool>;

    /// Dead letters, by consumer, shard and position.
    fn dead<'a>(&'a self, query: &'a DeadQuery) -> StoreFuture<'a, Vec<ParkedRow>>;

    /// Deletes up to `limit` dead letters that were given up longer ago than `keep`. How many.
    fn forget_dead(&self, keep: Duration, limit: u32) -> StoreFuture<'_, u64>;

    /// Claims the key of a publish: of all that ask with it, one may publish at a time. The same claim may be made again.
    fn claim_key<'a>(&'a self, by: Incarnation, claim: &'a KeyClaim) -> StoreFuture<'a, KeyVerdict>;

    /// The publish of a claim was done, and this was answered. False if somebody has taken over.
    fn answer_key<'a>(&'a self, claim: &'a KeyClaim, answer: &'a str) -> StoreFuture<'a, bool>;

    /// The publish of a claim was not done: the key is free again. False if somebody has taken over, or it was answered.
    fn give_back_key<'a>(&'a self, claim: &'a KeyClaim) -> StoreFuture<'a, bool>;

    /// Deletes up to `limit` keys whose time is over; where they are kept in memory, also the oldest of too many. How many.
    fn forget_keys(&self, limit: u32) -> StoreFuture<'_, u64>;

    /// All consumers, shard by shard.
    fn consumers(&self) -> StoreFuture<'_, Vec<ConsumerRow>>;

    /// How many locks and parked entries there are.
    fn census(&self) -> StoreFuture<'_, StoreCensus>;

    /// Skips the entry at `position`, if it is the next. Whoever is at work there loses its claim.
    fn skip<'a>(&'a self, name: &'a str, shard: Shard, position: i64) -> StoreFuture<'a, bool>;

    /// Sets a consumer back (or on) to a place. Whoever is at work loses its claims.
    fn rewind<'a>(&'a self, name: &'a str, to: &'a Cursor) -> StoreFuture<'a, ()>;

    /// Deletes a consumer and what it parked. False if there is none.
    fn drop_consumer<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool>;

    /// As [`Self::drop_consumer`], but only if nobody has owned any of its shards for so long. False if somebody has.
    fn drop_orphan<'a>(&'a self, name: &'a str, idle: Duration) -> StoreFuture<'a, bool>;

    /// Changes with every change of the applications.
    fn app_version(&self) -> StoreFuture<'_, i64>;

    /// All applications, by id.
    fn apps(&self) -> StoreFuture<'_, AppTable>;

    /// Writes an application: a new one, or, with `expected`, one that is still at that version. Its own version and time are ignored.
    fn put_app<'a>(&'a self, app: &'a AppRow, expected: Option<i64>) -> StoreFuture<'a, AppWrite>;

    /// Deletes an application. False if there is none.
    fn delete_app<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;

    /// Wakes those who [listen](Self::listen) on other nodes. Nothing is lost if it fails: they look by themselves, later.
    fn ring(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Opens a bell that hears other nodes' rings; `None` if there can be no other nodes.
    fn listen(&self) -> StoreFuture<'_, Option<Box<dyn Bell>>> {
        Box::pin(async { Ok(None) })
    }
}

/// A hold in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldHold {
    /// Which.
    pub hold: HoldId,
    /// Its lock.
    pub fence: Fence,
    /// Its connection.
    pub socket_id: String,
    /// The application's id.
    pub app: String,
    /// What is locked.
    pub resource: String,
}
