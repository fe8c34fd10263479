//! The public extension point: what an application knows and decides about its connections.

use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use super::{Both, Closing, Conflict, Conn, Only, Outcome, Reject, pairs::Pairs};
use crate::protocol::{ChannelName, ChannelPattern, Claims, CloseCode, Member, SignedUser, signed_field};

/// The life of a connection, as an application sees it. Implement the hooks with plain `async fn`; only the first is required.
///
/// The order: `on_handshake` → (the client hears `connection_established`) → `on_open` → any number of `on_signin`,
/// `on_subscribe`, `on_message`, `on_unsubscribe`, one at a time in the order of the client's frames → the connection leaves
/// its channels → `on_close`. Every connection for which `on_open` was called gets exactly one `on_close`, whatever ends it.
///
/// Every async hook has a time limit (`server.hook_timeout`, 5 s), and all are guarded against panics. A hook that runs out of time or
/// panics closes its connection with 4100 and [`super::CloseCause::HandlerFailed`]; `on_close` still gets the context.
pub trait Handler: Send + Sync + 'static {
    /// What the application knows about one connection. Made by the handshake, owned by the connection, consumed by the close.
    type Conn: Send + 'static;

    /// Decides whether this client may connect, and makes its context. The application key, the limits, the origin and a token
    /// were checked before.
    fn on_handshake(&self, request: &Handshake) -> impl Future<Output = Result<Self::Conn, Reject>> + Send;

    /// The connection is established. What is pushed here arrives after `pusher:connection_established`. A refusal closes.
    fn on_open(&self, _conn: &mut Self::Conn) -> impl Future<Output = Result<Outcome, Reject>> + Send {
        async { Ok(Outcome::accept()) }
    }

    /// The client signed in; the signature is verified.
    fn on_signin(&self, _conn: &mut Self::Conn, _user: &SignedUser) -> impl Future<Output = Result<Outcome, Reject>> + Send {
        async { Ok(Outcome::accept()) }
    }

    /// The client wants to subscribe; the signature is verified. Not called again for a channel it is already on.
    fn on_subscribe(&self, _conn: &mut Self::Conn, _sub: &Subscribe) -> impl Future<Output = Result<Outcome, Reject>> + Send {
        async { Ok(Outcome::accept()) }
    }

    /// The client has left a channel of its own will.
    fn on_unsubscribe(&self, _conn: &mut Self::Conn, _channel: &ChannelName) -> impl Future<Output = Outcome> + Send {
        async { Outcome::accept() }
    }

    /// A client event that may be sent, before it is relayed. A refusal drops it.
    fn on_message(&self, _conn: &mut Self::Conn, _msg: &ClientEvent) -> impl Future<Output = Result<Outcome, Reject>> + Send {
        async { Ok(Outcome::accept()) }
    }

    /// A ping of ours was answered after this time. Called on the connection's worker: do not block.
    fn on_pong(&self, _conn: &mut Self::Conn, _round_trip: Duration) {}

    /// The client did something that the protocol answers with an error. Called on the connection's worker: do not block.
    fn on_error(&self, _conn: &mut Self::Conn, _error: &ConnectionError) {}

    /// A hold that was asked for cannot be had, because somebody else has the resource; nothing of the outcome was done. What the
    /// client hears instead: by default [`Reject::conflict`], which names the holder if the hold says so.
    fn on_conflict(&self, _conn: &mut Self::Conn, conflict: &Conflict) -> impl Future<Output = Reject> + Send {
        let reject = Reject::conflict(conflict);
        async { reject }
    }

    /// The connection has ended and has left its channels. It cannot be refused: the context is given away for good.
    /// Runs on the main runtime, which outlives every worker and also keeps this node's locks: **never block in it**, or the other
    /// nodes may take this one for dead.
    fn on_close(&self, _conn: Self::Conn, _closing: Closing) -> impl Future<Output = Outcome> + Send {
        async { Outcome::accept() }
    }

    /// Whether `on_close` does anything at all. Without a word to say, a connection that holds nothing spares itself the way there.
    #[doc(hidden)]
    fn hears_close(&self) -> bool {
        true
    }

    /// A peer that never became a connection: a plain HTTP request, a refusal, an abandoned handshake. [`Handler::on_close`]
    /// never runs for it. Called on a worker: do not block.
    fn on_disconnect(&self, _peer: &NeverOpened) {}

    /// This handler and then another one. They enter left to right and leave right to left; the first refusal wins.
    fn and<B: Handler>(self, other: B) -> Both<Self, B>
    where
        Self: Sized,
    {
        Both::new(self, other)
    }

    /// This handler for the channels of one pattern: it sees no subscription, no message and no unsubscribe of others.
    fn only(self, pattern: ChannelPattern) -> Only<Self>
    where
        Self: Sized,
    {
        Only::new(self, pattern)
    }
}

/// No application at all: everybody may connect, and nobody is remembered.
impl Handler for () {
    type Conn = ();

    async fn on_handshake(&self, _request: &Handshake) -> Result<(), Reject> {
        Ok(())
    }

    fn hears_close(&self) -> bool {
        false
    }
}

/// What is known when a client knocks.
#[derive(Clone, Debug)]
pub struct Handshake {
    pub(crate) conn: Conn,
    pub(crate) path: String,
    pub(crate) path_token: Option<String>,
    pub(crate) query: Pairs,
    pub(crate) headers: Pairs,
    pub(crate) claims: Option<Claims>,
}

impl Handshake {
    /// The connection to be. Keep it to speak to the client later.
    pub fn conn(&self) -> &Conn {
        &self.conn
    }

    /// The application's id.
    pub fn app_id(&self) -> &str {
        &self.conn.app().id
    }

    /// Where the client comes from.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.conn.remote_ip()
    }

    /// The path of the request, without the query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The `{token}` of `/ctx/{token}/app/{key}`.
    pub fn path_token(&self) -> Option<&str> {
        self.path_token.as_deref()
    }

    /// The claims of the verified token; `None` unless the application's `handshake_auth` is on and a token was shown.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// The first query parameter of this name. **Not signed: anybody can write anything here.**
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.find(|key| key == name)
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.find(|key| key.eq_ignore_ascii_case(name))
    }

    /// A cookie, as the client sent it.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.header("cookie")?.split(';').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// A subscription that the protocol allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// Who joins, on a presence channel.
    pub member: Option<Member>,
    /// The user the connection has signed in as.
    pub user_id: Option<Arc<str>>,
    /// `channel_data` that the application signed, on any signed channel.
    pub channel_data: Option<String>,
}

impl Subscribe {
    /// What `{name}` stands for in `pattern`, for the channel of this subscription: `None` when it does not match or the
    /// pattern has no such capture.
    pub fn capture(&self, pattern: &ChannelPattern, name: &str) -> Option<String> {
        pattern.captures(self.channel.as_str())?.remove(name)
    }

    /// A field of the signed `channel_data`, as text: of the data itself, else of its `user_info`.
    pub fn channel_data_field(&self, name: &str) -> Option<String> {
        signed_field(self.channel_data.as_deref()?, name)
    }
}

/// An event of a client that passed the seven checks of protocol.md 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEvent {
    /// The channel; the connection is subscribed to it.
    pub channel: ChannelName,
    /// The name, `client-` included.
    pub event: String,
    /// The data as it will be relayed: a string unchanged, anything else as JSON text.
    pub data: String,
    /// The member who sends it, on a presence channel.
    pub user_id: Option<Arc<str>>,
}

impl ClientEvent {
    /// The data as a typed value.
    ///
    /// # Errors
    /// [`Reject::bad_request`] when it is not the JSON of one.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Reject> {
        serde_json::from_str(&self.data).map_err(|_| Reject::bad_request(format!("The data of {} is not what it should be.", self.event)))
    }
}

/// Something that went wrong on an open connection and was answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ConnectionError {
    /// What the client was told.
    pub code: CloseCode,
    /// One stable sentence.
    pub message: String,
}

/// A peer that never became a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverOpened {
    /// How far it came.
    pub stage: Stage,
    /// The application whose key it named; `None` when there is none of that key.
    pub app_id: Option<Arc<str>>,
    /// Where it came from.
    pub remote_ip: Option<IpAddr>,
    /// What it asked for.
    pub path: String,
    /// Why it came no further.
    pub cause: String,
}

/// How far a peer came that never became a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// A request that asks for no upgrade, or a malformed one.
    Request,
    /// The broker refused: key, protocol, origin, quota, token, capacity.
    Admission,
    /// The handler refused or failed, or the peer left while it was asked.
    Handshake,
}
