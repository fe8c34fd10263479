//! An endpoint that does as it is told, and the webhooks it is told of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

use super::super::super::{Dispatcher, DispatcherSettings, backoff::Pace};
use crate::lifecycle::{
    BoxedListener,
    dispatcher::tests::harness::{World, quick},
    listener::{Batching, Endpoint, EndpointOptions, Retry, consumer_name},
    store::*,
};

pub(super) use crate::lifecycle::dispatcher::tests::harness::eventually;

/// What it does with a request.
#[derive(Clone)]
pub(super) enum Answer {
    Takes,
    Refuses(Retry),
    Hangs,
}

type Script = Box<dyn Fn(&[String]) -> Answer + Send + Sync>;

/// Notes each request as its events, `channel name`, and answers as the test wants at that moment.
pub(super) struct Receiver {
    pub(super) consumer: String,
    options: EndpointOptions,
    prefix: Mutex<String>,
    requests: Mutex<Vec<Vec<String>>>,
    script: Mutex<Arc<Script>>,
}

pub(super) fn refuses() -> Answer {
    Answer::Refuses(Retry::new("the endpoint answered 500"))
}

impl Receiver {
    pub(super) fn with(change: impl FnOnce(&mut EndpointOptions)) -> Arc<Self> {
        let mut options = EndpointOptions {
            app: "app".to_owned(),
            batch: None,
            retry_for: Duration::from_secs(86_400),
            order_for: Duration::from_secs(300),
            timeout: Duration::from_millis(400),
        };
        change(&mut options);
        let script: Script = Box::new(|_| Answer::Takes);
        let (prefix, requests) = (Mutex::default(), Mutex::default());
        Arc::new(Self { consumer: consumer_name("app", "shop"), options, prefix, requests, script: Mutex::new(Arc::new(script)) })
    }

    pub(super) fn new() -> Arc<Self> {
        Self::with(|_| ())
    }

    pub(super) fn batching(window: Duration, most: usize) -> Arc<Self> {
        Self::with(|options| options.batch = Some(Batching { window, most }))
    }

    pub(super) fn wants_only(&self, prefix: &str) {
        *self.prefix.lock() = prefix.to_owned();
    }

    /// From now on.
    pub(super) fn does(&self, script: impl Fn(&[String]) -> Answer + Send + Sync + 'static) {
        *self.script.lock() = Arc::new(Box::new(script));
    }

    pub(super) fn heals(&self) {
        self.does(|_| Answer::Takes);
    }

    pub(super) fn requests(&self) -> Vec<Vec<String>> {
        self.requests.lock().clone()
    }

    /// Every event of every request, in order.
    pub(super) fn events(&self) -> Vec<String> {
        self.requests().concat()
    }

    /// What came of one channel, attempts one after the other counted once.
    pub(super) fn of(&self, channel: &str) -> Vec<String> {
        let mut names = self.attempts_of(channel);
        names.dedup();
        names
    }

    pub(super) fn attempts_of(&self, channel: &str) -> Vec<String> {
        self.events().iter().filter_map(|event| event.strip_prefix(channel)?.strip_prefix(' ').map(str::to_owned)).collect()
    }
}

impl Receiver {
    pub(super) fn boxed(self: &Arc<Self>) -> BoxedListener {
        BoxedListener::endpoint(Boxed(Arc::clone(self)))
    }
}

struct Boxed(Arc<Receiver>);

impl Endpoint for Boxed {
    fn consumer(&self) -> &str {
        &self.0.consumer
    }

    fn options(&self) -> &EndpointOptions {
        &self.0.options
    }

    fn wants(&self, event: &EventRow) -> bool {
        event.kind == EventKind::Webhook && event.app == self.0.options.app && event.resource.starts_with(&*self.0.prefix.lock())
    }

    fn deliver<'a>(&'a self, events: &'a [EventRow]) -> BoxFuture<'a, Result<(), Retry>> {
        let events: Vec<_> = events.iter().map(|event| format!("{} {}", event.resource, event.event_type)).collect();
        Box::pin(async move {
            let script = Arc::clone(&*self.0.script.lock());
            let answer = script(&events);
            self.0.requests.lock().push(events);
            match answer {
                Answer::Takes => Ok(()),
                Answer::Refuses(retry) => Err(retry),
                Answer::Hangs => {
                    tokio::time::sleep(self.0.options.timeout).await;
                    Err(Retry::new("no answer in time"))
                }
            }
        })
    }
}

/// A store, and what is recorded in it.
pub(super) struct Hooks {
    pub(super) world: World,
    number: AtomicI64,
}

pub(super) async fn in_memory() -> Hooks {
    Hooks { world: World::in_memory().await, number: AtomicI64::new(1) }
}

pub(super) async fn in_postgres() -> Hooks {
    Hooks { world: World::in_postgres().await, number: AtomicI64::new(1) }
}

impl Hooks {
    /// Webhooks of an application: `channel name`.
    pub(super) async fn record_for(&self, app: &str, events: &[impl AsRef<str>]) {
        let seen = events.iter().map(|event| {
            let (channel, name) = event.as_ref().split_once(' ').unwrap();
            Sighting::Event { name: name.to_owned(), channel: channel.to_owned(), payload: json!({}) }
        });
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        let sightings = Sightings { app: app.to_owned(), number, delay: Duration::ZERO, seen: seen.collect() };
        self.world.store.record(self.world.node, &sightings).await.unwrap();
        self.world.ring();
    }

    pub(super) async fn record(&self, events: &[impl AsRef<str>]) {
        self.record_for("app", events).await;
    }

    pub(super) fn start(&self, owner: &str, receivers: &[&Arc<Receiver>]) -> Dispatcher {
        let endpoints = receivers.iter().map(|receiver| receiver.boxed()).collect();
        self.world.start(owner, endpoints, fast())
    }

    /// Starts without any endpoint; they may come later.
    pub(super) fn start_to_grow(&self) -> Dispatcher {
        self.world.launch("node-1", Vec::new(), true, fast())
    }

    /// Who has the place of an endpoint, if there is one.
    pub(super) async fn place_of(&self, receiver: &Receiver) -> Option<Option<String>> {
        let rows = self.world.store.consumers().await.unwrap();
        rows.into_iter().find(|row| row.name == receiver.consumer).map(|row| row.owner)
    }

    /// Starts it, and waits until it has its place at the end of the log.
    pub(super) async fn serve(&self, receiver: &Arc<Receiver>) -> Dispatcher {
        let dispatcher = self.start("node-1", &[receiver]);
        eventually("it has its place", async || {
            let rows = self.world.store.consumers().await.unwrap();
            rows.iter().any(|row| row.name == receiver.consumer)
        })
        .await;
        dispatcher
    }

    /// Waits until this is so of what is parked. Now and then an event of another channel comes along: where the machine stood still
    /// between a failure and what was taken after it, an outage was blamed, and it takes another one to tell the event's fault from
    /// the endpoint's.
    pub(super) async fn aside(&self, what: &str, is_so: impl Fn(&[String]) -> bool) {
        let mut looks = 0;
        eventually(what, async || {
            looks += 1;
            if looks % 200 == 0 {
                self.record(&["beside another"]).await;
            }
            is_so(&self.parked().await)
        })
        .await;
    }

    /// Nothing is owed.
    pub(super) async fn settled(&self) {
        eventually("nothing is owed", async || self.world.lag().await == 0 && self.parked().await.is_empty()).await;
    }

    pub(super) async fn dead(&self) -> Vec<ParkedRow> {
        self.world.store.dead(&DeadQuery::default()).await.unwrap()
    }

    /// What is parked, dead letters last, as `channel name reason`.
    pub(super) async fn parked(&self) -> Vec<String> {
        let mut rows = self.world.store.parked("webhook:app:shop", 1000).await.unwrap();
        rows.extend(self.dead().await);
        rows.into_iter().map(|row| format!("{} {} {}", row.event.resource, row.event.event_type, row.reason)).collect()
    }
}

/// As in the product, but for the times that a test would wait for.
pub(super) fn fast() -> DispatcherSettings {
    DispatcherSettings {
        webhook_pace: Pace { first: Duration::from_millis(20), longest: Duration::from_millis(200) },
        orphan_after: Duration::from_millis(300),
        ..quick()
    }
}

pub(super) fn numbered(channels: usize, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("ch{} e{n}", n % channels)).collect()
}

/// Those of a channel, in order.
pub(super) fn expected(channels: usize, channel: usize, to: usize) -> Vec<String> {
    (0..to).filter(|n| n % channels == channel).map(|n| format!("e{n}")).collect()
}
