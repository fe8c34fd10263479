//! The handle to one live connection.

use std::{
    collections::HashSet,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    App, CloseCause, OutboxMemory, Pacer,
    outbox::{End, Outbox, Pushed},
};
use crate::protocol::{ChannelName, CloseCode, ServerFrame, SocketId, WireFrame};

/// A connection, as everybody but its own actor sees it. Cloning is a reference count.
///
/// A handler keeps one to speak to its client; channels keep one per subscriber.
#[derive(Clone)]
pub struct Conn(Arc<Inner>);

struct Inner {
    socket_id: SocketId,
    app: Arc<App>,
    remote_ip: Option<IpAddr>,
    opened_at: Instant,
    state: AtomicU8,
    bytes_in: AtomicU64,
    standing: Mutex<Standing>,
    /// The HTTP worker that owns the socket: the place to deliver from, should large channels be split by worker.
    worker: usize,
    /// Who wakes its writer, when many are to be woken; without one they are, all at once.
    pacer: Option<Arc<Pacer>>,
    outbox: Outbox,
}

/// What a connection has become since it opened.
#[derive(Default)]
struct Standing {
    user_id: Option<Arc<str>>,
    channels: HashSet<ChannelName>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnState {
    /// The request is being looked at.
    Connecting,
    /// The handler decides about the handshake.
    Handshaking,
    /// `pusher:connection_established` is on its way or was sent.
    Active,
    /// It has ended, or is about to.
    Closing,
}

impl ConnState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Connecting, Self::Handshaking, Self::Active, Self::Closing];

    /// The stable name, as in APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Handshaking => "handshaking",
            Self::Active => "active",
            Self::Closing => "closing",
        }
    }
}

/// What is fixed at the birth of a connection.
#[derive(Debug)]
pub struct NewConn {
    /// Its identity.
    pub socket_id: SocketId,
    /// Its application.
    pub app: Arc<App>,
    /// Where it comes from.
    pub remote_ip: Option<IpAddr>,
    /// The worker that owns its socket.
    pub worker: usize,
    /// Most bytes that may wait for it.
    pub max_outbox_bytes: usize,
    /// What that is counted in.
    pub memory: Arc<OutboxMemory>,
    /// Now.
    pub now: Instant,
}

impl Conn {
    /// A connection that is about to shake hands.
    pub fn new(new: NewConn) -> Self {
        Self::with_pacer(new, None)
    }

    /// A connection that is about to shake hands, of a worker that has a pace.
    pub fn with_pacer(new: NewConn, pacer: Option<Arc<Pacer>>) -> Self {
        Self(Arc::new(Inner {
            socket_id: new.socket_id,
            app: new.app,
            remote_ip: new.remote_ip,
            opened_at: new.now,
            state: AtomicU8::new(ConnState::Connecting as u8),
            bytes_in: AtomicU64::new(0),
            standing: Mutex::default(),
            worker: new.worker,
            pacer,
            outbox: Outbox::new(new.max_outbox_bytes, new.memory),
        }))
    }

    /// Its identity.
    pub fn socket_id(&self) -> SocketId {
        self.0.socket_id
    }

    /// Its application.
    pub fn app(&self) -> &Arc<App> {
        &self.0.app
    }

    /// Where it comes from.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.0.remote_ip
    }

    /// Where it is in its life.
    pub fn state(&self) -> ConnState {
        ConnState::ALL[usize::from(self.0.state.load(Ordering::Relaxed)).min(3)]
    }

    /// How long it has been there.
    pub fn connected_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0.opened_at)
    }

    /// The user it has signed in as.
    pub fn user_id(&self) -> Option<Arc<str>> {
        self.0.standing.lock().user_id.clone()
    }

    /// The channels it is subscribed to, by name.
    pub fn channels(&self) -> Vec<ChannelName> {
        let mut channels: Vec<_> = self.0.standing.lock().channels.iter().cloned().collect();
        channels.sort();
        channels
    }

    /// Bytes of text messages received.
    pub fn bytes_in(&self) -> u64 {
        self.0.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes handed to the socket, frame headers included.
    pub fn bytes_out(&self) -> u64 {
        self.0.outbox.bytes_out()
    }

    /// The worker that owns its socket.
    pub fn worker(&self) -> usize {
        self.0.worker
    }

    /// Sends an event to this connection alone; it carries no channel. `false`: the connection has ended.
    pub fn send_event(&self, event: &str, data: &str) -> bool {
        self.push(ServerFrame::Event { event, channel: None, data, user_id: None }.encode()) == Pushed::Queued
    }

    /// Ends the connection after a last event, with a close code. The handler's `on_close` hears [`CloseCause::Kicked`].
    /// `false`: the connection had ended already.
    pub fn close_with(&self, event: Option<(&str, &str)>, code: CloseCode, reason: &str) -> bool {
        let last = event.map(|(event, data)| ServerFrame::Event { event, channel: None, data, user_id: None }.encode());
        let frames = last.into_iter().chain(super::outbox::fatal(code, reason));
        self.0.outbox.end(End { cause: CloseCause::Kicked, code: Some(code) }, frames)
    }

    /// Ends the connection with an error the client is told. `false`: it had ended already.
    pub fn fail(&self, cause: CloseCause, code: CloseCode, message: &str) -> bool {
        self.0.outbox.fail(cause, code, message)
    }

    /// The queue behind it.
    pub fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    /// Queues a frame that nobody else gets.
    pub(crate) fn push(&self, frame: WireFrame) -> Pushed {
        let outbox = &self.0.outbox;
        outbox.push(outbox.memory().track(frame))
    }

    /// Queues a frame that others get, too: see [`Conn::share`].
    pub(super) fn push_shared(&self, frame: WireFrame) -> Pushed {
        self.0.outbox.push(frame)
    }

    /// As [`Conn::push_shared`]; whoever gets a waker has to see to it that it is woken.
    pub(super) fn queue_shared(&self, frame: WireFrame) -> (Pushed, Option<Waker>) {
        self.0.outbox.queue(frame)
    }

    /// Who wakes its writer, when many are to be woken.
    pub(super) fn pacer(&self) -> Option<&Arc<Pacer>> {
        self.0.pacer.as_ref()
    }

    /// A frame for this connection and others: it is counted once.
    pub(super) fn share(&self, frame: &WireFrame) -> WireFrame {
        self.0.outbox.memory().track(frame.clone())
    }

    pub(crate) fn set_state(&self, state: ConnState) {
        self.0.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        self.0.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_user_id(&self, id: Option<Arc<str>>) {
        self.0.standing.lock().user_id = id;
    }

    pub(super) fn add_channel(&self, channel: &ChannelName) {
        self.0.standing.lock().channels.insert(channel.clone());
    }

    pub(super) fn remove_channel(&self, channel: &ChannelName) {
        self.0.standing.lock().channels.remove(channel);
    }
}

impl AsRef<Outbox> for Conn {
    fn as_ref(&self) -> &Outbox {
        self.outbox()
    }
}

impl PartialEq for Conn {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Conn {}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({} of {}, {})", self.0.socket_id, self.0.app.id, self.state().as_str())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        collections::VecDeque,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// A connection of the test application whose socket id is `n.n`.
    pub(crate) fn conn(n: u64) -> Conn {
        conn_in(n, Arc::default())
    }

    /// The same, counted there.
    pub(crate) fn conn_in(n: u64, memory: Arc<OutboxMemory>) -> Conn {
        Conn::new(new(n, memory))
    }

    /// The same, of a worker that has a pace.
    pub(crate) fn paced(n: u64, pacer: Arc<Pacer>) -> Conn {
        Conn::with_pacer(new(n, Arc::default()), Some(pacer))
    }

    fn new(n: u64, memory: Arc<OutboxMemory>) -> NewConn {
        NewConn {
            socket_id: SocketId::parse(&format!("{n}.{n}")).unwrap().unwrap(),
            app: Arc::new(App::for_tests()),
            remote_ip: None,
            worker: 0,
            max_outbox_bytes: 1 << 20,
            memory,
            now: Instant::now(),
        }
    }

    /// The texts that wait for a connection.
    pub(crate) fn received(conn: &Conn) -> Vec<String> {
        let mut batch = VecDeque::new();
        while let Poll::Ready(true) = conn.outbox().poll_drain(&mut Context::from_waker(Waker::noop()), &mut batch) {}
        let text = |frame: bytes::Bytes| {
            let header = match frame[1] {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            String::from_utf8_lossy(&frame[header..]).into_owned()
        };
        batch.into_iter().map(text).collect()
    }

    #[test]
    fn close_with_sends_the_last_event_first() {
        let conn = conn(1);
        assert!(conn.close_with(Some(("bye", "{}")), CloseCode::UNAUTHORIZED, "out"));
        assert!(!conn.send_event("late", "{}"));
        let frames = received(&conn);
        assert!(frames[0].contains("bye") && frames[1].contains("pusher:error"), "{frames:?}");
        assert_eq!(frames.len(), 3);
    }
}
