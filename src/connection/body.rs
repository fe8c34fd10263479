//! The response body of an upgraded request: drains the connection's outbox into the socket.
//!
//! Each look hands one shared frame to the dispatcher, which copies it into its write buffer; all frames that wait leave in one
//! write. This file and `upgrade.rs` are the only ones that know that the socket is an HTTP response.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::guard::Inlet;
use crate::{
    cluster::SocketGuard,
    domain::{Meter, Outbox},
};

pub(super) struct OutboxBody<O> {
    outbox: O,
    batch: VecDeque<Bytes>,
    /// The body that actix-ws made. Nothing is ever sent through it; at the end the guard takes it over.
    replaced: Option<BoxBody>,
    inlet: Rc<Inlet>,
    /// Counts what goes out; nothing for those who are refused.
    meter: Option<Meter>,
    _socket: SocketGuard,
}

impl<O: AsRef<Outbox>> OutboxBody<O> {
    pub(super) fn new(outbox: O, replaced: BoxBody, inlet: Rc<Inlet>, meter: Option<Meter>, socket: SocketGuard) -> Self {
        Self { outbox, batch: VecDeque::new(), replaced: Some(replaced), inlet, meter, _socket: socket }
    }
}

/// The dispatcher has let go of the response: everything is written, or the peer is gone.
impl<O> Drop for OutboxBody<O> {
    fn drop(&mut self) {
        self.inlet.close(self.replaced.take());
    }
}

impl<O: AsRef<Outbox> + Unpin> MessageBody for OutboxBody<O> {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = &mut *self;
        if this.batch.is_empty() {
            if !ready!(this.outbox.as_ref().poll_drain(cx, &mut this.batch)) {
                return Poll::Ready(None);
            }
            if let Some(meter) = &this.meter {
                meter.sent(this.batch.len(), this.batch.iter().map(Bytes::len).sum());
            }
        }
        let frame = this.batch.pop_front();
        if this.batch.is_empty() && this.batch.capacity() > 64 {
            this.batch = VecDeque::new();
        }
        Poll::Ready(frame.map(Ok))
    }
}
