//! A store for the tests of the node: in memory, and as unreachable, slow or strict as the test says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    doorbell::DoorbellSettings,
    hold_table::{News, Notice, Place},
    lock_manager::{LockManager, LockSettings, Notices},
    node::Node,
    store::*,
};
use crate::{domain::Hold, lifecycle::lock_manager::Asking, protocol::SocketId};

/// What does not work at the moment.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Nothing is answered.
    pub(super) down: AtomicBool,
    /// Heartbeats are not answered.
    pub(super) no_heartbeat: AtomicBool,
    /// Reads of locks fail.
    pub(super) no_locks: AtomicBool,
    /// Reads of locks wait until this is false.
    pub(super) locks_hang: AtomicBool,
    /// Comparisons of what is held fail.
    pub(super) no_digest: AtomicBool,
    /// So many reads of single locks fail after the first that comes.
    pub(super) lock_fails: AtomicUsize,
    /// Calls of `commit` wait until this is false.
    pub(super) commits_hang: AtomicBool,
    /// Calls of `declare_dead` never return.
    pub(super) verdicts_hang: AtomicBool,
    /// Signing off is done at once, and answered after a while.
    pub(super) slow_goodbye: AtomicBool,
    /// So many registrations are done, and not answered.
    pub(super) registers_lost: AtomicUsize,
    /// Added to what a heartbeat returns.
    pub(super) others: Mutex<Vec<NodeView>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct FakeStore {
    pub(super) store: SqliteStore,
    pub(super) faults: Faults,
    pub(super) heartbeats: AtomicUsize,
    pub(super) digests: AtomicUsize,
    pub(super) lock_reads: AtomicUsize,
    pub(super) boots: Mutex<Vec<BootId>>,
}

impl FakeStore {
    pub(super) async fn new() -> Arc<Self> {
        let store = SqliteStore::in_memory(StoreLimits::default()).await.unwrap();
        Arc::new(Self {
            store,
            faults: Faults::default(),
            heartbeats: AtomicUsize::new(0),
            digests: AtomicUsize::new(0),
            lock_reads: AtomicUsize::new(0),
            boots: Mutex::default(),
        })
    }

    fn through<'a, T: 'a>(&'a self, fault: &'a AtomicBool, call: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            if fault.load(Ordering::SeqCst) || self.faults.down.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable { source: "the line is cut".into() });
            }
            call.await
        })
    }

    fn reached<'a, T: 'a>(&'a self, call: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        self.through(&self.faults.down, call)
    }

    /// `type resource cause` of the whole log.
    pub(super) async fn log(&self) -> Vec<String> {
        let (log, _) = self.store.events_after(&Cursor::start(1), 10_000).await.unwrap();
        let line = |event: EventRow| match event.cause {
            Some(cause) => format!("{} {} {cause}", event.event_type, event.resource),
            None => format!("{} {}", event.event_type, event.resource),
        };
        log.into_iter().map(line).collect()
    }

    /// Live locks.
    pub(super) async fn live(&self) -> Vec<LockRow> {
        self.store.locks(&LockQuery { limit: 10_000, ..LockQuery::default() }).await.unwrap()
    }
}

/// Passes calls on, unless nothing is reached.
macro_rules! pass {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+) => {
        $(fn $name<'a>(&'a self, $($arg: $type),*) -> StoreFuture<'a, $answer> {
            self.reached(self.store.$name($($arg),*))
        })+
    };
}

impl LifecycleStore for FakeStore {
    fn shards(&self) -> u16 {
        1
    }

    fn register<'a>(&'a self, node: &'a NewNode) -> StoreFuture<'a, Incarnation> {
        self.boots.lock().push(node.boot);
        self.reached(Box::pin(async move {
            // Tests have no time for a lease that a store accepts.
            let incarnation = self.store.register(&NewNode { ttl: node.ttl.max(Duration::from_secs(3)), ..node.clone() }).await?;
            let lost = self.faults.registers_lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if lost.is_ok() { Err(StoreError::TimedOut(Duration::ZERO)) } else { Ok(incarnation) }
        }))
    }

    fn heartbeat(&self, node: Incarnation) -> StoreFuture<'_, Vec<NodeView>> {
        self.heartbeats.fetch_add(1, Ordering::SeqCst);
        let answer = async move {
            let mut nodes = self.store.heartbeat(node).await?;
            nodes.extend(self.faults.others.lock().iter().cloned());
            Ok(nodes)
        };
        self.through(&self.faults.no_heartbeat, Box::pin(answer))
    }

    fn declare_dead(&self, by: Incarnation, node: Incarnation, seen: i64) -> StoreFuture<'_, bool> {
        self.reached(Box::pin(async move {
            if self.faults.verdicts_hang.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            self.store.declare_dead(by, node, seen).await
        }))
    }

    fn deregister(&self, node: Incarnation) -> StoreFuture<'_, bool> {
        self.reached(Box::pin(async move {
            let gone = self.store.deregister(node).await;
            if self.faults.slow_goodbye.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            gone
        }))
    }

    fn commit<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> StoreFuture<'a, Vec<Answer>> {
        self.reached(Box::pin(async move {
            while self.faults.commits_hang.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.store.commit(lane, node, ops).await
        }))
    }

    fn release<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> StoreFuture<'a, u64> {
        self.reached(self.store.release(lane, node, ops))
    }

    fn locks<'a>(&'a self, query: &'a LockQuery) -> StoreFuture<'a, Vec<LockRow>> {
        let answer = async move {
            while self.faults.locks_hang.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.store.locks(query).await
        };
        self.through(&self.faults.no_locks, Box::pin(answer))
    }

    fn digest(&self, node: Incarnation) -> StoreFuture<'_, HoldDigest> {
        self.digests.fetch_add(1, Ordering::SeqCst);
        self.through(&self.faults.no_digest, self.store.digest(node))
    }

    fn lock(&self, fence: Fence) -> StoreFuture<'_, Option<LockRow>> {
        let first = self.lock_reads.fetch_add(1, Ordering::SeqCst) == 0;
        let fails = !first && self.faults.lock_fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if fails {
            return Box::pin(async { Err(StoreError::Unavailable { source: "the line is cut".into() }) });
        }
        self.reached(self.store.lock(fence))
    }

    fn read<'a>(&'a self, claim: &'a Claim, limit: u32) -> StoreFuture<'a, Vec<Delivery>> {
        self.reached(self.store.read(claim, limit))
    }

    fn acknowledge<'a>(&'a self, ack: Ack<'a>) -> StoreFuture<'a, Step> {
        self.reached(self.store.acknowledge(ack))
    }

    pass! {
        set_draining(node: Incarnation) -> ();
        record(node: Incarnation, sightings: &'a Sightings) -> ();
        force_release(by: Incarnation, fence: Fence, cause: CloseCause) -> bool;
        due_shards() -> Vec<Shard>;
        sweep(by: Incarnation, shard: Shard, limit: u32) -> Swept;
        finish_dead(by: Incarnation) -> u64;
        holds_of(node: Incarnation) -> Vec<HeldHold>;
        retain(by: Incarnation, shard: Shard, keep: Duration, limit: u32) -> u64;
        nodes() -> Vec<NodeRow>;
        head() -> Cursor;
        events_after(cursor: &'a Cursor, limit: u32) -> (Vec<EventRow>, Cursor);
        follow(cursor: &'a Cursor, limit: u32) -> (Vec<EventRow>, Cursor);
        event(shard: Shard, position: i64) -> Option<EventRow>;
        create_consumer(name: &'a str, start: StartAt) -> ();
        create_consumer_of(name: &'a str, shard: Shard, start: StartAt) -> ();
        claim_beside(name: &'a str, owner: &'a str, lease: Duration, at_work: &'a [Shard]) -> Vec<Claim>;
        renew_leases(owner: &'a str, lease: Duration) -> u64;
        give_up_leases(owner: &'a str, of: Option<&'a str>) -> u64;
        note_failure(claim: &'a Claim, error: &'a str, retry_in: Duration) -> Step;
        park(claim: &'a Claim, reason: ParkReason, error: Option<&'a str>) -> Step;
        parked(name: &'a str, limit: u32) -> Vec<ParkedRow>;
        parked_heads(name: &'a str, max_attempts: u32, limit: u32) -> Vec<ParkedRow>;
        parked_behind(name: &'a str, first: &'a EventRow, limit: u32) -> Vec<ParkedRow>;
        note_parked_failure(name: &'a str, shard: Shard, position: i64, error: &'a str) -> bool;
        unpark(name: &'a str, shard: Shard, position: i64) -> bool;
        consumers() -> Vec<ConsumerRow>;
        census() -> StoreCensus;
        skip(name: &'a str, shard: Shard, position: i64) -> bool;
        rewind(name: &'a str, to: &'a Cursor) -> ();
        drop_consumer(name: &'a str) -> bool;
        drop_orphan(name: &'a str, idle: Duration) -> bool;
        set_parked_reason(name: &'a str, shard: Shard, position: i64, reason: ParkReason) -> bool;
        dead(query: &'a DeadQuery) -> Vec<ParkedRow>;
        forget_dead(keep: Duration, limit: u32) -> u64;
        app_version() -> i64;
        apps() -> AppTable;
        put_app(app: &'a AppRow, expected: Option<i64>) -> AppWrite;
        delete_app(id: &'a str) -> bool;
        claim_key(by: Incarnation, claim: &'a KeyClaim) -> KeyVerdict;
        answer_key(claim: &'a KeyClaim, answer: &'a str) -> bool;
        give_back_key(claim: &'a KeyClaim) -> bool;
        forget_keys(limit: u32) -> u64;
    }
}

/// What clients were told, in order.
#[derive(Debug, Default)]
pub(super) struct Told(pub(super) Mutex<Vec<Notice>>);

impl Notices for Told {
    fn notify(&self, notice: Notice) {
        self.0.lock().push(notice);
    }
}

impl Told {
    /// `socket news` so far, without details.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |notice: &Notice| {
            let news = match &notice.news {
                News::Lost { resource, cause, .. } => format!("lost {resource} {cause}"),
                News::State { resource, certain: true, .. } => format!("held {resource}"),
                News::State { resource, .. } => format!("uncertain {resource}"),
                News::Free { resource } => format!("free {resource}"),
                News::Close => "close".to_owned(),
            };
            format!("{} {news}", number(notice.place.socket_id))
        };
        self.0.lock().iter().map(line).collect()
    }
}

/// The connection of a number.
pub(super) fn place(n: u128) -> Place {
    Place { app_id: "app".into(), socket_id: SocketId::from_random(n), channel: None }
}

fn number(socket_id: SocketId) -> u128 {
    (0..1_000).find(|n| SocketId::from_random(*n) == socket_id).expect("a connection of this test")
}

/// Longer than a busy machine stands still: nothing runs into it by chance.
pub(super) const LEASE: Duration = Duration::from_secs(3);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// A node in a hurry: what it does by the clock it does many times a second.
pub(super) async fn start(store: &Arc<FakeStore>, change: impl FnOnce(&mut LockSettings)) -> (Node, Arc<Told>) {
    let mut settings = LockSettings {
        node_name: "node".to_owned(),
        naming: Naming::Shared,
        acquire_timeout: ACQUIRE_TIMEOUT,
        heartbeat_interval: Duration::from_millis(50),
        lease: LEASE,
        sweep_interval: Duration::from_millis(30),
        reconcile_interval: Duration::from_secs(60),
        doorbell: DoorbellSettings { poll: Duration::from_millis(50), ..DoorbellSettings::default() },
        retention: Duration::from_secs(60),
        close_on_doubt: false,
        max_holds: 3,
        limits: StoreLimits::default(),
    };
    change(&mut settings);
    let told = Arc::new(Told::default());
    let node = Node::start(Arc::clone(store) as Arc<dyn LifecycleStore>, settings, Arc::clone(&told) as Arc<dyn Notices>, Vec::new());
    (node.await.unwrap(), told)
}

/// A hold without grace.
pub(super) fn hold(resource: &str, user: &str) -> Hold {
    Hold::new(resource, user).event("Order").grace(Duration::ZERO)
}

/// What connection `n` asks for.
pub(super) fn asking(n: u128, holds: impl IntoIterator<Item = Hold>) -> Asking {
    Asking { place: place(n), holds: holds.into_iter().collect(), events: Vec::new() }
}

/// Takes a hold for connection `n`, and tells it.
pub(super) async fn held(locks: &LockManager, n: u128, resource: &str, user: &str) -> Fence {
    let taken = locks.acquire(asking(n, [hold(resource, user)])).await.unwrap();
    locks.told(taken.iter().map(|taken| taken.id));
    taken[0].fence
}

/// Waits for something, for a few seconds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
