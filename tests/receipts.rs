//! Receipts: a client event with an `id` is answered, and delivered once. See docs::receipts.

use std::time::Duration;

use holdline::{
    Server,
    domain::Reject,
    protocol::{CloseCode, SocketId},
};
use serde_json::{Value, json};

use crate::handlers::{Live, close_frame, settings};
use crate::handlers_script::{Answer, Gate, Heard, Journal, Scripted, accept};
use crate::support::{APP, Broker, Frame, Ws, member, one_app, scrape::Scrape, shared, until, wire};

const ADA: &str = r#"{"id":"ada"}"#;
const BAD_ID: &str = "The id of a client event must be a string of 1 to 64 bytes, or an integer of 64 bits";

/// Receipts that are remembered for so long, and no limit of the rate.
fn with_receipts(window: &str) -> Broker {
    Broker::with(format!(
        "[metrics]\nbind = \"127.0.0.1:0\"\n{}",
        one_app(&format!(
            "client_events = true\nreceipts = true\n[apps.limits]\nclient_events_per_second = 0\nreceipt_window = \"{window}\""
        ))
    ))
}

fn long() -> Broker {
    with_receipts("10m")
}

fn event(channel: &str, id: &Value, data: &str) -> String {
    json!({ "event": "client-x", "channel": channel, "data": data, "id": id }).to_string()
}

/// What the next frame says of an event; it must be an acknowledgement on this channel.
fn ack(ws: &mut Ws, channel: Option<&str>) -> Value {
    let event = ws.expect("holdline:ack");
    assert_eq!(event.channel(), channel, "{}", event.raw);
    event.payload()
}

fn answered(ws: &mut Ws, channel: &str, id: &Value, status: &str) {
    assert_eq!(ack(ws, Some(channel)), json!({ "id": id, "status": status }));
}

/// A connection that is signed in as Ada, and subscribed.
fn ada(broker: &Broker, channel: &str) -> Ws {
    let mut ws = broker.ws();
    ws.signin(ADA);
    ws.subscribe(channel);
    ws
}

#[test]
fn an_event_with_an_id_is_acknowledged_and_a_second_one_is_not_delivered() {
    let broker = long();
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    sender.subscribe("private-a");
    receiver.subscribe("private-a");
    for id in [json!("msg-1"), json!(1), json!("1"), json!(-7), json!("é\" \\ 🦀"), json!("x".repeat(64)), json!(i64::MAX)] {
        sender.send_text(&event("private-a", &id, "first"));
        answered(&mut sender, "private-a", &id, "ok");
        receiver.expect_data("client-x", "private-a", "first");
        for _ in 0..3 {
            sender.send_text(&event("private-a", &id, "again"));
            answered(&mut sender, "private-a", &id, "dup");
        }
    }
    sender.quiet();
    receiver.quiet();
    let raw = {
        sender.send_text(&event("private-a", &json!("raw"), "x"));
        sender.event().raw
    };
    assert_eq!(raw, r#"{"event":"holdline:ack","channel":"private-a","data":"{\"id\":\"raw\",\"status\":\"ok\"}"}"#);
    let scrape = Scrape::of(&broker);
    let count = |status| scrape.value("holdline_receipts_total", &[("app_id", APP.id), ("status", status)]);
    assert_eq!((count("ok"), count("dup"), count("error")), (8.0, 21.0, 0.0));
    assert_eq!(scrape.value("holdline_receipt_ids", &[("app_id", APP.id)]), 8.0);
}

#[test]
fn who_asks_for_no_receipt_gets_none_and_members_keep_their_user_id() {
    let broker = long();
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    sender.join("presence-a", &member("42", None));
    receiver.join("presence-a", &member("7", None));
    sender.expect("pusher_internal:member_added");
    for text in [
        r#"{"event":"client-x","channel":"presence-a","data":"1"}"#,
        r#"{"event":"client-x","channel":"presence-a","data":"1"}"#,
        r#"{"event":"client-x","channel":"presence-a","data":"1","id":null}"#,
    ] {
        sender.send_text(text);
        sender.quiet();
        receiver.expect("client-x");
    }
    sender.send_text(&event("presence-a", &json!(1), "2"));
    answered(&mut sender, "presence-a", &json!(1), "ok");
    let event = receiver.event();
    assert_eq!(event.json, json!({ "event": "client-x", "channel": "presence-a", "data": "2", "user_id": "42" }), "no id goes out");
}

/// Also where the `id` is none, or there are two: nobody looks.
#[test]
fn without_receipts_an_id_means_nothing() {
    let broker = shared();
    let channel = crate::support::unique("private-no-receipts");
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    sender.subscribe(&channel);
    receiver.subscribe(&channel);
    for id in [r#""a""#, r#""a""#, "1.5", "{}", r#"1,"id":2"#] {
        sender.send_text(&format!(r#"{{"event":"client-x","channel":"{channel}","id":{id},"data":"1"}}"#));
        sender.quiet();
        assert_eq!(receiver.event().raw, format!(r#"{{"event":"client-x","channel":"{channel}","data":"1"}}"#));
    }
    sender.send_text(r#"{"event":"client-x","id":1}"#);
    sender.error(4300);
    sender.quiet();
}

#[test]
fn an_id_that_is_none_is_refused_by_name_and_limit() {
    let broker = long();
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    sender.subscribe("private-a");
    receiver.subscribe("private-a");
    let long = format!("\"{}\"", "x".repeat(65));
    for id in ["\"\"", &long, "1.5", "1e3", "9223372036854775808", "true", "[1]", "{}", r#"1,"id":1"#] {
        sender.send_text(&format!(r#"{{"event":"client-x","channel":"private-a","data":1,"id":{id}}}"#));
        assert_eq!(sender.error(4301), BAD_ID, "{id}");
    }
    sender.quiet();
    receiver.quiet();
    assert_eq!(Scrape::of(&broker).value("holdline_client_events_refused_total", &[("app_id", APP.id), ("reason", "id")]), 9.0);
}

#[test]
fn a_refused_event_is_answered_with_its_reason_and_may_be_sent_again() {
    let limits = "[apps.limits]\nreceipt_window = \"10m\"\nclient_events_per_second = 1";
    let broker = Broker::with(one_app(&format!("client_events = true\nreceipts = true\n{limits}")));
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    receiver.subscribe("private-a");
    let id = json!("only-one");
    let refused = |sender: &mut Ws, text: &str, channel: Option<&str>, code: u16| {
        sender.send_text(text);
        let message = sender.error(code);
        assert_eq!(ack(sender, channel), json!({ "id": id, "status": "error", "code": code, "message": message }));
    };
    let with = |name: &str, channel: &str, data: &str| json!({ "event": name, "channel": channel, "data": data, "id": id }).to_string();
    refused(&mut sender, &with("client-x", "private-a", ""), Some("private-a"), 4009);
    sender.subscribe("private-a");
    sender.subscribe("private-encrypted-a");
    refused(&mut sender, &with("client-x", "news", ""), Some("news"), 4009);
    refused(&mut sender, &with("client-x", "private-encrypted-a", ""), None, 4009);
    refused(&mut sender, &with("client-x", "no channel", ""), None, 4009);
    refused(&mut sender, &with(&format!("client-{}", "x".repeat(200)), "private-a", ""), Some("private-a"), 4301);
    refused(&mut sender, &with("client-x", "private-a", &"x".repeat(10_241)), Some("private-a"), 4301);
    refused(&mut sender, &json!({ "event": "client-x", "id": id }).to_string(), None, 4300);
    receiver.quiet();
    // The rate: one other takes all there is for a second, and the next event is refused.
    let other = wire(1, event("private-a", &json!(3), "x").as_bytes());
    sender.send_bytes(&[other, wire(1, event("private-a", &id, "at last").as_bytes())].concat());
    answered(&mut sender, "private-a", &json!(3), "ok");
    receiver.expect("client-x");
    let message = sender.error(4301);
    assert_eq!(ack(&mut sender, Some("private-a")), json!({ "id": id, "status": "error", "code": 4301, "message": message }));
    // A duplicate is told so even now: it costs nothing of the rate.
    for _ in 0..20 {
        sender.send_text(&event("private-a", &json!(3), "again"));
        answered(&mut sender, "private-a", &json!(3), "dup");
    }
    until("there is a token again", || {
        sender.send_text(&event("private-a", &id, "at last"));
        let event = sender.event();
        if event.name() == "pusher:error" {
            assert_eq!(ack(&mut sender, Some("private-a"))["status"], "error");
            return false;
        }
        assert_eq!(event.payload(), json!({ "id": id, "status": "ok" }));
        true
    });
    receiver.expect_data("client-x", "private-a", "at last");
    receiver.quiet();
}

#[test]
fn client_events_that_are_off_are_answered_too() {
    let broker = Broker::with(one_app("receipts = true"));
    let mut ws = broker.ws();
    ws.subscribe("private-a");
    ws.send_text(&event("private-a", &json!(1), "x"));
    let message = ws.error(4301);
    assert_eq!(ack(&mut ws, Some("private-a")), json!({ "id": 1, "status": "error", "code": 4301, "message": message }));
}

#[test]
fn a_user_is_known_over_connections_and_a_stranger_by_its_connection() {
    let broker = long();
    let mut receiver = broker.ws();
    receiver.subscribe("private-a");
    let mut first = ada(&broker, "private-a");
    first.send_text(&event("private-a", &json!("m"), "once"));
    answered(&mut first, "private-a", &json!("m"), "ok");
    receiver.expect_data("client-x", "private-a", "once");
    drop(first);
    // Ada has lost her answer, comes back and asks again, before she is on the channel: it was delivered, so that is what she is told.
    let mut again = broker.ws();
    again.signin(ADA);
    again.send_text(&event("private-a", &json!("m"), "once"));
    answered(&mut again, "private-a", &json!("m"), "dup");
    // Somebody else, and nobody in particular, have ids of their own.
    let (mut bob, mut nobody, mut other) = (broker.ws(), broker.ws(), broker.ws());
    bob.signin(r#"{"id":"bob"}"#);
    for (n, ws) in [&mut bob, &mut nobody, &mut other].into_iter().enumerate() {
        ws.subscribe("private-a");
        // Each of those who came before hears it, too.
        ws.send_text(&event("private-a", &json!("m"), &n.to_string()));
        answered(ws, "private-a", &json!("m"), "ok");
        receiver.expect_data("client-x", "private-a", &n.to_string());
    }
    receiver.quiet();
}

#[test]
fn after_its_window_an_id_is_new_and_costs_no_memory() {
    let broker = with_receipts("100ms");
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    sender.subscribe("private-a");
    receiver.subscribe("private-a");
    for _ in 0..2 {
        sender.send_text(&event("private-a", &json!(1), "x"));
        answered(&mut sender, "private-a", &json!(1), "ok");
        receiver.expect("client-x");
        // By itself, although nobody sends any more.
        until("it is forgotten", || Scrape::of(&broker).value("holdline_receipt_ids", &[("app_id", APP.id)]) == 0.0);
    }
    assert_eq!(Scrape::of(&broker).value("holdline_receipts_forgotten_total", &[("app_id", APP.id)]), 0.0);
}

#[test]
fn a_sender_with_too_many_ids_forgets_its_oldest_and_that_is_counted() {
    let broker = long();
    let mut sender = broker.ws();
    sender.subscribe("private-a");
    let all: Vec<u8> = (0..1_030).flat_map(|n| wire(1, event("private-a", &json!(n), "").as_bytes())).collect();
    sender.send_bytes(&all);
    for n in 0..1_030 {
        answered(&mut sender, "private-a", &json!(n), "ok");
    }
    let scrape = Scrape::of(&broker);
    assert_eq!(scrape.value("holdline_receipts_forgotten_total", &[("app_id", APP.id)]), 6.0);
    assert_eq!(scrape.value("holdline_receipt_ids", &[("app_id", APP.id)]), 1_024.0);
    for (id, status) in [(6, "dup"), (1_029, "dup"), (0, "ok")] {
        sender.send_text(&event("private-a", &json!(id), ""));
        answered(&mut sender, "private-a", &json!(id), status);
    }
}

/// A broker in this process whose `on_message` waits at the gate for `slow`, and refuses `no`.
fn gated() -> (std::sync::Arc<Journal>, Gate, Live) {
    let (journal, gate) = (Journal::new(), Gate::shut());
    let held = gate.clone();
    let script = Scripted::new(&journal, move |call| match &call.heard {
        Heard::Message(message) if message.data == "slow" => held.wait_then_accept(),
        Heard::Message(message) if message.data == "slow no" => {
            Answer::Wait(held.clone(), Box::new(Answer::Refuse(Reject::new("No", 4301, "not now"))))
        }
        _ => accept(),
    });
    let settings = settings(|settings| {
        settings.apps[0].receipts = true;
        settings.apps[0].limits.receipt_window = Duration::from_secs(600);
        settings.apps[0].limits.client_events_per_second = 0;
    });
    let live = Live::start(&journal, Server::new(settings).handler(script));
    (journal, gate, live)
}

fn ada_at(live: &Live, who: &str) -> Ws {
    let mut ws = live.ws_as(who);
    ws.signin(ADA);
    ws.subscribe("private-a");
    ws
}

#[test]
fn a_duplicate_waits_for_the_first_one_and_answers_keep_their_order() {
    let (journal, gate, live) = gated();
    let (mut one, mut two, mut receiver) = (ada_at(&live, "one"), ada_at(&live, "two"), live.ws());
    receiver.subscribe("private-a");
    one.send_text(&event("private-a", &json!(1), "slow"));
    journal.wait_for("message private-a client-x slow");
    // The same connection, and another one of the same user.
    one.send_text(&event("private-a", &json!(1), "slow"));
    one.send_text(&event("private-a", &json!(2), "quick"));
    two.send_text(&event("private-a", &json!(1), "slow"));
    two.send_text(r#"{"event":"pusher:ping"}"#);
    two.send_text(&event("private-a", &json!(3), "quick"));
    // A round trip of a third one on the same worker: had anybody been answered, it would be there.
    receiver.quiet();
    assert_eq!(one.frame_within(Duration::from_millis(50)), None);
    assert_eq!(two.frame_within(Duration::from_millis(50)), None);
    gate.let_through(1);
    for (id, status) in [(1, "ok"), (1, "dup"), (2, "ok")] {
        let event = one.event();
        let event = if event.name() == "client-x" { one.event() } else { event };
        assert_eq!(event.payload(), json!({ "id": id, "status": status }));
    }
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let event = two.event();
        if event.name() != "client-x" {
            heard.push(event.raw);
        }
    }
    assert!(heard[0].contains(r#"\"id\":1,\"status\":\"dup\""#) && heard[1].contains("pusher:pong"), "{heard:?}");
    assert!(heard[2].contains(r#"\"id\":3,\"status\":\"ok\""#), "{heard:?}");
    let mut delivered: Vec<String> = (0..3).map(|_| receiver.expect("client-x").data().to_owned()).collect();
    delivered.sort();
    assert_eq!(delivered, ["quick", "quick", "slow"]);
    receiver.quiet();
    assert_eq!(journal.count("message private-a client-x slow"), 1, "the handler was asked once");
}

#[test]
fn when_the_first_one_is_refused_the_second_one_is_tried() {
    let (journal, gate, live) = gated();
    let (mut one, mut two, mut receiver) = (ada_at(&live, "one"), ada_at(&live, "two"), live.ws());
    receiver.subscribe("private-a");
    one.send_text(&event("private-a", &json!(1), "slow no"));
    journal.wait_for("message private-a client-x slow no");
    two.send_text(&event("private-a", &json!(1), "second try"));
    receiver.quiet();
    gate.let_through(1);
    assert_eq!(one.error(4301), "not now");
    assert_eq!(ack(&mut one, Some("private-a")), json!({ "id": 1, "status": "error", "code": 4301, "message": "not now" }));
    answered(&mut two, "private-a", &json!(1), "ok");
    receiver.expect_data("client-x", "private-a", "second try");
    one.expect_data("client-x", "private-a", "second try");
    one.send_text(&event("private-a", &json!(1), "third"));
    answered(&mut one, "private-a", &json!(1), "dup");
}

#[test]
fn when_the_first_ones_connection_ends_at_its_hook_the_second_one_is_delivered() {
    let (journal, gate, live) = gated();
    let (mut one, mut receiver) = (ada_at(&live, "one"), live.ws());
    receiver.subscribe("private-a");
    one.send_text(&event("private-a", &json!(1), "slow"));
    journal.wait_for("message private-a client-x slow");
    let socket_id = SocketId::parse(&one.socket_id).unwrap().unwrap();
    assert!(live.broker.close_socket(APP.id, socket_id, CloseCode::RECONNECT, "go"));
    assert!(matches!(close_frame(&mut one), Frame::Text(_) | Frame::Close(..)));
    let mut two = ada_at(&live, "two");
    two.send_text(&event("private-a", &json!(1), "after all"));
    // Who waits can go, too.
    let mut three = ada_at(&live, "three");
    three.send_text(&event("private-a", &json!(1), "after all"));
    three.send_text(r#"{"event":"pusher:ping"}"#);
    three.half_close();
    drop(three);
    receiver.quiet();
    gate.let_through(2);
    answered(&mut two, "private-a", &json!(1), "ok");
    receiver.expect_data("client-x", "private-a", "after all");
    receiver.quiet();
}
