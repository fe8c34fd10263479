//! Which hook is called when, and what it is told (design 2.5, 3.1).

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use holdline::{
    Server,
    cluster::NewPublication,
    domain::{ConnState, Outcome},
    protocol::Member,
};
use serde_json::json;

use crate::{
    handlers::{Live, pattern, settings},
    handlers_script::{Answer, Call, Gate, Heard, Journal, Scripted, accept},
    support::{APP, Frame, WAIT, Ws, member, until, wire},
};

#[test]
fn the_life_of_a_connection_is_told_in_order() {
    let journal = Journal::new();
    let live = Live::following(&journal, |_| accept());
    let mut ws = live.ws_as("anna");
    ws.signin(r#"{"id":"42"}"#);
    ws.subscribe("private-order.7");
    ws.send(&json!({ "event": "client-typing", "channel": "private-order.7", "data": { "on": true } }));
    ws.unsubscribe("private-order.7");
    ws.send_text("nonsense");
    ws.error(4300);
    ws.send_close(1000);
    ws.closed(1000);
    journal.wait_for("close client_closed");
    let told = [
        "handshake",
        "open",
        "signin 42",
        "subscribe private-order.7",
        r#"message private-order.7 client-typing {"on":true}"#,
        "unsubscribe private-order.7",
        "error 4300",
        "close client_closed",
    ];
    assert_eq!(journal.of("anna"), told);
    assert_eq!(journal.closed("anna").hooks_before, 6, "one context went through all of it");
}

#[test]
fn a_connection_is_handshaking_then_active_then_closing() {
    let journal = Journal::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let states = Arc::clone(&seen);
    let live = Live::following(&journal, move |call| {
        states.lock().unwrap().push((call.heard.hook(), call.conn.state()));
        accept()
    });
    let mut ws = live.ws();
    ws.subscribe("news");
    drop(ws);
    journal.wait_for("close gone");
    let expected = [
        ("handshake", ConnState::Handshaking),
        ("open", ConnState::Active),
        ("subscribe", ConnState::Active),
        ("close", ConnState::Closing),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn members_are_told_and_the_channel_is_left_before_on_close_runs() {
    let journal = Journal::new();
    let server = Server::new(settings(|_| {}));
    let broker = server.broker();
    let script = move |call: &Call<'_>| {
        if let Heard::Close(closing) = &call.heard {
            let here = broker.channel_users(APP.id, &closing.channels[0]);
            let data = format!("{here:?}");
            let told = NewPublication { channels: vec!["presence-room"], event: "closed".into(), data, socket_id: None };
            broker.publish(APP.id, told).unwrap();
        }
        accept()
    };
    let live = Live::start(&journal, server.handler(Scripted::new(&journal, script)));
    let mut watcher = live.ws();
    watcher.join("presence-room", &member("watcher", None));
    let mut leaver = live.ws();
    leaver.join("presence-room", &member("leaver", None));
    watcher.expect("pusher_internal:member_added");
    drop(leaver);
    watcher.expect("pusher_internal:member_removed");
    watcher.expect_data("closed", "presence-room", r#"["watcher"]"#);
}

#[test]
fn on_open_has_its_say_right_after_connection_established() {
    let journal = Journal::new();
    let live = Live::following(&journal, |call| match &call.heard {
        Heard::Open => {
            assert!(call.conn.send_event("direct", "1"));
            Answer::Accept(Outcome::accept().push("first", 2).push("second", json!({ "n": 3 })))
        }
        _ => accept(),
    });
    let mut ws = live.ws();
    assert_eq!(ws.expect("direct").raw, r#"{"event":"direct","data":"1"}"#);
    assert_eq!(ws.expect("first").raw, r#"{"event":"first","data":"2"}"#);
    assert_eq!(ws.expect("second").raw, r#"{"event":"second","data":"{\"n\":3}"}"#);
    ws.quiet();
}

#[test]
fn frames_that_overtake_on_open_wait_for_it() {
    let journal = Journal::new();
    let gate = Gate::shut();
    let held = gate.clone();
    let live = Live::following(&journal, move |call| match &call.heard {
        Heard::Open => Answer::Wait(held.clone(), Box::new(Answer::Accept(Outcome::accept().push("welcome", 1)))),
        _ => accept(),
    });
    let mut ws = live.ws();
    ws.send_subscribe("news", None, None);
    live.http().plain("/up");
    assert_eq!(journal.lines(), ["handshake", "open"]);
    gate.let_through(1);
    ws.expect("welcome");
    ws.acknowledged("news");
    assert_eq!(journal.lines(), ["handshake", "open", "subscribe news"]);
}

#[test]
fn on_subscribe_is_asked_only_about_what_the_protocol_allows() {
    let journal = Journal::new();
    let live = Live::following(&journal, |_| accept());
    let mut ws = live.ws();
    for (channel, auth) in [
        ("private-a", None),
        ("private-a", Some("app-key:00")),
        ("presence-a", Some("app-key:00")),
        ("private-encrypted-a", Some("")),
        ("#server-to-user-42", None),
        ("no spaces", None),
    ] {
        ws.send_subscribe(channel, auth, None);
        ws.subscription_error(channel);
    }
    let foreign = APP.auth("1.1:private-a");
    ws.send_subscribe("private-a", Some(&foreign), None);
    ws.subscription_error("private-a");
    assert_eq!(journal.lines().iter().filter(|line| line.starts_with("subscribe")).count(), 0, "{:?}", journal.lines());
    ws.subscribe("private-a");
    assert_eq!(journal.count("subscribe private-a"), 1);
}

#[test]
fn on_subscribe_is_told_who_joins_and_what_was_signed() {
    let journal = Journal::new();
    let live = Live::following(&journal, |call| {
        let Heard::Subscribe(sub) = &call.heard else { return accept() };
        let told = json!({
            "channel": sub.channel.as_str(),
            "member": sub.member.as_ref().map(|Member { user_id, user_info }| json!([**user_id, user_info.as_deref()])),
            "user_id": sub.user_id.as_deref(),
            "channel_data": sub.channel_data,
            "order": sub.capture(&pattern("p*-order.{id}"), "id"),
        });
        Answer::Accept(Outcome::accept().push("told", told))
    });
    let mut ws = live.ws();
    ws.signin(r#"{"id":"42"}"#);
    ws.join("presence-order.7", r#"{"user_id":"9","user_info":{"name":"Ada"}}"#);
    let told = ws.expect("told").payload();
    let expected = json!({
        "channel": "presence-order.7",
        "member": ["9", r#"{"name":"Ada"}"#],
        "user_id": "42",
        "channel_data": r#"{"user_id":"9","user_info":{"name":"Ada"}}"#,
        "order": "7",
    });
    assert_eq!(told, expected);
    ws.subscribe("news");
    let told = ws.expect("told").payload();
    assert_eq!(told, json!({ "channel": "news", "member": null, "user_id": "42", "channel_data": null, "order": null }));
}

#[test]
fn a_channel_that_is_subscribed_already_is_acknowledged_without_asking_again() {
    let journal = Journal::new();
    let live = Live::following(&journal, |call| match &call.heard {
        Heard::Subscribe(_) => Answer::Accept(Outcome::accept().push("hello", "you")),
        _ => accept(),
    });
    let mut ws = live.ws();
    ws.subscribe("private-a");
    ws.expect("hello");
    ws.subscribe("private-a");
    ws.quiet();
    assert_eq!(journal.count("subscribe private-a"), 1);
    ws.unsubscribe("private-a");
    ws.subscribe("private-a");
    ws.expect("hello");
    assert_eq!(journal.count("subscribe private-a"), 2, "after it was left it is asked about again");
}

#[test]
fn on_message_is_asked_only_after_the_seven_checks() {
    let journal = Journal::new();
    let settings = settings(|settings| {
        settings.apps[0].limits.max_event_name = 20;
        settings.apps[0].limits.max_client_event_bytes = 100;
        settings.apps[0].limits.client_events_per_second = 1;
        settings.apps[1].client_events = false;
    });
    let live = Live::start(&journal, Server::new(settings).handler(Scripted::agreeing(&journal)));
    let mut ws = live.ws();
    ws.subscribe("private-a");
    ws.subscribe("news");
    let long = "x".repeat(101);
    for (event, channel, data, code) in [
        ("typing", "private-a", "1", 4300),
        ("client-a", "news", "1", 4009),
        ("client-a", "private-b", "1", 4009),
        ("client-a-name-that-is-too-long", "private-a", "1", 4301),
        ("client-a", "private-a", &long, 4301),
    ] {
        ws.send(&json!({ "event": event, "channel": channel, "data": data }));
        ws.error(code);
    }
    let mut silenced = Ws::open_at(live.address, "/app/other-key?protocol=7", &[]);
    silenced.send(&json!({ "event": "client-a", "channel": "private-a", "data": "1" }));
    silenced.error(4301);
    let heard = |journal: &Journal| journal.lines().into_iter().filter(|line| line.starts_with("message")).collect::<Vec<_>>();
    assert_eq!(heard(&journal), Vec::<String>::new());
    // In one piece: a second later there would be a token again.
    let event = |name: &str, data: &str| wire(1, json!({ "event": name, "channel": "private-a", "data": data }).to_string().as_bytes());
    ws.send_bytes(&[event("client-a", "1"), event("client-b", "2")].concat());
    assert_eq!(ws.error(4301), "The rate limit for sending client events exceeded the quota.");
    assert_eq!(heard(&journal), ["message private-a client-a 1"]);
}

#[test]
fn on_unsubscribe_is_told_only_of_channels_that_were_subscribed() {
    let journal = Journal::new();
    let live = Live::following(&journal, |call| match &call.heard {
        Heard::Unsubscribe(_) => Answer::Accept(Outcome::accept().push("bye", "you")),
        _ => accept(),
    });
    let mut ws = live.ws();
    ws.unsubscribe("news");
    ws.quiet();
    ws.subscribe("news");
    ws.unsubscribe("news");
    assert_eq!(ws.expect("bye").channel(), None, "the channel is left: the event belongs to the connection");
    ws.unsubscribe("news");
    ws.quiet();
    assert_eq!(journal.lines()[2..], ["subscribe news", "unsubscribe news"]);
}

/// The payload of the next ping; and what was answered before it.
fn pinged(ws: &mut Ws) -> (Vec<u8>, usize) {
    let mut answers = 0;
    loop {
        match ws.frame() {
            Frame::Ping(payload) => return (payload, answers),
            Frame::Text(_) => answers += 1,
            other => panic!("expected a ping, got {other:?}"),
        }
    }
}

#[test]
fn on_pong_gets_the_round_trip_of_a_ping_of_ours_and_of_nothing_else() {
    let journal = Journal::new();
    let round_trips = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&round_trips);
    let script = move |call: &Call<'_>| {
        if let Heard::Pong(round_trip) = &call.heard {
            seen.lock().unwrap().push(*round_trip);
        }
        accept()
    };
    let settings = settings(|settings| settings.server.ping_interval = Duration::from_millis(300));
    let live = Live::start(&journal, Server::new(settings).handler(Scripted::new(&journal, script)));
    let mut ws = live.ws();
    ws.answers_pings = false;
    ws.send_bytes(&wire(10, b"nobody asked"));
    ws.send_text(r#"{"event":"pusher:ping"}"#);
    // On a slow machine the ping may come before the answer to ours.
    let (payload, answers) = pinged(&mut ws);
    if answers == 0 {
        ws.expect("pusher:pong");
    }
    assert_eq!(journal.count("pong"), 0);
    let asked_at = Instant::now();
    live.http().plain("/up");
    let held_for = asked_at.elapsed();
    ws.send_bytes(&wire(10, &payload));
    ws.send_bytes(&wire(10, b"and once more"));
    ws.quiet();
    let round_trips = round_trips.lock().unwrap();
    assert!(round_trips.len() == 1 && round_trips[0] >= held_for && round_trips[0] < WAIT, "{round_trips:?}");
}

#[test]
fn on_error_hears_what_the_client_is_told() {
    let journal = Journal::new();
    let live = Live::following(&journal, |_| accept());
    let mut ws = live.ws();
    ws.send_text("nonsense");
    ws.error(4300);
    ws.send(&json!({ "event": "pusher:signin", "data": { "auth": "app-key:00", "user_data": "{\"id\":\"42\"}" } }));
    ws.error(4009);
    ws.send(&json!({ "event": "client-a", "channel": "private-a", "data": "1" }));
    ws.error(4009);
    ws.send_subscribe("private-a", None, None);
    ws.subscription_error("private-a");
    ws.quiet();
    assert_eq!(journal.lines()[2..], ["error 4300", "error 4009", "error 4009", "error 4300"]);
    ws.send_close(1000);
    ws.closed(1000);
    until("the close is told", || journal.closes().len() == 1);
    assert_eq!(journal.lines().len(), 7, "an ordinary close is no error: {:?}", journal.lines());
}
