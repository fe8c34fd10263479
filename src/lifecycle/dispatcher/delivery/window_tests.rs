//! Order by channel, and what a failure holds up.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::lifecycle::{
    dispatcher::backoff::Pace,
    listener::Retry,
    listeners::tests::event,
    store::{EventKind, Shard},
};

fn entry(position: i64, channel: &str) -> EventRow {
    EventRow { kind: EventKind::Webhook, shard: Shard(0), position, payload: json!({}), ..event("channel_occupied", channel) }
}

/// Entries at 1, 2, 3 … of these channels; one that begins with `-` is not wanted, one with `!` has something parked.
fn window(channels: &[&str]) -> Window {
    let mut window = Window::default();
    for (index, channel) in channels.iter().enumerate() {
        let event = entry(index as i64 + 1, channel.trim_start_matches(['-', '!']));
        window.push(Delivery { event, blocked: channel.starts_with('!') }, !channel.starts_with('-'), Instant::now());
    }
    window
}

fn failure(round: u64) -> Failure<'static> {
    Failure { round, at: Instant::now(), next: Instant::now(), error: "no" }
}

fn singles(window: &mut Window, gate: &Gate) -> Vec<i64> {
    let mut sent = Vec::new();
    while let Some(position) = window.next_single(gate, i64::MAX, Instant::now()) {
        window.send(&[position]);
        sent.push(position);
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn one_entry_of_each_channel_is_under_way_and_the_offset_moves_over_a_prefix() {
    let (mut window, gate) = (window(&["a", "b", "a", "-c", "b", "d"]), Gate::new(Pace::WEBHOOKS));
    assert_eq!(singles(&mut window, &gate), [1, 2, 6]);
    window.done(&[2, 6]);
    assert_eq!(window.done_upto(), None);
    assert_eq!(singles(&mut window, &gate), [5]);
    window.done(&[1]);
    assert_eq!(window.done_upto(), Some(2));
    window.forget_upto(2);
    assert_eq!((singles(&mut window, &gate), window.span(), window.unfinished()), (vec![3], 4, 2));
    window.done(&[3, 5]);
    assert_eq!(window.done_upto(), Some(6));
    window.forget_upto(6);
    assert_eq!((window.span(), window.unfinished(), window.chains.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_failed_by_itself_takes_what_follows_it_for_its_channel_along() {
    let (mut window, mut gate) = (window(&["a", "b", "a", "b", "!d"]), Gate::new(Pace::WEBHOOKS));
    let (poison, other) = (gate.send(Instant::now()), window.send(&[1, 2]));
    assert_eq!(other.len(), 2);
    let round = gate.bad(poison, Instant::now(), &Retry::new("no"));
    window.failed(&[1], &failure(round));
    window.judge(&mut gate);
    assert_eq!(window.front().unwrap().state, State::Waiting, "nothing else is known to be taken");
    assert_eq!(window.next_single(&gate, i64::MAX, Instant::now()), None, "it had its try, and what follows it waits for it");
    window.done(&[2]);
    tokio::time::advance(Duration::from_millis(1)).await;
    let ticket = gate.send(Instant::now());
    window.send(&[4]);
    gate.good(ticket);
    window.done(&[4]);
    window.judge(&mut gate);
    assert_eq!(window.front().unwrap().state, State::Alone);
    window.push(Delivery { event: entry(6, "a"), blocked: false }, true, Instant::now());
    window.push(Delivery { event: entry(7, "b"), blocked: false }, true, Instant::now());
    let states: Vec<_> = window.slots.iter().map(|slot| slot.state.clone()).collect();
    use State::*;
    assert_eq!(states, [Alone, Done, Behind, Done, Behind, Behind, Waiting], "also what is read before it is parked");
    window.pop_parked();
    assert_eq!(window.done_upto(), Some(2));
    window.forget_upto(2);
    assert_eq!(window.front().map(|slot| (slot.position, &slot.state)), Some((3, &Behind)));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_has_waited_for_long_enough_tells_by_its_next_whose_fault_it_is() {
    let (mut window, mut gate) = (window(&["a", "a", "a"]), Gate::new(Pace::WEBHOOKS));
    let long_ago = Instant::now();
    let ticket = gate.send(long_ago);
    window.send(&[1]);
    let round = gate.bad(ticket, long_ago, &Retry::new("no"));
    window.failed(&[1], &failure(round));
    tokio::time::advance(Duration::from_secs(300)).await;
    assert!(gate.may_send(Instant::now()));
    assert_eq!(window.next_passing(&gate, Some(long_ago)), None, "it has its try in this round first");
    let ticket = gate.send(Instant::now());
    window.send(&[1]);
    let round = gate.bad(ticket, Instant::now(), &Retry::new("no"));
    window.failed(&[1], &failure(round));
    assert_eq!(window.next_single(&gate, i64::MAX, Instant::now()), None);
    assert_eq!((window.next_passing(&gate, None), window.next_passing(&gate, Some(long_ago))), (None, Some(2)));
    let ticket = gate.send(Instant::now());
    window.send(&[2]);
    gate.good(ticket);
    window.done(&[2]);
    window.judge(&mut gate);
    assert_eq!(window.front().unwrap().state, State::Late);
    assert_eq!(window.next_single(&gate, i64::MAX, Instant::now()), Some(3), "nothing waits for it");
    window.pop_parked();
    assert_eq!(window.done_upto(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_fails_by_itself_a_second_time_leaves_no_doubt_behind() {
    let (mut window, mut gate) = (window(&["a", "a", "b"]), Gate::new(Pace::WEBHOOKS));
    fails(&mut window, &mut gate, 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(gate.may_send(Instant::now()));
    let (poison, other) = (gate.send(Instant::now()), gate.send(Instant::now()));
    window.send(&[1, 3]);
    gate.good(other);
    window.done(&[3]);
    let round = gate.bad(poison, Instant::now(), &Retry::new("no"));
    window.failed(&[1], &failure(round));
    assert!(gate.in_doubt());
    window.judge(&mut gate);
    assert_eq!(window.front().unwrap().state, State::Alone);
    assert!(!gate.in_doubt(), "nothing is left to be tried that could end it");
}

/// Sends one; it fails.
fn fails(window: &mut Window, gate: &mut Gate, position: i64) {
    let ticket = gate.send(Instant::now());
    window.send(&[position]);
    let round = gate.bad(ticket, Instant::now(), &Retry::new("no"));
    window.failed(&[position], &failure(round));
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_over_is_nobodys_fault_but_only_once() {
    let (mut window, mut gate) = (window(&["a", "b", "c", "d", "b", "c", "a"]), Gate::new(Pace::WEBHOOKS));
    (1..=3).for_each(|position| fails(&mut window, &mut gate, position));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(gate.may_send(Instant::now()));
    fails(&mut window, &mut gate, 2);
    tokio::time::advance(Duration::from_millis(1)).await;
    let ticket = gate.send(Instant::now());
    window.send(&[4]);
    gate.good(ticket);
    window.done(&[4]);
    window.judge(&mut gate);
    let states = |window: &Window| window.slots.iter().map(|slot| slot.state.clone()).collect::<Vec<_>>();
    use State::*;
    assert_eq!(states(&window), [Waiting, Alone, Waiting, Done, Behind, Waiting, Waiting], "it failed where another was taken");
    // The next outage is over before its second round, and the one after it is not.
    for (rounds, position) in [(1, 1), (2, 3)] {
        fails(&mut window, &mut gate, position);
        if rounds > 1 {
            tokio::time::advance(Duration::from_secs(600)).await;
            assert!(gate.may_send(Instant::now()));
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        let ticket = gate.send(Instant::now());
        gate.good(ticket);
        window.judge(&mut gate);
    }
    assert_eq!(states(&window), [Alone, Alone, Alone, Done, Behind, Behind, Behind]);
}

#[tokio::test(start_paused = true)]
async fn a_request_has_entries_in_the_order_of_the_log_and_none_whose_channel_is_held_up() {
    let (mut window, mut gate) = (window(&["a", "b", "-x", "a", "!d", "c", "b", "d"]), Gate::new(Pace::WEBHOOKS));
    let batch = |window: &Window, gate: &Gate, after, most| {
        let batch = window.next_batch(gate, after, most, Instant::now()).unwrap();
        (batch.positions, batch.full)
    };
    assert_eq!(batch(&window, &gate, 0, 100), (vec![1, 2, 4, 6, 7], false));
    assert_eq!(batch(&window, &gate, 0, 3), (vec![1, 2, 4], true));
    assert_eq!(batch(&window, &gate, 0, 1), (vec![1], true));
    assert_eq!(batch(&window, &gate, 2, 100), (vec![6], false), "what is before it is sent one by one, first");
    let ticket = gate.send(Instant::now());
    window.send(&[1]);
    let round = gate.bad(ticket, Instant::now(), &Retry::new("no"));
    window.failed(&[1], &failure(round));
    assert_eq!(batch(&window, &gate, 0, 100), (vec![2, 6, 7], false));
    assert_eq!(window.next_single(&gate, i64::MAX, Instant::now()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn large_events_do_not_come_in_one_request() {
    let mut window = Window::default();
    for position in 1..=5 {
        let event = EventRow { payload: json!({ "data": "x".repeat(100_000) }), ..entry(position, "a") };
        window.push(Delivery { event, blocked: false }, true, Instant::now());
    }
    let gate = Gate::new(Pace::WEBHOOKS);
    let batch = window.next_batch(&gate, 0, 100, Instant::now()).unwrap();
    assert_eq!((batch.positions, batch.full), (vec![1, 2], true));
}
