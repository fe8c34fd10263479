//! Endpoints of webhooks, which are served otherwise than ordinary listeners: many channels at a time or many events in one request,
//! waiting while nothing is taken, and events that are given up by their age.
//!
//! A [`Courier`] works on the one shard that an application's webhooks are in; [`Overdue`] tries again what it has put aside. Both share
//! a [`Route`], whose [`gate`] knows whether the endpoint takes anything.

mod courier;
mod gate;
mod overdue;
mod places;
mod window;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use self::gate::Gate;
pub(crate) use self::places::take_places;
pub(super) use self::{
    courier::Courier,
    overdue::Overdue,
    places::{Ours, drop_orphans, take_place},
};
use super::{backoff::Pace, effect::call};
use crate::lifecycle::{
    listener::{Delivered, Endpoint, Retry},
    store::{EventRow, Timestamp},
};

/// What a request may take beyond the endpoint's own limit, which ends it first.
const SLACK: Duration = Duration::from_secs(5);
/// Nothing is given up for its age before the endpoint has failed for so long while this process looked: what waited for a broker that was
/// away shall not die of the first request that fails.
const LAST_CHANCE: Duration = Duration::from_secs(60);

/// The way to one endpoint, as it is on this node.
pub(super) struct Route {
    pub(super) endpoint: Arc<dyn Endpoint>,
    pace: Pace,
    gate: Mutex<Gate>,
    /// Something was taken after a doubt.
    opened: Notify,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Route").field(&self.endpoint.consumer()).finish()
    }
}

impl Route {
    pub(super) fn new(endpoint: Arc<dyn Endpoint>, pace: Pace) -> Self {
        Self { endpoint, pace, gate: Mutex::new(Gate::new(pace)), opened: Notify::new() }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock()
    }

    /// One request.
    async fn attempt(&self, events: &[EventRow]) -> Result<(), Retry> {
        call(self.endpoint.options().timeout + SLACK, async { self.endpoint.deliver(events).await }).await
    }

    /// Whether an event is too old to be tried for ever.
    fn is_overdue(&self, event: &EventRow) -> bool {
        age(event.at) >= self.endpoint.options().retry_for
    }

    /// How long the endpoint must have failed before anything is given up for its age.
    fn last_chance(&self) -> Duration {
        self.endpoint.options().retry_for.min(LAST_CHANCE)
    }

    /// Whether the endpoint has taken nothing for long enough, and why.
    fn long_outage(&self, now: Instant) -> Option<String> {
        let gate = self.gate();
        gate.outage(now).filter(|(lasting, _)| *lasting >= self.last_chance()).map(|(_, error)| error.to_owned())
    }

    /// The one line about a dead letter. The error names no address.
    fn say_dead(&self, event: &EventRow, error: &str) {
        let (name, id, event_type) = (self.endpoint.consumer(), Delivered::new(event.clone(), 1).id(), &event.event_type);
        let age = age(event.at);
        tracing::warn!(listener.name = name, event.id = %id, event.type = %event_type, age_ms = age.as_millis() as u64, error,
            "Endpoint {name} did not take {event_type} {id} in {}: it is a dead letter now: {error}", humantime::format_duration(whole(age)));
    }
}

/// How long ago, by the system's clock.
fn age(at: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(Timestamp::now().0.saturating_sub(at.0)).unwrap_or(0))
}

fn whole(age: Duration) -> Duration {
    Duration::from_secs(age.as_secs())
}
