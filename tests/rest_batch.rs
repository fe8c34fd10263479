//! POST /batch_events: protocol.md 6.5.

use serde_json::{Value, json};

use crate::support::{Ws, member, shared, unique};

fn item(channel: &str, data: &str) -> Value {
    json!({ "channel": channel, "name": "e", "data": data })
}

fn batch(items: &[Value]) -> String {
    json!({ "batch": items }).to_string()
}

#[test]
fn the_items_are_delivered_in_order_and_the_answer_is_an_empty_object() {
    let broker = shared();
    let (one, two) = (unique("batch"), unique("batch"));
    let mut ws = broker.ws();
    ws.subscribe(&one);
    ws.subscribe(&two);
    let items: Vec<Value> = (0..10).map(|at| item(if at % 3 == 0 { &one } else { &two }, &at.to_string())).collect();
    assert_eq!(broker.http().post("/batch_events", batch(&items)).json(), json!({}));
    for at in 0..10 {
        ws.expect_data("e", if at % 3 == 0 { &one } else { &two }, &at.to_string());
    }
    ws.quiet();
}

#[test]
fn ten_items_are_legal_eleven_are_too_many_and_none_is_fine() {
    let broker = shared();
    let channel = unique("batch-size");
    let mut ws = broker.ws();
    ws.subscribe(&channel);
    let mut http = broker.http();
    let items = vec![item(&channel, "1"); 11];
    let text = http.post("/batch_events", batch(&items)).refused(400);
    assert!(text.starts_with("Batch too large"), "{text}");
    ws.quiet();
    assert_eq!(http.post("/batch_events", batch(&items[..10])).json(), json!({}));
    for _ in 0..10 {
        ws.expect("e");
    }
    assert_eq!(http.post("/batch_events", batch(&[])).json(), json!({}));
}

#[test]
fn a_full_batch_of_the_largest_events_is_accepted() {
    let broker = shared();
    let channel = unique("batch-full");
    let mut ws = broker.ws();
    ws.subscribe(&channel);
    let data = "x".repeat(10_240);
    assert_eq!(broker.http().post("/batch_events", batch(&vec![item(&channel, &data); 10])).json(), json!({}));
    for _ in 0..10 {
        assert_eq!(ws.expect("e").data().len(), 10_240);
    }
}

#[test]
fn one_bad_item_and_nothing_is_published() {
    let broker = shared();
    let channel = unique("batch-bad");
    let mut ws = broker.ws();
    ws.subscribe(&channel);
    let mut http = broker.http();
    let good = item(&channel, "1");
    let bad = [
        (json!({ "channel": "bad name", "name": "e", "data": "1" }), 400),
        (json!({ "channel": channel, "name": "", "data": "1" }), 400),
        (json!({ "channel": channel, "name": "n".repeat(201), "data": "1" }), 400),
        (json!({ "channel": channel, "name": "pusher:x", "data": "1" }), 400),
        (json!({ "channel": channel, "name": "e", "data": "1", "socket_id": "abc" }), 400),
        (json!({ "channel": channel, "name": "e" }), 400),
        (json!({ "channel": channel, "data": "1" }), 400),
        (json!({ "name": "e", "data": "1" }), 400),
        (json!("text"), 400),
        (json!(null), 400),
        (item(&channel, &"x".repeat(10_241)), 413),
        (item(&channel, &"é".repeat(5_121)), 413),
    ];
    for (bad, status) in bad {
        http.post("/batch_events", batch(&[good.clone(), bad.clone()])).refused(status);
        http.post("/batch_events", batch(&[bad, good.clone()])).refused(status);
    }
    ws.quiet();
}

#[test]
fn a_body_that_is_not_a_batch_is_400() {
    let broker = shared();
    let mut http = broker.http();
    for body in ["{}", "[]", "null", r#"{"batch":{}}"#, r#"{"batch":null}"#, r#"{"batch":"x"}"#, "not json", ""] {
        http.post("/batch_events", body).refused(400);
    }
}

#[test]
fn info_is_answered_per_item_in_the_order_of_the_request() {
    let broker = shared();
    let (room, news) = (unique("presence-batch"), unique("batch-info"));
    let mut ws = broker.ws();
    ws.join(&room, &member("1", None));
    ws.subscribe(&news);
    let mut http = broker.http();
    let with = |mut item: Value, info: &str| {
        item["info"] = json!(info);
        item
    };
    let items = [
        item(&news, "1"),
        with(item(&room, "2"), "user_count"),
        with(item(&news, "3"), "subscription_count,user_count"),
        with(item(&unique("presence-nobody"), "4"), "user_count"),
    ];
    let answer = http.post("/batch_events", batch(&items)).json();
    assert_eq!(answer, json!({ "batch": [{}, { "user_count": 1 }, { "subscription_count": 1 }, { "user_count": 0 }] }));
    for data in ["1", "2", "3"] {
        assert_eq!(ws.expect("e").data(), data);
    }
}

#[test]
fn each_item_has_its_own_exclusion() {
    let broker = shared();
    let channel = unique("batch-except");
    let mut sockets: Vec<Ws> = (0..2).map(|_| broker.ws()).collect();
    for ws in &mut sockets {
        ws.subscribe(&channel);
    }
    let except = |at: usize, data: &str| {
        let mut item = item(&channel, data);
        item["socket_id"] = json!(sockets[at].socket_id);
        item
    };
    let items = [except(0, "not for 0"), except(1, "not for 1"), item(&channel, "for both")];
    assert_eq!(broker.http().post("/batch_events", batch(&items)).json(), json!({}));
    for (ws, first) in sockets.iter_mut().zip(["not for 1", "not for 0"]) {
        ws.expect_data("e", &channel, first);
        ws.expect_data("e", &channel, "for both");
        ws.quiet();
    }
}
