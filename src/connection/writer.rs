//! Writes the outbox of one connection to its socket: all frames that wait leave in one write.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::time::{Sleep, sleep};

use super::link::Link;
use crate::{
    cluster::SocketGuard,
    domain::{Meter, Outbox},
};

/// Frames are copied together up to so many bytes: a write costs as much as a copy of several times that.
const TOGETHER: usize = 32 * 1024;
/// How long the last words may take to leave, once nobody waits for the peer.
const LAST_WORDS: Duration = Duration::from_secs(5);

thread_local! {
    /// What is taken from an outbox and written at once is in nobody's memory for long.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    frames: VecDeque<Bytes>,
    together: Vec<u8>,
}

/// The task of one socket's outgoing side. It ends with the socket.
pub(super) struct Writer<O> {
    outbox: O,
    link: Rc<Link>,
    /// What the socket would not take.
    blocked: VecDeque<Bytes>,
    /// Something was written that TLS may hold back.
    unflushed: bool,
    /// Everything was taken from the outbox, and nothing will follow.
    last: bool,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Counts what goes out; nothing for those who are refused.
    meter: Option<Meter>,
    _socket: SocketGuard,
}

impl<O: AsRef<Outbox> + Unpin> Writer<O> {
    pub(super) fn new(outbox: O, link: Rc<Link>, meter: Option<Meter>, socket: SocketGuard) -> Self {
        Self { outbox, link, blocked: VecDeque::new(), unflushed: false, last: false, deadline: None, meter, _socket: socket }
    }

    /// What is said first: whatever waits already.
    pub(super) fn first_words(&mut self) -> VecDeque<Bytes> {
        let mut frames = VecDeque::new();
        // Whoever has nothing to say yet is polled again.
        let _begun = self.poll_take(&mut Context::from_waker(std::task::Waker::noop()), &mut frames);
        frames
    }

    /// Moves frames out of the outbox. `Ready(false)`: there will be no more.
    fn poll_take(&mut self, cx: &mut Context<'_>, frames: &mut VecDeque<Bytes>) -> Poll<bool> {
        let more = ready!(self.outbox.as_ref().poll_drain(cx, frames));
        if let (true, Some(meter)) = (more, &self.meter) {
            meter.sent(frames.len(), frames.iter().map(Bytes::len).sum());
        }
        Poll::Ready(more)
    }

    /// Writes for as long as there is something to write and the socket takes it.
    fn poll_work(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<()>> {
        loop {
            while !self.blocked.is_empty() {
                let written = ready!(write(&self.link, &mut self.blocked, &mut scratch.together, cx))?;
                self.unflushed = written;
            }
            if self.blocked.capacity() > 0 {
                self.blocked = VecDeque::new();
            }
            if self.last {
                return self.link.poll_shutdown(cx);
            }
            match self.poll_take(cx, &mut scratch.frames) {
                Poll::Ready(true) => {
                    while !scratch.frames.is_empty() {
                        match write(&self.link, &mut scratch.frames, &mut scratch.together, cx) {
                            Poll::Ready(written) => self.unflushed = written?,
                            Poll::Pending => {
                                self.blocked.extend(scratch.frames.drain(..));
                                return Poll::Pending;
                            }
                        }
                    }
                }
                Poll::Ready(false) => self.last = true,
                Poll::Pending => {
                    if std::mem::take(&mut self.unflushed) && self.link.poll_flush(cx)?.is_pending() {
                        self.unflushed = true;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether what is left has had its time.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.link.is_hurried() && self.deadline.get_or_insert_with(|| Box::pin(sleep(LAST_WORDS))).as_mut().poll(cx).is_ready()
    }
}

/// Writes the first of these frames, or several as one; what was written is taken out. Gives whether anything was.
fn write(link: &Link, frames: &mut VecDeque<Bytes>, together: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
    let fit = |total: &mut usize, frame: &Bytes| {
        *total += frame.len();
        (*total <= TOGETHER).then_some(())
    };
    let several = frames.iter().scan(0, fit).nth(1).is_some();
    let mut written = if several {
        together.clear();
        frames.iter().scan(0, |total, frame| fit(total, frame).map(|()| frame)).for_each(|frame| together.extend_from_slice(frame));
        ready!(link.poll_write(cx, together))?
    } else {
        let Some(first) = frames.front() else { return Poll::Ready(Ok(false)) };
        ready!(link.poll_write(cx, first))?
    };
    if written == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    while let Some(first) = frames.front_mut() {
        if written < first.len() {
            first.advance(written);
            break;
        }
        written -= first.len();
        frames.pop_front();
    }
    Poll::Ready(Ok(true))
}

impl<O: AsRef<Outbox> + Unpin> Future for Writer<O> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.link.is_with_http() {
            this.link.register_writer(cx);
            return Poll::Pending;
        }
        let worked = SCRATCH.with_borrow_mut(|scratch| {
            let worked = this.poll_work(cx, scratch);
            scratch.frames.clear();
            worked
        });
        let gone = worked.is_pending() && this.link.poll_ahead(cx).is_ready();
        if worked.is_pending() && !gone {
            if !this.is_late(cx) {
                this.link.register_writer(cx);
                return Poll::Pending;
            }
            this.link.abort();
        }
        // Written to its end, failed, or too late; or gone, which the reader finds for itself where it has something left to read.
        this.link.close();
        if gone && !this.link.has_ahead() {
            this.outbox.as_ref().abandon();
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
