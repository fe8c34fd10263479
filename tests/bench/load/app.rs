//! What an application of the Pusher protocol signs and sends: requests, subscriptions. Independent of the product's code.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::frames::{TEXT, masked};

/// The keys of an application.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) key: String,
    hmac: Hmac<Sha256>,
    /// The clock of signatures, looked at once in a while.
    clock: (u64, Instant),
}

impl App {
    pub(crate) fn new(id: &str, key: &str, secret: &str) -> Self {
        let hmac = Hmac::new_from_slice(secret.as_bytes()).expect("any key length is legal");
        Self { id: id.to_owned(), key: key.to_owned(), hmac, clock: (unix_now(), Instant::now()) }
    }

    fn sign(&self, text: &str) -> String {
        let mut mac = self.hmac.clone();
        mac.update(text.as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    fn now(&mut self) -> u64 {
        if self.clock.1.elapsed() > Duration::from_secs(5) {
            self.clock = (unix_now(), Instant::now());
        }
        self.clock.0
    }

    /// A signed request as it goes on the wire. `path` is below `/apps/{id}`; `query` has no leading `?` and is in order.
    pub(crate) fn request(&mut self, method: &str, path: &str, query: &str, body: &str) -> Vec<u8> {
        let path = format!("/apps/{}{path}", self.id);
        let now = self.now();
        let mut signed = format!("auth_key={}&auth_timestamp={now}&auth_version=1.0", self.key);
        if !body.is_empty() {
            signed.push_str("&body_md5=");
            signed.push_str(&hex(&Md5::digest(body.as_bytes())));
        }
        // What is signed is sorted by name.
        let (before, after): (Vec<&str>, Vec<&str>) = query.split('&').filter(|pair| !pair.is_empty()).partition(|pair| *pair < "auth_");
        let signed = [before.as_slice(), &[&*signed], &after].concat().join("&");
        let signature = self.sign(&format!("{method}\n{path}\n{signed}"));
        let length = body.len();
        let head = format!("{method} {path}?{signed}&auth_signature={signature} HTTP/1.1\r\nHost: bench\r\n");
        let rest = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        (head + &rest).into_bytes()
    }

    /// `pusher:subscribe`, signed if the channel needs it, as a frame.
    pub(crate) fn subscribe(&self, socket_id: &str, channel: &str, user: Option<&str>) -> Vec<u8> {
        let text = match user {
            Some(user) => {
                let data = format!(r#"{{"user_id":"{user}","user_info":{{"name":"user {user}"}}}}"#);
                let auth = self.sign(&format!("{socket_id}:{channel}:{data}"));
                let (key, data) = (&self.key, data.replace('"', "\\\""));
                format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"{key}:{auth}","channel_data":"{data}"}}}}"#)
            }
            None if channel.starts_with("private-") => {
                let (key, auth) = (&self.key, self.sign(&format!("{socket_id}:{channel}")));
                format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"{key}:{auth}"}}}}"#)
            }
            None => format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#),
        };
        masked(TEXT, text.as_bytes())
    }

    pub(crate) fn upgrade(&self) -> String {
        format!(
            "GET /app/{}?protocol=7&client=bench&version=1 HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.key
        )
    }
}

/// `pusher:unsubscribe` as a frame.
pub(crate) fn unsubscribe(channel: &str) -> Vec<u8> {
    masked(TEXT, format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#).as_bytes())
}

/// One event as the HTTP API takes it. The floor server relies on this order of the fields.
pub(crate) fn event(channel: &str, data: &str) -> String {
    format!(r#"{{"name":"e","channel":"{channel}","data":"{data}"}}"#)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}
