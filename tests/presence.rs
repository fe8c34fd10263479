//! Presence channels: protocol.md 2.4.

use serde_json::{Value, json};

use crate::support::{APP, Broker, Event, Ws, member, shared, unique, until};

const ADDED: &str = "pusher_internal:member_added";
const REMOVED: &str = "pusher_internal:member_removed";

fn removed(ws: &mut Ws, channel: &str, user_id: &str) {
    let event = ws.expect(REMOVED);
    assert_eq!((event.channel(), event.payload()), (Some(channel), json!({ "user_id": user_id })));
}

fn added(ws: &mut Ws, channel: &str, user_id: &str) -> Event {
    let event = ws.expect(ADDED);
    assert_eq!((event.channel(), &event.payload()["user_id"]), (Some(channel), &json!(user_id)));
    event
}

/// `ids` of a snapshot, sorted, after checking that count, ids and hash agree.
fn ids(presence: &Value) -> Vec<String> {
    let mut ids: Vec<String> =
        presence["ids"].as_array().unwrap().iter().map(|id| id.as_str().expect("ids are strings").to_owned()).collect();
    ids.sort();
    let mut keys: Vec<String> = presence["hash"].as_object().expect("hash is an object").keys().cloned().collect();
    keys.sort();
    assert_eq!(ids, keys, "{presence}");
    assert_eq!(presence["count"], json!(ids.len()), "{presence}");
    ids
}

#[test]
fn the_joiner_gets_the_whole_list_and_the_others_one_member_added() {
    let broker = shared();
    let channel = unique("presence-room");
    let (mut ada, mut bob) = (broker.ws(), broker.ws());
    let alone = ada.join(&channel, &member("42", Some(r#"{"name":"Ada"}"#)));
    assert_eq!(alone, json!({ "count": 1, "ids": ["42"], "hash": { "42": { "name": "Ada" } } }));
    let both = bob.join(&channel, &member("7", None));
    assert_eq!(ids(&both), ["42", "7"]);
    assert_eq!(both["hash"], json!({ "42": { "name": "Ada" }, "7": null }));
    assert_eq!(added(&mut ada, &channel, "7").payload(), json!({ "user_id": "7" }), "an absent user_info is left out");
    let mut eve = broker.ws();
    eve.join(&channel, &member("9", Some(r#"{"name":"Eve"}"#)));
    for ws in [&mut ada, &mut bob] {
        assert_eq!(added(ws, &channel, "9").payload(), json!({ "user_id": "9", "user_info": { "name": "Eve" } }));
        ws.quiet();
    }
    eve.quiet();
}

#[test]
fn a_second_tab_of_the_same_user_does_not_announce_twice() {
    let broker = shared();
    let channel = unique("presence-tabs");
    let (mut watcher, mut first, mut second) = (broker.ws(), broker.ws(), broker.ws());
    watcher.join(&channel, &member("watcher", None));
    first.join(&channel, &member("42", Some(r#"{"tab":1}"#)));
    added(&mut watcher, &channel, "42");
    let list = second.join(&channel, &member("42", Some(r#"{"tab":2}"#)));
    assert_eq!(ids(&list), ["42", "watcher"]);
    assert_eq!(list["hash"]["42"], json!({ "tab": 1 }), "the first connection's user_info is kept");
    watcher.quiet();
    first.quiet();

    let mut http = broker.http();
    assert_eq!(http.subscribers(&channel), 3);
    drop(first);
    until("the first tab is gone", || http.subscribers(&channel) == 2);
    watcher.quiet();
    second.quiet();
    drop(second);
    removed(&mut watcher, &channel, "42");
    watcher.quiet();
}

#[test]
fn unsubscribing_one_of_two_tabs_keeps_the_member() {
    let broker = shared();
    let channel = unique("presence-two");
    let (mut watcher, mut first, mut second) = (broker.ws(), broker.ws(), broker.ws());
    watcher.join(&channel, &member("w", None));
    first.join(&channel, &member("42", None));
    second.join(&channel, &member("42", None));
    added(&mut watcher, &channel, "42");
    first.unsubscribe(&channel);
    first.quiet();
    watcher.quiet();
    second.unsubscribe(&channel);
    second.quiet();
    removed(&mut watcher, &channel, "42");
    watcher.quiet();
    second.join(&channel, &member("42", None));
    added(&mut watcher, &channel, "42");
}

#[test]
fn members_are_reported_gone_in_the_order_in_which_they_left() {
    let broker = shared();
    let channel = unique("presence-leaving");
    let mut watcher = broker.ws();
    watcher.join(&channel, &member("watcher", None));
    let mut members: Vec<Ws> = (0..8).map(|_| broker.ws()).collect();
    for (at, ws) in members.iter_mut().enumerate() {
        ws.join(&channel, &member(&at.to_string(), None));
        added(&mut watcher, &channel, &at.to_string());
    }
    for at in [3, 0, 7, 1, 6, 2, 5, 4] {
        members[at].unsubscribe(&channel);
        removed(&mut watcher, &channel, &at.to_string());
    }
    watcher.quiet();
    let again = watcher.join(&channel, &member("watcher", None));
    assert_eq!(ids(&again), ["watcher"]);
}

#[test]
fn a_numeric_user_id_becomes_a_string() {
    let broker = shared();
    let channel = unique("presence-number");
    let (mut watcher, mut ws) = (broker.ws(), broker.ws());
    let list = watcher.join(&channel, r#"{"user_id":10}"#);
    assert_eq!(list, json!({ "count": 1, "ids": ["10"], "hash": { "10": null } }));
    let list = ws.join(&channel, r#"{"user_id":9007199254740991}"#);
    assert_eq!(ids(&list), ["10", "9007199254740991"]);
    added(&mut watcher, &channel, "9007199254740991");
    drop(ws);
    removed(&mut watcher, &channel, "9007199254740991");
    let mut same = broker.ws();
    same.join(&channel, r#"{"user_id":"10"}"#);
    watcher.quiet();
}

#[test]
fn signatures_over_php_and_node_spellings_of_a_name_both_hold() {
    let broker = shared();
    let channel = unique("presence-names");
    let (mut php, mut node) = (broker.ws(), broker.ws());
    let list = php.join(&channel, r#"{"user_id":"7","user_info":{"name":"Zo\u00eb \/ x"}}"#);
    assert_eq!(list["hash"]["7"]["name"], json!("Zoë / x"));
    let list = node.join(&channel, r#"{"user_id":"8","user_info":{"name":"Zoë"}}"#);
    assert_eq!(list["hash"]["8"]["name"], json!("Zoë"));
    assert_eq!(added(&mut php, &channel, "8").payload()["user_info"]["name"], json!("Zoë"));
}

#[test]
fn user_info_keeps_its_key_order_and_number_tokens() {
    let broker = shared();
    let channel = unique("presence-raw");
    let (mut watcher, mut ws) = (broker.ws(), broker.ws());
    watcher.join(&channel, &member("w", None));
    let info = r#"{"z":1.0,"a":12345678901234567890123,"n":-0,"e":1e400,"deep":{"y":[],"b":{}}}"#;
    ws.send_join(&channel, &member("x", Some(info)));
    assert!(ws.acknowledged(&channel).data().contains(info));
    assert!(watcher.expect(ADDED).data().contains(info));
}

#[test]
fn a_user_id_may_contain_any_character() {
    let broker = shared();
    let channel = unique("presence-ids");
    let mut watcher = broker.ws();
    watcher.join(&channel, &member("w", None));
    for id in ["a b", "a:b", "\"quoted\" \\", "é🦀", "tab\t\u{1}", "constructor", "0", "</script>"] {
        let mut ws = broker.ws();
        let list = ws.join(&channel, &json!({ "user_id": id }).to_string());
        assert_eq!(ids(&list), {
            let mut both = vec![id.to_owned(), "w".to_owned()];
            both.sort();
            both
        });
        added(&mut watcher, &channel, id);
        ws.unsubscribe(&channel);
        removed(&mut watcher, &channel, id);
    }
}

#[test]
fn user_info_may_be_any_json() {
    let broker = shared();
    let channel = unique("presence-any");
    let mut ws = broker.ws();
    for (at, info) in [r#""text""#, "[1,2]", "17", "false", "{}", "null"].iter().enumerate() {
        let mut other = broker.ws();
        let list = other.join(&channel, &member(&at.to_string(), Some(info)));
        assert_eq!(list["hash"][at.to_string()], serde_json::from_str::<Value>(info).unwrap());
    }
    ws.quiet();
}

#[test]
fn channel_data_without_a_usable_user_id_is_refused() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("presence-bad");
    for data in [
        "not json",
        "",
        "[]",
        "{}",
        "null",
        "7",
        r#"{"user_id":""}"#,
        r#"{"user_id":null}"#,
        r#"{"user_id":true}"#,
        r#"{"user_id":[1]}"#,
        r#"{"user_info":{}}"#,
    ] {
        ws.send_join(&channel, data);
        let (kind, status, text) = ws.subscription_error(&channel);
        assert_eq!((kind.as_str(), status), ("AuthError", 401), "{data}");
        assert!(text == "Invalid channel_data." || data.is_empty(), "{data}: {text}");
    }
    ws.quiet();
    assert_eq!(broker.http().subscribers(&channel), 0);
}

#[test]
fn the_signature_is_checked_before_channel_data_is_read() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("presence-first");
    ws.send_subscribe(&channel, Some("app-key:00"), Some("not json"));
    assert_eq!(ws.subscription_error(&channel).2, "The connection is unauthorized.");
}

#[test]
fn a_signature_without_the_channel_data_does_not_join_a_presence_channel() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("presence-nodata");
    let auth = APP.auth(&format!("{}:{channel}", ws.socket_id));
    ws.send_subscribe(&channel, Some(&auth), Some(r#"{"user_id":"1"}"#));
    assert_eq!(ws.subscription_error(&channel).2, "The connection is unauthorized.");
    ws.send_subscribe(&channel, Some(&auth), None);
    assert_eq!(ws.subscription_error(&channel).2, "The connection is unauthorized.");
}

#[test]
fn a_repeated_join_brings_the_current_list_and_tells_nobody() {
    let broker = shared();
    let channel = unique("presence-again");
    let (mut ada, mut bob) = (broker.ws(), broker.ws());
    ada.join(&channel, &member("ada", None));
    bob.join(&channel, &member("bob", None));
    added(&mut ada, &channel, "bob");
    assert_eq!(ids(&ada.join(&channel, &member("ada", None))), ["ada", "bob"]);
    bob.quiet();
    ada.unsubscribe(&channel);
    removed(&mut bob, &channel, "ada");
}

#[test]
fn the_101st_member_is_refused_but_another_tab_of_a_member_is_not() {
    let broker = Broker::start();
    let channel = "presence-full";
    let mut members: Vec<Ws> = (0..100).map(|_| broker.ws()).collect();
    for (at, ws) in members.iter_mut().enumerate() {
        let list = ws.join(channel, &member(&at.to_string(), None));
        assert_eq!(list["count"], json!(at + 1));
    }
    let mut late = broker.ws();
    late.send_join(channel, &member("late", None));
    let (kind, status, text) = late.subscription_error(channel);
    assert_eq!((kind.as_str(), status), ("LimitReached", 4100));
    assert_eq!(text, "The maximum members per presence channel limit was reached");
    let mut tab = broker.ws();
    assert_eq!(tab.join(channel, &member("0", None))["count"], json!(100));
    members.pop();
    until("there is room", || {
        late.send_join(channel, &member("late", None));
        late.event().name() == "pusher_internal:subscription_succeeded"
    });
}
