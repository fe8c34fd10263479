//! The store for one node, in a file or in memory.
//!
//! Two connections: one writes, one reads what was committed; in memory one does both. A write is `BEGIN IMMEDIATE … COMMIT` with
//! `synchronous = FULL`, so what was answered survives a power cut. One process has the file, which the lock on the data directory
//! proves. In memory it is the same code without the file: one set of rules, tested once.

mod apps;
mod consumers;
mod keys;
mod nodes;
mod occupancy;
mod parked;
mod reads;
mod rows;
mod schema;
mod sweeps;
mod write;
mod writes;

use std::{path::Path, time::Duration};

use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use self::keys::Keys;
use super::{
    Ack, Answer, AppRow, AppTable, AppWrite, Claim, CloseCause, CommitOp, ConsumerRow, Cursor, DataDirectory, DeadQuery, Delivery,
    EventRow, Fence, HeldHold, HoldDigest, Incarnation, KeyClaim, KeyVerdict, Lane, LifecycleStore, LockQuery, LockRow, Migrated,
    Migrations, NewNode, NodeRow, NodeView, ParkReason, ParkedRow, ReleaseOp, Shard, Sightings, StartAt, Step, StoreCensus, StoreError,
    StoreFuture, StoreLimits, Swept,
};

/// How long to wait for another process's lock on the file: a backup, a shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many pages are kept in memory; negative: as many as make so many KiB. The default of 2 MB reads the holds of 20,000 connections
/// from the file again and again.
const CACHE_SIZE: &str = "-65536";

/// Holds and graces that one pass ends, before anybody is served: the ids are random, so every pass goes through the whole table.
const SWEEP_LIMIT: u32 = 20_000;

/// Locks, holds and the log in SQLite.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Mutex<SqliteConnection>,
    /// How to open the writer again; in memory there is nothing to open.
    file: Option<SqliteConnectOptions>,
    reader: Option<Mutex<SqliteConnection>>,
    limits: StoreLimits,
    directory: Option<DataDirectory>,
    keys: Keys,
}

impl SqliteStore {
    /// Opens the database in a data directory, and makes it if it is not there.
    ///
    /// # Errors
    /// Everything [`StoreError`] says about schemas; [`StoreError::Unavailable`] if the file cannot be opened.
    pub async fn open(directory: DataDirectory, migrations: Migrations, limits: StoreLimits) -> Result<Self, StoreError> {
        let file = to_write(&directory.database()).create_if_missing(migrations == Migrations::Apply);
        let mut writer = SqliteConnection::connect_with(&file).await?;
        schema::prepare(&mut writer, migrations).await?;
        let reader = SqliteConnection::connect_with(&file.clone().read_only(true)).await?;
        Ok(Self {
            writer: Mutex::new(writer),
            file: Some(file),
            reader: Some(Mutex::new(reader)),
            limits,
            directory: Some(directory),
            keys: Keys::on_disk(),
        })
    }

    /// Opens a database to look at, beside the process that has it. Nothing can be written.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_to_read(database: &Path) -> Result<Self, StoreError> {
        Self::open_beside(file(database).read_only(true)).await
    }

    /// Opens a database for an operator's writes to consumers, beside the process that has it. Each is one transaction that waits for
    /// the other process's, and nothing of a consumer is kept in memory between two of its calls. Do not register a node: that would
    /// fence the process's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_to_operate(database: &Path) -> Result<Self, StoreError> {
        Self::open_beside(to_write(database)).await
    }

    async fn open_beside(file: SqliteConnectOptions) -> Result<Self, StoreError> {
        let mut connection = SqliteConnection::connect_with(&file).await?;
        schema::check(&mut connection).await?;
        Ok(Self {
            writer: Mutex::new(connection),
            file: Some(file),
            reader: None,
            limits: StoreLimits::default(),
            directory: None,
            keys: Keys::on_disk(),
        })
    }

    /// Brings the schema up to date, and nothing else.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn migrate(directory: &DataDirectory) -> Result<Migrated, StoreError> {
        let mut writer = SqliteConnection::connect_with(&to_write(&directory.database()).create_if_missing(true)).await?;
        schema::prepare(&mut writer, Migrations::Apply).await
    }

    /// A database that lives as long as this value.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] without memory for it.
    pub async fn in_memory(limits: StoreLimits) -> Result<Self, StoreError> {
        let mut writer = SqliteConnection::connect_with(&SqliteConnectOptions::new().in_memory(true).foreign_keys(true)).await?;
        schema::prepare(&mut writer, Migrations::Apply).await?;
        Ok(Self { writer: Mutex::new(writer), file: None, reader: None, limits, directory: None, keys: Keys::in_memory() })
    }

    /// The data directory, if there is one.
    pub fn directory(&self) -> Option<&DataDirectory> {
        self.directory.as_ref()
    }

    /// Waits no longer for those who are away from channels: with the next sweep they are gone. For a database in memory, when its process
    /// is about to end: nobody else will ever tell of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_delays(&self) -> Result<(), StoreError> {
        occupancy::end_delays(&mut *self.writer().await).await
    }

    async fn writer(&self) -> MutexGuard<'_, SqliteConnection> {
        let mut writer = self.writer.lock().await;
        if let Some(file) = &self.file
            && writer.is_in_transaction()
        {
            // A call that was cancelled left its rollback in the queue; this waits for it.
            let rolled_back = writer.ping().await.is_ok() && !writer.is_in_transaction();
            // SQLite itself ends a transaction when the disk is full or fails, and the driver, which does not know, begins no other one.
            if !rolled_back && let Ok(anew) = SqliteConnection::connect_with(file).await {
                *writer = anew;
            }
        }
        writer
    }

    #[cfg(test)]
    pub(in crate::lifecycle) async fn writer_for_tests(&self) -> MutexGuard<'_, SqliteConnection> {
        self.writer().await
    }

    async fn reader(&self) -> MutexGuard<'_, SqliteConnection> {
        match &self.reader {
            Some(reader) => reader.lock().await,
            None => self.writer.lock().await,
        }
    }

    /// The end of all earlier processes, before anybody can connect.
    async fn boot(&self, node: &NewNode) -> Result<Incarnation, StoreError> {
        let mut writer = self.writer().await;
        let incarnation = nodes::register(&mut writer, node).await?;
        while let Swept::Done(SWEEP_LIMIT..) = sweeps::sweep(&mut writer, incarnation, SWEEP_LIMIT).await? {}
        sweeps::finish_dead(&mut writer, incarnation).await?;
        Ok(incarnation)
    }
}

fn file(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).foreign_keys(true).pragma("cache_size", CACHE_SIZE)
}

fn to_write(path: &Path) -> SqliteConnectOptions {
    file(path).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full)
}

impl LifecycleStore for SqliteStore {
    fn shards(&self) -> u16 {
        1
    }

    fn register<'a>(&'a self, node: &'a NewNode) -> StoreFuture<'a, Incarnation> {
        Box::pin(self.boot(node))
    }

    fn heartbeat(&self, node: Incarnation) -> StoreFuture<'_, Vec<NodeView>> {
        Box::pin(async move { nodes::heartbeat(&mut *self.writer().await, node).await })
    }

    fn declare_dead(&self, by: Incarnation, node: Incarnation, seen: i64) -> StoreFuture<'_, bool> {
        Box::pin(async move { nodes::declare_dead(&mut *self.writer().await, by, node, seen).await })
    }

    fn set_draining(&self, node: Incarnation) -> StoreFuture<'_, ()> {
        Box::pin(async move { nodes::set_draining(&mut *self.writer().await, node).await })
    }

    fn deregister(&self, node: Incarnation) -> StoreFuture<'_, bool> {
        Box::pin(async move { nodes::deregister(&mut *self.writer().await, node).await })
    }

    fn commit<'a>(&'a self, _lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> StoreFuture<'a, Vec<Answer>> {
        Box::pin(async move { writes::commit(&mut *self.writer().await, node, ops, &self.limits).await })
    }

    fn release<'a>(&'a self, _lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> StoreFuture<'a, u64> {
        Box::pin(async move { writes::release(&mut *self.writer().await, node, ops, &self.limits).await })
    }

    fn record<'a>(&'a self, node: Incarnation, sightings: &'a Sightings) -> StoreFuture<'a, ()> {
        Box::pin(async move { occupancy::record(&mut *self.writer().await, node, sightings).await })
    }

    fn force_release(&self, by: Incarnation, fence: Fence, cause: CloseCause) -> StoreFuture<'_, bool> {
        Box::pin(async move { writes::force_release(&mut *self.writer().await, by, fence, cause).await })
    }

    fn due_shards(&self) -> StoreFuture<'_, Vec<Shard>> {
        Box::pin(async move { sweeps::due_shards(&mut *self.reader().await).await })
    }

    fn sweep(&self, by: Incarnation, _shard: Shard, limit: u32) -> StoreFuture<'_, Swept> {
        Box::pin(async move { sweeps::sweep(&mut *self.writer().await, by, limit).await })
    }

    fn finish_dead(&self, by: Incarnation) -> StoreFuture<'_, u64> {
        Box::pin(async move { sweeps::finish_dead(&mut *self.writer().await, by).await })
    }

    fn digest(&self, node: Incarnation) -> StoreFuture<'_, HoldDigest> {
        Box::pin(async move { reads::digest(&mut *self.reader().await, node).await })
    }

    fn holds_of(&self, node: Incarnation) -> StoreFuture<'_, Vec<HeldHold>> {
        Box::pin(async move { reads::holds_of(&mut *self.reader().await, node).await })
    }

    fn retain(&self, by: Incarnation, _shard: Shard, keep: Duration, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(async move { sweeps::retain(&mut *self.writer().await, by, keep, limit).await })
    }

    fn locks<'a>(&'a self, query: &'a LockQuery) -> StoreFuture<'a, Vec<LockRow>> {
        Box::pin(async move { reads::locks(&mut *self.reader().await, query).await })
    }

    fn lock(&self, fence: Fence) -> StoreFuture<'_, Option<LockRow>> {
        Box::pin(async move { reads::lock(&mut *self.reader().await, fence).await })
    }

    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>> {
        Box::pin(async move { nodes::list(&mut *self.reader().await).await })
    }

    fn head(&self) -> StoreFuture<'_, Cursor> {
        Box::pin(async move { reads::head(&mut *self.reader().await).await })
    }

    fn events_after<'a>(&'a self, cursor: &'a Cursor, limit: u32) -> StoreFuture<'a, (Vec<EventRow>, Cursor)> {
        Box::pin(async move { reads::events_after(&mut *self.reader().await, cursor, limit).await })
    }

    fn event(&self, shard: Shard, position: i64) -> StoreFuture<'_, Option<EventRow>> {
        Box::pin(async move { reads::event(&mut *self.reader().await, shard, position).await })
    }

    fn create_consumer<'a>(&'a self, name: &'a str, start: StartAt) -> StoreFuture<'a, ()> {
        Box::pin(async move { consumers::create(&mut *self.writer().await, name, None, start).await })
    }

    fn create_consumer_of<'a>(&'a self, name: &'a str, shard: Shard, start: StartAt) -> StoreFuture<'a, ()> {
        Box::pin(async move { consumers::create(&mut *self.writer().await, name, Some(shard), start).await })
    }

    fn claim_beside<'a>(&'a self, name: &'a str, owner: &'a str, lease: Duration, at_work: &'a [Shard]) -> StoreFuture<'a, Vec<Claim>> {
        Box::pin(async move { consumers::claim(&mut *self.writer().await, name, owner, lease, at_work).await })
    }

    fn renew_leases<'a>(&'a self, owner: &'a str, lease: Duration) -> StoreFuture<'a, u64> {
        Box::pin(async move { consumers::renew_leases(&mut *self.writer().await, owner, lease).await })
    }

    fn give_up_leases<'a>(&'a self, owner: &'a str, of: Option<&'a str>) -> StoreFuture<'a, u64> {
        Box::pin(async move { consumers::give_up_leases(&mut *self.writer().await, owner, of).await })
    }

    fn read<'a>(&'a self, claim: &'a Claim, limit: u32) -> StoreFuture<'a, Vec<Delivery>> {
        Box::pin(async move { consumers::read(&mut *self.reader().await, claim, limit).await })
    }

    fn acknowledge<'a>(&'a self, ack: Ack<'a>) -> StoreFuture<'a, Step> {
        Box::pin(async move { consumers::acknowledge(&mut *self.writer().await, ack).await })
    }

    fn note_failure<'a>(&'a self, claim: &'a Claim, error: &'a str, retry_in: Duration) -> StoreFuture<'a, Step> {
        Box::pin(async move { consumers::note_failure(&mut *self.writer().await, claim, error, retry_in).await })
    }

    fn park<'a>(&'a self, claim: &'a Claim, reason: ParkReason, error: Option<&'a str>) -> StoreFuture<'a, Step> {
        Box::pin(async move { parked::park(&mut *self.writer().await, claim, reason, error).await })
    }

    fn parked<'a>(&'a self, name: &'a str, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>> {
        Box::pin(async move { parked::list(&mut *self.reader().await, name, limit).await })
    }

    fn parked_heads<'a>(&'a self, name: &'a str, max_attempts: u32, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>> {
        Box::pin(async move { parked::heads(&mut *self.reader().await, name, max_attempts, limit).await })
    }

    fn parked_behind<'a>(&'a self, name: &'a str, first: &'a EventRow, limit: u32) -> StoreFuture<'a, Vec<ParkedRow>> {
        Box::pin(async move { parked::behind(&mut *self.reader().await, name, first, limit).await })
    }

    fn note_parked_failure<'a>(&'a self, name: &'a str, shard: Shard, position: i64, error: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { parked::note_failure(&mut *self.writer().await, name, shard, position, error).await })
    }

    fn unpark<'a>(&'a self, name: &'a str, shard: Shard, position: i64) -> StoreFuture<'a, bool> {
        Box::pin(async move { parked::unpark(&mut *self.writer().await, name, shard, position).await })
    }

    fn set_parked_reason<'a>(&'a self, name: &'a str, shard: Shard, position: i64, reason: ParkReason) -> StoreFuture<'a, bool> {
        Box::pin(async move { parked::set_reason(&mut *self.writer().await, name, (shard, position), reason).await })
    }

    fn dead<'a>(&'a self, query: &'a DeadQuery) -> StoreFuture<'a, Vec<ParkedRow>> {
        Box::pin(async move { parked::dead(&mut *self.reader().await, query).await })
    }

    fn forget_dead(&self, keep: Duration, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(async move { parked::forget_dead(&mut *self.writer().await, keep, limit).await })
    }

    fn claim_key<'a>(&'a self, by: Incarnation, claim: &'a KeyClaim) -> StoreFuture<'a, KeyVerdict> {
        Box::pin(async move { self.keys.claim(&mut *self.writer().await, by, claim).await })
    }

    fn answer_key<'a>(&'a self, claim: &'a KeyClaim, answer: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { keys::answer(&mut *self.writer().await, claim, answer).await })
    }

    fn give_back_key<'a>(&'a self, claim: &'a KeyClaim) -> StoreFuture<'a, bool> {
        Box::pin(async move { keys::give_back(&mut *self.writer().await, claim).await })
    }

    fn forget_keys(&self, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(async move { self.keys.forget(&mut *self.writer().await, limit).await })
    }

    fn consumers(&self) -> StoreFuture<'_, Vec<ConsumerRow>> {
        Box::pin(async move { consumers::list(&mut *self.reader().await).await })
    }

    fn census(&self) -> StoreFuture<'_, StoreCensus> {
        Box::pin(async move { reads::census(&mut *self.reader().await).await })
    }

    fn skip<'a>(&'a self, name: &'a str, shard: Shard, position: i64) -> StoreFuture<'a, bool> {
        Box::pin(async move { consumers::skip(&mut *self.writer().await, name, shard, position).await })
    }

    fn rewind<'a>(&'a self, name: &'a str, to: &'a Cursor) -> StoreFuture<'a, ()> {
        Box::pin(async move { consumers::rewind(&mut *self.writer().await, name, to).await })
    }

    fn drop_consumer<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { consumers::drop_consumer(&mut *self.writer().await, name).await })
    }

    fn drop_orphan<'a>(&'a self, name: &'a str, idle: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move { consumers::drop_orphan(&mut *self.writer().await, name, idle).await })
    }

    fn app_version(&self) -> StoreFuture<'_, i64> {
        Box::pin(async move { apps::version(&mut *self.reader().await).await })
    }

    fn apps(&self) -> StoreFuture<'_, AppTable> {
        Box::pin(async move { apps::list(&mut *self.reader().await).await })
    }

    fn put_app<'a>(&'a self, app: &'a AppRow, expected: Option<i64>) -> StoreFuture<'a, AppWrite> {
        Box::pin(async move { apps::put(&mut *self.writer().await, app, expected).await })
    }

    fn delete_app<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { apps::delete(&mut *self.writer().await, id).await })
    }
}
