//! Mutated handshakes and frames against the real binary, on many sockets, beside two clients that must not notice.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::json;

use super::engine::Fuzz;
use crate::support::{
    APP, Broker, Frame, Http, Ws, frame, jwt, member, now_seconds, one_app, query_string, request_bytes, scrape::Scrape, until, user_auth,
    wire,
};

/// Sockets that are left as they are for a while, with whatever was half sent.
const LEFT_OPEN: usize = 60;
/// The longest that the healthy clients may wait for one another, on a machine that has much to do.
const UNNOTICED: Duration = Duration::from_secs(5);

fn broker() -> Broker {
    let app =
        one_app("client_events = true\nhandshake_auth = \"optional\"\n[apps.limits]\nclient_events_per_second = 0\nmax_subscriptions = 50");
    Broker::with(format!("[metrics]\nbind = \"127.0.0.1:0\"\n{app}"))
}

/// Two clients that talk to each other until they are told to stop.
struct Healthy {
    stop: Arc<AtomicBool>,
    talking: JoinHandle<u64>,
}

impl Healthy {
    fn talk(broker: &Broker) -> Healthy {
        let (mut one, mut other) = (broker.ws(), broker.ws());
        one.subscribe("private-healthy");
        other.subscribe("private-healthy");
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let talking = std::thread::spawn(move || {
            let mut said = 0;
            while !told.load(Ordering::Relaxed) {
                said += 1;
                let started = Instant::now();
                one.send(&json!({ "event": "client-word", "channel": "private-healthy", "data": said }));
                other.expect_data("client-word", "private-healthy", &said.to_string());
                other.send(&json!({ "event": "client-answer", "channel": "private-healthy", "data": said }));
                one.expect_data("client-answer", "private-healthy", &said.to_string());
                assert!(started.elapsed() < UNNOTICED, "word {said} took {:?}", started.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            one.quiet();
            other.quiet();
            said
        });
        Healthy { stop, talking }
    }

    /// How much they said to one another.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.talking.join().expect("the healthy clients have not noticed anything")
    }
}

/// As many connections have ended as were opened, nothing of them is left, and the broker serves the next one.
fn assert_all_over(broker: &Broker, rss_before: i64) {
    until("everybody is gone", || {
        let metrics = Scrape::of(broker);
        metrics.value("holdline_new_connections_total", &[]) == metrics.value("holdline_new_disconnections_total", &[])
            && metrics.value("holdline_node_connections", &[]) == 0.0
            && metrics.value("holdline_sockets", &[]) == 0.0
    });
    assert!(Scrape::of(broker).value("holdline_new_connections_total", &[]) > 2.0, "some were connections");
    assert_eq!(broker.http().get("/channels", &[]).json(), json!({ "channels": {} }));
    let grown = broker.rss_kib() - rss_before;
    assert!(grown < 40 * 1024, "memory grew by {grown} KiB");
    broker.ws().quiet();
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("the broker accepts");
    socket.set_read_timeout(Some(Duration::from_secs(15))).expect("a time limit");
    // It may have been refused before all of it was sent.
    let _ = socket.write_all(bytes);
    socket
}

fn handshakes() -> Vec<Vec<u8>> {
    let upgrade = |target: &str, more: &[(&str, &str)]| {
        let common = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        request_bytes("GET", target, &[&common[..], more].concat(), b"")
    };
    let token = jwt(APP.secret, "HS256", &json!({ "sub": "42", "exp": now_seconds() + 3_600 }));
    let body = br#"{"name":"e","channels":["news","cache-x"],"data":"{}"}"#;
    let signed = |method: &str, path: &str, body: &[u8]| {
        let query = APP.signed_query(method, path, &[], body);
        request_bytes(method, &format!("{path}?{}", query_string(&query)), &[], body)
    };
    let chunked = b"POST /apps/app-id/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec();
    vec![
        upgrade("/app/app-key?protocol=7&client=js&version=8.6.0&flash=false", &[("Origin", "https://a.example")]),
        upgrade(&format!("/ctx/{token}/app/app-key?protocol=5"), &[("Cookie", "a=b")]),
        upgrade("/app/nobody", &[("X-Forwarded-For", "1.2.3.4"), ("Sec-WebSocket-Extensions", "permessage-deflate")]),
        [upgrade("/app/app-key", &[]), wire(1, br#"{"event":"pusher:ping"}"#), wire(8, &1000_u16.to_be_bytes())].concat(),
        signed("POST", "/apps/app-id/events", body),
        [signed("GET", "/apps/app-id/channels", b""), signed("GET", "/apps/app-id/sockets", b"")].concat(),
        signed("POST", "/apps/app-id/batch_events", br#"{"batch":[{"channel":"a","name":"b","data":""}]}"#),
        [chunked, b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()].concat(),
        b"HEAD /ready HTTP/1.0\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ]
}

#[test]
fn mutated_handshakes_and_requests_harm_nobody() {
    let broker = broker();
    let address = broker.address();
    let words = [
        "\r\n",
        "\r\n\r\n",
        ": ",
        "HTTP/1.1",
        "HTTP/1.0",
        "Host: ",
        "Upgrade: websocket\r\n",
        "Connection: close\r\n",
        "Content-Length: ",
        "Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "?",
        "&",
        "/app/",
        "/ctx/",
        "/apps/app-id/",
        "%2e%2e/",
        "Expect: 100-continue\r\n",
    ];
    let rss = broker.rss_kib();
    let healthy = Healthy::talk(&broker);
    let left_open = std::cell::RefCell::new(VecDeque::new());
    Fuzz::new("handshakes").seeds(handshakes()).tokens(&words).run(500, |input| {
        let mut socket = send(address, input);
        if input.len().is_multiple_of(3) {
            let mut left_open = left_open.borrow_mut();
            left_open.push_back(socket);
            if left_open.len() > LEFT_OPEN {
                left_open.pop_front();
            }
            return "left open".to_owned();
        }
        // Nothing more comes: so it ends, and what it has answered is HTTP or nothing.
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let ended = socket.read_to_end(&mut answer);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "the socket does not end");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
        String::from_utf8_lossy(answer.get(..12).unwrap_or_default()).into_owned()
    });
    drop(left_open);
    assert!(healthy.stop() > 20);
    assert_all_over(&broker, rss);
}

/// Whole conversations, as frames; the socket id in what is signed is nobody's.
fn conversations() -> Vec<Vec<u8>> {
    let text = |text: &str| wire(1, text.as_bytes());
    let member = member("7", Some(r#"{"name":"Zo\u00eb"}"#));
    let auth = APP.auth(&format!("1.1:presence-x:{member}"));
    let user_data = r#"{"id":"42","watchlist":["7"]}"#;
    let subscribe = json!({ "event": "pusher:subscribe", "data": { "channel": "presence-x", "auth": auth, "channel_data": member } });
    let signin = json!({ "event": "pusher:signin", "data": { "auth": user_auth(APP, "1.1", user_data), "user_data": user_data } });
    vec![
        [
            text(r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#),
            text(r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#),
        ]
        .concat(),
        [text(&subscribe.to_string()), text(&signin.to_string())].concat(),
        [
            text(r#"{"event":"pusher:subscribe","data":"{\"channel\":\"cache-x\"}"}"#),
            wire(9, b"ping"),
            wire(10, b""),
            wire(8, &1000_u16.to_be_bytes()),
        ]
        .concat(),
        [text(r#"{"event":"client-x","channel":"private-healthy","data":{"a":[1.0,null]}}"#), text(r#"{"event":"pusher:ping","data":{}}"#)]
            .concat(),
        [frame(0x01, true, br#"{"event":"#), wire(9, b""), frame(0x00, true, br#""pusher"#), frame(0x80, true, br#":ping"}"#)].concat(),
        [wire(1, "x".repeat(70_000).as_bytes()), wire(2, b"binary"), wire(8, b"\x0f\xa1bye"), frame(0xC1, true, b"rsv")].concat(),
        [wire(1, b"\xff\xfe"), frame(0x81, false, b"unmasked")].concat(),
    ]
}

#[test]
fn mutated_frames_end_their_own_connection_at_most() {
    let broker = broker();
    let address = broker.address();
    let words = ["\"event\":", "pusher:", "client-", "\"data\":", "\"channel\":", "private-healthy", "presence-x", "[[[[", "\\u0000"];
    let rss = broker.rss_kib();
    let healthy = Healthy::talk(&broker);
    let left_open = std::cell::RefCell::new(VecDeque::new());
    Fuzz::new("frames").seeds(conversations()).tokens(&words).run(500, |input| {
        let mut ws = Ws::open(address);
        ws.try_send_bytes(input);
        if input.len().is_multiple_of(3) {
            let mut left_open = left_open.borrow_mut();
            left_open.push_back(ws);
            if left_open.len() > LEFT_OPEN {
                left_open.pop_front();
            }
            return "left open".to_owned();
        }
        // A close frame of ours may now be the payload of something that was announced; so the socket ends, too.
        ws.try_send_bytes(&wire(8, &1000_u16.to_be_bytes()));
        ws.try_half_close();
        let mut answers = 0;
        loop {
            match ws.frame() {
                Frame::Close(code, reason) => {
                    let good = code.is_none_or(|code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999));
                    assert!(good, "{code:?} {reason}");
                    return format!("{code:?} {reason}");
                }
                Frame::Gone => return "gone".to_owned(),
                _ => answers += 1,
            }
            // Every answer has its question, and the smallest question six bytes.
            assert!(answers <= 3 * (1 + input.len() / 6), "{answers} answers to {} bytes", input.len());
        }
    });
    drop(left_open);
    assert!(healthy.stop() > 20);
    assert_all_over(&broker, rss);
}

#[test]
fn whoever_sends_nothing_or_only_half_of_a_head_is_not_waited_for() {
    let broker = broker();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| send(broker.address(), b"GET /app/app-key HTTP/1.1\r\nHost: x\r\nX-Slow: ")).collect();
    let started = Instant::now();
    // A byte now and then helps nobody: the time counts from the first.
    while started.elapsed() < Duration::from_secs(8) {
        slow.iter_mut().for_each(|socket| drop(socket.write_all(b"x")));
        std::thread::sleep(Duration::from_millis(500));
    }
    for mut socket in slow {
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert!(started.elapsed() < Duration::from_secs(15));
    assert_eq!(Http::connect(broker.address()).plain("/up").status, 200);
    broker.ws().quiet();
}

#[test]
fn a_kept_connection_is_not_waited_for_once_it_has_begun_another_request() {
    let broker = broker();
    let mut ws = broker.ws();
    let first = b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut socket = send(broker.address(), first);
            let mut answer = [0; 15];
            socket.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            socket.write_all(b"GET /up HTTP/1.1\r\nX-Slow: ").expect("the connection is kept");
            socket
        })
        .collect();
    let started = Instant::now();
    let mut ended = 0;
    while ended < slow.len() {
        assert!(started.elapsed() < Duration::from_secs(25), "{ended} of {} have ended", slow.len());
        std::thread::sleep(Duration::from_millis(500));
        // Whoever is gone answers with a reset, sooner or later.
        ended = slow.iter_mut().map(|socket| socket.write_all(b"x").is_err()).filter(|gone| *gone).count();
    }
    assert!(started.elapsed() > Duration::from_secs(8), "a network may be slow");
    ws.quiet();
}
