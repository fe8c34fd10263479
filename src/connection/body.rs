//! The response body of an upgraded request. It holds what is said first, and at its end asks for the socket.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::link::{Handoff, Link};

/// A 101's body: the dispatcher writes these frames together with the head, then the socket is the link's.
pub(super) struct FirstWords {
    frames: VecDeque<Bytes>,
    handoff: Handoff,
    /// Taken at the end.
    link: Option<Rc<Link>>,
}

impl FirstWords {
    pub(super) fn new(frames: VecDeque<Bytes>, handoff: Handoff, link: Rc<Link>) -> Self {
        Self { frames, handoff, link: Some(link) }
    }
}

/// The dispatcher has let go of the response before its end: the peer is gone.
impl Drop for FirstWords {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.close();
        }
    }
}

impl MessageBody for FirstWords {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(link) = self.link.take() {
            self.handoff.ask(link);
        }
        Poll::Ready(None)
    }
}
