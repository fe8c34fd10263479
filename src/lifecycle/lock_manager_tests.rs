use std::sync::atomic::Ordering::SeqCst;

use super::{super::fake_store::*, *};
use crate::domain::{HoldOutcome, IfTaken};

#[tokio::test]
async fn what_is_not_answered_in_time_is_withdrawn() {
    let store = FakeStore::new().await;
    let (node, _) = start(&store, |_| {}).await;
    let locks = node.locks();
    store.faults.commits_hang.store(true, SeqCst);
    assert_eq!(locks.acquire(asking(1, [hold("order:1", "7")])).await, Err(NotTaken::Unavailable));
    assert_eq!(locks.table(|table| table.len()), 0);
    store.faults.commits_hang.store(false, SeqCst);
    locks.lanes().flushed().await;
    assert_eq!(store.log().await, ["OrderLocked order:1", "OrderUnlocked order:1 released"]);
    held(locks, 2, "order:1", "8").await;
}

#[tokio::test]
async fn a_connection_that_ended_while_its_hold_was_asked_for_holds_nothing() {
    let store = FakeStore::new().await;
    let (node, _) = start(&store, |_| {}).await;
    let locks = node.locks();
    store.faults.commits_hang.store(true, SeqCst);
    let asked = tokio::spawn(locks.acquire(asking(1, [hold("order:1", "7")])));
    until("it is asked", async || locks.table(|table| table.len()) == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let holds = locks.take(place(1).socket_id, |_, _, _| true);
    let (cause, ending, detected_at) = (CloseCause::Gone, Ending::Unclean, Instant::now());
    locks.release(Release { place: place(1), holds, events: Vec::new(), cause, ending, detected_at });
    store.faults.commits_hang.store(false, SeqCst);
    assert_eq!(asked.await.unwrap(), Err(NotTaken::Ended), "nobody may be told that it holds what is released");
    locks.lanes().flushed().await;
    assert_eq!((store.live().await.len(), locks.table(|table| table.len())), (0, 0));
}

#[tokio::test]
async fn a_connection_holds_at_most_so_much_also_while_it_asks() {
    let store = FakeStore::new().await;
    let (node, _) = start(&store, |_| {}).await;
    let locks = node.locks();
    let order = |n: usize| hold(&format!("order:{n}"), "7");
    let (first, second) = tokio::join!(locks.acquire(asking(1, [order(1), order(2)])), locks.acquire(asking(1, [order(3), order(4)])));
    assert_eq!((first.unwrap().len(), second), (2, Err(NotTaken::TooMany(3))));
    assert!(locks.acquire(asking(1, [order(3)])).await.is_ok());
    assert_eq!(locks.acquire(asking(1, [order(5)])).await, Err(NotTaken::TooMany(3)));
    assert!(locks.acquire(asking(2, [order(5)])).await.is_ok(), "another connection");
}

#[tokio::test]
async fn a_conflict_names_the_hold_and_who_stands_in_the_way_and_nothing_is_taken() {
    let store = FakeStore::new().await;
    let (node, _) = start(&store, |_| {}).await;
    let locks = node.locks();
    held(locks, 1, "order:2", "7").await;
    let Err(NotTaken::Conflict(conflict)) = locks.acquire(asking(2, [hold("order:1", "8"), hold("order:2", "8")])).await else {
        panic!("no conflict");
    };
    assert_eq!((conflict.hold.resource(), conflict.holders[0].principal.as_str()), ("order:2", "user:7"));
    assert_eq!((store.live().await.len(), locks.table(|table| table.len())), (1, 1));
}

#[tokio::test]
async fn whoever_is_displaced_is_told_and_its_end_frees_nobody() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    let locks = node.locks();
    held(locks, 1, "order:1", "7").await;
    let taken = locks.acquire(asking(2, [hold("order:1", "8").if_taken(IfTaken::Take)])).await.unwrap();
    assert_eq!(taken[0].outcome, HoldOutcome::Granted);
    until("lost", async || told.lines() == ["1 lost order:1 taken_over"]).await;
    assert!(locks.take(place(1).socket_id, |_, _, _| true).is_empty());
    assert_eq!(store.live().await[0].fence, taken[0].fence);
}

#[tokio::test]
async fn whoever_waits_is_told_once_when_the_last_lock_is_over() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    let locks = node.locks();
    let fence = held(locks, 1, "order:1", "7").await;
    locks.wait(place(2), "order:1");
    locks.tell_if_free("app", "order:1").await;
    assert_eq!(told.lines(), Vec::<String>::new());
    assert!(locks.force_release(fence).await.unwrap());
    until("free", async || told.lines() == ["1 lost order:1 force_released", "2 free order:1"]).await;
    held(locks, 3, "order:1", "8").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(told.lines().len(), 2);
}

#[tokio::test]
async fn whoever_waits_is_told_even_if_the_store_cannot_be_asked_at_first() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    let locks = node.locks();
    // The end is seen in the log, and whether something else is alive there cannot be asked.
    let fence = held(locks, 1, "order:1", "7").await;
    locks.wait(place(2), "order:1");
    store.faults.no_locks.store(true, SeqCst);
    locks.force_release(fence).await.unwrap();
    until("lost", async || told.lines() == ["1 lost order:1 force_released"]).await;
    // It was free before the wait began.
    locks.wait(place(3), "order:3");
    locks.tell_if_free("app", "order:3").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(told.lines().len(), 1);
    store.faults.no_locks.store(false, SeqCst);
    until("free", async || told.lines().len() == 3).await;
    assert_eq!(told.lines()[1..], ["2 free order:1", "3 free order:3"]);
}

#[tokio::test]
async fn whoever_gets_it_waits_no_more() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    let locks = node.locks();
    locks.wait(place(1), "order:1");
    held(locks, 1, "order:1", "7").await;
    locks.acquire(asking(2, [hold("order:1", "8").if_taken(IfTaken::Take)])).await.unwrap();
    let fence = store.live().await[0].fence;
    locks.force_release(fence).await.unwrap();
    until("lost", async || told.lines() == ["1 lost order:1 taken_over"]).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(told.lines(), ["1 lost order:1 taken_over"], "and not that it is free");
}

#[tokio::test]
async fn whoever_has_lost_something_hears_of_it_while_the_store_is_slow_to_say_what_is_free() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    let locks = node.locks();
    let fences = [held(locks, 1, "order:1", "7").await, held(locks, 2, "order:2", "8").await];
    locks.wait(place(3), "order:1");
    store.faults.locks_hang.store(true, SeqCst);
    for fence in fences {
        let told_before = told.lines().len();
        locks.force_release(fence).await.unwrap();
        until("lost", async || told.lines().len() > told_before).await;
    }
    assert_eq!(told.lines(), ["1 lost order:1 force_released", "2 lost order:2 force_released"]);
    store.faults.locks_hang.store(false, SeqCst);
    until("free", async || told.lines().len() == 3).await;
    assert_eq!(told.lines()[2], "3 free order:1");
}
