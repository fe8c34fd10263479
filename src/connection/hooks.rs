//! What a connection asks its handler, and what becomes of the answers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll, Waker},
    time::Instant,
};

use actix::prelude::*;
use tracing::{Instrument, Span};

use super::{
    actor::Connection,
    holds::{Refused, Settled},
    machine::limit_reached,
    receipts::Receipted,
};
use crate::{
    domain::{ClientEvent, ClientEventRefusal, CloseCause, ConnectionError, Handler, Hold, Hook, Join, Joined, Subscribe},
    lifecycle::{HookFailure, LettingGo, Which},
    protocol::{ChannelName, CloseCode, ServerFrame, SignedUser, SubscriptionError},
};

/// Which hook is called, and what its log lines stand in.
pub(super) struct Watch {
    pub(super) hook: Hook,
    pub(super) span: Span,
}

impl<H: Handler> Connection<H> {
    /// Runs one hook with the connection's context. No other frame is taken until it is done, and the context comes back even
    /// from a hook that panics or hangs; such a hook ends the connection.
    fn call<T: Send + 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        watch: Watch,
        hook: impl for<'a> AsyncFnOnce(&'a mut H::Conn) -> T + 'static,
        then: impl FnOnce(&mut Self, T) + 'static,
    ) {
        // Without a context the connection has ended: nobody is to be asked any more.
        let Some(mut context) = self.context.take() else { return };
        let (limit, Watch { hook: name, span }, handover) = (self.settings.hook_timeout, watch, self.handover.clone());
        let call = async move {
            let answer = handover.hooks().guarded(name, limit, hook(&mut context)).instrument(span).await;
            (context, answer)
        };
        self.wait_for(ctx, call, then);
    }

    /// Waits for a hook at work, and takes the context back.
    pub(super) fn wait_for<T: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        call: impl Future<Output = (H::Conn, Result<T, HookFailure>)> + 'static,
        then: impl FnOnce(&mut Self, T) + 'static,
    ) {
        let mut call = Box::pin(call);
        let then = move |this: &mut Self, (context, answer)| {
            this.context = Some(context);
            match answer {
                _ if !this.conn.outbox().is_open() => {}
                Ok(answer) => then(this, answer),
                Err(failure) => this.handler_failed(failure),
            }
        };
        // As a rule the answer is there at the first look. Otherwise it is looked at again, by the actor that waits for it.
        match call.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => then(self, done),
            Poll::Pending => ctx.wait(Call { hook: call, ended: false, busy: false }.map(move |done, this: &mut Self, _| then(this, done))),
        }
    }

    /// Waits for something that another connection is at; no other frame is taken meanwhile.
    pub(super) fn wait_in_order(
        &mut self,
        end: impl Future<Output = ()> + 'static,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        let then = |this: &mut Self, ctx: &mut Context<Self>| {
            if this.conn.outbox().is_open() {
                then(this, ctx);
            }
        };
        ctx.wait(Call { hook: Box::pin(end), ended: false, busy: false }.map(move |(), this: &mut Self, ctx| then(this, ctx)));
    }

    /// Runs one of the hooks that only listen. They cannot wait; a panic in one is a failure like any other.
    pub(super) fn notify(&mut self, name: Hook, hook: impl FnOnce(&H, &mut H::Conn)) {
        let Some(context) = &mut self.context else { return };
        let (handler, span) = (&*self.handler, &self.span);
        if let Err(failure) = self.handover.hooks().guarded_now(name, || span.in_scope(|| hook(handler, context))) {
            self.handler_failed(failure);
        }
    }

    /// What watches over one hook, inside the span of its connection.
    fn watch(&self, hook: Hook, channel: Option<&ChannelName>) -> Watch {
        let channel = channel.map(ChannelName::as_str);
        let span = tracing::info_span!(parent: &self.span, "hook", hook.name = hook.as_str(), channel.name = channel);
        Watch { hook, span }
    }

    fn handler_failed(&self, failure: HookFailure) {
        let (socket_id, app) = (self.conn.socket_id(), self.hub.app());
        tracing::error!(app.id = %app.id, socket.id = %socket_id, error = %failure, "Closing connection {socket_id}: {failure}");
        self.conn.fail(CloseCause::HandlerFailed, CloseCode::OVER_CAPACITY, "The server could not handle the request");
    }

    pub(super) fn refuse(&mut self, error: &ConnectionError, channel: Option<&str>) {
        self.send(ServerFrame::Error { code: error.code, message: &error.message, channel }.encode());
        self.notify(Hook::OnError, |handler, context| handler.on_error(context, error));
    }

    pub(super) fn refuse_event(&mut self, why: ClientEventRefusal, error: &ConnectionError, channel: &str) {
        self.hub.stats().event_refused(why);
        self.refuse(error, Some(channel));
    }

    pub(super) fn refuse_subscription(&mut self, channel: &str, error: &SubscriptionError) {
        tracing::trace!(socket.id = %self.conn.socket_id(), "Refusing a subscription: {}", error.error);
        self.send(ServerFrame::SubscriptionError { channel, error }.encode());
        let code = CloseCode::new(error.status).unwrap_or(CloseCode::GENERIC);
        self.notify(Hook::OnError, |handler, context| handler.on_error(context, &ConnectionError { code, message: error.error.clone() }));
    }

    pub(super) fn subscribe(&mut self, subscribe: Subscribe, ctx: &mut Context<Self>) {
        let (handler, watch) = (Arc::clone(&self.handler), self.watch(Hook::OnSubscribe, Some(&subscribe.channel)));
        self.ask(
            ctx,
            watch,
            Some(subscribe.channel.clone()),
            async move |context| {
                let answer = handler.on_subscribe(context, &subscribe).await;
                (subscribe, answer)
            },
            |this, subscribe, answer| match answer {
                Ok(settled) => this.join(&subscribe, &settled),
                Err(Refused { reject, conflict }) => {
                    this.refuse_subscription(subscribe.channel.as_str(), &reject.as_subscription_error());
                    this.wait_for_lock(Some(subscribe.channel), conflict);
                }
            },
        );
    }

    pub(super) fn join(&mut self, subscribe: &Subscribe, settled: &Settled) {
        let greeting = settled.frames(Some(&subscribe.channel));
        let join = Join { conn: &self.conn, member: subscribe.member.as_ref(), greeting: &greeting, now: Instant::now() };
        match self.hub.join(&subscribe.channel, &join) {
            Ok(Joined::New) => {
                self.machine.joined(subscribe);
                self.told(settled);
            }
            // Acknowledged, and nothing else: the member stays who it was (protocol.md 2.6).
            Ok(Joined::Again) => {}
            Err(full) => {
                self.give_back(settled, Some(subscribe.channel.clone()));
                let error = limit_reached(CloseCode::OVER_CAPACITY, full.to_string());
                self.refuse_subscription(subscribe.channel.as_str(), &error);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, channel: ChannelName, ctx: &mut Context<Self>) {
        self.hub.leave(&channel, &self.conn, Instant::now());
        let (handler, watch) = (Arc::clone(&self.handler), self.watch(Hook::OnUnsubscribe, Some(&channel)));
        let (handover, place, detected_at) = (self.handover.clone(), self.place(Some(channel.clone())), Instant::now());
        self.call(
            ctx,
            watch,
            async move |context| {
                let outcome = handler.on_unsubscribe(context, &channel).await;
                // Here, and not when the answer is looked at: a connection that has ended meanwhile left the channel all the same.
                let events = outcome.events().to_vec();
                handover.let_go(LettingGo { place, what: Which::OfChannel, events, cause: CloseCause::Unsubscribed, detected_at });
                outcome
            },
            |this, outcome| this.tell_settled(&Settled::without_holds(outcome), None),
        );
    }

    pub(super) fn sign_in(&mut self, user: SignedUser, user_data: String, cut: bool, ctx: &mut Context<Self>) {
        let (handler, watch) = (Arc::clone(&self.handler), self.watch(Hook::OnSignin, None));
        let comes_online = self.hub.app().user_events && self.machine.user().is_none();
        self.ask(
            ctx,
            watch,
            None,
            async move |context| {
                let answer = handler.on_signin(context, &user).await;
                let answer = answer.map(|outcome| if comes_online { outcome.hold(Hold::online(&user)) } else { outcome });
                (user, answer)
            },
            move |this, user, answer| match answer {
                Ok(settled) => {
                    this.hub.sign_in(&this.conn, &user, &user_data, this.machine.user());
                    this.machine.signed_in(user);
                    if cut {
                        let error = ConnectionError { code: CloseCode::WATCHLIST_LIMIT, message: "Watchlist limit exceeded".into() };
                        this.refuse(&error, None);
                    }
                    this.tell_settled(&settled, None);
                }
                Err(Refused { reject, conflict }) => {
                    let error = ConnectionError { code: CloseCode::UNAUTHORIZED, message: reject.message().to_owned() };
                    this.refuse(&error, None);
                    this.wait_for_lock(None, conflict);
                }
            },
        );
    }

    pub(super) fn open(&mut self, ctx: &mut Context<Self>) {
        let (handler, watch) = (Arc::clone(&self.handler), self.watch(Hook::OnOpen, None));
        self.ask(
            ctx,
            watch,
            None,
            async move |context| ((), handler.on_open(context).await),
            |this, (), answer| match answer {
                Ok(settled) => this.tell_settled(&settled, None),
                Err(Refused { reject, .. }) => {
                    this.conn.fail(CloseCause::Refused, reject.close_code(), reject.message());
                }
            },
        );
    }

    /// Relays an event. `receipted`: whoever sent it is told what became of it.
    pub(super) fn relay(&mut self, event: ClientEvent, receipted: Option<Receipted>, ctx: &mut Context<Self>) {
        if self.broker.is_short_of_memory() {
            self.hub.stats().event_refused(ClientEventRefusal::OverCapacity);
            let message = "The server is over capacity: the event was not sent.".to_owned();
            let error = ConnectionError { code: CloseCode::CLIENT_EVENT_REFUSED, message };
            self.refuse(&error, Some(event.channel.as_str()));
            return self.tell_refused(receipted, &event.channel, &error);
        }
        let (handler, watch) = (Arc::clone(&self.handler), self.watch(Hook::OnMessage, Some(&event.channel)));
        self.ask(
            ctx,
            watch,
            None,
            async move |context| {
                let answer = handler.on_message(context, &event).await;
                (event, answer)
            },
            move |this, event, answer| match answer {
                Ok(settled) => {
                    this.broker.relay(&this.hub, this.conn.socket_id(), &event);
                    this.tell_delivered(receipted, &event.channel);
                    this.tell_settled(&settled, Some(&event.channel));
                }
                Err(Refused { reject, conflict }) => {
                    this.hub.stats().event_refused(ClientEventRefusal::Handler);
                    let error = ConnectionError { code: CloseCode::CLIENT_EVENT_REFUSED, message: reject.message().to_owned() };
                    this.refuse(&error, Some(event.channel.as_str()));
                    this.tell_refused(receipted, &event.channel, &error);
                    this.wait_for_lock(None, conflict);
                }
            },
        );
    }
}

/// A hook at work. A connection that ends meanwhile leaves its channels at once: nobody shall see it there until the hook is
/// done. Its context comes back with the hook.
struct Call<F> {
    hook: Pin<Box<F>>,
    ended: bool,
    /// It was not done at once.
    busy: bool,
}

impl<H: Handler, F: Future> ActorFuture<Connection<H>> for Call<F> {
    type Output = F::Output;

    fn poll(
        mut self: Pin<&mut Self>,
        this: &mut Connection<H>,
        _: &mut Context<Connection<H>>,
        task: &mut task::Context<'_>,
    ) -> Poll<F::Output> {
        if !self.ended
            && let Poll::Ready(end) = this.conn.outbox().poll_end(task)
        {
            self.ended = true;
            this.leave(end);
        }
        let answer = self.hook.as_mut().poll(task);
        if self.busy != answer.is_pending() {
            self.busy = answer.is_pending();
            this.link.set_busy(self.busy);
        }
        answer
    }
}
