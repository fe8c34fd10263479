//! What a connection can hold, as values: a handler asks for a [`Hold`], the store grants a lock with a [`Fence`], or there is a
//! [`Conflict`].

use std::{fmt, time::Duration};

use serde_json::Value;

use super::words::words;
use crate::protocol::{ChannelName, SignedUser, SocketId};

words! {
    /// How many principals a resource takes.
    Mode {
        /// One principal, with any number of connections.
        Exclusive = "exclusive",
        /// Many principals, one lock each; none beside an exclusive one.
        Shared = "shared",
    }
}

words! {
    /// What to do about a resource that somebody else holds.
    IfTaken {
        /// Refuse.
        Deny = "deny",
        /// Take it if all that stands in the way is in its grace.
        TakeIfInGrace = "take-if-in-grace",
        /// Take it.
        Take = "take",
    }
}

words! {
    /// Where a lock is in its life. Nothing leaves `Released`.
    LockState {
        /// A connection holds it.
        Held = "held",
        /// The last connection went away without a word; its principal may come back.
        Grace = "grace",
        /// Over.
        Released = "released",
    }
}

words! {
    /// How a hold came to be.
    HoldOutcome {
        /// A new lock: an entry `locked` stands in the log.
        Granted = "granted",
        /// One more connection of the same principal.
        Attached = "attached",
        /// Back within the grace: the same fence, no entry in the log.
        Resumed = "resumed",
    }
}

/// A lock's fencing token: its identity. A later lock of a resource has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Fence(pub i64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who a lock belongs to; `user:42` or `socket:123.456` as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person, or whatever the application calls a user: all of its connections share its locks, and it may come back to them.
    User(String),
    /// One connection and nobody else. It cannot come back, so its locks have no grace: a page that is reloaded would be refused
    /// by its own ghost.
    Socket(SocketId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Socket(socket_id) => write!(f, "socket:{socket_id}"),
        }
    }
}

impl From<SocketId> for Principal {
    fn from(socket_id: SocketId) -> Self {
        Self::Socket(socket_id)
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Principal {
    fn from(user_id: &T) -> Self {
        Self::User(user_id.as_ref().to_owned())
    }
}

impl From<String> for Principal {
    fn from(user_id: String) -> Self {
        Self::User(user_id)
    }
}

/// What a connection is to hold, for as long as its subscription (when asked for in `on_subscribe`) or itself lasts.
///
/// The lock is committed, and `OrderLocked` with it, before the client hears of success; and whatever ends the connection, exactly one
/// `OrderUnlocked` follows.
///
/// ```
/// use std::time::Duration;
/// use holdline::prelude::*;
///
/// let hold = Hold::new("order:42", "7").event("Order").context(serde_json::json!({ "order_id": 42 })).grace(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a hold is taken when an outcome asks for it"]
pub struct Hold {
    pub(crate) resource: String,
    pub(crate) principal: Principal,
    pub(crate) mode: Mode,
    pub(crate) if_taken: IfTaken,
    pub(crate) names: EventNames,
    pub(crate) context: Value,
    pub(crate) grace: Duration,
    pub(crate) show_holder: bool,
    pub(crate) notify_when_free: bool,
    pub(crate) fail_open: bool,
    /// The client hears nothing of it.
    pub(crate) quiet: bool,
    /// Which of several combined handlers asked: see `Both`.
    pub(super) route: Route,
}

/// What the two events of a lock are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventNames {
    /// `Order`: OrderLocked, OrderUnlocked.
    Topic(String),
    /// Two names of their own.
    Pair(String, String),
}

impl Hold {
    /// How long the principal may be away, unless told otherwise.
    pub const GRACE: Duration = Duration::from_secs(5);

    /// `resource` (such as `order:42`, at most 200 bytes) for `principal`: a user id, or a [`SocketId`] for this connection alone.
    /// Exclusive, refused if taken, with a grace of 5 s and events named `ResourceLocked` and `ResourceUnlocked`.
    pub fn new(resource: impl Into<String>, principal: impl Into<Principal>) -> Self {
        Self {
            resource: resource.into(),
            principal: principal.into(),
            mode: Mode::Exclusive,
            if_taken: IfTaken::Deny,
            names: EventNames::Topic("Resource".to_owned()),
            context: Value::Object(serde_json::Map::new()),
            grace: Self::GRACE,
            show_holder: false,
            notify_when_free: true,
            fail_open: false,
            quiet: false,
            route: Route::default(),
        }
    }

    /// `Order` makes `OrderLocked` and `OrderUnlocked`.
    pub fn event(mut self, topic: impl Into<String>) -> Self {
        self.names = EventNames::Topic(topic.into());
        self
    }

    /// Two names that do not end in `Locked` and `Unlocked`.
    pub fn events(mut self, began: impl Into<String>, ended: impl Into<String>) -> Self {
        self.names = EventNames::Pair(began.into(), ended.into());
        self
    }

    /// What both events carry, at most 4 KiB as JSON.
    pub fn context(mut self, context: Value) -> Self {
        self.context = context;
        self
    }

    /// How long the principal may be away after an unclean end before the lock is released; zero for not at all.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// One principal, with any number of connections.
    pub fn exclusive(mut self) -> Self {
        self.mode = Mode::Exclusive;
        self
    }

    /// Many principals, one lock each; none beside an exclusive one.
    pub fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    /// What to do if somebody else has it.
    pub fn if_taken(mut self, policy: IfTaken) -> Self {
        self.if_taken = policy;
        self
    }

    /// Whether whoever is refused is told who holds it. Off unless switched on.
    pub fn show_holder(mut self, show: bool) -> Self {
        self.show_holder = show;
        self
    }

    /// Whether whoever is refused is told once when it is free. On unless switched off.
    pub fn notify_when_free(mut self, notify: bool) -> Self {
        self.notify_when_free = notify;
        self
    }

    /// Whether to go on without the lock, and without any event, when the store does not answer. Off unless switched on.
    pub fn fail_open(mut self, fail_open: bool) -> Self {
        self.fail_open = fail_open;
        self
    }

    /// A user is online as long as one of its connections is: the first and the last are `UserOnline` and `UserOffline` in the log.
    pub(crate) fn online(user: &SignedUser) -> Self {
        let hold = Self::new(format!("user-online:{}", user.id), &user.id).events("UserOnline", "UserOffline").fail_open(true);
        Self { quiet: true, context: serde_json::json!({ "user_id": user.id }), ..hold }
    }

    /// What is to be held.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Who it belongs to.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The grace that applies: a connection that is its own principal cannot come back.
    pub(crate) fn effective_grace(&self) -> Duration {
        match self.principal {
            Principal::User(_) => self.grace,
            Principal::Socket(_) => Duration::ZERO,
        }
    }
}

/// A way through handlers that were combined two by two: one bit per [`Both`](super::Both), the outermost lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route(u64);

/// A side of a [`Both`](super::Both).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

impl Route {
    pub(super) fn through(self, side: Side) -> Self {
        Self(self.0 << 1 | u64::from(side == Side::Second))
    }

    /// The outermost side, and the way from there.
    pub(super) fn split(self) -> (Side, Self) {
        (if self.0 & 1 == 1 { Side::Second } else { Side::First }, Self(self.0 >> 1))
    }
}

/// A hold that cannot be had: somebody else has the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What was asked for.
    pub hold: Hold,
    /// The channel, if a subscription asked.
    pub channel: Option<ChannelName>,
    /// All locks that are alive on it.
    pub holders: Vec<Holder>,
}

/// A lock that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The lock.
    pub fence: Fence,
    /// Whose it is, such as `user:7`.
    pub principal: String,
    /// How it is held.
    pub mode: Mode,
    /// Held, or in its grace.
    pub state: LockState,
    /// Since when: milliseconds since 1970 by the database's clock.
    pub since_ms: i64,
}

/// An entry for the durable log that is no lock; what [`Outcome::emit`](super::Outcome::emit) takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an event is written when an outcome emits it"]
pub struct DomainEvent {
    pub(crate) event_type: String,
    pub(crate) key: String,
    pub(crate) principal: Option<Principal>,
    pub(crate) payload: Value,
}

impl DomainEvent {
    /// An event such as `DocumentOpened` about `key` (such as `document:7`): entries of one key are in order.
    pub fn new(event_type: impl Into<String>, key: impl Into<String>) -> Self {
        Self { event_type: event_type.into(), key: key.into(), principal: None, payload: Value::Object(serde_json::Map::new()) }
    }

    /// What it carries, at most 64 KiB as JSON.
    pub fn payload(mut self, payload: Value) -> Self {
        self.payload = payload;
        self
    }

    /// Who did it.
    pub fn principal(mut self, principal: impl Into<Principal>) -> Self {
        self.principal = Some(principal.into());
        self
    }
}
