//! Order, and endpoints that take nothing for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    super::super::DispatcherSettings,
    harness::{Answer, Hooks, Receiver, eventually, expected, fast, numbered, refuses},
};
use crate::lifecycle::{
    listener::Retry,
    store::{Shard, StartAt},
};

pub(super) async fn events_come_in_the_order_of_their_channel_and_channels_beside_each_other(hooks: Hooks) {
    let receiver = Receiver::new();
    let dispatcher = hooks.serve(&receiver).await;
    for part in 0..10 {
        hooks.record(&numbered(7, part * 50, part * 50 + 50)).await;
    }
    hooks.settled().await;
    dispatcher.stop().await;
    assert_eq!(receiver.events().len(), 500, "each once");
    assert!(receiver.requests().iter().all(|request| request.len() == 1), "one event per request");
    for channel in 0..7 {
        assert_eq!(receiver.of(&format!("ch{channel}")), expected(7, channel, 500));
    }
}

pub(super) async fn a_new_endpoint_begins_at_the_end_and_gets_only_what_it_wants(hooks: Hooks) {
    hooks.record(&["private-a old"]).await;
    let receiver = Receiver::new();
    receiver.wants_only("private-");
    let dispatcher = hooks.serve(&receiver).await;
    assert_eq!(hooks.world.store.consumers().await.unwrap().len(), 1, "one shard, however many there are");
    hooks.world.log(&["private-a Saved"]).await;
    hooks.record_for("other", &["private-a theirs"]).await;
    hooks.record(&["private-a new", "b new", "private-c new"]).await;
    eventually("it has all", async || receiver.events().len() == 2).await;
    hooks.settled().await;
    assert_eq!((receiver.of("private-a"), receiver.of("private-c")), (vec!["new".to_owned()], vec!["new".to_owned()]));
    dispatcher.stop().await;
}

pub(super) async fn an_endpoint_that_takes_nothing_loses_nothing_and_nothing_is_counted(hooks: Hooks) {
    for retry in [Retry::new("500"), Retry::unavailable("refused")] {
        let receiver = Receiver::new();
        receiver.does(move |_| Answer::Refuses(retry.clone()));
        let dispatcher = hooks.serve(&receiver).await;
        hooks.record(&numbered(5, 0, 40)).await;
        eventually("it is tried again and again", async || receiver.requests().len() >= 12).await;
        hooks.record(&numbered(5, 40, 60)).await;
        assert_eq!(hooks.parked().await, [""; 0]);
        let row = hooks.world.store.consumers().await.unwrap().remove(0);
        assert!(row.last_error.is_some() && row.attempts > 0, "an operator sees why it waits: {row:?}");
        let (tried, began) = (receiver.requests().len(), Instant::now());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let rounds = began.elapsed().as_millis() / 160 + 2;
        assert!(receiver.requests().len() - tried <= 4 * rounds as usize, "it is not stormed");
        receiver.heals();
        hooks.settled().await;
        for channel in 0..5 {
            assert_eq!(receiver.of(&format!("ch{channel}")), expected(5, channel, 60));
        }
        dispatcher.stop().await;
    }
}

pub(super) async fn an_outage_longer_than_channels_wait_changes_no_order_and_puts_nothing_aside(hooks: Hooks) {
    let receiver = Receiver::with(|options| options.order_for = Duration::from_millis(300));
    receiver.does(|_| refuses());
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&numbered(5, 0, 40)).await;
    eventually("every channel is tried", async || (0..5).all(|ch| receiver.attempts_of(&format!("ch{ch}")).len() > 1)).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    receiver.heals();
    hooks.settled().await;
    for channel in 0..5 {
        assert_eq!(receiver.of(&format!("ch{channel}")), expected(5, channel, 40));
    }
    dispatcher.stop().await;
}

pub(super) async fn what_was_under_way_when_an_endpoint_fell_over_keeps_its_order(hooks: Hooks) {
    let (receiver, up, seen) = (Receiver::new(), Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_up, count) = (Arc::clone(&up), Arc::clone(&seen));
    // It takes some, then falls over in the midst of everything, again and again.
    receiver.does(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) % 40 == 39 {
            is_up.store(false, Ordering::SeqCst);
        }
        if is_up.load(Ordering::SeqCst) { Answer::Takes } else { refuses() }
    });
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&numbered(9, 0, 200)).await;
    let mut settled = false;
    while !settled {
        tokio::time::sleep(Duration::from_millis(60)).await;
        up.store(true, Ordering::SeqCst);
        settled = hooks.world.lag().await == 0 && hooks.parked().await.is_empty();
    }
    dispatcher.stop().await;
    for channel in 0..9 {
        assert_eq!(receiver.of(&format!("ch{channel}")), expected(9, channel, 200));
    }
}

pub(super) async fn a_request_that_hangs_delays_no_other_channel(hooks: Hooks) {
    let receiver = Receiver::new();
    receiver.does(|events| if events[0].starts_with("bad ") { Answer::Hangs } else { Answer::Takes });
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["bad e0", "bad e1"]).await;
    eventually("it hangs", async || !receiver.events().is_empty()).await;
    let began = Instant::now();
    for part in 0..10 {
        hooks.record(&numbered(3, part * 100, part * 100 + 100)).await;
    }
    eventually("the others are through", async || receiver.events().iter().filter(|event| event.starts_with("ch")).count() == 1000).await;
    assert_eq!(receiver.of("bad"), ["e0"], "before the first try at the other has ended, or soon after: {:?}", began.elapsed());
    receiver.heals();
    hooks.settled().await;
    assert_eq!(receiver.of("bad"), ["e0", "e1"]);
    dispatcher.stop().await;
}

pub(super) async fn what_is_too_old_after_an_outage_is_a_dead_letter(hooks: Hooks) {
    const RETRY_FOR: Duration = Duration::from_millis(900);
    let receiver = Receiver::with(|options| options.retry_for = RETRY_FOR);
    receiver.does(|_| refuses());
    let dispatcher = hooks.serve(&receiver).await;
    let began = Instant::now();
    hooks.record(&["a e1", "b e1", "a e2"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let parked = hooks.parked().await;
    assert!(parked.is_empty() || began.elapsed() >= RETRY_FOR, "{parked:?} after {:?}", began.elapsed());
    eventually("they are dead", async || hooks.parked().await == ["a e1 dead", "b e1 dead", "a e2 dead"]).await;
    receiver.heals();
    hooks.record(&["a e3"]).await;
    eventually("what comes after them is taken", async || hooks.world.lag().await == 0).await;
    assert_eq!(receiver.events().last().unwrap(), "a e3");
    dispatcher.stop().await;
}

pub(super) async fn a_stop_and_a_kill_leave_owed_what_was_not_taken(hooks: Hooks) {
    let receiver = Receiver::new();
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["a e1"]).await;
    eventually("it is taken", async || receiver.events() == ["a e1"] && hooks.world.lag().await == 0).await;
    receiver.does(|_| refuses());
    hooks.record(&["a e2", "b e1"]).await;
    eventually("it is tried", async || receiver.events().len() > 2).await;
    drop(dispatcher);
    hooks.record(&["a e3"]).await;
    receiver.heals();
    let dispatcher = hooks.serve(&receiver).await;
    hooks.settled().await;
    assert_eq!((receiver.of("a"), receiver.of("b")), (["e1", "e2", "e3"].map(str::to_owned).to_vec(), vec!["e1".to_owned()]));
    dispatcher.stop().await;
    let told = receiver.events().len();
    hooks.record(&["a e4"]).await;
    let dispatcher = hooks.serve(&receiver).await;
    hooks.settled().await;
    assert_eq!(receiver.events().len(), told + 1, "nothing comes again after a stop");
    receiver.does(|_| Answer::Hangs);
    hooks.record(&["a e5"]).await;
    eventually("it is at it", async || receiver.events().len() == told + 2).await;
    let began = Instant::now();
    dispatcher.stop().await;
    // It would be tried for a day.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

pub(super) async fn two_nodes_deliver_each_event_once_and_one_takes_over(hooks: Hooks) {
    let receiver = Receiver::new();
    // A claim outlives a machine that stands still for a moment: nobody takes over before somebody dies.
    let lasting = || DispatcherSettings { lease: Duration::from_secs(4), ..fast() };
    let first = hooks.world.start("node-1", vec![receiver.boxed()], lasting());
    eventually("it has its place", async || hooks.place_of(&receiver).await.is_some()).await;
    let second = hooks.world.start("node-2", vec![receiver.boxed()], lasting());
    hooks.record(&numbered(4, 0, 50)).await;
    hooks.settled().await;
    assert_eq!(receiver.events().len(), 50);
    let owner = hooks.world.store.consumers().await.unwrap().remove(0).owner.unwrap();
    let (dies, lives) = if owner == "node-1" { (first, second) } else { (second, first) };
    drop(dies);
    hooks.record(&numbered(4, 50, 80)).await;
    hooks.settled().await;
    lives.stop().await;
    for channel in 0..4 {
        assert_eq!(receiver.of(&format!("ch{channel}")), expected(4, channel, 80));
    }
}

pub(super) async fn the_place_of_an_endpoint_that_nobody_has_any_more_is_dropped_after_a_while(hooks: Hooks) {
    let receiver = Receiver::with(|options| options.retry_for = Duration::from_millis(200));
    let places = async || hooks.world.store.consumers().await.unwrap().into_iter().map(|row| row.name).collect::<Vec<_>>();
    let shard = Shard::of_webhooks("gone", hooks.world.store.shards());
    hooks.world.store.create_consumer_of("webhook:gone:old", shard, StartAt::End).await.unwrap();
    hooks.world.store.create_consumer_of("not-webhook:old", shard, StartAt::End).await.unwrap();
    // It is old enough already, but whoever begins may have been told the wrong thing: there is time to notice.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let began = Instant::now();
    let dispatcher = hooks.serve(&receiver).await;
    eventually("it is dropped", async || !places().await.contains(&"webhook:gone:old".to_owned())).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?} after the start", began.elapsed());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(places().await, ["not-webhook:old", "webhook:app:shop"], "and nothing else");
    dispatcher.stop().await;
    // Nobody has it now, but it is in the configuration of the next start.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let dispatcher = hooks.serve(&receiver).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(places().await.contains(&"webhook:app:shop".to_owned()));
    dispatcher.stop().await;
}

pub(super) async fn a_stop_can_wait_until_all_is_delivered_but_not_for_ever(hooks: Hooks) {
    let receiver = Receiver::new();
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&numbered(3, 0, 100)).await;
    assert!(dispatcher.drained(Duration::from_secs(40)).await);
    assert_eq!(receiver.events().len(), 100);
    receiver.does(|_| refuses());
    hooks.record(&["a e1"]).await;
    let began = Instant::now();
    assert!(!dispatcher.drained(Duration::from_millis(300)).await);
    assert!((250..15_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    dispatcher.stop().await;
}
