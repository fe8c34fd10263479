//! Holds from configuration, from outside: every way to carry a value, who a lock belongs to, and what becomes of a mismatch.

use serde_json::{Value, json};

use crate::support::{APP, Broker, Event, Launch, Ws, jwt, member, now_seconds, one_app, run_to_end, until};

const ORDER: &str = "channel = \"private-order.{order_id}\"\nresource = \"order:{order_id}\"\nevent = \"Order\"";

/// Two rules of the opening and of the subscription, as an application has them whose page is opened for one order.
const SINCE_OPEN: &str = "at = \"open\"\nresource = \"order:{token.order_id}\"\nevent = \"Order\"";

/// A broker with these keys of the application and these rules, and locks in memory.
fn broker(app: &str, rules: &[&str]) -> Broker {
    Broker::with(config(app, rules))
}

fn config(app: &str, rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|rule| format!("\n[[apps.holds]]\n{rule}\n")).collect();
    format!("[store]\nurl = \"memory\"\n{}", one_app(&format!("{app}\n{rules}")))
}

fn token(claims: Value) -> String {
    let mut claims = claims;
    claims["exp"] = json!(now_seconds() + 300);
    jwt(APP.secret, "HS256", &claims)
}

fn with_token(broker: &Broker, claims: Value) -> Ws {
    Ws::open_at(broker.address(), &format!("/ctx/{}/app/app-key?protocol=7", token(claims)), &[])
}

/// The locks that are alive on a resource.
fn locks(broker: &Broker, resource: &str) -> Vec<Value> {
    let answer = broker.http().get(&format!("/locks/{resource}"), &[]);
    answer.json()["locks"].as_array().unwrap_or_else(|| panic!("{}", answer.text())).clone()
}

/// The one lock that is alive on a resource.
fn lock(broker: &Broker, resource: &str) -> Value {
    let mut found = locks(broker, resource);
    assert_eq!(found.len(), 1, "{resource}: {found:?}");
    found.remove(0)
}

fn socket(ws: &Ws) -> String {
    format!("socket:{}", ws.socket_id)
}

/// The next event tells of a lock on this channel: the data, its fence apart.
fn locked(ws: &mut Ws, channel: Option<&str>) -> (Value, i64) {
    let event = ws.expect("holdline:locked");
    assert_eq!(event.channel(), channel, "{}", event.raw);
    let mut data = event.payload();
    let fence = data["fence"].take().as_i64().unwrap_or_else(|| panic!("a fence: {}", event.raw));
    (data, fence)
}

fn granted(resource: &str, principal: &str) -> Value {
    json!({ "resource": resource, "fence": null, "principal": principal, "outcome": "granted" })
}

/// Subscribes with `channel_data` that the application has signed, on a channel of any signed kind.
fn subscribe_with(ws: &mut Ws, channel: &str, channel_data: &str) {
    let auth = APP.auth(&format!("{}:{channel}:{channel_data}", ws.socket_id));
    ws.send_subscribe(channel, Some(&auth), Some(channel_data));
    ws.acknowledged(channel);
}

fn try_subscribe(ws: &mut Ws, channel: &str) -> Event {
    let auth = APP.auth(&format!("{}:{channel}", ws.socket_id));
    ws.send_subscribe(channel, Some(&auth), None);
    ws.event()
}

#[test]
fn the_channel_alone_locks_for_the_connection() {
    let broker = broker("", &[ORDER]);
    let mut ws = broker.ws();
    ws.subscribe("private-order.42");
    assert_eq!(locked(&mut ws, Some("private-order.42")).0, granted("order:42", &socket(&ws)));
    let lock = lock(&broker, "order:42");
    assert_eq!((&lock["context"], &lock["event"], &lock["mode"]), (&json!({ "order_id": "42" }), &json!("Order"), &json!("exclusive")));
    let mut other = broker.ws();
    for channel in ["private-orders.42", "presence-order.42", "private-order.42.7"] {
        other.enter(channel);
    }
    other.subscribe("private-order.43");
    assert_eq!(locked(&mut other, Some("private-order.43")).0, granted("order:43", &socket(&other)));
    let (kind, status, error) = {
        let auth = APP.auth(&format!("{}:private-order.42", other.socket_id));
        other.send_subscribe("private-order.42", Some(&auth), None);
        other.subscription_error("private-order.42")
    };
    assert_eq!((kind.as_str(), status, error.as_str()), ("LockConflict", 409, "order:42 is held by somebody else"));
}

#[test]
fn a_connection_that_is_its_own_principal_has_no_grace() {
    let broker = broker("", &[&format!("{ORDER}\ngrace = \"1h\"")]);
    let mut ws = broker.ws();
    ws.subscribe("private-order.1");
    locked(&mut ws, Some("private-order.1"));
    let mut next = broker.ws();
    assert_eq!(try_subscribe(&mut next, "private-order.1").name(), "pusher:subscription_error");
    drop(ws);
    let free = next.expect("holdline:lock_free");
    assert_eq!((free.channel(), free.payload()), (Some("private-order.1"), json!({ "resource": "order:1" })));
    next.subscribe("private-order.1");
    assert_eq!(locked(&mut next, Some("private-order.1")).0, granted("order:1", &socket(&next)));
}

#[test]
fn signed_channel_data_names_the_user_on_presence_and_on_private_channels() {
    let presence = "channel = \"presence-desk.{desk}\"\nresource = \"desk:{desk}:{channel_data.team}\"\nevent = \"Desk\"\ncontext = { team = \"{channel_data.team}\" }";
    let broker = broker("", &[ORDER, presence]);
    let mut ws = broker.ws();
    ws.join("presence-desk.3", &member("7", Some(r#"{"team":"blue"}"#)));
    assert_eq!(locked(&mut ws, Some("presence-desk.3")).0, granted("desk:3:blue", "user:7"));
    assert_eq!(lock(&broker, "desk:3:blue")["context"], json!({ "desk": "3", "user_id": "7", "team": "blue" }));
    subscribe_with(&mut ws, "private-order.1", r#"{"user_id":8}"#);
    assert_eq!(locked(&mut ws, Some("private-order.1")).0, granted("order:1", "user:8"));
    assert_eq!(lock(&broker, "order:1")["context"], json!({ "order_id": "1", "user_id": "8" }));

    let mut forger = broker.ws();
    let auth = APP.auth(&format!("{}:private-order.2", forger.socket_id));
    forger.send_subscribe("private-order.2", Some(&auth), Some(r#"{"user_id":"7"}"#));
    assert_eq!(forger.subscription_error("private-order.2").0, "AuthError", "channel_data that the signature does not cover");
    assert_eq!(locks(&broker, "order:2"), Vec::<Value>::new());
}

#[test]
fn a_subscription_without_its_value_is_refused_and_takes_nothing() {
    let broker = broker("", &["channel = \"presence-desk.{desk}\"\nresource = \"desk:{channel_data.team}\"\nevent = \"Desk\""]);
    let mut ws = broker.ws();
    ws.send_join("presence-desk.1", &member("7", None));
    let (kind, status, error) = ws.subscription_error("presence-desk.1");
    assert_eq!((kind.as_str(), status), ("InvalidResource", 400));
    assert_eq!(error, "No value for {channel_data.team} of desk:{channel_data.team}: 1 to 200 bytes are needed");
    ws.send_join("presence-desk.1", &member("7", Some(&json!({ "team": "x".repeat(196) }).to_string())));
    let error = ws.subscription_error("presence-desk.1").2;
    assert_eq!(error, "The resource desk:{channel_data.team} has 201 bytes, at most 200 are allowed");
    ws.send_join("presence-desk.1", &member("7", Some(r#"{"team":"a\u0000b"}"#)));
    assert_eq!(ws.subscription_error("presence-desk.1").2, "The value of {channel_data.team} has a control character");
    ws.join("presence-desk.1", &member("7", Some(&json!({ "team": "x".repeat(195) }).to_string())));
    locked(&mut ws, Some("presence-desk.1"));
}

#[test]
fn a_sign_in_names_the_user_and_can_lock_by_itself() {
    let signin = "at = \"signin\"\nresource = \"desk:{signin.desk}\"\nevent = \"Desk\"\ncontext = { name = \"{signin.name}\" }";
    let broker = broker("", &[ORDER, signin]);
    let mut ws = broker.ws();
    ws.signin(r#"{"id":"7","desk":"d","user_info":{"name":"Ada"}}"#);
    assert_eq!(locked(&mut ws, None).0, granted("desk:d", "user:7"));
    assert_eq!(lock(&broker, "desk:d")["context"], json!({ "user_id": "7", "name": "Ada" }));
    ws.subscribe("private-order.1");
    assert_eq!(locked(&mut ws, Some("private-order.1")).0, granted("order:1", "user:7"));

    let mut deskless = broker.ws();
    deskless.signin(r#"{"id":"8"}"#);
    deskless.quiet();
    let mut rival = broker.ws();
    rival.send_signin(r#"{"id":"9","desk":"d"}"#);
    assert_eq!(rival.error(4009), "desk:d is held by somebody else");
    rival.subscribe("private-order.2");
    assert_eq!(locked(&mut rival, Some("private-order.2")).0, granted("order:2", &socket(&rival)), "it is not signed in");
}

#[test]
fn a_verified_token_of_the_path_or_the_header_locks_when_the_connection_opens() {
    let broker = broker("handshake_auth = \"optional\"", &[SINCE_OPEN, ORDER]);
    let mut by_path = with_token(&broker, json!({ "sub": "7", "order_id": 1 }));
    assert_eq!(locked(&mut by_path, None).0, granted("order:1", "user:7"));
    let bearer = format!("Bearer {}", token(json!({ "user_id": "8", "sub": "other", "order_id": "2" })));
    let mut by_header = Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[("Authorization", &bearer)]);
    assert_eq!(locked(&mut by_header, None).0, granted("order:2", "user:8"));
    assert_eq!(lock(&broker, "order:2")["context"], json!({ "user_id": "8" }));
    let mut without = with_token(&broker, json!({ "sub": "9" }));
    without.quiet();
    without.subscribe("private-order.3");
    assert_eq!(locked(&mut without, Some("private-order.3")).0, granted("order:3", "user:9"), "the token names the user of later holds");
    broker.ws().quiet();
    let mut taken = with_token(&broker, json!({ "sub": "9", "order_id": 1 }));
    assert_eq!(taken.refused(4100), "order:1 is held by somebody else");
}

#[test]
fn query_headers_and_cookies_lock_only_where_they_are_trusted_and_never_name_a_user() {
    let rule = |carrier: &str| format!("at = \"open\"\nresource = \"{carrier}:{{{carrier}.order_id}}\"\nevent = \"{carrier}\"");
    let rules = ["query", "header", "cookie"].map(rule);
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let trusting = broker("trust_query = true", &rules);
    // What pusher-js makes of the key `app-key?order_id=42&user_id=7&x=`.
    let suffix = "/app/app-key?order_id=42&user_id=7&x=?protocol=7&client=js&version=8.4.0";
    let mut ws = Ws::open_at(trusting.address(), suffix, &[]);
    assert_eq!(locked(&mut ws, None).0, granted("query:42", &socket(&ws)));
    assert_eq!(lock(&trusting, "query:42")["context"], json!({}));
    let headers = [("order_id", "43"), ("Cookie", "a=b; order_id=44; user_id=7"), ("user_id", "7")];
    let mut ws = Ws::open_at(trusting.address(), "/app/app-key?protocol=7", &headers);
    assert_eq!(locked(&mut ws, None).0, granted("header:43", &socket(&ws)));
    assert_eq!(locked(&mut ws, None).0, granted("cookie:44", &socket(&ws)));
    let mut bad = Ws::open_at(trusting.address(), "/app/app-key?order_id=a%0Ab&protocol=7", &[]);
    assert_eq!(bad.refused(4009), "The value of {query.order_id} has a control character");

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("holdline.toml"), config("", &rules)).unwrap();
    let ended = run_to_end(directory.path(), &["serve", "--port", "0"], &[]);
    assert!(ended.code != 0 && ended.said().contains("trust_query"), "{}", ended.said());
    let wary = broker("handshake_auth = \"optional\"", &[SINCE_OPEN, ORDER]);
    let mut ws = Ws::open_at(wary.address(), suffix, &[("user_id", "7"), ("Cookie", "user_id=7")]);
    ws.quiet();
    ws.subscribe("private-order.42");
    assert_eq!(locked(&mut ws, Some("private-order.42")).0, granted("order:42", &socket(&ws)));
}

#[test]
fn the_user_is_the_signed_in_one_before_the_member_before_the_token() {
    let presence = "channel = \"presence-desk.{desk}\"\nresource = \"desk:{desk}\"\nevent = \"Desk\"";
    let broker = broker("handshake_auth = \"optional\"", &[ORDER, presence]);
    let mut ws = with_token(&broker, json!({ "sub": "token" }));
    ws.join("presence-desk.1", &member("member", None));
    assert_eq!(locked(&mut ws, Some("presence-desk.1")).0, granted("desk:1", "user:member"));
    ws.subscribe("private-order.1");
    assert_eq!(locked(&mut ws, Some("private-order.1")).0, granted("order:1", "user:token"));
    ws.signin(r#"{"id":"signed-in"}"#);
    ws.join("presence-desk.2", &member("member", None));
    assert_eq!(locked(&mut ws, Some("presence-desk.2")).0, granted("desk:2", "user:signed-in"));
}

#[test]
fn a_socket_rule_locks_for_the_connection_whoever_is_behind_it() {
    let broker = broker("", &[&format!("{ORDER}\nprincipal = \"socket\"")]);
    let (mut first, mut second) = (broker.ws(), broker.ws());
    first.signin(r#"{"id":"7"}"#);
    second.signin(r#"{"id":"7"}"#);
    first.subscribe("private-order.1");
    assert_eq!(locked(&mut first, Some("private-order.1")).0, granted("order:1", &socket(&first)));
    assert_eq!(try_subscribe(&mut second, "private-order.1").payload()["type"], json!("LockConflict"), "another tab is somebody else");
    assert_eq!(lock(&broker, "order:1")["context"], json!({ "order_id": "1", "user_id": "7" }));
}

#[test]
fn tabs_of_one_user_share_a_lock_and_the_last_one_leaves_it_in_grace() {
    let broker = broker("", &[&format!("{ORDER}\ngrace = \"1h\"")]);
    let tab = || {
        let mut ws = broker.ws();
        ws.signin(r#"{"id":"7"}"#);
        ws.subscribe("private-order.1");
        let (data, fence) = locked(&mut ws, Some("private-order.1"));
        (ws, data["outcome"].as_str().unwrap().to_owned(), fence)
    };
    let (first, outcome, fence) = tab();
    assert_eq!(outcome, "granted");
    let (second, outcome, same) = tab();
    assert_eq!((outcome.as_str(), same), ("attached", fence));
    until("both hold", || lock(&broker, "order:1")["holders"].as_array().unwrap().len() == 2);
    drop(first);
    until("one holds", || lock(&broker, "order:1")["holders"].as_array().unwrap().len() == 1);
    assert_eq!(lock(&broker, "order:1")["state"], json!("held"));
    drop(second);
    until("it is in its grace", || lock(&broker, "order:1")["state"] == json!("grace"));
    let (mut back, outcome, same) = tab();
    assert_eq!((outcome.as_str(), same), ("resumed", fence));
    back.unsubscribe("private-order.1");
    until("it is free", || locks(&broker, "order:1").is_empty());
}

#[test]
fn shared_rules_admit_many_and_take_takes() {
    let shared = "channel = \"private-room.{room}\"\nresource = \"room:{room}\"\nevent = \"Room\"\nmode = \"shared\"";
    let taking = format!("{ORDER}\nif_taken = \"take\"\nshow_holder = true");
    let broker = broker("", &[shared, &taking]);
    let (mut first, mut second) = (broker.ws(), broker.ws());
    for ws in [&mut first, &mut second] {
        ws.subscribe("private-room.1");
        let (data, _) = locked(ws, Some("private-room.1"));
        assert_eq!(data["outcome"], json!("granted"));
    }
    assert_eq!(locks(&broker, "room:1").len(), 2);
    first.subscribe("private-order.1");
    let (_, fence) = locked(&mut first, Some("private-order.1"));
    second.subscribe("private-order.1");
    assert!(locked(&mut second, Some("private-order.1")).1 > fence);
    let lost = first.expect("holdline:lock_lost").payload();
    assert_eq!((&lost["resource"], &lost["fence"], &lost["cause"]), (&json!("order:1"), &json!(fence), &json!("taken_over")));
}

/// A connection that has held order 1 since it opened, with a rule for other orders.
fn since_open(on_mismatch: &str) -> (Broker, Ws) {
    let rule = format!("{ORDER}\non_mismatch = \"{on_mismatch}\"");
    let broker = broker("handshake_auth = \"optional\"", &[SINCE_OPEN, &rule]);
    let mut ws = with_token(&broker, json!({ "sub": "7", "order_id": 1 }));
    locked(&mut ws, None);
    (broker, ws)
}

fn warnings(broker: &Broker) -> usize {
    broker.log_lines().iter().filter(|line| line.contains("takes order:2 beside order:1")).count()
}

#[test]
fn a_mismatch_is_held_too_with_a_warning_or_without() {
    for (on_mismatch, warned) in [("warn", 1), ("hold_both", 0)] {
        let (broker, mut ws) = since_open(on_mismatch);
        ws.subscribe("private-order.2");
        assert_eq!(locked(&mut ws, Some("private-order.2")).0, granted("order:2", "user:7"));
        ws.quiet();
        assert_eq!((locks(&broker, "order:1").len(), locks(&broker, "order:2").len()), (1, 1));
        assert_eq!(warnings(&broker), warned, "{on_mismatch}");
    }
}

#[test]
fn a_mismatch_can_be_refused() {
    let (broker, mut ws) = since_open("reject");
    let refused = try_subscribe(&mut ws, "private-order.2").payload();
    let error = "This connection has held order:1 since it opened, and order:2 is not the same";
    let expected = json!({ "type": "LockMismatch", "status": 409, "error": error, "resource": "order:2", "held": "order:1" });
    assert_eq!(refused, expected);
    assert_eq!((locks(&broker, "order:1").len(), locks(&broker, "order:2").len()), (1, 0));
    ws.subscribe("private-order.1");
    let (data, _) = locked(&mut ws, Some("private-order.1"));
    assert_eq!((&data["resource"], &data["principal"]), (&json!("order:1"), &json!("user:7")), "its own order is no mismatch");
}

#[test]
fn a_mismatch_can_switch_and_the_old_lock_goes_only_when_the_new_one_is_granted() {
    let (broker, mut ws) = since_open("switch");
    let mut rival = broker.ws();
    rival.subscribe("private-order.2");
    locked(&mut rival, Some("private-order.2"));
    assert_eq!(try_subscribe(&mut ws, "private-order.2").payload()["type"], json!("LockConflict"));
    assert_eq!(lock(&broker, "order:1")["state"], json!("held"), "refused, it keeps what it has");
    rival.unsubscribe("private-order.2");
    ws.expect("holdline:lock_free");
    ws.subscribe("private-order.2");
    assert_eq!(locked(&mut ws, Some("private-order.2")).0, granted("order:2", "user:7"));
    until("order 1 is free", || locks(&broker, "order:1").is_empty());
    rival.subscribe("private-order.1");
    locked(&mut rival, Some("private-order.1"));
}

#[test]
fn a_connection_does_not_refuse_itself_what_it_has_held_since_it_opened() {
    let query = "at = \"open\"\nresource = \"order:{query.order_id}\"\nevent = \"Order\"";
    let broker = broker("trust_query = true", &[query, ORDER]);
    let mut ws = Ws::open_at(broker.address(), "/app/app-key?order_id=1&protocol=7", &[]);
    let (_, fence) = locked(&mut ws, None);
    ws.signin(r#"{"id":"7"}"#);
    ws.subscribe("private-order.1");
    let (data, same) = locked(&mut ws, Some("private-order.1"));
    assert_eq!((&data["principal"], &data["outcome"], same), (&json!(socket(&ws)), &json!("attached"), fence));
    ws.unsubscribe("private-order.1");
    ws.quiet();
    until("the subscription's hold is over", || lock(&broker, "order:1")["holders"].as_array().unwrap().len() == 1);
    assert_eq!(lock(&broker, "order:1")["fence"], json!(fence), "the connection's own is not");
}

#[test]
fn applications_have_their_own_rules() {
    let other = "[[apps]]\nid = \"other-id\"\nkey = \"other-key\"\nsecret = \"other-secret\"\n";
    let broker = Broker::with(config("", &[ORDER]) + other);
    let mut ws = Ws::open_at(broker.address(), "/app/other-key?protocol=7", &[]);
    let auth = crate::support::OTHER.auth(&format!("{}:private-order.1", ws.socket_id));
    ws.send_subscribe("private-order.1", Some(&auth), None);
    ws.acknowledged("private-order.1");
    ws.quiet();
    assert_eq!(locks(&broker, "order:1"), Vec::<Value>::new());
}

#[test]
fn the_development_application_locks_orders_and_shows_who_holds_them() {
    let broker = Launch::default().start();
    let (mut first, mut second) = (broker.ws(), broker.ws());
    first.signin(r#"{"id":"7"}"#);
    first.subscribe("private-order.42");
    assert_eq!(locked(&mut first, Some("private-order.42")).0, granted("order:42", "user:7"));
    let refused = try_subscribe(&mut second, "private-order.42").payload();
    let expected = json!({
        "type": "LockConflict", "status": 409, "error": "order:42 is held by user:7", "resource": "order:42", "holder": "user:7"
    });
    assert_eq!(refused, expected);
    let configured = Broker::with(one_app(""));
    let mut ws = configured.ws();
    ws.subscribe("private-order.42");
    ws.quiet();
    assert_eq!(locks(&configured, "order:42"), Vec::<Value>::new());
}

#[test]
fn without_a_store_nothing_is_held() {
    let broker = Launch::default().env("HOLDLINE_STORE__URL", "none").start();
    let (mut first, mut second) = (broker.ws(), broker.ws());
    for ws in [&mut first, &mut second] {
        ws.subscribe("private-order.42");
        ws.quiet();
    }
}
