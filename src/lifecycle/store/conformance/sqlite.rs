//! What only the embedded store has: a file, and one process that has it.

use std::time::Duration;

use sqlx::Connection;

use super::harness::{NEWEST, gone, new_node, one};
use crate::lifecycle::store::{migrate, *};

const LANE: Lane = Lane(0);

async fn open(place: &std::path::Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(DataDirectory::open(place)?, Migrations::Apply, StoreLimits::default()).await
}

#[tokio::test]
async fn a_restart_releases_what_the_former_process_held_before_it_returns() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).await.unwrap();
    let first = store.register(&new_node("node-1")).await.unwrap();
    let held = one("order:1", "user:1", |_| ());
    let graceful = one("order:2", "user:1", |hold| hold.grace = Duration::from_secs(60));
    let left = one("order:3", "user:1", |_| ());
    store.commit(LANE, first, &[held, graceful, left.clone()]).await.unwrap();
    store.release(LANE, first, &[gone(&left)]).await.unwrap();
    assert!(matches!(open(place.path()).await, Err(StoreError::InUse { .. })));
    let reader = SqliteStore::open_to_read(&place.path().join("holdline.sqlite")).await.unwrap();
    assert_eq!(reader.locks(&LockQuery::default()).await.unwrap().len(), 2, "the command line reads beside the broker");
    assert!(reader.register(&new_node("intruder")).await.is_err());
    drop((store, reader));

    let store = open(place.path()).await.unwrap();
    let second = store.register(&new_node("node-1")).await.unwrap();
    assert!(second > first);
    let live = store.locks(&LockQuery::default()).await.unwrap();
    assert_eq!(live.iter().map(|lock| (lock.resource.as_str(), lock.state)).collect::<Vec<_>>(), [("order:2", LockState::Grace)]);
    let (log, _) = store.events_after(&Cursor::start(1), 100).await.unwrap();
    assert_eq!(log.last().unwrap().cause, Some(CloseCause::Superseded));
    assert!(matches!(store.heartbeat(first).await, Err(StoreError::Fenced)));
    assert_eq!(store.nodes().await.unwrap()[1].view.state, NodeState::Swept);
}

#[tokio::test]
async fn a_file_of_another_program_or_a_newer_one_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).await.unwrap();
    store.run("INSERT INTO migration VALUES (99, 'later', '', 0)".to_owned()).await;
    drop(store);
    assert!(matches!(open(place.path()).await, Err(StoreError::SchemaNewer { found: 99, known: NEWEST })));

    let place = tempfile::tempdir().unwrap();
    let forbidden = SqliteStore::open(DataDirectory::open(place.path()).unwrap(), Migrations::Forbid, StoreLimits::default()).await;
    assert!(forbidden.is_err());
    let store = open(place.path()).await.unwrap();
    store.run("DROP TABLE migration".to_owned()).await;
    drop(store);
    assert!(matches!(open(place.path()).await, Err(StoreError::SchemaBroken { .. })));
}

#[tokio::test]
async fn an_operator_moves_a_consumer_beside_the_process_that_has_the_database() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).await.unwrap();
    let node = store.register(&new_node("node-1")).await.unwrap();
    store.create_consumer("orders", StartAt::Beginning).await.unwrap();
    let ops: Vec<_> = (0..50).map(|n| one(&format!("order:{n}"), "user:1", |_| ())).collect();
    store.commit(LANE, node, &ops).await.unwrap();
    let claim = store.claim("orders", "worker", Duration::from_secs(60)).await.unwrap().remove(0);
    let operator = SqliteStore::open_to_operate(&DataDirectory::database_in(place.path())).await.unwrap();
    // The broker goes on writing meanwhile, and neither fails.
    let writes = async {
        for op in &ops {
            assert_eq!(store.release(LANE, node, &[gone(op)]).await.unwrap(), 1);
        }
    };
    let skips = async {
        for position in 1..=20 {
            assert!(operator.skip("orders", Shard(0), position).await.unwrap());
        }
    };
    tokio::join!(writes, skips);
    let ack = Ack { claim: &claim, upto: claim.position + 1 };
    assert_eq!(store.acknowledge(ack).await.unwrap(), Step::Lost, "the worker has lost its claim, and moves nothing");
    assert_eq!(store.consumers().await.unwrap()[0].position, 20);
    operator.rewind("orders", &Cursor::start(1)).await.unwrap();
    assert!(operator.drop_consumer("orders").await.unwrap() && store.consumers().await.unwrap().is_empty());
}

#[tokio::test]
async fn only_a_schema_that_is_known_is_opened_beside_its_process() {
    let place = tempfile::tempdir().unwrap();
    let database = DataDirectory::database_in(place.path());
    assert!(SqliteStore::open_to_operate(&database).await.is_err() && !database.exists(), "nothing is made");
    let directory = DataDirectory::open(place.path()).unwrap();
    assert_eq!(SqliteStore::migrate(&directory).await.unwrap(), Migrated { from: 0, to: NEWEST });
    assert_eq!(SqliteStore::migrate(&directory).await.unwrap(), Migrated { from: NEWEST, to: NEWEST });
    let store = SqliteStore::open(directory, Migrations::Forbid, StoreLimits::default()).await.unwrap();
    store.run("INSERT INTO migration VALUES (99, 'later', '', 0)".to_owned()).await;
    assert!(matches!(SqliteStore::open_to_read(&database).await, Err(StoreError::SchemaNewer { found: 99, known: NEWEST })));
    assert!(matches!(SqliteStore::open_to_operate(&database).await, Err(StoreError::SchemaNewer { .. })));
    store.run("DELETE FROM migration".to_owned()).await;
    assert!(SqliteStore::open_to_read(&database).await.is_err());
}

#[tokio::test]
async fn a_database_of_a_former_release_is_brought_up_to_date_with_what_it_has() {
    let place = tempfile::tempdir().unwrap();
    let former = &migrate::SQLITE[..5];
    let mut file = DataDirectory::database_in(place.path()).display().to_string();
    file.insert_str(0, "sqlite://");
    let mut connection = sqlx::SqliteConnection::connect(&(file + "?mode=rwc")).await.unwrap();
    let mut sql = "CREATE TABLE migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
                     applied_at INTEGER NOT NULL) STRICT;"
        .to_owned();
    for step in former {
        sql += &format!("{};INSERT INTO migration VALUES ({}, '{}', '{}', 0);", step.sql, step.version, step.name, step.checksum());
    }
    sql += "UPDATE shard_head SET last_position = 2;
            INSERT INTO event (shard, position, kind, type, app, resource, payload, at) VALUES (0, 1, 'event', 'A', 'app', 'x', '{}', 1),
              (0, 2, 'event', 'B', 'app', 'x', '{}', 2);
            INSERT INTO consumer VALUES ('orders', 0, 1, 7, 'me', 5, 3, NULL, 'no');
            INSERT INTO parked VALUES ('orders', 0, 1, 'app', 'x', 'poison', 4, 'never', 9);";
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let store = open(place.path()).await.unwrap();
    let row = store.consumers().await.unwrap().remove(0);
    assert_eq!((row.position, row.attempts, row.owner.as_deref(), row.parked, row.dead), (1, 3, Some("me"), 1, 0));
    let parked = store.parked("orders", 10).await.unwrap().remove(0);
    assert_eq!((parked.reason, parked.attempts, parked.parked_at), (ParkReason::Poison, 4, Timestamp(9)));
    let claim = store.claim("orders", "you", Duration::from_secs(9)).await.unwrap().remove(0);
    assert_eq!(claim.epoch, 8);
    assert!(store.read(&claim, 10).await.unwrap()[0].blocked);
    assert!(store.set_parked_reason("orders", Shard(0), 1, ParkReason::Dead).await.unwrap());
    assert!(!store.drop_orphan("orders", Duration::from_secs(60)).await.unwrap(), "it counts from the migration at the earliest");
}

#[tokio::test]
async fn a_call_that_is_dropped_halfway_leaves_the_store_usable() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path()).await.unwrap();
    let node = store.register(&new_node("node-1")).await.unwrap();
    for n in 0..50u64 {
        let ops: Vec<_> = (0..20).map(|m| one(&format!("order:{n}-{m}"), "user:1", |_| ())).collect();
        tokio::time::timeout(Duration::from_micros(n * 40), store.commit(LANE, node, &ops)).await.ok();
        // Whatever became of it, the same ids may be sent again.
        let answers = store.commit(LANE, node, &ops).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Committed(_))));
    }
    assert_eq!(store.locks(&LockQuery { limit: 2000, ..LockQuery::default() }).await.unwrap().len(), 1000);
}

/// SQLite has rolled back by itself then, or not, depending on which page it lacked; and the driver's own rollback fails, or not.
#[tokio::test]
async fn writes_go_on_once_a_full_disk_has_room_again() {
    for bytes in [100, 1_000, 2_000, 4_000] {
        let place = tempfile::tempdir().unwrap();
        let store = open(place.path()).await.unwrap();
        let node = store.register(&new_node("node-1")).await.unwrap();
        store.run("PRAGMA max_page_count = 1".to_owned()).await;
        let large = |n: usize| one(&format!("order:{n}"), "user:1", |hold| hold.context = serde_json::json!({ "text": "x".repeat(bytes) }));
        let mut refused = None;
        for n in 0..1_000 {
            match store.commit(LANE, node, &[large(n)]).await {
                Ok(_) => {}
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        assert!(matches!(refused, Some(StoreError::Unavailable { .. })), "{refused:?}");
        // A connection that was made anew has room anyway.
        store.run("PRAGMA max_page_count = 1000000".to_owned()).await;
        store.commit(LANE, node, &[large(1_000)]).await.unwrap();
        store.heartbeat(node).await.unwrap();
    }
}
