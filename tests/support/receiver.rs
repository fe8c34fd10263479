//! An HTTP server that keeps what it gets and answers as it is told to: where deliveries go.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use serde_json::Value;

use super::{APP, hmac_hex};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) at: Instant,
    /// What it was answered.
    pub(crate) status: u16,
}

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
    status: Arc<AtomicU16>,
}

impl Receiver {
    pub(crate) fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (requests, status) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicU16::new(200)));
        let receiver = Receiver { address, requests: Arc::clone(&requests), status: Arc::clone(&status) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, status) = (Arc::clone(&requests), Arc::clone(&status));
                std::thread::spawn(move || serve(stream, &requests, &status));
            }
        });
        receiver
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From here on every request is answered so.
    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn got(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }

    /// The events of all webhooks that were taken, in the order in which they were.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.got().iter().filter(|request| request.status == 200).flat_map(Request::events).collect()
    }
}

fn serve(mut stream: TcpStream, requests: &Mutex<Vec<Request>>, status: &AtomicU16) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let (head, body) = loop {
            if let Some((head, body)) = String::from_utf8_lossy(&bytes).split_once("\r\n\r\n") {
                let (head, body) = (head.to_owned(), body.to_owned());
                let lower = head.to_ascii_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if body.len() >= length.expect("a length") {
                    break (head, body);
                }
            }
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            }
        };
        bytes.clear();
        let status = status.load(Ordering::SeqCst);
        requests.lock().expect("not poisoned").push(Request { head, body, at: Instant::now(), status });
        if stream.write_all(format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n\r\n").as_bytes()).is_err() {
            return;
        }
    }
}
