//! Entries that fail, and what they may hold up.

use super::harness::{Script, World, eventually, quick};
use crate::lifecycle::{
    dispatcher::DispatcherSettings,
    listener::{ListenerOptions, Retry},
    store::*,
};

fn attempts(max_attempts: u32) -> ListenerOptions {
    ListenerOptions { max_attempts, ..ListenerOptions::default() }
}

fn bad(max_attempts: u32) -> std::sync::Arc<Script> {
    Script::failing(attempts(max_attempts), Retry::new("no"), |event| event.event_type == "Bad")
}

pub(super) async fn poison_is_given_up_and_other_resources_flow(world: World) {
    let other = world.keys_beside("order:1", 1).remove(0);
    let script = bad(5);
    let dispatcher = world.serve(&script);
    world.log(&["order:1 Bad", &format!("{other} E1"), "order:1 After", &format!("{other} E2")]).await;
    eventually("the other key flows", async || script.heard_of(&other) == ["E1", "E2"]).await;
    assert!(script.heard_of("order:1").len() < 5, "before the first is given up");
    eventually("it is given up", async || script.heard_of("order:1").len() == 5 && world.parked().await[0] == "Bad(5)").await;
    assert_eq!(script.heard_of("order:1"), ["Bad", "Bad/2", "Bad/3", "Bad/4", "Bad/5"]);
    assert!(world.store.parked_heads("audit", 5, 10).await.unwrap().is_empty(), "nobody tries it again");
    world.log(&["order:1 Later", &format!("{other} E3")]).await;
    eventually("what follows it is parked", async || world.parked().await == ["Bad(5)", "After(0)", "Later(0)"]).await;
    eventually("the other key flows", async || script.heard_of(&other).len() == 3).await;
    let first = world.store.parked("audit", 1).await.unwrap().remove(0);
    assert_eq!((first.reason, first.last_error.as_deref()), (ParkReason::Poison, Some("no")));
    assert!(world.store.unpark("audit", first.event.shard, first.event.position).await.unwrap());
    eventually("an operator took it out", async || script.heard_of("order:1").len() == 7).await;
    assert_eq!(script.heard_of("order:1")[5..], ["After", "Later"]);
    eventually("nothing is parked", async || world.parked().await.is_empty()).await;
    dispatcher.stop().await;
}

pub(super) async fn an_end_of_a_lock_is_tried_for_ever_and_other_resources_flow(world: World) {
    let other = world.keys_beside("order:1", 1).remove(0);
    let script = Script::failing(attempts(1), Retry::new("no"), |event| event.kind == EventKind::Unlocked);
    let dispatcher = world.serve(&script);
    let (_, end) = world.lock("order:1", "user:1", Mode::Exclusive).await;
    world.unlock(end).await;
    let (_, second) = world.lock("order:1", "user:2", Mode::Exclusive).await;
    world.log(&[&format!("{other} E1")]).await;
    eventually("the other key flows", async || script.heard_of(&other) == ["E1"]).await;
    eventually("it is tried again", async || script.heard_of("order:1").len() >= 6).await;
    assert_eq!(script.heard_of("order:1")[..4], ["OrderLocked", "OrderUnlocked", "OrderUnlocked/2", "OrderUnlocked/3"]);
    assert_eq!(world.parked().await.len(), 2, "and what follows it for its resource waits");
    script.raise_flag();
    eventually("it is through, and what followed it", async || world.parked().await.is_empty()).await;
    world.unlock(second).await;
    eventually("in order", async || script.heard_of("order:1").iter().rev().take(2).eq(["OrderUnlocked", "OrderLocked"])).await;
    dispatcher.stop().await;
}

pub(super) async fn an_outage_parks_nothing(world: World) {
    let script = Script::failing(attempts(1), Retry::unavailable("away"), |_| true);
    let dispatcher = world.serve(&script);
    world.log(&["order:1 E1", "order:1 E2"]).await;
    eventually("it is tried again and again", async || script.heard().len() >= 5).await;
    assert_eq!(script.heard_of("order:1")[..5], ["E1"; 5].map(str::to_owned), "and no attempt is counted");
    assert_eq!(world.parked().await, [""; 0]);
    let error = world.store.consumers().await.unwrap().into_iter().find_map(|row| row.last_error);
    assert_eq!(error.as_deref(), Some("away"), "an operator sees why it waits");
    script.raise_flag();
    eventually("all are through", async || world.lag().await == 0).await;
    assert_eq!(script.heard_of("order:1").last().map(String::as_str), Some("E2"));
    dispatcher.stop().await;
}

pub(super) async fn a_panic_and_a_hang_are_failures(world: World) {
    let script = Script::new(attempts(3), |event| {
        assert!(event.event_type != "Panic" || event.attempt() > 1, "on purpose");
        Ok(())
    });
    let dispatcher = world.serve(&script);
    world.log(&["order:1 Panic", "order:1 Hang", "order:1 E"]).await;
    eventually("all are through", async || world.lag().await == 0).await;
    assert_eq!(script.heard_of("order:1"), ["Panic", "Panic/2", "Hang", "Hang/2", "E"]);
    dispatcher.stop().await;
}

pub(super) async fn what_was_handled_ahead_of_a_failure_is_not_told_twice(world: World) {
    let other = world.keys_beside("order:1", 1).remove(0);
    let options = ListenerOptions { concurrency: 4, ..ListenerOptions::default() };
    let script = Script::new(options, |event| match event.event_type.as_str() {
        "Bad" if event.attempt() < 3 => Err(Retry::new("no")),
        _ => Ok(()),
    });
    world.log(&["order:1 Bad", &format!("{other} E1"), "order:1 After", &format!("{other} E2")]).await;
    let dispatcher = world.serve(&script);
    eventually("all are through", async || world.lag().await == 0).await;
    dispatcher.stop().await;
    assert_eq!(script.heard_of(&other), ["E1", "E2"]);
    assert_eq!(script.heard_of("order:1"), ["Bad", "Bad/2", "Bad/3", "After"]);
}

pub(super) async fn too_many_failing_resources_make_the_shard_wait(world: World) {
    let keys = world.keys_beside("order:1", 3);
    let script = bad(1000);
    let entries = [format!("{} Bad", keys[0]), format!("{} Bad", keys[1]), format!("{} E", keys[2])];
    world.log(&entries.each_ref().map(String::as_str)).await;
    let settings = DispatcherSettings { max_aside: 1, ..quick() };
    let dispatcher = world.start("node-1", vec![script.boxed()], settings);
    eventually("the second is tried in its place", async || script.heard_of(&keys[1]).len() >= 5).await;
    assert_eq!(world.parked().await.len(), 1, "the first is aside");
    assert_eq!(script.heard_of(&keys[2]), [""; 0]);
    script.raise_flag();
    eventually("all are through", async || world.lag().await == 0 && world.parked().await.is_empty()).await;
    assert_eq!(script.heard_of(&keys[2]), ["E"]);
    dispatcher.stop().await;
}

pub(super) async fn what_a_dead_process_put_aside_is_tried_again(world: World) {
    let script = bad(1000);
    world.log(&["order:1 Bad", "order:1 After"]).await;
    let dispatcher = world.serve(&script);
    eventually("both are aside", async || world.parked().await.len() == 2).await;
    drop(dispatcher);
    script.raise_flag();
    let dispatcher = world.serve(&script);
    eventually("both are through", async || world.parked().await.is_empty()).await;
    assert_eq!(script.heard_of("order:1").last().map(String::as_str), Some("After"));
    dispatcher.stop().await;
}
