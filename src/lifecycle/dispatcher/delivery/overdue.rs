//! Events that an endpoint does not take while it takes others: each is tried again, the first of a channel before what follows it.
//!
//! A channel waits for its first event for `order_for`; then the others pass, and the event is tried beside them. One that happened
//! `retry_for` ago is a dead letter: nobody tries it again unless an operator asks. While the endpoint takes nothing, nothing of this is
//! counted.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::{super::reader::Reading, Route, age};
use crate::lifecycle::{
    listener::{Delivered, EventId, Fault, Retry},
    store::{EventRow, ParkReason, ParkedRow, StoreError},
};

/// How many channels are tried at the same time: one that hangs must not keep the others waiting.
const AT_ONCE: usize = 16;
/// Entries read at once of one channel.
const BATCH: u32 = 100;
/// How often to look for what an operator or another node did.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A channel whose first event waits; or an event that nobody waits for any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Channel(String),
    Late(EventId),
}

/// When something is tried again.
struct Plan {
    id: EventId,
    failures: u32,
    next: Instant,
    /// The first failure that this process saw.
    failed: Option<Instant>,
}

/// What became of what was tried.
enum Tried {
    /// It is through, with what followed it; or somebody else's.
    Through,
    /// This one failed.
    Failed(EventId, Instant, Retry),
    /// The store did not answer.
    Doubtful(StoreError),
}

/// Tries again, for one endpoint on this node.
pub(in crate::lifecycle::dispatcher) struct Overdue {
    reading: Arc<Reading>,
    route: Arc<Route>,
    plans: HashMap<Key, Plan>,
    at_work: JoinSet<(Key, Tried)>,
    busy: Vec<Key>,
}

impl Overdue {
    pub(in crate::lifecycle::dispatcher) fn new(reading: Arc<Reading>, route: Arc<Route>) -> Self {
        Self { reading, route, plans: HashMap::new(), at_work: JoinSet::new(), busy: Vec::new() }
    }

    /// Works until it is dropped.
    pub(in crate::lifecycle::dispatcher) async fn run(mut self) {
        loop {
            let next = match self.look().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::debug!(listener.name = %self.reading.name, error = %error, "What waits aside is not known: {error}");
                    Instant::now() + LOOK_EVERY
                }
            };
            let reading = Arc::clone(&self.reading);
            tokio::select! {
                () = reading.news_aside.notified() => {}
                Some(tried) = self.at_work.join_next() => self.note(tried),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Starts at what is due; when to look again.
    async fn look(&mut self) -> Result<Instant, StoreError> {
        let (now, mut next) = (Instant::now(), Instant::now() + LOOK_EVERY);
        if self.reading.held.len() == 0 {
            return Ok(next);
        }
        let Reading { node, name, .. } = &*self.reading;
        let limit = u32::try_from(2 * node.settings.max_aside).unwrap_or(u32::MAX);
        let heads = node.store.parked_heads(name, u32::MAX, limit).await?;
        self.reading.aside.store(heads.len(), Ordering::Relaxed);
        let in_doubt = self.route.gate().in_doubt();
        let mut known = std::mem::take(&mut self.plans);
        for row in heads {
            let id = Delivered::new(row.event.clone(), 1).id();
            let key = if row.reason == ParkReason::Late { Key::Late(id) } else { Key::Channel(row.event.resource.clone()) };
            if self.busy.contains(&key) || !self.reading.held.contains(row.event.shard) {
                continue;
            }
            let plan = known.remove(&key).filter(|plan| plan.id == id).unwrap_or_else(|| {
                // Not seen before: just put aside, or left by a former process, or asked for by an operator.
                let failures = u32::try_from(row.attempts).unwrap_or(0);
                let wait = if failures == 0 || row.reason == ParkReason::Late { Duration::ZERO } else { self.route.pace.delay(1, None) };
                Plan { id, failures: failures.min(1), next: now + wait, failed: None }
            });
            let passes_in = self.passes_in(&row, in_doubt);
            if passes_in == Some(Duration::ZERO) {
                if node.store.set_parked_reason(name, row.event.shard, row.event.position, ParkReason::Late).await? {
                    self.say_late(&row);
                }
                // What follows it is the first of its channel now.
                next = now;
                self.plans.insert(Key::Late(id), plan);
                continue;
            }
            next = passes_in.map_or(next, |wait| next.min(now + wait));
            // An endpoint that takes nothing is not to be stormed by all that waits.
            let most = if in_doubt { 1 } else { AT_ONCE };
            if plan.next <= now && self.at_work.len() < most {
                self.busy.push(key.clone());
                let again = Again { reading: Arc::clone(&self.reading), route: Arc::clone(&self.route), failed: plan.failed };
                let busy = key.clone();
                self.at_work.spawn(async move { (busy, again.run(row).await) });
            } else if plan.next > now {
                next = next.min(plan.next);
            }
            self.plans.insert(key, plan);
        }
        // The plan of one that is being tried is kept, also if it was not listed.
        for key in &self.busy {
            if let Some(plan) = known.remove(key) {
                self.plans.insert(key.clone(), plan);
            }
        }
        Ok(next)
    }

    /// How long the channel still waits for this event: only for one that is known to fail by itself, and not while nothing is taken.
    fn passes_in(&self, row: &ParkedRow, in_doubt: bool) -> Option<Duration> {
        let counts = row.reason == ParkReason::Poison && row.attempts > 0 && !in_doubt;
        counts.then(|| self.route.endpoint.options().order_for.saturating_sub(age(row.parked_at)))
    }

    fn say_late(&self, row: &ParkedRow) {
        let (name, id) = (&self.reading.name, Delivered::new(row.event.clone(), 1).id());
        let (event_type, channel) = (&row.event.event_type, &row.event.resource);
        tracing::warn!(listener.name = %name, event.id = %id, event.type = %event_type, channel = %channel,
            "Endpoint {name} has not taken {event_type} {id} for so long that {channel} waits for it no more; it is still tried");
    }

    fn note(&mut self, tried: Result<(Key, Tried), tokio::task::JoinError>) {
        let (key, tried) = match tried {
            Ok(tried) => tried,
            Err(error) => {
                tracing::error!(listener.name = %self.reading.name, error = %error, "Trying again died: {error}");
                return self.busy.clear();
            }
        };
        self.busy.retain(|busy| *busy != key);
        let (failed, asked) = match tried {
            Tried::Through => {
                self.plans.remove(&key);
                return;
            }
            Tried::Doubtful(error) => {
                tracing::debug!(listener.name = %self.reading.name, error = %error, "The store did not answer: {error}");
                (None, None)
            }
            Tried::Failed(id, at, retry) => (Some((id, at)), retry.delay()),
        };
        let Some(plan) = self.plans.get_mut(&key) else { return };
        if let Some((id, at)) = failed {
            if id != plan.id {
                (plan.id, plan.failures, plan.failed) = (id, 0, None);
            }
            plan.failed.get_or_insert(at);
        }
        plan.failures = plan.failures.saturating_add(1);
        plan.next = Instant::now() + self.route.pace.delay(plan.failures, asked);
    }
}

/// One channel, or one late event, being tried.
struct Again {
    reading: Arc<Reading>,
    route: Arc<Route>,
    /// When the first of it first failed, in this process.
    failed: Option<Instant>,
}

impl Again {
    async fn run(mut self, first: ParkedRow) -> Tried {
        match self.try_all(first).await {
            Ok(tried) => tried,
            Err(error) => Tried::Doubtful(error),
        }
    }

    /// In order, until one fails.
    async fn try_all(&mut self, first: ParkedRow) -> Result<Tried, StoreError> {
        if first.reason == ParkReason::Late {
            return Ok(self.try_one(first).await?.unwrap_or(Tried::Through));
        }
        let event = first.event;
        loop {
            let rows = self.reading.node.store.parked_behind(&self.reading.name, &event, BATCH).await?;
            let mut waiting = rows.into_iter().filter(|row| matches!(row.reason, ParkReason::Poison | ParkReason::BehindPoison)).peekable();
            if waiting.peek().is_none() {
                return Ok(Tried::Through);
            }
            for row in waiting {
                if !self.reading.held.contains(row.event.shard) || *self.reading.node.stop.borrow() {
                    return Ok(Tried::Through);
                }
                if let Some(ended) = self.try_one(row).await? {
                    return Ok(ended);
                }
                self.failed = None;
            }
        }
    }

    /// One attempt; `None` if what follows may be tried.
    async fn try_one(&self, row: ParkedRow) -> Result<Option<Tried>, StoreError> {
        let (store, name, ParkedRow { event, attempts, reason, parked_at, .. }) =
            (&self.reading.node.store, self.reading.name.as_str(), row);
        let (shard, position) = (event.shard, event.position);
        let through = |ours: bool| if ours { None } else { Some(Tried::Through) };
        if !self.route.endpoint.wants(&event) {
            return Ok(through(store.unpark(name, shard, position).await?));
        }
        let ticket = self.route.gate().send_beside(Instant::now());
        let event = [event];
        let Err(retry) = self.route.attempt(&event).await else {
            if self.route.gate().good(ticket) {
                self.route.opened.notify_one();
            }
            return Ok(through(store.unpark(name, shard, position).await?));
        };
        let [event] = event;
        let at = Instant::now();
        let failed = self.failed.unwrap_or(at);
        let alone = {
            let gate = self.route.gate();
            // Where nothing else comes that could tell, a channel does not wait for ever either. But for somebody who is not there:
            // one after the other, all that wait for their turn would pass each other.
            let waited = retry.fault() != Fault::Outage && at.duration_since(failed) >= self.route.endpoint.options().order_for;
            !gate.in_doubt() && (attempts > 0 || waited || gate.took_since(failed))
        };
        if alone && !store.note_parked_failure(name, shard, position, retry.message()).await? {
            return Ok(Some(Tried::Through));
        }
        // One that an operator replays has its last chance, too.
        let replayed = reason == ParkReason::Late && age(parked_at) < self.route.last_chance();
        if !replayed && self.is_dead(&event, alone, failed) && store.set_parked_reason(name, shard, position, ParkReason::Dead).await? {
            self.route.say_dead(&event, retry.message());
            return Ok(None);
        }
        Ok(Some(Tried::Failed(Delivered::new(event, 1).id(), at, retry)))
    }

    fn is_dead(&self, event: &EventRow, alone: bool, failed: Instant) -> bool {
        let now = Instant::now();
        let for_long = || now.duration_since(failed) >= self.route.last_chance() || self.route.long_outage(now).is_some();
        self.route.is_overdue(event) && (alone || for_long())
    }
}
