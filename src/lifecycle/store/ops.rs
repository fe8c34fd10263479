//! What a node asks a store to write, and what it hears back.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{CloseCause, EventKind, Fence, HoldId, HoldOutcome, IfTaken, LockState, Mode, OpId, Timestamp};

/// One connection's outcome: all of it is written, or nothing.
#[derive(Clone, Debug)]
pub struct CommitOp {
    /// Named by the caller, kept over replays.
    pub id: OpId,
    /// The connection.
    pub socket_id: String,
    /// The application's id.
    pub app: String,
    /// What it is to hold; different resources.
    pub holds: Vec<NewHold>,
    /// What is to stand in the log, after the locks.
    pub events: Vec<NewEvent>,
}

/// A hold that is asked for.
#[derive(Clone, Debug)]
pub struct NewHold {
    /// Named by the caller, kept over replays.
    pub id: HoldId,
    /// What is to be held, such as `order:42`.
    pub resource: String,
    /// Who it belongs to, such as `user:7`.
    pub principal: String,
    /// How many principals it takes.
    pub mode: Mode,
    /// What to do if somebody else has it.
    pub if_taken: IfTaken,
    /// What its events are called: `Order` makes `OrderLocked` and `OrderUnlocked`, a pair such as `UserOnline/UserOffline` just these.
    pub topic: String,
    /// Carried by both events.
    pub context: Value,
    /// How long the principal may be away after an unclean end; whole milliseconds.
    pub grace: Duration,
}

/// An entry for the log that is no lock.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// [`EventKind::Event`] or [`EventKind::Webhook`].
    pub kind: EventKind,
    /// Its name.
    pub event_type: String,
    /// What it is about: entries of one key are in order.
    pub key: String,
    /// Who did it, if that is known.
    pub principal: Option<String>,
    /// What it carries.
    pub payload: Value,
}

/// The end of one connection, or of some of its holds: its events and the release are one write.
#[derive(Clone, Debug)]
pub struct ReleaseOp {
    /// Named by the caller, kept over replays.
    pub id: OpId,
    /// The connection.
    pub socket_id: String,
    /// The application's id.
    pub app: String,
    /// What it held, each with its resource, which tells the shard.
    pub holds: Vec<(HoldId, String)>,
    /// What is to stand in the log, before the ends of the locks.
    pub events: Vec<NewEvent>,
    /// Why.
    pub cause: CloseCause,
    /// Whether grace applies.
    pub ending: Ending,
    /// Whether every commit of these holds was answered.
    pub certainty: Certainty,
    /// When the end was noticed, on the node's own clock. The log says how long before the write that was, however long the write
    /// had to wait.
    pub detected_at: Option<Instant>,
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// On purpose: the lock is free at once.
    Clean,
    /// Otherwise: the lock's grace begins.
    Unclean,
}

/// What is known about the commits of holds that are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Each was answered, at the first attempt.
    Sure,
    /// An answer is missing or came only to a replay: a copy may still arrive, and must find nothing to take.
    Unsure,
}

/// The answer to one [`CommitOp`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is written. One entry per hold, in no particular order.
    Committed(Vec<Granted>),
    /// Somebody else has one of its resources; nothing is written.
    Denied(Denied),
    /// Its holds have been released before it arrived; nothing is written.
    Gone,
    /// It cannot be stored; nothing is written.
    Invalid(InvalidOp),
}

/// A hold that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Which.
    pub hold: HoldId,
    /// How.
    pub outcome: HoldOutcome,
    /// The lock.
    pub fence: Fence,
    /// The locks that were taken over for it; empty in the answer to a replay.
    pub displaced: Vec<Fence>,
}

/// A hold that is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Denied {
    /// Which.
    pub hold: HoldId,
    /// All that is alive on its resource.
    pub holders: Vec<Holder>,
}

/// Who stands in the way.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct Holder {
    /// The lock.
    #[serde(deserialize_with = "fence")]
    pub fence: Fence,
    /// Whose it is.
    pub principal: String,
    /// How it is held.
    #[serde(deserialize_with = "mode")]
    pub mode: Mode,
    /// Held, or in its grace.
    #[serde(deserialize_with = "lock_state")]
    pub state: LockState,
    /// Since when.
    #[serde(rename = "since_ms", deserialize_with = "timestamp")]
    pub since: Timestamp,
}

fn fence<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Fence, D::Error> {
    <i64 as serde::Deserialize>::deserialize(d).map(Fence)
}

fn timestamp<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
    <i64 as serde::Deserialize>::deserialize(d).map(Timestamp)
}

fn mode<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Mode, D::Error> {
    Mode::parse(&<String as serde::Deserialize>::deserialize(d)?).map_err(serde::de::Error::custom)
}

fn lock_state<'de, D: serde::Deserializer<'de>>(d: D) -> Result<LockState, D::Error> {
    LockState::parse(&<String as serde::Deserialize>::deserialize(d)?).map_err(serde::de::Error::custom)
}

/// What a store accepts.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Of a resource or an event's key, bytes; at most 512.
    pub max_resource_bytes: usize,
    /// Of a principal, bytes; at most 512.
    pub max_principal_bytes: usize,
    /// Of a lock's context as JSON, bytes; at most 60,000.
    pub max_context_bytes: usize,
    /// Of an event's payload as JSON, bytes.
    pub max_payload_bytes: usize,
    /// Holds of one op.
    pub max_holds: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { max_resource_bytes: 200, max_principal_bytes: 200, max_context_bytes: 4096, max_payload_bytes: 64 * 1024, max_holds: 100 }
    }
}

/// Of names: topics, event types, apps, socket ids; bytes.
const MAX_NAME_BYTES: usize = 200;

/// Why an op cannot be stored. A retry does not mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOp {
    /// A text that must not be empty.
    #[error("the {what} is empty")]
    Empty {
        /// Which text.
        what: &'static str,
    },
    /// A text or JSON value over its limit.
    #[error("the {what} has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// A zero character, which PostgreSQL cannot store.
    #[error("the {what} has a zero character")]
    ZeroCharacter {
        /// Which text.
        what: &'static str,
    },
    /// A topic that is neither a word nor a pair of them.
    #[error("the topic {topic} is neither a word nor a pair such as UserOnline/UserOffline")]
    Topic {
        /// The topic.
        topic: String,
    },
    /// Two holds of one op with one resource or one id.
    #[error("two holds of one outcome are for {resource}")]
    Twice {
        /// The resource.
        resource: String,
    },
    /// Too many holds at once.
    #[error("{count} holds in one outcome, the limit is {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// Only locks make `locked` and `unlocked`.
    #[error("an emitted event cannot be of kind {0}")]
    WrongKind(EventKind),
    /// A grace of more than 24 days.
    #[error("the grace is longer than 2147483647 ms")]
    LongGrace,
}

impl CommitOp {
    /// Checks what every store relies on.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self, limits: &StoreLimits) -> Result<(), InvalidOp> {
        text("socket id", &self.socket_id, MAX_NAME_BYTES)?;
        text("app id", &self.app, MAX_NAME_BYTES)?;
        if self.holds.len() > limits.max_holds {
            return Err(InvalidOp::TooMany { count: self.holds.len(), limit: limits.max_holds });
        }
        let (mut resources, mut ids) = (HashSet::new(), HashSet::new());
        for hold in &self.holds {
            text("resource", &hold.resource, limits.max_resource_bytes)?;
            text("principal", &hold.principal, limits.max_principal_bytes)?;
            topic(&hold.topic)?;
            json("context", &hold.context, limits.max_context_bytes)?;
            if i32::try_from(hold.grace.as_millis()).is_err() {
                return Err(InvalidOp::LongGrace);
            }
            if !resources.insert(&hold.resource) || !ids.insert(hold.id) {
                return Err(InvalidOp::Twice { resource: hold.resource.clone() });
            }
        }
        self.events.iter().try_for_each(|event| event.validate(limits))
    }
}

impl ReleaseOp {
    /// How long ago the end was noticed, in milliseconds.
    pub(super) fn detected_ms(&self) -> Option<i32> {
        self.detected_at.map(|at| i32::try_from(at.elapsed().as_millis()).unwrap_or(i32::MAX))
    }

    /// Checks what every store relies on.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self, limits: &StoreLimits) -> Result<(), InvalidOp> {
        text("socket id", &self.socket_id, MAX_NAME_BYTES)?;
        text("app id", &self.app, MAX_NAME_BYTES)?;
        self.events.iter().try_for_each(|event| event.validate(limits))
    }
}

impl NewEvent {
    fn validate(&self, limits: &StoreLimits) -> Result<(), InvalidOp> {
        if matches!(self.kind, EventKind::Locked | EventKind::Unlocked) {
            return Err(InvalidOp::WrongKind(self.kind));
        }
        text("event type", &self.event_type, MAX_NAME_BYTES)?;
        text("event key", &self.key, limits.max_resource_bytes)?;
        if let Some(principal) = &self.principal {
            text("principal", principal, limits.max_principal_bytes)?;
        }
        json("payload", &self.payload, limits.max_payload_bytes)
    }
}

pub(super) fn text(what: &'static str, text: &str, limit: usize) -> Result<(), InvalidOp> {
    match text.len() {
        0 => Err(InvalidOp::Empty { what }),
        bytes if bytes > limit => Err(InvalidOp::TooLong { what, bytes, limit }),
        _ if text.contains('\0') => Err(InvalidOp::ZeroCharacter { what }),
        _ => Ok(()),
    }
}

fn topic(topic: &str) -> Result<(), InvalidOp> {
    text("topic", topic, MAX_NAME_BYTES)?;
    match topic.split_once('/') {
        Some((began, ended)) if began.is_empty() || ended.is_empty() || ended.contains('/') => {
            Err(InvalidOp::Topic { topic: topic.to_owned() })
        }
        _ => Ok(()),
    }
}

pub(super) fn json(what: &'static str, value: &Value, limit: usize) -> Result<(), InvalidOp> {
    fn has_zero(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_zero),
            Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_zero(value)),
            _ => false,
        }
    }
    let bytes = value.to_string().len();
    if bytes > limit {
        return Err(InvalidOp::TooLong { what, bytes, limit });
    }
    if has_zero(value) { Err(InvalidOp::ZeroCharacter { what }) } else { Ok(()) }
}
