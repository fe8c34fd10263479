//! How a hook is called: with the connection's context, inside its span, one at a time.

use std::{
    pin::Pin,
    task::{self, Poll, Waker},
};

use actix::prelude::*;
use tracing::{Instrument, Span};

use super::actor::Connection;
use crate::{
    domain::{CloseCause, Handler, Hook},
    lifecycle::HookFailure,
    protocol::{ChannelName, CloseCode},
};

/// Which hook is called, and what its log lines stand in.
pub(super) struct Watch {
    pub(super) hook: Hook,
    pub(super) span: Span,
}

impl<H: Handler> Connection<H> {
    /// Runs one hook with the connection's context. No other frame is taken until it is done, and the context comes back even
    /// from a hook that panics or hangs; such a hook ends the connection.
    pub(super) fn call<T: Send + 'static>(
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
    pub(super) fn watch(&self, hook: Hook, channel: Option<&ChannelName>) -> Watch {
        let channel = channel.map(ChannelName::as_str);
        let span = tracing::info_span!(parent: &self.span, "hook", hook.name = hook.as_str(), channel.name = channel);
        Watch { hook, span }
    }

    fn handler_failed(&self, failure: HookFailure) {
        let (socket_id, app) = (self.conn.socket_id(), self.hub.app());
        tracing::error!(app.id = %app.id, socket.id = %socket_id, error = %failure, "Closing connection {socket_id}: {failure}");
        self.conn.fail(CloseCause::HandlerFailed, CloseCode::OVER_CAPACITY, "The server could not handle the request");
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
