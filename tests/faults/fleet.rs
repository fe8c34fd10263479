//! Many WebSocket clients in one process, each a task, which do what pusher-js does and write down what they see.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};

use super::journal::{ClientId, Entry, Leave, What, now};
use crate::support::{APP, Frame, decode, user_auth, wire};

/// How long a client waits for a connection or its greeting before it tries elsewhere.
const CONNECT: Duration = Duration::from_secs(4);

/// What pusher-js waits after anything but 4200.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Who a client is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) client: ClientId,
    /// Brokers by number; it goes to the next when one does not answer.
    pub(crate) brokers: Vec<SocketAddr>,
    /// The first one it goes to.
    pub(crate) first: usize,
    /// Subscriptions are signed with `channel_data` that names this user.
    pub(crate) user: Option<String>,
    /// And it signs in before it subscribes.
    pub(crate) signs_in: bool,
    /// Subscribed to whenever it is connected.
    pub(crate) channels: Vec<String>,
    /// Comes back as pusher-js does.
    pub(crate) comes_back: bool,
    /// The address it comes from.
    pub(crate) source: Option<IpAddr>,
}

/// What a client is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Connect(Box<Spec>),
    Subscribe(ClientId, String),
    Unsubscribe(ClientId, String),
    /// Sends the frame of a subscription and vanishes by reset after so many microseconds.
    SubscribeAndVanish(ClientId, String, u64),
    /// Ends the connection and comes back if it is one that comes back.
    Drop(ClientId, Leave),
    /// Ends the connection for good.
    Leave(ClientId, Leave),
    LeaveAll(Leave),
    Send(ClientId, String),
}

pub(crate) type Sink = Arc<dyn Fn(Entry) + Send + Sync>;

/// The clients of one process.
pub(crate) struct Fleet {
    sink: Sink,
    clients: HashMap<ClientId, mpsc::UnboundedSender<Order>>,
}

impl Fleet {
    pub(crate) fn new(sink: Sink) -> Fleet {
        Fleet { sink, clients: HashMap::new() }
    }

    /// To be called within a runtime.
    pub(crate) fn obey(&mut self, order: Order) {
        let client = match &order {
            Order::Connect(spec) => {
                let (orders, inbox) = mpsc::unbounded_channel();
                self.clients.insert(spec.client, orders);
                let client = Client { spec: (**spec).clone(), sink: Arc::clone(&self.sink), inbox, next: spec.first, gone: false };
                tokio::spawn(client.live());
                return;
            }
            Order::LeaveAll(how) => {
                for (client, orders) in self.clients.drain() {
                    let _ = orders.send(Order::Leave(client, *how));
                }
                return;
            }
            Order::Subscribe(client, _) | Order::Unsubscribe(client, _) | Order::Send(client, _) => client,
            Order::SubscribeAndVanish(client, ..) | Order::Drop(client, _) | Order::Leave(client, _) => client,
        };
        if let Some(orders) = self.clients.get(client) {
            let _ = orders.send(order);
        }
    }
}

struct Client {
    spec: Spec,
    sink: Sink,
    inbox: mpsc::UnboundedReceiver<Order>,
    /// Where it goes next.
    next: usize,
    /// It was told to leave for good.
    gone: bool,
}

/// How a connection ended.
enum End {
    /// By a close code, or without one.
    Theirs(Option<u16>),
    Ours,
}

impl Client {
    fn note(&self, what: What) {
        (self.sink)(Entry { at: now(), client: self.spec.client, what });
    }

    async fn live(mut self) {
        loop {
            let broker = self.next % self.spec.brokers.len();
            let greeted = tokio::time::timeout(CONNECT, self.connect(broker)).await;
            let wait = match greeted {
                Ok(Ok((stream, inbox, socket_id))) => {
                    self.note(What::Opened { broker, socket_id: socket_id.clone() });
                    match self.converse(stream, inbox, &socket_id).await {
                        End::Ours => Duration::ZERO,
                        End::Theirs(code) => {
                            self.note(What::Ended { code });
                            self.next += 1;
                            if matches!(code, Some(4200..=4299)) { Duration::ZERO } else { BACK_OFF }
                        }
                    }
                }
                refused => {
                    let code = refused.ok().and_then(Result::err).flatten();
                    self.note(What::NotOpened { broker, code });
                    self.next += 1;
                    if matches!(code, Some(4200..=4299)) { Duration::ZERO } else { BACK_OFF }
                }
            };
            if self.gone || !self.spec.comes_back || self.told_to_leave_within(wait).await {
                return;
            }
        }
    }

    /// Orders that come between two connections: only a farewell counts, the rest was for the connection that ended.
    async fn told_to_leave_within(&mut self, wait: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            match tokio::time::timeout_at(deadline, self.inbox.recv()).await {
                Err(_) => return false,
                Ok(None | Some(Order::Leave(..))) => return true,
                Ok(Some(_)) => {}
            }
        }
    }

    /// Connects and waits for the greeting. The error is the code of a refusal, if there was one.
    async fn connect(&self, broker: usize) -> Result<(TcpStream, Vec<u8>, String), Option<u16>> {
        let address = self.spec.brokers[broker];
        let socket = TcpSocket::new_v4().map_err(|_| None)?;
        if let Some(source) = self.spec.source {
            socket.bind(SocketAddr::new(source, 0)).map_err(|_| None)?;
        }
        let mut stream = socket.connect(address).await.map_err(|_| None)?;
        let _ = stream.set_nodelay(true);
        let request = format!(
            "GET /app/{}?protocol=7&client=faults&version=1 HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            APP.key
        );
        stream.write_all(request.as_bytes()).await.map_err(|_| None)?;
        let mut inbox = Vec::new();
        loop {
            if let Some(end) = inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                if !inbox.starts_with(b"HTTP/1.1 101") {
                    return Err(None);
                }
                inbox.drain(..end + 4);
                break;
            }
            if stream.read_buf(&mut inbox).await.map_err(|_| None)? == 0 {
                return Err(None);
            }
        }
        loop {
            while let Some(frame) = take(&mut inbox) {
                match frame {
                    Frame::Text(text) => {
                        let event: Value = serde_json::from_str(&text).map_err(|_| None)?;
                        if event["event"] == "pusher:connection_established" {
                            let data: Value = serde_json::from_str(event["data"].as_str().unwrap_or_default()).map_err(|_| None)?;
                            return Ok((stream, inbox, data["socket_id"].as_str().unwrap_or_default().to_owned()));
                        }
                    }
                    Frame::Close(code, _) => return Err(code),
                    _ => {}
                }
            }
            if stream.read_buf(&mut inbox).await.map_err(|_| None)? == 0 {
                return Err(None);
            }
        }
    }

    async fn converse(&mut self, mut stream: TcpStream, mut inbox: Vec<u8>, socket_id: &str) -> End {
        let mut greeting = String::new();
        if let Some(user) = self.spec.user.as_deref().filter(|_| self.spec.signs_in) {
            let user_data = json!({ "id": user }).to_string();
            let auth = user_auth(APP, socket_id, &user_data);
            greeting = json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user_data } }).to_string();
        }
        let mut sent = greeting.is_empty() || stream.write_all(&wire(1, greeting.as_bytes())).await.is_ok();
        for channel in self.spec.channels.clone() {
            sent = sent && self.subscribe(&mut stream, socket_id, &channel).await;
        }
        if !sent {
            return End::Theirs(None);
        }
        loop {
            while let Some(frame) = take(&mut inbox) {
                match frame {
                    Frame::Text(text) => self.hear(&text),
                    Frame::Ping(payload) => drop(stream.write_all(&wire(10, &payload)).await),
                    Frame::Pong(_) => {}
                    Frame::Close(code, _) => {
                        let _ = stream.write_all(&wire(8, &code.unwrap_or(1000).to_be_bytes())).await;
                        return End::Theirs(code);
                    }
                    Frame::Gone => return End::Theirs(None),
                }
            }
            tokio::select! {
                read = stream.read_buf(&mut inbox) => match read {
                    Ok(1..) => {}
                    _ => return End::Theirs(None),
                },
                order = self.inbox.recv() => match order {
                    None => { self.gone = true; return End::Ours }
                    Some(order) => if self.act(order, &mut stream, socket_id).await { return End::Ours },
                },
            }
        }
    }

    /// Does what it is told; true if that ended the connection.
    async fn act(&mut self, order: Order, stream: &mut TcpStream, socket_id: &str) -> bool {
        match order {
            Order::Subscribe(_, channel) => drop(self.subscribe(stream, socket_id, &channel).await),
            Order::Unsubscribe(_, channel) => {
                self.note(What::Unsubscribing { channel: channel.clone() });
                let frame = json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }).to_string();
                let _ = stream.write_all(&wire(1, frame.as_bytes())).await;
            }
            Order::Send(_, text) => drop(stream.write_all(&wire(1, text.as_bytes())).await),
            Order::SubscribeAndVanish(_, channel, micros) => {
                self.subscribe(stream, socket_id, &channel).await;
                tokio::time::sleep(Duration::from_micros(micros)).await;
                self.gone = true;
                return self.leave(stream, Leave::Reset).await;
            }
            Order::Drop(_, how) => return self.leave(stream, how).await,
            Order::Leave(_, how) => {
                self.gone = true;
                return self.leave(stream, how).await;
            }
            Order::Connect(_) | Order::LeaveAll(_) => {}
        }
        false
    }

    async fn leave(&self, stream: &mut TcpStream, how: Leave) -> bool {
        self.note(What::Leaving { how });
        match how {
            Leave::CloseFrame => drop(stream.write_all(&wire(8, &1000_u16.to_be_bytes())).await),
            Leave::Fin => drop(stream.shutdown().await),
            Leave::Reset => drop(socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))),
        }
        true
    }

    async fn subscribe(&self, stream: &mut TcpStream, socket_id: &str, channel: &str) -> bool {
        self.note(What::Subscribing { channel: channel.to_owned() });
        stream.write_all(&wire(1, subscription(self.spec.user.as_deref(), socket_id, channel).as_bytes())).await.is_ok()
    }

    fn hear(&self, text: &str) {
        let what = understand(text).unwrap_or_else(|| Some(What::Nonsense { text: text.to_owned() }));
        if let Some(what) = what {
            self.note(what);
        }
    }
}

/// The text of a subscription, signed as its channel needs it; `user` stands in the `channel_data`.
pub(crate) fn subscription(user: Option<&str>, socket_id: &str, channel: &str) -> String {
    let mut data = json!({ "channel": channel });
    if channel.starts_with("private-") || channel.starts_with("presence-") {
        let mut signed = format!("{socket_id}:{channel}");
        if let Some(user) = user {
            let channel_data = json!({ "user_id": user }).to_string();
            signed.push_str(&format!(":{channel_data}"));
            data["channel_data"] = json!(channel_data);
        }
        data["auth"] = json!(APP.auth(&signed));
    }
    json!({ "event": "pusher:subscribe", "data": data }).to_string()
}

/// The first whole frame, taken out.
fn take(inbox: &mut Vec<u8>) -> Option<Frame> {
    let (frame, length) = decode(inbox)?;
    inbox.drain(..length);
    Some(frame)
}

/// What an event means; `Some(None)` if nothing, `None` if it is not an event.
fn understand(text: &str) -> Option<Option<What>> {
    let event: Value = serde_json::from_str(text).ok()?;
    let name = event["event"].as_str()?;
    if name == "pusher:error" || name == "pusher:pong" || name == "pusher:ping" {
        return Some(None);
    }
    let data: Value = serde_json::from_str(event["data"].as_str()?).unwrap_or(Value::Null);
    let channel = event["channel"].as_str().unwrap_or_default().to_owned();
    let string = |field: &str| data[field].as_str().map(str::to_owned);
    let what = match name {
        "pusher:signin_success" => return Some(None),
        "pusher_internal:subscription_succeeded" => What::Subscribed { channel },
        "pusher:subscription_error" => {
            let holder = data.get("holder").cloned();
            What::Refused { channel, kind: string("type")?, status: data["status"].as_u64()?, holder }
        }
        "holdline:locked" => {
            let (fence, principal) = (Some(data["fence"].as_i64()?), Some(string("principal")?));
            What::Locked { channel, resource: string("resource")?, fence, principal, outcome: string("outcome")? }
        }
        "holdline:lock_free" => What::LockFree { resource: string("resource")? },
        "holdline:lock_lost" => What::LockLost { fence: data["fence"].as_i64()?, cause: string("cause")? },
        "holdline:lock_state" => What::LockState { fence: data["fence"].as_i64(), state: string("state")? },
        name => What::Event { channel, name: name.to_owned(), data: event["data"].as_str()?.to_owned() },
    };
    Some(Some(what))
}
