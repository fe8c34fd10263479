//! Malformed and unknown messages: an error object in-band, and the connection lives on. Protocol.md 1.4 and 1.7.

use serde_json::json;

use crate::support::{Ws, shared, unique};

/// Texts that are not an object with a string `event`.
const MALFORMED: [&str; 20] = [
    "not json",
    "",
    " ",
    "[]",
    "{}",
    "null",
    "true",
    "42",
    "\"pusher:ping\"",
    r#"{"event":1}"#,
    r#"{"event":null}"#,
    r#"{"event":["pusher:ping"]}"#,
    r#"{"event":{"a":1}}"#,
    r#"{"data":{}}"#,
    r#"{"event":"pusher:ping"} trailing"#,
    r#"{"event":"pusher:ping"}{"event":"pusher:ping"}"#,
    r#"{"event":"pusher:ping""#,
    r#"{'event':'pusher:ping'}"#,
    "{\"event\":\"pusher:\u{0}ping",
    r#"{"event":"\ud800"}"#,
];

fn only_error(ws: &mut Ws) -> String {
    let text = ws.error(4300);
    let leaks = ["line 1", "column", "expected value", "EOF while", "trailing characters", "invalid type", "missing field"];
    assert!(!leaks.iter().any(|leak| text.contains(leak)), "the parser speaks to clients: {text}");
    text
}

#[test]
fn a_malformed_message_is_answered_with_4300_and_the_connection_lives_on() {
    let broker = shared();
    let mut ws = broker.ws();
    for text in MALFORMED {
        ws.send_text(text);
        only_error(&mut ws);
    }
    ws.quiet();
}

#[test]
fn deeply_nested_json_is_only_a_malformed_message() {
    let broker = shared();
    let mut ws = broker.ws();
    for text in [
        "[".repeat(60_000),
        r#"{"a":"#.repeat(10_000),
        format!(r#"{{"event":"pusher:ping","data":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000)),
    ] {
        ws.send_text(&text);
        let answer = ws.event();
        assert!(matches!(answer.name(), "pusher:error" | "pusher:pong"), "{}", answer.raw);
        ws.quiet();
    }
}

#[test]
fn an_unknown_system_event_is_named_in_the_error() {
    let broker = shared();
    let mut ws = broker.ws();
    for name in [
        "pusher:nope",
        "pusher_internal:subscription_succeeded",
        "pusher:connection_established",
        "pusher:error",
        "pusher:",
        "pusher_internal:member_added",
    ] {
        ws.send(&json!({ "event": name, "data": {}, "channel": "news" }));
        assert_eq!(only_error(&mut ws), format!("Unsupported event received on socket: {name}"));
    }
    ws.quiet();
}

#[test]
fn an_event_without_the_client_prefix_is_unsupported() {
    let broker = shared();
    let mut ws = broker.ws();
    for name in ["my-event", "client", "client_typing", "Client-typing", "ping", "", " client-x"] {
        ws.send(&json!({ "event": name, "data": {}, "channel": "private-x" }));
        assert_eq!(only_error(&mut ws), format!("Unsupported event received on socket: {name}"));
    }
    ws.quiet();
}

#[test]
fn a_very_long_event_name_is_answered_and_not_relayed_in_full() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send(&json!({ "event": format!("pusher:{}", "x".repeat(50_000)) }));
    only_error(&mut ws);
    ws.quiet();
}

#[test]
fn a_subscribe_without_a_usable_channel_is_4300() {
    let broker = shared();
    let mut ws = broker.ws();
    for data in [
        json!({}),
        json!({ "channel": 1 }),
        json!({ "channel": null }),
        json!({ "channel": ["news"] }),
        json!(null),
        json!([]),
        json!(7),
        json!("not json"),
        json!("[]"),
    ] {
        ws.send(&json!({ "event": "pusher:subscribe", "data": data }));
        only_error(&mut ws);
    }
    ws.send_text(r#"{"event":"pusher:subscribe"}"#);
    only_error(&mut ws);
    ws.send_text(r#"{"event":"pusher:subscribe","channel":"news"}"#);
    only_error(&mut ws);
    ws.quiet();
}

#[test]
fn an_unsubscribe_without_a_usable_channel_is_4300() {
    let broker = shared();
    let mut ws = broker.ws();
    for data in [json!({}), json!({ "channel": 1 }), json!(null), json!("x")] {
        ws.send(&json!({ "event": "pusher:unsubscribe", "data": data }));
        only_error(&mut ws);
    }
    ws.quiet();
}

#[test]
fn unknown_fields_and_key_order_do_not_matter() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("odd-frame");
    ws.send_text(&format!(
        r#" {{ "x":[1,{{}}], "data":{{"zzz":null,"channel":"{channel}","shared_secret":"s"}}, "id":7, "event":"pusher:subscribe" }} "#
    ));
    ws.acknowledged(&channel);
    ws.quiet();
}

#[test]
fn data_may_be_double_encoded() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("double");
    let inner = json!({ "channel": channel }).to_string();
    ws.send(&json!({ "event": "pusher:subscribe", "data": inner }));
    ws.acknowledged(&channel);
    ws.send(&json!({ "event": "pusher:unsubscribe", "data": inner }));
    ws.quiet();
    broker.http().publish(&channel, "e", "1");
    ws.quiet();
}

#[test]
fn replies_come_in_the_order_of_the_frames() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("in-order");
    let frames = [
        json!({ "event": "pusher:ping" }).to_string(),
        json!({ "event": "pusher:subscribe", "data": { "channel": channel } }).to_string(),
        "bad".to_owned(),
        json!({ "event": "pusher:subscribe", "data": { "channel": "private-x" } }).to_string(),
        json!({ "event": "pusher:ping" }).to_string(),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(|text| crate::support::wire(1, text.as_bytes())).collect();
    ws.send_bytes(&bytes);
    ws.expect("pusher:pong");
    ws.acknowledged(&channel);
    ws.error(4300);
    ws.subscription_error("private-x");
    ws.expect("pusher:pong");
    ws.quiet();
}

#[test]
fn an_error_to_one_client_is_not_seen_by_another() {
    let broker = shared();
    let (mut noisy, mut neighbour) = (broker.ws(), broker.ws());
    for _ in 0..100 {
        noisy.send_text("}{");
    }
    for _ in 0..100 {
        only_error(&mut noisy);
    }
    neighbour.quiet();
}
