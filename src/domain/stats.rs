//! Counts of what has happened: plain atomics that only grow. Whoever shows them reads them; what *is* comes from the tables themselves.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::words::words;

words! {
    /// Why a handshake did not become a connection.
    HandshakeRefusal {
        /// The request was no WebSocket upgrade, or a broken one.
        NotWebSocket = "not_websocket",
        /// No application has the key.
        UnknownApp = "unknown_app",
        /// The application is switched off.
        AppDisabled = "app_disabled",
        /// The application takes TLS only.
        TlsOnly = "tls_only",
        /// No version of the protocol was named, or one that is not spoken.
        Protocol = "protocol",
        /// The page, the token or the handler did not allow it.
        Unauthorized = "unauthorized",
        /// The application has all its connections.
        OverQuota = "over_quota",
        /// The node has all its connections, or no room for more work.
        OverCapacity = "over_capacity",
        /// The address connects too often.
        RateLimited = "rate_limited",
        /// The node is stopping.
        Draining = "draining",
        /// The handler refused.
        Handler = "handler",
        /// The handler panicked or took too long.
        HandlerFailed = "handler_failed",
        /// The peer left before it was answered.
        Gone = "gone",
    }
}

words! {
    /// Why a client event was not relayed.
    ClientEventRefusal {
        /// The application takes none.
        Disabled = "disabled",
        /// Not on a channel of this kind.
        Channel = "channel",
        /// The sender is not on the channel.
        NotSubscribed = "not_subscribed",
        /// The `id` is none.
        Id = "id",
        /// The name is too long.
        Name = "name",
        /// The data is too large.
        Size = "size",
        /// Too many a second.
        RateLimited = "rate_limited",
        /// The node has no room for more work.
        OverCapacity = "over_capacity",
        /// The handler refused.
        Handler = "handler",
    }
}

words! {
    /// What a client was told of an event that carried an `id`.
    ReceiptStatus {
        /// It was delivered.
        Ok = "ok",
        /// It was delivered before.
        Dup = "dup",
        /// It was not delivered.
        Error = "error",
    }
}

words! {
    /// What became of a publish over HTTP that had an `Idempotency-Key`.
    KeyedPublish {
        /// It was published.
        Accepted = "accepted",
        /// It was published, after another attempt that did not come to its end: perhaps for the second time.
        TakenOver = "taken_over",
        /// It was published before: the first answer was given again.
        Replayed = "replayed",
        /// The first one was still at work (409).
        Conflict = "conflict",
        /// The key belongs to another request (422).
        Mismatch = "mismatch",
        /// It was refused as it would have been without the key, which stays free.
        Refused = "refused",
        /// Whether it was published before could not be found out (503).
        Unavailable = "unavailable",
    }
}

words! {
    /// The hooks of a handler, by the names that their methods have.
    Hook {
        /// See [`crate::Handler::on_handshake`].
        OnHandshake = "on_handshake",
        /// See [`crate::Handler::on_open`].
        OnOpen = "on_open",
        /// See [`crate::Handler::on_signin`].
        OnSignin = "on_signin",
        /// See [`crate::Handler::on_subscribe`].
        OnSubscribe = "on_subscribe",
        /// See [`crate::Handler::on_unsubscribe`].
        OnUnsubscribe = "on_unsubscribe",
        /// See [`crate::Handler::on_message`].
        OnMessage = "on_message",
        /// See [`crate::Handler::on_pong`].
        OnPong = "on_pong",
        /// See [`crate::Handler::on_error`].
        OnError = "on_error",
        /// See [`crate::Handler::on_conflict`].
        OnConflict = "on_conflict",
        /// See [`crate::Handler::on_close`].
        OnClose = "on_close",
        /// See [`crate::Handler::on_disconnect`].
        OnDisconnect = "on_disconnect",
    }
}

/// One count for each word of a closed list.
#[derive(Debug)]
pub struct Counts<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Counts<N> {
    /// One more of the word at this place of its list.
    pub fn add(&self, index: usize) {
        if let Some(count) = self.0.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub fn get(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// What went over the sockets of an application on one worker: nobody else writes here, so that cores do not wait for each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
}

/// More workers than this share.
const LANES: usize = 16;

/// What has happened in one application since the start.
#[derive(Debug, Default)]
pub struct HubStats {
    lanes: [Lane; LANES],
    /// Events that were published over HTTP or by the embedding program, one for each channel.
    published: AtomicU64,
    /// Client events that were relayed.
    relayed: AtomicU64,
    /// What outboxes took of both.
    delivered: AtomicU64,
    refused_events: Counts<{ ClientEventRefusal::ALL.len() }>,
    refused_handshakes: Counts<{ HandshakeRefusal::ALL.len() }>,
    receipts: Counts<{ ReceiptStatus::ALL.len() }>,
    keyed: Counts<{ KeyedPublish::ALL.len() }>,
    http_calls: AtomicU64,
    http_bytes_in: AtomicU64,
    http_bytes_out: AtomicU64,
}

/// Frames and bytes, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages of clients.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that were handed to sockets.
    pub frames_out: u64,
    /// Their bytes, headers included.
    pub bytes_out: u64,
}

/// Calls of the HTTP API, and their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpTraffic {
    /// Requests that name the application.
    pub calls: u64,
    /// Bytes of their bodies.
    pub bytes_in: u64,
    /// Bytes of the bodies of the answers.
    pub bytes_out: u64,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// The HTTP API, or the embedding program.
    Server,
    /// A client.
    Client,
}

/// What a client counts as, and where: its application, its worker.
#[derive(Clone, Debug)]
pub struct Meter {
    stats: Arc<HubStats>,
    worker: usize,
}

impl Meter {
    /// A message came in.
    pub fn received(&self, bytes: usize) {
        let lane = self.stats.lane(self.worker);
        lane.frames_in.fetch_add(1, Ordering::Relaxed);
        lane.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Frames go out together.
    pub fn sent(&self, frames: usize, bytes: usize) {
        let lane = self.stats.lane(self.worker);
        lane.frames_out.fetch_add(frames as u64, Ordering::Relaxed);
        lane.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl HubStats {
    fn lane(&self, worker: usize) -> &Lane {
        &self.lanes[worker % LANES]
    }

    /// For what goes over the sockets of one worker.
    pub fn meter(self: &Arc<Self>, worker: usize) -> Meter {
        Meter { stats: Arc::clone(self), worker }
    }

    /// An event was delivered on one channel; so many outboxes took it.
    pub fn delivered(&self, source: EventSource, receivers: usize) {
        let events = match source {
            EventSource::Server => &self.published,
            EventSource::Client => &self.relayed,
        };
        events.fetch_add(1, Ordering::Relaxed);
        self.delivered.fetch_add(receivers as u64, Ordering::Relaxed);
    }

    /// A client event was not relayed.
    pub fn event_refused(&self, why: ClientEventRefusal) {
        self.refused_events.add(why as usize);
    }

    /// A client was told what became of an event.
    pub fn receipt(&self, status: ReceiptStatus) {
        self.receipts.add(status as usize);
    }

    /// A publish with a key was answered.
    pub fn keyed_publish(&self, what: KeyedPublish) {
        self.keyed.add(what as usize);
    }

    /// A handshake did not become a connection.
    pub fn handshake_refused(&self, why: HandshakeRefusal) {
        self.refused_handshakes.add(why as usize);
    }

    /// A call of the HTTP API was answered.
    pub fn http_call(&self, bytes_in: u64, bytes_out: u64) {
        self.http_calls.fetch_add(1, Ordering::Relaxed);
        self.http_bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        self.http_bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
    }

    /// What went over all sockets.
    pub fn traffic(&self) -> Traffic {
        let sum = |of: fn(&Lane) -> &AtomicU64| self.lanes.iter().map(|lane| of(lane).load(Ordering::Relaxed)).sum();
        Traffic {
            frames_in: sum(|lane| &lane.frames_in),
            bytes_in: sum(|lane| &lane.bytes_in),
            frames_out: sum(|lane| &lane.frames_out),
            bytes_out: sum(|lane| &lane.bytes_out),
        }
    }

    /// Events of this source, one for each channel.
    pub fn events(&self, source: EventSource) -> u64 {
        match source {
            EventSource::Server => self.published.load(Ordering::Relaxed),
            EventSource::Client => self.relayed.load(Ordering::Relaxed),
        }
    }

    /// What outboxes took of all events.
    pub fn deliveries(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Client events that were not relayed.
    pub fn refused_events(&self) -> impl Iterator<Item = (ClientEventRefusal, u64)> {
        ClientEventRefusal::ALL.iter().map(|why| (*why, self.refused_events.get(*why as usize)))
    }

    /// What clients were told of events that carried an `id`.
    pub fn receipts(&self) -> impl Iterator<Item = (ReceiptStatus, u64)> {
        ReceiptStatus::ALL.iter().map(|status| (*status, self.receipts.get(*status as usize)))
    }

    /// What became of publishes that had a key.
    pub fn keyed_publishes(&self) -> impl Iterator<Item = (KeyedPublish, u64)> {
        KeyedPublish::ALL.iter().map(|what| (*what, self.keyed.get(*what as usize)))
    }

    /// Handshakes that did not become connections.
    pub fn refused_handshakes(&self) -> impl Iterator<Item = (HandshakeRefusal, u64)> {
        HandshakeRefusal::ALL.iter().map(|why| (*why, self.refused_handshakes.get(*why as usize)))
    }

    /// What went over the HTTP API.
    pub fn http(&self) -> HttpTraffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HttpTraffic { calls: read(&self.http_calls), bytes_in: read(&self.http_bytes_in), bytes_out: read(&self.http_bytes_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_however_many_there_are() {
        let stats = Arc::<HubStats>::default();
        for worker in 0..LANES + 3 {
            stats.meter(worker).sent(2, 10);
            stats.meter(worker).received(5);
        }
        let n = LANES as u64 + 3;
        assert_eq!(stats.traffic(), Traffic { frames_in: n, bytes_in: 5 * n, frames_out: 2 * n, bytes_out: 10 * n });
    }
}
