//! From a connection's worker to whoever outlives it: what the connection asks for, and, once, its end.
//!
//! A task that is spawned on a worker dies with the worker when the server stops, so no durable work starts there. A [`Handover`] is
//! the connection's end of a queue; the publisher, on the main runtime, takes each [`Job`] to a [`Publishing`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{Instrument, Span};

use super::{
    LockManager,
    hold_table::{Place, Taken},
    hook::{HookFailure, HookStats},
    lock_manager::{Asking, NotTaken, Release},
    store::{CloseCause, Ending, HoldId},
};
use crate::{
    domain::{Closing, Conflict, DomainEvent, Handler, Hook, Outcome},
    protocol::SocketId,
};

/// One ended connection: its context, and how it ended.
#[derive(Debug)]
pub(crate) struct CloseJob<C> {
    /// What the application knew about it.
    pub(crate) conn: C,
    /// How it ended.
    pub(crate) closing: Closing,
    /// When that was noticed; a hook may have been at work until now.
    pub(crate) detected_at: Instant,
}

/// What the publisher is handed.
#[derive(Debug)]
pub(crate) enum Job<C> {
    /// A connection asks for holds, or emits events.
    Acquire(Asking, oneshot::Sender<Result<Vec<Taken>, NotTaken>>),
    /// The client was told of its holds.
    Told(Vec<HoldId>),
    /// A connection lets go of some of its holds.
    LetGo(LettingGo),
    /// A connection was refused, and wants to hear when the resource is free.
    Wait(Place, String),
    /// A connection has ended.
    Close(Box<CloseJob<C>>),
}

/// Holds that end before their connection does: cleanly, without grace.
#[derive(Debug)]
pub(crate) struct LettingGo {
    pub(crate) place: Place,
    pub(crate) what: Which,
    pub(crate) events: Vec<DomainEvent>,
    pub(crate) cause: CloseCause,
    pub(crate) detected_at: Instant,
}

/// Which holds of a connection.
#[derive(Debug)]
pub(crate) enum Which {
    /// Those of the place's channel.
    OfChannel,
    /// Those of some resources, but not the ones that were just taken.
    Resources { resources: Vec<String>, except: Vec<HoldId> },
    /// Exactly these.
    These(Vec<HoldId>),
}

/// The connection's end. Cloning is a reference count.
#[derive(Debug)]
pub(crate) struct Handover<C> {
    jobs: mpsc::UnboundedSender<Job<C>>,
    owed: Arc<Owed>,
    hooks: Arc<HookStats>,
}

/// The closes that were handed over and have not run yet.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    jobs: AtomicUsize,
    done: Notify,
}

impl<C> Clone for Handover<C> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), owed: Arc::clone(&self.owed), hooks: Arc::clone(&self.hooks) }
    }
}

impl<C: Send + 'static> Handover<C> {
    /// Both ends. Unbounded, and bounded from outside: a connection waits for each answer, and ends once.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Job<C>>) {
        let (jobs, inbox) = mpsc::unbounded_channel();
        (Self { jobs, owed: Arc::default(), hooks: Arc::default() }, inbox)
    }

    /// Asks for holds and events, all or nothing. Answered within the limit of the lock manager.
    pub(crate) async fn acquire(&self, asking: Asking) -> Result<Vec<Taken>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Acquire(asking, reply));
        answer.await.unwrap_or(Err(NotTaken::Unavailable))
    }

    /// The client has been told of these holds.
    pub(crate) fn told(&self, ids: Vec<HoldId>) {
        self.send(Job::Told(ids));
    }

    /// Lets go of some holds.
    pub(crate) fn let_go(&self, letting_go: LettingGo) {
        self.send(Job::LetGo(letting_go));
    }

    /// Asks to be told when what was refused is free.
    pub(crate) fn wait(&self, place: Place, conflict: &Conflict) {
        if conflict.hold.notify_when_free {
            self.send(Job::Wait(place, conflict.hold.resource.clone()));
        }
    }

    /// Hands over an ended connection.
    pub(crate) fn close(&self, job: CloseJob<C>) {
        self.owed.jobs.fetch_add(1, Ordering::SeqCst);
        self.send(Job::Close(Box::new(job)));
    }

    /// The end of a connection that has nothing in the store, and whose handler has nothing to say of it: it needs nobody to be run by.
    pub(crate) fn close_unheard(&self, job: CloseJob<C>) {
        let CloseJob { conn, closing: Closing { socket_id, app_id, .. }, .. } = job;
        let done = close_span(&app_id, socket_id).in_scope(|| self.hooks.guarded_now(Hook::OnClose, || drop(conn)));
        if let Err(failure) = done {
            log_failed_close(&app_id, socket_id, failure);
        }
    }

    /// What is owed, to wait for.
    pub(crate) fn owed(&self) -> Arc<Owed> {
        Arc::clone(&self.owed)
    }

    /// Who counts the calls of the handler, on this side and on the other.
    pub(crate) fn hooks(&self) -> &Arc<HookStats> {
        &self.hooks
    }

    fn send(&self, job: Job<C>) {
        if let Err(unsent) = self.jobs.send(job)
            && matches!(unsent.0, Job::Close(_))
        {
            // The main runtime is gone, and with it everybody who could care.
            self.owed.settle();
        }
    }
}

impl Owed {
    /// Resolves when nothing is owed.
    pub(crate) async fn settled(&self) {
        loop {
            let done = self.done.notified();
            if self.jobs.load(Ordering::SeqCst) == 0 {
                return;
            }
            done.await;
        }
    }

    fn settle(&self) {
        if self.jobs.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.done.notify_waiters();
        }
    }
}

/// Carries jobs out, on the runtime it is called on.
#[derive(Debug)]
pub(crate) struct Publishing<H> {
    handler: Arc<H>,
    hook_timeout: Duration,
    locks: Option<LockManager>,
    owed: Arc<Owed>,
    hooks: Arc<HookStats>,
}

impl<H: Handler> Publishing<H> {
    /// For the jobs of `handover`. Without locks nothing can be held, and nothing emitted.
    pub(crate) fn new(handler: Arc<H>, hook_timeout: Duration, locks: Option<LockManager>, handover: &Handover<H::Conn>) -> Self {
        Self { handler, hook_timeout, locks, owed: handover.owed(), hooks: Arc::clone(handover.hooks()) }
    }

    /// Starts one job. What must stay in order is queued before this returns.
    pub(crate) fn take(&self, job: Job<H::Conn>) {
        match job {
            Job::Close(job) => self.close(*job),
            Job::Acquire(asking, reply) => match &self.locks {
                Some(locks) => {
                    let answer = locks.acquire(asking);
                    // Nobody may be waiting any more; what was taken is released with the connection.
                    tokio::spawn(async move { drop(reply.send(answer.await)) });
                }
                None => drop(reply.send(Err(NotTaken::Unavailable))),
            },
            job => {
                let Some(locks) = &self.locks else { return };
                match job {
                    Job::Told(ids) => locks.told(ids),
                    Job::LetGo(letting_go) => let_go(locks, letting_go),
                    Job::Wait(place, resource) => {
                        let (locks, app_id) = (locks.clone(), Arc::clone(&place.app_id));
                        locks.wait(place, &resource);
                        tokio::spawn(async move { locks.tell_if_free(&app_id, &resource).await });
                    }
                    Job::Close(_) | Job::Acquire(..) => {}
                }
            }
        }
    }

    fn close(&self, job: CloseJob<H::Conn>) {
        let (handler, limit, locks, owed) = (Arc::clone(&self.handler), self.hook_timeout, self.locks.clone(), Arc::clone(&self.owed));
        let (detected_at, hooks) = (job.detected_at, Arc::clone(&self.hooks));
        let mut closing = Box::pin(async move {
            let (socket_id, app_id, cause) = (job.closing.socket_id, Arc::clone(&job.closing.app_id), job.closing.cause);
            let span = close_span(&app_id, socket_id);
            let hook = async { handler.on_close(job.conn, job.closing).await };
            let outcome = hooks.guarded(Hook::OnClose, limit, hook).instrument(span).await.unwrap_or_else(|failure| {
                log_failed_close(&app_id, socket_id, failure);
                Outcome::accept()
            });
            // Also after a panic: the holds end in any case.
            if let Some(locks) = locks {
                locks.stop_waiting(socket_id, None);
                let holds = locks.take(socket_id, |_, _, _| true);
                let place = Place { app_id, socket_id, channel: None };
                locks.release(Release { place, holds, events: outcome.into_events(), cause, ending: Ending::Unclean, detected_at });
            }
            owed.settle();
        });
        // As a rule it is done at the first look, and needs no task. Whoever waits for something is looked at again, by one.
        if closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(closing);
        }
    }
}

fn close_span(app_id: &str, socket_id: SocketId) -> Span {
    tracing::info_span!(parent: None, "hook", hook.name = "on_close", app.id = %app_id, socket.id = %socket_id)
}

fn log_failed_close(app_id: &str, socket_id: SocketId, failure: HookFailure) {
    tracing::error!(app.id = %app_id, socket.id = %socket_id, error = %failure, "on_close of connection {socket_id} failed: {failure}");
}

fn let_go(locks: &LockManager, letting_go: LettingGo) {
    let LettingGo { place, what, events, cause, detected_at } = letting_go;
    let holds = match what {
        Which::OfChannel => {
            locks.stop_waiting(place.socket_id, place.channel.as_ref());
            locks.take(place.socket_id, |held, _, _| held.channel == place.channel)
        }
        Which::Resources { resources, except } => {
            locks.take(place.socket_id, |_, resource, id| !except.contains(&id) && resources.iter().any(|name| name == resource))
        }
        Which::These(ids) => locks.take(place.socket_id, |_, _, id| ids.contains(&id)),
    };
    locks.release(Release { place, holds, events, cause, ending: Ending::Clean, detected_at });
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
