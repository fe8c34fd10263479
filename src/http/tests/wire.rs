//! What only a real socket shows: kept connections, chunks, bodies above the limit.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use actix_web::{App as Server, HttpServer, dev::ServerHandle, rt::System, web};

use super::*;
use crate::http::{HttpSettings, configure, not_found};

/// A server of its own for one test.
struct Rig {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Rig {
    fn start() -> Self {
        let (sender, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            System::new().block_on(async move {
                let (broker, settings) =
                    (web::Data::new(broker()), web::Data::new(HttpSettings { max_request_bytes: LIMIT, path_prefix: String::new() }));
                let app = move || {
                    Server::new()
                        .app_data(broker.clone())
                        .app_data(settings.clone())
                        .configure(configure)
                        .default_service(web::to(not_found))
                };
                let server = HttpServer::new(app).workers(1).disable_signals().h1_allow_half_closed(false).bind(("127.0.0.1", 0)).unwrap();
                let address = server.addrs()[0];
                let running = server.run();
                sender.send((address, running.handle())).unwrap();
                running.await.unwrap();
            });
        });
        let (address, handle) = started.recv().unwrap();
        Self { address, handle, thread: Some(thread) }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { stream, inbox: Vec::new() }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Client {
    stream: TcpStream,
    inbox: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn post(&mut self, target: &str, body: &str) -> (u16, String) {
        self.send(format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        self.answer()
    }

    /// Status and body of the next answer.
    fn answer(&mut self) -> (u16, String) {
        let head = loop {
            if let Some(end) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break String::from_utf8(self.inbox.drain(..end + 4).collect()).unwrap();
            }
            self.fill();
        };
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
        while self.inbox.len() < length {
            self.fill();
        }
        (status, String::from_utf8(self.inbox.drain(..length).collect()).unwrap())
    }

    fn fill(&mut self) {
        let mut chunk = [0; 4_096];
        let count = self.stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the server closed the connection");
        self.inbox.extend_from_slice(&chunk[..count]);
    }
}

const EVENTS: &str = "/apps/app-id/events";

fn event() -> String {
    signed("POST", EVENTS, &[], EVENT)
}

#[test]
fn refusals_leave_the_connection_open_also_those_that_never_looked_at_the_body() {
    let rig = Rig::start();
    let mut client = rig.connect();
    let body = "x".repeat(LIMIT);
    for (target, status) in [
        (event(), 401),
        ("/apps/nobody/events".to_owned(), 404),
        (EVENTS.to_owned(), 401),
        (signed("POST", EVENTS, &[], &body), 400),
        (format!("{}&a=1&a=1", event()), 400),
        ("/nothing".to_owned(), 404),
        ("/apps/app-id/channels".to_owned(), 405),
        (signed_as("disabled-key", "POST", "/apps/disabled/events", &[], &body), 403),
    ] {
        assert_eq!(client.post(&target, &body).0, status, "{target}");
        assert_eq!(client.post(&event(), EVENT), (200, "{}".to_owned()), "after {target}");
    }
}

#[test]
fn chunks_are_put_together() {
    let rig = Rig::start();
    let mut client = rig.connect();
    let chunks: String =
        EVENT.as_bytes().chunks(7).map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk))).collect();
    client.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", event()));
    for part in chunks.as_bytes().chunks(11) {
        client.send(part);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.answer(), (200, "{}".to_owned()));
    assert_eq!(client.post(&event(), EVENT).0, 200);
}

#[test]
fn a_client_may_wait_for_100_continue() {
    let rig = Rig::start();
    let mut client = rig.connect();
    client.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", event(), EVENT.len()));
    assert_eq!(client.answer().0, 100);
    client.send(EVENT);
    assert_eq!(client.answer().0, 200);
}

#[test]
fn a_client_that_sends_too_much_before_it_reads_still_reads_413() {
    let rig = Rig::start();
    for (target, length) in [(event(), LIMIT + 1), (event(), 4 << 20), ("/nothing".to_owned(), 4 << 20)] {
        let (status, text) = rig.connect().post(&target, &"x".repeat(length));
        assert_eq!((status, text.as_str()), (413, "The request body exceeds the allowed maximum (65536 bytes)."));
    }
}

#[test]
fn an_announced_length_above_the_limit_is_refused_before_the_body() {
    let rig = Rig::start();
    let mut client = rig.connect();
    client.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n", event()));
    assert_eq!(client.answer().0, 413);
}

#[test]
fn a_chunked_body_is_refused_at_the_limit_and_the_connection_lives_on_after_its_end() {
    let rig = Rig::start();
    let mut client = rig.connect();
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 14, "x".repeat(1 << 14));
    client.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}", event(), chunk.repeat(5)));
    assert_eq!(client.answer().0, 413);
    client.send(format!("{}0\r\n\r\n", chunk.repeat(5)));
    assert_eq!(client.post(&event(), EVENT).0, 200);
}

#[test]
fn malformed_chunks_are_400() {
    let rig = Rig::start();
    let mut client = rig.connect();
    client.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n", event()));
    assert_eq!(client.answer().0, 400);
    assert_eq!(rig.connect().post(&event(), EVENT).0, 200);
}
