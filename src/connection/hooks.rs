//! What a connection asks its handler, and what becomes of the answers.

use std::{sync::Arc, time::Instant};

use actix::prelude::*;

use super::{
    actor::Connection,
    holds::{Refused, Settled},
    machine::limit_reached,
    receipts::Receipted,
};
use crate::{
    domain::{ClientEvent, ClientEventRefusal, CloseCause, ConnectionError, Handler, Hold, Hook, Join, Joined, Subscribe},
    lifecycle::{LettingGo, Which},
    protocol::{ChannelName, CloseCode, ServerFrame, SignedUser, SubscriptionError},
};

impl<H: Handler> Connection<H> {
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
