//! Who a client is behind proxies: `X-Forwarded-For`, `Forwarded`, `X-Real-IP` and `X-Forwarded-Proto`, byte by byte, from peers that
//! are trusted and from peers that are not; the unix socket; the path prefix.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::config::refused;
use crate::support::{Broker, Launch, Ws, eventually, one_app, request_bytes, run_to_end, server_with, until};

const TARGET: &str = "/app/app-key?protocol=7&client=test&version=1.0";
/// The networks of the test's proxies; all traffic of a test comes from 127.0.0.1.
const TRUSTED: &str = r#"trusted_proxies = ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]"#;

/// What the broker takes the address of a client for, whose upgrade has these header lines.
fn seen(broker: &Broker, lines: &[(&str, &str)]) -> Value {
    let ws = Ws::open_at(broker.address(), TARGET, lines);
    broker.http().get(&format!("/sockets/{}", ws.socket_id), &[]).json()["remote_ip"].clone()
}

/// The same with lines of any bytes.
fn seen_raw(broker: &Broker, lines: &[u8]) -> Value {
    let mut http = broker.http();
    let head = format!("GET {TARGET} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    let key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut stream = std::net::TcpStream::connect(broker.address()).unwrap();
    stream.write_all(&[head.as_bytes(), lines, key].concat()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    let sockets = eventually("the socket is listed", || {
        let sockets = http.get("/sockets", &[]).json()["sockets"].clone();
        (sockets.as_array().unwrap().len() == 1 && sockets[0]["state"] == "active").then_some(sockets)
    });
    drop(stream);
    until("the socket is gone", || http.connections() == 0);
    sockets[0]["remote_ip"].clone()
}

const CASES: [(&[(&str, &str)], &str); 24] = [
    (&[], "127.0.0.1"),
    (&[("X-Forwarded-For", "192.0.2.1")], "192.0.2.1"),
    (&[("x-forwarded-for", "203.0.113.9, 192.0.2.1")], "192.0.2.1"),
    (&[("X-Forwarded-For", "203.0.113.9, 192.0.2.1, 10.1.2.3")], "192.0.2.1"),
    (&[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "10.0.0.9")], "192.0.2.1"),
    (&[("X-Forwarded-For", "192.0.2.1:51234, 10.0.0.9:80")], "192.0.2.1"),
    (&[("X-Forwarded-For", "[2001:db9::7]:443, 2001:db8::1")], "2001:db9::7"),
    (&[("X-Forwarded-For", "::ffff:192.0.2.1, ::ffff:10.0.0.9")], "192.0.2.1"),
    (&[("X-Forwarded-For", "10.0.0.7, 10.0.0.8")], "10.0.0.7"),
    (&[("X-Forwarded-For", "192.0.2.1, unknown, 10.0.0.8")], "10.0.0.8"),
    (&[("X-Forwarded-For", "192.0.2.1, <script>")], "127.0.0.1"),
    (&[("X-Forwarded-For", " , ,192.0.2.1 ,")], "192.0.2.1"),
    (&[("X-Forwarded-For", "")], "127.0.0.1"),
    (&[("X-Forwarded-For", "1.2.3, 4294967295, 0x7f.1, 127.1")], "127.0.0.1"),
    (&[("Forwarded", "for=192.0.2.1")], "192.0.2.1"),
    (&[("Forwarded", r#"for="[2001:db9:cafe::17]:4711";proto=https;by=10.0.0.1"#)], "2001:db9:cafe::17"),
    (&[("Forwarded", r#"for=203.0.113.9, for=192.0.2.1;proto=https, For="10.0.0.9:_port""#)], "192.0.2.1"),
    (&[("Forwarded", "for=192.0.2.1, for=_hidden, for=10.0.0.9")], "10.0.0.9"),
    (&[("Forwarded", r#"for="203.0.113.9"#), ("Forwarded", "for=192.0.2.1")], "192.0.2.1"),
    (&[("Forwarded", r#"for="203.0.113.9, for=192.0.2.1"#)], "192.0.2.1"),
    (&[("Forwarded", "for=192.0.2.1;for=203.0.113.9")], "127.0.0.1"),
    (&[("X-Real-IP", "192.0.2.1")], "192.0.2.1"),
    (&[("X-Real-IP", "203.0.113.9"), ("Forwarded", "for=203.0.113.8"), ("X-Forwarded-For", "192.0.2.1")], "192.0.2.1"),
    (&[("X-Real-IP", "203.0.113.9"), ("Forwarded", "for=192.0.2.1")], "192.0.2.1"),
];

#[test]
fn a_trusted_proxy_says_who_its_client_is() {
    let broker = Broker::with(server_with(TRUSTED, ""));
    for (lines, expected) in CASES {
        assert_eq!(seen(&broker, lines), json!(expected), "{lines:?}");
    }
}

#[test]
fn nobody_else_does() {
    for config in [one_app(""), server_with(r#"trusted_proxies = ["10.0.0.0/8", "127.0.0.2", "::1", "unix"]"#, "")] {
        let broker = Broker::with(config);
        for (lines, _) in CASES {
            assert_eq!(seen(&broker, lines), json!("127.0.0.1"), "{lines:?}");
        }
    }
}

#[test]
fn headers_of_any_bytes() {
    let broker = Broker::with(server_with(TRUSTED, ""));
    for (lines, expected) in [
        (b"X-Forwarded-For: \xff\xfe\xfd\r\n".as_slice(), "127.0.0.1"),
        (b"X-Forwarded-For: \xff\xfe, 192.0.2.1\r\n", "192.0.2.1"),
        (b"X-Forwarded-For: 192.0.2.1, \xc3\xa4, 10.0.0.5\r\n", "10.0.0.5"),
        (b"X-Forwarded-For:\t192.0.2.1\t,\t10.0.0.5\t\r\n", "192.0.2.1"),
        (b"X-FORWARDED-FOR:192.0.2.1\r\nx-forwarded-for:10.0.0.5\r\n", "192.0.2.1"),
        (b"Forwarded: for=\"\\\xe9\xff, for=192.0.2.1\r\n", "192.0.2.1"),
        (b"Forwarded: ;;;===,,,\"\"\"\\\\\\\r\n", "127.0.0.1"),
        (b"X-Real-IP: \xf0\x9f\x92\xa9\r\n", "127.0.0.1"),
    ] {
        assert_eq!(seen_raw(&broker, lines), json!(expected), "{}", String::from_utf8_lossy(lines));
    }
    let many = format!("X-Forwarded-For: {}192.0.2.1{}\r\n", "203.0.113.9, ".repeat(1_500), ", 10.0.0.1".repeat(1_500));
    assert_eq!(seen_raw(&broker, many.as_bytes()), json!("192.0.2.1"));
}

#[test]
fn force_tls_takes_the_word_of_a_trusted_proxy_and_of_nobody_else() {
    let trusting = Broker::with(server_with(TRUSTED, "force_tls = true"));
    for lines in [
        [("X-Forwarded-Proto", "https")].as_slice(),
        &[("X-Forwarded-Proto", "wss")],
        &[("X-Forwarded-Proto", "http, https")],
        &[("Forwarded", "for=192.0.2.1;proto=https")],
    ] {
        Ws::open_at(trusting.address(), TARGET, lines).quiet();
    }
    for lines in [
        [].as_slice(),
        &[("X-Forwarded-Proto", "http")],
        &[("X-Forwarded-Proto", "https, http")],
        &[("Forwarded", "for=192.0.2.1;proto=http")],
    ] {
        Ws::upgrade(trusting.address(), TARGET, lines).refused(4000);
    }
    let alone = Broker::with(one_app("force_tls = true"));
    Ws::upgrade(alone.address(), TARGET, &[("X-Forwarded-Proto", "https"), ("Forwarded", "proto=https;for=192.0.2.1")]).refused(4000);
    assert!(alone.log_text().contains("force_tls of app-id refuses every connection"), "{}", alone.log_text());
}

#[test]
fn the_rate_of_handshakes_is_the_clients_and_what_he_writes_himself_gives_him_no_other() {
    let broker = Broker::with(server_with(&format!("{TRUSTED}\nconnects_per_second = 2"), ""));
    let key = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")];
    let knock = |list: &str| {
        let headers = [key.as_slice(), &[("X-Forwarded-For", list)]].concat();
        Ws::try_upgrade(broker.address(), TARGET, &headers).head.status
    };
    // Two, and as many as come back meanwhile: on a slow machine that may be one.
    let (began, mut let_in) = (Instant::now(), 0);
    for spoofed in ["192.0.2.1", "203.0.113.1, 192.0.2.1", "203.0.113.2, 192.0.2.1", "\"x\", 192.0.2.1"].into_iter().cycle().take(40) {
        match knock(spoofed) {
            101 => let_in += 1,
            status => assert_eq!(status, 429),
        }
    }
    let most = 2 + (began.elapsed().as_secs_f64() * 2.0) as u32;
    assert!((2..=most).contains(&let_in), "{let_in} were let in, at most {most} may be");
    assert_eq!(knock("192.0.2.2"), 101, "who else is behind the proxy is not hindered");
}

#[test]
fn who_is_refused_and_who_opens_is_in_the_log_by_the_clients_address() {
    let config = format!("[log]\nlevel = \"holdline=debug\"\n{}", server_with(TRUSTED, ""));
    let broker = Broker::with(config);
    let ws = Ws::open_at(broker.address(), TARGET, &[("X-Forwarded-For", "192.0.2.77")]);
    Ws::upgrade(broker.address(), "/app/nokey", &[("X-Forwarded-For", "192.0.2.78")]).refused(4001);
    let logged = |message: String, address: &str| {
        let field = format!(r#""remote.address":"{address}""#);
        until("it is logged", || broker.log_lines().iter().any(|line| line.contains(&message) && line.contains(&field)));
    };
    logged(format!("Connection {} opens from 192.0.2.77", ws.socket_id), "192.0.2.77");
    logged("Refusing a connection from 192.0.2.78".to_owned(), "192.0.2.78");
}

#[test]
fn signatures_are_over_the_path_without_the_prefix_whatever_the_proxy_says() {
    let broker = Broker::with(server_with(&format!("{TRUSTED}\npath_prefix = \"/realtime/v1\""), ""));
    let mut ws = Ws::open_at(broker.address(), &format!("/realtime/v1{TARGET}"), &[("X-Forwarded-For", "192.0.2.1")]);
    ws.subscribe("news");
    let mut http = broker.http();
    let body = json!({ "name": "e", "channel": "news", "data": "x" }).to_string();
    let target = http.signed_target("POST", "/events", &[], body.as_bytes());
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Forwarded-Prefix", "/elsewhere"),
    ];
    for prefix in ["", "/realtime/v1"] {
        let answer = http.request("POST", &format!("{prefix}{target}"), &headers, body.as_bytes());
        assert_eq!(answer.json(), json!({}), "{prefix}");
        ws.expect_data("e", "news", "x");
    }
    http.request("POST", &format!("/elsewhere{target}"), &headers, body.as_bytes()).refused(404);
}

#[test]
fn proxies_that_are_none_stop_the_start() {
    for entry in ["nginx", "10.0.0.1/8", "10.0.0.0/33", "127.0.0.1:80", "*", ""] {
        refused(&server_with(&format!("trusted_proxies = [\"{entry}\"]"), ""), &["server.trusted_proxies"]);
    }
    let everybody = Launch::config(server_with(r#"trusted_proxies = ["0.0.0.0/0"]"#, "")).start();
    assert!(everybody.log_text().contains("INSECURE: 0.0.0.0/0 in server.trusted_proxies"), "{}", everybody.log_text());
}

/// A broker that also listens on this path.
fn on_socket(path: &Path, more: &str) -> Broker {
    Broker::with(server_with(&format!("unix_socket = \"{}\"\n{more}", path.display()), "force_tls = false"))
}

/// One request over a unix socket.
fn ask(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_serves_the_same_and_goes_with_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdline.sock");
    drop(UnixListener::bind(&path).unwrap());
    let mut broker = on_socket(&path, "");
    let found = std::fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let close = [("Connection", "close")];
    assert!(ask(&path, &request_bytes("GET", "/up", &close, b"")).starts_with("HTTP/1.1 200"));
    let mut ws = broker.ws();
    ws.subscribe("news");
    let body = json!({ "name": "e", "channel": "news", "data": "x" }).to_string();
    let target = broker.http().signed_target("POST", "/events", &[], body.as_bytes());
    let headers = [("Content-Type", "application/json"), ("Connection", "close")];
    let answer = ask(&path, &request_bytes("POST", &target, &headers, body.as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{}"), "{answer}");
    ws.expect_data("e", "news", "x");
    assert!(broker.log_text().contains(&format!("Listening on unix:{}", path.display())));
    ws.send_close(1000);
    broker.signal("TERM");
    assert!(broker.exited(crate::support::WAIT).success());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_live_unix_socket_and_a_file_in_its_place_stop_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdline.sock");
    let config = server_with(&format!("unix_socket = \"{}\"", path.display()), "");
    let first = Broker::with(config.clone());
    let Err(log) = Launch::config(config.clone()).try_start() else { panic!("a second broker on the same socket") };
    assert!(log.contains("cannot listen on the unix socket") && log.contains("another process listens there"), "{log}");
    assert!(
        ask(&path, b"GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200"),
        "the first one is unharmed"
    );
    first.signal("KILL");
    until("the killed broker's socket is dead", || UnixStream::connect(&path).is_err());
    drop(Broker::with(config.clone()));
    // Killed: what it left is replaced by something that must not be deleted.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let Err(log) = Launch::config(config).try_start() else { panic!("a broker in the place of a file") };
    assert!(log.contains("there is a file that is no socket"), "{log}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_unix_socket_that_cannot_be_is_an_error_with_its_path() {
    refused(&server_with(&format!("unix_socket = \"/tmp/{}\"", "x".repeat(100)), ""), &["server.unix_socket", "at most 100"]);
    let directory = tempfile::tempdir().unwrap();
    let config = server_with("unix_socket = \"nowhere/holdline.sock\"", "");
    std::fs::write(directory.path().join("h.toml"), config).unwrap();
    let ended = run_to_end(directory.path(), &["serve", "--config", "h.toml", "--port", "0"], &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.said().contains("cannot listen on the unix socket nowhere/holdline.sock: No such file"), "{}", ended.said());
}

#[test]
fn only_a_trusted_unix_socket_names_clients() {
    for (proxies, expected) in [(r#"["unix"]"#, json!("192.0.2.1")), ("[]", Value::Null)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdline.sock");
        let broker = on_socket(&path, &format!("trusted_proxies = {proxies}"));
        let mut stream = UnixStream::connect(&path).unwrap();
        let headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("X-Forwarded-For", "203.0.113.9, 192.0.2.1"),
        ];
        stream.write_all(&request_bytes("GET", TARGET, &headers, b"")).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
        let mut http = broker.http();
        until("it is there", || http.connections() == 1);
        assert_eq!(http.get("/sockets", &[]).json()["sockets"][0]["remote_ip"], expected, "{proxies}");
    }
}

#[test]
fn the_documentation_shows_the_nginx_configuration_that_is_shipped_and_tested() {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let shipped = read("config/deploy/nginx.conf");
    let body = &shipped[shipped.find("# A WebSocket keeps").unwrap()..];
    assert!(read("src/docs/proxies.md").contains(&format!("```nginx\n{body}```")));
}
