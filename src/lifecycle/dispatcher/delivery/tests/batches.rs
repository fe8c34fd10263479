//! Several events in one request.

use std::time::{Duration, Instant};

use super::harness::{Answer, Hooks, Receiver, eventually, numbered, refuses};

pub(super) async fn a_request_has_what_came_within_the_window_and_at_most_so_much(hooks: Hooks) {
    // Much longer than it takes to record what is to come within it.
    let window = Duration::from_secs(3);
    let receiver = Receiver::batching(window, 10);
    let dispatcher = hooks.serve(&receiver).await;
    let began = Instant::now();
    hooks.record(&numbered(4, 0, 3)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    hooks.record(&numbered(4, 3, 5)).await;
    eventually("they come", async || !receiver.requests().is_empty()).await;
    assert!((window.mul_f32(0.9)..window * 5).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(receiver.requests(), [numbered(4, 0, 5)]);
    let began = Instant::now();
    hooks.record(&numbered(4, 5, 25)).await;
    eventually("full requests do not wait", async || receiver.requests().len() == 3).await;
    assert!(began.elapsed() < window, "{:?}", began.elapsed());
    hooks.settled().await;
    assert_eq!(receiver.requests()[1..], [numbered(4, 5, 15), numbered(4, 15, 25)], "in the order of the log, over all channels");
    dispatcher.stop().await;
}

pub(super) async fn poison_in_a_batch_is_found_and_the_others_pass(hooks: Hooks) {
    let receiver = Receiver::batching(Duration::from_millis(50), 10);
    receiver.does(|events| if events.iter().any(|event| event.ends_with(" bad")) { refuses() } else { Answer::Takes });
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["a e1", "b e1", "c bad", "a e2", "c e2"]).await;
    eventually("the others pass", async || {
        let alone = receiver.requests().into_iter().filter(|request| request.len() == 1).collect::<Vec<_>>().concat();
        ["a e1", "b e1", "a e2"].iter().all(|event| alone.contains(&(*event).to_owned()))
    })
    .await;
    let whole = receiver.requests().iter().filter(|request| request.len() == 5).count();
    assert_eq!(whole, 3, "first it is tried again as it is: {:?}", receiver.requests());
    hooks.aside("it waits aside", |parked| parked == ["c bad poison", "c e2 behind-poison"]).await;
    eventually("nothing else waits", async || hooks.world.lag().await == 0).await;
    hooks.record(&numbered(3, 0, 9)).await;
    eventually("requests have several events again", async || receiver.requests().contains(&numbered(3, 0, 9))).await;
    receiver.heals();
    hooks.settled().await;
    let mut alone: Vec<_> = receiver.requests().into_iter().filter(|request| request.len() == 1 && request[0].starts_with("c ")).collect();
    alone.dedup();
    assert_eq!(alone, [["c bad"], ["c e2"]]);
    dispatcher.stop().await;
}

pub(super) async fn a_batch_is_sent_again_as_it_was_when_the_endpoint_is_back(hooks: Hooks) {
    let receiver = Receiver::batching(Duration::from_millis(50), 100);
    receiver.does(|_| refuses());
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&numbered(3, 0, 6)).await;
    eventually("it is tried", async || !receiver.requests().is_empty()).await;
    hooks.record(&numbered(3, 6, 12)).await;
    eventually("it is tried again", async || receiver.requests().len() >= 2).await;
    receiver.heals();
    hooks.settled().await;
    assert_eq!(receiver.requests()[0], numbered(3, 0, 6));
    let mut taken = receiver.events();
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 12);
    for channel in 0..3 {
        let mut order: Vec<usize> = receiver.of(&format!("ch{channel}")).iter().map(|event| event[1..].parse().unwrap()).collect();
        // From the last attempt at the first of them on.
        let last = order.iter().rposition(|n| *n == channel).unwrap();
        order.drain(..last);
        assert_eq!(order, (0..12).filter(|n| n % 3 == channel).collect::<Vec<_>>());
    }
    dispatcher.stop().await;
}
