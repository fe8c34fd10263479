//! What reads give back: nodes, locks, entries of the log, and the cursor that walks it.

use std::{fmt, str::FromStr, time::Duration};

use serde_json::Value;

use super::{BootId, CloseCause, EventKind, Fence, HoldId, Incarnation, LockState, Mode, NodeState, Shard, StoreError, Timestamp};

/// A process that wants to be a node.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Its name: stable over restarts.
    pub name: String,
    /// This start of it.
    pub boot: BootId,
    /// How long its counter may stand still; at least 3 s.
    pub ttl: Duration,
    /// Whether nobody else can have the name.
    pub naming: Naming,
}

/// Whether a node's name is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// It comes from a data directory that this process has locked: a predecessor of the name is gone.
    Unique,
    /// Several processes may have it.
    Shared,
}

/// A node, as every heartbeat shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// A number that moves as long as it lives.
    pub heartbeat: i64,
    /// Its state.
    pub state: NodeState,
    /// How long the number may stand still.
    pub ttl: Duration,
}

/// A node, as an operator sees it.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// What the other nodes see.
    pub view: NodeView,
    /// How many holds it has.
    pub holds: i64,
    /// When it registered.
    pub started_at: Timestamp,
    /// When its number last moved.
    pub heartbeat_at: Timestamp,
    /// When it was fenced.
    pub fenced_at: Option<Timestamp>,
    /// Why.
    pub end_cause: Option<CloseCause>,
}

/// Which locks to list. Released ones are listed only if asked for.
#[derive(Clone, Debug, Default)]
pub struct LockQuery {
    /// Of this app.
    pub app: Option<String>,
    /// On exactly this resource.
    pub resource: Option<String>,
    /// Of this principal.
    pub principal: Option<String>,
    /// In this state.
    pub state: Option<LockState>,
    /// After this fence.
    pub after: Option<Fence>,
    /// At most so many; 0 is 100.
    pub limit: u32,
}

/// A lock.
#[derive(Clone, Debug, PartialEq)]
pub struct LockRow {
    /// Its identity.
    pub fence: Fence,
    /// Where it is.
    pub shard: Shard,
    /// The application's id.
    pub app: String,
    /// What is locked.
    pub resource: String,
    /// How.
    pub mode: Mode,
    /// Whose it is.
    pub principal: String,
    /// Where it is in its life.
    pub state: LockState,
    /// What its events are named after.
    pub topic: String,
    /// What its events carry.
    pub context: Value,
    /// Its grace.
    pub grace: Duration,
    /// Until when, if the grace is running.
    pub grace_until: Option<Timestamp>,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// When it ended.
    pub released_at: Option<Timestamp>,
    /// Who took it; once nobody holds it, who let go last.
    pub socket_id: String,
    /// Why it ended, or why its grace began.
    pub cause: Option<CloseCause>,
    /// The connections that hold it.
    pub holders: Vec<HolderRow>,
}

/// One connection's grip on a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderRow {
    /// The hold.
    pub hold: HoldId,
    /// The connection.
    pub socket_id: String,
    /// Its node.
    pub incarnation: Incarnation,
    /// Since when.
    pub since: Timestamp,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Which part of the log.
    pub shard: Shard,
    /// Where in it: dense, in the order of commits.
    pub position: i64,
    /// What it is.
    pub kind: EventKind,
    /// Its name, such as `OrderLocked`.
    pub event_type: String,
    /// The application's id.
    pub app: String,
    /// What it is about.
    pub resource: String,
    /// The lock, if it is about one.
    pub fence: Option<Fence>,
    /// Whose lock, or who did it.
    pub principal: Option<String>,
    /// The connection.
    pub socket_id: Option<String>,
    /// The node that wrote it.
    pub incarnation: Option<Incarnation>,
    /// Why a lock ended.
    pub cause: Option<CloseCause>,
    /// True if a lock ended because its grace was over; the cause is then that of the connection's end.
    pub after_grace: bool,
    /// How long before the write the end was noticed.
    pub detected_ms_before_commit: Option<i32>,
    /// The lock's context, or what the event carries.
    pub payload: Value,
    /// When it was written, by the database's clock.
    pub at: Timestamp,
}

/// What a node compares with its memory: how many holds, and the exclusive or of their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldDigest {
    /// How many.
    pub holds: u64,
    /// All ids, exclusive-ored.
    pub xor: u128,
}

impl FromIterator<HoldId> for HoldDigest {
    fn from_iter<I: IntoIterator<Item = HoldId>>(ids: I) -> Self {
        ids.into_iter().fold(Self::default(), |sum, id| Self { holds: sum.holds + 1, xor: sum.xor ^ id.0.as_u128() })
    }
}

/// What one pass of a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Somebody is at work in the shard: try another.
    Busy,
    /// So much was dropped and ended. Less than the limit: the shard is done.
    Done(u32),
}

/// A place in the whole log. Opaque: keep it as text, give it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Vec<i64>);

impl Cursor {
    /// Before the first entry.
    pub fn start(shards: u16) -> Self {
        Self(vec![0; usize::from(shards)])
    }

    pub(crate) fn from_positions(positions: Vec<i64>) -> Self {
        Self(positions)
    }

    /// The last position that was read in each shard.
    pub(crate) fn positions(&self) -> &[i64] {
        &self.0
    }

    /// True if the entry lies before this place.
    pub fn is_past(&self, event: &EventRow) -> bool {
        usize::try_from(event.shard.0).ok().and_then(|shard| self.0.get(shard)).is_some_and(|position| *position >= event.position)
    }

    /// True if no place of `other` lies beyond this one: both are of one log, and it has been there.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(ours, theirs)| theirs <= ours)
    }

    /// Moves past an entry.
    pub fn advance(&mut self, event: &EventRow) {
        if let Some(position) = usize::try_from(event.shard.0).ok().and_then(|shard| self.0.get_mut(shard)) {
            *position = event.position.max(*position);
        }
    }

    /// Takes the oldest of what was read from each shard, each in its order, and moves past it. Shards are merged by time, which is
    /// for people: order holds within a shard.
    pub(crate) fn merge(&mut self, rows: Vec<EventRow>, limit: usize) -> Vec<EventRow> {
        let mut queues = vec![std::collections::VecDeque::new(); self.0.len()];
        for row in rows {
            if let Some(queue) = usize::try_from(row.shard.0).ok().and_then(|shard| queues.get_mut(shard)) {
                queue.push_back(row);
            }
        }
        let mut merged = Vec::new();
        while merged.len() < limit {
            let next = queues.iter_mut().filter(|queue| !queue.is_empty()).min_by_key(|queue| queue.front().map(|row| row.at));
            let Some(row) = next.and_then(std::collections::VecDeque::pop_front) else { break };
            self.advance(&row);
            merged.push(row);
        }
        merged
    }
}

impl fmt::Display for Cursor {
    /// `h1-` and the positions in base 16, joined by dots; shards at 0 are empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("h1-")?;
        for (n, position) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(".")?;
            }
            if *position != 0 {
                write!(f, "{position:x}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let positions = text.strip_prefix("h1-").ok_or(StoreError::BadCursor)?;
        let read = |position: &str| match position {
            "" => Ok(0),
            hex => i64::from_str_radix(hex, 16).ok().filter(|position| *position > 0).ok_or(StoreError::BadCursor),
        };
        positions.split('.').map(read).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_text_and_back() {
        for cursor in [Cursor::start(16), Cursor::start(1), Cursor(vec![0, 255, i64::MAX, 0])] {
            assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        }
        assert_eq!(Cursor(vec![0, 255, 0]).to_string(), "h1-.ff.");
        for wrong in ["", "h1", "0.0", "h1-x", "h1--1"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_digest_does_not_depend_on_the_order() {
        let ids = [HoldId::random(), HoldId::random(), HoldId::random()];
        let digest: HoldDigest = ids.into_iter().collect();
        assert_eq!(digest, ids.into_iter().rev().collect());
        assert_ne!(digest, ids[1..].iter().copied().collect());
    }
}
