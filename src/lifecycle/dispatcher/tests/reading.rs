//! Offsets, order, claims.

use std::time::{Duration, Instant};

use super::harness::{Script, World, eventually, quick};
use crate::lifecycle::{
    dispatcher::DispatcherSettings,
    listener::{EventFilter, ListenerOptions},
    store::*,
};

fn numbered(keys: usize, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("key:{} E{n}", n % keys)).collect()
}

async fn log(world: &World, entries: &[String]) {
    world.log(&entries.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Each entry once, those of a key in their order.
fn check(script: &Script, keys: usize, count: usize) {
    assert_eq!(script.heard().len(), count);
    for key in 0..keys {
        let expected: Vec<_> = (0..count).filter(|n| n % keys == key).map(|n| format!("E{n}")).collect();
        assert_eq!(script.heard_of(&format!("key:{key}")), expected);
    }
}

pub(super) async fn entries_come_once_and_in_order_and_a_restart_goes_on(world: World) {
    let script = Script::willing();
    log(&world, &numbered(7, 0, 300)).await;
    let dispatcher = world.serve(&script);
    eventually("all are told", async || script.heard().len() >= 300).await;
    log(&world, &numbered(7, 300, 310)).await;
    eventually("more are told", async || script.heard().len() >= 310).await;
    dispatcher.stop().await;
    log(&world, &numbered(7, 310, 350)).await;
    let dispatcher = world.serve(&script);
    eventually("it goes on", async || script.heard().len() >= 350).await;
    eventually("all offsets are stored", async || world.lag().await == 0).await;
    dispatcher.stop().await;
    check(&script, 7, 350);
}

pub(super) async fn resources_are_told_at_the_same_time_and_each_in_order(world: World) {
    let keys = world.keys_beside("order:1", 6);
    let script = Script::taking(Duration::from_millis(5), ListenerOptions { concurrency: 4, ..ListenerOptions::default() });
    let entries: Vec<_> = (0..60).map(|n| format!("{} E{n}", keys[n % 6])).collect();
    log(&world, &entries).await;
    let dispatcher = world.serve(&script);
    eventually("all are told", async || script.heard().len() >= 60).await;
    dispatcher.stop().await;
    assert_eq!(script.most_at_work(), 4);
    for (number, key) in keys.iter().enumerate() {
        let expected: Vec<_> = (0..60).filter(|n| n % 6 == number).map(|n| format!("E{n}")).collect();
        assert_eq!(script.heard_of(key), expected);
    }
}

pub(super) async fn what_another_node_reads_is_taken_over_when_it_stops_or_dies(world: World) {
    let script = Script::willing();
    let owners = async || {
        let rows = world.store.consumers().await.unwrap();
        let mut owners: Vec<_> = rows.into_iter().map(|row| row.owner.unwrap_or_default()).collect();
        owners.sort();
        owners.dedup();
        owners
    };
    let first = world.serve(&script);
    eventually("the first reads", async || owners().await == ["node-1"]).await;
    let second = world.start("node-2", vec![script.boxed()], quick());
    log(&world, &numbered(3, 0, 10)).await;
    eventually("one of them tells", async || script.heard().len() >= 10).await;
    match world.store.shards() {
        1 => assert_eq!(owners().await, ["node-1"], "what is renewed is not taken"),
        _ => eventually("they share", async || owners().await == ["node-1", "node-2"]).await,
    }
    first.stop().await;
    assert!(!owners().await.contains(&"node-1".to_owned()), "claims are given back");
    eventually("the second reads", async || owners().await == ["node-2"]).await;
    log(&world, &numbered(3, 10, 20)).await;
    eventually("the second tells", async || script.heard().len() >= 20).await;
    eventually("its offsets are stored", async || world.lag().await == 0).await;
    drop(second);
    let third = world.start("node-3", vec![script.boxed()], quick());
    eventually("the third reads", async || owners().await == ["node-3"]).await;
    log(&world, &numbered(3, 20, 30)).await;
    eventually("the third tells", async || script.heard().len() >= 30).await;
    third.stop().await;
    check(&script, 3, 30);
}

pub(super) async fn an_operator_who_rewinds_is_noticed_by_an_idle_listener(world: World) {
    let script = Script::willing();
    let dispatcher = world.serve(&script);
    log(&world, &numbered(3, 0, 10)).await;
    eventually("all are told", async || script.heard().len() == 10 && world.lag().await == 0).await;
    world.store.rewind("audit", &Cursor::start(world.store.shards())).await.unwrap();
    eventually("all are told again", async || script.heard().len() == 20).await;
    dispatcher.stop().await;
}

pub(super) async fn only_what_the_filter_lets_through_is_told(world: World) {
    let filter = EventFilter::default().app("app").events(["A*"]);
    let script = Script::new(ListenerOptions { filter, ..ListenerOptions::default() }, |_| Ok(()));
    let dispatcher = world.serve(&script);
    world.log(&["key:1 Apple", "key:1 Banana", "key:2 Avocado"]).await;
    eventually("offsets move past the others", async || world.lag().await == 0 && script.heard().len() == 2).await;
    dispatcher.stop().await;
    assert_eq!((script.heard_of("key:1"), script.heard_of("key:2")), (vec!["Apple".to_owned()], vec!["Avocado".to_owned()]));
}

pub(super) async fn retention_waits_for_the_listener(world: World) {
    let script = Script::failing(ListenerOptions::default(), crate::lifecycle::Retry::unavailable("away"), |_| true);
    let dispatcher = world.serve(&script);
    log(&world, &numbered(5, 0, 40)).await;
    let retain = async || {
        let mut deleted = 0;
        for shard in 0..world.store.shards() {
            deleted += world.store.retain(world.node, Shard(shard as i16), Duration::ZERO, 1000).await.unwrap();
        }
        deleted
    };
    eventually("it is tried", async || script.heard().len() > 5).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(retain().await, 0);
    script.raise_flag();
    let mut deleted = 0;
    eventually("all are told, and go", async || {
        deleted += retain().await;
        deleted == 40
    })
    .await;
    assert_eq!(world.lag().await, 0);
    dispatcher.stop().await;
    for n in 0..40 {
        let heard = script.heard_of(&format!("key:{}", n % 5));
        assert!(heard.iter().any(|entry| entry.split('/').next() == Some(&format!("E{n}"))), "E{n}: {heard:?}");
    }
}

pub(super) async fn a_stop_waits_for_the_listener_but_not_for_ever(world: World) {
    let script = Script::taking(Duration::from_millis(200), ListenerOptions::default());
    let dispatcher = world.serve(&script);
    world.log(&["key:1 E1", "key:1 E2"]).await;
    eventually("it is at work", async || script.at_work() == 1).await;
    dispatcher.stop().await;
    assert_eq!((script.heard(), world.lag().await), (vec!["key:1 E1".to_owned()], 1), "what it was at is stored, nothing new is begun");

    let endless = Script::taking(Duration::from_secs(3600), ListenerOptions::default());
    let settings = DispatcherSettings { time_limit: Duration::from_secs(3600), ..quick() };
    let dispatcher = world.start("node-1", vec![endless.boxed()], settings);
    eventually("it is at work", async || endless.at_work() == 1).await;
    let stopped = Instant::now();
    dispatcher.stop().await;
    // It would be at work for an hour.
    assert!(stopped.elapsed() < Duration::from_secs(30));
    assert!(world.store.consumers().await.unwrap().iter().all(|row| row.owner.is_none()), "claims are given back");
}
