//! What is there, in numbers: of this node, and of all that share its store.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::timeout};

use super::{
    Dashboard,
    input::{Answer, Asked, json as answer},
};
use crate::{
    domain::{ConnState, EventSource, Hub, LockState},
    lifecycle::{
        LockManager, answer_of,
        store::{NodeRow, NodeState, ParkReason, StoreCensus, StoreError, Timestamp},
    },
};

/// The store is read no more often than this, however many pages look.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest time that one look may take: what is of this node is shown without it.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What the store has told last.
#[derive(Debug, Default)]
pub(super) struct StoreLook(Mutex<Option<Looked>>);

#[derive(Debug)]
struct Looked {
    at: Instant,
    sample: Option<Arc<Sample>>,
}

#[derive(Debug)]
struct Sample {
    census: StoreCensus,
    nodes: Vec<NodeRow>,
}

impl StoreLook {
    async fn sample(&self, locks: &LockManager) -> Option<Arc<Sample>> {
        let mut last = self.0.lock().await;
        if let Some(looked) = last.as_ref().filter(|looked| looked.at.elapsed() < LOOK_EVERY) {
            return looked.sample.clone();
        }
        let sample = timeout(PATIENCE, look(locks)).await.ok().and_then(Result::ok).map(Arc::new);
        *last = Some(Looked { at: Instant::now(), sample: sample.clone() });
        sample
    }
}

async fn look(locks: &LockManager) -> Result<Sample, StoreError> {
    let store = locks.store();
    Ok(Sample { census: store.census().await?, nodes: store.nodes().await? })
}

/// One application. Counts only grow; a page makes rates of them.
#[derive(Serialize)]
struct App {
    id: String,
    key: String,
    enabled: bool,
    client_events: bool,
    connections: usize,
    max_connections: Option<usize>,
    users: usize,
    channels: usize,
    subscriptions: usize,
    waiting_bytes: usize,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    published: u64,
    client_events_relayed: u64,
    delivered: u64,
    opened: u64,
    http_calls: u64,
}

impl App {
    fn of(hub: &Hub) -> Self {
        let (app, stats, census) = (hub.app(), hub.stats(), hub.census());
        let (channels, subscriptions) =
            census.channels().fold((0, 0), |(channels, subs), (_, kind)| (channels + kind.occupied, subs + kind.subscriptions));
        let traffic = stats.traffic();
        Self {
            id: app.id.to_string(),
            key: app.key.to_string(),
            enabled: app.enabled,
            client_events: app.client_events,
            connections: census.connections(ConnState::Active),
            max_connections: Some(app.max_connections).filter(|max| *max > 0),
            users: census.users,
            channels,
            subscriptions,
            waiting_bytes: census.outbox_bytes,
            messages_in: traffic.frames_in,
            messages_out: traffic.frames_out,
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            published: stats.events(EventSource::Server),
            client_events_relayed: stats.events(EventSource::Client),
            delivered: stats.deliveries(),
            opened: hub.totals().0,
            http_calls: stats.http().calls,
        }
    }
}

/// `GET api/overview`: everything that the first view shows, and the applications there are.
pub(super) async fn show(asked: Asked) -> Answer {
    let Dashboard(inner) = &**asked.dashboard;
    let broker = &inner.broker;
    let mut apps: Vec<App> = broker.apps().iter().map(|hub| App::of(hub)).collect();
    apps.sort_by(|one, other| one.id.cmp(&other.id));
    let max = broker.max_connections();
    let memory = broker.outbox_memory();
    let store = match broker.locks() {
        None => json!({ "kind": inner.store, "keeps_locks": false }),
        Some(locks) => shared(inner.store, locks, inner.look.sample(locks).await.as_deref()),
    };
    answer(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": now(),
        "pid": std::process::id(),
        "uptime_ms": millis(inner.started.elapsed()),
        "ready": broker.is_ready(),
        "draining": broker.is_draining(),
        "connections": broker.connection_count(),
        "max_connections": (max < usize::MAX).then_some(max),
        "sockets": broker.socket_count(),
        "waiting_memory": memory.used(),
        "short_of_memory": broker.is_short_of_memory(),
        "store": store,
        "apps": apps,
    }))
}

fn shared(kind: &str, locks: &LockManager, sample: Option<&Sample>) -> Value {
    let numbers = locks.numbers();
    let alive =
        |sample: &Sample| sample.nodes.iter().filter(|node| matches!(node.view.state, NodeState::Alive | NodeState::Draining)).count();
    let parked = |sample: &Sample, dead: bool| -> i64 {
        sample.census.parked.iter().filter(|(_, reason, _)| (*reason == ParkReason::Dead) == dead).map(|(.., count)| count).sum()
    };
    json!({
        "kind": kind,
        "keeps_locks": true,
        "node": node_name(locks, sample),
        "incarnation": locks.incarnation(),
        "locks_available": numbers.available,
        "in_doubt": numbers.in_doubt,
        "holds": numbers.holds,
        "waiters": numbers.waiters,
        "unwritten": numbers.unwritten,
        // Null as long as the store does not answer.
        "answers": sample.is_some(),
        "held": sample.map(|sample| sample.census.locks(LockState::Held)),
        "grace": sample.map(|sample| sample.census.locks(LockState::Grace)),
        "nodes": sample.map(alive),
        "parked": sample.map(|sample| parked(sample, false)),
        "dead": sample.map(|sample| parked(sample, true)),
    })
}

fn node_name(locks: &LockManager, sample: Option<&Sample>) -> Option<String> {
    let me = locks.incarnation()?;
    sample?.nodes.iter().find(|node| node.view.incarnation == me).map(|node| node.view.name.clone())
}

/// `GET api/nodes`: those that share the store, newest first.
pub(super) async fn nodes(asked: Asked) -> Answer {
    let locks = asked.dashboard.locks()?;
    let rows = answer_of(locks.store().nodes()).await?;
    let me = locks.incarnation();
    let nodes: Vec<Value> = rows
        .iter()
        .filter(|node| node.view.state != NodeState::Swept)
        .map(|node| {
            json!({
                "incarnation": node.view.incarnation, "name": node.view.name, "state": node.view.state, "holds": node.holds,
                "this": Some(node.view.incarnation) == me, "heartbeat_at": node.heartbeat_at.to_rfc3339(),
                "lease_ms": millis(node.view.ttl), "started_at": node.started_at.to_rfc3339(),
                "fenced_at": node.fenced_at.map(Timestamp::to_rfc3339), "cause": node.end_cause,
            })
        })
        .collect();
    answer(&json!({ "now": now(), "nodes": nodes }))
}

/// This machine's clock, so that a page can say how old things are whatever its own says.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
