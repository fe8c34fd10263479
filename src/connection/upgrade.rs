//! From an HTTP request to a connection: admission, handshake hook, 101, actor.
//!
//! A refusal completes the upgrade, says `pusher:error` and closes with the same code (protocol.md 1.1): clients obey close
//! codes and cannot read a refused upgrade.

use std::{rc::Rc, sync::Arc, time::Instant};

use actix::{Actor, StreamHandler};
use actix_http::{ResponseBuilder, ws};
use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    body::MessageBody,
    dev,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    rt, web,
};
use futures_util::StreamExt;
use tokio::time::timeout;
use tracing::Instrument;

use super::{
    Transport,
    actor::{Birth, CLOSE_TIMEOUT, Connection},
    admission::{Refusal, Request},
    body::FirstWords,
    inbound::{Inbound, Message},
    link::{Handoff, Link},
    random,
    writer::Writer,
};
use crate::{
    cluster::Admission,
    domain::{CloseCause, Conn, ConnState, Handler, Handshake, HandshakeRefusal, Hook, Hub, NeverOpened, NewConn, Outbox, Stage},
    protocol::{Claims, CloseCode, ServerFrame, SocketId},
};

/// `GET /app/{key}` and `GET /ctx/{token}/app/{key}`.
pub(super) async fn upgrade<H: Handler>(
    request: HttpRequest,
    payload: web::Payload,
    transport: web::Data<Transport<H>>,
) -> Result<HttpResponse, actix_web::Error> {
    answer(&request, payload.into_inner(), &transport).await
}

/// The same, past the router.
pub(super) async fn answer<H: Handler>(
    request: &HttpRequest,
    payload: dev::Payload,
    transport: &Transport<H>,
) -> Result<HttpResponse, actix_web::Error> {
    let mut asked = Request::read(request, &transport.settings.trusted_proxies);
    let mut knock = Knock::new(request, &asked, transport);
    // A trusted proxy that names no client stands for all of them.
    let knocker = asked.peer.address.ip().filter(|ip| !transport.settings.trusted_proxies.contains(*ip));
    if knocker.is_some_and(|address| !transport.door.admits(address)) {
        knock.turned_away(Stage::Admission, HandshakeRefusal::RateLimited, "too many connections from this address");
        return Ok(too_many());
    }
    let handshake = match handshake(request) {
        Ok(handshake) => handshake,
        Err(error) => {
            knock.turned_away(Stage::Request, HandshakeRefusal::NotWebSocket, &error.to_string());
            return Ok(not_an_upgrade(request, &error));
        }
    };
    // Every socket that we listen on has one.
    let Some(handoff) = request.conn_data::<Handoff>().cloned() else { return Ok(HttpResponse::NotImplemented().finish()) };
    let link = Rc::<Link>::default();
    let inbound = Inbound::new(payload, transport.settings.max_message_bytes, Rc::clone(&link));
    let upgrade = Upgrade { handshake, handoff, link, inbound };
    match admit(transport, request, &mut asked, &mut knock).await {
        Err(refusal) => {
            let (code, remote, message) = (refusal.code.as_u16(), asked.peer.address, &refusal.message);
            tracing::debug!(code, remote.address = %remote, "Refusing a connection from {remote}: {message}");
            upgrade.refuse(&refusal, transport)
        }
        Ok(admitted) => {
            let (app_id, socket_id, remote) = (admitted.hub.id(), admitted.conn.socket_id(), asked.peer.address);
            tracing::debug!(app.id = %app_id, socket.id = %socket_id, remote.address = %remote, "Connection {socket_id} opens from {remote}");
            upgrade.open(admitted, transport)
        }
    }
}

/// A connection that may open.
struct Admitted<C> {
    conn: Conn,
    hub: Arc<Hub>,
    admission: Admission,
    context: C,
}

async fn admit<H: Handler>(
    transport: &Transport<H>,
    request: &HttpRequest,
    asked: &mut Request,
    knock: &mut Knock<'_, H>,
) -> Result<Admitted<H::Conn>, Refusal> {
    let entered = enter(transport, asked).inspect_err(|refusal| knock.turned_away(Stage::Admission, refusal.why, &refusal.message))?;
    let (conn, hub, admission, claims) = entered;
    conn.set_state(ConnState::Handshaking);
    knock.has_conn(&conn);
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let handshake = Handshake {
        conn: conn.clone(),
        path: request.path().to_owned(),
        path_token: asked.path_token.take(),
        query: std::mem::take(&mut asked.query),
        headers: headers.collect(),
        claims,
    };
    let span = tracing::info_span!("hook", hook.name = "on_handshake", app.id = %hub.id(), socket.id = %conn.socket_id());
    let hook = async { transport.handler.on_handshake(&handshake).await };
    let hooks = transport.handover.hooks();
    let answer = hooks.guarded(Hook::OnHandshake, transport.settings.hook_timeout, hook).instrument(span).await;
    let refusal = match answer {
        Ok(Ok(context)) => {
            knock.opened();
            return Ok(Admitted { conn, hub, admission, context });
        }
        Ok(Err(reject)) => Refusal::from(reject),
        Err(failure) => {
            let socket_id = conn.socket_id();
            tracing::error!(app.id = %hub.id(), socket.id = %socket_id, error = %failure, "The handshake of {socket_id} failed: {failure}");
            Refusal::new(CloseCode::OVER_CAPACITY, "The server could not handle the request").because(HandshakeRefusal::HandlerFailed)
        }
    };
    knock.turned_away(Stage::Handshake, refusal.why, &refusal.message);
    Err(refusal)
}

type Entered = (Conn, Arc<Hub>, Admission, Option<Claims>);

fn enter<H: Handler>(transport: &Transport<H>, asked: &Request) -> Result<Entered, Refusal> {
    let hub = transport.broker.app_by_key(&asked.key).ok_or_else(|| Refusal::unknown_app(&asked.key))?;
    let app = hub.app();
    let claims = asked.check(&app, &transport.settings)?;
    let bits = random::bits().map_err(|_| Refusal::new(CloseCode::OVER_CAPACITY, "The server has no randomness"))?;
    let new = NewConn {
        socket_id: SocketId::from_random(bits),
        app: Arc::clone(&app),
        remote_ip: asked.peer.address.ip(),
        worker: transport.worker,
        max_outbox_bytes: transport.settings.max_outbox_bytes,
        memory: Arc::clone(transport.broker.outbox_memory()),
        now: Instant::now(),
    };
    let conn = Conn::with_pacer(new, Some(Arc::clone(&transport.pacer)));
    let admission = transport.broker.admit(&hub, &conn).map_err(|error| Refusal::not_admitted(error, &app))?;
    Ok((conn, hub, admission, claims))
}

/// A request that is becoming a connection.
struct Upgrade {
    handshake: ResponseBuilder,
    handoff: Handoff,
    link: Rc<Link>,
    inbound: Inbound,
}

impl Upgrade {
    fn open<H: Handler>(self, admitted: Admitted<H::Conn>, transport: &Transport<H>) -> Result<HttpResponse, actix_web::Error> {
        let Self { handshake, handoff, link, inbound } = self;
        let Admitted { conn, hub, admission, context } = admitted;
        hub.opened(&conn);
        let activity_timeout = transport.settings.activity_timeout.as_secs().max(1);
        conn.push(ServerFrame::ConnectionEstablished { socket_id: conn.socket_id(), activity_timeout }.encode());
        let meter = hub.stats().meter(transport.worker);
        let writer = Writer::new(conn.clone(), Rc::clone(&link), Some(meter), transport.broker.socket());
        let birth = Birth {
            conn,
            hub,
            broker: transport.broker.clone(),
            settings: Arc::clone(&transport.settings),
            handler: Arc::clone(&transport.handler),
            handover: transport.handover.clone(),
            link: Rc::clone(&link),
            context,
            admission,
        };
        Connection::create(|ctx| {
            Connection::<H>::add_stream(inbound, ctx);
            Connection::new(birth)
        });
        switch(handshake, handoff, link, writer)
    }

    /// 101, one error frame, one close frame with the same code; the socket goes when the peer has answered, or after a while.
    fn refuse<H: Handler>(self, refusal: &Refusal, transport: &Transport<H>) -> Result<HttpResponse, actix_web::Error> {
        let Self { handshake, handoff, link, mut inbound } = self;
        let outbox = Arc::new(Outbox::new(usize::MAX, Arc::default()));
        outbox.fail(CloseCause::Refused, refusal.code, &refusal.message);
        let writer = Writer::new(Arc::clone(&outbox), Rc::clone(&link), None, transport.broker.socket());
        let socket = Rc::clone(&link);
        rt::spawn(async move {
            let answer = async { while !matches!(inbound.next().await, None | Some(Message::Close(_))) {} };
            // Out of time is an answer, too.
            let _ = timeout(CLOSE_TIMEOUT, answer).await;
            outbox.finish();
            socket.hurry();
        });
        switch(handshake, handoff, link, writer)
    }
}

/// The 101. What waits already leaves with it; the writer goes on when it has the socket.
fn switch<O>(
    mut handshake: ResponseBuilder,
    handoff: Handoff,
    link: Rc<Link>,
    mut writer: Writer<O>,
) -> Result<HttpResponse, actix_web::Error>
where
    O: AsRef<Outbox> + Unpin + 'static,
{
    let body = FirstWords::new(writer.first_words(), handoff, link);
    rt::spawn(writer);
    Ok(handshake.message_body(body.boxed())?.into())
}

/// The 101, if it can be kept: actix-http hands the raw stream over for one upgrade without a body, and would write frames in HTTP chunks
/// after any other that its own check lets through.
fn handshake(request: &HttpRequest) -> Result<ResponseBuilder, ws::HandshakeError> {
    let headers = request.headers();
    let alone = headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"));
    if !alone || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(ws::HandshakeError::NoWebsocketUpgrade);
    }
    let mut answer = ws::handshake(request.head())?;
    // Pusher's clients ask for none. Browsers drop a connection whose answer names none of those that were asked for; all are the same here.
    if let Some(protocol) = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(first_of) {
        answer.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol));
    }
    Ok(answer)
}

/// The first entry of a list.
fn first_of(list: &HeaderValue) -> Option<HeaderValue> {
    let first = list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).find(|entry| !entry.is_empty())?;
    HeaderValue::from_bytes(first).ok()
}

/// The answer to a request that is no upgrade, or a broken one. HTTP can say it: no WebSocket client asked.
fn not_an_upgrade(request: &HttpRequest, error: &ws::HandshakeError) -> HttpResponse {
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let status = if upgrades { error.error_response().status() } else { StatusCode::UPGRADE_REQUIRED };
    let mut response = HttpResponse::build(status);
    // What would have been right (RFC 9110 15.5.22, RFC 6455 4.2.2).
    response.insert_header((header::UPGRADE, "websocket")).insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
    response.content_type("text/plain; charset=utf-8").body("This is a WebSocket endpoint: connect with a Pusher client")
}

/// The answer to an address that knocks too often. It costs no upgrade, and clients take it for a server that is not there: they wait.
fn too_many() -> HttpResponse {
    let mut response = HttpResponse::TooManyRequests();
    response.insert_header((header::RETRY_AFTER, "1")).insert_header((header::CONNECTION, "close"));
    response.content_type("text/plain; charset=utf-8").body("Too many connections from this address: try again later")
}

/// The answer to a method that opens no WebSocket.
pub(super) async fn method_not_allowed() -> HttpResponse {
    let mut response = HttpResponse::MethodNotAllowed();
    response.insert_header((header::ALLOW, "GET"));
    response.content_type("text/plain; charset=utf-8").body("This is a WebSocket endpoint: connect with GET and a Pusher client")
}

/// A peer that has not become a connection yet. If it never does, the handler hears of it once, however that comes about.
struct Knock<'a, H: Handler> {
    transport: &'a Transport<H>,
    peer: Option<NeverOpened>,
    conn: Option<Conn>,
    why: HandshakeRefusal,
}

impl<'a, H: Handler> Knock<'a, H> {
    fn new(request: &HttpRequest, asked: &Request, transport: &'a Transport<H>) -> Self {
        let peer = NeverOpened {
            stage: Stage::Request,
            app_id: transport.broker.app_by_key(&asked.key).map(|hub| Arc::clone(hub.id())),
            remote_ip: asked.peer.address.ip(),
            path: request.path().to_owned(),
            cause: "the peer left".to_owned(),
        };
        Self { transport, peer: Some(peer), conn: None, why: HandshakeRefusal::Gone }
    }

    /// It has got its place; now the handler decides.
    fn has_conn(&mut self, conn: &Conn) {
        self.conn = Some(conn.clone());
        if let Some(peer) = &mut self.peer {
            peer.stage = Stage::Handshake;
        }
    }

    fn opened(&mut self) {
        self.peer = None;
    }

    fn turned_away(&mut self, stage: Stage, why: HandshakeRefusal, cause: &str) {
        if let Some(mut peer) = self.peer.take() {
            peer.stage = stage;
            self.why = why;
            cause.clone_into(&mut peer.cause);
            self.tell(&peer);
        }
    }

    fn tell(&self, peer: &NeverOpened) {
        // A handler may have kept it: nobody will ever read what is sent there.
        if let Some(conn) = &self.conn {
            conn.outbox().abandon();
            conn.set_state(ConnState::Closing);
        }
        self.transport.broker.count_refusal(peer.app_id.as_deref(), self.why);
        let hooks = self.transport.handover.hooks();
        if hooks.guarded_now(Hook::OnDisconnect, || self.transport.handler.on_disconnect(peer)).is_err() {
            tracing::error!("on_disconnect panicked");
        }
    }
}

impl<H: Handler> Drop for Knock<'_, H> {
    fn drop(&mut self) {
        if let Some(peer) = self.peer.take() {
            self.tell(&peer);
        }
    }
}
