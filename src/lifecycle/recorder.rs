//! Records for webhooks who is on the channels of this node, and what happens there.
//!
//! It is told under the locks of the channels ([`ChannelWatch`]) and never makes them wait: what is told goes into a queue, and one task
//! takes it to the store, batch after batch. What comes first and last over all nodes, and how long the last is waited for, is the
//! store's to decide ([`record`](super::store::LifecycleStore::record)). Start with `record_queue`, which has the rules.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{
    due::Due,
    lanes::Lanes,
    record_queue::{Happening, Key, RecordLimits, RecordQueue},
    store::{Incarnation, Sighting, Sightings, StoreError, StoreFuture},
    webhook,
};
use crate::{
    domain::{ChannelWatch, Seen, WebhookFilter, WebhookKind},
    protocol::ChannelName,
};

/// Sightings in one batch: one statement, and a few milliseconds with the shard locked.
const BATCH: usize = 256;
/// Bytes of events in one batch.
const BATCH_BYTES: usize = 1_024 * 1_024;
/// Longest name of a channel that a store keeps, in bytes.
const MAX_CHANNEL_BYTES: usize = 512;
/// Longest user id that a store keeps, in bytes.
const MAX_MEMBER_BYTES: usize = 1_024;
/// Changes of one application that wait before they are collapsed.
const CHANGES: usize = 4_096;
/// What an event counts for beside its texts.
const EVENT_OVERHEAD: usize = 256;
/// How long to wait after a batch without an answer: doubled each time, up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The database measures the delay, and its clock may run a little slower.
const LITTLE: Duration = Duration::from_millis(5);
/// How often it is said that something is lost.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The part of a store that the recorder needs.
pub(crate) trait RecordWriter: Send + Sync + 'static {
    /// As [`LifecycleStore::record`](super::store::LifecycleStore::record).
    fn record<'a>(&'a self, node: Incarnation, sightings: &'a Sightings) -> StoreFuture<'a, ()>;
}

impl RecordWriter for dyn super::store::LifecycleStore {
    fn record<'a>(&'a self, node: Incarnation, sightings: &'a Sightings) -> StoreFuture<'a, ()> {
        super::store::LifecycleStore::record(self, node, sightings)
    }
}

/// An application whose channels are watched, and what its endpoints want to hear of.
#[derive(Clone, Debug)]
pub(crate) struct WatchedApp {
    /// Its id.
    pub(crate) id: String,
    /// One for each endpoint.
    pub(crate) filters: Vec<WebhookFilter>,
}

/// What is recorded.
#[derive(Clone, Debug)]
pub(crate) struct RecorderSettings {
    /// Whose channels are watched.
    pub(crate) apps: Vec<WatchedApp>,
    /// How long somebody may be away before it counts as gone.
    pub(crate) delay: Duration,
    /// Bytes of events that may wait.
    pub(crate) queue_size: usize,
}

/// The recorder of a node, at work until it is dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    watches: Mutex<Vec<Arc<AppWatch>>>,
    shared: Arc<Shared>,
    /// Aborted when dropped.
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<RecordQueue>,
    work: Notify,
    idle: Notify,
}

impl Recorder {
    /// Starts it on the runtime this is called on. It writes as the incarnation that the lanes write as, and waits for one; `due` is told
    /// when the delay of what it records is over.
    pub(super) fn start<W: RecordWriter + ?Sized>(store: Arc<W>, lanes: Lanes, due: Arc<Due>, settings: RecorderSettings) -> Self {
        let RecorderSettings { apps, delay, queue_size } = settings;
        let limits = RecordLimits { batch: BATCH, batch_bytes: BATCH_BYTES, changes: CHANGES, event_bytes: queue_size };
        let queue = RecordQueue::new(apps.iter().map(|app| app.id.clone()), delay, limits);
        let shared = Arc::new(Shared { queue: Mutex::new(queue), work: Notify::new(), idle: Notify::new() });
        let watch = |(app, WatchedApp { id, filters })| Arc::new(AppWatch::new(app, id, filters, Arc::clone(&shared)));
        let watches = Mutex::new(apps.into_iter().enumerate().map(watch).collect());
        let mut task = JoinSet::new();
        let node = lanes.node();
        task.spawn(
            Running { store, lanes, due, node, shared: Arc::clone(&shared), written_as: None, silent: false, complained: None }.run(),
        );
        Self { watches, shared, _task: task }
    }

    /// Who is to be told what happens on the channels of each application.
    pub(crate) fn watches(&self) -> Vec<(String, Arc<dyn ChannelWatch>)> {
        self.watches.lock().iter().map(|watch| (watch.id.clone(), Arc::clone(watch) as Arc<dyn ChannelWatch>)).collect()
    }

    /// Watches one more application, or the same one for other endpoints.
    pub(crate) fn watch(&self, app: WatchedApp) -> Arc<dyn ChannelWatch> {
        let WatchedApp { id, filters } = app;
        let mut watches = self.watches.lock();
        if let Some(watch) = watches.iter().find(|watch| watch.id == id) {
            watch.filters.write().set(filters);
            return Arc::clone(watch) as Arc<dyn ChannelWatch>;
        }
        let place = self.shared.queue.lock().add(id.clone());
        let watch = Arc::new(AppWatch::new(place, id, filters, Arc::clone(&self.shared)));
        watches.push(Arc::clone(&watch));
        watch
    }

    /// Resolves when nothing waits and nothing is under way.
    pub(crate) async fn flushed(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.shared.queue.lock().is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// How much waits to be recorded.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.queue.lock().len()
    }
}

/// Tells the queue what some endpoint of an application wants to hear of.
#[derive(Debug)]
struct AppWatch {
    app: usize,
    id: String,
    filters: RwLock<Filters>,
    shared: Arc<Shared>,
}

/// What endpoints want to hear.
#[derive(Debug, Default)]
struct Filters {
    wanted: Vec<WebhookFilter>,
    /// What was wanted once: whoever was recorded as present then has to be recorded as absent when it leaves.
    followed: Vec<WebhookFilter>,
}

impl Filters {
    fn set(&mut self, wanted: Vec<WebhookFilter>) {
        for former in std::mem::replace(&mut self.wanted, wanted) {
            if !self.followed.contains(&former) {
                self.followed.push(former);
            }
        }
    }
}

fn any_wants(filters: &[WebhookFilter], kinds: &[WebhookKind], channel: &ChannelName) -> bool {
    kinds.iter().any(|kind| filters.iter().any(|filter| filter.wants(*kind, channel.as_str())))
}

impl AppWatch {
    fn new(app: usize, id: String, filters: Vec<WebhookFilter>, shared: Arc<Shared>) -> Self {
        Self { app, id, filters: RwLock::new(Filters { wanted: filters, followed: Vec::new() }), shared }
    }

    fn wants(&self, kinds: &[WebhookKind], channel: &ChannelName) -> bool {
        any_wants(&self.filters.read().wanted, kinds, channel)
    }

    fn follows(&self, kinds: &[WebhookKind], channel: &ChannelName) -> bool {
        let filters = self.filters.read();
        any_wants(&filters.wanted, kinds, channel) || any_wants(&filters.followed, kinds, channel)
    }

    fn change(&self, key: Key, present: bool) {
        let kinds = match key.1 {
            None => [WebhookKind::ChannelOccupied, WebhookKind::ChannelVacated],
            Some(_) => [WebhookKind::MemberAdded, WebhookKind::MemberRemoved],
        };
        if self.follows(&kinds, &key.0) {
            self.shared.queue.lock().change(self.app, key, present);
            self.shared.work.notify_one();
        }
    }
}

impl ChannelWatch for AppWatch {
    fn saw(&self, channel: &ChannelName, seen: Seen<'_>) {
        // A batch with it would be refused, and whoever chooses names could fill the log of the process with that.
        if channel.as_str().len() > MAX_CHANNEL_BYTES {
            return;
        }
        let key = |member: Option<&str>| (channel.clone(), member.map(Arc::from));
        match seen {
            Seen::Occupied => return self.change(key(None), true),
            Seen::Vacated => return self.change(key(None), false),
            // The same.
            Seen::MemberAdded(user) | Seen::MemberRemoved(user) if !can_be_recorded(user) => return,
            Seen::MemberAdded(user) => return self.change(key(Some(user)), true),
            Seen::MemberRemoved(user) => return self.change(key(Some(user)), false),
            Seen::ClientEvent { .. } | Seen::CacheMiss | Seen::SubscriptionCount(_) => {}
        }
        let Some((kind, payload)) = webhook::happening(seen).filter(|(kind, _)| self.wants(&[*kind], channel)) else { return };
        let texts = match seen {
            Seen::ClientEvent { event, data, .. } => event.len() + data.len(),
            _ => 0,
        };
        let bytes = EVENT_OVERHEAD + channel.as_str().len() + texts;
        self.shared.queue.lock().happened(self.app, Happening { name: kind.as_str(), channel: channel.clone(), payload, bytes });
        self.shared.work.notify_one();
    }
}

fn can_be_recorded(user_id: &str) -> bool {
    (1..=MAX_MEMBER_BYTES).contains(&user_id.len()) && !user_id.contains('\0')
}

struct Running<W: ?Sized> {
    store: Arc<W>,
    lanes: Lanes,
    due: Arc<Due>,
    node: watch::Receiver<Option<Incarnation>>,
    shared: Arc<Shared>,
    /// The incarnation that what is recorded was recorded for.
    written_as: Option<Incarnation>,
    /// Whether the last batch had no answer.
    silent: bool,
    /// When it was last said that something is lost.
    complained: Option<Instant>,
}

impl<W: RecordWriter + ?Sized> Running<W> {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let node = match self.node.wait_for(Option::is_some).await {
                Ok(node) => *node,
                Err(_all_handles_are_gone) => return,
            };
            let Some(node) = node else { continue };
            if self.written_as.replace(node).is_some_and(|former| former != node) {
                self.shared.queue.lock().fenced();
            }
            let batch = self.shared.queue.lock().next_batch();
            self.complain();
            let Some(batch) = batch else {
                self.shared.idle.notify_waiters();
                tokio::select! {
                    () = self.shared.work.notified() => {}
                    // What was dropped since the last complaint.
                    () = tokio::time::sleep(COMPLAIN_EVERY), if self.complained.is_some() => self.complained = None,
                    changed = self.node.changed() => if changed.is_err() { return },
                }
                continue;
            };
            if self.send(node, &batch).await {
                pause = FIRST_PAUSE;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Sends a batch. False if there was no answer.
    async fn send(&mut self, node: Incarnation, batch: &Sightings) -> bool {
        match self.store.record(node, batch).await {
            Ok(()) => {
                if std::mem::take(&mut self.silent) {
                    tracing::info!("Webhooks are recorded again");
                }
                self.shared.queue.lock().recorded();
                self.lanes.written().notify_one();
                if !batch.delay.is_zero() && batch.seen.iter().any(|sighting| matches!(sighting, Sighting::Absent { .. })) {
                    self.due.at(tokio::time::Instant::now() + batch.delay + LITTLE);
                }
            }
            Err(StoreError::Fenced) => self.lanes.found_fenced(node),
            Err(error) if error.is_retryable() => {
                if !std::mem::replace(&mut self.silent, true) {
                    tracing::warn!(error = %error, "Webhooks wait until the store answers: {error}");
                }
                return false;
            }
            Err(error) => {
                let lost = self.shared.queue.lock().refused();
                if lost > 0 {
                    let (app, seen) = (&batch.app, batch.seen.first().map(kind_and_channel));
                    tracing::error!(app.id = app, error = %error, "A webhook of {app} cannot be recorded ({seen:?}): {error}");
                }
            }
        }
        true
    }

    /// Says once a minute how many events were dropped.
    fn complain(&mut self) {
        if self.complained.is_some_and(|at| at.elapsed() < COMPLAIN_EVERY) {
            return;
        }
        let dropped = self.shared.queue.lock().take_dropped();
        if dropped > 0 {
            self.complained = Some(Instant::now());
            tracing::error!(dropped, "Dropped {dropped} events for webhooks: webhooks.queue_size is full while the store is away");
        }
    }
}

/// Not the member and not the payload: neither belongs into the log of the process.
fn kind_and_channel(sighting: &Sighting) -> (&str, &str) {
    match sighting {
        Sighting::Present { channel, .. } => ("present", channel),
        Sighting::Absent { channel, .. } => ("absent", channel),
        Sighting::Event { name, channel, .. } => (name, channel),
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
