//! Sign-in and the channel of a user: protocol.md 4.1 and 4.2.

use serde_json::json;

use crate::support::{APP, Broker, Ws, member, one_app, shared, unique, user_auth};

const ADA: &str = r#"{"id":"42","user_info":{"name":"Ada"}}"#;

/// `user_data` for a user that no other test knows.
fn user(stem: &str) -> (String, String) {
    let id = unique(stem);
    let data = format!(r#"{{"id":"{id}"}}"#);
    (id, data)
}

fn send_raw(ws: &mut Ws, auth: &str, user_data: &str) {
    ws.send(&json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user_data } }));
}

#[test]
fn sign_in_echoes_user_data_byte_for_byte_in_a_string() {
    let broker = shared();
    let mut ws = broker.ws();
    let data = r#"{ "user_info":{"name":"Zo\u00eb \/ x"}, "id":"echo-1" , "z":1.0 }"#;
    ws.send_signin(data);
    let event = ws.expect("pusher:signin_success");
    assert_eq!(event.payload(), json!({ "user_data": data }));
    assert_eq!(event.channel(), None);
    ws.quiet();
}

#[test]
fn a_signed_in_connection_may_join_its_own_user_channel_only() {
    let broker = shared();
    let mut ws = broker.ws();
    let (id, data) = user("own");
    ws.signin(&data);
    let own = format!("#server-to-user-{id}");
    ws.send_subscribe(&own, Some(""), None);
    assert_eq!(ws.acknowledged(&own).data(), "{}");
    for other in ["#server-to-user-7", "#server-to-user-", "#server-to-user-own-", &format!("{own}0")] {
        ws.send_subscribe(other, Some(""), None);
        let (kind, status, text) = ws.subscription_error(other);
        if other == "#server-to-user-7" {
            assert_eq!((kind.as_str(), status, text.as_str()), ("AuthError", 401, "The connection is unauthorized."));
        }
    }
    ws.quiet();
}

#[test]
fn without_sign_in_no_user_channel_can_be_joined_even_with_a_signature() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = "#server-to-user-42";
    for auth in [String::new(), APP.auth(&format!("{}:{channel}", ws.socket_id))] {
        ws.send_subscribe(channel, Some(&auth), None);
        assert_eq!(ws.subscription_error(channel).0, "AuthError");
    }
    broker.http().publish(channel, "notice", "1");
    ws.quiet();
}

#[test]
fn an_event_to_a_user_reaches_each_of_his_connections_once_subscribed_or_not() {
    let broker = shared();
    let (id, data) = user("notice");
    let channel = format!("#server-to-user-{id}");
    let (mut bound, mut unbound, mut stranger) = (broker.ws(), broker.ws(), broker.ws());
    bound.signin(&data);
    bound.send_subscribe(&channel, Some(""), None);
    bound.acknowledged(&channel);
    unbound.signin(&data);
    stranger.signin(&user("stranger").1);
    broker.http().publish(&channel, "notice", r#"{"text":"hi"}"#);
    for ws in [&mut bound, &mut unbound] {
        assert_eq!(ws.event().json, json!({ "event": "notice", "channel": channel, "data": r#"{"text":"hi"}"# }));
        ws.quiet();
    }
    stranger.quiet();
    let body = json!({ "name": "n", "channels": [channel], "data": "1", "socket_id": bound.socket_id });
    assert_eq!(broker.http().trigger(&body).json(), json!({}));
    unbound.expect_data("n", &channel, "1");
    bound.quiet();
}

#[test]
fn user_channels_are_not_listed() {
    let broker = Broker::start();
    let mut ws = broker.ws();
    ws.signin(ADA);
    ws.send_subscribe("#server-to-user-42", Some(""), None);
    ws.acknowledged("#server-to-user-42");
    assert_eq!(broker.http().get("/channels", &[]).json(), json!({ "channels": {} }));
}

#[test]
fn a_failed_sign_in_is_an_error_in_band_and_can_be_repeated() {
    let broker = shared();
    let mut ws = broker.ws();
    let (_, data) = user("retry");
    let good = user_auth(APP, &ws.socket_id, &data);
    let bad = [
        format!("{}0", &good[..good.len() - 1]),
        good.to_uppercase(),
        good.replace("app-key", "other-key"),
        String::new(),
        "app-key:".to_owned(),
        user_auth(APP, "1.1", &data),
        APP.auth(&format!("{}:{data}", ws.socket_id)),
    ];
    for auth in bad.iter().filter(|auth| **auth != good) {
        send_raw(&mut ws, auth, &data);
        let text = ws.error(4009);
        assert!(!text.contains(&good[10..30]), "the signature leaks: {text}");
    }
    ws.quiet();
    ws.signin(&data);
}

#[test]
fn unusable_user_data_is_an_error_in_band() {
    let broker = shared();
    let mut ws = broker.ws();
    let texts = [
        "not json".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"id":42}"#.to_owned(),
        r#"{"id":""}"#.to_owned(),
        r#"{"id":null}"#.to_owned(),
        r#"{"id":"a b"}"#.to_owned(),
        r#"{"id":"a:b"}"#.to_owned(),
        r##"{"id":"#1"}"##.to_owned(),
        r#"{"id":"naïve"}"#.to_owned(),
        format!(r#"{{"id":"{}"}}"#, "x".repeat(129)),
    ];
    for text in texts {
        ws.send_signin(&text);
        ws.error(4009);
    }
    ws.quiet();
    let longest = format!(r#"{{"id":"{}"}}"#, "x".repeat(128));
    ws.signin(&longest);
}

#[test]
fn a_sign_in_without_its_fields_is_an_error_in_band() {
    let broker = shared();
    let mut ws = broker.ws();
    for data in [
        json!({}),
        json!({ "auth": "app-key:00" }),
        json!({ "user_data": "{}" }),
        json!({ "auth": 1, "user_data": 2 }),
        json!(null),
        json!("x"),
    ] {
        ws.send(&json!({ "event": "pusher:signin", "data": data }));
        let event = ws.expect("pusher:error");
        assert!(matches!(event.json["data"]["code"].as_u64(), Some(4009 | 4300)), "{}", event.raw);
    }
    ws.quiet();
}

#[test]
fn sign_in_data_may_be_double_encoded() {
    let broker = shared();
    let mut ws = broker.ws();
    let (_, data) = user("double");
    let inner = json!({ "auth": user_auth(APP, &ws.socket_id, &data), "user_data": data }).to_string();
    ws.send(&json!({ "event": "pusher:signin", "data": inner }));
    ws.expect("pusher:signin_success");
}

#[test]
fn signing_in_again_as_the_same_user_succeeds_and_as_another_does_not() {
    let broker = shared();
    let mut ws = broker.ws();
    let (id, data) = user("same");
    ws.signin(&data);
    ws.signin(&format!(r#"{{"id":"{id}","user_info":{{"v":2}}}}"#));
    ws.send_signin(&user("another").1);
    assert_eq!(ws.error(4009), "Connection is already signed in as another user.");
    broker.http().publish(&format!("#server-to-user-{id}"), "still", "me");
    ws.expect_data("still", &format!("#server-to-user-{id}"), "me");
}

#[test]
fn a_signed_in_user_joins_presence_channels_without_channel_data() {
    let broker = shared();
    let channel = unique("presence-shortcut");
    let (mut ada, mut bob) = (broker.ws(), broker.ws());
    let (id, _) = user("shortcut");
    ada.signin(&format!(r#"{{"id":"{id}","user_info":{{"name":"Ada","n":1.0}}}}"#));
    let event = ada.subscribe(&channel);
    assert!(event.data().contains(r#"{"name":"Ada","n":1.0}"#), "{}", event.raw);
    assert_eq!(event.payload()["presence"]["ids"], json!([id]));
    let list = bob.join(&channel, &member("bob", None));
    assert_eq!(list["hash"][&id], json!({ "name": "Ada", "n": 1.0 }));
}

#[test]
fn channel_data_wins_over_the_signed_in_user_and_the_right_one_is_reported_gone() {
    let broker = shared();
    let channel = unique("presence-wins");
    let (mut watcher, mut ws) = (broker.ws(), broker.ws());
    watcher.join(&channel, &member("watcher", None));
    let (id, data) = user("signed-in");
    ws.signin(&data);
    let list = ws.join(&channel, &member("in-the-channel", None));
    assert_eq!(list["hash"], json!({ "watcher": null, "in-the-channel": null }));
    assert_eq!(watcher.expect("pusher_internal:member_added").payload(), json!({ "user_id": "in-the-channel" }));
    drop(ws);
    let event = watcher.expect("pusher_internal:member_removed");
    assert_eq!(event.payload(), json!({ "user_id": "in-the-channel" }), "not {id}");
}

#[test]
fn the_shortcut_still_needs_a_signature() {
    let broker = shared();
    let channel = unique("presence-unsigned");
    let mut ws = broker.ws();
    ws.signin(&user("unsigned").1);
    for auth in [None, Some(""), Some("app-key:00")] {
        ws.send_subscribe(&channel, auth, None);
        assert_eq!(ws.subscription_error(&channel).0, "AuthError");
    }
}

#[test]
fn an_app_without_user_authentication_refuses_sign_in() {
    let broker = Broker::with(one_app("user_authentication = false"));
    let mut ws = broker.ws();
    ws.send_signin(ADA);
    let event = ws.expect("pusher:error");
    assert!(event.json["data"]["code"].is_u64(), "{}", event.raw);
    ws.quiet();
    ws.send_subscribe("#server-to-user-42", Some(""), None);
    ws.subscription_error("#server-to-user-42");
}
