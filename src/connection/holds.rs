//! What a hook asked for is written down before the client hears of it: holds are committed, conflicts are answered.

use std::{rc::Rc, sync::Arc, time::Instant};

use actix::prelude::*;
use serde_json::json;
use tracing::Instrument;

use super::{actor::Connection, calls::Watch};
use crate::{
    domain::{CloseCause, Conflict, Handler, Hook, Outcome, Push, Reject},
    lifecycle::{Asking, Handover, HookFailure, LettingGo, NotTaken, Place, Taken, Which},
    protocol::{ChannelName, ServerFrame, WireFrame},
};

/// An outcome whose holds and events are committed.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) outcome: Outcome,
    taken: Vec<Taken>,
    /// The store did not answer, and the holds need not be had.
    degraded: bool,
}

/// An outcome of which nothing was done.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reject: Reject,
    /// Who stood in the way.
    pub(super) conflict: Option<Box<Conflict>>,
}

impl From<Reject> for Refused {
    fn from(reject: Reject) -> Self {
        Self { reject, conflict: None }
    }
}

impl<H: Handler> Connection<H> {
    /// Runs a hook that may refuse, then commits what it asks for. As with every hook, no other frame is taken meanwhile.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        watch: Watch,
        channel: Option<ChannelName>,
        hook: impl for<'a> AsyncFnOnce(&'a mut H::Conn) -> (T, Result<Outcome, Reject>) + 'static,
        then: impl FnOnce(&mut Self, T, Result<Settled, Refused>) + 'static,
    ) {
        let Some(mut context) = self.context.take() else { return };
        let (limit, Watch { hook: name, span }) = (self.settings.hook_timeout, watch);
        let (handler, handover, place, conn) = (Arc::clone(&self.handler), self.handover.clone(), self.place(channel), self.conn.clone());
        let pledged = Rc::clone(&self.pledged);
        let call = async move {
            let answer: Result<_, HookFailure> = async {
                match handover.hooks().guarded(name, limit, hook(&mut context)).await? {
                    (value, Err(reject)) => Ok((value, Err(reject.into()))),
                    (value, Ok(outcome)) if !outcome.is_durable() => Ok((value, Ok(Settled { outcome, ..Settled::default() }))),
                    // It ended while the hook was at work: nobody is there to hold anything.
                    (value, Ok(_)) if !conn.outbox().is_open() => Ok((value, Err(reject(&NotTaken::Ended).into()))),
                    (value, Ok(outcome)) => {
                        pledged.set(true);
                        match Box::pin(commit(&handover, place, outcome)).await {
                            Ok(settled) => Ok((value, Ok(settled))),
                            Err(NotTaken::Conflict(conflict)) => {
                                let answer = Box::pin(handler.on_conflict(&mut context, &conflict));
                                let reject = handover.hooks().guarded(Hook::OnConflict, limit, answer).await?;
                                Ok((value, Err(Refused { reject, conflict: Some(conflict) })))
                            }
                            Err(refusal) => Ok((value, Err(reject(&refusal).into()))),
                        }
                    }
                }
            }
            .instrument(span)
            .await;
            (context, answer)
        };
        self.wait_for(ctx, call, |this, (value, settled)| then(this, value, settled));
    }

    /// Where a hold of this connection belongs.
    pub(super) fn place(&self, channel: Option<ChannelName>) -> Place {
        Place { app_id: Arc::clone(self.hub.id()), socket_id: self.conn.socket_id(), channel }
    }

    /// Tells the client what it holds as a connection, then, on the channel, what else the hook wants it to know.
    pub(super) fn tell_settled(&self, settled: &Settled, channel: Option<&ChannelName>) {
        for frame in settled.locks(None).chain(settled.pushes(channel)) {
            self.send(frame);
        }
        self.told(settled);
    }

    /// Remembers whom to tell when what stood in the way is over.
    pub(super) fn wait_for_lock(&self, channel: Option<ChannelName>, conflict: Option<Box<Conflict>>) {
        if let Some(conflict) = conflict {
            self.handover.wait(self.place(channel), &conflict);
        }
    }

    /// The client has been told of its holds; what the outcome lets go is let go.
    pub(super) fn told(&self, settled: &Settled) {
        let ids: Vec<_> = settled.taken.iter().map(|taken| taken.id).collect();
        if !settled.outcome.releases().is_empty() {
            let what = Which::Resources { resources: settled.outcome.releases().to_vec(), except: ids.clone() };
            self.let_go(None, what, CloseCause::Released);
        }
        if !ids.is_empty() {
            self.handover.told(ids);
        }
    }

    /// Gives back what was just taken: the client will not hear of it.
    pub(super) fn give_back(&self, settled: &Settled, channel: Option<ChannelName>) {
        let ids: Vec<_> = settled.taken.iter().map(|taken| taken.id).collect();
        if !ids.is_empty() {
            self.let_go(channel, Which::These(ids), CloseCause::Refused);
        }
    }

    fn let_go(&self, channel: Option<ChannelName>, what: Which, cause: CloseCause) {
        let place = self.place(channel);
        self.handover.let_go(LettingGo { place, what, events: Vec::new(), cause, detected_at: Instant::now() });
    }
}

impl Settled {
    /// What `on_unsubscribe` asks for, but for its events, which are handed over already. It cannot hold anything.
    pub(super) fn without_holds(outcome: Outcome) -> Self {
        if !outcome.holds().is_empty() {
            tracing::warn!("on_unsubscribe asks for a hold, which it cannot have");
        }
        Self { outcome: outcome.without_holds(), ..Self::default() }
    }

    /// What the client is told of a subscription, in its order: its locks, then the pushes of the hook.
    pub(super) fn frames(&self, channel: Option<&ChannelName>) -> Vec<WireFrame> {
        self.locks(channel).chain(self.pushes(channel)).collect()
    }

    /// Its locks, on the channel whose subscription took them: all later news of them come there, too.
    fn locks(&self, channel: Option<&ChannelName>) -> impl Iterator<Item = WireFrame> {
        self.outcome.holds().iter().filter(|hold| !hold.quiet).filter_map(move |hold| {
            if self.degraded {
                let data = json!({ "resource": hold.resource, "fence": null, "state": "degraded" });
                return Some(notice("holdline:lock_state", channel, &data));
            }
            let Taken { resource, fence, outcome, .. } = self.taken.iter().find(|taken| taken.resource == hold.resource)?;
            let data = json!({ "resource": resource, "fence": fence, "principal": hold.principal.to_string(), "outcome": outcome });
            Some(notice("holdline:locked", channel, &data))
        })
    }

    fn pushes(&self, channel: Option<&ChannelName>) -> impl Iterator<Item = WireFrame> {
        let channel = channel.map(ChannelName::as_str);
        let frame = move |push: &Push| ServerFrame::Event { event: &push.event, channel, data: &push.data, user_id: None }.encode();
        self.outcome.pushes().iter().map(frame)
    }
}

/// An event of ours about a lock. On an encrypted channel clients would try to decrypt it: there it comes without a channel.
fn notice(event: &str, channel: Option<&ChannelName>, data: &serde_json::Value) -> WireFrame {
    let channel = channel.filter(|channel| !channel.kind().encrypted).map(ChannelName::as_str);
    ServerFrame::Event { event, channel, data: &data.to_string(), user_id: None }.encode()
}

async fn commit<C: Send + 'static>(handover: &Handover<C>, place: Place, outcome: Outcome) -> Result<Settled, NotTaken> {
    let asking = Asking { place: place.clone(), holds: outcome.holds().to_vec(), events: outcome.events().to_vec() };
    let may_go_without = outcome.events().is_empty() && outcome.holds().iter().all(|hold| hold.fail_open);
    match handover.acquire(asking).await {
        Ok(taken) => Ok(Settled { outcome, taken, degraded: false }),
        Err(NotTaken::Unavailable) if may_go_without => Ok(Settled { outcome, taken: Vec::new(), degraded: true }),
        // What the client did not ask for does not stand in the way of what it did.
        Err(refusal) if refusal.is_for_good() && outcome.holds().iter().any(|hold| hold.quiet) => {
            tracing::warn!(socket.id = %place.socket_id, "The log will not say that the user of {} is online: {refusal}", place.socket_id);
            let outcome = outcome.without_quiet_holds();
            if outcome.is_durable() {
                Box::pin(commit(handover, place, outcome)).await
            } else {
                Ok(Settled { outcome, ..Settled::default() })
            }
        }
        Err(refusal) => Err(refusal),
    }
}

fn reject(refusal: &NotTaken) -> Reject {
    match refusal {
        NotTaken::TooMany(_) => Reject::new("LimitReached", 4100, refusal.to_string()),
        NotTaken::Invalid(_) => Reject::new("InvalidHold", 400, refusal.to_string()),
        NotTaken::Conflict(conflict) => Reject::conflict(conflict),
        NotTaken::Unavailable | NotTaken::Ended => Reject::lock_unavailable(),
    }
}
