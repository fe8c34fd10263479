//! The store for any number of nodes.
//!
//! A write is one auto-committed `SELECT holdline.f(…)`: a broker that stops in the middle of one, for good or for a while, keeps
//! nobody waiting. Each lane has a connection of its own, the heartbeat, the housekeeping, the reader of the log and the record of who is
//! on which channels too, so that no work waits behind another's; reads have a small pool, and keys of publishes another. The logic is
//! in `migrations/postgres`.

mod apps;
mod bell;
mod consumers;
mod diagnosis;
mod keys;
mod nodes;
mod occupancy;
mod options;
mod parked;
mod pooled;
mod reads;
mod rows;
mod schema;
mod session;
mod sweeps;
mod writes;

use std::{str::FromStr, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

pub(crate) use self::diagnosis::Diagnosis;
pub use self::options::PostgresOptions;
pub(crate) use self::pooled::Pooled;
use self::session::{Limits, Slot};
use super::{
    Ack, Answer, AppRow, AppTable, AppWrite, Bell, Claim, CloseCause, CommitOp, ConsumerRow, Cursor, DeadQuery, Delivery, EventRow, Fence,
    HeldHold, HoldDigest, Incarnation, KeyClaim, KeyVerdict, Lane, LifecycleStore, LockQuery, LockRow, Migrated, Migrations, NewNode,
    NodeRow, NodeView, ParkReason, ParkedRow, ReleaseOp, Shard, Sightings, StartAt, Step, StoreCensus, StoreError, StoreFuture,
    StoreLimits, Swept,
};

/// How long a listener's statement may take, ours around it too, and how long it may wait for a connection.
pub(crate) const LISTENER_PATIENCE: Duration = Duration::from_secs(30);
/// Connections of a single kind of work: heartbeat, housekeeping, following, ringing, recording.
const SLOTS: u32 = 5;

/// Locks, holds and the log in PostgreSQL, shared by all nodes that name the same database.
#[derive(Debug)]
pub struct PostgresStore {
    lanes: Vec<Slot>,
    heartbeat: Slot,
    housekeeping: Slot,
    following: Slot,
    ringing: Slot,
    recording: Slot,
    reads: PgPool,
    /// Of keyed publishes, however many there are: nobody reads behind them. Empty where there are none.
    keys: PgPool,
    direct: PgConnectOptions,
    call_timeout: Duration,
    /// What this store's rings carry, so that it knows them.
    own_ring: String,
    listeners: PgPool,
    limits: StoreLimits,
    shards: u16,
}

/// A call on one of the connections for reads. Without an answer in time the connection is thrown away.
macro_rules! read {
    ($self:ident, $connection:ident => $call:expr) => {
        read!($self.reads, $connection => $call)
    };
    ($self:ident.$pool:ident, $connection:ident => $call:expr) => {
        Box::pin(async move {
            let mut pooled = Pooled::of(&$self.$pool, $self.call_timeout).await?;
            let answer = {
                let $connection: &mut sqlx::PgConnection = &mut pooled;
                tokio::time::timeout($self.call_timeout, $call).await
            };
            answer.unwrap_or_else(|_elapsed| {
                pooled.throw_away();
                Err(StoreError::TimedOut($self.call_timeout))
            })
        })
    };
}

impl PostgresStore {
    /// Checks server, schema, rights and isolation, brings the schema up to date if that is allowed, and connects.
    ///
    /// # Errors
    /// Everything [`StoreError`] says about schemas, rights and isolation; [`StoreError::Unavailable`] if nobody answers.
    pub async fn connect(options: PostgresOptions) -> Result<Self, StoreError> {
        let address = address(&options.url)?;
        let direct = options.direct_url.as_deref().map_or_else(|| Ok(address.clone()), self::address)?;
        let limits = Limits { statement: options.statement_timeout, call: options.call_timeout };
        let (_, shards) = schema::prepare(&address, options.migrations, options.shards).await?;
        let slot = || Slot::new(address.clone(), limits);
        let pool = || {
            PgPoolOptions::new()
                .max_connections(options.readers.max(1))
                .acquire_timeout(options.statement_timeout)
                .after_connect(move |connection, _| Box::pin(session::set_up(connection, limits.call)))
                .connect_lazy_with(address.clone())
        };
        let listeners = PgPoolOptions::new()
            .max_connections(options.listeners.max(1))
            .acquire_timeout(LISTENER_PATIENCE)
            .after_connect(|connection, _| Box::pin(session::set_up_listener(connection, LISTENER_PATIENCE)))
            .connect_lazy_with(address.clone());
        Ok(Self {
            lanes: (0..Lane::COUNT).map(|_| slot()).collect(),
            heartbeat: slot(),
            housekeeping: slot(),
            following: slot(),
            ringing: slot(),
            recording: slot(),
            reads: pool(),
            keys: pool(),
            direct,
            call_timeout: limits.call,
            own_ring: uuid::Uuid::new_v4().simple().to_string(),
            listeners,
            limits: options.limits,
            shards,
        })
    }

    /// Brings the schema up to date, and nothing else. A fresh one gets so many shards.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn migrate(url: &str, shards: u16) -> Result<Migrated, StoreError> {
        schema::prepare(&address(url)?, Migrations::Apply, shards).await.map(|(migrated, _)| migrated)
    }

    /// Moves a consumer on, in a transaction of the caller: a listener's effect and its offset are committed together. Roll back on
    /// [`Step::Lost`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and its like.
    pub async fn acknowledge_within(transaction: &mut sqlx::PgConnection, ack: Ack<'_>) -> Result<Step, StoreError> {
        consumers::acknowledge(transaction, ack).await.map_err(StoreError::from)
    }

    /// Forgets a parked entry, in a transaction of the caller, with the effect that it had to wait for. Roll back on false.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and its like.
    pub async fn unpark_within(transaction: &mut sqlx::PgConnection, name: &str, shard: Shard, position: i64) -> Result<bool, StoreError> {
        parked::unpark(transaction, name, shard, position).await.map_err(StoreError::from)
    }

    /// A pool for listeners that keep their effects in this database: the planner is as the server has it, and a statement may take
    /// its time.
    pub fn pool(&self) -> &PgPool {
        &self.listeners
    }

    fn lane(&self, lane: Lane) -> &Slot {
        &self.lanes[usize::from(lane.0) % self.lanes.len()]
    }
}

fn address(url: &str) -> Result<PgConnectOptions, StoreError> {
    let address = PgConnectOptions::from_str(url).map_err(|error| StoreError::BadUrl { source: Box::new(error) })?;
    Ok(address.application_name("holdline"))
}

impl LifecycleStore for PostgresStore {
    fn shards(&self) -> u16 {
        self.shards
    }

    fn register<'a>(&'a self, node: &'a NewNode) -> StoreFuture<'a, Incarnation> {
        Box::pin(nodes::register(&self.heartbeat, node))
    }

    fn heartbeat(&self, node: Incarnation) -> StoreFuture<'_, Vec<NodeView>> {
        Box::pin(nodes::heartbeat(&self.heartbeat, node))
    }

    fn declare_dead(&self, by: Incarnation, node: Incarnation, seen: i64) -> StoreFuture<'_, bool> {
        Box::pin(nodes::declare_dead(&self.housekeeping, by, node, seen))
    }

    fn set_draining(&self, node: Incarnation) -> StoreFuture<'_, ()> {
        Box::pin(nodes::set_draining(&self.housekeeping, node))
    }

    fn deregister(&self, node: Incarnation) -> StoreFuture<'_, bool> {
        Box::pin(nodes::deregister(&self.housekeeping, node))
    }

    fn commit<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> StoreFuture<'a, Vec<Answer>> {
        Box::pin(writes::commit(self.lane(lane), node, ops, &self.limits, self.shards))
    }

    fn release<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> StoreFuture<'a, u64> {
        Box::pin(writes::release(self.lane(lane), node, ops, &self.limits, self.shards))
    }

    fn record<'a>(&'a self, node: Incarnation, sightings: &'a Sightings) -> StoreFuture<'a, ()> {
        Box::pin(occupancy::record(&self.recording, node, sightings, self.shards))
    }

    fn force_release(&self, by: Incarnation, fence: Fence, cause: CloseCause) -> StoreFuture<'_, bool> {
        Box::pin(writes::force_release(&self.housekeeping, by, fence, cause))
    }

    fn due_shards(&self) -> StoreFuture<'_, Vec<Shard>> {
        read!(self, connection => sweeps::due_shards(connection))
    }

    fn sweep(&self, by: Incarnation, shard: Shard, limit: u32) -> StoreFuture<'_, Swept> {
        Box::pin(sweeps::sweep(&self.housekeeping, by, shard, limit))
    }

    fn finish_dead(&self, by: Incarnation) -> StoreFuture<'_, u64> {
        Box::pin(sweeps::finish_dead(&self.housekeeping, by))
    }

    fn digest(&self, node: Incarnation) -> StoreFuture<'_, HoldDigest> {
        read!(self, connection => reads::digest(connection, node))
    }

    fn holds_of(&self, node: Incarnation) -> StoreFuture<'_, Vec<HeldHold>> {
        read!(self, connection => reads::holds_of(connection, node))
    }

    fn retain(&self, by: Incarnation, shard: Shard, keep: Duration, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(sweeps::retain(&self.housekeeping, by, shard, keep, limit))
    }

    fn locks<'a>(&'a self, query: &'a LockQuery) -> StoreFuture<'a, Vec<LockRow>> {
        read!(self, connection => reads::locks(connection, query))
    }

    fn lock(&self, fence: Fence) -> StoreFuture<'_, Option<LockRow>> {
        read!(self, connection => reads::lock(connection, fence))
    }

    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>> {
        read!(self, connection => reads::nodes(connection))
    }

    fn head(&self) -> StoreFuture<'_, Cursor> {
        read!(self, connection => reads::head(connection))
    }

    fn events_after<'a>(&'a self, cursor: &'a Cursor, limit: u32) -> StoreFuture<'a, (Vec<EventRow>, Cursor)> {
        read!(self, connection => reads::events_after(connection, cursor, limit, self.shards))
    }

    fn follow<'a>(&'a self, cursor: &'a Cursor, limit: u32) -> StoreFuture<'a, (Vec<EventRow>, Cursor)> {
        Box::pin(reads::follow(&self.following, cursor, limit, self.shards))
    }

    fn event(&self, shard: Shard, position: i64) -> StoreFuture<'_, Option<EventRow>> {
        read!(self, connection => reads::event(connection, shard, position))
    }

    fn create_consumer<'a>(&'a self, name: &'a str, start: StartAt) -> StoreFuture<'a, ()> {
        read!(self, connection => consumers::create(connection, name, None, start))
    }

    fn create_consumer_of<'a>(&'a self, name: &'a str, shard: Shard, start: StartAt) -> StoreFuture<'a, ()> {
        read!(self, connection => consumers::create(connection, name, Some(shard), start))
    }

    fn claim<'a>(&'a self, name: &'a str, owner: &'a str, lease: Duration) -> StoreFuture<'a, Vec<Claim>> {
        read!(self, connection => consumers::claim(connection, consumers::Asking { name, owner, lease }, None))
    }

    fn claim_beside<'a>(&'a self, name: &'a str, owner: &'a str, lease: Duration, at_work: &'a [Shard]) -> StoreFuture<'a, Vec<Claim>> {
        read!(self, connection => consumers::claim(connection, consumers::Asking { name, owner, lease }, Some(at_work)))
    }

    fn renew_leases<'a>(&'a self, owner: &'a str, lease: Duration) -> StoreFuture<'a, u64> {
        read!(self, connection => consumers::renew_leases(connection, owner, lease))
    }

    fn give_up_leases<'a>(&'a self, owner: &'a str, of: Option<&'a str>) -> StoreFuture<'a, u64> {
        read!(self, connection => consumers::give_up_leases(connection, owner, of))
    }

    fn read<'a>(&'a self, claim: &'a Claim, limit: u32) -> StoreFuture<'a, Vec<Delivery>> {
        read!(self, connection => consumers::read(connection, claim, limit))
    }

    fn acknowledge<'a>(&'a self, ack: Ack<'a>) -> StoreFuture<'a, Step> {
        read!(self, connection => async { Ok(consumers::acknowledge(connection, ack).await?) })
    }

    fn note_failure<'a>(&'a self, claim: &'a Claim, error: &'a str, retry_in: Duration) -> StoreFuture<'a, Step> {
        read!(self, connection => consumers::note_failure(connection, claim, error, retry_in))
    }

    fn park<'a>(&'a self, claim: &'a Claim, reason: ParkReason, error: Option<&'a str>) -> StoreFuture<'a, Step> {
        read!(self, connection => parked::park(connection, claim, reason, error))
    }

    fn parked<'a>(&'a self, name: &'a str, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>> {
        read!(self, connection => parked::list(connection, name, limit))
    }

    fn parked_heads<'a>(&'a self, name: &'a str, max_attempts: u32, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>> {
        read!(self, connection => parked::heads(connection, name, max_attempts, limit))
    }

    fn parked_behind<'a>(&'a self, name: &'a str, first: &'a EventRow, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>> {
        read!(self, connection => parked::behind(connection, name, first, limit))
    }

    fn note_parked_failure<'a>(&'a self, name: &'a str, shard: Shard, position: i64, error: &'a str) -> StoreFuture<'a, bool> {
        read!(self, connection => parked::note_failure(connection, name, shard, position, error))
    }

    fn unpark<'a>(&'a self, name: &'a str, shard: Shard, position: i64) -> StoreFuture<'a, bool> {
        read!(self, connection => async { Ok(parked::unpark(connection, name, shard, position).await?) })
    }

    fn set_parked_reason<'a>(&'a self, name: &'a str, shard: Shard, position: i64, reason: ParkReason) -> StoreFuture<'a, bool> {
        read!(self, connection => parked::set_reason(connection, name, (shard, position), reason))
    }

    fn dead<'a>(&'a self, query: &'a DeadQuery) -> StoreFuture<'a, Vec<ParkedRow>> {
        read!(self, connection => parked::dead(connection, query))
    }

    fn forget_dead(&self, keep: Duration, limit: u32) -> StoreFuture<'_, u64> {
        read!(self, connection => parked::forget_dead(connection, keep, limit))
    }

    fn claim_key<'a>(&'a self, by: Incarnation, claim: &'a KeyClaim) -> StoreFuture<'a, KeyVerdict> {
        read!(self.keys, connection => keys::claim(connection, by, claim))
    }

    fn answer_key<'a>(&'a self, claim: &'a KeyClaim, answer: &'a str) -> StoreFuture<'a, bool> {
        read!(self.keys, connection => keys::answer(connection, claim, answer))
    }

    fn give_back_key<'a>(&'a self, claim: &'a KeyClaim) -> StoreFuture<'a, bool> {
        read!(self.keys, connection => keys::give_back(connection, claim))
    }

    fn forget_keys(&self, limit: u32) -> StoreFuture<'_, u64> {
        read!(self, connection => keys::forget(connection, limit))
    }

    fn consumers(&self) -> StoreFuture<'_, Vec<ConsumerRow>> {
        read!(self, connection => consumers::list(connection))
    }

    fn census(&self) -> StoreFuture<'_, StoreCensus> {
        read!(self, connection => reads::census(connection))
    }

    fn skip<'a>(&'a self, name: &'a str, shard: Shard, position: i64) -> StoreFuture<'a, bool> {
        read!(self, connection => consumers::skip(connection, name, shard, position))
    }

    fn rewind<'a>(&'a self, name: &'a str, to: &'a Cursor) -> StoreFuture<'a, ()> {
        read!(self, connection => consumers::rewind(connection, name, to))
    }

    fn drop_consumer<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool> {
        read!(self, connection => consumers::drop_consumer(connection, name))
    }

    fn drop_orphan<'a>(&'a self, name: &'a str, idle: Duration) -> StoreFuture<'a, bool> {
        read!(self, connection => consumers::drop_orphan(connection, name, idle))
    }

    fn app_version(&self) -> StoreFuture<'_, i64> {
        read!(self, connection => apps::version(connection))
    }

    fn apps(&self) -> StoreFuture<'_, AppTable> {
        read!(self, connection => apps::list(connection))
    }

    fn put_app<'a>(&'a self, app: &'a AppRow, expected: Option<i64>) -> StoreFuture<'a, AppWrite> {
        read!(self, connection => apps::put(connection, app, expected))
    }

    fn delete_app<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        read!(self, connection => apps::delete(connection, id))
    }

    fn ring(&self) -> StoreFuture<'_, ()> {
        Box::pin(bell::ring(&self.ringing, &self.own_ring))
    }

    fn listen(&self) -> StoreFuture<'_, Option<Box<dyn Bell>>> {
        Box::pin(async move {
            let bell = bell::listen(self.direct.clone(), self.own_ring.clone(), self.call_timeout).await?;
            Ok(Some(Box::new(bell) as Box<dyn Bell>))
        })
    }
}
