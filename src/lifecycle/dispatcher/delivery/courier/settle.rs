//! What a courier writes down: how far it is, what waits aside, why it waits.

use std::time::Duration;

use tokio::time::Instant;

use super::{super::window::State, Courier, MANY_FAILED, READ_AGAIN, STORE_AFTER, STORE_MANY};
use crate::lifecycle::{
    listener::Delivered,
    store::{Ack, Claim, ParkReason, Step, StoreError},
};

impl Courier {
    /// Moves the offset over what is done, and puts aside what has to be.
    pub(super) async fn settle(&mut self, at_once: bool) -> Result<Step, StoreError> {
        loop {
            let Some(front) = self.window.front() else { return Ok(Step::Done) };
            let step = match (&front.state, &front.event) {
                (State::Done, _) => {
                    let Some(upto) = self.window.done_upto() else { return Ok(Step::Done) };
                    let idle = self.flights.is_empty() && self.window.unfinished() == 0;
                    let many = upto - self.claim.position >= STORE_MANY;
                    if !(at_once || idle || many || self.stored.elapsed() >= STORE_AFTER) {
                        return Ok(Step::Done);
                    }
                    self.acknowledge(upto).await?
                }
                (State::Alone | State::Late, Some(event)) => {
                    if !self.reading.has_room_aside() {
                        self.say_full();
                        return Ok(Step::Done);
                    }
                    let error = front.failed.as_ref().map(|(_, error)| error.clone()).unwrap_or_default();
                    let (event, tries, late) = (event.clone(), front.tries, front.state == State::Late);
                    // That it was tried is what tells it from what only waits behind it.
                    if self.claim.attempts == 0 && self.note_failure(&error, Duration::ZERO).await? == Step::Lost {
                        return Ok(Step::Lost);
                    }
                    let dead = self.route.is_overdue(&event);
                    let reason = match (dead, late) {
                        (true, _) => ParkReason::Dead,
                        (false, true) => ParkReason::Late,
                        (false, false) => ParkReason::Poison,
                    };
                    let step = self.park(reason, Some(&error)).await?;
                    match (step, dead) {
                        (Step::Lost, _) => {}
                        (Step::Done, true) => self.route.say_dead(&event, &error),
                        (Step::Done, false) => self.say_aside(Delivered::new(event, tries), late, &error),
                    }
                    step
                }
                (State::Behind, _) => self.park(ParkReason::BehindPoison, None).await?,
                // One that was not tried itself shares the fate of others only if they were many.
                (State::Waiting, Some(event)) if self.route.is_overdue(event) && (front.tries > 0 || self.failing.len() >= MANY_FAILED) => {
                    let Some(error) = self.route.long_outage(Instant::now()) else { return Ok(Step::Done) };
                    let (event, tries) = (event.clone(), front.tries);
                    // An outage counts against nobody; but an operator is to see that it was tried.
                    if tries > 0 && self.claim.attempts == 0 && self.note_failure(&error, Duration::ZERO).await? == Step::Lost {
                        return Ok(Step::Lost);
                    }
                    let step = self.park(ParkReason::Dead, Some(&error)).await?;
                    if step == Step::Done {
                        self.route.say_dead(&event, &error);
                    }
                    step
                }
                (State::Waiting | State::Sent | State::Alone | State::Late, _) => return Ok(Step::Done),
            };
            if step == Step::Lost {
                return Ok(Step::Lost);
            }
        }
    }

    async fn acknowledge(&mut self, upto: i64) -> Result<Step, StoreError> {
        let step = self.reading.node.store.acknowledge(Ack { claim: &self.claim, upto }).await?;
        if step == Step::Done {
            self.window.forget_upto(upto);
            (self.claim.position, self.claim.attempts, self.stored) = (upto, 0, Instant::now());
        }
        Ok(step)
    }

    async fn park(&mut self, reason: ParkReason, error: Option<&str>) -> Result<Step, StoreError> {
        let step = self.reading.node.store.park(&self.claim, reason, error).await?;
        if step == Step::Done {
            self.window.pop_parked();
            self.suspects.positions.retain(|position| *position > self.claim.position + 1);
            (self.claim.position, self.claim.attempts) = (self.claim.position + 1, 0);
            self.reading.put_aside(reason);
        }
        Ok(step)
    }

    async fn note_failure(&mut self, error: &str, wait: Duration) -> Result<Step, StoreError> {
        let step = self.reading.node.store.note_failure(&self.claim, error, wait).await?;
        if step == Step::Done {
            self.claim.attempts = self.claim.attempts.saturating_add(1);
        }
        Ok(step)
    }

    /// What an operator sees of an outage: once in a round, at the entry that waits.
    pub(super) async fn note(&mut self) -> Result<Step, StoreError> {
        let Some((round, error)) = self.to_note.take().filter(|(round, _)| *round != self.noted_round) else { return Ok(Step::Done) };
        let Some(next) = self.route.gate().next_round() else { return Ok(Step::Done) };
        self.noted_round = round;
        self.note_failure(&error, next.saturating_duration_since(Instant::now())).await
    }

    /// Reads ahead; whether there was anything.
    pub(super) async fn read(&mut self) -> Result<bool, StoreError> {
        let mut any = false;
        let shard = usize::try_from(self.claim.shard.0).unwrap_or(0);
        while self.has_room() {
            let read = self.window.last().unwrap_or(self.claim.position);
            if self.reading.node.heads.borrow().get(shard).is_none_or(|head| *head <= read) {
                break;
            }
            let ahead = Claim { position: read, ..self.claim.clone() };
            let entries = self.reading.node.store.read(&ahead, self.reading.node.settings.batch).await?;
            let now = Instant::now();
            if entries.is_empty() {
                self.store_next = now + READ_AGAIN;
                break;
            }
            any = true;
            for entry in entries {
                let wanted = self.route.endpoint.wants(&entry.event);
                self.window.push(entry, wanted, now);
            }
        }
        Ok(any)
    }

    fn say_aside(&self, event: Delivered, late: bool, error: &str) {
        let (name, id, event_type, channel) = (&self.reading.name, event.id(), &event.event_type, &event.resource);
        let waits = if late { "has waited for it" } else { "waits" };
        tracing::warn!(listener.name = %name, event.id = %id, event.type = %event_type, channel = %channel, error,
            "Endpoint {name} does not take {event_type} {id} and takes others: it is tried again aside, and {channel} {waits}: {error}");
    }

    fn say_full(&mut self) {
        if self.alarm.rings() {
            let name = &self.reading.name;
            tracing::error!(listener.name = %name, "Endpoint {name} does not take events of too many channels; its queue waits");
        }
    }
}
