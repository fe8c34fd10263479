//! Shards that kept a lane waiting: somebody else has their row locked, a forgotten session perhaps. What concerns them goes alone from
//! then on, and only now and then, so that the rest of the lane goes on.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::store::{CommitOp, ReleaseOp, Shard};

/// How long a shard that was busy is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Something that waits, and what it needs.
pub(super) trait Waits {
    fn app(&self) -> &str;
    fn socket_id(&self) -> &str;
    fn keys(&self) -> impl Iterator<Item = &str>;
}

impl Waits for CommitOp {
    fn app(&self) -> &str {
        &self.app
    }

    fn socket_id(&self) -> &str {
        &self.socket_id
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.holds.iter().map(|hold| hold.resource.as_str()).chain(self.events.iter().map(|event| event.key.as_str()))
    }
}

impl Waits for ReleaseOp {
    fn app(&self) -> &str {
        &self.app
    }

    fn socket_id(&self) -> &str {
        &self.socket_id
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.holds.iter().map(|(_, resource)| resource.as_str()).chain(self.events.iter().map(|event| event.key.as_str()))
    }
}

/// The shards under suspicion, each with when it may be tried again.
#[derive(Debug)]
pub(super) struct Suspects {
    shards: u16,
    until: HashMap<Shard, Instant>,
    /// The one whose turn it is.
    pub(super) on_trial: Option<Shard>,
}

impl Suspects {
    pub(super) fn new(shards: u16) -> Self {
        Self { shards, until: HashMap::new(), on_trial: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// When the next one may be tried.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }

    /// Those that may be tried now.
    pub(super) fn due(&self, now: Instant) -> Vec<Shard> {
        self.until.iter().filter(|(_, until)| **until <= now).map(|(shard, _)| *shard).collect()
    }

    /// A batch did not get the rows it needs. If it was one suspect's, that is left alone for a while; otherwise each of its shards may be
    /// the one, and is tried alone.
    pub(super) fn accuse<'a, W: Waits + 'a>(&mut self, batch: impl Iterator<Item = &'a W>, now: Instant) {
        match self.on_trial.take() {
            Some(shard) => drop(self.until.insert(shard, now + PAUSE)),
            None => {
                let shards: HashSet<Shard> = batch.flat_map(|op| self.shards_of(op)).collect();
                let until = if shards.len() == 1 { now + PAUSE } else { now };
                self.until.extend(shards.into_iter().map(|shard| (shard, until)));
            }
        }
    }

    /// A batch was answered: the shard that was tried is free.
    pub(super) fn acquit(&mut self) {
        if let Some(shard) = self.on_trial.take() {
            self.until.remove(&shard);
        }
    }

    pub(super) fn clear(&mut self) {
        self.until.clear();
        self.on_trial = None;
    }

    /// Whether an op may go: with none on trial those that need no suspect, otherwise those that need only this one.
    pub(super) fn may_go(&self, op: &impl Waits, on_trial: Option<Shard>) -> bool {
        let mut suspects = self.shards_of(op).into_iter().filter(|shard| self.until.contains_key(shard)).peekable();
        match on_trial {
            None => suspects.peek().is_none(),
            Some(shard) => suspects.peek().is_some() && suspects.all(|other| other == shard),
        }
    }

    fn shards_of(&self, op: &impl Waits) -> Vec<Shard> {
        op.keys().map(|key| Shard::of(op.app(), key, self.shards)).collect()
    }
}

/// Which ops go, in their order; `behind` are the connections of those that do not.
pub(super) fn may_go<'a, W: Waits + 'a>(
    ops: impl Iterator<Item = &'a W>,
    behind: &mut HashSet<&'a str>,
    goes: impl Fn(&W) -> bool,
) -> Vec<bool> {
    let goes = |op: &'a W| {
        let goes = !behind.contains(op.socket_id()) && goes(op);
        if !goes {
            behind.insert(op.socket_id());
        }
        goes
    };
    ops.map(goes).collect()
}
