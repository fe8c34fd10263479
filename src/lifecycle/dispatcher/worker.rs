//! One claimed shard of one listener. The step does one thing and says what happened; the loop is a shell around it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{sync::watch, time::Instant};

use super::{
    backoff::{Alarm, backoff, delay},
    effect::{self, Applied, Effect, Entry, Seal},
    raised,
    reader::Reading,
};
use crate::lifecycle::{
    listener::{Delivered, Fault, Retry},
    store::{Ack, Claim, Delivery, EventKind, EventRow, ParkReason, Step, StoreError},
};

/// How often the same trouble is said again.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stepped {
    /// There may be more.
    Moved,
    /// There is nothing to do.
    Idle,
    /// The next entry failed: not before that.
    Wait(Duration),
    /// The shard is somebody else's by now.
    Lost,
}

/// What became of one entry of a batch.
enum Tried {
    Done,
    Blocked,
    Failed(Retry),
    Untried,
}

/// Works on a shard.
pub(super) struct Worker {
    reading: Arc<Reading>,
    claim: Claim,
    leave: watch::Receiver<bool>,
    /// Entries after the offset that were handled before one before them failed.
    ahead: BTreeSet<i64>,
    /// Up to here, one entry per transaction: one of several failed.
    singly_until: i64,
    outages: u32,
    alarm: Alarm,
}

impl Worker {
    pub(super) fn new(reading: Arc<Reading>, claim: Claim, leave: watch::Receiver<bool>) -> Self {
        Self { reading, claim, leave, ahead: BTreeSet::new(), singly_until: 0, outages: 0, alarm: Alarm::every(SAY_EVERY) }
    }

    /// Steps until the shard is lost, or it is told to leave.
    pub(super) async fn run(mut self) {
        let mut leave = self.leave.clone();
        let mut wait = self.claim.wait;
        let mut errors = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = raised(&mut leave) => return,
            }
            wait = Duration::ZERO;
            match self.step().await {
                Ok(Stepped::Moved) => errors = 0,
                Ok(Stepped::Wait(delay)) => wait = delay,
                Ok(Stepped::Lost) => return,
                Ok(Stepped::Idle) => {
                    errors = 0;
                    let (shard, position) = (usize::try_from(self.claim.shard.0).unwrap_or(0), self.claim.position);
                    let mut heads = self.reading.node.heads.clone();
                    tokio::select! {
                        news = heads.wait_for(|heads| heads.get(shard).is_some_and(|head| *head > position)) => {
                            if news.is_err() {
                                return;
                            }
                        }
                        () = raised(&mut leave) => return,
                    }
                }
                Err(error) => {
                    errors += 1;
                    wait = backoff(errors);
                    self.trouble(&error);
                }
            }
        }
    }

    fn trouble(&mut self, error: &StoreError) {
        if self.alarm.rings() {
            let (name, shard, position) = (&self.reading.name, self.claim.shard, self.claim.position);
            let missing = matches!(error, StoreError::LogHole { .. } | StoreError::Trimmed { .. });
            match missing {
                true => tracing::error!(listener.name = %name, event.shard = %shard, event.position = position, error = %error,
                    "Listener {name} cannot go on after {shard}-{position}: {error}. Rewind or drop it."),
                false => tracing::warn!(listener.name = %name, event.shard = %shard, error = %error,
                    "Listener {name} cannot read shard {shard}: {error}"),
            }
        }
    }

    /// Reads from the offset, calls, and moves on, waits, or puts an entry aside.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not answer; whether it moved is then not known, and the next step finds out.
    pub(super) async fn step(&mut self) -> Result<Stepped, StoreError> {
        let batch = self.reading.node.store.read(&self.claim, self.reading.node.settings.batch).await?;
        if batch.is_empty() {
            return Ok(Stepped::Idle);
        }
        match &self.reading.effect {
            // An endpoint's worker is a courier: see `delivery`.
            Effect::Plain(_) | Effect::Endpoint(_) => self.tell(batch).await,
            Effect::Transactional { .. } => self.apply(batch).await,
        }
    }

    fn entry(&self, event: EventRow) -> Entry {
        let attempts = if event.position == self.claim.position + 1 { self.claim.attempts } else { 0 };
        Entry {
            wanted: self.reading.options.filter.matches(&event),
            event: Delivered::new(event, 1 + u32::try_from(attempts).unwrap_or(0)),
        }
    }

    async fn tell(&mut self, batch: Vec<Delivery>) -> Result<Stepped, StoreError> {
        let (entries, blocked): (Vec<_>, Vec<_>) = batch.into_iter().map(|delivery| (self.entry(delivery.event), delivery.blocked)).unzip();
        let tried = self.try_all(&entries, &blocked).await;
        let mut done = None;
        for (index, (entry, outcome)) in entries.iter().zip(&tried).enumerate() {
            let position = entry.event.position;
            match outcome {
                Tried::Done => done = Some(position),
                Tried::Blocked => {
                    if self.acknowledge(done.take()).await? == Step::Lost || self.park(ParkReason::BehindPoison, None).await? == Step::Lost
                    {
                        return Ok(Stepped::Lost);
                    }
                }
                Tried::Failed(_) | Tried::Untried => {
                    let later = entries.iter().zip(&tried).skip(index).filter(|(_, tried)| matches!(tried, Tried::Done));
                    self.ahead.extend(later.map(|(entry, _)| entry.event.position));
                    if self.acknowledge(done.take()).await? == Step::Lost {
                        return Ok(Stepped::Lost);
                    }
                    return match outcome {
                        Tried::Failed(retry) => self.failed(&entry.event, retry).await,
                        _ => Ok(Stepped::Moved),
                    };
                }
            }
        }
        match self.acknowledge(done).await? {
            Step::Done => Ok(Stepped::Moved),
            Step::Lost => Ok(Stepped::Lost),
        }
    }

    /// Calls the listener for each entry, in order for each resource, until the time for a batch is up.
    async fn try_all(&self, entries: &[Entry], blocked: &[bool]) -> Vec<Tried> {
        let mut chains: Vec<Vec<usize>> = Vec::new();
        let mut of_resource = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let key = match self.reading.options.concurrency {
                0 | 1 => None,
                _ => Some((entry.event.app.as_str(), entry.event.resource.as_str())),
            };
            let chain = *of_resource.entry(key).or_insert_with(|| {
                chains.push(Vec::new());
                chains.len() - 1
            });
            chains[chain].push(index);
        }
        let deadline = Instant::now() + self.reading.node.settings.store_after;
        let chains = stream::iter(chains).map(|chain| async move {
            let mut answers = Vec::with_capacity(chain.len());
            for index in chain {
                let (entry, blocked) = (&entries[index], blocked[index]);
                let tried = match () {
                    () if !entry.wanted || self.ahead.contains(&entry.event.position) => Tried::Done,
                    () if blocked => Tried::Blocked,
                    () if Instant::now() > deadline || *self.leave.borrow() => break,
                    () => match self.reading.tell(&entry.event).await {
                        Ok(()) => Tried::Done,
                        Err(retry) => Tried::Failed(retry),
                    },
                };
                let failed = matches!(tried, Tried::Failed(_));
                answers.push((index, tried));
                if failed {
                    break;
                }
            }
            answers
        });
        let mut tried: Vec<_> = entries.iter().map(|_| Tried::Untried).collect();
        let mut answers = chains.buffer_unordered(self.reading.options.concurrency.max(1));
        while let Some(answers) = answers.next().await {
            for (index, answer) in answers {
                tried[index] = answer;
            }
        }
        tried
    }

    async fn apply(&mut self, batch: Vec<Delivery>) -> Result<Stepped, StoreError> {
        let Effect::Transactional { listener, pool } = &self.reading.effect else { return Ok(Stepped::Idle) };
        let settings = &self.reading.node.settings;
        let singly = self.claim.position < self.singly_until;
        let limit = if singly { 1 } else { batch.len() };
        let (mut entries, mut blocked) = (Vec::with_capacity(limit), false);
        for delivery in batch.into_iter().take(limit) {
            let entry = self.entry(delivery.event);
            if delivery.blocked && entry.wanted {
                blocked = true;
                break;
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            debug_assert!(blocked);
            let parked = self.park(ParkReason::BehindPoison, None).await?;
            return Ok(if parked == Step::Done { Stepped::Moved } else { Stepped::Lost });
        }
        let seal = Seal::Acknowledge(&self.claim);
        let place = (listener.as_ref(), pool);
        let applied = effect::apply(place, &entries, seal, settings.time_limit, settings.store_after).await;
        let last = entries.last().map_or(self.claim.position, |entry| entry.event.position);
        match (applied, &entries[..]) {
            (Applied::Upto(count), _) => {
                self.moved(entries.get(count.saturating_sub(1)).map_or(self.claim.position, |entry| entry.event.position));
                Ok(Stepped::Moved)
            }
            (Applied::Lost, _) => Ok(Stepped::Lost),
            (Applied::Failed(0, retry), [first, ..]) | (Applied::Refused(retry), [first]) => self.failed(&first.event, &retry).await,
            (Applied::Refused(retry), [first, ..]) if retry.fault() == Fault::Outage => self.failed(&first.event, &retry).await,
            (Applied::Failed(..) | Applied::Refused(_), _) => {
                // What succeeded before it was undone with it: again, one by one.
                self.singly_until = last;
                Ok(Stepped::Moved)
            }
        }
    }

    fn moved(&mut self, position: i64) {
        if position > self.claim.position {
            self.claim.position = position;
            self.claim.attempts = 0;
            self.outages = 0;
            self.alarm.reset();
            self.ahead = self.ahead.split_off(&(position + 1));
        }
    }

    async fn acknowledge(&mut self, upto: Option<i64>) -> Result<Step, StoreError> {
        let Some(upto) = upto else { return Ok(Step::Done) };
        let step = self.reading.node.store.acknowledge(Ack { claim: &self.claim, upto }).await?;
        if step == Step::Done {
            self.moved(upto);
        }
        Ok(step)
    }

    async fn park(&mut self, reason: ParkReason, error: Option<&str>) -> Result<Step, StoreError> {
        let step = self.reading.node.store.park(&self.claim, reason, error).await?;
        if step == Step::Done {
            self.moved(self.claim.position + 1);
            self.reading.put_aside(reason);
        }
        Ok(step)
    }

    /// The entry after the offset failed.
    async fn failed(&mut self, event: &Delivered, retry: &Retry) -> Result<Stepped, StoreError> {
        let (name, id, settings) = (self.reading.name.clone(), event.id(), self.reading.node.settings);
        if retry.fault() == Fault::Outage {
            self.outages += 1;
            let wait = delay(self.outages, retry.delay());
            if self.alarm.rings() {
                tracing::warn!(listener.name = %name, event.id = %id, error = %retry, "Listener {name} waits at {id}: {retry}");
                // Written down once, for those who look; an outage is not counted against the entry.
                if self.claim.attempts == 0 && self.reading.node.store.note_failure(&self.claim, retry.message(), wait).await? == Step::Lost
                {
                    return Ok(Stepped::Lost);
                }
            }
            return Ok(Stepped::Wait(wait));
        }
        let attempts = u32::try_from(self.claim.attempts).unwrap_or(0) + 1;
        let wait = delay(attempts, retry.delay());
        if self.reading.node.store.note_failure(&self.claim, retry.message(), wait).await? == Step::Lost {
            return Ok(Stepped::Lost);
        }
        self.claim.attempts = i32::try_from(attempts).unwrap_or(i32::MAX);
        let given_up = event.kind != EventKind::Unlocked && attempts >= self.reading.options.max_attempts;
        if !given_up && (attempts < settings.aside_after || !self.reading.has_room_aside()) {
            if attempts >= settings.aside_after && self.alarm.rings() {
                tracing::error!(listener.name = %name, event.id = %id, attempts, error = %retry,
                    "Listener {name} fails at too many resources; its shard {} waits at {id}: {retry}", self.claim.shard);
            }
            return Ok(Stepped::Wait(wait));
        }
        if self.park(ParkReason::Poison, Some(retry.message())).await? == Step::Lost {
            return Ok(Stepped::Lost);
        }
        self.reading.say_aside(event, attempts, retry, given_up);
        Ok(Stepped::Moved)
    }
}
