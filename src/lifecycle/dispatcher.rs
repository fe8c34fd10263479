//! Brings the log to its listeners: each reads from an offset of its own, in order for each resource, and hears of everything.
//!
//! A [`reader`] is one listener on this node; it claims shards, and each claimed shard has a [`worker`], whose step is: read from the
//! offset, call, then move on, wait, or put the entry aside. What was put aside is tried again by [`aside`], so one entry that fails
//! holds up what comes after it for its resource, and nothing else. Correctness is in the store's compare-and-set on epoch and
//! position; leases and bells only say who looks, and when.

mod added;
mod aside;
mod backoff;
mod clocks;
mod delivery;
mod effect;
mod reader;
mod worker;

#[cfg(test)]
pub(in crate::lifecycle) mod tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

pub(crate) use self::delivery::take_places;
use self::{
    added::Added,
    backoff::Pace,
    delivery::{Ours, Route, drop_orphans},
    effect::Effect,
    reader::{Held, Reader},
};
use super::{
    doorbell::Rings,
    listener::BoxedListener,
    store::{LifecycleStore, PostgresStore},
};

/// Longest name of a listener: the column's.
const MAX_NAME_BYTES: usize = 200;

/// How often a stop looks whether webhooks are still owed.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How listeners are served, all of a node alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DispatcherSettings {
    /// How long a claim lasts without a sign of life. It only saves work.
    pub(crate) lease: Duration,
    /// How often all leases of the node are renewed, in one write.
    pub(crate) renew_every: Duration,
    /// How often to look for shards that nobody reads, if some are not ours.
    pub(crate) look_every: Duration,
    /// How many entries are read at once, and at most committed together.
    pub(crate) batch: u32,
    /// How long a batch may go on before what is done of it is stored.
    pub(crate) store_after: Duration,
    /// How long a listener may take for one entry.
    pub(crate) time_limit: Duration,
    /// After so many failures an entry waits aside, and lets others pass.
    pub(crate) aside_after: u32,
    /// So many resources of a listener may wait aside; then its shards wait at the next that fails. Otherwise a listener that fails
    /// at everything would copy the log into the table of parked entries.
    pub(crate) max_aside: usize,
    /// An alarm is given for a reader that is so many entries behind: retention waits for it.
    pub(crate) lag_alarm: i64,
    /// How fast an endpoint of webhooks that takes nothing is left alone.
    pub(crate) webhook_pace: Pace,
    /// The place of an endpoint in the log is dropped when no node has had the endpoint for so long, or for the longest time that
    /// another one of this node is tried.
    pub(crate) orphan_after: Duration,
    /// How long the stop waits for listeners that are at work.
    pub(crate) stop_within: Duration,
}

impl Default for DispatcherSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            renew_every: Duration::from_secs(5),
            look_every: Duration::from_secs(2),
            batch: 200,
            store_after: Duration::from_secs(1),
            time_limit: Duration::from_secs(30),
            aside_after: 3,
            max_aside: 1000,
            lag_alarm: 100_000,
            webhook_pace: Pace::WEBHOOKS,
            orphan_after: Duration::from_secs(24 * 60 * 60),
            stop_within: Duration::from_secs(5),
        }
    }
}

/// Why listeners cannot be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerError {
    /// Two of one name would share an offset.
    #[error("two listeners are called {name}; an offset is stored under the name, so each needs its own")]
    SameName {
        /// The name.
        name: String,
    },
    /// A name that the store cannot keep.
    #[error("a listener's name has 1 to 200 bytes, {name:?} has {}", name.len())]
    BadName {
        /// The name.
        name: String,
    },
    /// Its transaction needs the broker's own PostgreSQL.
    #[error("listener {name} commits its effects together with its offset, which needs a PostgreSQL store; set [store] url")]
    NeedsPostgres {
        /// The listener.
        name: String,
    },
}

/// What listeners are started with.
pub(crate) struct DispatcherParts {
    /// Where the log is.
    pub(crate) store: Arc<dyn LifecycleStore>,
    /// The same, if it is PostgreSQL.
    pub(crate) postgres: Option<Arc<PostgresStore>>,
    /// Who claims. No other process that runs may be called so; the next start of this one should be: it finds its claims.
    pub(crate) owner: String,
    /// When to look.
    pub(crate) rings: Rings,
    /// Who listens.
    pub(crate) listeners: Vec<BoxedListener>,
    /// Whether endpoints of webhooks may be added later.
    pub(crate) grows: bool,
    pub(crate) settings: DispatcherSettings,
}

/// The listeners of a node, at work until stopped. Dropped, it is as if the process had been killed.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    node: Node,
    /// The endpoints of webhooks among the listeners.
    routes: Vec<Arc<Route>>,
    stop: watch::Sender<bool>,
    readers: Mutex<JoinSet<()>>,
    clocks: Mutex<JoinSet<()>>,
    /// Whose claims are renewed.
    held: HeldByAll,
    /// Endpoints that came later.
    added: Arc<Mutex<Added>>,
    /// True once those that are known at the start have been added.
    complete: watch::Sender<bool>,
}

/// The shards that each of the listeners has.
type HeldByAll = Arc<Mutex<Vec<Arc<Held>>>>;

/// What all readers of a node share.
#[derive(Clone, Debug)]
struct Node {
    store: Arc<dyn LifecycleStore>,
    owner: Arc<str>,
    settings: DispatcherSettings,
    /// The last position of each shard, as it was last seen. Empty at first.
    heads: watch::Receiver<Vec<i64>>,
    /// Changes when a lease was taken away.
    revoked: watch::Receiver<u64>,
    /// True: finish.
    stop: watch::Receiver<bool>,
}

impl Dispatcher {
    /// Starts all listeners on the runtime this is called on. It waits for nothing: a store that is away is waited for by each.
    ///
    /// # Errors
    /// [`ListenerError`] when the listeners cannot work as they are.
    pub(crate) fn start(parts: DispatcherParts) -> Result<Self, ListenerError> {
        let DispatcherParts { store, postgres, owner, rings, listeners, grows, settings } = parts;
        check(&listeners, postgres.is_some())?;
        let (stop, stopped) = watch::channel(false);
        let (head, heads) = watch::channel(Vec::new());
        let (revoke, revoked) = watch::channel(0);
        let node = Node { store, owner: Arc::from(owner.as_str()), settings, heads, revoked, stop: stopped };
        let (mut readers, mut held, mut routes) = (JoinSet::new(), Vec::new(), Vec::new());
        for listener in listeners {
            let options = listener.options();
            let name = listener.name().to_owned();
            let effect = match (listener, &postgres) {
                (BoxedListener::Plain(listener), _) => Effect::Plain(listener),
                (BoxedListener::Endpoint(endpoint), _) => {
                    let route = Arc::new(Route::new(endpoint, settings.webhook_pace));
                    routes.push(Arc::clone(&route));
                    Effect::Endpoint(route)
                }
                (BoxedListener::Transactional(listener), Some(store)) => Effect::Transactional { listener, pool: store.pool().clone() },
                (BoxedListener::Transactional(_), None) => return Err(ListenerError::NeedsPostgres { name }),
            };
            let reader = Reader::new(node.clone(), name, options, effect);
            held.push(reader.held());
            readers.spawn(reader.run());
        }
        let mut clocks = JoinSet::new();
        // Programs that read by themselves have nobody else to watch them.
        clocks.spawn(clocks::watch_lag(node.clone()));
        let held = HeldByAll::new(Mutex::new(held));
        if grows || !readers.is_empty() {
            clocks.spawn(clocks::watch_heads(node.clone(), rings, head));
            clocks.spawn(clocks::renew(node.clone(), Arc::clone(&held), revoke));
        }
        let (added, (complete, completed)) = (Arc::<Mutex<Added>>::default(), watch::channel(!grows));
        let ours = routes.iter().map(|route| route.endpoint.consumer().to_owned()).collect();
        let longest = routes.iter().map(|route| route.endpoint.options().retry_for).max();
        let ours = Ours { fixed: ours, added: Arc::clone(&added), complete: completed };
        clocks.spawn(drop_orphans(node.clone(), ours, settings.orphan_after.max(longest.unwrap_or_default())));
        let (readers, clocks) = (Mutex::new(readers), Mutex::new(clocks));
        Ok(Self { node, routes, stop, readers, clocks, held, added, complete })
    }

    /// Waits until nothing is owed to the endpoints of webhooks, but for what was given up; at most for so long. False if something is.
    pub(crate) async fn drained(&self, within: Duration) -> bool {
        let mut names: HashSet<String> = self.routes.iter().map(|route| route.endpoint.consumer().to_owned()).collect();
        names.extend(self.added.lock().names());
        let owed = async || match self.node.store.consumers().await {
            Ok(rows) => rows.iter().any(|row| names.contains(&row.name) && (row.lag() > 0 || row.parked > 0)),
            Err(_) => true,
        };
        let drained = async {
            while owed().await {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        names.is_empty() || tokio::time::timeout(within, drained).await.is_ok()
    }

    /// Lets each listener finish what it is at, then gives the claims back, so that another node need not wait for their end.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        self.added.lock().stop_all();
        let mut readers = std::mem::take(&mut *self.readers.lock());
        while let Some(ended) = readers.join_next().await {
            log_failed(ended);
        }
        let mut clocks = std::mem::take(&mut *self.clocks.lock());
        clocks.shutdown().await;
        let limit = Duration::from_secs(2);
        match tokio::time::timeout(limit, self.node.store.give_up_leases(&self.node.owner, None)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "Claims of listeners were not given back, they will run out: {error}"),
            Err(_elapsed) => tracing::warn!("Claims of listeners were not given back, they will run out: the store does not answer"),
        }
    }
}

fn check(listeners: &[BoxedListener], postgres: bool) -> Result<(), ListenerError> {
    let mut names = HashSet::new();
    for listener in listeners {
        let name = listener.name().to_owned();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
            return Err(ListenerError::BadName { name });
        }
        if matches!(listener, BoxedListener::Transactional(_)) && !postgres {
            return Err(ListenerError::NeedsPostgres { name });
        }
        if !names.insert(name.clone()) {
            return Err(ListenerError::SameName { name });
        }
    }
    Ok(())
}

fn log_failed(reader: Result<(), JoinError>) {
    if let Err(error) = reader {
        tracing::error!(error = %error, "A listener's reader did not end well: {error}");
    }
}

/// Resolves when the flag is up, or whoever raises it is gone.
async fn raised(flag: &mut watch::Receiver<bool>) {
    flag.wait_for(|raised| *raised).await.ok();
}
