//! A raw HTTP/1.1 client on one kept connection, and the signed calls of protocol.md section 6.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{APP, App, WAIT, query_string};

/// Status, headers and body of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A success: exactly 200, exactly JSON.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A refusal: this status and one line of plain text, which is returned.
    pub(crate) fn refused(&self, status: u16) -> String {
        let text = self.text();
        assert_eq!(self.status, status, "{text}");
        assert!(self.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{:?}", self.headers);
        assert!(!text.trim().is_empty() && text.trim_end().lines().count() == 1, "one line of text, not {text:?}");
        text
    }

    /// Reads one answer; what follows it stays in `inbox`.
    pub(crate) fn read(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<Answer> {
        stream.set_read_timeout(Some(WAIT))?;
        let end = loop {
            if let Some(at) = inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            fill(stream, inbox)?;
        };
        let head = String::from_utf8_lossy(&inbox[..end]).into_owned();
        inbox.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let headers =
            lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if let Some(length) = answer.header("content-length").and_then(|text| text.parse::<usize>().ok()) {
            while inbox.len() < length {
                fill(stream, inbox)?;
            }
            answer.body = inbox.drain(..length).collect();
        } else if status >= 200 && status != 204 {
            assert!(answer.header("transfer-encoding").is_none(), "the broker knows the length of its answers: {:?}", answer.headers);
            while fill(stream, inbox).is_ok() {}
            answer.body = std::mem::take(inbox);
        }
        Ok(answer)
    }
}

fn fill(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<()> {
    let mut chunk = [0; 16_384];
    match stream.read(&mut chunk)? {
        0 => Err(Error::from(ErrorKind::UnexpectedEof)),
        count => {
            inbox.extend_from_slice(&chunk[..count]);
            Ok(())
        }
    }
}

/// A connection that was opened and not used is given up by the broker after ten seconds; one that was used, after 75.
const KEPT: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(40)];

/// One kept connection.
pub(crate) struct Http {
    address: SocketAddr,
    stream: TcpStream,
    used: bool,
    used_at: Instant,
    inbox: Vec<u8>,
    app: App,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Http {
        Http { address, stream: connect(address), used: false, used_at: Instant::now(), inbox: Vec::new(), app: APP }
    }

    /// Signs as this app from now on.
    pub(crate) fn signing_as(mut self, app: App) -> Http {
        self.app = app;
        self
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the socket takes bytes");
    }

    /// Reads the next answer on this connection.
    pub(crate) fn answer(&mut self) -> Answer {
        (self.used, self.used_at) = (true, Instant::now());
        Answer::read(&mut self.stream, &mut self.inbox).expect("an answer")
    }

    /// One request as given; the length is filled in. Where a test has left the connection alone for long, on another one.
    pub(crate) fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        if self.used_at.elapsed() > KEPT[usize::from(self.used)] {
            (self.stream, self.inbox) = (connect(self.address), Vec::new());
        }
        self.send_bytes(&request_bytes(method, target, headers, body));
        self.answer()
    }

    /// An unsigned GET.
    pub(crate) fn plain(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// A signed GET below `/apps/{id}`.
    pub(crate) fn get(&mut self, path: &str, query: &[(&str, &str)]) -> Answer {
        let target = self.signed_target("GET", path, query, b"");
        self.plain(&target)
    }

    /// A signed POST below `/apps/{id}`.
    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let target = self.signed_target("POST", path, &[], body);
        self.request("POST", &target, &[("Content-Type", "application/json")], body)
    }

    /// Path and signed query of a request below `/apps/{id}`.
    pub(crate) fn signed_target(&self, method: &str, path: &str, query: &[(&str, &str)], body: &[u8]) -> String {
        let path = format!("/apps/{}{path}", self.app.id);
        let query = self.app.signed_query(method, &path, query, body);
        format!("{path}?{}", query_string(&query))
    }

    /// POST /events.
    pub(crate) fn trigger(&mut self, body: &Value) -> Answer {
        self.post("/events", body.to_string())
    }

    /// Publishes one event, which must be accepted.
    pub(crate) fn publish(&mut self, channel: &str, name: &str, data: &str) {
        let answer = self.trigger(&json!({ "name": name, "channels": [channel], "data": data }));
        assert_eq!(answer.json(), json!({}));
    }

    /// Connections subscribed to this channel, as GET channel tells.
    pub(crate) fn subscribers(&mut self, channel: &str) -> u64 {
        let answer = self.get(&format!("/channels/{channel}"), &[("info", "subscription_count")]).json();
        answer["subscription_count"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// Live connections of the app.
    pub(crate) fn connections(&mut self) -> u64 {
        let answer = self.get("/connections", &[]).json();
        answer["connections"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker accepts");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// A request in bytes.
pub(crate) fn request_bytes(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
