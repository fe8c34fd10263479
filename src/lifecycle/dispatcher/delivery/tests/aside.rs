//! Events that fail by themselves.

use std::time::{Duration, Instant};

use super::harness::{Answer, Hooks, Receiver, eventually, expected, numbered, refuses};
use crate::lifecycle::{
    listener::{EndpointOptions, Retry},
    store::*,
};

/// One that refuses what is called `bad`.
fn picky(change: impl FnOnce(&mut EndpointOptions)) -> std::sync::Arc<Receiver> {
    let receiver = Receiver::with(change);
    receiver.does(|events| if events.iter().any(|event| event.ends_with(" bad")) { refuses() } else { Answer::Takes });
    receiver
}

pub(super) async fn an_event_that_fails_alone_holds_up_its_channel_and_nobody_else(hooks: Hooks) {
    let receiver = picky(|_| ());
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["a bad", "b e1", "a e2", "b e2"]).await;
    eventually("the other channel passes", async || receiver.of("b") == ["e1", "e2"]).await;
    hooks.aside("it waits aside", |parked| parked == ["a bad poison", "a e2 behind-poison"]).await;
    hooks.record(&numbered(3, 0, 90)).await;
    hooks.record(&["a e3"]).await;
    eventually("all others pass", async || (0..3).all(|ch| receiver.of(&format!("ch{ch}")) == expected(3, ch, 90))).await;
    eventually("it is tried again", async || receiver.attempts_of("a").len() > 4).await;
    assert_eq!(receiver.of("a"), ["bad"], "and what follows it for its channel waits");
    receiver.heals();
    hooks.settled().await;
    assert_eq!(receiver.of("a"), ["bad", "e2", "e3"]);
    dispatcher.stop().await;
}

pub(super) async fn after_a_while_its_channel_passes_it_and_it_is_still_tried(hooks: Hooks) {
    let receiver = picky(|options| options.order_for = Duration::from_millis(700));
    let dispatcher = hooks.serve(&receiver).await;
    let began = Instant::now();
    hooks.record(&["a bad", "a e2", "b e1"]).await;
    eventually("its channel passes", async || receiver.attempts_of("a").contains(&"e2".to_owned())).await;
    assert!(began.elapsed() > Duration::from_millis(600), "{:?}", began.elapsed());
    eventually("it is known as late", async || hooks.parked().await == ["a bad late"]).await;
    hooks.record(&["a e3"]).await;
    eventually("nothing waits for it", async || receiver.attempts_of("a").contains(&"e3".to_owned())).await;
    let tried = receiver.attempts_of("a").len();
    eventually("it is still tried", async || receiver.attempts_of("a").len() > tried + 2).await;
    assert_eq!(hooks.parked().await, ["a bad late"]);
    receiver.heals();
    hooks.settled().await;
    dispatcher.stop().await;
}

pub(super) async fn an_event_that_is_never_taken_is_a_dead_letter_that_an_operator_can_replay(hooks: Hooks) {
    let receiver = picky(|options| options.retry_for = Duration::from_millis(600));
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["a bad", "a e2", "b e1"]).await;
    eventually("it is dead, and its channel passes", async || {
        hooks.parked().await == ["a bad dead"] && receiver.of("a").contains(&"e2".to_owned())
    })
    .await;
    let row = hooks.dead().await.remove(0);
    assert!(row.attempts > 0 && row.last_error.is_some(), "{row:?}");
    let tried = receiver.attempts_of("a").len();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(receiver.attempts_of("a").len(), tried, "nobody tries it again");
    let replay = async || {
        let (shard, position) = (row.event.shard, row.event.position);
        assert!(hooks.world.store.set_parked_reason("webhook:app:shop", shard, position, ParkReason::Late).await.unwrap());
    };
    replay().await;
    eventually("it is tried, in vain", async || receiver.attempts_of("a").len() > tried && hooks.parked().await == ["a bad dead"]).await;
    let tried = receiver.attempts_of("a").len();
    receiver.heals();
    replay().await;
    hooks.settled().await;
    assert_eq!(receiver.attempts_of("a").len(), tried + 1);
    dispatcher.stop().await;
}

pub(super) async fn only_one_channel_is_no_reason_to_wait_for_ever(hooks: Hooks) {
    let receiver = picky(|options| (options.order_for, options.retry_for) = (Duration::from_millis(300), Duration::from_millis(1_200)));
    let dispatcher = hooks.serve(&receiver).await;
    // Nothing else comes that could tell an event's fault from the endpoint's.
    hooks.record(&["a bad", "a e2"]).await;
    eventually("the next passes it", async || receiver.of("a").starts_with(&["bad".to_owned(), "e2".to_owned()])).await;
    eventually("it is given up by its age", async || hooks.parked().await == ["a bad dead"]).await;
    dispatcher.stop().await;
}

pub(super) async fn what_waits_behind_keeps_its_order_while_nobody_is_there(hooks: Hooks) {
    let receiver = picky(|options| options.order_for = Duration::from_secs(1));
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["a bad", "a e2", "a e3"]).await;
    eventually("it is tried", async || !receiver.of("a").is_empty()).await;
    hooks.record(&["b e1"]).await;
    hooks.aside("it waits aside", |parked| parked.contains(&"a bad poison".to_owned())).await;
    receiver.does(|_| Answer::Refuses(Retry::unavailable("connection refused")));
    eventually("it is late", async || hooks.parked().await.contains(&"a bad late".to_owned())).await;
    // Nothing else comes that the endpoint could refuse.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(hooks.parked().await, ["a bad late", "a e2 behind-poison", "a e3 behind-poison"]);
    receiver.heals();
    hooks.settled().await;
    let order: Vec<_> = receiver.of("a").into_iter().filter(|event| event != "bad").collect();
    assert!(order.iter().position(|event| event == "e3") > order.iter().rposition(|event| event == "e2"), "{order:?}");
    dispatcher.stop().await;
}

pub(super) async fn what_a_dead_process_put_aside_is_tried_again_in_order(hooks: Hooks) {
    let receiver = picky(|_| ());
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["a bad", "b e1", "a e2", "a e3"]).await;
    eventually("the other is taken", async || receiver.of("b") == ["e1"]).await;
    hooks.record(&["b e2"]).await;
    hooks.aside("they are aside", |parked| parked.len() == 3).await;
    drop(dispatcher);
    hooks.record(&["a e4"]).await;
    receiver.heals();
    let dispatcher = hooks.serve(&receiver).await;
    hooks.settled().await;
    assert_eq!(receiver.of("a"), ["bad", "e2", "e3", "e4"]);
    dispatcher.stop().await;
}
