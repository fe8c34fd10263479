//! The live state of one application: its connections, channels and signed-in users.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::{Mutex, RwLock};

use super::{
    App, Census, ChannelWatch, CloseCause, Conn, ConnState, HubStats, Rates, Receipts,
    channel::{ChannelFull, ChannelInfo, Delivery, Join, Joined},
    registry::Registry,
    users::Users,
};
use crate::protocol::{ChannelName, CloseCode, ServerFrame, SignedUser, SocketId};

/// Everything that is alive in one application.
#[derive(Debug)]
pub struct Hub {
    id: Arc<str>,
    /// Replaced as a whole when the application is changed.
    app: RwLock<Arc<App>>,
    /// Counts the replacements: whoever keeps an application looks here whether it is still the one.
    version: AtomicU64,
    connections: Mutex<BTreeMap<SocketId, Conn>>,
    pub(super) channels: Registry,
    users: Users,
    counters: Counters,
    rates: RwLock<Arc<Rates>>,
    receipts: Arc<Receipts>,
    stats: Arc<HubStats>,
}

/// Opens and closes since the start. `opened - closed` is the number of open connections, at every quiet moment.
#[derive(Debug)]
struct Counters {
    opened: AtomicU64,
    closed: [AtomicU64; CloseCause::ALL.len()],
}

/// The application has all the connections it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Application is over connection quota")]
pub struct OverQuota;

impl Hub {
    /// An application without connections.
    pub fn new(app: Arc<App>) -> Self {
        let channels = Registry::new(app.limits.max_presence_members, app.subscription_count);
        let counters = Counters { opened: AtomicU64::new(0), closed: [const { AtomicU64::new(0) }; CloseCause::ALL.len()] };
        Self {
            id: Arc::clone(&app.id),
            connections: Mutex::default(),
            channels,
            users: Users::default(),
            counters,
            rates: RwLock::new(Arc::new(Rates::new(&app.limits))),
            receipts: Arc::default(),
            stats: Arc::default(),
            version: AtomicU64::new(0),
            app: RwLock::new(app),
        }
    }

    /// The application's id, which never changes.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The application as it is now.
    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.app.read())
    }

    /// Whether it is served at all.
    pub fn is_enabled(&self) -> bool {
        self.app.read().enabled
    }

    /// How often the application was replaced.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Changes the application while it is at work; what is to be done about those who are connected is the caller's to decide.
    pub(crate) fn replace(&self, app: Arc<App>) {
        self.channels.set_rules(app.limits.max_presence_members, app.subscription_count);
        let former = std::mem::replace(&mut *self.app.write(), Arc::clone(&app));
        // Or every change would give the full rate once more.
        if !former.limits.has_rates_of(&app.limits) {
            *self.rates.write() = Arc::new(Rates::new(&app.limits));
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// How fast it may publish and ask over HTTP.
    pub fn rates(&self) -> Arc<Rates> {
        Arc::clone(&self.rates.read())
    }

    /// Which client events were delivered lately.
    pub fn receipts(&self) -> &Arc<Receipts> {
        &self.receipts
    }

    /// From here on, somebody is told what happens on the channels. To be called before anybody connects.
    pub fn watch(&self, watch: Arc<dyn ChannelWatch>) {
        self.channels.watch(watch);
    }

    /// Tells the watch who is on the channels: it wants to hear of more than before.
    pub(crate) fn tell_again(&self) {
        self.channels.tell_again();
    }

    /// What has happened here since the start.
    pub fn stats(&self) -> &Arc<HubStats> {
        &self.stats
    }

    /// What is here now.
    pub fn census(&self) -> Census {
        let mut census = Census::of_users(self.users.count());
        self.channels.census(&mut census);
        census.count_connections(|after, limit| self.connections(after, limit));
        census
    }

    /// Gives a connection its place, before it is answered; every connection counts, subscribed or not.
    ///
    /// # Errors
    /// [`OverQuota`] when there is none left.
    pub fn admit(&self, conn: &Conn) -> Result<(), OverQuota> {
        let max = self.app.read().max_connections;
        let mut connections = self.connections.lock();
        if max > 0 && connections.len() >= max {
            return Err(OverQuota);
        }
        connections.insert(conn.socket_id(), conn.clone());
        Ok(())
    }

    /// Takes the place back.
    pub fn dismiss(&self, socket_id: SocketId) {
        self.connections.lock().remove(&socket_id);
    }

    /// The handshake has succeeded: from here on the connection has an end that is counted.
    pub fn opened(&self, conn: &Conn) {
        conn.set_state(ConnState::Active);
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// The connection is over, after it was [`Hub::opened`]: leaves its channels, signs out, gives its place back.
    /// Gives the channels it was on.
    pub fn closed(&self, conn: &Conn, user: Option<&SignedUser>, cause: CloseCause, now: Instant) -> Vec<ChannelName> {
        conn.set_state(ConnState::Closing);
        let channels = conn.channels();
        for channel in &channels {
            self.leave(channel, conn, now);
        }
        if let Some(user) = user {
            self.users.sign_out(conn, user);
        }
        self.dismiss(conn.socket_id());
        self.counters.closed[cause as usize].fetch_add(1, Ordering::Relaxed);
        channels
    }

    /// Connections opened since the start, and closed by cause.
    pub fn totals(&self) -> (u64, impl Iterator<Item = (CloseCause, u64)>) {
        let closed = CloseCause::ALL.iter().map(|cause| (*cause, self.counters.closed[*cause as usize].load(Ordering::Relaxed)));
        (self.counters.opened.load(Ordering::Relaxed), closed)
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.connections.lock().len()
    }

    /// One connection.
    pub fn connection(&self, socket_id: SocketId) -> Option<Conn> {
        self.connections.lock().get(&socket_id).cloned()
    }

    /// At most `limit` connections in the order of their ids, from the first one behind `after`.
    pub fn connections(&self, after: Option<SocketId>, limit: usize) -> Vec<Conn> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.connections.lock().range((start, Bound::Unbounded)).take(limit).map(|(_, conn)| conn.clone()).collect()
    }

    /// Subscribes a connection; everything it and the others are told is queued when this returns. A `#server-to-user-` channel
    /// is only acknowledged: what it carries comes by sign-in (protocol.md 4.2).
    ///
    /// # Errors
    /// [`ChannelFull`] when the presence channel has no room for one more user.
    pub fn join(&self, channel: &ChannelName, join: &Join<'_>) -> Result<Joined, ChannelFull> {
        let joined = if channel.user_id().is_some() {
            join.conn.push(ServerFrame::SubscriptionSucceeded { channel: channel.as_str() }.encode());
            for frame in join.greeting {
                join.conn.push(frame.clone());
            }
            Joined::New
        } else {
            self.channels.join(channel, join)?
        };
        join.conn.add_channel(channel);
        Ok(joined)
    }

    /// Ends a subscription; the others are told when this returns.
    pub fn leave(&self, channel: &ChannelName, conn: &Conn, now: Instant) {
        conn.remove_channel(channel);
        self.channels.leave(channel, conn.socket_id(), now);
    }

    /// Delivers an event to a channel, or to all connections of the user whose channel it is. Says how many took it.
    pub fn deliver(&self, channel: &ChannelName, delivery: &Delivery<'_>, now: Instant) -> usize {
        match channel.user_id() {
            Some(user_id) => self.users.deliver(user_id, channel, delivery),
            None => self.channels.deliver(channel, delivery, now),
        }
    }

    /// Signs a connection in; see protocol.md 4.
    pub fn sign_in(&self, conn: &Conn, user: &SignedUser, user_data: &str, previous: Option<&SignedUser>) {
        self.users.sign_in(conn, user, user_data, previous);
    }

    /// The connections of a signed-in user.
    pub fn connections_of(&self, user_id: &str) -> Vec<Conn> {
        self.users.connections(user_id)
    }

    /// A look at one channel; zeros when nobody is there.
    pub fn channel(&self, channel: &ChannelName, now: Instant) -> ChannelInfo {
        self.channels.info(channel, now)
    }

    /// The distinct users on a presence channel.
    pub fn channel_users(&self, channel: &ChannelName) -> Vec<Arc<str>> {
        self.channels.user_ids(channel)
    }

    /// Every occupied channel whose name starts with `prefix`, by name. User channels are never among them.
    pub fn occupied_channels(&self, prefix: &str, now: Instant) -> Vec<(ChannelName, ChannelInfo)> {
        self.channels.occupied(prefix, now)
    }

    /// What time brings: owed counts are told, expired cache entries dropped. Call it about once a second.
    pub fn tick(&self, now: Instant) {
        self.channels.tick(now);
        self.receipts.expire(self.app.read().limits.receipt_window, now);
    }

    /// Ends connections that take nothing of what waits for them; to be called about once a second while memory is short.
    pub fn end_stalled(&self) {
        let connections: Vec<Conn> = self.connections.lock().values().cloned().collect();
        for conn in connections.iter().filter(|conn| conn.outbox().end_if_stalled()) {
            tracing::debug!(app.id = %self.id, socket.id = %conn.socket_id(), "Ended a connection that takes nothing: memory is short");
        }
    }

    /// Ends all connections.
    pub(crate) fn close_all(&self, code: CloseCode, message: &str) {
        for conn in self.connections(None, usize::MAX) {
            conn.fail(CloseCause::Kicked, code, message);
        }
    }

    /// Channels in memory.
    #[cfg(test)]
    pub(crate) fn channels_in_memory(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
