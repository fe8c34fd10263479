//! HTTP as such: kept connections, chunked bodies, `Expect`, sizes, unknown paths and methods. Protocol.md 6.3, 6.4, 6.11.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::json;

use crate::support::{Broker, Http, Launch, WAIT, one_app, server_with, shared, unique};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

/// A broker that may log what the HTTP library thinks of malformed requests.
fn tolerant() -> Broker {
    Launch { errors_expected: true, ..Launch::config(one_app("")) }.start()
}

fn event(channel: &str, data: &str) -> String {
    json!({ "name": "e", "channel": channel, "data": data }).to_string()
}

#[test]
fn one_connection_serves_many_requests_and_errors_do_not_end_it() {
    let broker = shared();
    let mut http = broker.http();
    let channel = unique("kept");
    for _ in 0..20 {
        http.publish(&channel, "e", "1");
        http.request("POST", "/apps/app-id/events", &[], b"{}").refused(401);
        http.post("/events", "not json").refused(400);
        http.post("/events", event(&channel, &"x".repeat(10_241))).refused(413);
        http.get("/nope", &[]).refused(404);
        http.request("DELETE", "/apps/app-id/events", &[], b"").refused(405);
        let answer = http.get("/channels", &[]);
        assert_eq!(answer.status, 200);
        assert!(answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")), "{:?}", answer.headers);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let broker = shared();
    let mut http = broker.http();
    let target = http.signed_target("GET", "/channels", &[("filter_by_prefix", "no-such-prefix")], b"");
    let requests = ["/up", &target, "/nope", "/"].map(|target| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    http.send_bytes(requests.concat().as_bytes());
    assert_eq!(http.answer().text(), r#"{"health":"OK"}"#);
    assert_eq!(http.answer().json(), json!({ "channels": {} }));
    http.answer().refused(404);
    assert_eq!(http.answer().text(), "OK");
}

#[test]
fn a_client_that_expects_100_continue_gets_it_before_it_sends_the_body() {
    let broker = shared();
    let mut http = broker.http();
    let body = event(&unique("expect"), "1");
    let target = http.signed_target("POST", "/events", &[], body.as_bytes());
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
    http.send_bytes(head.as_bytes());
    assert_eq!(http.answer().status, 100);
    http.send_bytes(body.as_bytes());
    assert_eq!(http.answer().json(), json!({}));
    assert_eq!(http.plain("/up").status, 200, "the connection is kept");
}

#[test]
fn a_chunked_body_is_understood() {
    let broker = shared();
    let channel = unique("chunked");
    let mut ws = broker.ws();
    ws.subscribe(&channel);
    let mut http = broker.http();
    let body = event(&channel, "in pieces");
    let target = http.signed_target("POST", "/events", &[], body.as_bytes());
    let chunks: String =
        body.as_bytes().chunks(7).map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk))).collect();
    http.send_bytes(format!("POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").as_bytes());
    assert_eq!(http.answer().json(), json!({}));
    ws.expect_data("e", &channel, "in pieces");
    assert_eq!(http.plain("/up").status, 200);
}

/// Java's own HTTP client offers HTTP/2 with every request; so does `curl --http2`.
#[test]
fn a_client_that_offers_http_2_is_answered_in_http_1_1() {
    let broker = shared();
    let offer = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAEAAEAAAAIAAAAAAAMAAAAA")];
    let body = event(&unique("h2c"), "1");
    let target = broker.http().signed_target("POST", "/events", &[], body.as_bytes());
    assert_eq!(broker.http().request("POST", &target, &offer, body.as_bytes()).json(), json!({}));
    let target = broker.http().signed_target("GET", "/connections", &[], b"");
    assert_eq!(broker.http().request("GET", &target, &offer, b"").status, 200);
    assert_eq!(broker.http().request("GET", "/up", &offer, b"").status, 200);
    broker.http().request("GET", "/nope", &offer, b"").refused(404);
    let answer = broker.http().request("GET", "/app/app-key", &offer, b"");
    assert!(matches!(answer.status, 400 | 426), "{} {}", answer.status, answer.text());
}

/// Or its pool would send the next request into a connection that is about to be gone.
#[test]
fn a_connection_that_ends_with_its_answer_says_so() {
    let broker = shared();
    let offer = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAEAAEAAAAIAAAAAAAMAAAAA")];
    for target in ["/up", "/nope", "/app/app-key"] {
        let answer = broker.http().request("GET", target, &offer, b"");
        let connection = answer.header("connection").unwrap_or_default().to_lowercase();
        assert!(connection.split(',').any(|word| word.trim() == "close"), "{target}: {:?}", answer.headers);
    }
}

#[test]
fn the_content_type_of_a_request_does_not_matter() {
    let broker = shared();
    let mut http = broker.http();
    let body = event(&unique("typed"), "1");
    for kind in ["application/json", "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let target = http.signed_target("POST", "/events", &[], body.as_bytes());
        assert_eq!(http.request("POST", &target, &[("Content-Type", kind)], body.as_bytes()).json(), json!({}), "{kind}");
    }
    let target = http.signed_target("POST", "/events", &[], body.as_bytes());
    assert_eq!(http.request("POST", &target, &[], body.as_bytes()).json(), json!({}));
}

#[test]
fn a_body_up_to_the_request_limit_is_read_and_a_larger_one_is_413() {
    let broker = shared();
    let channel = unique("bulky");
    let padded = |length: usize| {
        let plain = event(&channel, "1");
        format!("{}{}", " ".repeat(length - plain.len()), plain)
    };
    let mut http = broker.http();
    assert_eq!(http.post("/events", padded(1024 * 1024)).json(), json!({}));
    broker.http().post("/events", padded(1024 * 1024 + 1)).refused(413);

    let small = Broker::with(server_with("max_request_size = \"2KiB\"", ""));
    assert_eq!(small.http().post("/events", padded(2048)).json(), json!({}));
    small.http().post("/events", padded(2049)).refused(413);
}

#[test]
fn an_endless_chunked_body_is_cut_off() {
    let broker = Broker::with(server_with("max_request_size = \"64KiB\"", ""));
    let before = broker.rss_kib();
    let mut http = broker.http();
    let target = http.signed_target("POST", "/events", &[], b"x");
    http.send_bytes(format!("POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    let chunk = format!("{:x}\r\n{}\r\n", 16_384, "x".repeat(16_384));
    for _ in 0..6 {
        http.send_bytes(chunk.as_bytes());
    }
    http.answer().refused(413);
    assert!(broker.rss_kib() - before < 8 * 1024);
    assert_eq!(broker.http().plain("/up").status, 200);
}

#[test]
fn a_known_path_with_another_method_is_405() {
    let broker = shared();
    let paths = [
        ("/apps/app-id/batch_events", "POST"),
        ("/apps/app-id/channels", "GET"),
        ("/apps/app-id/channels/news", "GET"),
        ("/apps/app-id/channels/presence-x/users", "GET"),
        ("/apps/app-id/users/42/terminate_connections", "POST"),
        ("/apps/app-id/connections", "GET"),
        ("/apps/app-id/sockets", "GET"),
        ("/up", "GET"),
    ];
    for method in METHODS.into_iter().filter(|method| !["GET", "POST"].contains(method)) {
        broker.http().request(method, "/apps/app-id/events", &[], b"").refused(405);
    }
    for (path, right) in paths {
        for method in METHODS.into_iter().filter(|method| *method != right) {
            let answer = broker.http().request(method, path, &[], b"");
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
            answer.refused(405);
        }
    }
}

#[test]
fn an_unknown_path_is_404() {
    let broker = shared();
    let mut http = broker.http();
    for path in [
        "/apps",
        "/apps/",
        "/apps/app-id",
        "/apps/app-id/",
        "/apps/app-id/event",
        "/apps/app-id/events/",
        "/apps/app-id/channels/news/members",
        "/favicon.ico",
        "/metrics",
        "//up",
    ] {
        http.plain(path).refused(404);
        http.request("POST", path, &[], b"{}").refused(404);
    }
    http.get("/nope", &[]).refused(404);
}

#[test]
fn bytes_that_are_not_http_harm_nobody() {
    let broker = tolerant();
    let mut neighbour = broker.http();
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
    ] {
        let mut http = broker.http();
        http.send_bytes(garbage);
        drop(http);
    }
    assert_eq!(neighbour.plain("/up").status, 200);
}

#[test]
fn strange_targets_get_an_answer() {
    let broker = tolerant();
    for target in [
        "/%",
        "/apps/%ZZ/events",
        "/apps/app-id/channels/%FF",
        "/app/%FF",
        "/?%FF=%FE",
        "/apps/app-id/channels?info=%FF",
        "*",
        "/apps/app-id/channels?&&&===&",
    ] {
        let mut http: Http = broker.http();
        let answer = http.request("GET", target, &[], b"");
        assert!((200..500).contains(&answer.status), "{target}: {}", answer.status);
    }
}

#[test]
fn http_1_0_is_answered() {
    let broker = shared();
    let mut http = broker.http();
    http.send_bytes(b"GET /up HTTP/1.0\r\n\r\n");
    assert_eq!(http.answer().text(), r#"{"health":"OK"}"#);
}

#[test]
fn half_a_request_does_not_hold_its_connection_for_ever() {
    let broker = Broker::start();
    let stuck = [b"GET /up HTTP/1.1\r\nHost:".as_slice(), b"G", b""].map(|begun| {
        let mut client = TcpStream::connect(broker.address()).expect("the broker listens");
        client.write_all(begun).expect("it is connected");
        client.set_read_timeout(Some(WAIT)).expect("a time to wait");
        client
    });
    for mut client in stuck {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the broker gives up on it");
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    }
}
