//! What only many nodes on one server have: each other.

use std::{sync::Arc, time::Duration};

use sqlx::Connection;

use super::{
    cluster,
    harness::{Case, LANE, NEWEST, gone, new_node, one},
};
use crate::lifecycle::store::{migrate, *};

async fn connect(url: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::connect(PostgresOptions::new(url)).await
}

/// S8.
#[tokio::test]
async fn a_node_whose_counter_stands_still_is_declared_dead_once_and_swept() {
    let case = Case::in_postgres().await;
    let dead = case.store.register(&new_node("node-2")).await.unwrap();
    let op = one("order:1", "user:1", |_| ());
    case.store.commit(LANE, dead, std::slice::from_ref(&op)).await.unwrap();
    assert!(!case.store.declare_dead(case.node, dead, 99).await.unwrap(), "another counter than the one that was seen");
    case.store.heartbeat(dead).await.unwrap();
    assert!(!case.store.declare_dead(case.node, dead, 0).await.unwrap(), "it has moved");
    assert!(!case.store.declare_dead(case.node, case.node, 0).await.unwrap(), "nobody declares itself dead");
    // Within the ttl of a server start there is no verdict.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !case.store.declare_dead(case.node, dead, 1).await.unwrap() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!case.store.declare_dead(case.node, dead, 1).await.unwrap());
    assert!(matches!(case.store.release(LANE, dead, &[gone(&op)]).await, Err(StoreError::Fenced)));
    case.sweep().await;
    assert_eq!(case.story().await, ["OrderLocked#1", "OrderUnlocked#1(node_death)"]);
    let node = case.store.nodes().await.unwrap().into_iter().find(|node| node.view.incarnation == dead).unwrap();
    assert_eq!((node.view.state, node.holds), (NodeState::Swept, 0));
}

#[tokio::test]
async fn registering_is_idempotent_and_a_unique_name_fences_its_predecessor() {
    let case = Case::in_postgres().await;
    let node = NewNode { naming: Naming::Unique, ..new_node("node-9") };
    let first = case.store.register(&node).await.unwrap();
    assert_eq!(case.store.register(&node).await.unwrap(), first);
    case.store.commit(LANE, first, &[one("order:1", "user:1", |_| ())]).await.unwrap();
    let second = case.store.register(&NewNode { boot: BootId::random(), ..node }).await.unwrap();
    assert!(matches!(case.store.heartbeat(first).await, Err(StoreError::Fenced)));
    case.store.heartbeat(case.node).await.unwrap();
    case.store.heartbeat(second).await.unwrap();
    case.sweep().await;
    assert_eq!(case.story().await, ["OrderLocked#1", "OrderUnlocked#1(superseded)"]);
}

#[tokio::test]
async fn a_write_in_flight_is_waited_for_and_one_behind_it_is_fenced() {
    let (url, _) = cluster::fresh_database().await;
    let store = Arc::new(connect(&url).await.unwrap());
    let (by, zombie) = (store.register(&new_node("node-1")).await.unwrap(), store.register(&new_node("node-2")).await.unwrap());
    // Another session has the shards: the zombie's commit has entered, and waits for them.
    let mut blocker = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM holdline.shard_head FOR UPDATE").execute(&mut blocker).await.unwrap();
    let in_flight = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(LANE, zombie, &[one("order:1", "user:1", |_| ())]).await })
    };
    waiting(&mut blocker, "holdline.commit").await;
    let verdict = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.deregister(zombie).await })
    };
    waiting(&mut blocker, "holdline.deregister").await;
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    assert!(matches!(in_flight.await.unwrap().unwrap()[0], Answer::Committed(_)), "it entered before the verdict");
    assert!(verdict.await.unwrap().unwrap());
    assert!(matches!(store.commit(LANE, zombie, &[one("order:2", "user:1", |_| ())]).await, Err(StoreError::Fenced)));
    while !store.due_shards().await.unwrap().is_empty() {
        for shard in store.due_shards().await.unwrap() {
            store.sweep(by, shard, 100).await.unwrap();
        }
    }
    assert!(store.locks(&LockQuery::default()).await.unwrap().is_empty());
}

/// Waits until a session of this database waits for a lock in a call of `function`.
async fn waiting(connection: &mut sqlx::PgConnection, function: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        // Inside a transaction the view is frozen at its first look.
        sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut *connection).await.unwrap();
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                AND position($1 IN query) > 0)",
        )
        .bind(function)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        if waits {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody waits in {function}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What came of it, and how long it took.
async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let began = tokio::time::Instant::now();
    (call.await, began.elapsed())
}

/// Of the times of a free write and a blocked one beside it: whether the free one was once the first to be answered. A machine that
/// stands still may delay it, but not each time.
fn one_did_not_wait(times: &[(Duration, Duration)]) -> bool {
    assert!(times.len() < 10, "{times:?}");
    times.iter().any(|(free, blocked)| free < blocked)
}

#[tokio::test]
async fn a_blocked_shard_costs_its_own_writes_and_no_others() {
    let (url, _) = cluster::fresh_database().await;
    let store = connect(&url).await.unwrap();
    let node = store.register(&new_node("node-1")).await.unwrap();
    let shard = Shard::of("app", "order:1", store.shards());
    let other = (2..).map(|n| format!("order:{n}")).find(|key| Shard::of("app", key, store.shards()) != shard).unwrap();
    let mut blocker = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut blocker).await.unwrap();
    sqlx::query("SELECT * FROM holdline.shard_head WHERE shard = $1 FOR UPDATE").bind(shard.0).execute(&mut blocker).await.unwrap();
    assert_eq!(store.sweep(node, shard, 10).await.unwrap(), Swept::Busy);
    let op = one("order:1", "user:1", |_| ());
    let mut times = Vec::new();
    while !one_did_not_wait(&times) {
        let (blocked, free) = tokio::join!(timed(store.commit(Lane(0), node, std::slice::from_ref(&op))), async {
            timed(store.commit(Lane(1), node, &[one(&other, "user:1", |_| ())])).await
        });
        assert!(matches!(&blocked.0, Err(error @ StoreError::Busy { .. }) if error.is_retryable()), "{:?}", blocked.0);
        free.0.unwrap();
        times.push((free.1, blocked.1));
    }
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    assert!(matches!(store.commit(Lane(0), node, &[op]).await.unwrap()[0], Answer::Committed(_)), "the lane connects anew");
}

#[tokio::test]
async fn what_is_recorded_waits_for_its_own_shard_only_and_in_nobodys_way() {
    let (url, _) = cluster::fresh_database().await;
    let store = connect(&url).await.unwrap();
    let node = store.register(&new_node("node-1")).await.unwrap();
    let shard = Shard::of_webhooks("app", store.shards());
    let free = (2..).map(|n| format!("order:{n}")).find(|key| Shard::of("app", key, store.shards()) != shard).unwrap();
    let mut blocker = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut blocker).await.unwrap();
    sqlx::query("SELECT * FROM holdline.shard_head WHERE shard = $1 FOR UPDATE").bind(shard.0).execute(&mut blocker).await.unwrap();
    let seen = vec![Sighting::Present { channel: "room".to_owned(), member: None }];
    let sightings = Sightings { app: "app".to_owned(), number: 1, delay: Duration::ZERO, seen };
    for lane in 0..Lane::COUNT {
        let mut times = Vec::new();
        while !one_did_not_wait(&times) {
            let op = one(&free, "user:1", |hold| hold.mode = Mode::Shared);
            let (blocked, free) = tokio::join!(timed(store.record(node, &sightings)), async {
                timed(store.commit(Lane(lane), node, std::slice::from_ref(&op))).await
            });
            assert!(matches!(&blocked.0, Err(error @ StoreError::Busy { .. }) if error.is_retryable()), "{:?}", blocked.0);
            free.0.unwrap();
            times.push((free.1, blocked.1));
        }
    }
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    store.record(node, &sightings).await.unwrap();
    let (log, _) = store.events_after(&Cursor::start(store.shards()), 10).await.unwrap();
    assert_eq!(log.iter().filter(|event| event.kind == EventKind::Webhook).count(), 1);
}

#[tokio::test]
async fn workers_on_several_nodes_share_a_consumer() {
    const LEASE: Duration = Duration::from_secs(3);
    let (url, _) = cluster::fresh_database().await;
    let store = connect(&url).await.unwrap();
    store.create_consumer("orders", StartAt::Beginning).await.unwrap();
    let mut held: [Vec<Claim>; 3] = [store.claim("orders", "a", LEASE).await.unwrap(), Vec::new(), Vec::new()];
    assert_eq!(held[0].len(), 16, "alone, all");
    // As nodes do: each renews, drops what is another's by now, and looks for more.
    let round = async |held: &mut [Vec<Claim>], owners: &[&str]| {
        for (owner, claims) in owners.iter().zip(held) {
            store.renew_leases(owner, LEASE).await.unwrap();
            let rows = store.consumers().await.unwrap();
            claims.retain(|claim| rows.iter().any(|row| row.shard == claim.shard && row.owner.as_deref() == Some(owner)));
            let at_work: Vec<_> = claims.iter().map(|claim| claim.shard).collect();
            claims.extend(store.claim_beside("orders", owner, LEASE, &at_work).await.unwrap());
        }
        tokio::time::sleep(LEASE / 8).await;
    };
    let sizes = |held: &[Vec<Claim>]| {
        let mut sizes: Vec<_> = held.iter().map(Vec::len).collect();
        sizes.sort();
        sizes
    };
    round(&mut held, &["a", "b"]).await;
    assert_eq!(sizes(&held), [0, 0, 16], "nothing changes hands before the other has heard of it");
    round(&mut held, &["a", "b"]).await;
    assert_eq!(sizes(&held), [0, 0, 8], "and had time to finish");
    for (owners, expected) in [(&["a", "b"][..], [0, 8, 8]), (&["a", "b", "c"], [5, 5, 6])] {
        let deadline = tokio::time::Instant::now() + LEASE * 5;
        while sizes(&held) != expected {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", sizes(&held));
            round(&mut held, owners).await;
        }
        for _ in 0..4 {
            let before = held.clone();
            round(&mut held, owners).await;
            assert_eq!(held, before, "and so it stays");
        }
    }
    let all: std::collections::HashSet<_> = held.iter().flatten().map(|claim| claim.shard).collect();
    assert_eq!(all.len(), 16);
    // One dies; a claim of the others is enough for its shards.
    let (first, deadline) = (held[0].clone(), tokio::time::Instant::now() + LEASE * 5);
    while held[1].len() + held[2].len() < 16 {
        assert!(tokio::time::Instant::now() < deadline);
        round(&mut held[1..], &["b", "c"]).await;
    }
    assert_eq!((held[1].len(), held[2].len()), (8, 8));
    assert_eq!(store.acknowledge(Ack { claim: &first[0], upto: 0 }).await.unwrap(), Step::Lost);
}

#[tokio::test]
async fn an_effect_and_its_acknowledgement_are_one_transaction() {
    let (url, _) = cluster::fresh_database().await;
    let store = connect(&url).await.unwrap();
    let node = store.register(&new_node("node-1")).await.unwrap();
    cluster::run(&url, "CREATE TABLE applied (position bigint PRIMARY KEY)".to_owned()).await;
    store.create_consumer("orders", StartAt::Beginning).await.unwrap();
    store.commit(LANE, node, &[one("order:1", "user:1", |_| ())]).await.unwrap();
    let shard = Shard::of("app", "order:1", store.shards());
    let claims = async |owner: &'static str| store.claim("orders", owner, Duration::ZERO).await.unwrap();
    let stale = claims("worker-1").await.into_iter().find(|claim| claim.shard == shard).unwrap();
    let fresh = claims("worker-2").await.into_iter().find(|claim| claim.shard == shard).unwrap();
    for (claim, expected) in [(&stale, Step::Lost), (&fresh, Step::Done)] {
        let mut transaction = store.pool().begin().await.unwrap();
        sqlx::query("INSERT INTO applied VALUES (1)").execute(&mut *transaction).await.unwrap();
        let step = PostgresStore::acknowledge_within(&mut transaction, Ack { claim, upto: 1 }).await.unwrap();
        assert_eq!(step, expected);
        match step {
            Step::Done => transaction.commit().await.unwrap(),
            Step::Lost => transaction.rollback().await.unwrap(),
        }
    }
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM applied").fetch_one(store.pool()).await.unwrap();
    assert_eq!(applied, 1);
}

#[tokio::test]
async fn repeatable_read_is_refused_at_start_and_in_every_write() {
    let (url, name) = cluster::fresh_database().await;
    let store = connect(&url).await.unwrap();
    let node = store.register(&new_node("node-1")).await.unwrap();
    cluster::run(&url, format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")).await;
    let error = connect(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongIsolation { .. }) && error.to_string().contains("default_transaction_isolation"), "{error}");
    // The lane's connection is new, so it has the new default.
    let refused = store.commit(LANE, node, &[one("order:1", "user:1", |_| ())]).await;
    assert!(matches!(refused, Err(StoreError::WrongIsolation { .. })), "{refused:?}");
}

#[tokio::test]
async fn schemas_that_do_not_fit_and_roles_without_rights_are_refused_with_a_reason() {
    let (url, name) = cluster::fresh_database().await;
    let forbid = || PostgresOptions { migrations: Migrations::Forbid, ..PostgresOptions::new(&url) };
    assert!(matches!(PostgresStore::connect(forbid()).await, Err(StoreError::SchemaMissing)));
    let role = format!("role_{name}");
    cluster::run(&url, format!("CREATE ROLE {role} LOGIN")).await;
    let poor = cluster::url(&name, &role);
    assert!(matches!(connect(&poor).await, Err(StoreError::NotPermitted { action: "create schema holdline", .. })));
    // Nodes that start together: one migrates.
    let (first, second) = tokio::join!(PostgresStore::migrate(&url, 16), PostgresStore::migrate(&url, 16));
    let mut steps = [first.unwrap(), second.unwrap()];
    steps.sort_by_key(|step| step.from);
    assert_eq!(steps, [Migrated { from: 0, to: NEWEST }, Migrated { from: NEWEST, to: NEWEST }]);
    PostgresStore::connect(forbid()).await.unwrap();
    assert!(matches!(connect(&poor).await, Err(StoreError::NotPermitted { .. })));
    cluster::run(&url, format!("GRANT USAGE ON SCHEMA holdline TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA holdline TO {role}")).await;
    let error = connect(&poor).await.unwrap_err();
    assert!(matches!(error, StoreError::NotPermitted { .. }) && error.to_string().contains("schema holdline"), "{error}");
    cluster::run(
        &url,
        format!("GRANT ALL ON ALL TABLES IN SCHEMA holdline TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA holdline TO {role}"),
    )
    .await;
    let store = connect(&poor).await.unwrap();
    let node = store.register(&new_node("node-1")).await.unwrap();
    assert!(matches!(store.commit(LANE, node, &[one("order:1", "user:1", |_| ())]).await.unwrap()[0], Answer::Committed(_)));

    cluster::run(&url, "DELETE FROM holdline.migration WHERE version = 2".to_owned()).await;
    assert!(matches!(connect(&url).await, Err(StoreError::SchemaBroken { .. })));
    cluster::run(&url, "INSERT INTO holdline.migration VALUES (99, 'later', '')".to_owned()).await;
    assert!(matches!(connect(&url).await, Err(StoreError::SchemaNewer { found: 99, known: NEWEST })));
    cluster::run(&url, "DROP TABLE holdline.migration".to_owned()).await;
    assert!(matches!(connect(&url).await, Err(StoreError::SchemaBroken { .. })));
    assert!(matches!(connect("postgres://localhost:1/none").await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(connect("nonsense").await, Err(StoreError::BadUrl { .. })));
}

#[tokio::test]
async fn a_database_of_a_former_release_is_brought_up_to_date_with_what_it_has() {
    let (url, _) = cluster::fresh_database().await;
    let mut sql = "CREATE SCHEMA holdline; CREATE TABLE holdline.migration (version bigint PRIMARY KEY, name text NOT NULL,
                     checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());"
        .to_owned();
    for step in &migrate::POSTGRES[..5] {
        sql += &format!("{};INSERT INTO holdline.migration VALUES ({}, '{}', '{}');", step.sql, step.version, step.name, step.checksum());
    }
    sql += "UPDATE holdline.shard_head SET last_position = 2 WHERE shard = 0;
            INSERT INTO holdline.event (shard, position, kind, type, app, resource, payload)
            VALUES (0, 1, 'event', 'A', 'app', 'x', '{}'), (0, 2, 'event', 'B', 'app', 'x', '{}');
            INSERT INTO holdline.consumer (name, shard, position, epoch, attempts) VALUES ('orders', 0, 1, 7, 3);
            INSERT INTO holdline.parked (name, shard, position, app, resource, reason, attempts)
            VALUES ('orders', 0, 1, 'app', 'x', 'poison', 4);";
    cluster::run(&url, sql).await;
    let store = connect(&url).await.unwrap();
    let row = store.consumers().await.unwrap().remove(0);
    assert_eq!((row.position, row.attempts, row.parked, row.dead), (1, 3, 1, 0));
    let claim = store.claim("orders", "you", Duration::from_secs(9)).await.unwrap().remove(0);
    assert_eq!(claim.epoch, 8);
    assert!(store.read(&claim, 10).await.unwrap()[0].blocked);
    assert!(store.set_parked_reason("orders", Shard(0), 1, ParkReason::Dead).await.unwrap());
    assert!(!store.read(&claim, 10).await.unwrap()[0].blocked);
    assert!(!store.drop_orphan("orders", Duration::from_secs(60)).await.unwrap(), "it counts from the migration at the earliest");
}

#[tokio::test]
async fn a_node_cannot_release_what_another_holds() {
    let case = Case::in_postgres().await;
    let op = one("order:1", "user:1", |_| ());
    let fence = case.take(&op).await.fence;
    let other = case.store.register(&new_node("node-2")).await.unwrap();
    assert_eq!(case.store.release(LANE, other, &[gone(&op)]).await.unwrap(), 0);
    assert_eq!(case.store.lock(fence).await.unwrap().unwrap().state, LockState::Held);
    // The same principal, on both nodes: each ends its own.
    let there = one("order:1", "user:1", |_| ());
    case.store.commit(LANE, other, std::slice::from_ref(&there)).await.unwrap();
    assert_eq!(case.release(&gone(&op)).await, 0);
    assert_eq!(case.store.release(LANE, other, &[gone(&there)]).await.unwrap(), 1);
}
