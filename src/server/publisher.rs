//! The publisher: an actor on the main arbiter, which outlives every worker. Connections hand it what they ask for and, once, their end.

use actix::prelude::*;
use futures_util::stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    domain::Handler,
    lifecycle::{Job, Publishing},
};

/// Takes jobs in the order of their coming; what each does then does not hold up the next.
pub(super) struct Publisher<H: Handler>(Publishing<H>);

impl<H: Handler> Publisher<H> {
    /// Starts it on the arbiter this is called on. It ends when no connection can hand it anything any more.
    pub(super) fn start(publishing: Publishing<H>, jobs: UnboundedReceiver<Job<H::Conn>>) {
        Self::create(|ctx| {
            ctx.add_stream(stream::unfold(jobs, async |mut jobs| Some((jobs.recv().await?, jobs))));
            Self(publishing)
        });
    }
}

impl<H: Handler> Actor for Publisher<H> {
    type Context = Context<Self>;
}

impl<H: Handler> StreamHandler<Job<H::Conn>> for Publisher<H> {
    fn handle(&mut self, job: Job<H::Conn>, _: &mut Self::Context) {
        self.0.take(job);
    }
}

/// Nothing of it is ever pinned in place.
impl<H: Handler> Unpin for Publisher<H> {}
