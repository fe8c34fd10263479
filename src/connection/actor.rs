//! The actor behind each connection: carries out what the machine decides, and calls the handler.
//!
//! It is born with the socket on the worker that accepted it, and dies with it. Client frames reach it one at a time; while a
//! hook runs it takes no other. Broadcasts never pass through it: they go to the outbox.

use std::{
    future::poll_fn,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_ws::{AggregatedMessage, ProtocolError};

use super::{
    guard::Verdict,
    machine::{Action, Actions, Machine, limit_reached},
    settings::ConnectionSettings,
};
use crate::{
    cluster::{Admission, Broker},
    domain::{CloseCause, Closing, Conn, ConnectionError, End, Handler, Hub, Join, Outcome, Reject, Subscribe},
    lifecycle::{CloseJob, Closer, HookFailure, guarded},
    protocol::{ChannelName, CloseCode, ServerFrame, SignedUser, SubscriptionError, WireFrame},
};

/// One open connection.
pub(super) struct Connection<H: Handler> {
    conn: Conn,
    hub: Arc<Hub>,
    broker: Broker,
    machine: Machine,
    settings: Arc<ConnectionSettings>,
    handler: Arc<H>,
    closer: Closer<H::Conn>,
    verdict: Verdict,
    /// Taken while a hook has it, and for good when the connection has ended.
    context: Option<H::Conn>,
    /// The first reason to end, once there is one.
    end: Option<End>,
    /// The connection's place; given back when it has ended.
    _admission: Admission,
}

/// What a connection is made of.
pub(super) struct Birth<H: Handler> {
    pub(super) conn: Conn,
    pub(super) hub: Arc<Hub>,
    pub(super) broker: Broker,
    pub(super) settings: Arc<ConnectionSettings>,
    pub(super) handler: Arc<H>,
    pub(super) closer: Closer<H::Conn>,
    pub(super) verdict: Verdict,
    pub(super) context: H::Conn,
    pub(super) admission: Admission,
}

impl<H: Handler> Connection<H> {
    pub(super) fn new(birth: Birth<H>) -> Self {
        let (app, socket_id) = (Arc::clone(birth.hub.app()), birth.conn.socket_id());
        Self {
            machine: Machine::new(app, Arc::clone(&birth.settings), socket_id, Instant::now()),
            conn: birth.conn,
            hub: birth.hub,
            broker: birth.broker,
            settings: birth.settings,
            handler: birth.handler,
            closer: birth.closer,
            verdict: birth.verdict,
            context: Some(birth.context),
            end: None,
            _admission: birth.admission,
        }
    }

    fn send(&self, frame: WireFrame) {
        self.conn.push(frame);
    }

    fn push_outcome(&self, outcome: &Outcome, channel: Option<&ChannelName>) {
        for frame in outcome_frames(outcome, channel) {
            self.send(frame);
        }
    }

    fn perform_all(&mut self, actions: Actions, ctx: &mut Context<Self>) {
        for action in actions {
            self.perform(action, ctx);
        }
    }

    fn perform(&mut self, action: Action, ctx: &mut Context<Self>) {
        match action {
            Action::Send(frame) => self.send(frame),
            Action::Refuse { error, channel } => self.refuse(&error, channel.as_deref()),
            Action::RefuseSubscription { channel, error } => self.refuse_subscription(&channel, &error),
            Action::Subscribe(subscribe) => self.subscribe(subscribe, ctx),
            Action::Reacknowledge(subscribe) => self.join(&subscribe, &Outcome::accept()),
            Action::Unsubscribe(channel) => self.unsubscribe(channel, ctx),
            Action::SignIn { user, user_data, cut } => self.sign_in(user, user_data, cut, ctx),
            Action::Relay(event) => {
                let handler = Arc::clone(&self.handler);
                self.call(
                    ctx,
                    async move |context| {
                        let answer = handler.on_message(context, &event).await;
                        (event, answer)
                    },
                    |this, (event, answer)| match answer {
                        Ok(outcome) => {
                            this.broker.relay(&this.hub, this.conn.socket_id(), &event);
                            this.push_outcome(&outcome, Some(&event.channel));
                        }
                        Err(reject) => {
                            let error = ConnectionError { code: CloseCode::CLIENT_EVENT_REFUSED, message: reject.message().to_owned() };
                            this.refuse(&error, Some(event.channel.as_str()));
                        }
                    },
                );
            }
            Action::Fail { idle, code, message } => {
                self.conn.fail(if idle { CloseCause::Idle } else { CloseCause::Refused }, code, message);
            }
        }
    }

    /// Runs one hook with the connection's context. No other frame is taken until it is done, and the context comes back even
    /// from a hook that panics or hangs; such a hook ends the connection.
    fn call<T: Send + 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        hook: impl for<'a> AsyncFnOnce(&'a mut H::Conn) -> T + 'static,
        then: impl FnOnce(&mut Self, T) + 'static,
    ) {
        // Without a context the connection has ended: nobody is to be asked any more.
        let Some(mut context) = self.context.take() else { return };
        let limit = self.settings.hook_timeout;
        let call = async move {
            let answer = guarded(limit, hook(&mut context)).await;
            (context, answer)
        };
        ctx.wait(call.into_actor(self).map(move |(context, answer), this, _| {
            this.context = Some(context);
            match answer {
                _ if !this.conn.outbox().is_open() => {}
                Ok(answer) => then(this, answer),
                Err(failure) => this.handler_failed(failure),
            }
        }));
    }

    fn handler_failed(&self, failure: HookFailure) {
        let (socket_id, app) = (self.conn.socket_id(), self.hub.app());
        tracing::error!(app.id = %app.id, socket.id = %socket_id, error = %failure, "Closing connection {socket_id}: {failure}");
        self.conn.fail(CloseCause::HandlerFailed, CloseCode::OVER_CAPACITY, "The server could not handle the request");
    }

    fn refuse(&mut self, error: &ConnectionError, channel: Option<&str>) {
        self.send(ServerFrame::Error { code: error.code, message: &error.message, channel }.encode());
        if let Some(context) = &mut self.context {
            self.handler.on_error(context, error);
        }
    }

    fn refuse_subscription(&mut self, channel: &str, error: &SubscriptionError) {
        tracing::trace!(socket.id = %self.conn.socket_id(), "Refusing a subscription: {}", error.error);
        self.send(ServerFrame::SubscriptionError { channel, error }.encode());
        if let Some(context) = &mut self.context {
            let code = CloseCode::new(error.status).unwrap_or(CloseCode::GENERIC);
            self.handler.on_error(context, &ConnectionError { code, message: error.error.clone() });
        }
    }

    fn subscribe(&mut self, subscribe: Subscribe, ctx: &mut Context<Self>) {
        let handler = Arc::clone(&self.handler);
        self.call(
            ctx,
            async move |context| {
                let answer = handler.on_subscribe(context, &subscribe).await;
                (subscribe, answer)
            },
            |this, (subscribe, answer)| match answer {
                Ok(outcome) => this.join(&subscribe, &outcome),
                Err(reject) => this.refuse_subscription(subscribe.channel.as_str(), &reject.as_subscription_error()),
            },
        );
    }

    fn join(&mut self, subscribe: &Subscribe, outcome: &Outcome) {
        let greeting = outcome_frames(outcome, Some(&subscribe.channel)).collect::<Vec<_>>();
        let join = Join { conn: &self.conn, member: subscribe.member.as_ref(), greeting: &greeting, now: Instant::now() };
        if let Err(full) = self.hub.join(&subscribe.channel, &join) {
            let error = limit_reached(CloseCode::OVER_CAPACITY, full.to_string());
            return self.refuse_subscription(subscribe.channel.as_str(), &error);
        }
        self.machine.joined(subscribe);
    }

    fn unsubscribe(&mut self, channel: ChannelName, ctx: &mut Context<Self>) {
        self.hub.leave(&channel, &self.conn, Instant::now());
        let handler = Arc::clone(&self.handler);
        self.call(
            ctx,
            async move |context| handler.on_unsubscribe(context, &channel).await,
            |this, outcome| {
                this.push_outcome(&outcome, None);
            },
        );
    }

    fn sign_in(&mut self, user: SignedUser, user_data: String, cut: bool, ctx: &mut Context<Self>) {
        let handler = Arc::clone(&self.handler);
        self.call(
            ctx,
            async move |context| {
                let answer = handler.on_signin(context, &user).await;
                (user, answer)
            },
            move |this, (user, answer)| match answer {
                Ok(outcome) => {
                    this.hub.sign_in(&this.conn, &user, &user_data, this.machine.user());
                    this.machine.signed_in(user);
                    if cut {
                        let error = ConnectionError { code: CloseCode::WATCHLIST_LIMIT, message: "Watchlist limit exceeded".into() };
                        this.refuse(&error, None);
                    }
                    this.push_outcome(&outcome, None);
                }
                Err(reject) => {
                    let error = ConnectionError { code: CloseCode::UNAUTHORIZED, message: reject.message().to_owned() };
                    this.refuse(&error, None);
                }
            },
        );
    }

    /// One timer per connection, re-armed only when it fires: no timer work per frame.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
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

    /// The end, once: leaves the channels, then hands the context to whoever runs `on_close`.
    fn depart(&mut self) {
        let Some(context) = self.context.take() else { return };
        let end = self.end.take().unwrap_or(End { cause: CloseCause::Gone, code: None });
        self.conn.outbox().end(end.clone(), []);
        let now = Instant::now();
        let channels = self.hub.closed(&self.conn, self.machine.user(), end.cause, now);
        let closing = Closing {
            cause: end.cause,
            code: end.code,
            socket_id: self.conn.socket_id(),
            app_id: Arc::clone(&self.hub.app().id),
            remote_ip: self.conn.remote_ip(),
            channels,
            connected_for: self.conn.connected_for(now),
            bytes_in: self.conn.bytes_in(),
            bytes_out: self.conn.bytes_out(),
        };
        log_close(&closing);
        self.closer.submit(CloseJob { conn: context, closing });
    }
}

/// The frames of an outcome's pushes.
fn outcome_frames<'a>(outcome: &'a Outcome, channel: Option<&'a ChannelName>) -> impl Iterator<Item = WireFrame> + 'a {
    let channel = channel.map(ChannelName::as_str);
    outcome.pushes().iter().map(move |push| ServerFrame::Event { event: &push.event, channel, data: &push.data, user_id: None }.encode())
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
        let socket_id = self.conn.socket_id();
        self.hub.opened(&self.conn);
        tracing::debug!(app.id = %self.hub.app().id, socket.id = %socket_id, "Connection {socket_id} opened");
        let activity_timeout = self.settings.activity_timeout.as_secs().max(1);
        self.send(ServerFrame::ConnectionEstablished { socket_id, activity_timeout }.encode());
        let conn = self.conn.clone();
        let ended = poll_fn(move |cx| conn.outbox().poll_end(cx));
        ctx.spawn(ended.into_actor(self).map(|end, this, ctx| {
            this.end = Some(end);
            this.depart();
            ctx.stop();
        }));
        let handler = Arc::clone(&self.handler);
        self.call(
            ctx,
            async move |context| handler.on_open(context).await,
            |this, answer: Result<Outcome, Reject>| match answer {
                Ok(outcome) => this.push_outcome(&outcome, None),
                Err(reject) => {
                    this.conn.fail(CloseCause::Refused, reject.close_code(), reject.message());
                }
            },
        );
        self.tick(ctx);
    }
}

impl<H: Handler> StreamHandler<Result<AggregatedMessage, ProtocolError>> for Connection<H> {
    fn handle(&mut self, message: Result<AggregatedMessage, ProtocolError>, ctx: &mut Self::Context) {
        // After the end nothing more is heard.
        if !self.conn.outbox().is_open() {
            return;
        }
        let now = Instant::now();
        match message {
            Ok(AggregatedMessage::Text(text)) => {
                self.conn.count_received(text.len());
                let actions = self.machine.on_text(&text, now);
                self.perform_all(actions, ctx);
            }
            Ok(AggregatedMessage::Ping(payload)) => {
                let pong = self.machine.on_ping(&payload, now);
                self.perform(pong, ctx);
            }
            Ok(AggregatedMessage::Pong(_)) => {
                if let (Some(round_trip), Some(context)) = (self.machine.on_pong(now), &mut self.context) {
                    self.handler.on_pong(context, round_trip);
                }
            }
            Ok(AggregatedMessage::Close(reason)) => {
                let code = reason.and_then(|reason| CloseCode::new(reason.code.into()));
                let answer = code.map_or_else(WireFrame::close_without_code, |code| WireFrame::close(code, ""));
                self.conn.outbox().end(End { cause: CloseCause::ClientClosed, code }, [answer]);
            }
            // The guard lets no binary message and no broken frame through: what is left is text that is not UTF-8.
            Ok(AggregatedMessage::Binary(_)) | Err(_) => self.protocol_error(CloseCode::INVALID_UTF8, "Text must be UTF-8"),
        }
    }

    /// The stream ends where the client broke the rules, or where the client is gone.
    fn finished(&mut self, _ctx: &mut Self::Context) {
        match self.verdict.get() {
            Some(violation) => self.protocol_error(violation.code, violation.reason),
            None => self.conn.outbox().abandon(),
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
        self.depart();
    }
}
