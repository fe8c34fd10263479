//! What listeners carry: 200,000 entries piled up while they were off, then read by one that only counts, and by one that writes a row
//! for each in its transaction; and how long an entry takes to a listener that has caught up. A private PostgreSQL, the broker
//! embedded.
//!
//! `cargo bench --bench listeners`, with `-- 20000` for fewer entries.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench stops at the first failure")]

#[path = "../support/postgres.rs"]
mod postgres;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdline::{
    config::{Options, load},
    prelude::*,
    store::*,
};
use serde_json::json;

/// Counts, and writes down when it heard of what.
#[derive(Clone, Default)]
struct Counter {
    count: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<(i64, Instant)>>>,
}

impl Listener for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    async fn handle(&self, event: &Delivered) -> Result<(), Retry> {
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(number) = event.payload["number"].as_i64() {
            self.heard.lock().unwrap().push((number, Instant::now()));
        }
        Ok(())
    }
}

/// One row per entry.
#[derive(Clone, Default)]
struct Rows(Arc<AtomicUsize>);

impl TransactionalListener for Rows {
    fn name(&self) -> &str {
        "rows"
    }

    async fn prepare(&self, transaction: &mut sqlx::PgConnection) -> Result<(), Retry> {
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS seen (shard smallint, position bigint, PRIMARY KEY (shard, position))")
            .execute(transaction)
            .await?;
        Ok(())
    }

    async fn handle(&self, transaction: &mut sqlx::PgConnection, event: &Delivered) -> Result<(), Retry> {
        let insert = sqlx::query("INSERT INTO seen VALUES ($1, $2)").bind(event.shard.0).bind(event.position);
        insert.execute(transaction).await?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn events(numbers: impl Iterator<Item = usize>, payload: impl Fn(usize) -> serde_json::Value) -> CommitOp {
    let event = |n: usize| NewEvent {
        kind: EventKind::Event,
        event_type: "Saved".to_owned(),
        key: format!("order:{n}"),
        principal: Some("user:1".to_owned()),
        payload: payload(n),
    };
    let events = numbers.map(event).collect();
    CommitOp { id: OpId::random(), socket_id: "1.1".to_owned(), app: "app".to_owned(), holds: Vec::new(), events }
}

fn server(url: &str, place: &std::path::Path) -> Server {
    let env = [("DATABASE_URL", url), ("HOLDLINE_SERVER__PORT", "0"), ("HOLDLINE_STORE__DATA_DIR", place.to_str().unwrap())];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Server::new(load(Options { env, ..Options::default() }).unwrap().settings)
}

async fn wait_for(count: &AtomicUsize, all: usize) {
    while count.load(Ordering::Relaxed) < all {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn report(what: &str, count: usize, took: Duration) {
    println!("{what:<52} {count:>7} in {took:>9.1?} = {:>7.0}/s", count as f64 / took.as_secs_f64());
}

#[actix_web::main]
async fn main() {
    let all: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let (url, _) = postgres::fresh_database().await;
    let place = tempfile::tempdir().unwrap();
    let store: Arc<dyn LifecycleStore> = Arc::new(PostgresStore::connect(PostgresOptions::new(&url)).await.unwrap());
    let node = NewNode { name: "bench".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3600), naming: Naming::Shared };
    let node = store.register(&node).await.unwrap();
    // They exist, and are off.
    for name in ["counter", "rows"] {
        store.create_consumer(name, StartAt::Beginning).await.unwrap();
    }
    let began = Instant::now();
    for from in (0..all).step_by(100) {
        store.commit(Lane(0), node, &[events(from..(from + 100).min(all), |n| json!({ "order_id": n }))]).await.unwrap();
    }
    report("written meanwhile", all, began.elapsed());

    let counter = Counter::default();
    let began = Instant::now();
    let application = server(&url, place.path()).listener(counter.clone()).build().await.unwrap();
    wait_for(&counter.count, all).await;
    report("caught up, a listener that counts", all, began.elapsed());

    // An entry every 5 ms, written by another node; the bell of this one is rung by NOTIFY.
    let mut sent = Vec::new();
    for number in 0..1000 {
        store.commit(Lane(0), node, &[events(std::iter::once(number), |n| json!({ "number": n }))]).await.unwrap();
        sent.push(Instant::now());
        store.ring().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    wait_for(&counter.count, all + sent.len()).await;
    let heard = counter.heard.lock().unwrap().clone();
    let mut delays: Vec<Duration> = heard.into_iter().map(|(number, at)| at.saturating_duration_since(sent[number as usize])).collect();
    delays.sort();
    println!("from the commit to the listener: p50 {:.1?}, p99 {:.1?}", delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
    stop(application).await;

    let rows = Rows::default();
    let began = Instant::now();
    let application = server(&url, place.path()).transactional_listener(rows.clone()).build().await.unwrap();
    wait_for(&rows.0, all).await;
    report("caught up, a row for each in its transaction", all, began.elapsed());
    stop(application).await;
}

async fn stop(application: Application) {
    application.stop_handle().stop();
    application.run_until_stopped().await.unwrap();
}
