//! The writer lanes of a node: one connection and one queue each, one call at a time. No timer waits for a batch to fill: what comes
//! while a call is under way makes the next one.
//!
//! A connection's writes go through one lane, so they stay in order. What waits and why is decided in `lane_queue`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::{
    LaneStats,
    lane_queue::{Batch, LaneLimits, LaneQueue, NoAnswer, Replies},
    store::{Answer, CommitOp, Incarnation, Lane, LifecycleStore, ReleaseOp, StoreError, StoreFuture, StoreLimits},
};

/// The part of a store that lanes need.
pub(crate) trait LaneWriter: Send + Sync + 'static {
    /// As [`LifecycleStore::commit`].
    fn commit<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> StoreFuture<'a, Vec<Answer>>;
    /// As [`LifecycleStore::shards`].
    fn shards(&self) -> u16;
    /// As [`LifecycleStore::release`].
    fn release<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> StoreFuture<'a, u64>;
}

impl LaneWriter for dyn LifecycleStore {
    fn shards(&self) -> u16 {
        LifecycleStore::shards(self)
    }

    fn commit<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> StoreFuture<'a, Vec<Answer>> {
        LifecycleStore::commit(self, lane, node, ops)
    }

    fn release<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> StoreFuture<'a, u64> {
        LifecycleStore::release(self, lane, node, ops)
    }
}

type Reply = oneshot::Sender<Result<Answer, NoAnswer>>;

/// All lanes of a node. Cloning is a reference count; tasks end when the last clone is gone.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    lanes: Arc<[Arc<LaneState>]>,
    node: Arc<watch::Sender<Option<Incarnation>>>,
    written: Arc<Notify>,
    accepted: StoreLimits,
    stats: Arc<LaneStats>,
}

#[derive(Debug)]
struct LaneState {
    lane: Lane,
    queue: Mutex<LaneQueue<Reply>>,
    work: Notify,
    idle: Notify,
    /// Ends whose events were left out.
    lost: AtomicU64,
}

impl LaneState {
    /// Says so now and then, and not for each of thousands.
    fn count_lost(&self) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            let lane = self.lane;
            tracing::error!(
                lane = lane.0,
                lost,
                "Events at the ends of {lost} connections of lane {lane} are lost: too many wait for the store"
            );
        }
    }
}

/// How long to wait after a call without an answer: doubled each time, up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Lanes {
    /// Starts the tasks on the runtime this is called on, which must outlive every connection. They wait for an incarnation.
    pub(crate) fn start<W: LaneWriter + ?Sized>(store: Arc<W>, limits: LaneLimits, accepted: StoreLimits) -> Self {
        let (node, _) = watch::channel(None);
        let limits = LaneLimits { shards: store.shards(), ..limits };
        let state = |lane| LaneState {
            lane: Lane(lane),
            queue: Mutex::new(LaneQueue::new(limits)),
            work: Notify::new(),
            idle: Notify::new(),
            lost: AtomicU64::new(0),
        };
        let lanes: Arc<[Arc<LaneState>]> = (0..Lane::COUNT).map(|lane| Arc::new(state(lane))).collect();
        let this = Self { lanes, node: Arc::new(node), written: Arc::new(Notify::new()), accepted, stats: Arc::default() };
        for lane in this.lanes.iter() {
            let running = Running {
                lane: Arc::clone(lane),
                store: Arc::clone(&store),
                node: this.node.subscribe(),
                fence: Arc::downgrade(&this.node),
                written: Arc::clone(&this.written),
                stats: Arc::clone(&this.stats),
            };
            tokio::spawn(running.run());
        }
        this
    }

    /// Lets the lanes write as this incarnation.
    pub(crate) fn write_as(&self, node: Incarnation) {
        self.node.send_replace(Some(node));
    }

    /// Stops them until there is a new incarnation: this one is fenced. What waits is given up, but for events of ended connections.
    pub(crate) fn stop_writing(&self) {
        self.node.send_replace(None);
        for lane in self.lanes.iter() {
            let given_up = lane.queue.lock().fenced(None);
            answer(given_up);
        }
    }

    /// Somebody else has heard that this incarnation is fenced.
    pub(crate) fn found_fenced(&self, node: Incarnation) {
        self.node.send_if_modified(|current| current.take_if(|current| *current == node).is_some());
    }

    /// The incarnation the lanes write as; `None` before the first and after a fencing. Wait for changes to register anew.
    pub(crate) fn node(&self) -> watch::Receiver<Option<Incarnation>> {
        self.node.subscribe()
    }

    /// Woken after writes: time to ring for those who read the log.
    pub(crate) fn written(&self) -> &Arc<Notify> {
        &self.written
    }

    /// Writes an outcome: queued now, answered later. Dropped before the answer, the outcome is withdrawn: what of it was written is released.
    pub(crate) fn commit(&self, op: CommitOp) -> impl Future<Output = Result<Answer, NoAnswer>> + Send + use<> {
        let lane = self.lane(&op.socket_id);
        let (reply, answer) = oneshot::channel();
        let mut withdraw = Withdraw { lane: Arc::clone(lane), op: Some(op.clone()) };
        let refused = lane.queue.lock().push_commit(op, reply).is_err();
        if refused {
            withdraw.op = None;
        } else {
            lane.work.notify_one();
        }
        async move {
            if refused {
                return Err(NoAnswer::Full);
            }
            let answer = answer.await.unwrap_or(Err(NoAnswer::Fenced));
            withdraw.answered();
            answer
        }
    }

    /// Writes an end, sooner or later. Events that cannot be stored, or for which there is no room while the store is away, are left out:
    /// the holds end in any case.
    pub(crate) fn release(&self, mut op: ReleaseOp) {
        if let Err(invalid) = op.validate(&self.accepted) {
            tracing::error!(socket.id = %op.socket_id, error = %invalid, "Events at the end of {} are lost: {invalid}", op.socket_id);
            op.events.clear();
        }
        let lane = self.lane(&op.socket_id);
        let mut queue = lane.queue.lock();
        if !op.events.is_empty() && queue.is_full_of_ends() {
            op.events.clear();
            lane.count_lost();
        }
        let withdrawn = queue.push_release(op);
        drop(queue);
        answer(withdrawn);
        lane.work.notify_one();
    }

    /// Resolves when nothing waits and nothing is under way.
    pub(crate) async fn flushed(&self) {
        for lane in self.lanes.iter() {
            loop {
                let idle = lane.idle.notified();
                if lane.queue.lock().is_idle() {
                    break;
                }
                idle.await;
            }
        }
    }

    /// What was counted of the calls.
    pub(crate) fn stats(&self) -> &Arc<LaneStats> {
        &self.stats
    }

    /// Ops that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queue.lock().len()).sum()
    }

    fn lane(&self, socket_id: &str) -> &Arc<LaneState> {
        &self.lanes[usize::from(Lane::of_socket(socket_id).0) % self.lanes.len()]
    }
}

fn answer(replies: Replies<Reply>) {
    for (reply, answer) in replies {
        // Nobody may be waiting any more.
        let _ = reply.send(answer);
    }
}

/// Withdraws a commit whose caller has gone.
struct Withdraw {
    lane: Arc<LaneState>,
    op: Option<CommitOp>,
}

impl Withdraw {
    fn answered(mut self) {
        self.op = None;
    }
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        if let Some(op) = self.op.take() {
            let withdrawn = self.lane.queue.lock().abandon(&op);
            answer(withdrawn);
            self.lane.work.notify_one();
        }
    }
}

struct Running<W: ?Sized> {
    lane: Arc<LaneState>,
    store: Arc<W>,
    node: watch::Receiver<Option<Incarnation>>,
    fence: std::sync::Weak<watch::Sender<Option<Incarnation>>>,
    written: Arc<Notify>,
    stats: Arc<LaneStats>,
}

impl<W: LaneWriter + ?Sized> Running<W> {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let node = match self.node.wait_for(Option::is_some).await {
                Ok(node) => *node,
                Err(_all_handles_are_gone) => return,
            };
            let Some(node) = node else { continue };
            let (batch, next_trial) = {
                let mut queue = self.lane.queue.lock();
                (queue.next_batch(Instant::now()), queue.next_trial())
            };
            let Some(batch) = batch else {
                self.lane.idle.notify_waiters();
                // Without one, a day is as good as for ever.
                let pause = next_trial.map_or(A_DAY, |at| at.saturating_duration_since(Instant::now()));
                tokio::select! {
                    () = self.lane.work.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                    changed = self.node.changed() => if changed.is_err() { return },
                }
                continue;
            };
            match self.send(node, batch).await {
                Sent::Answered | Sent::Blocked => pause = FIRST_PAUSE,
                Sent::NoAnswer => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn send(&self, node: Incarnation, batch: Batch) -> Sent {
        let lane = self.lane.lane;
        let outcome = match &batch {
            Batch::Commits(ops) => {
                self.stats.commits.note(ops.len() as u64);
                self.store.commit(lane, node, ops).await.map(Some)
            }
            Batch::Releases(ops) => {
                self.stats.releases.note(ops.len() as u64);
                self.store.release(lane, node, ops).await.map(|_| None)
            }
        };
        let mut queue = self.lane.queue.lock();
        let (replies, sent) = match (outcome, batch) {
            (Ok(Some(answers)), Batch::Commits(ops)) => (queue.committed(ops, answers), Sent::Answered),
            (Ok(_), Batch::Releases(ops)) => {
                queue.released(&ops);
                (Vec::new(), Sent::Answered)
            }
            (Ok(None), batch) => (queue.unknown(batch), Sent::NoAnswer),
            (Err(StoreError::Fenced), batch) if self.node.borrow().is_some_and(|current| current != node) => {
                (queue.outlived(batch), Sent::Answered)
            }
            (Err(StoreError::Fenced), batch) => {
                if let Some(fence) = self.fence.upgrade() {
                    fence.send_if_modified(|current| current.take_if(|current| *current == node).is_some());
                }
                (queue.fenced(Some(batch)), Sent::Answered)
            }
            (Err(StoreError::Busy { source }), batch) => {
                tracing::warn!(lane = lane.0, error = %source, "Writer lane {lane} waited for a shard in vain, and goes on without it: {source}");
                (queue.blocked(batch, Instant::now()), Sent::Blocked)
            }
            (Err(error), batch) if error.is_retryable() => {
                tracing::warn!(lane = lane.0, error = %error, "Writer lane {lane} has no answer and tries again: {error}");
                (queue.unknown(batch), Sent::NoAnswer)
            }
            (Err(error), batch) => {
                tracing::error!(lane = lane.0, error = %error, "Writer lane {lane} was refused: {error}");
                (queue.refused(batch), Sent::NoAnswer)
            }
        };
        let idle = queue.is_idle();
        drop(queue);
        answer(replies);
        if idle {
            self.lane.idle.notify_waiters();
        }
        if matches!(sent, Sent::Answered) {
            self.written.notify_one();
        }
        sent
    }
}

enum Sent {
    Answered,
    Blocked,
    NoAnswer,
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
