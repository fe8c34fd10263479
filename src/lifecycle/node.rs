//! The life of this process as a node: it registers, shows that it lives, watches the others, and starts anew when it was declared dead.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{sync::Notify, task::JoinSet, time::MissedTickBehavior};

use super::{
    doorbell::Doorbell,
    due::Due,
    hold_table::Notice,
    lane_queue::LaneLimits,
    lanes::Lanes,
    lock_manager::{LockManager, LockSettings, Notices},
    observer::{Lease, Observer, Suspect},
    recorder::{Recorder, RecorderSettings},
    store::{BootId, CloseCause, Incarnation, LifecycleStore, NewNode, NodeState, StoreError},
    tail::{self, Reader},
    upkeep,
};

/// The tasks of a node. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    locks: LockManager,
    doorbell: Doorbell,
    due: Arc<Due>,
    tasks: JoinSet<()>,
}

/// How long to wait before the store is asked again to make this process a node.
const REGISTER_AGAIN: Duration = Duration::from_millis(500);
/// How long a stop waits for one answer of the store.
const LAST_WORD: Duration = Duration::from_secs(2);

impl Node {
    /// Registers the process, sweeps what its predecessor left behind, and starts everything that runs beside the connections. To be
    /// called on the runtime that outlives them, before anybody may connect.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not take it.
    pub(crate) async fn start(
        store: Arc<dyn LifecycleStore>,
        settings: LockSettings,
        notices: Arc<dyn Notices>,
        readers: Vec<Reader>,
    ) -> Result<Self, StoreError> {
        let lanes = Lanes::start(Arc::clone(&store), LaneLimits::default(), settings.limits);
        let locks = LockManager::new(store, lanes, settings, notices);
        let incarnation = register(&locks, BootId::random()).await?;
        let observer = Observer::new(incarnation, locks.settings().lease, Instant::now());
        upkeep::sweep_all(&locks, incarnation).await?;
        let from = locks.store().head().await?;
        locks.lanes().write_as(incarnation);
        let doorbell = Doorbell::start(Arc::clone(locks.store()), Arc::clone(locks.lanes().written()), locks.settings().doorbell);
        let fenced_nodes = Arc::new(AtomicBool::new(true));
        let due = Arc::<Due>::default();
        let mut tasks = JoinSet::new();
        let (silent, verdicts) = (false, JoinSet::new());
        let beat = Beat { locks: locks.clone(), incarnation, observer, silent, fenced_nodes: Arc::clone(&fenced_nodes), verdicts };
        tasks.spawn(watched("heartbeat", locks.clone(), beat.run()));
        tasks.spawn(watched("sweep", locks.clone(), upkeep::sweep(locks.clone(), fenced_nodes, Arc::clone(&due))));
        tasks.spawn(watched("comparison with the store", locks.clone(), upkeep::reconcile(locks.clone())));
        tasks.spawn(watched("retention", locks.clone(), upkeep::retain(locks.clone())));
        let unclear = Arc::<Notify>::default();
        tasks.spawn(watched("word to those who wait", locks.clone(), tail::tell_waiters(locks.clone(), Arc::clone(&unclear))));
        let reader = tail::follow(locks.clone(), doorbell.subscribe(), from, readers, unclear);
        tasks.spawn(watched("reader of the log", locks.clone(), reader));
        Ok(Self { locks, doorbell, due, tasks })
    }

    /// The locks it keeps.
    pub(crate) fn locks(&self) -> &LockManager {
        &self.locks
    }

    /// What wakes readers of the log.
    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Starts to record what happens on channels. To be called on the runtime that outlives connections, before anybody may connect.
    pub(crate) fn record(&self, settings: RecorderSettings) -> Recorder {
        Recorder::start(Arc::clone(self.locks.store()), self.locks.lanes().clone(), Arc::clone(&self.due), settings)
    }

    /// Sweeps now what is due.
    ///
    /// # Errors
    /// [`StoreError`] when the sweep was cut short.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        match self.locks.incarnation() {
            Some(incarnation) => upkeep::sweep_all(&self.locks, incarnation).await,
            None => Err(StoreError::Fenced),
        }
    }

    /// Says that the node is leaving; best effort.
    pub(crate) async fn drain(&self) {
        if let Some(incarnation) = self.locks.incarnation() {
            let draining = self.locks.store().set_draining(incarnation);
            match tokio::time::timeout(LAST_WORD, draining).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = %error, "Cannot tell the other nodes of the stop: {error}"),
                Err(_elapsed) => tracing::warn!("Cannot tell the other nodes of the stop: the store does not answer"),
            }
        }
    }

    /// Writes what is owed, as long as `grace` lasts, and signs off: what is left is swept by others, or at the next start.
    pub(crate) async fn leave(mut self, grace: Duration) {
        if tokio::time::timeout(grace, self.locks.lanes().flushed()).await.is_err() {
            let waiting = self.locks.lanes().waiting();
            tracing::warn!(waiting, "Leaving {waiting} ends of connections to the sweep: the store did not take them in time");
        }
        // Whoever finds the incarnation gone would start a new one.
        self.tasks.shutdown().await;
        if let Some(incarnation) = self.locks.incarnation() {
            let gone = self.locks.store().deregister(incarnation);
            match tokio::time::timeout(LAST_WORD, gone).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(error = %error, "Cannot sign off: {error}"),
                Err(_elapsed) => tracing::warn!("Cannot sign off: the store does not answer"),
            }
        }
    }
}

/// A task that never ends. Should it panic, which would be a defect of ours, the node takes no more holds, and says so, rather than
/// keep locks without it: `/ready/holds` is 503, and a restart is due.
async fn watched(what: &'static str, locks: LockManager, task: impl Future<Output = ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        tracing::error!("The {what} of this node has failed: no holds are granted until it is restarted");
        locks.give_up();
    }
}

/// `boot` stays the same until there is an answer: the one before may have got lost.
async fn register(locks: &LockManager, boot: BootId) -> Result<Incarnation, StoreError> {
    let LockSettings { node_name, naming, lease, .. } = locks.settings();
    let node = NewNode { name: node_name.clone(), boot, ttl: *lease, naming: *naming };
    let incarnation = locks.store().register(&node).await?;
    tracing::info!(node.name = node_name, node.incarnation = incarnation.0, "Registered as incarnation {incarnation}");
    Ok(incarnation)
}

/// The heartbeat, and what follows from its answers.
struct Beat {
    locks: LockManager,
    incarnation: Incarnation,
    observer: Observer,
    /// Whether the last heartbeat had no answer.
    silent: bool,
    /// Whether some node is fenced and not swept yet.
    fenced_nodes: Arc<AtomicBool>,
    /// Others being declared dead: that may take longer than the own lease allows.
    verdicts: JoinSet<()>,
}

impl Beat {
    async fn run(mut self) {
        let interval = self.locks.settings().heartbeat_interval;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written_as = self.locks.lanes().node();
        loop {
            let fenced = tokio::select! {
                _ = ticks.tick() => false,
                // A lane has heard first that the node is fenced.
                _ = written_as.wait_for(Option::is_none) => true,
            };
            if fenced {
                self.start_anew().await;
                continue;
            }
            let began = Instant::now();
            match self.beat().await {
                Ok(nodes) => {
                    let fenced = nodes.iter().any(|node| node.state == NodeState::Fenced);
                    self.fenced_nodes.store(fenced, Ordering::Relaxed);
                    let suspects = self.observer.sample(began, &nodes);
                    if std::mem::take(&mut self.silent) {
                        tracing::info!("The store answers again");
                        self.locks.recovered().notify_one();
                    }
                    self.look_at_lease();
                    self.declare_dead(suspects);
                }
                Err(StoreError::Fenced) => self.start_anew().await,
                Err(error) => {
                    if !std::mem::replace(&mut self.silent, true) {
                        tracing::warn!(error = %error, "No answer to a heartbeat: {error}");
                        // Once, at once: a session that was ended must not blind the node to the others for a whole interval more.
                        ticks.reset_immediately();
                    }
                    self.look_at_lease();
                }
            }
        }
    }

    /// One heartbeat. The lease is looked at while it is under way, too: an answer may be long in coming.
    async fn beat(&mut self) -> Result<Vec<super::store::NodeView>, StoreError> {
        let store = Arc::clone(self.locks.store());
        let mut call = store.heartbeat(self.incarnation);
        let pause = self.locks.settings().lease / 16;
        loop {
            match tokio::time::timeout(pause, &mut call).await {
                Ok(answer) => return answer,
                Err(_elapsed) => self.look_at_lease(),
            }
        }
    }

    /// Tells the holders when the lease comes into doubt, or is certain again.
    fn look_at_lease(&self) {
        let doubtful = self.observer.lease(Instant::now()) == Lease::Doubtful;
        if !self.locks.doubt(doubtful) {
            return;
        }
        let close = doubtful && self.locks.settings().close_on_doubt;
        let notices: Vec<Notice> = self.locks.table(|table| {
            let mut notices = table.state(!doubtful);
            notices.extend(if close { table.close_all() } else { Vec::new() });
            notices
        });
        let holds = notices.len();
        if doubtful {
            tracing::warn!(holds, "The lease is in doubt: no heartbeat was answered for three quarters of it");
        } else {
            tracing::info!(holds, "The lease is certain again");
        }
        self.locks.tell(notices);
    }

    fn declare_dead(&mut self, suspects: Vec<Suspect>) {
        while self.verdicts.try_join_next().is_some() {}
        if suspects.is_empty() || !self.verdicts.is_empty() {
            // Those who are still suspected come again with the next heartbeat.
            return;
        }
        let (locks, by, fenced_nodes) = (self.locks.clone(), self.incarnation, Arc::clone(&self.fenced_nodes));
        self.verdicts.spawn(async move {
            for Suspect { incarnation: node, seen } in suspects {
                match locks.store().declare_dead(by, node, seen).await {
                    Ok(true) => {
                        fenced_nodes.store(true, Ordering::Relaxed);
                        tracing::warn!(node.incarnation = node.0, "Declared node {node} dead: it stood still for its lease");
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(node.incarnation = node.0, error = %error, "Cannot declare node {node} dead: {error}"),
                }
            }
        });
    }

    /// The node was declared dead: its holds are the sweep's, and whoever held something is told and closed.
    async fn start_anew(&mut self) {
        self.locks.doubt(true);
        self.locks.lanes().stop_writing();
        let notices = self.locks.table(|table| table.clear(CloseCause::NodeDeath));
        let lost = notices.len();
        tracing::error!(
            node.incarnation = self.incarnation.0,
            lost,
            "Incarnation {} was declared dead: all holds are lost",
            self.incarnation
        );
        self.locks.tell(notices);
        let boot = BootId::random();
        loop {
            match register(&self.locks, boot).await {
                Ok(incarnation) => {
                    self.incarnation = incarnation;
                    self.observer = Observer::new(incarnation, self.locks.settings().lease, Instant::now());
                    self.silent = false;
                    self.locks.lanes().write_as(incarnation);
                    self.locks.doubt(false);
                    return;
                }
                Err(error) => tracing::warn!(error = %error, "Cannot register anew: {error}"),
            }
            tokio::time::sleep(REGISTER_AGAIN).await;
        }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
