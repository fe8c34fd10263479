//! The upgrade and the first frame: protocol.md 1.1 and 1.2.

use serde_json::json;

use crate::support::{Broker, Launch, OTHER, Ws, one_app, server_with, shared};

const GOOD: [(&str, &str); 2] = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")];

fn is_socket_id(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() < 64 && text.split_once('.').is_some_and(|(left, right)| digits(left) && digits(right))
}

#[test]
fn the_first_frame_is_connection_established_with_a_string_inside() {
    let broker = shared();
    let mut ws = Ws::upgrade(broker.address(), "/app/app-key?protocol=7&client=js&version=8.6.0&flash=false", &[]);
    let event = ws.established();
    let data = event.payload();
    assert!(is_socket_id(data["socket_id"].as_str().unwrap()), "{}", event.raw);
    assert_eq!(data["activity_timeout"], json!(120));
    assert_eq!(event.json.as_object().unwrap().len(), 2, "event and data only: {}", event.raw);
    ws.quiet();
}

#[test]
fn the_advertised_activity_timeout_is_the_configured_one() {
    let broker = Broker::with(server_with("activity_timeout = \"77s\"", ""));
    let mut ws = Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[]);
    assert_eq!(ws.established().payload()["activity_timeout"], json!(77));
}

#[test]
fn socket_ids_differ() {
    let broker = shared();
    let sockets: Vec<Ws> = (0..50).map(|_| broker.ws()).collect();
    let mut ids: Vec<&str> = sockets.iter().map(|ws| ws.socket_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn protocol_versions_four_to_seven_and_none_at_all_are_accepted() {
    let broker = shared();
    for query in [
        "?protocol=4",
        "?protocol=5",
        "?protocol=6",
        "?protocol=7",
        "?client=js",
        "",
        "?version=%F0%9F%A6%80&protocol=7&x",
        "?client=swift&protocol=7",
    ] {
        Ws::open_at(broker.address(), &format!("/app/app-key{query}"), &[]).quiet();
    }
}

#[test]
fn the_upgrade_headers_of_all_browsers_are_understood() {
    let broker = shared();
    for (connection, upgrade) in [("keep-alive, Upgrade", "websocket"), ("upgrade", "WebSocket"), ("Upgrade,keep-alive", "WEBSOCKET")] {
        let mut http = broker.http();
        let headers = [GOOD[0], GOOD[1], ("Connection", connection), ("Upgrade", upgrade)];
        let answer = http.request("GET", "/app/app-key?protocol=7", &headers, b"");
        assert_eq!(answer.status, 101, "{connection} / {upgrade}: {}", answer.text());
    }
}

#[test]
fn a_sub_protocol_or_an_extension_is_not_answered_unless_asked_for() {
    let broker = shared();
    let ws = Ws::upgrade(broker.address(), "/app/app-key", &[]);
    assert_eq!(ws.head.header("sec-websocket-protocol"), None);
    assert_eq!(ws.head.header("sec-websocket-extensions"), None);
    let offer = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")];
    let mut ws = Ws::upgrade(broker.address(), "/app/app-key", &offer);
    assert_eq!(ws.head.header("sec-websocket-extensions"), None, "compression is declined");
    ws.established();
}

/// A browser ends a connection whose answer is silent about the sub-protocols that the page has asked for.
#[test]
fn of_the_sub_protocols_that_are_asked_for_the_first_is_answered() {
    let broker = shared();
    for (key, asked, answered) in [("app-key", "pusher", "pusher"), ("app-key", " , v7.pusher , other", "v7.pusher"), ("nokey", "a,b", "a")]
    {
        let ws = Ws::upgrade(broker.address(), &format!("/app/{key}"), &[("Sec-WebSocket-Protocol", asked)]);
        assert_eq!(ws.head.header("sec-websocket-protocol"), Some(answered), "{key} {asked}");
    }
    let ws = Ws::upgrade(broker.address(), "/app/app-key", &[("Sec-WebSocket-Protocol", " ,")]);
    assert_eq!(ws.head.header("sec-websocket-protocol"), None);
}

#[test]
fn a_switching_answer_does_not_also_announce_a_close() {
    let broker = shared();
    let ws = Ws::upgrade(broker.address(), "/app/app-key", &[]);
    let connection = ws.head.header("connection").unwrap_or_default().to_lowercase();
    assert_eq!(connection, "upgrade");
}

#[test]
fn a_percent_encoded_key_is_decoded_before_it_is_looked_up() {
    let broker = Broker::with(one_app("") + "[[apps]]\nid = \"odd\"\nkey = \"odd.key@1\"\nsecret = \"s\"\n");
    Ws::open_at(broker.address(), "/app/app%2Dkey?protocol=7", &[]).quiet();
    Ws::open_at(broker.address(), "/app/odd%2Ekey%401?protocol=7", &[]).quiet();
}

#[test]
fn a_path_prefix_is_served_besides_the_plain_paths() {
    let broker = Broker::with(server_with("path_prefix = \"/ws\"", ""));
    Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[]).quiet();
    let mut ws = Ws::open_at(broker.address(), "/ws/app/app-key?protocol=7", &[]);
    ws.subscribe("news");
    let mut http = broker.http();
    assert_eq!(http.get("/channels", &[]).json(), json!({ "channels": { "news": {} } }));
    let target = format!("/ws{}", http.signed_target("GET", "/channels", &[], b""));
    assert_eq!(http.plain(&target).json(), json!({ "channels": { "news": {} } }), "the signature is over the path without the prefix");
    let body = br#"{"name":"e","channel":"news","data":"1"}"#;
    let target = format!("/ws{}", http.signed_target("POST", "/events", &[], body));
    assert_eq!(http.request("POST", &target, &[], body).json(), json!({}));
    ws.expect_data("e", "news", "1");
    http.plain("/wsx/app/app-key").refused(404);
}

#[test]
fn a_plain_get_of_the_socket_path_is_told_to_upgrade() {
    let broker = shared();
    let mut http = broker.http();
    for target in ["/app/app-key", "/app/app-key?protocol=7", "/app/nokey"] {
        let answer = http.plain(target);
        assert!(matches!(answer.status, 400 | 426), "{} {}", answer.status, answer.text());
        answer.refused(answer.status);
    }
}

#[test]
fn a_wrong_method_on_the_socket_path_is_405() {
    let broker = shared();
    let mut http = broker.http();
    http.request("POST", "/app/app-key", &[], b"").refused(405);
}

#[test]
fn a_malformed_websocket_key_is_refused_with_400() {
    let broker = shared();
    for key in ["", "short", "AAAA", "not base64 at all!!!!!!!", "dGhlIHNhbXBsZSBub25jZSBpcyB0b28gbG9uZw=="] {
        let ws = Ws::try_upgrade(broker.address(), "/app/app-key", &[("Sec-WebSocket-Key", key), GOOD[1]]);
        assert_eq!(ws.head.status, 400, "key {key:?}: {}", ws.head.text());
    }
    let ws = Ws::try_upgrade(broker.address(), "/app/app-key", &GOOD[1..]);
    assert_eq!(ws.head.status, 400, "no key at all");
}

#[test]
fn an_upgrade_that_would_be_answered_in_chunks_is_refused() {
    let broker = shared();
    let refused: [&[(&str, &str)]; 4] = [
        &[("Upgrade", "h2c, websocket")],
        &[("Upgrade", "websocket, h2c")],
        &[("Upgrade", "xwebsocket")],
        &[("Upgrade", "websocket"), ("Transfer-Encoding", "chunked")],
    ];
    for headers in refused {
        let mut http = broker.http();
        let answer = http.request("GET", "/app/app-key", &[&[("Connection", "Upgrade"), GOOD[0], GOOD[1]], headers].concat(), b"");
        assert_eq!(answer.status, 400, "{headers:?}: {}", answer.text());
    }
}

#[test]
fn another_websocket_version_is_refused() {
    let broker = shared();
    for version in ["8", "12", "14", "x"] {
        let ws = Ws::try_upgrade(broker.address(), "/app/app-key", &[GOOD[0], ("Sec-WebSocket-Version", version)]);
        assert!(matches!(ws.head.status, 400 | 426), "{version}: {}", ws.head.status);
    }
}

#[test]
fn paths_that_are_not_the_socket_path_are_404() {
    let broker = shared();
    for target in [
        "/",
        "/app",
        "/app/",
        "/app/app-key/",
        "/app/app-key/more",
        "/apps/app-key",
        "/apps/app-id/nope",
        "/pusher/app/app-key/1/x/xhr_streaming",
        "/nope",
    ] {
        let ws = Ws::try_upgrade(broker.address(), target, &GOOD);
        let expected = if target == "/" { 200 } else { 404 };
        assert_eq!(ws.head.status, expected, "{target}");
    }
}

#[test]
fn oversize_request_headers_are_refused_and_harm_nobody() {
    let broker = Launch { errors_expected: true, ..Launch::config(one_app("")) }.start();
    let mut neighbour = broker.ws();
    let long = "x".repeat(512 * 1024);
    let ws = Ws::try_upgrade(broker.address(), "/app/app-key", &[GOOD[0], GOOD[1], ("X-Long", &long)]);
    assert!((400..500).contains(&ws.head.status), "{}", ws.head.status);
    neighbour.quiet();
}

#[test]
fn the_key_suffix_trick_of_raw_clients_is_understood() {
    let broker = Broker::with(server_with("strict_protocol = true", ""));
    let mut ws = Ws::open_at(broker.address(), "/app/app-key?user_id=7&order_id=42&x=?protocol=7&client=js", &[]);
    ws.quiet();
}

#[test]
fn two_apps_do_not_share_channels() {
    let app = |extra: &str| format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n{extra}", OTHER.id, OTHER.key, OTHER.secret);
    let broker = Broker::with(one_app("") + &app(""));
    let mut ours = broker.ws();
    let mut theirs = Ws::open_at(broker.address(), "/app/other-key?protocol=7", &[]);
    ours.send_subscribe("news", None, None);
    ours.acknowledged("news");
    theirs.send_subscribe("news", None, None);
    theirs.acknowledged("news");
    broker.http().publish("news", "e", "1");
    ours.expect_data("e", "news", "1");
    theirs.quiet();
    let mut http = broker.http().signing_as(OTHER);
    assert_eq!((http.connections(), http.subscribers("news")), (1, 1));
}

#[test]
fn health_paths_answer_without_a_signature() {
    let broker = shared();
    let mut http = broker.http();
    for (path, body) in [("/", "OK"), ("/ready", "OK"), ("/accept-traffic", "OK"), ("/up", r#"{"health":"OK"}"#)] {
        let answer = http.plain(path);
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{path}");
    }
}
