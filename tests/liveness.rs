//! Who is alive: protocol.md 1.3, with intervals short enough for a test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Broker, Frame, WAIT, Ws, frame, one_app, server_with, shared, wire};

/// Pings often. Whoever owes a pong is not pinged again, so that a second ping says that the first one counts as answered: for that,
/// nobody has to be fast.
fn curious() -> Broker {
    Broker::with(server_with("ping_interval = \"300ms\"\npong_timeout = \"20s\"", "client_events = true"))
}

fn impatient(pong_timeout: &str) -> Broker {
    Broker::with(server_with(&format!("ping_interval = \"300ms\"\npong_timeout = \"{pong_timeout}\""), "client_events = true"))
}

/// Reads on until the broker sends a PING frame; events on the way are passed over.
fn next_ping(ws: &mut Ws) -> Vec<u8> {
    loop {
        match ws.frame() {
            Frame::Ping(payload) => return payload,
            Frame::Text(text) => assert!(!text.contains("pusher:ping") && !text.contains("4201"), "{text}"),
            Frame::Pong(_) => {}
            other => panic!("waiting for a ping, got {other:?}"),
        }
    }
}

#[test]
fn a_client_ping_is_answered_whatever_form_it_has() {
    let broker = shared();
    let mut ws = broker.ws();
    for ping in [
        r#"{"event":"pusher:ping","data":{}}"#,
        r#"{"event": "pusher:ping"}"#,
        r#"{"event":"pusher:ping","data":""}"#,
        r#"{"data":null,"event":"pusher:ping","extra":[1]}"#,
    ] {
        ws.send_text(ping);
        let pong = ws.expect("pusher:pong");
        assert_eq!(pong.json, json!({ "event": "pusher:pong", "data": "{}" }));
    }
}

#[test]
fn a_client_pong_is_not_answered() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_text(r#"{"event":"pusher:pong","data":{}}"#);
    ws.send_text(r#"{"event":"pusher:pong"}"#);
    ws.quiet();
}

#[test]
fn a_hundred_pings_in_one_segment_get_a_hundred_pongs() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&wire(1, br#"{"event":"pusher:ping"}"#).repeat(100));
    for _ in 0..100 {
        ws.expect("pusher:pong");
    }
    ws.quiet();
}

#[test]
fn a_silent_client_is_pinged_and_then_closed_with_4201() {
    let broker = impatient("300ms");
    let started = Instant::now();
    let mut ws = broker.ws();
    assert!(matches!(ws.frame(), Frame::Ping(_)), "a PING frame comes first, not a pusher:ping");
    assert!(started.elapsed() >= Duration::from_millis(250), "pinged after {:?}", started.elapsed());
    assert_eq!(ws.refused(4201), "Pong reply not received in time");
    assert!(started.elapsed() >= Duration::from_millis(550), "closed after {:?}", started.elapsed());
    // By default it is pinged after 25 seconds, and has ten more.
    assert!(started.elapsed() < Duration::from_secs(9), "closed only after {:?}", started.elapsed());
    let mut http = broker.http();
    crate::support::until("the silent one is gone", || http.connections() == 0);
}

#[test]
fn any_inbound_frame_counts_as_life() {
    let broker = curious();
    let signs_of_life = [
        wire(10, b""),
        wire(10, b"an unasked pong"),
        wire(9, b"a ping of its own"),
        wire(1, br#"{"event":"pusher:ping"}"#),
        wire(1, br#"{"event":"pusher:pong"}"#),
        wire(1, b"not json"),
    ];
    let mut sockets: Vec<Ws> = signs_of_life.iter().map(|_| broker.ws()).collect();
    for _ in 0..4 {
        for (ws, sign) in sockets.iter_mut().zip(&signs_of_life) {
            next_ping(ws);
            ws.send_bytes(sign);
        }
    }
    for ws in &mut sockets {
        next_ping(ws);
    }
}

#[test]
fn a_piece_of_a_message_counts_as_life_before_the_message_is_whole() {
    let broker = curious();
    let mut ws = broker.ws();
    for first in [0x01, 0x00, 0x00, 0x00] {
        next_ping(&mut ws);
        ws.send_bytes(&frame(first, true, b" "));
    }
    next_ping(&mut ws);
    ws.send_bytes(&frame(0x80, true, br#"{"event":"pusher:ping"}"#));
    ws.expect("pusher:pong");
}

#[test]
fn what_the_broker_sends_does_not_count_as_life_of_the_client() {
    let broker = impatient("300ms");
    let mut ws = broker.ws();
    ws.answers_pings = false;
    ws.subscribe("busy");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut http = broker.http();
            while !done.load(Ordering::Relaxed) {
                http.publish("busy", "tick", "1");
            }
        });
        let deadline = Instant::now() + WAIT;
        let mut closed = None;
        while closed.is_none() && Instant::now() < deadline {
            if let Frame::Close(code, _) = ws.frame() {
                closed = Some(code);
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(closed, Some(Some(4201)));
    });
}

#[test]
fn a_client_that_answers_pings_lives_on_without_any_subscription() {
    let broker = curious();
    let mut ws = broker.ws();
    for _ in 0..5 {
        let payload = next_ping(&mut ws);
        ws.send_bytes(&wire(10, &payload));
    }
    ws.quiet();
}

#[test]
fn a_half_open_member_is_announced_as_gone() {
    // The watcher has to answer in this time.
    let broker = impatient("5s");
    let mut watcher = broker.ws();
    watcher.join("presence-half-open", r#"{"user_id":"watcher"}"#);
    let mut ghost = broker.ws();
    ghost.join("presence-half-open", r#"{"user_id":"ghost"}"#);
    watcher.expect("pusher_internal:member_added");
    // The ghost neither reads nor writes any more, and its socket stays open.
    watcher.expect_data("pusher_internal:member_removed", "presence-half-open", r#"{"user_id":"ghost"}"#);
    drop(ghost);
}

#[test]
fn raw_heartbeat_pairs_are_answered_before_any_parsing() {
    let broker = Broker::with(one_app("") + "[heartbeat]\nraw_pairs = [[\"~H#C~\", \"~H#S~\"], [\"ping\", \"pong\"]]\n");
    let mut ws = broker.ws();
    for (question, answer) in [("~H#C~", "~H#S~"), ("ping", "pong"), ("~H#C~", "~H#S~")] {
        ws.send_text(question);
        assert_eq!(ws.frame(), Frame::Text(answer.to_owned()));
    }
    ws.send_text("~H#C~ ");
    ws.error(4300);
    ws.quiet();
}

#[test]
fn without_a_pair_a_raw_heartbeat_is_a_malformed_message() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_text("~H#C~");
    ws.error(4300);
    ws.quiet();
}
