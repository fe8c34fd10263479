//! What keeps the locks of this node, and who hears of them, from settings.

use std::{sync::Arc, time::Duration};

use super::{
    ServerError,
    store::{self, OpenStore},
};
use crate::{
    cluster::Broker,
    config::{OnDoubt, Settings, StoreSettings},
    lifecycle::{DoorbellSettings, LockSettings, Node, Reader},
};

/// Opens the store, and makes this process a node; `None` without a store. Returns when everything is swept that a former life of this
/// node left behind.
pub(super) async fn start(settings: &Settings, broker: &Broker, readers: Vec<Reader>) -> Result<Option<Lifecycle>, ServerError> {
    let Some(store) = store::serve(&(&settings.store).into()).await? else { return Ok(None) };
    let locks = lock_settings(&settings.store, &store);
    let node = Node::start(Arc::clone(&store.store), locks, Arc::new(broker.notices()), readers).await?;
    broker.set_locks(node.locks().clone());
    Ok(Some(Lifecycle { node, _store: store }))
}

/// A node at work, and what it stands on.
#[derive(Debug)]
pub(super) struct Lifecycle {
    node: Node,
    /// Keeps the data directory locked until the node has left.
    _store: OpenStore,
}

impl Lifecycle {
    /// Tells the other nodes that this one is leaving.
    pub(super) async fn drain(&self) {
        self.node.drain().await;
    }

    /// Writes what is owed, at most for `grace`, and signs off.
    pub(super) async fn leave(self, grace: Duration) {
        self.node.leave(grace).await;
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
        doorbell: DoorbellSettings { notify: settings.notify, poll, poll_behind: poll / 4, ..DoorbellSettings::default() },
        retention: settings.retention,
        close_on_doubt: settings.on_doubt == OnDoubt::Close,
        max_holds: settings.max_holds,
        limits: super::store::StoreTarget::from(settings).limits,
    }
}
