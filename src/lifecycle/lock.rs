//! What becomes of a lock, decided without a database or a clock of its own. The embedded store asks it; `migrations/postgres` says
//! the same in SQL, and one conformance suite holds both to it.
//!
//! ```text
//! (none) ── ask ──▶ held ── last hold ends, unclean, grace > 0 ──▶ grace ── time is up ──▶ released
//!                    ▲ └─── last hold ends, clean or grace = 0 ─────┼──────────────────────▶ released
//!                    └────────────── ask by the same principal ─────┘        taken over, forced ──▶ released
//! ```

use super::store::{Ending, Fence, IfTaken, LockState, Mode, Timestamp};

/// A lock that is not released, on the resource that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveLock {
    /// Its identity.
    pub(crate) fence: Fence,
    /// How it is held.
    pub(crate) mode: Mode,
    /// Whose it is.
    pub(crate) principal: String,
    /// Held, or in its grace.
    pub(crate) state: LockState,
}

/// Somebody asks for the resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// How.
    pub(crate) mode: Mode,
    /// Who.
    pub(crate) principal: &'a str,
    /// What to do about others.
    pub(crate) if_taken: IfTaken,
}

/// What somebody who asks gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A new lock, after these have been released as taken over.
    Grant {
        /// What stands in the way, by fence; usually nothing.
        displaced: Vec<Fence>,
    },
    /// One more hold on the principal's own lock.
    Attach(Fence),
    /// The same, out of the grace.
    Resume(Fence),
}

/// Decides, given all live locks of the resource; `None` is a refusal.
pub(crate) fn decide(live: &[LiveLock], ask: Ask<'_>) -> Option<Verdict> {
    if let Some(own) = live.iter().find(|lock| lock.mode == ask.mode && lock.principal == ask.principal) {
        return Some(if own.state == LockState::Grace { Verdict::Resume(own.fence) } else { Verdict::Attach(own.fence) });
    }
    let conflicts = || live.iter().filter(|lock| lock.mode == Mode::Exclusive || ask.mode == Mode::Exclusive);
    let may_take = match ask.if_taken {
        IfTaken::Deny => false,
        IfTaken::TakeIfInGrace => conflicts().all(|lock| lock.state == LockState::Grace),
        IfTaken::Take => true,
    };
    if conflicts().next().is_some() && !may_take {
        return None;
    }
    let mut displaced: Vec<Fence> = conflicts().map(|lock| lock.fence).collect();
    displaced.sort_unstable();
    Some(Verdict::Grant { displaced })
}

/// The state after a lock lost holds and `holds_left` remain; `None` if nothing changes.
pub(crate) fn settle(state: LockState, holds_left: u64, ending: Ending, grace_ms: i64) -> Option<LockState> {
    match (state, ending) {
        _ if holds_left > 0 => None,
        (LockState::Released, _) | (LockState::Grace, Ending::Unclean) => None,
        (LockState::Held, Ending::Unclean) if grace_ms > 0 => Some(LockState::Grace),
        (LockState::Held | LockState::Grace, _) => Some(LockState::Released),
    }
}

/// What a look at the clock means for a grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GraceLook {
    /// It runs.
    Running,
    /// It would end later than it could: the clock was set back. It ends then, instead.
    Clamped(Timestamp),
    /// It is over.
    Over,
}

/// Compares a grace with the clock.
pub(crate) fn look(grace_until: Timestamp, grace_ms: i64, now: Timestamp) -> GraceLook {
    let latest = Timestamp(now.0.saturating_add(grace_ms));
    if grace_until <= now {
        GraceLook::Over
    } else if grace_until > latest {
        GraceLook::Clamped(latest)
    } else {
        GraceLook::Running
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
