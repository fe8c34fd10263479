//! A WebSocket client that follows RFC 6455 only as far as the test wants: it can send any bytes, and checks all that it gets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::frame::decode;
use super::{APP, Answer, Event, Frame, WAIT, wire};

/// The example key of RFC 6455, whose answer is known without SHA-1.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A raw client.
pub(crate) struct Ws {
    stream: TcpStream,
    inbox: Vec<u8>,
    read: usize,
    pub(crate) socket_id: String,
    pub(crate) head: Answer,
    /// Answer WebSocket PINGs that are met while looking for an event; on unless a test wants silence.
    pub(crate) answers_pings: bool,
}

impl Ws {
    /// Connects to the test app and reads `connection_established`.
    pub(crate) fn open(address: SocketAddr) -> Ws {
        Ws::open_at(address, "/app/app-key?protocol=7&client=test&version=1.0&flash=false", &[])
    }

    pub(crate) fn open_at(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Ws {
        let mut ws = Ws::upgrade(address, target, headers);
        ws.established();
        ws
    }

    /// The same over a connection with next to no room on its way to the client: what it does not read soon waits at the broker.
    pub(crate) fn open_narrow(address: SocketAddr) -> Ws {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        socket.connect(&address.into()).expect("the broker accepts");
        let headers = [("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13")];
        let mut ws = Ws::upgrade_over(socket.into(), address, "/app/app-key?protocol=7", &headers);
        assert_eq!(ws.head.status, 101, "{}", ws.head.text());
        ws.established();
        ws
    }

    /// Sends the upgrade and demands a 101, nothing more.
    pub(crate) fn upgrade(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Ws {
        let mut all = vec![("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13")];
        all.extend(headers);
        let ws = Ws::try_upgrade(address, target, &all);
        assert_eq!(ws.head.status, 101, "upgrade of {target}: {}", ws.head.text());
        assert_eq!(ws.head.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(ws.head.header("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
        ws
    }

    /// Sends an upgrade with exactly these headers besides Host, Upgrade and Connection; any answer will do.
    pub(crate) fn try_upgrade(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Ws {
        Ws::upgrade_over(TcpStream::connect(address).expect("the broker accepts"), address, target, headers)
    }

    fn upgrade_over(mut stream: TcpStream, address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Ws {
        stream.set_nodelay(true).expect("nodelay");
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        // A refused header may be answered before all of it was sent.
        let _ = stream.write_all(request.as_bytes());
        let mut inbox = Vec::new();
        let head = Answer::read(&mut stream, &mut inbox).unwrap_or_else(|error| panic!("no answer to the upgrade of {target}: {error}"));
        Ws { stream, inbox, read: 0, socket_id: String::new(), head, answers_pings: true }
    }

    /// Reads `connection_established` and remembers the socket id.
    pub(crate) fn established(&mut self) -> Event {
        let event = self.expect("pusher:connection_established");
        self.socket_id = event.payload()["socket_id"].as_str().expect("a socket id").to_owned();
        event
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the socket takes bytes");
    }

    /// Like `send_bytes`, where the broker may already have closed.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_bytes(&wire(1, text.as_bytes()));
    }

    pub(crate) fn send(&mut self, value: &Value) {
        self.send_text(&value.to_string());
    }

    /// Sends a close frame with this code.
    pub(crate) fn send_close(&mut self, code: u16) {
        self.send_bytes(&wire(8, &code.to_be_bytes()));
    }

    /// Sends a FIN and goes on reading.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("the socket is open");
    }

    /// The same, where the broker may already have closed.
    pub(crate) fn try_half_close(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The next frame, or `None` when nothing came in time.
    pub(crate) fn frame_within(&mut self, time: Duration) -> Option<Frame> {
        let deadline = Instant::now() + time;
        loop {
            if let Some((frame, length)) = decode(&self.inbox[self.read..]) {
                self.read += length;
                return Some(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).expect("a read timeout");
            self.inbox.drain(..std::mem::take(&mut self.read));
            let filled = self.inbox.len();
            self.inbox.resize(filled + 65_536, 0);
            let result = self.stream.read(&mut self.inbox[filled..]);
            self.inbox.truncate(filled + *result.as_ref().unwrap_or(&0));
            match result {
                Ok(0) => return Some(Frame::Gone),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Some(Frame::Gone),
            }
        }
    }

    /// The next frame of any kind.
    pub(crate) fn frame(&mut self) -> Frame {
        self.frame_within(WAIT).unwrap_or_else(|| panic!("no frame within {WAIT:?}"))
    }

    /// The next text frame; pings are answered, pongs passed over, anything else is a failure.
    pub(crate) fn event(&mut self) -> Event {
        loop {
            match self.frame() {
                Frame::Text(text) => return Event::parse(text),
                Frame::Ping(payload) => self.answer_ping(&payload),
                Frame::Pong(_) => {}
                other => panic!("expected an event, got {other:?}"),
            }
        }
    }

    fn answer_ping(&mut self, payload: &[u8]) {
        if self.answers_pings {
            self.send_bytes(&wire(10, payload));
        }
    }

    /// The next event, which must have this name.
    pub(crate) fn expect(&mut self, name: &str) -> Event {
        let event = self.event();
        assert_eq!(event.name(), name, "{}", event.raw);
        event
    }

    /// The next event must be this one, on this channel, with exactly this `data`.
    pub(crate) fn expect_data(&mut self, name: &str, channel: &str, data: &str) -> Event {
        let event = self.expect(name);
        assert_eq!((event.channel(), event.data()), (Some(channel), data), "{}", event.raw);
        event
    }

    /// The next event must be an error object with this code; returns its message.
    pub(crate) fn error(&mut self, code: u16) -> String {
        let event = self.expect("pusher:error");
        let data = event.json["data"].as_object().unwrap_or_else(|| panic!("`data` of an error is an object: {}", event.raw));
        assert_eq!(data["code"], json!(code), "{}", event.raw);
        data["message"].as_str().unwrap_or_else(|| panic!("`message` is a string: {}", event.raw)).to_owned()
    }

    /// Nothing was queued before the answer to a ping: the barrier that replaces waiting.
    pub(crate) fn quiet(&mut self) {
        self.send_text(r#"{"event":"pusher:ping"}"#);
        self.expect("pusher:pong");
    }

    /// The next frame is a close frame with this code; it is answered, and the socket ends. Returns the reason.
    pub(crate) fn closed(&mut self, code: u16) -> String {
        loop {
            match self.frame() {
                Frame::Close(Some(found), reason) => {
                    assert_eq!(found, code, "close reason {reason:?}");
                    self.try_send_bytes(&wire(8, &code.to_be_bytes()));
                    self.gone();
                    return reason;
                }
                Frame::Ping(_) | Frame::Pong(_) => {}
                other => panic!("expected close {code}, got {other:?}"),
            }
        }
    }

    /// The socket must end, and nothing may come before the end.
    pub(crate) fn gone(&mut self) {
        let next = self.frame_within(WAIT).expect("the broker closes the socket");
        assert_eq!(next, Frame::Gone);
    }

    /// The fatal form of protocol.md 1.4: error object, close frame with the same code and text, end. Returns the text.
    pub(crate) fn refused(&mut self, code: u16) -> String {
        let message = self.error(code);
        let reason = self.closed(code);
        assert!(reason == message || (message.starts_with(&reason) && reason.len() >= 120), "reason {reason:?}, message {message:?}");
        assert!(reason.len() <= 123, "a close frame holds 123 bytes of reason: {reason:?}");
        message
    }

    /// A breach of RFC 6455: a close frame with this code, perhaps after an error event, then the end.
    pub(crate) fn broken_off(&mut self, code: u16) {
        loop {
            match self.frame() {
                Frame::Text(text) => assert_eq!(Event::parse(text).name(), "pusher:error"),
                Frame::Close(found, reason) => {
                    assert_eq!(found, Some(code), "close reason {reason:?}");
                    assert!(reason.len() <= 123);
                    return self.gone();
                }
                other => panic!("expected close {code}, got {other:?}"),
            }
        }
    }

    pub(crate) fn send_subscribe(&mut self, channel: &str, auth: Option<&str>, channel_data: Option<&str>) {
        let mut data = json!({ "channel": channel });
        if let Some(auth) = auth {
            data["auth"] = json!(auth);
        }
        if let Some(channel_data) = channel_data {
            data["channel_data"] = json!(channel_data);
        }
        self.send(&json!({ "event": "pusher:subscribe", "data": data }));
    }

    /// Subscribes, signed by the test app whatever the kind, and reads the acknowledgement.
    pub(crate) fn subscribe(&mut self, channel: &str) -> Event {
        let auth = APP.auth(&format!("{}:{channel}", self.socket_id));
        self.send_subscribe(channel, Some(&auth), None);
        self.acknowledged(channel)
    }

    /// Joins a presence channel with this `channel_data` and returns the `presence` object.
    pub(crate) fn join(&mut self, channel: &str, channel_data: &str) -> Value {
        self.send_join(channel, channel_data);
        self.acknowledged(channel).payload()["presence"].clone()
    }

    /// Subscribes in whatever way the kind of the channel needs, and reads the acknowledgement.
    pub(crate) fn enter(&mut self, channel: &str) {
        if channel.starts_with("presence-") {
            self.join(channel, &super::member(&self.socket_id.clone(), None));
        } else {
            self.subscribe(channel);
        }
    }

    pub(crate) fn send_join(&mut self, channel: &str, channel_data: &str) {
        let auth = APP.auth(&format!("{}:{channel}:{channel_data}", self.socket_id));
        self.send_subscribe(channel, Some(&auth), Some(channel_data));
    }

    pub(crate) fn acknowledged(&mut self, channel: &str) -> Event {
        let event = self.expect("pusher_internal:subscription_succeeded");
        assert_eq!(event.channel(), Some(channel), "{}", event.raw);
        event
    }

    /// The next event is the refusal of a subscription: `(type, status, error)`.
    pub(crate) fn subscription_error(&mut self, channel: &str) -> (String, u64, String) {
        let event = self.expect("pusher:subscription_error");
        assert_eq!(event.channel(), Some(channel), "{}", event.raw);
        let data = event.payload();
        let text = |field: &str| data[field].as_str().unwrap_or_else(|| panic!("{field}: {}", event.raw)).to_owned();
        (text("type"), data["status"].as_u64().unwrap_or_else(|| panic!("status: {}", event.raw)), text("error"))
    }

    pub(crate) fn unsubscribe(&mut self, channel: &str) {
        self.send(&json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }));
    }

    /// Sends a signed `pusher:signin` with this text as `user_data`.
    pub(crate) fn send_signin(&mut self, user_data: &str) {
        let auth = super::user_auth(APP, &self.socket_id, user_data);
        self.send(&json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user_data } }));
    }

    /// Signs in and demands success, with `user_data` echoed byte for byte.
    pub(crate) fn signin(&mut self, user_data: &str) {
        self.send_signin(user_data);
        let event = self.expect("pusher:signin_success");
        assert_eq!(event.payload()["user_data"], json!(user_data), "{}", event.raw);
    }
}
