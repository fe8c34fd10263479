//! The places of endpoints in the log: made before anything is recorded, dropped when nobody has the endpoint any more.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::super::{Node, added::Added, raised};
use crate::lifecycle::{
    BoxedListener,
    listener::{ENDPOINT_PREFIX, Endpoint},
    store::{LifecycleStore, Shard, StartAt, StoreError},
};

/// How often it is looked for places that nobody needs.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How long a node has been at work when it looks for the first time. If nobody was there for a day, nobody could notice that an endpoint
/// is missing in the new configuration.
const FIRST_LOOK: Duration = Duration::from_secs(3_600);

/// Gives each endpoint that is new its place, at the end of the log: whatever is recorded from now on is owed to it.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn take_places(store: &dyn LifecycleStore, listeners: &[BoxedListener]) -> Result<(), StoreError> {
    for listener in listeners {
        if let BoxedListener::Endpoint(endpoint) = listener {
            take_place(store, &**endpoint).await?;
        }
    }
    Ok(())
}

pub(in crate::lifecycle::dispatcher) async fn take_place(store: &dyn LifecycleStore, endpoint: &dyn Endpoint) -> Result<(), StoreError> {
    let shard = Shard::of_webhooks(&endpoint.options().app, store.shards());
    store.create_consumer_of(endpoint.consumer(), shard, StartAt::End).await
}

/// The endpoints of this node.
pub(in crate::lifecycle::dispatcher) struct Ours {
    /// Those that it began with.
    pub(in crate::lifecycle::dispatcher) fixed: HashSet<String>,
    /// Those that came later.
    pub(in crate::lifecycle::dispatcher) added: Arc<Mutex<Added>>,
    /// True once those are known that are to be added at the start.
    pub(in crate::lifecycle::dispatcher) complete: watch::Receiver<bool>,
}

impl Ours {
    fn has(&self, name: &str) -> bool {
        self.fixed.contains(name) || self.added.lock().has(name)
    }
}

/// Drops the places of endpoints that this node does not have, and that no other has served for so long: they would hold back retention
/// for ever. One whose application or name was changed by mistake has that long to come back.
pub(in crate::lifecycle::dispatcher) async fn drop_orphans(node: Node, mut ours: Ours, idle: Duration) {
    raised(&mut ours.complete).await;
    let mut tick = tokio::time::interval_at(Instant::now() + FIRST_LOOK.min(idle), LOOK_EVERY.min(idle));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Ok(rows) = node.store.consumers().await else { continue };
        for row in rows.iter().filter(|row| row.name.starts_with(ENDPOINT_PREFIX) && !ours.has(&row.name)) {
            let name = &row.name;
            match node.store.drop_orphan(name, idle).await {
                Ok(true) => {
                    let (lag, parked) = (row.lag(), row.parked + row.dead);
                    tracing::warn!(
                        consumer.name = name,
                        lag,
                        parked,
                        "Dropped {name}: no node has had this endpoint for {}; {lag} entries of the log and {parked} put aside are owed no more",
                        humantime::format_duration(idle)
                    );
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(consumer.name = name, error = %error, "Whether {name} is needed is not known: {error}"),
            }
        }
    }
}
