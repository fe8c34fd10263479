//! Cache channels: protocol.md 2.8.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Broker, OTHER, WAIT, Ws, in_one_of, one_app, shared, unique, until};

#[test]
fn on_every_cache_kind_a_subscriber_gets_a_miss_first_and_the_last_event_later() {
    let broker = shared();
    for prefix in ["cache-", "private-cache-", "presence-cache-", "private-encrypted-cache-"] {
        let channel = unique(&format!("{prefix}stock"));
        let mut early = broker.ws();
        early.enter(&channel);
        let miss = early.event();
        assert_eq!(miss.json, json!({ "event": "pusher:cache_miss", "channel": channel, "data": "{}" }));
        broker.http().publish(&channel, "price", r#"{"v":1}"#);
        broker.http().publish(&channel, "price", r#"{"v":2}"#);
        early.expect_data("price", &channel, r#"{"v":1}"#);
        early.expect_data("price", &channel, r#"{"v":2}"#);
        let mut late = broker.ws();
        late.enter(&channel);
        let replay = late.event();
        assert_eq!(replay.json, json!({ "event": "price", "channel": channel, "data": r#"{"v":2}"# }), "like a live event");
        late.quiet();
    }
}

#[test]
fn channels_of_other_kinds_remember_nothing() {
    let broker = shared();
    for stem in ["news", "private-stock", "presence-stock", "private-encrypted-stock", "cachet", "my-cache-x", "privatecache-x"] {
        let channel = unique(stem);
        broker.http().publish(&channel, "price", "1");
        let mut ws = broker.ws();
        ws.enter(&channel);
        ws.quiet();
    }
}

#[test]
fn an_event_is_remembered_without_any_subscriber_and_after_all_have_left() {
    let broker = shared();
    let channel = unique("cache-alone");
    let mut http = broker.http();
    http.publish(&channel, "price", "1");
    for _ in 0..2 {
        let mut ws = broker.ws();
        ws.enter(&channel);
        ws.expect_data("price", &channel, "1");
        drop(ws);
        until("the channel is vacated", || http.subscribers(&channel) == 0);
    }
}

#[test]
fn an_excluded_socket_still_finds_the_event_in_the_cache() {
    let broker = shared();
    let channel = unique("cache-except");
    let mut ws = broker.ws();
    ws.enter(&channel);
    ws.expect("pusher:cache_miss");
    let body = json!({ "name": "price", "channel": channel, "data": "1", "socket_id": ws.socket_id });
    assert_eq!(broker.http().trigger(&body).json(), json!({}));
    ws.quiet();
    ws.unsubscribe(&channel);
    ws.enter(&channel);
    ws.expect_data("price", &channel, "1");
}

#[test]
fn a_repeated_subscribe_is_not_a_replay() {
    let broker = shared();
    let channel = unique("cache-again");
    broker.http().publish(&channel, "price", "1");
    let mut ws = broker.ws();
    ws.enter(&channel);
    ws.expect_data("price", &channel, "1");
    ws.enter(&channel);
    ws.quiet();
}

#[test]
fn a_client_event_never_enters_the_cache() {
    let broker = shared();
    for prefix in ["private-cache-", "presence-cache-"] {
        let channel = unique(&format!("{prefix}chat"));
        let (mut sender, mut receiver) = (broker.ws(), broker.ws());
        sender.enter(&channel);
        sender.expect("pusher:cache_miss");
        receiver.enter(&channel);
        receiver.expect("pusher:cache_miss");
        sender.send(&json!({ "event": "client-x", "channel": channel, "data": "live only" }));
        assert_eq!(receiver.expect("client-x").data(), "live only");
        let mut late = broker.ws();
        late.enter(&channel);
        late.expect("pusher:cache_miss");
    }
}

#[test]
fn system_events_never_enter_the_cache() {
    let broker = shared();
    let channel = unique("presence-cache-system");
    broker.http().publish(&channel, "price", "1");
    let (mut one, mut two) = (broker.ws(), broker.ws());
    for ws in [&mut one, &mut two] {
        ws.enter(&channel);
        ws.expect_data("price", &channel, "1");
    }
    one.expect("pusher_internal:member_added");
    one.quiet();
}

#[test]
fn empty_data_and_batches_are_remembered_too() {
    let broker = shared();
    let (one, two) = (unique("cache-batch"), unique("cache-batch"));
    let batch = json!({ "batch": [
        { "channel": one, "name": "e", "data": "first" },
        { "channel": two, "name": "e", "data": "second" },
        { "channel": one, "name": "e", "data": "" },
    ] });
    assert_eq!(broker.http().post("/batch_events", batch.to_string()).json(), json!({}));
    let mut ws = broker.ws();
    ws.enter(&one);
    ws.expect_data("e", &one, "");
    ws.enter(&two);
    ws.expect_data("e", &two, "second");
}

#[test]
fn a_refused_subscriber_gets_neither_the_event_nor_the_miss() {
    let broker = shared();
    let channel = unique("private-cache-secret");
    broker.http().publish(&channel, "price", "1");
    let mut ws = broker.ws();
    ws.send_subscribe(&channel, None, None);
    ws.subscription_error(&channel);
    ws.quiet();
}

#[test]
fn the_same_channel_of_another_app_has_a_cache_of_its_own() {
    let other = format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n", OTHER.id, OTHER.key, OTHER.secret);
    let broker = Broker::with(one_app("") + &other);
    broker.http().publish("cache-x", "price", "1");
    let mut ws = Ws::open_at(broker.address(), "/app/other-key?protocol=7", &[]);
    ws.send_subscribe("cache-x", None, None);
    ws.acknowledged("cache-x");
    ws.expect("pusher:cache_miss");
}

#[test]
fn an_event_is_forgotten_after_the_ttl_which_every_publish_restarts() {
    const TTL: Duration = Duration::from_millis(1_500);
    let broker = Broker::with(one_app("[apps.limits]\ncache_ttl = \"1500ms\""));
    let (mut http, mut ws) = (broker.http(), broker.ws());
    let cached = |ws: &mut Ws| {
        ws.enter("cache-short");
        let name = ws.event().name().to_owned();
        ws.unsubscribe("cache-short");
        ws.quiet();
        assert!(matches!(name.as_str(), "price" | "pusher:cache_miss"), "{name}");
        name == "price"
    };
    // It was published between `before` and `after`: it must be there until `before` is that old, and may be after that.
    let mut publish = |data: &str| {
        let before = Instant::now();
        http.publish("cache-short", "price", data);
        (before, Instant::now())
    };
    // A machine that stands still may let the time pass in which the restart can be seen.
    in_one_of(10, || {
        let (before, first) = publish("1");
        while first.elapsed() < TTL / 2 {
            assert!(cached(&mut ws) || before.elapsed() >= TTL, "forgotten before {:?}", before.elapsed());
        }
        let (before, _) = publish("2");
        let mut restarted = false;
        loop {
            let asked = first.elapsed();
            if !cached(&mut ws) {
                assert!(before.elapsed() >= TTL, "forgotten before {:?}", before.elapsed());
                break;
            }
            restarted |= asked >= TTL;
            assert!(before.elapsed() < WAIT, "never forgotten");
        }
        if restarted { Ok(()) } else { Err("nobody asked between the end of the first time and that of the second".to_owned()) }
    });
}

#[test]
fn a_subscriber_during_publishing_sees_no_event_twice_and_none_out_of_order() {
    let broker = shared();
    let channel = unique("cache-race");
    let mut http = broker.http();
    http.publish(&channel, "n", "0");
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut http = broker.http();
            for at in 1..=400 {
                http.publish(&channel, "n", &at.to_string());
            }
        });
        for _ in 0..20 {
            let mut ws = broker.ws();
            ws.enter(&channel);
            let mut last = ws.expect("n").data().parse::<u32>().unwrap();
            for _ in 0..5 {
                if last == 400 {
                    break;
                }
                let next = ws.expect("n").data().parse::<u32>().unwrap();
                assert_eq!(next, last + 1, "replay and live events join without a seam");
                last = next;
            }
        }
        publisher.join().unwrap();
    });
}
