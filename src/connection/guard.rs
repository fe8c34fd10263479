//! Stands between the request's payload and the frame decoder: nothing passes that breaks RFC 6455 or the size limit.
//!
//! The decoder compares a frame's length only after the whole frame is buffered, and reports an error before the good frames
//! that were read with it. So frames are handed to it one at a time, and the stream just ends where a bad one begins; the
//! [`Verdict`] says why.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::{dev, error::PayloadError};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::scanner::{Scanned, Scanner, Violation};

/// Where the guard leaves the reason, for the actor to find when its stream ends.
pub(super) type Verdict = Rc<Cell<Option<Violation>>>;

pub(super) struct FrameGuard {
    inner: dev::Payload,
    scanner: Scanner,
    /// Read, but not looked at yet.
    unseen: Bytes,
    /// The beginning of a header, held back until the rest has shown that it is in order.
    held: BytesMut,
    /// A whole frame was handed out: the decoder takes it before it gets more.
    yielding: bool,
    verdict: Verdict,
}

impl FrameGuard {
    pub(super) fn new(inner: dev::Payload, max_message_bytes: usize) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let scanner = Scanner::new(max_message_bytes);
        (Self { inner, scanner, unseen: Bytes::new(), held: BytesMut::new(), yielding: false, verdict: Rc::clone(&verdict) }, verdict)
    }
}

impl Stream for FrameGuard {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.verdict.get().is_some() {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.yielding) && !self.unseen.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let this = &mut *self;
        loop {
            if this.unseen.is_empty() {
                match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                    Some(Ok(bytes)) => this.unseen = bytes,
                    end => return Poll::Ready(end),
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
                    this.verdict.set(Some(violation));
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

    fn guard(chunks: Vec<Vec<u8>>) -> (FrameGuard, Verdict) {
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
        assert_eq!(verdict.get().unwrap().code.as_u16(), 1002);
    }

    #[test]
    fn an_announced_tebibyte_is_refused_at_its_header() {
        let mut header = vec![0x81, 0x80 | 127];
        header.extend((1_u64 << 40).to_be_bytes());
        header.extend([0; 4]);
        let (guard, verdict) = guard(vec![header, vec![0; 500]]);
        assert!(run(guard).is_empty());
        assert_eq!(verdict.get().unwrap().code.as_u16(), 1009);
    }

    #[test]
    fn a_header_in_pieces_is_handed_over_whole_or_not_at_all() {
        let frame = [0x81, 0x81, 0, 0, 0, 0, b'a'];
        let (good, _) = guard(frame.iter().map(|byte| vec![*byte]).collect());
        assert_eq!(run(good).concat(), frame);
        let (bad, verdict) = guard(vec![vec![0xC1], vec![0x81], vec![0; 5]]);
        assert!(run(bad).is_empty());
        assert_eq!(verdict.get().unwrap().code.as_u16(), 1002);
    }

    #[test]
    fn a_payload_that_ends_ends_without_a_verdict() {
        let (guard, verdict) = guard(vec![vec![0x81], vec![0x81, 0, 0, 0]]);
        assert_eq!(run(guard).len(), 0);
        assert_eq!(verdict.get(), None);
    }
}
