//! The entries between an endpoint's offset and the last one that was read: what became of each, and which may be sent next.
//!
//! Entries of one channel go one after the other; what failed by itself leaves the window for the table of parked entries, with what
//! follows it for its channel. The offset moves over a prefix: what was taken ahead of it is only remembered here.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::time::Instant;

use super::gate::Gate;
use crate::lifecycle::store::{Delivery, EventRow};

/// Bytes of payload after which a request takes no further event: receivers limit what they read.
const MOST_BYTES: usize = 256 * 1024;

/// What became of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// To be sent.
    Waiting,
    /// Under way.
    Sent,
    /// Taken, or not for this endpoint.
    Done,
    /// One before it for its channel waits aside, and so must it.
    Behind,
    /// It failed by itself.
    Alone,
    /// It failed by itself, and its channel has waited for it for long enough.
    Late,
}

/// An entry.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) position: i64,
    /// `None` once it is done.
    pub(super) event: Option<EventRow>,
    pub(super) state: State,
    /// How often it was tried, in whatever company.
    pub(super) tries: u32,
    /// The round of the gate that it was last tried in.
    round: u64,
    /// When its first attempt of its own ended, and why the last one failed.
    pub(super) failed: Option<(Instant, String)>,
    /// An outage was to blame for its failures once. Not a second time: nothing waits for ever for an endpoint that comes and goes.
    forgiven: bool,
    /// A later one of its channel was taken.
    passed: bool,
    /// Not before that, unless the endpoint is in doubt: then rounds decide.
    next: Instant,
    read_at: Instant,
}

impl Slot {
    fn is_due(&self, gate: &Gate, now: Instant) -> bool {
        if gate.in_doubt() { gate.is_due(self.round) } else { self.next <= now }
    }
}

/// How a request failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    /// The round of the gate that it counts in.
    pub(super) round: u64,
    pub(super) at: Instant,
    /// When it may be tried again if others are taken.
    pub(super) next: Instant,
    pub(super) error: &'a str,
}

/// What makes one request.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) positions: Vec<i64>,
    /// Since when the first of it waits.
    pub(super) since: Instant,
    /// Whether nothing more may come along.
    pub(super) full: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    /// What of each channel is not done, in order.
    chains: HashMap<String, VecDeque<i64>>,
    /// How many have their event.
    held: usize,
}

impl Window {
    /// How many entries are not done.
    pub(super) fn unfinished(&self) -> usize {
        self.held
    }

    /// How many entries lie between the offset and the last one that was read.
    pub(super) fn span(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn front(&self) -> Option<&Slot> {
        self.slots.front()
    }

    /// The last position that was read.
    pub(super) fn last(&self) -> Option<i64> {
        self.slots.back().map(|slot| slot.position)
    }

    /// Takes in the next entry of the log.
    pub(super) fn push(&mut self, delivery: Delivery, wanted: bool, now: Instant) {
        let Delivery { event, blocked } = delivery;
        let (position, mut state) = (event.position, State::Done);
        if wanted {
            let chain = self.chains.entry(event.resource.clone()).or_default();
            let aside = chain
                .back()
                .copied()
                .is_some_and(|last| matches!(slot(&self.slots, last).map(|slot| &slot.state), Some(State::Behind | State::Alone)));
            state = if blocked || aside { State::Behind } else { State::Waiting };
            chain.push_back(position);
            self.held += 1;
        }
        let event = wanted.then_some(event);
        let (failed, forgiven, passed) = (None, false, false);
        self.slots.push_back(Slot { position, event, state, tries: 0, round: 0, failed, forgiven, passed, next: now, read_at: now });
    }

    /// The next to be sent by itself: of the first entries of all channels the one that was tried least, then the oldest.
    pub(super) fn next_single(&self, gate: &Gate, upto: i64, now: Instant) -> Option<i64> {
        let first = |slot: &&Slot| {
            let channel = slot.event.as_ref().map(|event| &event.resource);
            channel.and_then(|channel| self.chains.get(channel)?.front()) == Some(&slot.position)
        };
        let slots = self.slots.iter().take_while(|slot| slot.position <= upto);
        let waiting = slots.filter(|slot| slot.state == State::Waiting && slot.is_due(gate, now)).filter(first);
        waiting.min_by_key(|slot| (slot.tries, slot.position)).map(|slot| slot.position)
    }

    /// What makes the next request behind `after`, in the order of the log.
    pub(super) fn next_batch(&self, gate: &Gate, after: i64, most: usize, now: Instant) -> Option<Batch> {
        let (mut batch, mut held_up, mut bytes) = (None::<Batch>, HashSet::new(), 0);
        for slot in &self.slots {
            let Some(event) = &slot.event else { continue };
            let channel = event.resource.as_str();
            if slot.state == State::Late {
                continue;
            }
            if slot.position <= after || slot.state != State::Waiting || !slot.is_due(gate, now) {
                held_up.insert(channel);
            }
            if held_up.contains(channel) {
                continue;
            }
            bytes += size(event);
            match &mut batch {
                None => batch = Some(Batch { positions: vec![slot.position], since: slot.read_at, full: most == 1 }),
                Some(batch) if bytes > MOST_BYTES => batch.full = true,
                Some(batch) => {
                    batch.positions.push(slot.position);
                    batch.full = batch.positions.len() >= most;
                }
            }
            if batch.as_ref().is_some_and(|batch| batch.full) {
                break;
            }
        }
        batch
    }

    /// Their entries, on their way.
    pub(super) fn send(&mut self, positions: &[i64]) -> Vec<EventRow> {
        let mut events = Vec::with_capacity(positions.len());
        for position in positions {
            let Some(slot) = self.get_mut(*position) else { continue };
            slot.state = State::Sent;
            slot.tries = slot.tries.saturating_add(1);
            events.extend(slot.event.clone());
        }
        events
    }

    /// They were taken.
    pub(super) fn done(&mut self, positions: &[i64]) {
        for position in positions {
            let channel = slot(&self.slots, *position).and_then(|slot| slot.event.as_ref()).map(|event| &event.resource);
            let first = channel.and_then(|channel| self.chains.get(channel)?.front()).copied();
            if let Some(slot) = first.filter(|first| first < position).and_then(|first| self.get_mut(first)) {
                slot.passed = true;
            }
            self.finish(*position, State::Done);
        }
    }

    /// They were not, in this round.
    pub(super) fn failed(&mut self, positions: &[i64], failure: &Failure<'_>) {
        let Failure { round, at, next, error } = *failure;
        for position in positions {
            let Some(slot) = self.get_mut(*position) else { continue };
            (slot.state, slot.round, slot.next) = (State::Waiting, round, next);
            // Of several in one request nobody can say which one is to blame.
            if positions.len() == 1 {
                let first = slot.failed.as_ref().map_or(at, |(first, _)| *first);
                slot.failed = Some((first, error.to_owned()));
            }
        }
    }

    /// When something that failed may be tried again.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.slots.iter().filter(|slot| slot.state == State::Waiting && slot.next > now);
        waiting.map(|slot| slot.next).min()
    }

    /// What may pass the first of its channel, so that one channel tells whether it is the event or the endpoint: all first ones have had
    /// their try in this round, and this channel's failed first at `since` or before.
    pub(super) fn next_passing(&self, gate: &Gate, since: Option<Instant>) -> Option<i64> {
        let due = |chain: &&VecDeque<i64>| {
            let first = chain.front().and_then(|first| slot(&self.slots, *first))?;
            let failed = first.failed.as_ref().filter(|(at, _)| since.is_some_and(|since| *at <= since));
            failed.filter(|_| first.state == State::Waiting && !gate.is_due(first.round))?;
            let next = chain.get(1).and_then(|next| slot(&self.slots, *next))?;
            (next.state == State::Waiting && gate.is_due(next.round)).then_some(next.position)
        };
        self.chains.values().filter_map(|chain| due(&chain)).min()
    }

    /// Those that failed in a request of their own, and by themselves, leave: with what follows them for their channel, unless that has
    /// passed them already. Those that failed in an outage that is over are as good as new.
    pub(super) fn judge(&mut self, gate: &mut Gate) {
        let mut found = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| matches!(slot.state, State::Waiting | State::Sent)) {
            let Some((at, _)) = &slot.failed else { continue };
            if !slot.forgiven && gate.has_come_back_since(slot.round) {
                (slot.failed, slot.forgiven) = (None, true);
            } else if slot.state == State::Waiting && gate.took_since(*at) {
                found.push(slot.position);
            }
        }
        let is_any = !found.is_empty();
        for position in found {
            let Some(slot) = self.get_mut(position) else { continue };
            if slot.passed {
                slot.state = State::Late;
                self.unchain(position);
                continue;
            }
            slot.state = State::Alone;
            let Some(channel) = slot.event.as_ref().map(|event| event.resource.clone()) else { continue };
            let behind: Vec<i64> = self.chains.get(&channel).into_iter().flatten().copied().filter(|later| *later > position).collect();
            for later in behind {
                if let Some(slot) = self.get_mut(later) {
                    slot.state = State::Behind;
                }
            }
        }
        if is_any && !self.slots.iter().any(|slot| slot.state == State::Waiting && slot.tries > 0) {
            gate.acquit();
        }
    }

    /// The front has left for the table of parked entries.
    pub(super) fn pop_parked(&mut self) {
        if let Some(position) = self.slots.front().map(|slot| slot.position) {
            self.finish(position, State::Done);
            self.slots.pop_front();
        }
    }

    /// The last position of the prefix that is done.
    pub(super) fn done_upto(&self) -> Option<i64> {
        self.slots.iter().take_while(|slot| slot.state == State::Done).last().map(|slot| slot.position)
    }

    /// The offset is there.
    pub(super) fn forget_upto(&mut self, position: i64) {
        while self.slots.front().is_some_and(|slot| slot.position <= position) {
            self.slots.pop_front();
        }
    }

    fn finish(&mut self, position: i64, state: State) {
        let Some(slot) = self.get_mut(position) else { return };
        slot.state = state;
        if slot.event.is_some() {
            self.held -= 1;
        }
        self.unchain(position);
        if let Some(slot) = self.get_mut(position) {
            slot.event = None;
        }
    }

    /// Nothing waits for it any more.
    fn unchain(&mut self, position: i64) {
        let channel = self.get_mut(position).and_then(|slot| slot.event.as_ref()).map(|event| event.resource.clone());
        let Some(channel) = channel else { return };
        if let Some(chain) = self.chains.get_mut(&channel) {
            chain.retain(|member| *member != position);
            if chain.is_empty() {
                self.chains.remove(&channel);
            }
        }
    }

    fn get_mut(&mut self, position: i64) -> Option<&mut Slot> {
        let first = self.slots.front()?.position;
        self.slots.get_mut(usize::try_from(position - first).ok()?)
    }
}

/// Positions are dense.
fn slot(slots: &VecDeque<Slot>, position: i64) -> Option<&Slot> {
    slots.get(usize::try_from(position - slots.front()?.position).ok()?)
}

/// About what an entry takes in a body.
fn size(event: &EventRow) -> usize {
    let text = |value: &serde_json::Value| value.as_str().map_or(16, str::len);
    let fields = event.payload.as_object().map_or(0, |fields| fields.iter().map(|(name, value)| name.len() + text(value) + 6).sum());
    64 + event.event_type.len() + event.resource.len() + fields
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
