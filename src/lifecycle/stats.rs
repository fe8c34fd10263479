//! Counts of what a node does with its locks and with the addresses it posts to: plain atomics, read by whoever shows them.

use std::time::{Duration, Instant};

use super::{LockManager, lock_manager::NotTaken};
use crate::domain::{Counts, Histogram, HistogramView};

/// What became of a request for holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// All of them are had.
    Granted,
    /// Somebody else has one.
    Conflict,
    /// The store did not answer, or the lease is in doubt.
    Unavailable,
    /// The connection ended first.
    Ended,
    /// Too many, or nothing that can be stored.
    Invalid,
}

impl Acquired {
    const ALL: [Self; 5] = [Self::Granted, Self::Conflict, Self::Unavailable, Self::Ended, Self::Invalid];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Ended => "ended",
            Self::Invalid => "invalid",
        }
    }

    fn of<T>(answer: &Result<T, NotTaken>) -> Self {
        match answer {
            Ok(_) => Self::Granted,
            Err(NotTaken::Conflict(_)) => Self::Conflict,
            Err(NotTaken::Unavailable) => Self::Unavailable,
            Err(NotTaken::Ended) => Self::Ended,
            Err(NotTaken::TooMany(_) | NotTaken::Invalid(_)) => Self::Invalid,
        }
    }
}

/// How long requests for holds took, by what became of them.
#[derive(Debug)]
pub(crate) struct LockStats([Histogram; Acquired::ALL.len()]);

impl Default for LockStats {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Histogram::of_times()))
    }
}

impl LockStats {
    /// Notes one request.
    pub(super) fn acquired<T>(&self, answer: &Result<T, NotTaken>, began: Instant) {
        self.0[Acquired::of(answer) as usize].took(began.elapsed());
    }

    /// All requests.
    pub(crate) fn acquires(&self) -> impl Iterator<Item = (Acquired, HistogramView)> {
        Acquired::ALL.into_iter().map(|result| (result, self.0[result as usize].view()))
    }
}

/// How many ops went to the store at once.
#[derive(Debug)]
pub(crate) struct LaneStats {
    pub(super) commits: Histogram,
    pub(super) releases: Histogram,
}

impl Default for LaneStats {
    fn default() -> Self {
        Self { commits: Histogram::of_sizes(), releases: Histogram::of_sizes() }
    }
}

impl LaneStats {
    /// The sizes of all calls, by what was written.
    pub(crate) fn batches(&self) -> [(&'static str, HistogramView); 2] {
        [("commit", self.commits.view()), ("release", self.releases.view())]
    }
}

/// The locks of a node at one moment, as far as its memory knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LockNumbers {
    /// Holds of connections here, those that are being asked for included.
    pub(crate) holds: usize,
    /// Refused requests that wait for a resource to be free.
    pub(crate) waiters: usize,
    /// Ops that wait for the store.
    pub(crate) unwritten: usize,
    /// Whether a hold would be granted.
    pub(crate) available: bool,
    /// Whether the lease is in doubt.
    pub(crate) in_doubt: bool,
}

impl LockManager {
    /// What its memory knows.
    pub(crate) fn numbers(&self) -> LockNumbers {
        let (holds, waiters) = self.table(|table| (table.len(), table.waiters()));
        LockNumbers { holds, waiters, unwritten: self.lanes().waiting(), available: self.is_available(), in_doubt: self.is_in_doubt() }
    }
}

/// What became of one request to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// It answered with 2xx.
    Delivered,
    /// It answered with something else.
    Refused,
    /// It did not answer in time.
    TimedOut,
    /// Nobody was there.
    Unreachable,
    /// The line broke.
    Failed,
}

impl Posted {
    const ALL: [Self; 5] = [Self::Delivered, Self::Refused, Self::TimedOut, Self::Unreachable, Self::Failed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        }
    }
}

/// Requests to one address.
#[derive(Debug)]
pub(crate) struct PostStats {
    time: Histogram,
    outcomes: Counts<{ Posted::ALL.len() }>,
}

impl Default for PostStats {
    fn default() -> Self {
        Self { time: Histogram::of_times(), outcomes: Counts::default() }
    }
}

impl PostStats {
    pub(super) fn posted(&self, outcome: Posted, took: Duration) {
        self.outcomes.add(outcome as usize);
        self.time.took(took);
    }

    /// How often there was which outcome.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Posted, u64)> {
        Posted::ALL.into_iter().map(|outcome| (outcome, self.outcomes.get(outcome as usize)))
    }

    /// How long the answers took.
    pub(crate) fn time(&self) -> HistogramView {
        self.time.view()
    }
}
