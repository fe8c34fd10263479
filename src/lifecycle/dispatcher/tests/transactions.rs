//! Effects and offsets in one transaction: PostgreSQL only.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::PgConnection;

use super::harness::{Script, World, eventually, quick};
use crate::lifecycle::{
    BoxedListener,
    dispatcher::{Dispatcher, DispatcherParts, DispatcherSettings, ListenerError},
    listener::{Delivered, EventFilter, ListenerOptions, Retry, TransactionalListener},
    listeners::orders::OrdersListener,
    store::*,
};

/// Writes down each entry, and how often; fails as its type says, after its effect.
struct Ledger;

impl TransactionalListener for Ledger {
    fn name(&self) -> &str {
        "audit"
    }

    async fn prepare(&self, transaction: &mut PgConnection) -> Result<(), Retry> {
        sqlx::raw_sql(
            "SELECT pg_advisory_xact_lock(1);
             CREATE TABLE IF NOT EXISTS parent (name text PRIMARY KEY);
             CREATE TABLE IF NOT EXISTS applied (id text PRIMARY KEY, name text, times int, number bigserial,
               parent text REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    async fn handle(&self, transaction: &mut PgConnection, event: &Delivered) -> Result<(), Retry> {
        sqlx::query(
            "INSERT INTO applied (id, name, times, parent) VALUES ($1, $2, 1, $3) ON CONFLICT (id) DO UPDATE SET times = applied.times + 1",
        )
        .bind(event.id().to_string())
        .bind(&event.event_type)
        .bind((event.event_type == "Orphan").then_some("nobody"))
        .execute(&mut *transaction)
        .await?;
        tokio::time::sleep(Duration::from_micros(u64::from(getrandom::u32()? % 2000))).await;
        match event.event_type.as_str() {
            "Bad" => Err(Retry::new("no")),
            "Silly" => {
                sqlx::query("SELECT 1 / 0").execute(transaction).await.ok();
                Ok(())
            }
            "Panic" if event.attempt() == 1 => panic!("on purpose"),
            _ => Ok(()),
        }
    }

    fn options(&self) -> ListenerOptions {
        ListenerOptions { max_attempts: 4, ..ListenerOptions::default() }
    }
}

fn ledger() -> Vec<BoxedListener> {
    vec![BoxedListener::transactional(Ledger)]
}

/// Entry, and how often, in the order of their effects.
async fn applied(world: &World) -> Vec<(String, String, i32)> {
    let rows = sqlx::query_as("SELECT id, name, times FROM applied ORDER BY number");
    rows.fetch_all(world.postgres.as_ref().unwrap().pool()).await.unwrap()
}

/// Each of `count` entries took effect once, in the order of its shard.
async fn check(world: &World, count: usize) {
    let applied = applied(world).await;
    assert_eq!(applied.len(), count);
    let mut last = HashMap::new();
    for (id, _, times) in &applied {
        assert_eq!(*times, 1, "{id}");
        let (shard, position) = id.split_once('-').unwrap();
        let position: i64 = position.parse().unwrap();
        assert!(last.insert(shard, position).is_none_or(|before| before < position), "{id} too late");
    }
}

fn entries(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key:{} E{n}", n % 40)).collect()
}

async fn log(world: &World, count: usize) {
    let entries = entries(count);
    world.log(&entries.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// F50.
#[tokio::test]
async fn listener_killed_at_any_moment_is_done_once() {
    let world = World::in_postgres().await;
    log(&world, 600).await;
    // There is not even a table before one of them has got that far.
    let something_was_done = async || {
        sqlx::query("SELECT FROM applied LIMIT 1")
            .fetch_optional(world.postgres.as_ref().unwrap().pool())
            .await
            .is_ok_and(|row| row.is_some())
    };
    let (mut longest, mut rounds) = (250_000, 0);
    while rounds < 60 || !something_was_done().await {
        let dispatcher = world.start("node-1", ledger(), DispatcherSettings { batch: 7, ..quick() });
        tokio::time::sleep(Duration::from_micros(u64::from(getrandom::u32().unwrap() % longest))).await;
        drop(dispatcher);
        rounds += 1;
        // On a slow machine nobody gets to do anything in so little time.
        if rounds % 10 == 0 && !something_was_done().await {
            longest = (longest * 2).min(8_000_000);
        }
        assert!(rounds < 120, "none of the killed ones did anything");
    }
    let dispatcher = world.start("node-1", ledger(), quick());
    eventually("all are applied", async || world.lag().await == 0).await;
    dispatcher.stop().await;
    check(&world, 600).await;
}

/// F51.
#[tokio::test]
async fn listener_of_two_workers_on_one_shard_has_one_effect() {
    let world = World::in_postgres().await;
    log(&world, 400).await;
    // Nobody's claim lasts, so they take the shards from each other all the time, and work on them at once.
    let settings = DispatcherSettings { lease: Duration::ZERO, look_every: Duration::from_millis(100), batch: 5, ..quick() };
    let both = ["node-1", "node-2"].map(|owner| world.start(owner, ledger(), settings));
    let epoch = "SELECT sum(epoch)::bigint FROM holdline.consumer";
    eventually("all are applied", async || world.lag().await == 0).await;
    let taken: i64 = sqlx::query_scalar(epoch).fetch_one(world.postgres.as_ref().unwrap().pool()).await.unwrap();
    for dispatcher in both {
        dispatcher.stop().await;
    }
    assert!(taken > 2 * 16, "they did take them from each other: {taken} claims");
    check(&world, 400).await;
}

#[tokio::test]
async fn listener_that_fails_in_its_transaction_undoes_only_that_entry() {
    let world = World::in_postgres().await;
    let other = world.keys_beside("order:1", 1).remove(0);
    let flows = |name: &str| format!("{other} {name}");
    let script =
        [&flows("E1"), "order:1 E2", "order:2 Panic", "order:1 Bad", &flows("E3"), "order:3 Orphan", "order:4 Silly", &flows("E4")];
    world.log(&script).await;
    let dispatcher = world.start("node-1", ledger(), quick());
    eventually("three are given up", async || {
        let parked = world.parked().await;
        world.lag().await == 0 && ["Bad(4)", "Orphan(4)", "Silly(4)"].iter().all(|entry| parked.iter().any(|parked| parked == entry))
    })
    .await;
    dispatcher.stop().await;
    let mut applied = applied(&world).await.into_iter().map(|(_, name, times)| (name, times)).collect::<Vec<_>>();
    applied.sort();
    assert_eq!(applied, ["E1", "E2", "E3", "E4", "Panic"].map(|name| (name.to_owned(), 1)));
    let rows = world.store.parked("audit", 10).await.unwrap();
    let error = |name: &str| rows.iter().find(|row| row.event.event_type == name).unwrap().last_error.clone().unwrap();
    assert!(error("Orphan").contains("foreign key"), "the commit said so: {}", error("Orphan"));
    assert!(error("Silly").contains("aborted"), "an error that is swallowed is one: {}", error("Silly"));
}

#[tokio::test]
async fn listeners_that_cannot_work_are_refused_at_start() {
    let (memory, script) = (World::in_memory().await, Script::willing());
    let refused = |listeners: Vec<BoxedListener>| {
        let parts = DispatcherParts {
            store: Arc::clone(&memory.store),
            postgres: None,
            owner: "node-1".to_owned(),
            rings: memory.rings(),
            listeners,
            grows: false,
            settings: quick(),
        };
        Dispatcher::start(parts).unwrap_err()
    };
    assert_eq!(refused(ledger()), ListenerError::NeedsPostgres { name: "audit".to_owned() });
    assert_eq!(refused(vec![script.boxed(), script.boxed()]), ListenerError::SameName { name: "audit".to_owned() });
    let long = "x".repeat(201);
    let orders = BoxedListener::transactional(OrdersListener::new(&long, EventFilter::default()));
    assert_eq!(refused(vec![orders]), ListenerError::BadName { name: long });
}

#[tokio::test]
async fn listener_orders_shows_who_holds_what() {
    let world = World::in_postgres().await;
    // A lock whose Locked has left the log before anybody listened.
    let (old, old_end) = world.lock("order:1", "user:1", Mode::Exclusive).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let shard = Shard::of("app", "order:1", world.store.shards());
    assert_eq!(world.store.retain(world.node, shard, Duration::ZERO, 10).await.unwrap(), 1);
    let orders = || vec![BoxedListener::transactional(OrdersListener::new("orders", EventFilter::default().events(["Order*"])))];
    let dispatcher = world.start("node-1", orders(), quick());
    let held = async || -> Vec<(i64, String, String, String)> {
        let rows = sqlx::query_as("SELECT fence, resource, principal, event FROM holdline.held ORDER BY fence");
        rows.fetch_all(world.postgres.as_ref().unwrap().pool()).await.unwrap()
    };
    let row = |fence: Fence, resource: &str, user: &str| (fence.0, resource.to_owned(), user.to_owned(), "OrderLocked".to_owned());
    eventually("the old one is there", async || held().await == [row(old, "order:1", "user:1")]).await;
    let (first, first_end) = world.lock("order:2", "user:1", Mode::Shared).await;
    let (second, _) = world.lock("order:2", "user:2", Mode::Shared).await;
    let shared = [row(old, "order:1", "user:1"), row(first, "order:2", "user:1"), row(second, "order:2", "user:2")];
    eventually("both of a shared lock are there", async || held().await == shared).await;
    world.unlock(old_end).await;
    world.unlock(first_end).await;
    eventually("what is over is gone", async || held().await == [row(second, "order:2", "user:2")]).await;
    // All over again: the end is the same.
    world.store.rewind("orders", &Cursor::start(world.store.shards())).await.unwrap();
    eventually("it has read all again", async || world.lag().await == 0).await;
    assert_eq!(held().await, [row(second, "order:2", "user:2")]);
    dispatcher.stop().await;
    let columns: (String, i64, f64) = sqlx::query_as(
        "SELECT context ->> 'order_id', fence, abs(extract(epoch FROM clock_timestamp() - since))::float8 FROM holdline.held",
    )
    .fetch_one(world.postgres.as_ref().unwrap().pool())
    .await
    .unwrap();
    assert!(columns.0 == "order:2" && columns.2 < 60.0, "{columns:?}");
}

#[tokio::test]
async fn listener_view_of_sqlite_needs_no_listener() {
    let place = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(place.path()).unwrap();
    let store = Arc::new(SqliteStore::open(directory, Migrations::Apply, StoreLimits::default()).await.unwrap());
    let world = World::new(store, None).await;
    let (fence, end) = world.lock("order:1", "user:1", Mode::Exclusive).await;
    let mut reader =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("sqlite:{}/holdline.sqlite", place.path().display())).await.unwrap();
    let held = "SELECT fence, app, resource, principal, socket_id, event FROM held";
    let row = (fence.0, "app".to_owned(), "order:1".to_owned(), "user:1".to_owned(), "1.1".to_owned(), "OrderLocked".to_owned());
    let rows: Vec<(i64, String, String, String, String, String)> = sqlx::query_as(held).fetch_all(&mut reader).await.unwrap();
    assert_eq!(rows, [row]);
    world.unlock(end).await;
    assert!(sqlx::query(held).fetch_all(&mut reader).await.unwrap().is_empty());
}
