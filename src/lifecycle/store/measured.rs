//! Any store, with a stopwatch: how long each kind of call took, and how it ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Ack, Answer, AppRow, AppTable, AppWrite, Bell, Claim, CloseCause, CommitOp, ConsumerRow, Cursor, DeadQuery, Delivery, EventRow, Fence,
    HeldHold, HoldDigest, Incarnation, KeyClaim, KeyVerdict, Lane, LifecycleStore, LockQuery, LockRow, NewNode, NodeRow, NodeView,
    ParkReason, ParkedRow, ReleaseOp, Shard, Sightings, StartAt, Step, StoreCensus, StoreError, StoreFuture, Swept,
};
use crate::domain::{Histogram, HistogramView};

/// How calls end: a closed list.
const OUTCOMES: [&str; 7] = ["ok", "fenced", "unavailable", "busy", "timed_out", "refused", "dropped"];
const OK: usize = 0;
const DROPPED: usize = 6;

fn outcome<T>(answer: &Result<T, StoreError>) -> usize {
    match answer {
        Ok(_) => OK,
        Err(StoreError::Fenced) => 1,
        Err(StoreError::Unavailable { .. }) => 2,
        Err(StoreError::Busy { .. }) => 3,
        Err(StoreError::TimedOut(_)) => 4,
        Err(_) => 5,
    }
}

/// The calls of a store.
#[derive(Debug)]
pub(crate) struct StoreStats(Vec<[Histogram; OUTCOMES.len()]>);

impl StoreStats {
    fn new() -> Self {
        Self(CALLS.iter().map(|_| std::array::from_fn(|_| Histogram::of_times())).collect())
    }

    fn took(&self, call: Call, outcome: usize, time: Duration) {
        if let Some(histogram) = self.0.get(call as usize).and_then(|outcomes| outcomes.get(outcome)) {
            histogram.took(time);
        }
    }

    /// All that were made: call, outcome, times.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, HistogramView)> {
        let of = |(call, outcomes): (&&'static str, &[Histogram; OUTCOMES.len()])| {
            let views = OUTCOMES.into_iter().zip(outcomes).map(|(outcome, times)| (*call, outcome, times.view()));
            views.filter(|(.., view)| view.count() > 0).collect::<Vec<_>>()
        };
        CALLS.iter().zip(&self.0).flat_map(of)
    }
}

/// A store that is measured.
#[derive(Debug)]
pub(crate) struct MeasuredStore {
    inner: Arc<dyn LifecycleStore>,
    stats: Arc<StoreStats>,
}

impl MeasuredStore {
    pub(crate) fn new(inner: Arc<dyn LifecycleStore>) -> Self {
        Self { inner, stats: Arc::new(StoreStats::new()) }
    }

    pub(crate) fn stats(&self) -> &Arc<StoreStats> {
        &self.stats
    }

    fn measure<'a, T: Send + 'a>(&'a self, call: Call, answer: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let mut watch = Stopwatch { stats: &self.stats, call, began: Instant::now(), outcome: DROPPED };
            let answer = answer.await;
            watch.outcome = outcome(&answer);
            answer
        })
    }
}

/// Notes the time when it is dropped: with the answer, or with whoever has stopped waiting for one.
struct Stopwatch<'a> {
    stats: &'a StoreStats,
    call: Call,
    began: Instant,
    outcome: usize,
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        self.stats.took(self.call, self.outcome, self.began.elapsed());
    }
}

/// Passes every call on. A call that stood in the trait and not here would get the trait's default instead: a test compares the two.
macro_rules! measured {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)+) => {
        const CALLS: &[&str] = &[$(stringify!($name)),+];

        #[allow(non_camel_case_types, reason = "named after the calls")]
        #[derive(Clone, Copy)]
        enum Call { $($name),+ }

        impl LifecycleStore for MeasuredStore {
            fn shards(&self) -> u16 {
                self.inner.shards()
            }

            $(fn $name<'a>(&'a self, $($arg: $type),*) -> StoreFuture<'a, $answer> {
                self.measure(Call::$name, self.inner.$name($($arg),*))
            })+
        }
    };
}

measured! {
    register(node: &'a NewNode) -> Incarnation;
    heartbeat(node: Incarnation) -> Vec<NodeView>;
    declare_dead(by: Incarnation, node: Incarnation, seen: i64) -> bool;
    set_draining(node: Incarnation) -> ();
    deregister(node: Incarnation) -> bool;
    commit(lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> Vec<Answer>;
    release(lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> u64;
    record(node: Incarnation, sightings: &'a Sightings) -> ();
    force_release(by: Incarnation, fence: Fence, cause: CloseCause) -> bool;
    due_shards() -> Vec<Shard>;
    sweep(by: Incarnation, shard: Shard, limit: u32) -> Swept;
    finish_dead(by: Incarnation) -> u64;
    digest(node: Incarnation) -> HoldDigest;
    holds_of(node: Incarnation) -> Vec<HeldHold>;
    retain(by: Incarnation, shard: Shard, keep: Duration, limit: u32) -> u64;
    locks(query: &'a LockQuery) -> Vec<LockRow>;
    lock(fence: Fence) -> Option<LockRow>;
    nodes() -> Vec<NodeRow>;
    head() -> Cursor;
    events_after(cursor: &'a Cursor, limit: u32) -> (Vec<EventRow>, Cursor);
    follow(cursor: &'a Cursor, limit: u32) -> (Vec<EventRow>, Cursor);
    event(shard: Shard, position: i64) -> Option<EventRow>;
    create_consumer(name: &'a str, start: StartAt) -> ();
    create_consumer_of(name: &'a str, shard: Shard, start: StartAt) -> ();
    claim(name: &'a str, owner: &'a str, lease: Duration) -> Vec<Claim>;
    claim_beside(name: &'a str, owner: &'a str, lease: Duration, at_work: &'a [Shard]) -> Vec<Claim>;
    renew_leases(owner: &'a str, lease: Duration) -> u64;
    give_up_leases(owner: &'a str, of: Option<&'a str>) -> u64;
    read(claim: &'a Claim, limit: u32) -> Vec<Delivery>;
    acknowledge(ack: Ack<'a>) -> Step;
    note_failure(claim: &'a Claim, error: &'a str, retry_in: Duration) -> Step;
    park(claim: &'a Claim, reason: ParkReason, error: Option<&'a str>) -> Step;
    parked(name: &'a str, limit: u32) -> Vec<ParkedRow>;
    parked_heads(name: &'a str, max_attempts: u32, limit: u32) -> Vec<ParkedRow>;
    parked_behind(name: &'a str, first: &'a EventRow, limit: u32) -> Vec<ParkedRow>;
    note_parked_failure(name: &'a str, shard: Shard, position: i64, error: &'a str) -> bool;
    unpark(name: &'a str, shard: Shard, position: i64) -> bool;
    set_parked_reason(name: &'a str, shard: Shard, position: i64, reason: ParkReason) -> bool;
    dead(query: &'a DeadQuery) -> Vec<ParkedRow>;
    forget_dead(keep: Duration, limit: u32) -> u64;
    claim_key(by: Incarnation, claim: &'a KeyClaim) -> KeyVerdict;
    answer_key(claim: &'a KeyClaim, answer: &'a str) -> bool;
    give_back_key(claim: &'a KeyClaim) -> bool;
    forget_keys(limit: u32) -> u64;
    consumers() -> Vec<ConsumerRow>;
    skip(name: &'a str, shard: Shard, position: i64) -> bool;
    rewind(name: &'a str, to: &'a Cursor) -> ();
    drop_consumer(name: &'a str) -> bool;
    drop_orphan(name: &'a str, idle: Duration) -> bool;
    app_version() -> i64;
    apps() -> AppTable;
    put_app(app: &'a AppRow, expected: Option<i64>) -> AppWrite;
    delete_app(id: &'a str) -> bool;
    ring() -> ();
    listen() -> Option<Box<dyn Bell>>;
    census() -> StoreCensus;
}

#[cfg(test)]
mod tests {
    use super::{
        super::{SqliteStore, StoreLimits},
        *,
    };

    #[test]
    fn every_call_of_the_trait_is_passed_on() {
        let source = include_str!("../store.rs");
        let (_, body) = source.split_once("pub trait LifecycleStore").unwrap();
        let body = body.split_once("\n}\n").unwrap().0;
        let names = body.lines().filter_map(|line| line.strip_prefix("    fn ")).map(|rest| rest.split(['<', '(']).next().unwrap());
        let expected: Vec<_> = names.filter(|name| *name != "shards").collect();
        assert!(expected.len() > 30, "{expected:?}");
        let sorted = |names: &[&'static str]| names.iter().copied().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(CALLS), sorted(&expected));
    }

    #[tokio::test]
    async fn calls_are_counted_by_how_they_end() {
        let store = MeasuredStore::new(Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap()));
        store.head().await.unwrap();
        store.head().await.unwrap();
        assert!(matches!(store.heartbeat(Incarnation(99)).await, Err(StoreError::Fenced)));
        drop(store.nodes());
        let mut waited_for = store.nodes();
        // Polled once at most: whether it got far enough to have an answer is not said.
        let _ = futures_util::poll!(&mut waited_for);
        drop(waited_for);
        let calls: Vec<_> = store.stats().calls().map(|(call, outcome, view)| (call, outcome, view.count())).collect();
        assert!(calls.contains(&("head", "ok", 2)) && calls.contains(&("heartbeat", "fenced", 1)), "{calls:?}");
        assert_eq!(calls.iter().filter(|(call, ..)| *call == "nodes").map(|(.., count)| count).sum::<u64>(), 1, "{calls:?}");
    }
}
