//! What keeps the locks of this node, and who hears of them, from settings.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use tokio::task::JoinSet;

use super::{
    ServerError,
    apps::{self, TableApps, Webhooks},
    endpoints, feed,
    listeners::{self, Configured},
    metrics::{PostedTo, StoreSources},
    store::{self, OpenStore},
};
use crate::{
    cluster::Broker,
    config::{OnDoubt, Settings, StoreSettings},
    domain::ConfiguredHolds,
    lifecycle::{
        BoxedListener, Deliveries, Dispatcher, DispatcherParts, DispatcherSettings, DoorbellSettings, Idempotency, LockSettings, Node,
        Recorder,
        store::{LifecycleStore, MeasuredStore},
        take_places,
    },
};

/// How long a stop waits for endpoints to take what was just recorded, though it is not lost if they do not.
const LAST_WEBHOOKS: Duration = Duration::from_millis(500);

/// Opens the store, makes this process a node and starts its listeners; `None` without a store. Returns when everything is swept that
/// a former life of this node left behind. Webhooks need a store, too: without one they have their own in memory, which keeps no locks.
pub(super) async fn start(
    settings: &Settings,
    broker: &Broker,
    holds: ConfiguredHolds,
    own: Vec<BoxedListener>,
) -> Result<Option<Lifecycle>, ServerError> {
    let signers = listeners::signers(settings);
    let Configured { mut listeners, readers, mut endpoints } = listeners::configured(settings, broker, &signers)?;
    listeners.extend(own);
    let target = (&settings.store).into();
    let (store, keeps_locks) = match (store::serve(&target).await?, listeners.first()) {
        (Some(store), _) => (store, true),
        (None, Some(listener)) => return Err(ServerError::NoLog { name: listener.name().to_owned() }),
        (None, None) if feed::is_wanted(settings) => (store::fleeting(target.limits).await?, false),
        (None, None) => return Ok(None),
    };
    let locks = lock_settings(&settings.store, &store);
    for (endpoint, stats) in endpoints::configured(settings)? {
        endpoints.push((endpoint.name().to_owned(), stats));
        listeners.push(endpoint);
    }
    let measured = MeasuredStore::new(Arc::clone(&store.store));
    let calls = Arc::clone(measured.stats());
    let measured: Arc<dyn LifecycleStore> = Arc::new(measured);
    let node = Node::start(Arc::clone(&measured), locks, Arc::new(broker.notices()), readers).await?;
    // Before anything is recorded: an endpoint is owed what happens from its start on.
    take_places(&*store.store, &listeners).await?;
    let dispatcher = Arc::new(Dispatcher::start(DispatcherParts {
        store: Arc::clone(&measured),
        postgres: store.postgres.clone(),
        owner: store.node_name.clone(),
        rings: node.doorbell().subscribe(),
        listeners,
        grows: settings.app_store.enabled,
        settings: DispatcherSettings::default(),
    })?);
    let keys = Idempotency::of_node(Arc::clone(node.locks().store()), node.locks().lanes().node());
    broker.set_idempotency(keys.clone());
    if keeps_locks {
        broker.set_locks(node.locks().clone());
    }
    let deliveries = Deliveries::new(Arc::clone(&store.store), endpoints::infos(settings));
    broker.set_deliveries(deliveries.clone());
    let posted = PostedTo::new(RwLock::new(endpoints));
    let recorder = feed::start(settings, &node, broker);
    let apps = if settings.app_store.enabled {
        let webhooks =
            recorder.as_ref().map(|recorder| Webhooks::new(Arc::clone(recorder), Arc::clone(&dispatcher), deliveries, Arc::clone(&posted)));
        let parts = apps::Parts { store: Arc::clone(&measured), broker: broker.clone(), holds, webhooks, signers };
        let apps = TableApps::read(parts, settings).await;
        dispatcher.all_added();
        Some(apps.follow(node.doorbell().subscribe()))
    } else {
        None
    };
    let numbers = StoreSources { locks: node.locks().clone(), keeps_locks, calls, endpoints: posted };
    Ok(Some(Lifecycle { node, recorder, dispatcher, numbers, keys, apps, store }))
}

/// A node at work, and what it stands on.
#[derive(Debug)]
pub(super) struct Lifecycle {
    node: Node,
    recorder: Option<Arc<Recorder>>,
    dispatcher: Arc<Dispatcher>,
    /// Follows the table of applications.
    apps: Option<JoinSet<()>>,
    /// For those who watch.
    numbers: StoreSources,
    keys: Idempotency,
    /// Keeps the data directory locked until the node has left.
    store: OpenStore,
}

impl Lifecycle {
    /// What there is to watch.
    pub(super) fn numbers(&self) -> StoreSources {
        self.numbers.clone()
    }

    /// Tells the other nodes that this one is leaving.
    pub(super) async fn drain(&self) {
        self.node.drain().await;
    }

    /// Writes what is owed, at most for `grace`, and signs off; beside it, and no longer, listeners finish what they are at.
    pub(super) async fn leave(self, grace: Duration) {
        let Self { node, recorder, dispatcher, numbers: _, keys, mut apps, store } = self;
        let began = Instant::now();
        if let Some(apps) = &mut apps {
            apps.shutdown().await;
        }
        if let Some(recorder) = recorder {
            feed::finish(&recorder, &store, &node, grace).await;
        }
        let left = |grace: Duration| grace.saturating_sub(began.elapsed());
        // What a store that ends with this process still owes then would be lost; any other keeps it for the next start, or another node.
        let patience = if store.fleeting.is_some() { left(grace) } else { left(grace).min(LAST_WEBHOOKS) };
        if !dispatcher.drained(patience).await && store.fleeting.is_some() {
            tracing::warn!("Webhooks that no endpoint took in time are lost: the store is in memory");
        }
        // Before the node signs off, or another one would take over what this one is just at.
        if tokio::time::timeout(left(grace), keys.close()).await.is_err() {
            tracing::warn!("Leaving publishes with an Idempotency-Key without their answers: sent again they are done again");
        }
        let grace = left(grace);
        let (listeners, ()) = tokio::join!(tokio::time::timeout(grace, dispatcher.stop()), node.leave(grace));
        if listeners.is_err() {
            tracing::warn!("Leaving listeners in the midst of their work: other nodes, or the next start, do it again");
        }
    }
}

fn lock_settings(settings: &StoreSettings, store: &OpenStore) -> LockSettings {
    let poll = settings.poll_interval;
    LockSettings {
        node_name: store.node_name.clone(),
        naming: store.naming,
        acquire_timeout: settings.acquire_timeout,
        heartbeat_interval: settings.heartbeat_interval,
        lease: settings.lease,
        sweep_interval: settings.sweep_interval,
        reconcile_interval: settings.reconcile_interval,
        doorbell: DoorbellSettings { notify: settings.notify, poll, ..DoorbellSettings::default() },
        retention: settings.retention,
        close_on_doubt: settings.on_doubt == OnDoubt::Close,
        max_holds: settings.max_holds,
        limits: super::store::StoreTarget::from(settings).limits,
    }
}
