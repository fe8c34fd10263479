use std::sync::atomic::Ordering::SeqCst;

use super::{super::fake_store::*, *};
use crate::lifecycle::{
    DoorbellSettings,
    hold_table::Place,
    lock_manager::{NotTaken, Release},
    store::{Ending, HoldId},
};

/// The end of connection `n`.
fn end(locks: &LockManager, n: u128) {
    let Place { socket_id, .. } = place(n);
    let holds = locks.take(socket_id, |_, _, _| true);
    let detected_at = Instant::now();
    locks.release(Release { place: place(n), holds, events: Vec::new(), cause: CloseCause::Gone, ending: Ending::Unclean, detected_at });
}

#[tokio::test]
async fn a_lease_in_doubt_is_told_and_so_is_its_end() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    held(node.locks(), 1, "order:1", "7").await;
    store.faults.down.store(true, SeqCst);
    until("uncertain", async || told.lines() == ["1 uncertain order:1"]).await;
    assert!(!node.locks().is_available());
    assert_eq!(node.locks().acquire(asking(2, [hold("order:2", "8")])).await, Err(NotTaken::Unavailable), "at once");
    store.faults.down.store(false, SeqCst);
    until("held", async || told.lines() == ["1 uncertain order:1", "1 held order:1"]).await;
    held(node.locks(), 2, "order:2", "8").await;
    assert_eq!(store.live().await.len(), 2);
}

#[tokio::test]
async fn on_doubt_connections_are_closed_if_that_is_the_policy() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |settings| settings.close_on_doubt = true).await;
    held(node.locks(), 1, "order:1", "7").await;
    store.faults.no_heartbeat.store(true, SeqCst);
    until("closed", async || told.lines() == ["1 uncertain order:1", "1 close"]).await;
}

#[tokio::test]
async fn a_node_that_was_declared_dead_loses_everything_and_starts_anew() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    let before = node.locks().incarnation().unwrap();
    held(node.locks(), 1, "order:1", "7").await;
    store.store.deregister(before).await.unwrap();
    until("a new incarnation", async || node.locks().incarnation().is_some_and(|now| now > before)).await;
    assert_eq!(told.lines(), ["1 lost order:1 node_death", "1 close"]);
    until("the old hold is swept", async || store.live().await.is_empty()).await;
    held(node.locks(), 2, "order:1", "8").await;
    end(node.locks(), 1);
    node.locks().lanes().flushed().await;
    assert_eq!(store.live().await.len(), 1, "the end of the old connection frees nobody else's lock");
}

#[tokio::test]
async fn a_lane_that_hears_first_that_the_node_is_fenced_starts_it_anew_even_while_heartbeats_go_unanswered() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    let before = node.locks().incarnation().unwrap();
    held(node.locks(), 1, "order:1", "7").await;
    store.faults.no_heartbeat.store(true, SeqCst);
    store.store.deregister(before).await.unwrap();
    let (counted, began) = (store.heartbeats.load(SeqCst), Instant::now());
    assert_eq!(node.locks().acquire(asking(2, [hold("order:2", "8")])).await, Err(NotTaken::Unavailable));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (beats, took) = (store.heartbeats.load(SeqCst) - counted, began.elapsed());
    assert!(beats as u128 <= 10 + took.as_millis() / 20, "{beats} heartbeats in {took:?}, one every 50 ms would do");
    let told = told.lines();
    assert!(told[0] == "1 lost order:1 node_death" && told.contains(&"1 close".to_owned()), "{told:?}");
    assert!(node.locks().incarnation().is_some_and(|now| now > before));
}

#[tokio::test]
async fn a_process_that_registers_anew_until_it_has_an_answer_is_one_node() {
    let store = FakeStore::new().await;
    let (node, _) = start(&store, |_| {}).await;
    let before = node.locks().incarnation().unwrap();
    store.store.deregister(before).await.unwrap();
    store.faults.registers_lost.store(2, SeqCst);
    until("it is back", async || node.locks().incarnation().is_some_and(|now| now > before)).await;
    let boots = store.boots.lock().clone();
    assert!(boots.len() == 4 && boots[1] == boots[2] && boots[2] == boots[3], "{boots:?}");
}

#[tokio::test]
async fn the_death_of_others_does_not_delay_the_own_heartbeat() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    held(node.locks(), 1, "order:1", "7").await;
    store.faults.verdicts_hang.store(true, SeqCst);
    let other = |n| super::super::store::NodeView {
        incarnation: Incarnation(n),
        name: "other".to_owned(),
        heartbeat: 5,
        state: NodeState::Alive,
        ttl: Duration::from_millis(100),
    };
    store.faults.others.lock().extend([other(1_001), other(1_002)]);
    tokio::time::sleep(LEASE * 3 / 2).await;
    assert_eq!(told.lines(), Vec::<String>::new(), "the lease never came into doubt");
    let counted = store.heartbeats.load(SeqCst);
    until("heartbeats go on", async || store.heartbeats.load(SeqCst) > counted + 3).await;
}

#[tokio::test]
async fn what_the_store_has_and_nobody_knows_is_released_and_what_is_held_stays() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |settings| settings.reconcile_interval = Duration::from_millis(50)).await;
    held(node.locks(), 1, "order:1", "7").await;
    // As if a release had been given up.
    held(node.locks(), 2, "order:2", "8").await;
    assert_eq!(node.locks().take(place(2).socket_id, |_, _, _| true).len(), 1);
    until("the leftover is released", async || store.live().await.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(store.log().await, ["OrderLocked order:1", "OrderLocked order:2", "OrderUnlocked order:2 reconciled"]);
    assert_eq!(told.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_store_has_lost_is_told() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |settings| settings.reconcile_interval = Duration::from_millis(50)).await;
    held(node.locks(), 1, "order:1", "7").await;
    let id: HoldId = node.locks().table(|table| table.granted_ids())[0];
    sqlx::query("DELETE FROM hold WHERE hold = ?1").bind(id.0).execute(&mut *store.store.writer_for_tests().await).await.unwrap();
    until("lost", async || told.lines() == ["1 lost order:1 reconciled"]).await;
    assert_eq!(node.locks().table(|table| table.len()), 0);
}

/// Nothing but the comparison after the outage finds it, and that is not asked for again for a minute.
#[tokio::test]
async fn a_comparison_that_was_cut_short_is_made_up_for() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |settings| settings.lease = Duration::from_secs(60)).await;
    held(node.locks(), 1, "order:1", "7").await;
    let id: HoldId = node.locks().table(|table| table.granted_ids())[0];
    store.faults.no_digest.store(true, SeqCst);
    store.faults.no_heartbeat.store(true, SeqCst);
    let counted = store.heartbeats.load(SeqCst);
    until("heartbeats fail", async || store.heartbeats.load(SeqCst) > counted + 1).await;
    sqlx::query("DELETE FROM hold WHERE hold = ?1").bind(id.0).execute(&mut *store.store.writer_for_tests().await).await.unwrap();
    store.faults.no_heartbeat.store(false, SeqCst);
    until("it is cut short", async || store.digests.load(SeqCst) > 0).await;
    assert_eq!(told.lines(), Vec::<String>::new());
    store.faults.no_digest.store(false, SeqCst);
    until("lost", async || told.lines() == ["1 lost order:1 reconciled"]).await;
}

/// Of several that were taken over unseen the comparison learns of one, and then it is cut short.
#[tokio::test]
async fn who_was_found_by_a_comparison_that_was_cut_short_is_told() {
    let store = FakeStore::new().await;
    let never = DoorbellSettings { poll: Duration::from_secs(60), quiet: Duration::from_secs(60), ..DoorbellSettings::default() };
    let (node, told) = start(&store, |settings| {
        settings.doorbell = never;
        settings.reconcile_interval = Duration::from_millis(50);
    })
    .await;
    store.faults.no_digest.store(true, SeqCst);
    store.faults.lock_fails.store(1, SeqCst);
    let by = node.locks().incarnation().unwrap();
    for n in 1..=3 {
        let fence = held(node.locks(), n, &format!("order:{n}"), "7").await;
        store.store.force_release(by, fence, CloseCause::TakenOver).await.unwrap();
    }
    store.faults.no_digest.store(false, SeqCst);
    until("all are told", async || told.lines().len() >= 3).await;
    let mut lines = told.lines();
    lines.sort();
    assert_eq!(lines, [1, 2, 3].map(|n| format!("{n} lost order:{n} taken_over")));
    assert_eq!(store.faults.lock_fails.load(SeqCst), 0, "it was cut short");
}

#[tokio::test]
async fn a_loss_that_the_comparison_finds_first_has_its_true_cause() {
    let store = FakeStore::new().await;
    // The log is not read for a while.
    let slow = DoorbellSettings { poll: Duration::from_secs(60), quiet: Duration::from_secs(60), ..DoorbellSettings::default() };
    let (node, told) = start(&store, |settings| {
        settings.doorbell = slow;
        settings.reconcile_interval = Duration::from_millis(50);
    })
    .await;
    let fence = held(node.locks(), 1, "order:1", "7").await;
    let by = node.locks().incarnation().unwrap();
    store.store.force_release(by, fence, CloseCause::ForceReleased).await.unwrap();
    until("lost", async || !told.lines().is_empty()).await;
    assert_eq!(told.lines(), ["1 lost order:1 force_released"]);
}

#[tokio::test]
async fn a_node_that_leaves_writes_what_it_owes_and_does_not_come_back() {
    let store = FakeStore::new().await;
    let (node, _) = start(&store, |_| {}).await;
    let locks = node.locks().clone();
    for n in 0..200 {
        held(&locks, n, &format!("order:{n}"), "7").await;
    }
    for n in 0..200 {
        end(&locks, n);
    }
    node.drain().await;
    node.leave(Duration::from_secs(30)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(store.live().await.len(), 0);
    let alive = store.store.nodes().await.unwrap().into_iter().filter(|node| node.view.state == NodeState::Alive).count();
    assert_eq!((alive, store.boots.lock().len()), (0, 1));
}

#[tokio::test]
async fn a_node_that_leaves_does_not_take_its_own_goodbye_for_a_verdict_of_others() {
    let store = FakeStore::new().await;
    let (node, told) = start(&store, |_| {}).await;
    held(node.locks(), 1, "order:1", "7").await;
    store.faults.slow_goodbye.store(true, SeqCst);
    node.leave(Duration::ZERO).await;
    assert_eq!((store.boots.lock().len(), told.lines().len()), (1, 0));
}
