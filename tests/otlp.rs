//! Traces: refused by the usual program, sent by one that was built with the feature `otlp` (`HOLDLINE_OTLP_BIN`, see tests/run).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Broker, Launch, one_app, run_to_end, until};

#[test]
fn a_program_without_traces_refuses_to_be_asked_for_them() {
    let place = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("HOLDLINE_OTLP__ENDPOINT", "http://127.0.0.1:4318/v1/traces"),
        ("HOLDLINE_OTLP__SAMPLE_RATIO", "0.5"),
        ("HOLDLINE_OTLP__SERVICE_NAME", "shop"),
    ] {
        let ended = run_to_end(place.path(), &["config", "check"], &[(name, value)]);
        assert!(
            ended.code != 0 && ended.said().contains("this program was built without it: it needs the feature otlp"),
            "{}",
            ended.said()
        );
    }
    let ended = run_to_end(place.path(), &["config", "check"], &[("HOLDLINE_OTLP__SAMPLE_RATIO", "1.5")]);
    assert!(ended.said().contains("otlp.sample_ratio") && ended.said().contains("at most 1"), "{}", ended.said());
}

/// One request to a collector.
#[derive(Clone, Debug)]
struct Export {
    head: String,
    body: Vec<u8>,
}

/// Takes spans, and keeps them as they came.
fn collector() -> (SocketAddr, Arc<Mutex<Vec<Export>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, exports) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Export>>>::default());
    let kept = Arc::clone(&exports);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || serve(stream, &kept));
        }
    });
    (address, exports)
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Export>>) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(end) = inbox.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&inbox[..end]).into_owned();
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            let whole = end + 4 + length.unwrap_or(0);
            if inbox.len() >= whole {
                kept.lock().unwrap().push(Export { head, body: inbox[end + 4..whole].to_vec() });
                inbox.drain(..whole);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n").unwrap();
                continue;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => inbox.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A field of a protobuf message.
enum Field<'a> {
    Bytes(u64, &'a [u8]),
    Other,
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let skip = match tag & 7 {
            0 => {
                varint(&mut bytes);
                0
            }
            1 => 8,
            5 => 4,
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                found.push(Field::Bytes(tag >> 3, &bytes[..length]));
                bytes = &bytes[length..];
                continue;
            }
            wire => panic!("no such wire type: {wire}"),
        };
        bytes = &bytes[skip..];
        found.push(Field::Other);
    }
    found
}

fn all<'a>(message: &'a [u8], number: u64) -> Vec<&'a [u8]> {
    let of = |field: Field<'a>| match field {
        Field::Bytes(found, bytes) if found == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

/// A span as opentelemetry/proto/trace/v1 has it.
#[derive(Debug)]
struct Span {
    trace: String,
    parent: String,
    name: String,
    attributes: Vec<(String, String)>,
}

impl Span {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(message: &[u8], number: u64) -> Vec<(String, String)> {
    let pair = |pair: &[u8]| {
        let value = all(pair, 2).first().map_or(Vec::new(), |value| all(value, 1).first().map_or(Vec::new(), |value| value.to_vec()));
        (text(all(pair, 1)[0]), String::from_utf8_lossy(&value).into_owned())
    };
    all(message, number).into_iter().map(pair).collect()
}

/// Resource spans, their scope spans, their spans; and the attributes of the resource.
fn spans(exports: &[Export]) -> (Vec<Span>, Vec<(String, String)>) {
    let (mut found, mut resource) = (Vec::new(), Vec::new());
    for resource_spans in exports.iter().flat_map(|export| all(&export.body, 1)) {
        resource.extend(all(resource_spans, 1).into_iter().flat_map(|resource| attributes(resource, 1)));
        for span in all(resource_spans, 2).into_iter().flat_map(|scope| all(scope, 2)) {
            found.push(Span {
                trace: hex(all(span, 1)[0]),
                parent: all(span, 4).first().map(|id| hex(id)).unwrap_or_default(),
                name: text(all(span, 5)[0]),
                attributes: attributes(span, 9),
            });
        }
    }
    (found, resource)
}

fn traced(address: SocketAddr, more: &[(&str, &str)]) -> Broker {
    let binary =
        std::env::var_os("HOLDLINE_OTLP_BIN").map(PathBuf::from).expect("HOLDLINE_OTLP_BIN names a program built with --features otlp");
    let mut launch = Launch { binary: Some(binary), ..Launch::config(one_app("client_events = true")) }
        .env("HOLDLINE_OTLP__ENDPOINT", &format!("http://user:passw0rd@{address}/v1/traces"))
        .env("HOLDLINE_OTLP__HEADERS", r#"{ "x-tenant" = "shop-7" }"#)
        .env("OTEL_BSP_SCHEDULE_DELAY", "200");
    for (name, value) in more {
        launch = launch.env(name, value);
    }
    launch.start()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

#[test]
#[ignore = "needs a program with the feature otlp: tests/run builds it"]
fn spans_reach_a_collector_and_a_publish_belongs_to_its_callers_trace() {
    let (address, exports) = collector();
    let mut broker = traced(address, &[("HOLDLINE_OTLP__SERVICE_NAME", "shop-broker")]);
    let mut ws = broker.ws();
    ws.enter("private-room");
    ws.send(&serde_json::json!({ "event": "client-x", "channel": "private-room", "data": "payl0ad" }));
    ws.quiet();
    let mut http = broker.http();
    let body = br#"{"name":"e","channel":"private-room","data":"payl0ad"}"#;
    let target = http.signed_target("POST", "/events", &[], body);
    let parent = format!("00-{TRACE}-{CALLER}-01");
    assert_eq!(http.request("POST", &target, &[("traceparent", &parent), ("Content-Type", "application/json")], body).status, 200);
    assert_eq!(http.request("POST", "/apps/app-id/events", &[("traceparent", &parent)], body).status, 401, "a stranger traces nothing");
    ws.expect("e");
    ws.send_close(1000);
    let socket_id = ws.socket_id.clone();
    let names = || spans(&exports.lock().unwrap()).0.into_iter().map(|span| span.name).collect::<Vec<_>>();
    until("the connection and its close are there", || {
        names().iter().filter(|name| *name == "hook").count() >= 5 && names().iter().any(|name| name == "connection")
    });
    broker.signal("TERM");
    assert!(broker.exited(Duration::from_secs(25)).success());
    let exports = exports.lock().unwrap().clone();
    let (found, resource) = spans(&exports);
    for export in &exports {
        let head = export.head.to_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf") && head.contains("x-tenant: shop-7"), "{head}");
        for secret in ["app-secret", "payl0ad", "passw0rd", "auth_signature"] {
            assert!(!String::from_utf8_lossy(&export.body).contains(secret), "{secret} is in a span");
        }
    }
    assert!(resource.contains(&("service.name".to_owned(), "shop-broker".to_owned())), "{resource:?}");
    let publishes: Vec<_> = found.iter().filter(|span| span.name == "publish").collect();
    assert_eq!(publishes.len(), 1, "{found:#?}");
    assert_eq!((publishes[0].trace.as_str(), publishes[0].parent.as_str()), (TRACE, CALLER));
    assert_eq!((publishes[0].attribute("app.id"), publishes[0].attribute("channel.name")), (Some("app-id"), Some("private-room")));
    let connection = found.iter().find(|span| span.name == "connection").expect("the connection is a span");
    assert_eq!((connection.attribute("app.id"), connection.attribute("socket.id")), (Some("app-id"), Some(socket_id.as_str())));
    let hooks: Vec<_> = found.iter().filter(|span| span.name == "hook").filter_map(|span| span.attribute("hook.name")).collect();
    for hook in ["on_handshake", "on_open", "on_subscribe", "on_message", "on_close"] {
        assert!(hooks.contains(&hook), "{hook} is not among {hooks:?}");
    }
    let of_connection = found.iter().filter(|span| span.name == "hook" && span.trace == connection.trace).count();
    assert!(of_connection >= 3, "hooks stand in the trace of their connection: {found:#?}");
}

#[test]
#[ignore = "needs a program with the feature otlp: tests/run builds it"]
fn a_collector_that_is_away_disturbs_nobody_and_nothing_is_sampled_at_0() {
    let address = {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        closed.local_addr().unwrap()
    };
    let mut broker = traced(address, &[]);
    let mut ws = broker.ws();
    ws.enter("news");
    broker.http().publish("news", "e", "1");
    ws.expect_data("e", "news", "1");
    broker.signal("TERM");
    assert!(broker.exited(Duration::from_secs(25)).success());
    assert!(!broker.log_text().contains("passw0rd"), "{}", broker.log_text());

    let (address, exports) = collector();
    let mut broker = traced(address, &[("HOLDLINE_OTLP__SAMPLE_RATIO", "0")]);
    broker.ws().enter("news");
    broker.http().publish("news", "e", "1");
    broker.signal("TERM");
    assert!(broker.exited(Duration::from_secs(25)).success());
    assert!(spans(&exports.lock().unwrap()).0.is_empty());
}
