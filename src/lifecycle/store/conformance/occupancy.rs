//! Who is on which channels: what is told, once, in order, whichever node dies.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::harness::Case;
use crate::lifecycle::store::*;

/// Long enough for a test to look before it is over.
pub(super) const DELAY: Duration = Duration::from_secs(3600);
pub(super) const NO_DELAY: Duration = Duration::ZERO;

/// `+room`, `-room`, `+room/ann`, `-room/ann`; all else is an event on the channel `room`.
fn sighting(word: &str) -> Sighting {
    let (sign, key) = word.split_at(1);
    let (channel, member) = match key.split_once('/') {
        Some((channel, member)) => (channel.to_owned(), Some(member.to_owned())),
        None => (key.to_owned(), None),
    };
    match sign {
        "+" => Sighting::Present { channel, member },
        "-" => Sighting::Absent { channel, member },
        _ => Sighting::Event { name: "client_event".to_owned(), channel: "room".to_owned(), payload: json!({ "event": word }) },
    }
}

pub(super) fn batch(number: i64, delay: Duration, words: &[&str]) -> Sightings {
    Sightings { app: "app".to_owned(), number, delay, seen: words.iter().map(|word| sighting(word)).collect() }
}

/// An entry as the words above: `+room/ann` is a member that was added.
pub(super) fn word(event: &EventRow) -> String {
    let user_id = event.payload["user_id"].as_str();
    let member = user_id.map(|user_id| format!("/{user_id}")).unwrap_or_default();
    match (event.event_type.as_str(), user_id) {
        ("channel_occupied", None) | ("member_added", Some(_)) => format!("+{}{member}", event.resource),
        ("channel_vacated", None) | ("member_removed", Some(_)) => format!("-{}{member}", event.resource),
        ("client_event", None) => event.payload["event"].as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

impl Case {
    pub(super) async fn record(&self, node: Incarnation, batch: &Sightings) {
        self.store.record(node, batch).await.unwrap();
    }

    async fn told(&self) -> Vec<String> {
        let log = self.log().await;
        assert!(log.iter().all(|event| event.kind == EventKind::Webhook && event.app == "app" && event.fence.is_none()));
        log.iter().map(word).collect()
    }

    /// Sweeps in passes of so much, until a pass finds less.
    pub(super) async fn sweep_by(&self, by: Incarnation, limit: u32) {
        for shard in self.store.due_shards().await.unwrap() {
            loop {
                match self.store.sweep(by, shard, limit).await.unwrap() {
                    Swept::Done(count) if count >= limit => {}
                    Swept::Done(_) => break,
                    Swept::Busy => panic!("nobody else sweeps"),
                }
            }
        }
    }
}

pub(super) async fn the_first_node_occupies_and_the_last_vacates(case: Case) {
    let (one, two) = (case.node, case.another_node("node-2").await);
    case.record(one, &batch(1, NO_DELAY, &["+room", "+room/ann"])).await;
    case.record(two, &batch(1, NO_DELAY, &["+room", "+room/ann", "+room/ben"])).await;
    case.record(one, &batch(2, NO_DELAY, &["-room/ann", "-room"])).await;
    assert_eq!(case.told().await, ["+room", "+room/ann", "+room/ben"]);
    case.record(two, &batch(2, NO_DELAY, &["-room/ben", "-room/ann", "-room"])).await;
    assert_eq!(case.told().await[3..], ["-room/ben", "-room/ann", "-room"]);
    let log = case.log().await;
    assert_eq!(log[0].payload, json!({}));
    assert_eq!(log[1].payload, json!({ "user_id": "ann" }));
    assert_eq!((log[0].incarnation, log[2].incarnation), (Some(one), Some(two)));
    assert!(case.store.due_shards().await.unwrap().is_empty());
    case.check().await;
}

pub(super) async fn who_comes_back_within_the_delay_was_never_gone(case: Case) {
    let node = case.node;
    case.record(node, &batch(1, DELAY, &["+room", "+room/ann"])).await;
    case.record(node, &batch(2, DELAY, &["-room/ann", "-room"])).await;
    assert!(case.store.due_shards().await.unwrap().is_empty());
    case.record(node, &batch(3, DELAY, &["+room", "+room/ann", "-room/ann", "+room/ann"])).await;
    case.end_delays().await;
    case.sweep().await;
    assert_eq!(case.told().await, ["+room", "+room/ann"], "nothing ran when the delays ended");
    // Away again, for longer; and a short visit of another counts from its end.
    case.record(node, &batch(4, DELAY, &["-room/ann", "-room", "+hall", "-hall"])).await;
    assert_eq!(case.told().await[2..], ["+hall"]);
    case.end_delays().await;
    assert_eq!(case.store.due_shards().await.unwrap(), [Shard::of_webhooks("app", case.shards())]);
    case.sweep().await;
    let mut told = case.told().await.split_off(3);
    assert_eq!(told.remove(0), "-room/ann");
    told.sort();
    assert_eq!(told, ["-hall", "-room"]);
    case.sweep().await;
    case.record(node, &batch(5, DELAY, &["+room"])).await;
    assert_eq!(case.told().await[6..], ["+room"], "it is gone, so it comes anew");
    case.check().await;
}

pub(super) async fn without_a_delay_every_change_is_told_at_once(case: Case) {
    case.record(case.node, &batch(1, NO_DELAY, &["+room", "-room", "+room", "-room", "-room", "+room", "+room"])).await;
    assert_eq!(case.told().await, ["+room", "-room", "+room", "-room", "+room"]);
    // The delay was taken out of the configuration while it ran.
    case.record(case.node, &batch(2, DELAY, &["-room"])).await;
    case.record(case.node, &batch(3, NO_DELAY, &["+room", "-room", "+room"])).await;
    assert_eq!(case.told().await[5..], ["-room", "+room"]);
    assert!(case.store.due_shards().await.unwrap().is_empty());
}

pub(super) async fn a_channel_is_told_before_its_members_and_after_them(case: Case) {
    case.record(case.node, &batch(1, DELAY, &["+room", "+room/ann", "+room/ben", "+room/cat"])).await;
    case.record(case.node, &batch(2, DELAY, &["-room/cat", "-room/ben", "-room/ann", "-room"])).await;
    case.end_delays().await;
    case.sweep_by(case.node, 1).await;
    let mut told = case.told().await;
    assert_eq!(told[..4], ["+room", "+room/ann", "+room/ben", "+room/cat"]);
    assert_eq!(told.pop().unwrap(), "-room");
    told[4..].sort();
    assert_eq!(told[4..], ["-room/ann", "-room/ben", "-room/cat"]);
    case.check().await;
}

pub(super) async fn a_dead_node_vacates_once_whatever_the_limit_of_a_sweep(case: Case) {
    let (one, two, three) = (case.node, case.another_node("node-2").await, case.another_node("node-3").await);
    for (node, number) in [(two, 1), (three, 1)] {
        let rooms = ["+a", "+a/x", "+a/y", "+b", "+b/x", "+c", "+d", "+d/y", "+d/z"];
        case.record(node, &batch(number, DELAY, &rooms)).await;
    }
    case.record(one, &batch(1, DELAY, &["+c"])).await;
    let before = case.told().await.len();
    assert!(case.store.deregister(two).await.unwrap());
    case.sweep_by(one, 2).await;
    assert_eq!(case.store.finish_dead(one).await.unwrap(), 1);
    case.end_delays().await;
    case.sweep_by(one, 2).await;
    assert_eq!(case.told().await.len(), before, "the others are still there");
    assert!(case.store.deregister(three).await.unwrap());
    assert_eq!(case.store.finish_dead(one).await.unwrap(), 0, "something of it is left");
    case.sweep_by(one, 2).await;
    assert_eq!(case.told().await.len(), before, "the delay has only begun");
    case.end_delays().await;
    case.sweep_by(one, 2).await;
    assert_eq!(case.store.finish_dead(one).await.unwrap(), 1);
    let told = case.told().await.split_off(before);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len(), "once each: {told:?}");
    let place = |word: &str| told.iter().position(|told| told == word).unwrap_or_else(|| panic!("no {word} in {told:?}"));
    assert_eq!(told.len(), 8, "{told:?}");
    for (member, channel) in [("-a/x", "-a"), ("-a/y", "-a"), ("-b/x", "-b"), ("-d/y", "-d"), ("-d/z", "-d")] {
        assert!(place(member) < place(channel), "{told:?}");
    }
    case.check().await;
}

pub(super) async fn a_restart_is_told_only_if_it_outlasts_the_delay(case: Case) {
    case.record(case.node, &batch(7, DELAY, &["+room", "+room/ann", "+hall"])).await;
    assert!(case.store.deregister(case.node).await.unwrap());
    let next = case.another_node("node-1").await;
    case.store.deregister(case.node).await.unwrap();
    // Its own numbers begin anew. Some come back before the sweep, some after it, some not in time.
    case.record(next, &batch(1, DELAY, &["+room"])).await;
    case.sweep_by(next, 100).await;
    case.record(next, &batch(2, DELAY, &["+room/ann"])).await;
    case.end_delays().await;
    case.sweep_by(next, 100).await;
    case.record(next, &batch(3, DELAY, &["+hall"])).await;
    assert_eq!(case.told().await, ["+room", "+room/ann", "+hall", "-hall", "+hall"]);
    // Without a delay, the sweep itself tells.
    case.record(next, &batch(4, NO_DELAY, &["+lobby", "+lobby/ann"])).await;
    let last = case.another_node("node-1").await;
    case.store.deregister(next).await.unwrap();
    case.sweep_by(last, 100).await;
    assert_eq!(case.told().await[5..], ["+lobby", "+lobby/ann", "-lobby/ann", "-lobby"]);
    case.check().await;
}

pub(super) async fn a_batch_is_recorded_once(case: Case) {
    let two = case.another_node("node-2").await;
    let first = batch(5, NO_DELAY, &["+room", "hello"]);
    case.record(case.node, &first).await;
    case.record(case.node, &first).await;
    case.record(case.node, &batch(4, NO_DELAY, &["-room"])).await;
    assert_eq!(case.told().await, ["+room", "hello"]);
    // The number is the node's, over all apps.
    let other_app = Sightings { app: "other".to_owned(), ..batch(5, NO_DELAY, &["+room"]) };
    case.record(case.node, &other_app).await;
    assert_eq!(case.log().await.len(), 2);
    case.record(two, &batch(1, NO_DELAY, &["+hall"])).await;
    case.record(case.node, &batch(9, NO_DELAY, &["-room"])).await;
    assert_eq!(case.told().await, ["+room", "hello", "+hall", "-room"]);
    case.check().await;
}

pub(super) async fn a_fenced_node_records_nothing(case: Case) {
    let two = case.another_node("node-2").await;
    case.record(two, &batch(1, NO_DELAY, &["+room"])).await;
    case.store.deregister(two).await.unwrap();
    let late = case.store.record(two, &batch(2, NO_DELAY, &["-room", "+hall"])).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    assert_eq!(case.told().await, ["+room"]);
    case.sweep().await;
    assert_eq!(case.told().await, ["+room", "-room"]);
    let late = case.store.record(two, &batch(3, NO_DELAY, &["+hall"])).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
}

pub(super) async fn events_stand_where_they_happened(case: Case) {
    case.record(case.node, &batch(1, DELAY, &["before", "+room", "hello", "+room/ann", "still here"])).await;
    assert_eq!(case.told().await, ["before", "+room", "hello", "+room/ann", "still here"]);
    let payload = json!({ "event": "client-\"q\"", "data": "{\"n\":1.0,\"é\":[]}", "socket_id": "1.2", "n": 9_007_199_254_740_993_i64 });
    let event = Sighting::Event { name: "client_event".to_owned(), channel: "room".to_owned(), payload: payload.clone() };
    case.record(case.node, &Sightings { seen: vec![event], ..batch(2, DELAY, &[]) }).await;
    let last = case.log().await.pop().unwrap();
    assert_eq!((last.event_type.as_str(), last.resource.as_str(), last.payload), ("client_event", "room", payload));
    case.record(case.node, &batch(3, DELAY, &[])).await;
    case.check().await;
}

pub(super) async fn what_cannot_be_recorded_is_refused_and_named(case: Case) {
    let there = |channel: &str, member: Option<&str>| Sighting::Present { channel: channel.to_owned(), member: member.map(str::to_owned) };
    let happens = |name: &str, payload: Value| Sighting::Event { name: name.to_owned(), channel: "room".to_owned(), payload };
    let bad = [
        there("", None),
        there(&"x".repeat(513), None),
        there("ro\0om", None),
        there("room", Some("")),
        there("room", Some(&"x".repeat(1_025))),
        happens("", json!({})),
        happens("client_event", json!({ "data": "\0" })),
        happens("client_event", json!({ "data": "x".repeat(1_048_576) })),
    ];
    for bad in bad {
        assert!(bad.validate().is_err(), "{bad:?}");
        let mut sightings = batch(1, NO_DELAY, &["+room"]);
        sightings.seen.push(bad);
        let refused = case.store.record(case.node, &sightings).await;
        assert!(matches!(&refused, Err(error @ StoreError::Invalid(_)) if !error.is_retryable()), "{refused:?}");
    }
    assert!(case.told().await.is_empty());
    // What just passes. The number has not been used up.
    let seen = vec![
        there(&"é".repeat(256), Some(&"'\\\"".repeat(341))),
        happens("client_event", json!({ "event": "e", "d": "x".repeat(1_048_000) })),
    ];
    for sighting in &seen {
        sighting.validate().unwrap();
    }
    case.record(case.node, &Sightings { seen, delay: Duration::MAX, ..batch(1, DELAY, &[]) }).await;
    let log = case.log().await;
    assert_eq!((log.len(), log[0].payload["user_id"].as_str().unwrap().len()), (2, 1_023));
}

pub(super) async fn a_clock_that_was_set_back_makes_no_delay_longer(case: Case) {
    case.record(case.node, &batch(1, DELAY, &["+room", "+room/ann", "-room/ann", "-room"])).await;
    case.tamper("occupancy", "vacant_until = {time}", DELAY * 2).await;
    assert_eq!(case.store.due_shards().await.unwrap().len(), 1);
    case.sweep().await;
    assert!(case.store.due_shards().await.unwrap().is_empty(), "it begins anew");
    case.end_delays().await;
    case.sweep().await;
    assert_eq!(case.told().await, ["+room", "+room/ann", "-room/ann", "-room"]);
}

pub(super) async fn a_channel_waits_for_members_with_a_longer_delay(case: Case) {
    case.record(case.node, &batch(1, DELAY, &["+room", "+room/ann", "-room/ann"])).await;
    case.record(case.node, &batch(2, Duration::from_millis(1), &["-room"])).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    case.sweep().await;
    assert_eq!(case.told().await, ["+room", "+room/ann"]);
    case.end_delays().await;
    for _ in 0..2 {
        case.sweep().await;
    }
    assert_eq!(case.told().await[2..], ["-room/ann", "-room"]);
}

pub(super) async fn a_thousand_members_join_and_leave(case: Case) {
    let mut number = 0;
    let mut in_batches = async |words: Vec<String>| {
        for words in words.chunks(256) {
            number += 1;
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            case.record(case.node, &batch(number, DELAY, &words)).await;
        }
    };
    let joined: Vec<_> = std::iter::once("+room".to_owned()).chain((0..1_000).map(|n| format!("+room/{n}"))).collect();
    in_batches(joined.clone()).await;
    assert_eq!(case.told().await, joined);
    in_batches((0..1_000).map(|n| format!("-room/{n}")).chain(["-room".to_owned()]).collect()).await;
    case.end_delays().await;
    case.sweep_by(case.node, 300).await;
    let told = case.told().await.split_off(1_001);
    assert_eq!((told.len(), told.last().map(String::as_str)), (1_001, Some("-room")));
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 1_001);
    case.check().await;
}
