//! Stands between the request's payload and the frame decoder: nothing passes that breaks RFC 6455 or the size limit.
//!
//! The decoder compares a frame's length only after the whole frame is buffered, and reports an error before the good frames
//! that were read with it. So frames are handed to it one at a time, and the stream just ends where a bad one begins; the
//! [`Inlet`] says why.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use actix_web::{body::BoxBody, dev, error::PayloadError};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::scanner::{Scanned, Scanner, Violation};

/// What the guard shares with the actor and with the response body of one connection.
#[derive(Default)]
pub(super) struct Inlet {
    violation: Cell<Option<Violation>>,
    /// The body that actix-ws made, once the dispatcher has let go of ours: the peer is gone. Dropped no sooner than the guard,
    /// because it tells the decoder to read no more, and whole frames may still wait here.
    peer_gone: RefCell<Option<BoxBody>>,
    waker: RefCell<Option<Waker>>,
}

impl Inlet {
    /// How the client broke the rules, if the stream ended for that.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }

    /// Nothing will come any more but what is here already.
    pub(super) fn close(&self, body: Option<BoxBody>) {
        *self.peer_gone.borrow_mut() = body;
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

pub(super) struct FrameGuard {
    inner: dev::Payload,
    scanner: Scanner,
    /// Read, but not looked at yet.
    unseen: Bytes,
    /// The beginning of a header, held back until the rest has shown that it is in order.
    held: BytesMut,
    /// A whole frame was handed out: the decoder takes it before it gets more, or learns of the end.
    yielding: bool,
    inlet: Rc<Inlet>,
}

impl FrameGuard {
    pub(super) fn new(inner: dev::Payload, max_message_bytes: usize) -> (Self, Rc<Inlet>) {
        let inlet = Rc::<Inlet>::default();
        let scanner = Scanner::new(max_message_bytes);
        (Self { inner, scanner, unseen: Bytes::new(), held: BytesMut::new(), yielding: false, inlet: Rc::clone(&inlet) }, inlet)
    }

    /// The next bytes of the request; `None` when the peer is gone, in whatever way.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match Pin::new(&mut self.inner).poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(bytes)),
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(None),
            Poll::Pending if self.inlet.peer_gone.borrow().is_some() => Poll::Ready(None),
            Poll::Pending => {
                *self.inlet.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Stream for FrameGuard {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.inlet.violation().is_some() {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.yielding) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let this = &mut *self;
        loop {
            if this.unseen.is_empty() {
                match ready!(this.poll_more(cx)) {
                    Some(bytes) => this.unseen = bytes,
                    None => return Poll::Ready(None),
                }
            }
            let seen = match this.scanner.scan(&this.unseen) {
                Scanned::Header => {
                    this.held.extend_from_slice(&std::mem::take(&mut this.unseen));
                    continue;
                }
                Scanned::Partial => std::mem::take(&mut this.unseen),
                Scanned::Frame(len) => {
                    this.yielding = true;
                    this.unseen.split_to(len)
                }
                Scanned::Broken(violation) => {
                    this.unseen = Bytes::new();
                    this.inlet.violation.set(Some(violation));
                    return Poll::Ready(None);
                }
            };
            return Poll::Ready(Some(Ok(this.with_held(seen))));
        }
    }
}

impl FrameGuard {
    /// The bytes behind the beginning of their header, which as a rule came with them.
    fn with_held(&mut self, bytes: Bytes) -> Bytes {
        if self.held.is_empty() {
            return bytes;
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(&bytes);
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::stream;

    use super::*;

    fn guard(chunks: Vec<Vec<u8>>) -> (FrameGuard, Rc<Inlet>) {
        let chunks = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
        FrameGuard::new(dev::Payload::Stream { payload: Box::pin(chunks) }, 1_000)
    }

    fn run(mut guard: FrameGuard) -> Vec<Bytes> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        for _ in 0..100 {
            match Pin::new(&mut guard).poll_next(&mut cx) {
                Poll::Ready(Some(bytes)) => out.push(bytes.unwrap()),
                Poll::Ready(None) => return out,
                Poll::Pending => {}
            }
        }
        panic!("the guard never ended")
    }

    #[test]
    fn good_frames_pass_one_at_a_time_and_a_bad_one_ends_the_stream() {
        let good = vec![0x81, 0x81, 0, 0, 0, 0, b'a'];
        let bad = vec![0xC1, 0x81, 0, 0, 0, 0, b'b'];
        let (guard, verdict) = guard(vec![[good.clone(), good.clone(), bad, good.clone()].concat()]);
        assert_eq!(run(guard), [Bytes::from(good.clone()), Bytes::from(good)]);
        assert_eq!(verdict.violation().unwrap().code.as_u16(), 1002);
    }

    #[test]
    fn an_announced_tebibyte_is_refused_at_its_header() {
        let mut header = vec![0x81, 0x80 | 127];
        header.extend((1_u64 << 40).to_be_bytes());
        header.extend([0; 4]);
        let (guard, verdict) = guard(vec![header, vec![0; 500]]);
        assert!(run(guard).is_empty());
        assert_eq!(verdict.violation().unwrap().code.as_u16(), 1009);
    }

    #[test]
    fn a_header_in_pieces_is_handed_over_whole_or_not_at_all() {
        let frame = [0x81, 0x81, 0, 0, 0, 0, b'a'];
        let (good, _) = guard(frame.iter().map(|byte| vec![*byte]).collect());
        assert_eq!(run(good).concat(), frame);
        let (bad, verdict) = guard(vec![vec![0xC1], vec![0x81], vec![0; 5]]);
        assert!(run(bad).is_empty());
        assert_eq!(verdict.violation().unwrap().code.as_u16(), 1002);
    }

    #[test]
    fn a_payload_that_ends_ends_without_a_verdict() {
        let (guard, verdict) = guard(vec![vec![0x81], vec![0x81, 0, 0, 0]]);
        assert_eq!(run(guard).len(), 0);
        assert_eq!(verdict.violation(), None);
    }
}
