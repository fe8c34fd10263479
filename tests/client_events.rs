//! Client events: protocol.md section 3, its seven conditions in their order, and what is delivered.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Broker, Ws, in_one_of, member, one_app, shared, unique, until, wire};

const PING: &str = r#"{"event":"pusher:ping"}"#;
const MALFORMED: &str = "Invalid client event (must contain channel and data)";
const DISABLED: &str = "The app does not have client messaging enabled.";
const WRONG_KIND: &str = "Client events are not allowed on this channel.";
const LONG_NAME: &str = "Event name is too long. Maximum allowed size is 200.";
const LARGE: &str = "The event data should be less than 10 KB.";
const TOO_FAST: &str = "The rate limit for sending client events exceeded the quota.";

fn event(name: &str, channel: &str, data: &Value) -> String {
    json!({ "event": name, "channel": channel, "data": data }).to_string()
}

/// Sends a client event that must be refused with this code and text.
fn refused(ws: &mut Ws, text: &str, code: u16, message: &str) {
    ws.send_text(text);
    assert_eq!(ws.error(code), message, "{}", &text[..text.len().min(120)]);
}

fn not_subscribed(channel: &str) -> String {
    format!("Cannot broadcast client event (connection not subscribed to channel {channel})")
}

/// Two connections subscribed to one private channel.
fn pair(broker: &Broker, channel: &str) -> (Ws, Ws) {
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    sender.subscribe(channel);
    receiver.subscribe(channel);
    (sender, receiver)
}

#[test]
fn on_a_presence_channel_the_others_get_string_data_and_the_senders_user_id() {
    let broker = shared();
    let channel = unique("presence-chat");
    let (mut sender, mut tab, mut other) = (broker.ws(), broker.ws(), broker.ws());
    sender.join(&channel, &member("42", None));
    tab.join(&channel, &member("42", None));
    other.join(&channel, &member("7", None));
    for ws in [&mut sender, &mut tab] {
        ws.expect("pusher_internal:member_added");
    }
    sender.send_text(&format!(
        r#"{{"event":"client-typing","channel":"{channel}","data":{{"on":true}},"user_id":"forged","socket_id":"1.1"}}"#
    ));
    sender.quiet();
    for ws in [&mut tab, &mut other] {
        let event = ws.event();
        let expected = json!({ "event": "client-typing", "channel": channel, "data": r#"{"on":true}"#, "user_id": "42" });
        assert_eq!(event.json, expected);
        ws.quiet();
    }
}

/// A re-subscribe is acknowledged and changes nothing (2.6): the sender stays the member it joined as.
#[test]
fn a_second_subscribe_as_somebody_else_does_not_change_the_senders_user_id() {
    let broker = shared();
    let channel = unique("presence-chat");
    let (mut sender, mut other) = (broker.ws(), broker.ws());
    sender.join(&channel, &member("1", None));
    other.join(&channel, &member("9", None));
    sender.expect("pusher_internal:member_added");
    sender.join(&channel, &member("2", None));
    sender.send_text(&event("client-a", &channel, &json!(1)));
    assert_eq!(other.expect("client-a").json["user_id"], "1");
}

/// Whatever arrived whole is handled before the end is (protocol.md 1.7).
#[test]
fn events_that_a_client_sends_with_its_last_breath_are_relayed() {
    let broker = shared();
    for events in [1, 3, 9] {
        for _ in 0..5 {
            let channel = unique("private-last");
            let (mut sender, mut receiver) = pair(&broker, &channel);
            let frames: Vec<u8> = (0..events).flat_map(|n| wire(1, event("client-bye", &channel, &json!(n)).as_bytes())).collect();
            sender.send_bytes(&frames);
            sender.half_close();
            for n in 0..events {
                receiver.expect_data("client-bye", &channel, &n.to_string());
            }
        }
    }
}

#[test]
fn on_a_private_channel_there_is_no_user_id() {
    let broker = shared();
    for prefix in ["private-", "private-cache-"] {
        let channel = unique(&format!("{prefix}chat"));
        let (mut sender, mut receiver) = (broker.ws(), broker.ws());
        for ws in [&mut sender, &mut receiver] {
            ws.subscribe(&channel);
            if prefix == "private-cache-" {
                ws.expect("pusher:cache_miss");
            }
        }
        sender.send_text(&event("client-a", &channel, &json!("text")));
        sender.quiet();
        assert_eq!(receiver.event().json, json!({ "event": "client-a", "channel": channel, "data": "text" }));
    }
}

#[test]
fn inbound_data_of_any_json_type_goes_out_as_a_string() {
    let broker = Broker::with(one_app("client_events = true\n[apps.limits]\nclient_events_per_second = 0"));
    let channel = "private-types";
    let (mut sender, mut receiver) = pair(&broker, channel);
    let cases = [
        (r#""plain text""#, "plain text"),
        (r#""{\"already\": \"json\"}""#, r#"{"already": "json"}"#),
        (r#""""#, ""),
        (r#""é \u00e9 🦀""#, "é é 🦀"),
        (r#"{ "b" : 1.0 , "a" : [ 1e3, 12345678901234567890123 ] }"#, r#"{"b":1.0,"a":[1e3,12345678901234567890123]}"#),
        ("[]", "[]"),
        ("{}", "{}"),
        ("42", "42"),
        ("-0.50", "-0.50"),
        ("true", "true"),
        ("null", "null"),
    ];
    for (inbound, outbound) in cases {
        sender.send_text(&format!(r#"{{"event":"client-t","channel":"{channel}","data":{inbound}}}"#));
        sender.quiet();
        receiver.expect_data("client-t", channel, outbound);
    }
    sender.send_text(&format!(r#"{{"event":"client-t","channel":"{channel}"}}"#));
    sender.quiet();
    receiver.expect_data("client-t", channel, "null");
}

#[test]
fn condition_1_a_channel_is_needed_even_where_client_events_are_off() {
    let off = Broker::with(one_app("client_events = false"));
    for mut ws in [off.ws(), shared().ws()] {
        for text in
            [r#"{"event":"client-x","data":{}}"#, r#"{"event":"client-x","channel":7,"data":{}}"#, r#"{"event":"client-x","channel":null}"#]
        {
            refused(&mut ws, text, 4300, MALFORMED);
        }
        ws.quiet();
    }
}

#[test]
fn condition_2_the_app_must_allow_them_before_the_channel_is_looked_at() {
    let broker = Broker::with(one_app("client_events = false"));
    let (mut sender, mut receiver) = pair(&broker, "private-off");
    for channel in ["private-off", "news", "private-elsewhere"] {
        refused(&mut sender, &event("client-x", channel, &json!({})), 4301, DISABLED);
    }
    sender.quiet();
    receiver.quiet();
}

#[test]
fn client_events_are_off_unless_the_configuration_says_otherwise() {
    let broker = Broker::with(one_app(""));
    let (mut sender, _receiver) = pair(&broker, "private-default");
    refused(&mut sender, &event("client-x", "private-default", &json!({})), 4301, DISABLED);
}

#[test]
fn condition_3_the_kind_of_channel_comes_before_the_subscription() {
    let broker = shared();
    let mut ws = broker.ws();
    let subscribed = unique("public");
    ws.subscribe(&subscribed);
    let encrypted = unique("private-encrypted-x");
    ws.subscribe(&encrypted);
    for channel in [subscribed.as_str(), &encrypted, "news", "cache-x", "private-encrypted-cache-x", "#server-to-user-1", "privateer"] {
        refused(&mut ws, &event("client-x", channel, &json!({})), 4009, WRONG_KIND);
    }
    ws.quiet();
}

#[test]
fn condition_4_only_a_subscriber_may_send_and_that_comes_before_the_name() {
    let broker = shared();
    let channel = unique("private-closed");
    let (mut ws, mut inside) = (broker.ws(), broker.ws());
    inside.subscribe(&channel);
    refused(&mut ws, &event("client-x", &channel, &json!({})), 4009, &not_subscribed(&channel));
    refused(&mut ws, &event(&format!("client-{}", "x".repeat(300)), &channel, &json!({})), 4009, &not_subscribed(&channel));
    ws.send_subscribe(&channel, Some("app-key:00"), None);
    ws.subscription_error(&channel);
    refused(&mut ws, &event("client-x", &channel, &json!({})), 4009, &not_subscribed(&channel));
    ws.subscribe(&channel);
    ws.unsubscribe(&channel);
    refused(&mut ws, &event("client-x", &channel, &json!({})), 4009, &not_subscribed(&channel));
    inside.quiet();
}

#[test]
fn condition_5_a_name_has_at_most_200_characters_and_that_comes_before_the_size() {
    let broker = shared();
    let channel = unique("private-names");
    let (mut sender, mut receiver) = pair(&broker, &channel);
    let longest = format!("client-{}", "é".repeat(193));
    sender.send_text(&event(&longest, &channel, &json!(1)));
    sender.quiet();
    receiver.expect_data(&longest, &channel, "1");
    let longer = format!("{longest}x");
    refused(&mut sender, &event(&longer, &channel, &json!(1)), 4301, LONG_NAME);
    refused(&mut sender, &event(&longer, &channel, &json!("x".repeat(20_000))), 4301, LONG_NAME);
    sender.quiet();
    receiver.quiet();
}

#[test]
fn condition_6_data_has_at_most_10240_bytes_in_its_outbound_form() {
    let broker = shared();
    let channel = unique("private-sizes");
    let (mut sender, mut receiver) = pair(&broker, &channel);
    let object = |bytes: usize| json!({ "k": "v".repeat(bytes - r#"{"k":""}"#.len()) });
    for data in [json!("x".repeat(10_240)), json!("é".repeat(5_120)), object(10_240)] {
        sender.send_text(&event("client-s", &channel, &data));
        sender.quiet();
        assert_eq!(receiver.expect("client-s").data().len(), 10_240);
    }
    for data in [json!("x".repeat(10_241)), json!("é".repeat(5_121)), object(10_241)] {
        refused(&mut sender, &event("client-s", &channel, &data), 4301, LARGE);
    }
    sender.quiet();
    receiver.quiet();
}

#[test]
fn condition_7_of_eleven_in_one_burst_ten_pass_and_one_is_refused() {
    let broker = shared();
    let burst = |channel: &str| (0..11).flat_map(|at| wire(1, event("client-n", channel, &json!(at)).as_bytes())).collect::<Vec<u8>>();
    // A token comes back every tenth of a second: if the machine stands still for so long in their midst, all eleven pass.
    in_one_of(10, || {
        let channel = unique("private-burst");
        let (mut sender, mut receiver) = pair(&broker, &channel);
        let began = Instant::now();
        sender.send_bytes(&burst(&channel));
        sender.send_text(PING);
        for at in 0..10 {
            receiver.expect_data("client-n", &channel, &at.to_string());
        }
        let answer = sender.event();
        if answer.name() == "pusher:pong" {
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(100), "the eleventh passed after {took:?}");
            return Err(format!("the eleventh passed after {took:?}"));
        }
        assert_eq!((&answer.json["data"]["code"], &answer.json["data"]["message"]), (&json!(4301), &json!(TOO_FAST)));
        sender.expect("pusher:pong");
        receiver.quiet();
        until("the bucket has a token again", || {
            sender.send_text(&event("client-n", &channel, &json!("later")));
            sender.send_text(PING);
            let refused = sender.event().name() == "pusher:error";
            if refused {
                sender.expect("pusher:pong");
            }
            !refused
        });
        receiver.expect_data("client-n", &channel, "later");
        Ok(())
    });
}

#[test]
fn events_refused_for_another_reason_cost_no_token() {
    let broker = shared();
    let channel = unique("private-tokens");
    let (mut sender, mut receiver) = pair(&broker, &channel);
    for _ in 0..30 {
        sender.send_text(&event("client-x", "private-elsewhere", &json!(1)));
        sender.send_text(&event("client-x", &channel, &json!("x".repeat(10_241))));
    }
    for _ in 0..30 {
        sender.error(4009);
        sender.error(4301);
    }
    let burst: Vec<u8> = (0..10).flat_map(|at| wire(1, event("client-n", &channel, &json!(at)).as_bytes())).collect();
    sender.send_bytes(&burst);
    sender.quiet();
    for at in 0..10 {
        receiver.expect_data("client-n", &channel, &at.to_string());
    }
}

#[test]
fn the_rate_is_counted_per_connection() {
    let broker = shared();
    let channel = unique("private-each");
    let (mut one, mut two) = pair(&broker, &channel);
    let burst: Vec<u8> = (0..10).flat_map(|at| wire(1, event("client-n", &channel, &json!(at)).as_bytes())).collect();
    one.send_bytes(&burst);
    for at in 0..10 {
        two.expect_data("client-n", &channel, &at.to_string());
    }
    two.send_bytes(&burst);
    for at in 0..10 {
        one.expect_data("client-n", &channel, &at.to_string());
    }
    one.quiet();
    two.quiet();
}

#[test]
fn a_rate_of_zero_means_no_limit() {
    let broker = Broker::with(one_app("client_events = true\n[apps.limits]\nclient_events_per_second = 0"));
    let (mut sender, mut receiver) = pair(&broker, "private-fast");
    let burst: Vec<u8> = (0..300).flat_map(|at| wire(1, event("client-n", "private-fast", &json!(at)).as_bytes())).collect();
    sender.send_bytes(&burst);
    for at in 0..300 {
        receiver.expect_data("client-n", "private-fast", &at.to_string());
    }
    sender.quiet();
}

#[test]
fn a_publisher_may_use_a_client_name_and_it_is_an_ordinary_event() {
    let broker = shared();
    let channel = unique("presence-publisher");
    let mut ws = broker.ws();
    ws.join(&channel, &member("42", None));
    broker.http().publish(&channel, "client-typing", "{}");
    assert_eq!(ws.event().json, json!({ "event": "client-typing", "channel": channel, "data": "{}" }));
}
