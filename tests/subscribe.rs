//! Subscriptions: protocol.md 2.1 to 2.3, 2.5 to 2.7 and section 8.

use serde_json::json;

use crate::support::{APP, Broker, shared, unique, wire};

const UNAUTHORIZED: (&str, u64, &str) = ("AuthError", 401, "The connection is unauthorized.");

fn is(found: (String, u64, String), expected: (&str, u64, &str)) {
    assert_eq!((found.0.as_str(), found.1, found.2.as_str()), expected);
}

#[test]
fn the_acknowledgement_carries_channel_and_an_empty_object_in_a_string() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("news");
    ws.send(&json!({ "event": "pusher:subscribe", "data": { "auth": "", "channel": channel } }));
    let event = ws.acknowledged(&channel);
    assert_eq!(event.json, json!({ "event": "pusher_internal:subscription_succeeded", "channel": channel, "data": "{}" }));
    ws.quiet();
}

#[test]
fn open_channels_need_no_signature_and_ignore_one() {
    let broker = shared();
    let mut ws = broker.ws();
    let bases = [
        "news",
        "privateer",
        "my-private-x",
        "presenceless",
        "cachet",
        "private",
        "presence",
        "private_x",
        "a_-=@,.;Z9",
        "Private-x",
        "PRESENCE-x",
    ];
    for (at, base) in bases.iter().enumerate() {
        let channel = *base;
        let auth = [None, Some(""), Some("nonsense"), Some("app-key:00")][at % 4];
        ws.send_subscribe(channel, auth, None);
        assert_eq!(ws.acknowledged(channel).data(), "{}");
    }
    ws.quiet();
}

#[test]
fn signed_channels_are_refused_without_a_signature_and_accepted_with_one() {
    let broker = shared();
    let mut ws = broker.ws();
    for prefix in ["private-", "private-cache-", "private-encrypted-", "private-encrypted-cache-"] {
        let channel = unique(&format!("{prefix}x"));
        for auth in [None, Some("")] {
            ws.send_subscribe(&channel, auth, None);
            is(ws.subscription_error(&channel), UNAUTHORIZED);
        }
        assert_eq!(ws.subscribe(&channel).data(), "{}");
        if prefix.contains("cache") {
            ws.expect_data("pusher:cache_miss", &channel, "{}");
        }
    }
    for prefix in ["presence-", "presence-cache-"] {
        let channel = unique(&format!("{prefix}x"));
        ws.send_subscribe(&channel, None, Some(r#"{"user_id":"1"}"#));
        is(ws.subscription_error(&channel), UNAUTHORIZED);
    }
    ws.quiet();
}

#[test]
fn a_bare_prefix_is_a_name_of_that_kind() {
    let broker = shared();
    let mut ws = broker.ws();
    for channel in ["private-", "presence-", "private-encrypted-", "private-cache-"] {
        ws.send_subscribe(channel, None, None);
        is(ws.subscription_error(channel), UNAUTHORIZED);
    }
    ws.subscribe("private-");
    ws.unsubscribe("private-");
    ws.quiet();
}

#[test]
fn every_wrong_signature_is_refused_with_the_same_frame_and_nothing_leaks() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("private-signed");
    let good = APP.auth(&format!("{}:{channel}", ws.socket_id));
    let (key, signature) = good.split_once(':').unwrap();
    let flipped = if signature.ends_with('0') { "1" } else { "0" };
    let wrong = [
        format!("{key}:{}{flipped}", &signature[..63]),
        format!("{key}:{}", &signature[..63]),
        format!("{key}:{signature}0"),
        format!("{key}:{}", signature.to_uppercase()),
        format!("{key}:"),
        format!(":{signature}"),
        signature.to_owned(),
        format!("other-key:{signature}"),
        format!("{key}::{signature}"),
        format!(" {good}"),
        APP.auth(&format!("{}:{channel}x", ws.socket_id)),
        APP.auth(&format!("1.1:{channel}")),
        APP.auth(&format!("{}:{channel}:{{}}", ws.socket_id)),
        "\u{0}".to_owned(),
    ];
    for auth in wrong {
        ws.send_subscribe(&channel, Some(&auth), None);
        let event = ws.expect("pusher:subscription_error");
        assert_eq!(event.channel(), Some(channel.as_str()));
        let expected = json!({ "type": "AuthError", "error": "The connection is unauthorized.", "status": 401 });
        assert_eq!(event.payload(), expected, "{auth}");
        assert!(!event.raw.contains(&signature[..16]), "the right signature leaks");
    }
    assert_eq!(broker.http().subscribers(&channel), 0);
    ws.send_subscribe(&channel, Some(&good), None);
    ws.acknowledged(&channel);
    ws.quiet();
}

#[test]
fn a_signature_with_channel_data_on_a_private_channel_covers_it() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("private-data");
    let data = r#"{"user_id":"7"}"#;
    let without = APP.auth(&format!("{}:{channel}", ws.socket_id));
    ws.send_subscribe(&channel, Some(&without), Some(data));
    is(ws.subscription_error(&channel), UNAUTHORIZED);
    let with = APP.auth(&format!("{}:{channel}:{data}", ws.socket_id));
    ws.send_subscribe(&channel, Some(&with), Some(data));
    assert_eq!(ws.acknowledged(&channel).data(), "{}");
}

#[test]
fn an_illegal_name_is_refused_by_name() {
    let broker = shared();
    let mut ws = broker.ws();
    let names = [
        "",
        " ",
        "a b",
        "news\n",
        "a:b",
        "a/b",
        "a#b",
        "#news",
        "#",
        "naïve",
        "a\"b",
        "a\\b",
        "a\u{0}",
        "private-x:1",
        "presence-a b",
        "🦀",
        "a+b",
        "*",
    ];
    for name in names {
        ws.send_subscribe(name, None, None);
        is(ws.subscription_error(name), ("InvalidChannel", 4009, "Invalid channel name."));
    }
    ws.quiet();
}

#[test]
fn a_name_of_two_hundred_characters_is_legal_and_one_more_is_not() {
    let broker = shared();
    let mut ws = broker.ws();
    let longest = "n".repeat(200);
    ws.send_subscribe(&longest, None, None);
    ws.acknowledged(&longest);
    let longer = "n".repeat(201);
    ws.send_subscribe(&longer, None, None);
    is(ws.subscription_error(&longer), ("LimitReached", 4009, "The channel name is longer than the allowed 200 characters."));
    ws.quiet();
}

#[test]
fn subscribing_twice_is_acknowledged_twice_and_counts_once() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("twice");
    for _ in 0..2 {
        ws.send_subscribe(&channel, None, None);
        ws.acknowledged(&channel);
    }
    assert_eq!(broker.http().subscribers(&channel), 1);
    broker.http().publish(&channel, "e", "once");
    ws.expect_data("e", &channel, "once");
    ws.quiet();
}

#[test]
fn a_second_subscribe_with_a_wrong_signature_is_refused_and_the_first_one_stands() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("private-stands");
    ws.subscribe(&channel);
    ws.send_subscribe(&channel, Some("app-key:bad"), None);
    is(ws.subscription_error(&channel), UNAUTHORIZED);
    broker.http().publish(&channel, "e", "still here");
    ws.expect_data("e", &channel, "still here");
}

#[test]
fn an_event_reaches_every_subscriber_unchanged_and_nobody_else() {
    let broker = shared();
    let channel = unique("app-event");
    let (mut one, mut two, mut stranger) = (broker.ws(), broker.ws(), broker.ws());
    for ws in [&mut one, &mut two] {
        ws.send_subscribe(&channel, None, None);
        ws.acknowledged(&channel);
    }
    let name = "App\\Events\\OrderShipped";
    let data = " {\"a\" : 1.0,\"u\":\"\\u00e9 \\/ \u{2028} 🦀\"}\n\t\u{1}";
    broker.http().publish(&channel, name, data);
    for ws in [&mut one, &mut two] {
        let event = ws.event();
        assert_eq!(event.json, json!({ "event": name, "channel": channel, "data": data }));
    }
    stranger.quiet();
}

#[test]
fn after_unsubscribing_nothing_of_the_channel_comes_any_more() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("leave");
    ws.subscribe(&channel);
    ws.unsubscribe(&channel);
    ws.quiet();
    broker.http().publish(&channel, "e", "1");
    ws.quiet();
    assert_eq!(broker.http().subscribers(&channel), 0);
}

#[test]
fn unsubscribing_from_a_channel_that_was_never_joined_is_ignored() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.unsubscribe("never");
    ws.unsubscribe("private-never");
    ws.unsubscribe("");
    ws.unsubscribe("#server-to-user-1");
    ws.quiet();
}

#[test]
fn a_fast_subscribe_unsubscribe_subscribe_is_handled_in_order() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("private-fast");
    let auth = APP.auth(&format!("{}:{channel}", ws.socket_id));
    let subscribe = json!({ "event": "pusher:subscribe", "data": { "channel": channel, "auth": auth } }).to_string();
    let unsubscribe = json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }).to_string();
    for (frames, subscribed) in [([&subscribe, &unsubscribe, &subscribe].as_slice(), 1), (&[&unsubscribe, &subscribe, &unsubscribe], 0)] {
        let bytes: Vec<u8> = frames.iter().flat_map(|text| wire(1, text.as_bytes())).collect();
        ws.send_bytes(&bytes);
        for _ in 0..frames.iter().filter(|text| **text == &subscribe).count() {
            ws.acknowledged(&channel);
        }
        ws.quiet();
        assert_eq!(broker.http().subscribers(&channel), subscribed);
    }
}

#[test]
fn names_are_case_sensitive() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("Case");
    ws.subscribe(&channel);
    broker.http().publish(&channel.to_lowercase(), "e", "1");
    ws.quiet();
}

#[test]
fn an_encrypted_payload_passes_untouched() {
    let broker = shared();
    let mut ws = broker.ws();
    let channel = unique("private-encrypted-vault");
    assert_eq!(ws.subscribe(&channel).data(), "{}");
    let data = r#"{"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX","ciphertext":"/not+base64=="}"#;
    broker.http().publish(&channel, "secret", data);
    ws.expect_data("secret", &channel, data);
}

#[test]
fn a_failed_subscription_leaves_nothing_behind() {
    let broker = Broker::start();
    let mut ws = broker.ws();
    for at in 0..50 {
        ws.send_subscribe(&format!("private-{at}"), Some("app-key:00"), None);
        is(ws.subscription_error(&format!("private-{at}")), UNAUTHORIZED);
    }
    let mut http = broker.http();
    assert_eq!(http.get("/channels", &[]).json(), json!({ "channels": {} }));
    http.publish("private-1", "e", "1");
    ws.quiet();
}
