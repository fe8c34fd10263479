//! A store, a listener that does as it is told, and short words for what is done to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use crate::lifecycle::{
    BoxedListener,
    dispatcher::{Dispatcher, DispatcherParts, DispatcherSettings},
    doorbell::{Doorbell, DoorbellSettings, Rings},
    listener::{Delivered, Listener, ListenerOptions, Retry},
    store::{conformance::cluster, *},
};

/// A store with one node, and its bell.
pub(in crate::lifecycle) struct World {
    pub(in crate::lifecycle) store: Arc<dyn LifecycleStore>,
    pub(in crate::lifecycle) postgres: Option<Arc<PostgresStore>>,
    pub(in crate::lifecycle) node: Incarnation,
    bell: Doorbell,
}

impl World {
    pub(in crate::lifecycle) async fn in_memory() -> Self {
        Self::new(Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap()), None).await
    }

    pub(in crate::lifecycle) async fn in_postgres() -> Self {
        let (url, _) = cluster::fresh_database().await;
        let store = Arc::new(PostgresStore::connect(PostgresOptions::new(&url)).await.unwrap());
        Self::new(store.clone(), Some(store)).await
    }

    pub(in crate::lifecycle) async fn new(store: Arc<dyn LifecycleStore>, postgres: Option<Arc<PostgresStore>>) -> Self {
        let node = NewNode { name: "node-1".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(60), naming: Naming::Shared };
        let node = store.register(&node).await.unwrap();
        let settings = DoorbellSettings { notify: false, poll: Duration::from_millis(50), ..DoorbellSettings::default() };
        let bell = Doorbell::start(Arc::clone(&store), Arc::new(Notify::new()), settings);
        Self { store, postgres, node, bell }
    }

    /// Entries that are no locks: `key name`.
    pub(in crate::lifecycle) async fn log(&self, entries: &[&str]) {
        let event = |entry: &&str| {
            let (key, name) = entry.split_once(' ').unwrap();
            NewEvent { kind: EventKind::Event, event_type: name.to_owned(), key: key.to_owned(), principal: None, payload: json!({}) }
        };
        for chunk in entries.chunks(100) {
            let events = chunk.iter().map(event).collect();
            let op = CommitOp { id: OpId::random(), socket_id: "1.1".to_owned(), app: "app".to_owned(), holds: Vec::new(), events };
            assert!(matches!(self.store.commit(Lane(0), self.node, &[op]).await.unwrap()[0], Answer::Committed(_)));
        }
        self.bell.ring();
    }

    /// A lock; what ends it.
    pub(in crate::lifecycle) async fn lock(&self, resource: &str, principal: &str, mode: Mode) -> (Fence, ReleaseOp) {
        let hold = NewHold {
            id: HoldId::random(),
            resource: resource.to_owned(),
            principal: principal.to_owned(),
            mode,
            if_taken: IfTaken::Deny,
            topic: "Order".to_owned(),
            context: json!({ "order_id": resource }),
            grace: Duration::ZERO,
        };
        let holds = vec![(hold.id, hold.resource.clone())];
        let (socket_id, app) = ("1.1".to_owned(), "app".to_owned());
        let op = CommitOp { id: OpId::random(), socket_id: socket_id.clone(), app: app.clone(), holds: vec![hold], events: Vec::new() };
        let answer = self.store.commit(Lane(0), self.node, &[op]).await.unwrap().remove(0);
        let Answer::Committed(granted) = answer else { panic!("{answer:?}") };
        let (events, cause, ending) = (Vec::new(), CloseCause::Gone, Ending::Unclean);
        let (certainty, detected_at) = (Certainty::Sure, None);
        let end = ReleaseOp { id: OpId::random(), socket_id, app, holds, events, cause, ending, certainty, detected_at };
        self.bell.ring();
        (granted[0].fence, end)
    }

    pub(in crate::lifecycle) async fn unlock(&self, end: ReleaseOp) {
        self.store.release(Lane(0), self.node, &[end]).await.unwrap();
        self.bell.ring();
    }

    /// Keys that are in one shard with `like`, however many shards there are.
    pub(in crate::lifecycle) fn keys_beside(&self, like: &str, count: usize) -> Vec<String> {
        let shard = Shard::of("app", like, self.store.shards());
        let beside = (0..).map(|n| format!("key:{n}")).filter(|key| key != like && Shard::of("app", key, self.store.shards()) == shard);
        beside.take(count).collect()
    }

    pub(in crate::lifecycle) fn ring(&self) {
        self.bell.ring();
    }

    pub(in crate::lifecycle) fn rings(&self) -> Rings {
        self.bell.subscribe()
    }

    pub(in crate::lifecycle) fn start(&self, owner: &str, listeners: Vec<BoxedListener>, settings: DispatcherSettings) -> Dispatcher {
        self.launch(owner, listeners, false, settings)
    }

    /// The same; `grows`: endpoints may be added.
    pub(in crate::lifecycle) fn launch(
        &self,
        owner: &str,
        listeners: Vec<BoxedListener>,
        grows: bool,
        settings: DispatcherSettings,
    ) -> Dispatcher {
        Dispatcher::start(DispatcherParts {
            store: Arc::clone(&self.store),
            postgres: self.postgres.clone(),
            owner: owner.to_owned(),
            rings: self.rings(),
            listeners,
            grows,
            settings,
        })
        .unwrap()
    }

    pub(in crate::lifecycle) fn serve(&self, script: &Arc<Script>) -> Dispatcher {
        self.start("node-1", vec![script.boxed()], quick())
    }

    /// What is parked for `audit`, as `type(attempts)`.
    pub(in crate::lifecycle) async fn parked(&self) -> Vec<String> {
        let rows = self.store.parked("audit", 1000).await.unwrap();
        rows.into_iter().map(|row| format!("{}({})", row.event.event_type, row.attempts)).collect()
    }

    pub(in crate::lifecycle) async fn lag(&self) -> i64 {
        // Before it has an offset it has everything before it.
        self.store.consumers().await.unwrap().iter().map(ConsumerRow::lag).reduce(|sum, lag| sum + lag).unwrap_or(i64::MAX)
    }
}

/// As in the product, but for the times that a test would wait for.
pub(in crate::lifecycle) fn quick() -> DispatcherSettings {
    DispatcherSettings {
        // A machine that stands still for a moment loses no claim.
        lease: Duration::from_secs(2),
        renew_every: Duration::from_millis(100),
        look_every: Duration::from_millis(50),
        time_limit: Duration::from_secs(1),
        stop_within: Duration::from_secs(2),
        ..DispatcherSettings::default()
    }
}

type Answer_ = Box<dyn Fn(&Delivered) -> Result<(), Retry> + Send + Sync>;

/// A listener that notes what it is told as `key type`, with the attempt if it is not the first, and answers as the test wants.
pub(in crate::lifecycle) struct Script {
    heard: Mutex<Vec<String>>,
    answer: Answer_,
    options: ListenerOptions,
    flag: AtomicBool,
    takes: Duration,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
}

impl Script {
    pub(in crate::lifecycle) fn new(
        options: ListenerOptions,
        answer: impl Fn(&Delivered) -> Result<(), Retry> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let heard = Mutex::default();
        Arc::new(Self {
            heard,
            answer: Box::new(answer),
            options,
            flag: AtomicBool::new(false),
            takes: Duration::ZERO,
            at_work: AtomicUsize::new(0),
            most_at_work: AtomicUsize::new(0),
        })
    }

    /// One that fails as long as the flag is down at what `fails` says.
    pub(in crate::lifecycle) fn failing(
        options: ListenerOptions,
        retry: Retry,
        fails: impl Fn(&Delivered) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|script: &std::sync::Weak<Self>| {
            let script = script.clone();
            let answer = move |event: &Delivered| match script.upgrade().is_none_or(|script| script.flag.load(Ordering::SeqCst)) {
                false if fails(event) => Err(retry.clone()),
                _ => Ok(()),
            };
            Arc::into_inner(Self::new(options, answer)).unwrap()
        })
    }

    pub(in crate::lifecycle) fn raise_flag(&self) {
        self.flag.store(true, Ordering::SeqCst);
    }

    pub(in crate::lifecycle) fn taking(takes: Duration, options: ListenerOptions) -> Arc<Self> {
        Arc::new(Self { takes, ..Arc::into_inner(Self::new(options, |_| Ok(()))).unwrap() })
    }

    pub(in crate::lifecycle) fn at_work(&self) -> usize {
        self.at_work.load(Ordering::SeqCst)
    }

    pub(in crate::lifecycle) fn most_at_work(&self) -> usize {
        self.most_at_work.load(Ordering::SeqCst)
    }

    pub(in crate::lifecycle) fn willing() -> Arc<Self> {
        Self::new(ListenerOptions::default(), |_| Ok(()))
    }

    pub(in crate::lifecycle) fn boxed(self: &Arc<Self>) -> BoxedListener {
        BoxedListener::plain(Told(Arc::clone(self)))
    }

    pub(in crate::lifecycle) fn heard(&self) -> Vec<String> {
        self.heard.lock().clone()
    }

    /// What it heard of one key.
    pub(in crate::lifecycle) fn heard_of(&self, key: &str) -> Vec<String> {
        let heard = self.heard.lock();
        heard.iter().filter_map(|entry| entry.strip_prefix(key)?.strip_prefix(' ')).map(str::to_owned).collect()
    }
}

struct Told(Arc<Script>);

impl Listener for Told {
    fn name(&self) -> &str {
        "audit"
    }

    async fn handle(&self, event: &Delivered) -> Result<(), Retry> {
        let at_work = self.0.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_at_work.fetch_max(at_work, Ordering::SeqCst);
        if !self.0.takes.is_zero() {
            tokio::time::sleep(self.0.takes).await;
        }
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
        let attempt = if event.attempt() == 1 { String::new() } else { format!("/{}", event.attempt()) };
        self.0.heard.lock().push(format!("{} {}{attempt}", event.resource, event.event_type));
        if event.event_type == "Hang" && event.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        (self.0.answer)(event)
    }

    fn options(&self) -> ListenerOptions {
        self.0.options.clone()
    }
}

/// Polls until it is so.
pub(in crate::lifecycle) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
