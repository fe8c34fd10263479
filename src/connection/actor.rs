//! The actor behind each connection: carries out what the machine decides. What it asks the handler is in `hooks.rs`.
//!
//! It is born with the socket on the worker that accepted it, and dies with it. Client frames reach it one at a time; while a
//! hook runs it takes no other. Broadcasts never pass through it: they go to the outbox.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use tracing::Span;

use super::{
    holds::Settled,
    inbound::Message,
    link::Link,
    machine::{Action, Machine},
    settings::ConnectionSettings,
};
use crate::{
    cluster::{Admission, Broker},
    domain::{CloseCause, Closing, Conn, End, Handler, Hook, Hub, Meter},
    lifecycle::{CloseJob, Handover},
    protocol::{ChannelName, CloseCode, WireFrame},
};

/// How long a peer may take to answer a close of ours before its socket goes.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// One open connection.
pub(super) struct Connection<H: Handler> {
    pub(super) conn: Conn,
    pub(super) hub: Arc<Hub>,
    meter: Meter,
    pub(super) broker: Broker,
    pub(super) machine: Machine,
    /// The version of the application that the machine goes by.
    version: u64,
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) handler: Arc<H>,
    pub(super) handover: Handover<H::Conn>,
    pub(super) link: Rc<Link>,
    /// Taken while a hook has it, and for good when the connection has ended.
    pub(super) context: Option<H::Conn>,
    /// What the log lines of its hooks stand in.
    pub(super) span: Span,
    /// Set when it has left its channels.
    departure: Option<Departure>,
    /// Whether the store may have anything of it, or somebody waits there in its name.
    pub(super) pledged: Rc<Cell<bool>>,
    /// The connection's place in the node; given back when its close is handed over.
    admission: Option<Admission>,
}

/// How a connection ended, and where it was.
#[derive(Clone)]
pub(super) struct Departure {
    end: End,
    channels: Vec<ChannelName>,
    at: Instant,
}

/// What a connection is made of.
pub(super) struct Birth<H: Handler> {
    pub(super) conn: Conn,
    pub(super) hub: Arc<Hub>,
    pub(super) broker: Broker,
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) handler: Arc<H>,
    pub(super) handover: Handover<H::Conn>,
    pub(super) link: Rc<Link>,
    pub(super) context: H::Conn,
    pub(super) admission: Admission,
}

impl<H: Handler> Connection<H> {
    pub(super) fn new(birth: Birth<H>) -> Self {
        // In this order: what changes in between is noticed later.
        let version = birth.hub.version();
        let (app, socket_id) = (birth.hub.app(), birth.conn.socket_id());
        Self {
            span: tracing::info_span!("connection", app.id = %app.id, socket.id = %socket_id),
            machine: Machine::new(app, Arc::clone(&birth.settings), socket_id, Instant::now()),
            version,
            meter: birth.hub.stats().meter(birth.conn.worker()),
            conn: birth.conn,
            hub: birth.hub,
            broker: birth.broker,
            settings: birth.settings,
            handler: birth.handler,
            handover: birth.handover,
            link: birth.link,
            context: Some(birth.context),
            departure: None,
            pledged: Rc::default(),
            admission: Some(birth.admission),
        }
    }

    pub(super) fn send(&self, frame: WireFrame) {
        self.conn.push(frame);
    }

    /// Goes by the application as it is now. Asked per frame: a load, as long as nothing has changed.
    fn follow(&mut self, now: Instant) {
        let version = self.hub.version();
        if version != self.version {
            self.version = version;
            self.machine.set_app(self.hub.app(), now);
        }
    }

    fn perform(&mut self, action: Action, ctx: &mut Context<Self>) {
        match action {
            Action::Send(frame) => self.send(frame),
            Action::Refuse { error, channel } => self.refuse(&error, channel.as_deref()),
            Action::RefuseEvent { why, error, channel } => self.refuse_event(why, &error, &channel),
            Action::RefuseSubscription { channel, error } => self.refuse_subscription(&channel, &error),
            Action::Subscribe(subscribe) => self.subscribe(subscribe, ctx),
            Action::Reacknowledge(subscribe) => self.join(&subscribe, &Settled::default()),
            Action::Unsubscribe(channel) => self.unsubscribe(channel, ctx),
            Action::SignIn { user, user_data, cut } => self.sign_in(user, user_data, cut, ctx),
            Action::Relay(event) => self.relay(event, None, ctx),
            Action::RelayOnce(event) => self.once(event, ctx),
            Action::Fail { idle, code, message } => {
                self.conn.fail(if idle { CloseCause::Idle } else { CloseCause::Refused }, code, message);
            }
        }
    }

    /// One timer per connection, re-armed only when it fires: no timer work per frame.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.follow(now);
        let (action, next) = self.machine.on_tick(now);
        if let Some(action) = action {
            self.perform(action, ctx);
        }
        if self.conn.outbox().is_open() {
            // Timers are counted in milliseconds: never twice for one moment.
            let wait = next.saturating_duration_since(now).max(Duration::from_millis(1));
            ctx.run_later(wait, Self::tick);
        }
    }

    /// The first half of the end, once: out of the channels, where nobody shall see it any more.
    pub(super) fn leave(&mut self, end: End) -> &Departure {
        let Self { conn, hub, machine, departure, .. } = self;
        departure.get_or_insert_with(|| {
            conn.outbox().end(end.clone(), []);
            let at = Instant::now();
            let channels = hub.closed(conn, machine.user(), end.cause, at);
            Departure { end, channels, at }
        })
    }

    /// The end, once: leaves, then hands the context to whoever runs `on_close`.
    fn depart(&mut self, end: End) {
        let Some(context) = self.context.take() else { return };
        let Departure { end, channels, at } = self.leave(end).clone();
        let closing = Closing {
            cause: end.cause,
            code: end.code,
            socket_id: self.conn.socket_id(),
            app_id: Arc::clone(self.hub.id()),
            remote_ip: self.conn.remote_ip(),
            channels,
            connected_for: self.conn.connected_for(at),
            bytes_in: self.conn.bytes_in(),
            bytes_out: self.conn.bytes_out(),
        };
        log_close(&closing);
        let job = CloseJob { conn: context, closing, detected_at: at };
        if self.pledged.get() || self.handler.hears_close() {
            self.handover.close(job);
        } else {
            self.handover.close_unheard(job);
        }
        // Not before: a stop waits for the places first and for the closes then, and nothing may fall between.
        self.admission = None;
    }

    /// The end of the closing handshake: both sides have said goodbye, or one of them has had its time.
    fn hang_up(&mut self, ctx: &mut Context<Self>) {
        self.conn.outbox().finish();
        self.link.hurry();
        ctx.stop();
    }
}

fn log_close(closing: &Closing) {
    let Closing { socket_id, app_id, cause, connected_for, bytes_in, bytes_out, .. } = closing;
    let code = closing.code.map(CloseCode::as_u16);
    let connected_for_ms = connected_for.as_millis() as u64;
    if *cause == CloseCause::SlowConsumer {
        tracing::warn!(app.id = %app_id, socket.id = %socket_id, bytes_out, "Closed slow consumer {socket_id}: it did not read what it was owed");
    }
    tracing::debug!(
        app.id = %app_id, socket.id = %socket_id, %cause, code, connected_for_ms, bytes_in, bytes_out,
        "Connection {socket_id} closed: {cause}"
    );
}

impl<H: Handler> Actor for Connection<H> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let conn = self.conn.clone();
        let ended = poll_fn(move |cx| conn.outbox().poll_end(cx));
        ctx.spawn(ended.into_actor(self).map(|end, this, ctx| {
            let ours = !matches!(end.cause, CloseCause::ClientClosed | CloseCause::Gone);
            this.depart(end);
            if ours {
                ctx.run_later(CLOSE_TIMEOUT, Self::hang_up);
            } else {
                this.hang_up(ctx);
            }
        }));
        self.open(ctx);
        self.tick(ctx);
    }
}

impl<H: Handler> StreamHandler<Message> for Connection<H> {
    fn handle(&mut self, message: Message, ctx: &mut Self::Context) {
        // After the end nothing more is heard but the answer to our close.
        if !self.conn.outbox().is_open() {
            if let Message::Close(_) = message {
                self.hang_up(ctx);
            }
            return;
        }
        let now = Instant::now();
        self.follow(now);
        match message {
            Message::Text(text) => {
                self.conn.count_received(text.len());
                self.meter.received(text.len());
                if let Some(action) = self.machine.on_text(&text, now) {
                    self.perform(action, ctx);
                }
            }
            Message::Fragment => self.machine.on_fragment(now),
            Message::Ping(payload) => {
                let pong = self.machine.on_ping(&payload, now);
                self.perform(pong, ctx);
            }
            Message::Pong => {
                if let Some(round_trip) = self.machine.on_pong(now) {
                    self.notify(Hook::OnPong, |handler, context| handler.on_pong(context, round_trip));
                }
            }
            Message::Close(code) => {
                let code = code.and_then(CloseCode::new);
                let answer = code.map_or_else(WireFrame::close_without_code, |code| WireFrame::close(code, ""));
                self.conn.outbox().end(End { cause: CloseCause::ClientClosed, code }, [answer]);
            }
        }
    }

    /// The stream ends where the client broke the rules, or where the client is gone.
    fn finished(&mut self, ctx: &mut Self::Context) {
        match self.link.violation() {
            Some(violation) => self.protocol_error(violation.code, violation.reason),
            None => {
                let outbox = self.conn.outbox();
                if outbox.is_open() {
                    outbox.abandon();
                    self.link.close();
                } else {
                    // Nothing more will come, but whoever has said goodbye before that may still read ours.
                    outbox.finish();
                    self.link.hurry();
                }
                if self.departure.is_some() {
                    ctx.stop();
                }
            }
        }
    }
}

impl<H: Handler> Connection<H> {
    fn protocol_error(&self, code: CloseCode, reason: &str) {
        self.conn.outbox().end(End { cause: CloseCause::ProtocolError, code: Some(code) }, [WireFrame::close(code, reason)]);
    }
}

/// Nothing of it is ever pinned in place, a handler's context included.
impl<H: Handler> Unpin for Connection<H> {}

/// Whatever takes the actor away, a runtime that stops included: the connection has ended.
impl<H: Handler> Drop for Connection<H> {
    fn drop(&mut self) {
        self.depart(End { cause: CloseCause::Gone, code: None });
        self.conn.outbox().finish();
        self.link.hurry();
    }
}
