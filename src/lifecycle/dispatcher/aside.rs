//! What was put aside is tried again, the first entry of each resource, while the others pass.
//!
//! An end of a lock is tried for ever, with an alarm; others as often as the listener wants. What waited behind an entry that is
//! through, or that an operator took out, follows at once.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::{
    backoff::{Alarm, backoff, delay},
    effect::{self, Applied, Effect, Entry, Seal},
    reader::Reading,
};
use crate::lifecycle::{
    listener::{Delivered, EventId, Fault, Retry},
    store::{EventKind, EventRow, ParkedRow, StoreError},
};

/// How many resources are tried at the same time: one that hangs must not keep the others waiting.
const AT_ONCE: usize = 8;
/// Entries read at once of one resource.
const BATCH: u32 = 100;
/// How often to look for what an operator or another node did.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often to say that ends of locks do not get through.
const ALARM_EVERY: Duration = Duration::from_secs(60);
/// After so many attempts at an end of a lock the alarm is given.
const ALARM_AFTER: u32 = 10;

type Resource = (String, String);

/// When the first entry of a resource is tried again.
struct Plan {
    id: EventId,
    failures: u32,
    next: Instant,
}

/// What became of one resource's entries.
enum Drained {
    /// They are through, or somebody else's.
    Through,
    /// This one failed.
    Failed(Box<Delivered>, Retry),
    /// The store did not answer.
    Doubtful(StoreError),
}

/// Tries again, for one listener on this node.
pub(super) struct Aside {
    reading: Arc<Reading>,
    plans: HashMap<Resource, Plan>,
    at_work: JoinSet<(Resource, Drained)>,
    busy: Vec<Resource>,
    alarm: Alarm,
}

impl Aside {
    pub(super) fn new(reading: Arc<Reading>) -> Self {
        Self { reading, plans: HashMap::new(), at_work: JoinSet::new(), busy: Vec::new(), alarm: Alarm::every(ALARM_EVERY) }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
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
                Some(drained) = self.at_work.join_next() => self.note(drained).await,
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Starts at what is due; when to look again.
    async fn look(&mut self) -> Result<Instant, StoreError> {
        let later = Instant::now() + LOOK_EVERY;
        if self.reading.held.len() == 0 {
            return Ok(later);
        }
        let Reading { node, name, options, .. } = &*self.reading;
        let limit = u32::try_from(2 * node.settings.max_aside).unwrap_or(u32::MAX);
        let heads = node.store.parked_heads(name, options.max_attempts, limit).await?;
        self.reading.aside.store(heads.len(), Ordering::Relaxed);
        self.sound(&heads);
        let now = Instant::now();
        let mut known = std::mem::take(&mut self.plans);
        let mut next = later;
        for row in heads {
            let resource = (row.event.app.clone(), row.event.resource.clone());
            if self.busy.contains(&resource) || !self.reading.held.contains(row.event.shard) {
                continue;
            }
            let attempts = u32::try_from(row.attempts).unwrap_or(0);
            let id = Delivered::new(row.event.clone(), attempts).id();
            let plan = known.remove(&resource).filter(|plan| plan.id == id).unwrap_or_else(|| {
                // Not seen before: just put aside, or left by a former process, which need not be waited for long.
                let wait = if attempts == 0 { Duration::ZERO } else { backoff(attempts.min(4)) };
                Plan { id, failures: attempts, next: now + wait }
            });
            if plan.next <= now && self.at_work.len() < AT_ONCE {
                self.busy.push(resource.clone());
                self.at_work.spawn(drain(Arc::clone(&self.reading), resource.clone(), row.event));
            } else if plan.next > now {
                next = next.min(plan.next);
            }
            self.plans.insert(resource, plan);
        }
        // The plan of one that is being tried is kept, also if it was not listed.
        for resource in &self.busy {
            if let Some(plan) = known.remove(resource) {
                self.plans.insert(resource.clone(), plan);
            }
        }
        Ok(next)
    }

    /// The alarm: ends of locks that do not get through leave locks that the listener believes in.
    fn sound(&mut self, heads: &[ParkedRow]) {
        let stuck = || {
            heads
                .iter()
                .filter(|row| row.event.kind == EventKind::Unlocked && u32::try_from(row.attempts).is_ok_and(|tried| tried >= ALARM_AFTER))
        };
        let Some(first) = stuck().min_by_key(|row| row.event.at) else { return self.alarm.reset() };
        if self.alarm.rings() {
            let (name, count, resource, fence) =
                (&self.reading.name, stuck().count(), &first.event.resource, first.event.fence.map_or(0, |fence| fence.0));
            let error = first.last_error.as_deref().unwrap_or("no error is known");
            tracing::error!(listener.name = %name, events = count, event.resource = %resource, event.fence = %fence, attempts = first.attempts,
                error = %error, "Listener {name} does not get {count} ended locks through, the oldest of {resource} (fence {fence}): {error}");
        }
    }

    async fn note(&mut self, drained: Result<(Resource, Drained), tokio::task::JoinError>) {
        let (resource, drained) = match drained {
            Ok(drained) => drained,
            Err(error) => {
                tracing::error!(listener.name = %self.reading.name, error = %error, "Trying again died: {error}");
                return self.busy.clear();
            }
        };
        self.busy.retain(|busy| *busy != resource);
        match drained {
            Drained::Through => drop(self.plans.remove(&resource)),
            Drained::Doubtful(error) => {
                tracing::debug!(listener.name = %self.reading.name, error = %error, "The store did not answer: {error}");
                self.postpone(resource, None, Duration::ZERO);
            }
            Drained::Failed(event, retry) => {
                self.postpone(resource, Some(event.id()), retry.delay().unwrap_or_default());
                if retry.fault() == Fault::Entry && self.reading.gives_up(event.kind, event.attempt()) {
                    self.reading.say_aside(&event, event.attempt(), &retry, true);
                }
            }
        }
    }

    fn postpone(&mut self, resource: Resource, failed: Option<EventId>, asked: Duration) {
        let Some(plan) = self.plans.get_mut(&resource) else { return };
        if let Some(id) = failed.filter(|id| *id != plan.id) {
            (plan.id, plan.failures) = (id, 0);
        }
        plan.failures = plan.failures.saturating_add(1);
        plan.next = Instant::now() + delay(plan.failures, Some(asked));
    }
}

/// Delivers what is parked of one resource, in order, until one fails.
async fn drain(reading: Arc<Reading>, resource: Resource, first: EventRow) -> (Resource, Drained) {
    loop {
        let rows = match reading.node.store.parked_behind(&reading.name, &first, BATCH).await {
            Ok(rows) => rows,
            Err(error) => return (resource, Drained::Doubtful(error)),
        };
        if rows.is_empty() {
            return (resource, Drained::Through);
        }
        for row in rows {
            let ours = reading.held.contains(row.event.shard) && !*reading.node.stop.borrow();
            let attempts = u32::try_from(row.attempts).unwrap_or(0);
            if !ours || reading.gives_up(row.event.kind, attempts) {
                return (resource, Drained::Through);
            }
            let wanted = reading.options.filter.matches(&row.event);
            let entry = Entry { event: Delivered::new(row.event, attempts.saturating_add(1)), wanted };
            match deliver(&reading, &entry).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return (resource, Drained::Through),
                Ok(Err(retry)) => return (resource, Drained::Failed(Box::new(entry.event), retry)),
                Err(error) => return (resource, Drained::Doubtful(error)),
            }
        }
    }
}

/// One attempt at a parked entry: true if it is through, false if it is parked no more.
async fn deliver(reading: &Reading, entry: &Entry) -> Result<Result<bool, Retry>, StoreError> {
    let (store, name, settings) = (&reading.node.store, reading.name.as_str(), &reading.node.settings);
    let (shard, position) = (entry.event.shard, entry.event.position);
    let handled = match &reading.effect {
        _ if !entry.wanted => Ok(store.unpark(name, shard, position).await?),
        // An endpoint's entries are tried again elsewhere: see `delivery`.
        Effect::Plain(_) | Effect::Endpoint(_) => match reading.tell(&entry.event).await {
            Ok(()) => Ok(store.unpark(name, shard, position).await?),
            Err(retry) => Err(retry),
        },
        Effect::Transactional { listener, pool } => {
            let place = (listener.as_ref(), pool);
            let seal = Seal::Unpark { name, shard, position };
            match effect::apply(place, std::slice::from_ref(entry), seal, settings.time_limit, settings.store_after).await {
                Applied::Upto(_) => Ok(true),
                Applied::Lost => Ok(false),
                Applied::Failed(_, retry) | Applied::Refused(retry) => Err(retry),
            }
        }
    };
    match handled {
        Err(retry) if retry.fault() == Fault::Entry => {
            let noted = store.note_parked_failure(name, shard, position, retry.message()).await?;
            Ok(if noted { Err(retry) } else { Ok(false) })
        }
        answer => Ok(answer),
    }
}
