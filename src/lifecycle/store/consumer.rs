//! Named readers of the log, as values.

use std::time::Duration;

use super::{EventRow, ParkReason, Shard, Timestamp};

/// Where a new consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the oldest entry that is left.
    Beginning,
    /// With the next entry.
    End,
}

/// A shard that a worker may read. Only the newest epoch can acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The consumer.
    pub name: String,
    /// The shard.
    pub shard: Shard,
    /// The last entry that is done.
    pub position: i64,
    /// What makes this claim newer than the former one.
    pub epoch: i64,
    /// How often the next entry was tried.
    pub attempts: i32,
    /// How long to wait before the next attempt; zero if at once.
    pub wait: Duration,
}

/// A step of a consumer: from `claim.position` to `upto`. Done only if the claim is still the newest and nobody was faster.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// The claim, with the position it was read at.
    pub claim: &'a Claim,
    /// The last entry that is done now.
    pub upto: i64,
}

/// An entry, and whether one before it about the same resource waits in `parked` and must go first.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The entry.
    pub event: EventRow,
    /// True: it must be parked too.
    pub blocked: bool,
}

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Done.
    Done,
    /// Somebody else owns the shard by now: forget the claim, roll back.
    Lost,
}

/// A consumer at one shard, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRow {
    /// Its name.
    pub name: String,
    /// The shard.
    pub shard: Shard,
    /// The last entry that is done.
    pub position: i64,
    /// The last entry there is.
    pub last_position: i64,
    /// Who reads, if anybody has.
    pub owner: Option<String>,
    /// How often the next entry was tried.
    pub attempts: i32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// How many entries are parked and wait to be tried again.
    pub parked: i64,
    /// How many are parked and given up: dead letters.
    pub dead: i64,
}

impl ConsumerRow {
    /// How many entries are still to come.
    pub fn lag(&self) -> i64 {
        self.last_position - self.position
    }
}

/// Which dead letters to list.
#[derive(Clone, Debug, Default)]
pub struct DeadQuery {
    /// Of this consumer.
    pub name: Option<String>,
    /// Of the entries of this application, by its id.
    pub app: Option<String>,
    /// After this one, in the order of consumer, shard and position.
    pub after: Option<ParkedPlace>,
    /// At most so many; 0 is 100.
    pub limit: u32,
}

/// Where an entry waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedPlace {
    /// The consumer.
    pub name: String,
    /// The entry's shard.
    pub shard: Shard,
    /// The entry's position.
    pub position: i64,
}

/// An entry that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedRow {
    /// The consumer.
    pub name: String,
    /// The entry.
    pub event: EventRow,
    /// Why it waits.
    pub reason: ParkReason,
    /// How often it was tried.
    pub attempts: i32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Since when it waits; of a dead letter, when it was given up, and of one that is replayed, since when that is.
    pub parked_at: Timestamp,
}

impl ParkedRow {
    /// Where it waits.
    pub fn place(&self) -> ParkedPlace {
        ParkedPlace { name: self.name.clone(), shard: self.event.shard, position: self.event.position }
    }
}
