//! An HTTP server that keeps what it gets and answers as it is told to: where deliveries go.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{APP, hmac_hex};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) at: Instant,
    /// What it was answered; 0 if it was not.
    pub(crate) status: u16,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Status(u16),
    /// These bytes, and the end of the connection.
    Bytes(&'static str),
    /// Nothing, for so long; then the end of the connection.
    Hang(Duration),
}

type Script = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

impl Request {
    /// A header that must be there, once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found: Vec<&str> = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
        assert!(found.len() == 1, "{} times {name} in {}", found.len(), self.head);
        found[0]
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    /// The events of a webhook, whose signature is right.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.header("X-Pusher-Key"), APP.key);
        assert_eq!(self.header("X-Pusher-Signature"), hmac_hex(APP.secret, &self.body));
        assert_eq!(self.header("Content-Type"), "application/json");
        self.json()["events"].as_array().expect("a list of events").clone()
    }
}

/// See the module.
pub(crate) struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<Mutex<Script>>,
}

impl Receiver {
    pub(crate) fn start() -> Receiver {
        let receiver = Receiver::nowhere();
        receiver.listen();
        receiver
    }

    /// An address where nothing listens yet.
    pub(crate) fn nowhere() -> Receiver {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
        let script: Script = Arc::new(|_| Reply::Status(200));
        Receiver { address, requests: Arc::default(), script: Arc::new(Mutex::new(script)) }
    }

    pub(crate) fn listen(&self) {
        let listener = TcpListener::bind(self.address).expect("the port is free");
        let (requests, script) = (Arc::clone(&self.requests), Arc::clone(&self.script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, script) = (Arc::clone(&requests), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &requests, &script));
            }
        });
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From here on every request is answered so.
    pub(crate) fn answer(&self, status: u16) {
        self.does(move |_| Reply::Status(status));
    }

    /// From here on every request is answered as its body asks for.
    pub(crate) fn does(&self, script: impl Fn(&str) -> Reply + Send + Sync + 'static) {
        *self.script.lock().expect("not poisoned") = Arc::new(script);
    }

    pub(crate) fn got(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }

    /// The events of all webhooks that were taken, in the order in which they were.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.got().iter().filter(|request| request.status == 200).flat_map(Request::events).collect()
    }
}

fn serve(mut stream: TcpStream, requests: &Mutex<Vec<Request>>, script: &Mutex<Script>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let (head, body) = loop {
            if let Some((head, body)) = String::from_utf8_lossy(&bytes).split_once("\r\n\r\n") {
                let (head, body) = (head.to_owned(), body.to_owned());
                let lower = head.to_ascii_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if body.len() >= length.unwrap_or(0) {
                    break (head, body);
                }
            }
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            }
        };
        bytes.clear();
        let script = Arc::clone(&*script.lock().expect("not poisoned"));
        let reply = script(&body);
        let status = if let Reply::Status(status) = reply { status } else { 0 };
        requests.lock().expect("not poisoned").push(Request { head, body, at: Instant::now(), status });
        let more = match reply {
            // Where a redirect would lead, if it were followed.
            Reply::Status(status) => {
                let elsewhere = if (300..400).contains(&status) { "location: /elsewhere\r\n" } else { "" };
                stream.write_all(format!("HTTP/1.1 {status} Answer\r\n{elsewhere}content-length: 0\r\n\r\n").as_bytes()).is_ok()
            }
            Reply::Bytes(bytes) => {
                // The connection ends here, whether they arrive or not.
                stream.write_all(bytes.as_bytes()).ok();
                false
            }
            Reply::Hang(time) => {
                std::thread::sleep(time);
                false
            }
        };
        if !more {
            return;
        }
    }
}
