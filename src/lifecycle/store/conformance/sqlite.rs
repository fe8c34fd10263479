//! What only the embedded store has: a file, and one process that has it.

use std::time::Duration;

use super::harness::{gone, new_node, one};
use crate::lifecycle::store::*;

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
    assert!(matches!(open(place.path()).await, Err(StoreError::SchemaNewer { found: 99, known: 4 })));

    let place = tempfile::tempdir().unwrap();
    let forbidden = SqliteStore::open(DataDirectory::open(place.path()).unwrap(), Migrations::Forbid, StoreLimits::default()).await;
    assert!(forbidden.is_err());
    let store = open(place.path()).await.unwrap();
    store.run("DROP TABLE migration".to_owned()).await;
    drop(store);
    assert!(matches!(open(place.path()).await, Err(StoreError::SchemaBroken { .. })));
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
