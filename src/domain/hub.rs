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

use parking_lot::Mutex;

use super::{
    App, Census, ChannelWatch, CloseCause, Conn, ConnState, HubStats, Rates,
    channel::{ChannelFull, ChannelInfo, Delivery, Join, Joined},
    registry::Registry,
    users::Users,
};
use crate::protocol::{ChannelName, ServerFrame, SignedUser, SocketId};

/// Everything that is alive in one application.
#[derive(Debug)]
pub struct Hub {
    app: Arc<App>,
    connections: Mutex<BTreeMap<SocketId, Conn>>,
    channels: Registry,
    users: Users,
    counters: Counters,
    rates: Rates,
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
        let rates = Rates::new(&app.limits);
        Self { app, connections: Mutex::default(), channels, users: Users::default(), counters, rates, stats: Arc::default() }
    }

    /// The application.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// How fast it may publish and ask over HTTP.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// From here on, somebody is told what happens on the channels. To be called before anybody connects.
    pub fn watch(&self, watch: Arc<dyn ChannelWatch>) {
        self.channels.watch(watch);
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
        let mut connections = self.connections.lock();
        if self.app.max_connections > 0 && connections.len() >= self.app.max_connections {
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
    }

    /// Ends connections that take nothing of what waits for them; to be called about once a second while memory is short.
    pub fn end_stalled(&self) {
        let connections: Vec<Conn> = self.connections.lock().values().cloned().collect();
        for conn in connections.iter().filter(|conn| conn.outbox().end_if_stalled()) {
            tracing::debug!(app.id = %self.app.id, socket.id = %conn.socket_id(), "Ended a connection that takes nothing: memory is short");
        }
    }

    /// Channels in memory.
    #[cfg(test)]
    pub(crate) fn channels_in_memory(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::conn::tests::{conn, conn_in, received},
        *,
    };
    use crate::protocol::Member;

    fn hub(change: impl FnOnce(&mut App)) -> Hub {
        let mut app = App::for_tests();
        change(&mut app);
        Hub::new(Arc::new(app))
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 200).unwrap()
    }

    fn member(id: &str) -> Member {
        Member { user_id: id.into(), user_info: None }
    }

    fn join(hub: &Hub, channel: &str, conn: &Conn, member: Option<&Member>) -> Result<Joined, ChannelFull> {
        hub.join(&name(channel), &Join { conn, member, greeting: &[], now: Instant::now() })
    }

    fn event(data: &str) -> Delivery<'_> {
        Delivery { event: "e", data, user_id: None, except: None, sender: None, keep_for: None }
    }

    #[test]
    fn a_second_tab_of_the_same_user_does_not_announce_twice() {
        let hub = hub(|_| {});
        let (watcher, tab1, tab2) = (conn(1), conn(2), conn(3));
        join(&hub, "presence-x", &watcher, Some(&member("w"))).unwrap();
        join(&hub, "presence-x", &tab1, Some(&member("42"))).unwrap();
        join(&hub, "presence-x", &tab2, Some(&member("42"))).unwrap();
        let seen = received(&watcher);
        assert_eq!(seen.len(), 2, "its own success and one member_added: {seen:?}");
        assert!(received(&tab2)[0].contains(r#"\"count\":2"#));
        hub.leave(&name("presence-x"), &tab1, Instant::now());
        assert_eq!(received(&watcher), Vec::<String>::new());
        hub.leave(&name("presence-x"), &tab2, Instant::now());
        assert!(received(&watcher)[0].contains("member_removed"));
    }

    #[test]
    fn a_full_presence_channel_still_takes_a_second_tab() {
        let hub = hub(|app| app.limits.max_presence_members = 2);
        for n in 1..=2 {
            join(&hub, "presence-x", &conn(n), Some(&member(&n.to_string()))).unwrap();
        }
        assert_eq!(join(&hub, "presence-x", &conn(3), Some(&member("3"))), Err(ChannelFull));
        assert_eq!(join(&hub, "presence-x", &conn(4), Some(&member("1"))), Ok(Joined::New));
        assert_eq!(hub.channel(&name("presence-x"), Instant::now()).user_count, 2);
    }

    #[test]
    fn a_failed_join_leaves_no_channel_behind() {
        let hub = hub(|app| app.limits.max_presence_members = 0);
        assert!(join(&hub, "presence-x", &conn(1), Some(&member("1"))).is_err());
        hub.tick(Instant::now());
        assert_eq!(hub.channels_in_memory(), 0);
    }

    #[test]
    fn an_empty_channel_is_gone() {
        let hub = hub(|_| {});
        let one = conn(1);
        join(&hub, "news", &one, None).unwrap();
        assert_eq!(join(&hub, "news", &one, None), Ok(Joined::Again));
        hub.leave(&name("news"), &one, Instant::now());
        assert_eq!(hub.channels_in_memory(), 0);
    }

    #[test]
    fn a_cached_event_is_not_counted_for_each_who_gets_it() {
        let (hub, memory, data) = (hub(|_| {}), Arc::clone(conn(0).outbox().memory()), "x".repeat(100_000));
        hub.deliver(&name("cache-a"), &Delivery { keep_for: Some(Duration::from_secs(60)), ..event(&data) }, Instant::now());
        let crowd: Vec<Conn> = (1..=100).map(|n| conn_in(n, Arc::clone(&memory))).collect();
        assert!(crowd.iter().all(|conn| join(&hub, "cache-a", conn, None).is_ok() && conn.outbox().waiting().1 > data.len()));
        assert!(memory.used() < 2 * data.len(), "{}", memory.used());
    }

    #[test]
    fn a_cached_event_survives_an_empty_channel_until_its_time() {
        let hub = hub(|_| {});
        let ttl = Duration::from_secs(60);
        let now = Instant::now();
        hub.deliver(&name("cache-a"), &Delivery { keep_for: Some(ttl), ..event("1") }, now);
        let late = conn(1);
        join(&hub, "cache-a", &late, None).unwrap();
        assert!(received(&late)[1].contains(r#""data":"1""#));
        hub.leave(&name("cache-a"), &late, now);
        assert_eq!(hub.channel(&name("cache-a"), now).cached, Some(("1".into(), ttl)));
        hub.tick(now + ttl);
        assert_eq!(hub.channels_in_memory(), 0);
        join(&hub, "cache-a", &late, None).unwrap();
        assert!(received(&late)[1].contains("pusher:cache_miss"));
    }

    #[test]
    fn a_large_channel_tells_its_count_every_five_seconds() {
        let hub = hub(|app| app.subscription_count = true);
        let now = Instant::now();
        let conns: Vec<_> = (0..103).map(conn).collect();
        for conn in &conns {
            hub.join(&name("news"), &Join { conn, member: None, greeting: &[], now }).unwrap();
        }
        let counts = |conn: &Conn| received(conn).into_iter().filter(|f| f.contains("subscription_count")).collect::<Vec<_>>();
        let seen = counts(&conns[0]);
        assert_eq!(seen.len(), 100, "one each up to 100, then none");
        hub.tick(now + Duration::from_secs(4));
        assert!(counts(&conns[0]).is_empty());
        hub.tick(now + Duration::from_secs(5));
        let late = counts(&conns[0]);
        assert!(late.len() == 1 && late[0].contains(r#"\"subscription_count\":103"#), "{late:?}");
    }

    #[test]
    fn every_connection_counts_and_gives_its_place_back() {
        let hub = hub(|app| app.max_connections = 1);
        let (one, two) = (conn(1), conn(2));
        hub.admit(&one).unwrap();
        assert_eq!(hub.admit(&two), Err(OverQuota));
        hub.opened(&one);
        hub.closed(&one, None, CloseCause::Gone, Instant::now());
        hub.admit(&two).unwrap();
        let (opened, closed) = hub.totals();
        assert_eq!((opened, closed.map(|(_, n)| n).sum::<u64>()), (1, 1));
    }

    #[test]
    fn subscribers_on_many_threads_see_one_order() {
        let hub = hub(|_| {});
        let watchers: Vec<_> = (0..4).map(conn).collect();
        for watcher in &watchers {
            join(&hub, "news", watcher, None).unwrap();
            received(watcher);
        }
        std::thread::scope(|scope| {
            for publisher in 0..4 {
                let hub = &hub;
                scope.spawn(move || {
                    for n in 0..200 {
                        hub.deliver(&name("news"), &event(&format!("{publisher}.{n}")), Instant::now());
                    }
                });
            }
        });
        let first = received(&watchers[0]);
        assert_eq!(first.len(), 800);
        assert!(watchers[1..].iter().all(|watcher| received(watcher) == first));
    }

    #[test]
    fn joins_and_leaves_on_many_threads_lose_nobody() {
        let hub = hub(|_| {});
        std::thread::scope(|scope| {
            for t in 0..4 {
                let hub = &hub;
                scope.spawn(move || {
                    for round in 0..500 {
                        let one = conn(t * 1_000 + round);
                        join(hub, "presence-x", &one, Some(&member(&t.to_string()))).unwrap();
                        assert!(hub.channel(&name("presence-x"), Instant::now()).subscription_count >= 1);
                        hub.leave(&name("presence-x"), &one, Instant::now());
                    }
                });
            }
        });
        assert_eq!(hub.channels_in_memory(), 0);
    }
}
