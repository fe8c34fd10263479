//! The node's side of the locks: takes what connections ask for to the store, remembers what they hold, and lets go at their end.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    LockStats,
    doorbell::DoorbellSettings,
    hold_table::{HoldTable, Notice, Place, Taken},
    lane_queue::NoAnswer,
    lanes::Lanes,
    store::{
        Answer, Certainty, CloseCause, CommitOp, Ending, EventKind, Fence, HoldId, Incarnation, InvalidOp, LifecycleStore, LockQuery,
        Naming, NewEvent, NewHold, OpId, ReleaseOp, StoreError, StoreLimits,
    },
};
use crate::{
    domain::{Conflict, DomainEvent, EventNames, Hold, Holder},
    protocol::SocketId,
};

/// How a node keeps its locks.
#[derive(Clone, Debug)]
pub(crate) struct LockSettings {
    /// The node's name.
    pub(crate) node_name: String,
    /// Whether nobody else can have it.
    pub(crate) naming: Naming,
    /// How long a connection waits for its hold.
    pub(crate) acquire_timeout: Duration,
    /// How often the node shows that it lives.
    pub(crate) heartbeat_interval: Duration,
    /// How long it may be silent before the others declare it dead.
    pub(crate) lease: Duration,
    /// How often work for the sweep is looked for.
    pub(crate) sweep_interval: Duration,
    /// How often the table of holds is compared with memory.
    pub(crate) reconcile_interval: Duration,
    /// When readers of the log are woken.
    pub(crate) doorbell: DoorbellSettings,
    /// How old entries of the log become.
    pub(crate) retention: Duration,
    /// Whether connections that hold something are closed as soon as the lease is in doubt.
    pub(crate) close_on_doubt: bool,
    /// Holds of one connection.
    pub(crate) max_holds: usize,
    /// Of single values.
    pub(crate) limits: StoreLimits,
}

/// Who tells clients what became of their locks.
pub(crate) trait Notices: Send + Sync {
    /// Tells one. A connection that is gone hears nothing.
    fn notify(&self, notice: Notice);
}

/// The locks of a node. Cloning is a reference count.
#[derive(Clone)]
pub struct LockManager(Arc<Inner>);

struct Inner {
    store: Arc<dyn LifecycleStore>,
    lanes: Lanes,
    table: Mutex<HoldTable>,
    notices: Arc<dyn Notices>,
    settings: LockSettings,
    doubtful: AtomicBool,
    /// Set for good when a part of the node has failed.
    broken: AtomicBool,
    /// Rung when the store is back: what is remembered is to be compared.
    recovered: Notify,
    stats: LockStats,
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager").field("store", &self.0.store).field("incarnation", &self.incarnation()).finish_non_exhaustive()
    }
}

/// What one connection asks for: all of it is written, or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) place: Place,
    pub(crate) holds: Vec<Hold>,
    pub(crate) events: Vec<DomainEvent>,
}

/// Why a connection does not get what it asked for; nothing is written then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Somebody else has it.
    #[error("{} is held by somebody else", .0.hold.resource())]
    Conflict(Box<Conflict>),
    /// The store does not answer in time, or this node has lost touch with it.
    #[error("the store does not answer")]
    Unavailable,
    /// The connection ended first.
    #[error("the connection ended first")]
    Ended,
    /// It holds as much as it may.
    #[error("a connection may hold at most {0} resources")]
    TooMany(usize),
    /// It cannot be stored.
    #[error(transparent)]
    Invalid(#[from] InvalidOp),
}

impl NotTaken {
    /// True if the same would be refused again, whatever the store does.
    pub(crate) fn is_for_good(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::TooMany(_) | Self::Invalid(_))
    }
}

/// The end of some holds, and what is to stand in the log before their ends.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) place: Place,
    pub(crate) holds: Vec<(HoldId, String)>,
    pub(crate) events: Vec<DomainEvent>,
    pub(crate) cause: CloseCause,
    pub(crate) ending: Ending,
    pub(crate) detected_at: Instant,
}

impl LockManager {
    pub(super) fn new(store: Arc<dyn LifecycleStore>, lanes: Lanes, settings: LockSettings, notices: Arc<dyn Notices>) -> Self {
        Self(Arc::new(Inner {
            store,
            lanes,
            table: Mutex::default(),
            notices,
            settings,
            doubtful: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            recovered: Notify::new(),
            stats: LockStats::default(),
        }))
    }

    /// Where the locks and the log are.
    pub fn store(&self) -> &Arc<dyn LifecycleStore> {
        &self.0.store
    }

    /// This process's incarnation; `None` before it is registered and while it is fenced.
    pub fn incarnation(&self) -> Option<Incarnation> {
        *self.0.lanes.node().borrow()
    }

    /// Whether a hold would be granted now, as far as this node knows.
    pub fn is_available(&self) -> bool {
        !self.0.doubtful.load(Ordering::Relaxed) && !self.0.broken.load(Ordering::Relaxed) && self.incarnation().is_some()
    }

    /// Ends one lock, whoever holds it. False if there is none of this fence, or it is over.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Fenced`] also while this node is not registered.
    pub async fn force_release(&self, fence: Fence) -> Result<bool, StoreError> {
        let by = self.incarnation().ok_or(StoreError::Fenced)?;
        let released = self.0.store.force_release(by, fence, CloseCause::ForceReleased).await?;
        self.0.lanes.written().notify_one();
        Ok(released)
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    pub(super) fn settings(&self) -> &LockSettings {
        &self.0.settings
    }

    pub(super) fn table<T>(&self, look: impl FnOnce(&mut HoldTable) -> T) -> T {
        look(&mut self.0.table.lock())
    }

    pub(super) fn recovered(&self) -> &Notify {
        &self.0.recovered
    }

    pub(super) fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        notices.into_iter().for_each(|notice| self.0.notices.notify(notice));
    }

    /// No hold is granted any more.
    pub(super) fn give_up(&self) {
        self.0.broken.store(true, Ordering::Relaxed);
    }

    /// What became of requests for holds.
    pub(crate) fn stats(&self) -> &LockStats {
        &self.0.stats
    }

    /// Whether the lease is in doubt.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.0.doubtful.load(Ordering::Relaxed)
    }

    /// Sets whether the lease is in doubt; true if that is new.
    pub(super) fn doubt(&self, doubtful: bool) -> bool {
        self.0.doubtful.swap(doubtful, Ordering::Relaxed) != doubtful
    }

    /// Hands over what a connection asks for, now; the answer comes later, at most `acquire_timeout`. What was asked and not answered in
    /// time is withdrawn.
    pub(crate) fn acquire(&self, asking: Asking) -> impl Future<Output = Result<Vec<Taken>, NotTaken>> + Send + use<> {
        let (began, submitted) = (Instant::now(), self.submit(&asking));
        let (this, limit) = (self.clone(), self.0.settings.acquire_timeout);
        async move {
            let taken = match submitted {
                Ok((ids, answer)) => {
                    let answer = tokio::time::timeout(limit, answer).await.unwrap_or(Err(NoAnswer::Full));
                    this.answered(asking, &ids, answer)
                }
                Err(refusal) => Err(refusal),
            };
            this.0.stats.acquired(&taken, began);
            taken
        }
    }

    fn submit(&self, asking: &Asking) -> Result<(Vec<HoldId>, impl Future<Output = Result<Answer, NoAnswer>> + Send + use<>), NotTaken> {
        let Asking { place, holds, events } = asking;
        if !self.is_available() {
            return Err(NotTaken::Unavailable);
        }
        let ids: Vec<HoldId> = holds.iter().map(|_| HoldId::random()).collect();
        let op = CommitOp {
            id: OpId::random(),
            socket_id: place.socket_id.to_string(),
            app: place.app_id.to_string(),
            holds: holds.iter().zip(&ids).map(|(hold, id)| new_hold(*id, hold)).collect(),
            events: events.iter().map(new_event).collect(),
        };
        op.validate(&self.0.settings.limits)?;
        let max = self.0.settings.max_holds;
        self.table(|table| {
            if table.count(place.socket_id) + ids.len() > max {
                return Err(NotTaken::TooMany(max));
            }
            for (hold, id) in holds.iter().zip(&ids) {
                table.asked(*id, place.clone(), hold.resource.clone(), hold.quiet);
            }
            Ok(())
        })?;
        Ok((ids, self.0.lanes.commit(op)))
    }

    fn answered(&self, asking: Asking, ids: &[HoldId], answer: Result<Answer, NoAnswer>) -> Result<Vec<Taken>, NotTaken> {
        let refusal = match answer {
            Ok(Answer::Committed(granted)) => {
                let mut taken = Vec::with_capacity(ids.len());
                let known = self.table(|table| {
                    asking.holds.iter().zip(ids).all(|(hold, id)| {
                        let Some(grant) = granted.iter().find(|grant| grant.hold == *id) else { return false };
                        taken.push(Taken { id: *id, resource: hold.resource.clone(), fence: grant.fence, outcome: grant.outcome });
                        table.granted(*id, grant.fence)
                    })
                });
                if known {
                    return Ok(taken);
                }
                // The connection has ended, or the node has started anew. Nobody may be told; what is written ends, once more if need be.
                self.release(Release {
                    place: asking.place,
                    holds: asking.holds.iter().zip(ids).map(|(hold, id)| (*id, hold.resource.clone())).collect(),
                    events: Vec::new(),
                    cause: CloseCause::Released,
                    ending: Ending::Clean,
                    detected_at: Instant::now(),
                });
                NotTaken::Ended
            }
            Ok(Answer::Denied(denied)) => {
                let hold = ids.iter().zip(&asking.holds).find(|(id, _)| **id == denied.hold).map(|(_, hold)| hold.clone());
                let holders = denied.holders.into_iter().map(holder).collect();
                hold.map_or(NotTaken::Unavailable, |hold| {
                    NotTaken::Conflict(Box::new(Conflict { hold, channel: asking.place.channel, holders }))
                })
            }
            Ok(Answer::Gone) | Err(NoAnswer::Cancelled) => NotTaken::Ended,
            Ok(Answer::Invalid(invalid)) => NotTaken::Invalid(invalid),
            Err(NoAnswer::Full | NoAnswer::Fenced | NoAnswer::Refused) => NotTaken::Unavailable,
        };
        self.table(|table| table.forget(ids.iter().copied()));
        Err(refusal)
    }

    /// The client has been told of these: from now on it hears of their loss, too.
    pub(crate) fn told(&self, ids: impl IntoIterator<Item = HoldId>) {
        let notices = self.table(|table| ids.into_iter().filter_map(|id| table.told(id)).collect::<Vec<_>>());
        self.tell(notices);
    }

    /// Takes the holds of a connection out of memory, to be released.
    pub(crate) fn take(&self, socket_id: SocketId, which: impl Fn(&Place, &str, HoldId) -> bool) -> Vec<(HoldId, String)> {
        self.table(|table| table.take(socket_id, which))
    }

    /// Writes an end, sooner or later: it waits in memory as long as the store does not answer.
    pub(crate) fn release(&self, release: Release) {
        if release.holds.is_empty() && release.events.is_empty() {
            return;
        }
        self.0.lanes.release(ReleaseOp {
            id: OpId::random(),
            socket_id: release.place.socket_id.to_string(),
            app: release.place.app_id.to_string(),
            holds: release.holds,
            events: release.events.iter().map(new_event).collect(),
            cause: release.cause,
            ending: release.ending,
            // What may not have been answered is known to the lane.
            certainty: Certainty::Sure,
            detected_at: Some(release.detected_at),
        });
    }

    /// Remembers a connection that was refused, until the resource is free. It may have become so meanwhile: see
    /// [`Self::tell_if_free`].
    pub(super) fn wait(&self, place: Place, resource: &str) {
        self.table(|table| table.wait(place, resource));
    }

    /// A connection waits for nothing (on that channel) any more.
    pub(crate) fn stop_waiting(&self, socket_id: SocketId, channel: Option<&crate::protocol::ChannelName>) {
        self.table(|table| table.stop_waiting(socket_id, channel));
    }

    /// Tells those who wait for a resource, if nothing is alive on it. False if the store cannot say; then it is asked again.
    pub(super) async fn tell_if_free(&self, app_id: &str, resource: &str) -> bool {
        let query = LockQuery { app: Some(app_id.to_owned()), resource: Some(resource.to_owned()), limit: 1, ..LockQuery::default() };
        match self.0.store.locks(&query).await {
            Ok(locks) if locks.is_empty() => {
                let notices = self.table(|table| table.freed(app_id, resource));
                self.tell(notices);
                true
            }
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(app.id = app_id, resource, error = %error, "Cannot see whether {resource} is free: {error}");
                self.table(|table| table.is_unclear(app_id, resource));
                false
            }
        }
    }
}

fn new_hold(id: HoldId, hold: &Hold) -> NewHold {
    let topic = match &hold.names {
        EventNames::Topic(topic) => topic.clone(),
        EventNames::Pair(began, ended) => format!("{began}/{ended}"),
    };
    NewHold {
        id,
        resource: hold.resource.clone(),
        principal: hold.principal.to_string(),
        mode: hold.mode,
        if_taken: hold.if_taken,
        topic,
        context: hold.context.clone(),
        grace: hold.effective_grace(),
    }
}

fn new_event(event: &DomainEvent) -> NewEvent {
    NewEvent {
        kind: EventKind::Event,
        event_type: event.event_type.clone(),
        key: event.key.clone(),
        principal: event.principal.as_ref().map(ToString::to_string),
        payload: event.payload.clone(),
    }
}

fn holder(holder: super::store::Holder) -> Holder {
    let super::store::Holder { fence, principal, mode, state, since } = holder;
    Holder { fence, principal, mode, state, since_ms: since.0 }
}

#[cfg(test)]
#[path = "lock_manager_tests.rs"]
mod tests;
