//! The façade that joins applications, their live state and the node: what transports call, and what applications hold.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::RwLock;

use super::{NewPublication, Publication, PublishError, notices::ToConnections, served::Apps};
use crate::{
    domain::{
        App, ChannelInfo, ClientEvent, CloseCause, Conn, Counts, Delivery, EventSource, HandshakeRefusal, Hub, OutboxMemory, OverQuota,
        Pressure,
    },
    lifecycle::{Deliveries, Idempotency, LockManager},
    protocol::{ChannelName, CloseCode, SocketId},
};

/// The broker of one node. Cloning is a reference count; handlers and embedding programs keep one.
#[derive(Clone, Debug)]
pub struct Broker(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) apps: RwLock<Apps>,
    /// Most connections of the whole node.
    max_connections: AtomicUsize,
    connections: AtomicUsize,
    /// Upgraded sockets whose last frame is not written yet.
    sockets: Arc<AtomicUsize>,
    ready: AtomicBool,
    draining: AtomicBool,
    locks: OnceLock<LockManager>,
    deliveries: OnceLock<Deliveries>,
    idempotency: OnceLock<Idempotency>,
    memory: Arc<OutboxMemory>,
    /// Handshakes that name no application of ours.
    strangers: Counts<{ HandshakeRefusal::ALL.len() }>,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The node is leaving.
    #[error("The server is shutting down")]
    Draining,
    /// The node has all the connections it may have.
    #[error("Over capacity")]
    OverCapacity,
    /// The application was disabled in this moment.
    #[error("Application disabled")]
    Disabled,
    /// The application has.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
}

/// The place of one connection in its application and its node. Dropping it gives the place back.
#[derive(Debug)]
pub struct Admission {
    broker: Broker,
    hub: Arc<Hub>,
    socket_id: SocketId,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.hub.dismiss(self.socket_id);
        self.broker.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one upgraded socket for as long as it lives.
#[derive(Debug)]
pub struct SocketGuard(Arc<AtomicUsize>);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Broker {
    /// A broker for these applications, with at most `max_connections` of them all; 0 is no limit. Of two with one id or one key the later
    /// wins; configurations are checked before.
    pub fn new(apps: impl IntoIterator<Item = App>, max_connections: usize) -> Self {
        let mut served = Apps::default();
        apps.into_iter().for_each(|app| served.insert(Arc::new(Hub::new(Arc::new(app)))));
        Self(Arc::new(Inner {
            apps: RwLock::new(served),
            max_connections: AtomicUsize::new(if max_connections == 0 { usize::MAX } else { max_connections }),
            connections: AtomicUsize::new(0),
            sockets: Arc::default(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            locks: OnceLock::new(),
            deliveries: OnceLock::new(),
            idempotency: OnceLock::new(),
            memory: Arc::default(),
            strangers: Counts::default(),
        }))
    }

    /// The live state of an application.
    pub fn app(&self, app_id: &str) -> Option<Arc<Hub>> {
        self.0.apps.read().by_id.get(app_id).cloned()
    }

    /// The same, by the public key.
    pub fn app_by_key(&self, key: &str) -> Option<Arc<Hub>> {
        self.0.apps.read().by_key.get(key).cloned()
    }

    /// Every application.
    pub fn apps(&self) -> Vec<Arc<Hub>> {
        self.0.apps.read().by_id.values().cloned().collect()
    }

    /// Gives a connection its place, in its application and in the node.
    ///
    /// # Errors
    /// [`NotAdmitted`] when there is none.
    pub fn admit(&self, hub: &Arc<Hub>, conn: &Conn) -> Result<Admission, NotAdmitted> {
        if self.is_draining() {
            return Err(NotAdmitted::Draining);
        }
        if self.is_short_of_memory() {
            return Err(NotAdmitted::OverCapacity);
        }
        let max = self.0.max_connections.load(Ordering::Relaxed);
        let room = |count: usize| (count < max).then_some(count + 1);
        self.0.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map_err(|_| NotAdmitted::OverCapacity)?;
        if let Err(over) = hub.admit(conn) {
            self.0.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(over.into());
        }
        let admission = Admission { broker: self.clone(), hub: Arc::clone(hub), socket_id: conn.socket_id() };
        // Whoever disables it closes the connections that have a place by then; this one may have got its own later.
        if hub.is_enabled() { Ok(admission) } else { Err(NotAdmitted::Disabled) }
    }

    /// Counts an upgraded socket until the guard is dropped.
    pub fn socket(&self) -> SocketGuard {
        self.0.sockets.fetch_add(1, Ordering::Relaxed);
        SocketGuard(Arc::clone(&self.0.sockets))
    }

    /// Upgraded sockets that are not fully written yet, refused ones included.
    pub fn socket_count(&self) -> usize {
        self.0.sockets.load(Ordering::Relaxed)
    }

    /// Connections of all applications.
    pub fn connection_count(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Most connections of all applications; `usize::MAX` is no limit.
    pub fn max_connections(&self) -> usize {
        self.0.max_connections.load(Ordering::Relaxed)
    }

    /// Counts a handshake that became no connection, for its application if it names one of ours.
    pub(crate) fn count_refusal(&self, app_id: Option<&str>, why: HandshakeRefusal) {
        match app_id.and_then(|id| self.app(id)) {
            Some(hub) => hub.stats().handshake_refused(why),
            None => self.0.strangers.add(why as usize),
        }
    }

    /// Handshakes that became no connection and name no application of ours.
    pub(crate) fn refused_strangers(&self) -> impl Iterator<Item = (HandshakeRefusal, u64)> {
        HandshakeRefusal::ALL.iter().map(|why| (*why, self.0.strangers.get(*why as usize)))
    }

    /// Whether one more connection would be admitted.
    pub fn has_room(&self) -> bool {
        !self.is_draining() && !self.is_short_of_memory() && self.connection_count() < self.0.max_connections.load(Ordering::Relaxed)
    }

    pub(super) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Who tells the connections what became of their locks.
    pub(crate) fn notices(&self) -> ToConnections {
        ToConnections(Arc::downgrade(&self.0))
    }

    /// The node has started to deliver webhooks.
    pub(crate) fn set_deliveries(&self, deliveries: Deliveries) {
        // A broker belongs to one server, which starts once.
        let _ = self.0.deliveries.set(deliveries);
    }

    /// What is owed to endpoints of webhooks, if there is a store.
    pub(crate) fn deliveries(&self) -> Option<&Deliveries> {
        self.0.deliveries.get()
    }

    /// Where keys of publishes are kept in a store.
    pub(crate) fn set_idempotency(&self, idempotency: Idempotency) {
        // A broker belongs to one server, which starts once.
        let _ = self.0.idempotency.set(idempotency);
    }

    /// The keys of publishes: in memory, unless somebody has said where else.
    pub(crate) fn idempotency(&self) -> &Idempotency {
        self.0.idempotency.get_or_init(Idempotency::of_process)
    }

    /// The node has started to keep locks.
    pub(crate) fn set_locks(&self, locks: LockManager) {
        // A broker belongs to one server, which starts once.
        let _ = self.0.locks.set(locks);
    }

    /// The locks of this node, and the log behind them; `None` until the server has started, and for a server without a store.
    pub fn locks(&self) -> Option<&LockManager> {
        self.0.locks.get()
    }

    /// Lowers the limit of connections to what the process can carry.
    pub(crate) fn limit_connections(&self, most: usize) {
        self.0.max_connections.fetch_min(most, Ordering::Relaxed);
    }

    /// What the outboxes of all connections hold.
    pub(crate) fn outbox_memory(&self) -> &Arc<OutboxMemory> {
        &self.0.memory
    }

    /// Whether so much waits to be written that new work is turned away: connections, publishes and client events.
    pub fn is_short_of_memory(&self) -> bool {
        self.0.memory.pressure() > Pressure::None
    }

    /// What time brings, about once a second. When memory is short, connections that take nothing are ended: they would keep it short.
    pub(crate) fn tick(&self, now: Instant) {
        let short = self.0.memory.look() > Pressure::None;
        for hub in self.apps() {
            hub.tick(now);
            if short {
                hub.end_stalled();
            }
        }
    }

    /// Every part has started.
    pub(crate) fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Relaxed);
    }

    /// Whether every part has started and nothing is being stopped.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed) && !self.is_draining()
    }

    /// From here on no connection is admitted.
    pub(crate) fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node is leaving.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Publishes one event to some channels of an application. It means accepted, not read by anybody.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was delivered then.
    pub fn publish(&self, app_id: &str, publication: NewPublication<'_>) -> Result<(), PublishError> {
        let hub = self.app(app_id).ok_or(PublishError::UnknownApp)?;
        let publication = publication.validate(&hub.app())?;
        self.deliver(&hub, &publication);
        Ok(())
    }

    /// Publishes to every connection that is signed in as a user.
    ///
    /// # Errors
    /// As [`Broker::publish`].
    pub fn send_to_user(&self, app_id: &str, user_id: &str, event: &str, data: &str) -> Result<(), PublishError> {
        let channel = ChannelName::of_user(user_id).ok_or(PublishError::InvalidChannel)?;
        let publication =
            NewPublication { channels: vec![channel.as_str()], event: event.to_owned(), data: data.to_owned(), socket_id: None };
        self.publish(app_id, publication)
    }

    /// Delivers a checked publication: each channel once, in the order they were named.
    pub(crate) fn deliver(&self, hub: &Hub, publication: &Publication<'_>) {
        let now = Instant::now();
        for channel in publication.channels() {
            let keep_for = channel.kind().cache.then(|| hub.app().limits.cache_ttl);
            let (event, data) = (publication.event(), publication.data());
            let delivery = Delivery { event, data, user_id: None, except: publication.except(), sender: None, keep_for };
            hub.stats().delivered(EventSource::Server, hub.deliver(channel, &delivery, now));
        }
    }

    /// Relays a client event to the other subscribers of its channel. It is never kept (protocol.md 3).
    pub(crate) fn relay(&self, hub: &Hub, sender: SocketId, event: &ClientEvent) {
        let ClientEvent { channel: _, event: name, data, user_id } = event;
        let (user_id, sender) = (user_id.as_deref(), Some(sender));
        let delivery = Delivery { event: name, data, user_id, except: sender, sender, keep_for: None };
        hub.stats().delivered(EventSource::Client, hub.deliver(&event.channel, &delivery, Instant::now()));
    }

    /// Ends every connection signed in as a user (protocol.md 4.4); says how many.
    pub fn terminate_user(&self, app_id: &str, user_id: &str) -> usize {
        let connections = self.app(app_id).map(|hub| hub.connections_of(user_id)).unwrap_or_default();
        let kick = |conn: &&Conn| conn.fail(CloseCause::Kicked, CloseCode::UNAUTHORIZED, "You got disconnected by the app.");
        connections.iter().filter(kick).count()
    }

    /// Ends one connection with a code and a reason. `false`: there is none, or it was ending already.
    pub fn close_socket(&self, app_id: &str, socket_id: SocketId, code: CloseCode, reason: &str) -> bool {
        let conn = self.app(app_id).and_then(|hub| hub.connection(socket_id));
        conn.is_some_and(|conn| conn.fail(CloseCause::Kicked, code, reason))
    }

    /// Every occupied channel of an application whose name starts with `prefix`.
    pub fn channels(&self, app_id: &str, prefix: &str) -> Vec<(ChannelName, ChannelInfo)> {
        self.app(app_id).map(|hub| hub.occupied_channels(prefix, Instant::now())).unwrap_or_default()
    }

    /// The distinct users on a presence channel.
    pub fn channel_users(&self, app_id: &str, channel: &ChannelName) -> Vec<Arc<str>> {
        self.app(app_id).map(|hub| hub.channel_users(channel)).unwrap_or_default()
    }

    /// At most `limit` connections of an application in the order of their ids, from the first one behind `after`.
    pub fn connections(&self, app_id: &str, after: Option<SocketId>, limit: usize) -> Vec<Conn> {
        self.app(app_id).map(|hub| hub.connections(after, limit)).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;
