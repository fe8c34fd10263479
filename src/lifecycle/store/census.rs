//! How much there is in a store, for those who watch over it.

use super::{LockState, ParkReason};

/// What is counted with a read of its own; the rest follows from lists that are there anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCensus {
    /// Locks that are not over, by state.
    pub locks: Vec<(LockState, i64)>,
    /// Entries that wait aside, by consumer and reason.
    pub parked: Vec<(String, ParkReason, i64)>,
}

impl StoreCensus {
    /// Reads what a database has counted.
    ///
    /// # Errors
    /// A word that this program does not know.
    pub(super) fn read(locks: Vec<(String, i64)>, parked: Vec<(String, String, i64)>) -> Result<Self, super::StoreError> {
        let locks = locks.into_iter().map(|(state, count)| Ok((LockState::parse(&state)?, count)));
        let parked = parked.into_iter().map(|(name, reason, count)| Ok((name, ParkReason::parse(&reason)?, count)));
        Ok(Self { locks: locks.collect::<Result<_, super::StoreError>>()?, parked: parked.collect::<Result<_, super::StoreError>>()? })
    }

    /// Locks in one state.
    pub fn locks(&self, state: LockState) -> i64 {
        self.locks.iter().find(|(found, _)| *found == state).map_or(0, |(_, count)| *count)
    }

    /// What one consumer has put aside for one reason.
    pub fn parked(&self, consumer: &str, reason: ParkReason) -> i64 {
        self.parked.iter().find(|(name, found, _)| name == consumer && *found == reason).map_or(0, |(_, _, count)| *count)
    }
}
