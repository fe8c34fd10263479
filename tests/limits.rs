//! Every configurable limit is crossed, and not crossed, on a broker where all of them are small.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{APP, Answer, Broker, Http, Ws, member, now_seconds, one_app, query_string};

const SMALL: &str = r#"
client_events = true
[apps.limits]
max_event_bytes = "64B"
max_channels_per_event = 3
max_batch = 2
max_channel_name = 20
max_event_name = 10
max_presence_members = 2
max_user_id = 5
max_user_info_bytes = "16B"
max_watchlist = 2
max_subscriptions = 3
max_client_event_bytes = "32B"
client_events_per_second = 3
timestamp_tolerance = "30s"
"#;

const PING: &[u8] = br#"{"event":"pusher:ping"}"#;

fn small() -> Broker {
    Broker::with(one_app(SMALL))
}

fn event(http: &mut Http, change: impl FnOnce(&mut Value)) -> Answer {
    let mut body = json!({ "name": "e", "channels": ["news"], "data": "1" });
    change(&mut body);
    http.trigger(&body)
}

fn limit_reached(ws: &mut Ws, channel: &str, status: u64) -> String {
    let (kind, found, text) = ws.subscription_error(channel);
    assert_eq!((kind.as_str(), found), ("LimitReached", status), "{text}");
    text
}

#[test]
fn max_event_bytes() {
    let broker = small();
    let mut http = broker.http();
    assert_eq!(event(&mut http, |body| body["data"] = json!("x".repeat(64))).status, 200);
    let text = event(&mut http, |body| body["data"] = json!("x".repeat(65))).refused(413);
    assert!(text.contains("64"), "the limit is named: {text}");
    let batch = json!({ "batch": [{ "channel": "a", "name": "e", "data": "x".repeat(65) }] });
    http.post("/batch_events", batch.to_string()).refused(413);
}

#[test]
fn max_channels_per_event() {
    let broker = small();
    let mut http = broker.http();
    assert_eq!(event(&mut http, |body| body["channels"] = json!(["a", "b", "c"])).status, 200);
    event(&mut http, |body| body["channels"] = json!(["a", "b", "c", "d"])).refused(400);
}

#[test]
fn max_batch() {
    let broker = small();
    let mut http = broker.http();
    let item = json!({ "channel": "a", "name": "e", "data": "1" });
    assert_eq!(http.post("/batch_events", json!({ "batch": vec![item.clone(); 2] }).to_string()).status, 200);
    let text = http.post("/batch_events", json!({ "batch": vec![item; 3] }).to_string()).refused(400);
    assert!(text.starts_with("Batch too large"), "{text}");
}

#[test]
fn max_channel_name() {
    let broker = small();
    let (mut http, mut ws) = (broker.http(), broker.ws());
    let (fits, too_long) = ("n".repeat(20), "n".repeat(21));
    ws.subscribe(&fits);
    ws.send_subscribe(&too_long, None, None);
    assert_eq!(limit_reached(&mut ws, &too_long, 4009), "The channel name is longer than the allowed 20 characters.");
    assert_eq!(event(&mut http, |body| body["channels"] = json!([fits])).status, 200);
    event(&mut http, |body| body["channels"] = json!([too_long])).refused(400);
    http.get(&format!("/channels/{too_long}"), &[]).refused(400);
}

#[test]
fn max_event_name() {
    let broker = small();
    let (mut http, mut ws) = (broker.http(), broker.ws());
    assert_eq!(event(&mut http, |body| body["name"] = json!("é".repeat(10))).status, 200);
    event(&mut http, |body| body["name"] = json!("n".repeat(11))).refused(400);
    ws.subscribe("private-x");
    ws.send(&json!({ "event": "client-nam", "channel": "private-x", "data": 1 }));
    ws.quiet();
    ws.send(&json!({ "event": "client-name", "channel": "private-x", "data": 1 }));
    assert_eq!(ws.error(4301), "Event name is too long. Maximum allowed size is 10.");
}

#[test]
fn max_presence_members() {
    let broker = small();
    let mut sockets: Vec<Ws> = (0..4).map(|_| broker.ws()).collect();
    for (at, id) in ["1", "2", "2"].into_iter().enumerate() {
        sockets[at].join("presence-x", &member(id, None));
    }
    sockets[3].send_join("presence-x", &member("3", None));
    let text = limit_reached(&mut sockets[3], "presence-x", 4100);
    assert_eq!(text, "The maximum members per presence channel limit was reached");
    sockets[3].quiet();
}

#[test]
fn max_user_id() {
    let broker = small();
    let mut ws = broker.ws();
    ws.send_join("presence-x", &member("123456", None));
    limit_reached(&mut ws, "presence-x", 4301);
    ws.join("presence-x", &member("éééé5", None));
    let mut ws = broker.ws();
    ws.send_signin(r#"{"id":"123456"}"#);
    ws.error(4009);
    ws.signin(r#"{"id":"12345"}"#);
}

#[test]
fn max_user_info_bytes() {
    let broker = small();
    let mut ws = broker.ws();
    let info = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    ws.send_join("presence-x", &member("1", Some(&info(17))));
    assert_eq!(limit_reached(&mut ws, "presence-x", 4301), "The maximum size for a channel member is 16 bytes.");
    ws.join("presence-x", &member("1", Some(&info(16))));
}

#[test]
fn max_user_info_bytes_holds_for_the_signed_in_shortcut_too() {
    let broker = small();
    let mut ws = broker.ws();
    ws.signin(&format!(r#"{{"id":"1","user_info":{{"a":"{}"}}}}"#, "x".repeat(100)));
    let auth = APP.auth(&format!("{}:presence-x", ws.socket_id));
    ws.send_subscribe("presence-x", Some(&auth), None);
    limit_reached(&mut ws, "presence-x", 4301);
}

#[test]
fn max_watchlist() {
    let broker = small();
    let mut ws = broker.ws();
    ws.signin(r#"{"id":"1","watchlist":["2","3"]}"#);
    ws.expect("pusher_internal:watchlist_events");
    ws.quiet();
    let mut ws = broker.ws();
    ws.signin(r#"{"id":"9","watchlist":["2","3","4"]}"#);
    let events = [ws.event(), ws.event()];
    assert!(events.iter().any(|event| event.json["data"]["code"] == json!(4302)), "{events:?}");
    assert!(events.iter().any(|event| event.name() == "pusher_internal:watchlist_events" && !event.data().contains('4')), "{events:?}");
}

#[test]
fn max_subscriptions() {
    let broker = small();
    let mut ws = broker.ws();
    for channel in ["a", "b", "c"] {
        ws.subscribe(channel);
    }
    ws.send_subscribe("d", None, None);
    assert_eq!(limit_reached(&mut ws, "d", 4100), "Too many subscriptions on this connection.");
    ws.subscribe("a");
    ws.unsubscribe("b");
    ws.subscribe("d");
    let mut other = broker.ws();
    other.subscribe("e");
    ws.quiet();
}

#[test]
fn nobody_has_to_set_max_subscriptions() {
    let broker = Broker::with(one_app(""));
    let mut ws = broker.ws();
    for hundred in 0..100 {
        (0..100).for_each(|n| ws.send_subscribe(&format!("c{}", hundred * 100 + n), None, None));
        (0..100).for_each(|n| drop(ws.acknowledged(&format!("c{}", hundred * 100 + n))));
    }
    ws.send_subscribe("c10000", None, None);
    assert_eq!(limit_reached(&mut ws, "c10000", 4100), "Too many subscriptions on this connection.");
}

#[test]
fn max_client_event_bytes() {
    let broker = small();
    let mut ws = broker.ws();
    ws.subscribe("private-x");
    ws.send(&json!({ "event": "client-x", "channel": "private-x", "data": "x".repeat(32) }));
    ws.quiet();
    ws.send(&json!({ "event": "client-x", "channel": "private-x", "data": "x".repeat(33) }));
    ws.error(4301);
}

#[test]
fn client_events_per_second() {
    let broker = small();
    let (mut sender, mut receiver) = (broker.ws(), broker.ws());
    sender.subscribe("private-x");
    receiver.subscribe("private-x");
    // Three, and as many as come back while they are handled: on a slow machine that may be one.
    let text = json!({ "event": "client-x", "channel": "private-x", "data": 1 }).to_string();
    let began = Instant::now();
    sender.send_bytes(&[crate::support::wire(1, text.as_bytes()).repeat(40), crate::support::wire(1, PING)].concat());
    let mut refused = 0;
    loop {
        let event = sender.event();
        if event.name() == "pusher:pong" {
            break;
        }
        assert_eq!((event.name(), &event.json["data"]["code"]), ("pusher:error", &json!(4301)));
        refused += 1;
    }
    let most = 3 + (began.elapsed().as_secs_f64() * 3.0) as usize;
    assert!((3..=most).contains(&(40 - refused)), "{refused} of 40 were refused, at most {most} may pass");
    for _ in refused..40 {
        receiver.expect("client-x");
    }
    receiver.quiet();
}

#[test]
fn timestamp_tolerance() {
    let broker = small();
    let mut http = broker.http();
    let mut at = |seconds: i64| {
        let stamp = now_seconds().checked_add_signed(seconds).unwrap();
        let mut query = APP.unsigned_query(&[], b"", stamp);
        APP.sign("GET", "/apps/app-id/channels", &mut query);
        http.plain(&format!("/apps/app-id/channels?{}", query_string(&query)))
    };
    assert_eq!(at(-20).status, 200);
    assert_eq!(at(20).status, 200);
    at(-31).refused(401);
    at(40).refused(401);
}

#[test]
fn limits_of_one_app_are_not_the_limits_of_another() {
    let other = "[[apps]]\nid = \"other-id\"\nkey = \"other-key\"\nsecret = \"other-secret\"\n";
    let broker = Broker::with(one_app(SMALL) + other);
    let mut http = broker.http().signing_as(crate::support::OTHER);
    assert_eq!(event(&mut http, |body| body["data"] = json!("x".repeat(10_240))).status, 200);
    event(&mut broker.http(), |body| body["data"] = json!("x".repeat(10_240))).refused(413);
}

#[test]
fn a_hundred_subscriptions_are_fine_where_no_limit_is_set() {
    let broker = crate::support::shared();
    let mut ws = broker.ws();
    let stem = crate::support::unique("unlimited");
    for at in 0..300 {
        ws.subscribe(&format!("{stem}-{at}"));
    }
    ws.quiet();
}
