//! One listener on this node: makes it ready, claims shards for it, and keeps a worker at each.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{
    Node,
    aside::Aside,
    backoff::backoff,
    delivery::{Courier, Overdue, take_place},
    effect::{self, Effect, call},
    raised,
    worker::Worker,
};
use crate::lifecycle::{
    listener::{Delivered, ListenerOptions, Retry},
    store::{Claim, EventKind, ParkReason, Shard},
};

/// What workers of one listener share.
pub(super) struct Reading {
    pub(super) node: Node,
    pub(super) name: String,
    pub(super) options: ListenerOptions,
    pub(super) effect: Effect,
    pub(super) held: Arc<Held>,
    /// How many resources wait aside and are tried again, as far as is known.
    pub(super) aside: AtomicUsize,
    /// Something was put aside.
    pub(super) news_aside: Notify,
}

/// The shards that are read here; for each, how to send its worker away.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Shard, watch::Sender<bool>>>);

impl Held {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(super) fn contains(&self, shard: Shard) -> bool {
        self.0.lock().contains_key(&shard)
    }

    fn shards(&self) -> Vec<Shard> {
        self.0.lock().keys().copied().collect()
    }
}

impl Reading {
    /// Tells a plain listener of an entry.
    pub(super) async fn tell(&self, event: &Delivered) -> Result<(), Retry> {
        match &self.effect {
            Effect::Plain(listener) => call(self.node.settings.time_limit, async { listener.erased_handle(event).await }).await,
            Effect::Transactional { .. } => Err(Retry::new("a transactional listener is told in its transaction")),
            Effect::Endpoint(_) => Err(Retry::new("an endpoint is sent requests")),
        }
    }

    pub(super) fn has_room_aside(&self) -> bool {
        self.aside.load(Ordering::Relaxed) < self.node.settings.max_aside
    }

    pub(super) fn put_aside(&self, reason: ParkReason) {
        if reason == ParkReason::Poison {
            self.aside.fetch_add(1, Ordering::Relaxed);
        }
        self.news_aside.notify_one();
    }

    /// Says that an entry waits aside.
    pub(super) fn say_aside(&self, event: &Delivered, attempts: u32, error: &Retry, given_up: bool) {
        let (name, id, resource) = (&self.name, event.id(), &event.resource);
        match given_up {
            true => tracing::error!(listener.name = %name, event.id = %id, event.resource = %resource, attempts, error = %error,
                "Listener {name} gives up {id} after {attempts} attempts, and parks what follows it for {resource}: {error}"),
            false => tracing::warn!(listener.name = %name, event.id = %id, event.resource = %resource, attempts, error = %error,
                "Listener {name} puts {id} aside, and tries it again while others pass: {error}"),
        }
    }

    /// Whether an entry at this attempt is left to an operator.
    pub(super) fn gives_up(&self, kind: EventKind, attempts: u32) -> bool {
        kind != EventKind::Unlocked && attempts >= self.options.max_attempts
    }
}

/// Reads the log for one listener.
pub(super) struct Reader {
    reading: Arc<Reading>,
    workers: JoinSet<Shard>,
    /// Its offset was dropped by an operator.
    dropped: bool,
}

impl Reader {
    pub(super) fn new(node: Node, name: String, options: ListenerOptions, effect: Effect) -> Self {
        let held = Arc::<Held>::default();
        let reading = Reading { node, name, options, effect, held, aside: AtomicUsize::new(0), news_aside: Notify::new() };
        Self { reading: Arc::new(reading), workers: JoinSet::new(), dropped: false }
    }

    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.reading.held)
    }

    /// Works until the node stops.
    pub(super) async fn run(mut self) {
        let mut stop = self.reading.node.stop.clone();
        let started = tokio::select! {
            () = self.start() => true,
            () = raised(&mut stop) => false,
        };
        if !started {
            return;
        }
        // A set, so that it ends with this.
        let mut aside = JoinSet::new();
        let reading = Arc::clone(&self.reading);
        match &self.reading.effect {
            Effect::Endpoint(route) => aside.spawn(Overdue::new(reading, Arc::clone(route)).run()),
            Effect::Plain(_) | Effect::Transactional { .. } => aside.spawn(Aside::new(reading).run()),
        };
        let mut look = tokio::time::interval(self.reading.node.settings.look_every);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut revoked = self.reading.node.revoked.clone();
        loop {
            tokio::select! {
                () = raised(&mut stop) => break,
                Some(ended) = self.workers.join_next() => self.ended(ended),
                _ = revoked.changed() => self.send_away().await,
                _ = look.tick() => self.look().await,
            }
        }
        self.finish().await;
        aside.shutdown().await;
    }

    /// Prepares the listener, makes its offset if it is new, and claims, its own claims of a former life included.
    async fn start(&mut self) {
        let name = self.reading.name.clone();
        let mut failures = 0;
        loop {
            match self.try_start().await {
                Ok(claims) => {
                    claims.into_iter().for_each(|claim| self.work(claim));
                    return;
                }
                Err(error) => {
                    failures += 1;
                    match failures {
                        4 => {
                            tracing::warn!(listener.name = %name, error = %error, "Listener {name} cannot start, and goes on trying: {error}")
                        }
                        _ => tracing::debug!(listener.name = %name, error = %error, "Listener {name} cannot start: {error}"),
                    }
                    tokio::time::sleep(backoff(failures)).await;
                }
            }
        }
    }

    async fn try_start(&self) -> Result<Vec<Claim>, Retry> {
        let Reading { node, name, options, effect, .. } = &*self.reading;
        if let Effect::Transactional { listener, pool } = effect {
            effect::prepare((listener.as_ref(), pool), node.settings.time_limit).await?;
        }
        match effect {
            Effect::Endpoint(route) => take_place(&*node.store, &*route.endpoint).await?,
            Effect::Plain(_) | Effect::Transactional { .. } => node.store.create_consumer(name, options.start_at).await?,
        }
        Ok(node.store.claim(name, &node.owner, node.settings.lease).await?)
    }

    fn work(&mut self, claim: Claim) {
        let (leave, leaving) = watch::channel(false);
        let shard = claim.shard;
        self.reading.held.0.lock().insert(shard, leave);
        let reading = Arc::clone(&self.reading);
        match &self.reading.effect {
            Effect::Endpoint(route) => {
                let courier = Courier::new(reading, Arc::clone(route), claim, leaving);
                self.workers.spawn(async move {
                    courier.run().await;
                    shard
                })
            }
            Effect::Plain(_) | Effect::Transactional { .. } => {
                let worker = Worker::new(reading, claim, leaving);
                self.workers.spawn(async move {
                    worker.run().await;
                    shard
                })
            }
        };
        self.reading.news_aside.notify_one();
    }

    fn ended(&mut self, ended: Result<Shard, tokio::task::JoinError>) {
        match ended {
            Ok(shard) => drop(self.reading.held.0.lock().remove(&shard)),
            Err(error) => {
                let name = &self.reading.name;
                tracing::error!(listener.name = %name, error = %error, "A worker of listener {name} died: {error}");
                // Which one is not said: all leave, and their shards are claimed anew.
                self.reading.held.0.lock().retain(|_, leave| !leave.is_closed());
            }
        }
    }

    /// Claims what nobody reads, if some shards are not ours.
    async fn look(&mut self) {
        let Reading { node, name, held, effect, .. } = &*self.reading;
        let all = if matches!(effect, Effect::Endpoint(_)) { 1 } else { usize::from(node.store.shards()) };
        if held.len() >= all || self.dropped {
            return;
        }
        match node.store.claim_beside(name, &node.owner, node.settings.lease, &held.shards()).await {
            Ok(claims) => claims.into_iter().for_each(|claim| self.work(claim)),
            Err(error) => tracing::debug!(listener.name = %name, error = %error, "Listener {name} cannot look for shards: {error}"),
        }
    }

    /// Somebody has shards that were ours: stops at those. An operator who moves an offset takes them too.
    async fn send_away(&mut self) {
        let Reading { node, name, held, .. } = &*self.reading;
        let rows = match node.store.consumers().await {
            Ok(rows) => rows,
            Err(error) => return tracing::debug!(error = %error, "Who reads what is not known: {error}"),
        };
        let mine: Vec<_> = rows.iter().filter(|row| row.name == *name).collect();
        if mine.is_empty() {
            self.dropped = true;
            tracing::error!(listener.name = %name, "Listener {name} was dropped by an operator; it is idle until the next start");
        }
        let held = held.0.lock();
        for (shard, leave) in held.iter() {
            if !mine.iter().any(|row| row.shard == *shard && row.owner.as_deref() == Some(&*node.owner)) {
                leave.send_replace(true);
            }
        }
    }

    /// Lets each worker end what it is at, but not for ever.
    async fn finish(&mut self) {
        for leave in self.reading.held.0.lock().values() {
            leave.send_replace(true);
        }
        let ends = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(self.reading.node.settings.stop_within, ends).await.is_err() {
            let name = &self.reading.name;
            tracing::warn!(listener.name = %name, "Listener {name} did not finish in time; what it was at comes again");
            self.workers.shutdown().await;
        }
        self.reading.held.0.lock().clear();
    }
}
