//! What waits to be written to one connection: a queue bounded in bytes, and the one place where a connection's output ends.
//!
//! Fan-out pushes shared frames here, past the connection's actor. The writer of its socket drains it. When the bound is crossed the
//! queue is dropped, a close frame takes its place, and whoever polls [`Outbox::poll_end`] learns of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{CloseCause, OutboxMemory, Pressure};
use crate::protocol::{CloseCode, ServerFrame, WireFrame};

/// At most this many bytes leave the queue per look, so that a peer that stops reading holds little beyond the bound.
const MAX_BATCH_BYTES: usize = 32 * 1024;
/// What one queued frame costs beyond its bytes; keeps ten thousand empty pongs from being free.
const FRAME_OVERHEAD: usize = 32;
/// Places in the queue are counted in the node's memory in steps of so many bytes: most queues never have one step.
const CHARGE: usize = 128 * FRAME_OVERHEAD;
/// A connection that has taken nothing of what waits for it at so many looks in a row is stalled.
const STALLED_LOOKS: u8 = 5;

/// The outgoing side of one connection. Shared by everybody who has something to say to it.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    max_bytes: usize,
    drained: AtomicU64,
    memory: Arc<OutboxMemory>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// What of its places is counted in the node's memory.
    charged: usize,
    /// What was drained at the last look, and since how many looks.
    looked: (u64, u8),
    phase: Phase,
    end: Option<End>,
    drain_waker: Option<Waker>,
    end_waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Takes frames.
    #[default]
    Open,
    /// Takes none; what is queued is still written, and then the peer's answer is waited for.
    Ending,
    /// Takes none; what is queued is still written, and then it is over.
    Finishing,
    /// Nothing will be written any more.
    Ended,
}

/// Why and how a connection's output ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// For the log, the handler and the counters.
    pub cause: CloseCause,
    /// The code in the close frame, if there is one.
    pub code: Option<CloseCode>,
}

/// What became of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It will be written.
    Queued,
    /// It did not fit: the connection is ending as a slow consumer, as of now.
    Overflowed,
    /// The connection had ended before.
    Ended,
}

impl Outbox {
    /// An empty outbox that holds at most `max_bytes` of frames, and less when the node is short of memory.
    pub fn new(max_bytes: usize, memory: Arc<OutboxMemory>) -> Self {
        Self { queue: Mutex::default(), max_bytes, drained: AtomicU64::new(0), memory }
    }

    /// The node's count.
    pub(super) fn memory(&self) -> &Arc<OutboxMemory> {
        &self.memory
    }

    /// Queues one frame.
    pub fn push(&self, frame: WireFrame) -> Pushed {
        let (pushed, waker) = self.queue(frame);
        wake(waker);
        pushed
    }

    /// Queues one frame; whoever gets a waker has to see to it that it is woken.
    pub(super) fn queue(&self, frame: WireFrame) -> (Pushed, Option<Waker>) {
        let mut queue = self.queue.lock();
        if queue.phase != Phase::Open {
            return (Pushed::Ended, None);
        }
        let cost = frame.len() + FRAME_OVERHEAD;
        // A reader that keeps up has an empty queue: one frame always fits, however large the limits let it be.
        let full = queue.bytes + cost > self.max_bytes || self.memory.pressure() == Pressure::Full;
        if full && !queue.frames.is_empty() {
            self.overflow(queue);
            return (Pushed::Overflowed, None);
        }
        queue.bytes += cost;
        queue.frames.push_back(frame.into_bytes());
        if queue.frames.len() * FRAME_OVERHEAD >= queue.charged + CHARGE {
            queue.charged += CHARGE;
            self.memory.add(CHARGE);
        }
        (Pushed::Queued, queue.drain_waker.take())
    }

    /// Everything that waits is dropped, and the client finds out why if it ever reads again.
    fn overflow(&self, mut queue: MutexGuard<'_, Queue>) {
        // The frames may be large and shared: they are dropped after the lock is.
        let dropped = self.clear(&mut queue);
        let end = End { cause: CloseCause::SlowConsumer, code: Some(CloseCode::OVER_CAPACITY) };
        Self::end_with(queue, end, fatal(CloseCode::OVER_CAPACITY, "Over capacity: the connection does not keep up"));
        drop(dropped);
    }

    fn clear(&self, queue: &mut Queue) -> VecDeque<Bytes> {
        queue.bytes = 0;
        self.memory.remove(std::mem::take(&mut queue.charged));
        std::mem::take(&mut queue.frames)
    }

    /// To be called about once a second while the node is short of memory: ends a connection that takes nothing, as a slow consumer.
    pub fn end_if_stalled(&self) -> bool {
        let mut queue = self.queue.lock();
        let drained = self.drained.load(Ordering::Relaxed);
        let (before, looks) = queue.looked;
        let stands = drained == before && !queue.frames.is_empty() && queue.phase == Phase::Open;
        queue.looked = (drained, if stands { looks.saturating_add(1) } else { 0 });
        let stalled = queue.looked.1 >= STALLED_LOOKS;
        if stalled {
            self.overflow(queue);
        }
        stalled
    }

    /// Ends the connection with an error the client is told: `pusher:error`, then a close frame with the same code
    /// (protocol.md 1.4). What was queued before goes out first. The first end wins; `false` means it had ended already.
    pub fn fail(&self, cause: CloseCause, code: CloseCode, message: &str) -> bool {
        self.end(End { cause, code: Some(code) }, fatal(code, message))
    }

    /// Ends the connection with these last frames, after those that are queued. `false` means it had ended already.
    pub fn end(&self, end: End, last: impl IntoIterator<Item = WireFrame>) -> bool {
        let queue = self.queue.lock();
        if queue.phase != Phase::Open {
            return false;
        }
        Self::end_with(queue, end, last);
        true
    }

    fn end_with(mut queue: MutexGuard<'_, Queue>, end: End, last: impl IntoIterator<Item = WireFrame>) {
        queue.frames.extend(last.into_iter().map(WireFrame::into_bytes));
        queue.phase = Phase::Ending;
        queue.end = Some(end);
        let wakers = (queue.drain_waker.take(), queue.end_waker.take());
        drop(queue);
        wake(wakers.0);
        wake(wakers.1);
    }

    /// The peer has answered the close, or has had its time: the socket may go as soon as everything is written.
    pub fn finish(&self) {
        let mut queue = self.queue.lock();
        if queue.phase == Phase::Ending {
            queue.phase = Phase::Finishing;
        }
        let waker = queue.drain_waker.take();
        drop(queue);
        wake(waker);
    }

    /// Nobody is there to write to any more: drops everything.
    pub fn abandon(&self) {
        let mut queue = self.queue.lock();
        let dropped = self.clear(&mut queue);
        queue.phase = Phase::Ended;
        queue.end.get_or_insert(End { cause: CloseCause::Gone, code: None });
        let wakers = (queue.drain_waker.take(), queue.end_waker.take());
        drop(queue);
        drop(dropped);
        wake(wakers.0);
        wake(wakers.1);
    }

    /// Moves waiting frames into `batch`, or waits for some. `Ready(false)`: everything was taken and nothing will follow.
    pub fn poll_drain(&self, cx: &mut Context<'_>, batch: &mut VecDeque<Bytes>) -> Poll<bool> {
        let mut queue = self.queue.lock();
        let mut taken = 0;
        while taken < MAX_BATCH_BYTES {
            let Some(frame) = queue.frames.pop_front() else { break };
            taken += frame.len();
            queue.bytes = queue.bytes.saturating_sub(frame.len() + FRAME_OVERHEAD);
            batch.push_back(frame);
        }
        if queue.charged > queue.frames.len() * FRAME_OVERHEAD {
            let due = queue.frames.len() * FRAME_OVERHEAD / CHARGE * CHARGE;
            self.memory.remove(queue.charged - due);
            queue.charged = due;
        }
        if taken > 0 {
            self.drained.fetch_add(taken as u64, Ordering::Relaxed);
            return Poll::Ready(true);
        }
        // A queue that once held a burst gives its memory back.
        if queue.frames.capacity() > 64 {
            queue.frames = VecDeque::new();
        }
        if matches!(queue.phase, Phase::Open | Phase::Ending) {
            queue.drain_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        queue.phase = Phase::Ended;
        Poll::Ready(false)
    }

    /// Resolves when the output has ended, with the first reason given.
    pub fn poll_end(&self, cx: &mut Context<'_>) -> Poll<End> {
        let mut queue = self.queue.lock();
        match &queue.end {
            Some(end) => Poll::Ready(end.clone()),
            None => {
                queue.end_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether frames are still taken.
    pub fn is_open(&self) -> bool {
        self.queue.lock().phase == Phase::Open
    }

    /// What waits: frames and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.frames.len(), queue.bytes.saturating_sub(queue.frames.len() * FRAME_OVERHEAD))
    }

    /// Bytes that were handed to the socket so far.
    pub fn bytes_out(&self) -> u64 {
        self.drained.load(Ordering::Relaxed)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.memory.remove(self.queue.get_mut().charged);
    }
}

/// The two frames of a fatal error (protocol.md 1.4).
pub(crate) fn fatal(code: CloseCode, message: &str) -> [WireFrame; 2] {
    [ServerFrame::Error { code, message, channel: None }.encode(), WireFrame::close(code, message)]
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn drain(outbox: &Outbox) -> (Vec<Bytes>, Option<bool>) {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut all, mut batch) = (Vec::new(), VecDeque::new());
        loop {
            match outbox.poll_drain(&mut cx, &mut batch) {
                Poll::Ready(true) => all.extend(batch.drain(..)),
                Poll::Ready(false) => return (all, Some(false)),
                Poll::Pending => return (all, None),
            }
        }
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let outbox = Outbox::new(1 << 20, Arc::default());
        for text in ["one", "two", "three"] {
            assert_eq!(outbox.push(WireFrame::text(text)), Pushed::Queued);
        }
        let (frames, end) = drain(&outbox);
        assert_eq!(frames.iter().map(|f| &f[2..]).collect::<Vec<_>>(), [b"one".as_slice(), b"two", b"three"]);
        assert_eq!(end, None);
        assert_eq!(outbox.bytes_out(), 17);
    }

    #[test]
    fn overflow_drops_the_queue_and_says_4100_once() {
        let outbox = Outbox::new(1_000, Arc::default());
        let big = WireFrame::text(&"x".repeat(400));
        assert_eq!(outbox.push(big.clone()), Pushed::Queued);
        assert_eq!(outbox.push(big.clone()), Pushed::Queued);
        assert_eq!(outbox.push(big.clone()), Pushed::Overflowed);
        assert_eq!(outbox.push(big), Pushed::Ended);
        let mut cx = Context::from_waker(Waker::noop());
        let expected = End { cause: CloseCause::SlowConsumer, code: Some(CloseCode::OVER_CAPACITY) };
        assert_eq!(outbox.poll_end(&mut cx), Poll::Ready(expected));
        let (frames, end) = drain(&outbox);
        assert_eq!(frames.len(), 2, "one error frame and one close frame");
        assert_eq!(frames[1][2..4], 4100_u16.to_be_bytes());
        assert_eq!(end, None, "the peer may answer the close");
        outbox.finish();
        assert_eq!(drain(&outbox), (vec![], Some(false)));
    }

    #[test]
    fn one_frame_fits_an_empty_queue_however_large_it_is() {
        let outbox = Outbox::new(1_000, Arc::default());
        let huge = WireFrame::text(&"x".repeat(5_000));
        assert_eq!(outbox.push(huge.clone()), Pushed::Queued);
        assert_eq!(drain(&outbox).0.len(), 1);
        assert_eq!(outbox.push(huge.clone()), Pushed::Queued);
        assert_eq!(outbox.push(huge), Pushed::Overflowed);
    }

    #[test]
    fn small_frames_are_bounded_too() {
        let outbox = Outbox::new(10_000, Arc::default());
        let queued = (0..10_000).take_while(|_| outbox.push(WireFrame::pong(b"")) == Pushed::Queued).count();
        assert!(queued < 500, "{queued}");
    }

    #[test]
    fn an_end_lets_queued_frames_go_first_and_the_first_end_wins() {
        let outbox = Outbox::new(1_000, Arc::default());
        outbox.push(WireFrame::text("hi"));
        assert!(outbox.fail(CloseCause::Kicked, CloseCode::UNAUTHORIZED, "out"));
        assert!(!outbox.fail(CloseCause::Idle, CloseCode::PONG_TIMEOUT, "late"));
        outbox.finish();
        let (frames, end) = drain(&outbox);
        assert_eq!((frames.len(), end), (3, Some(false)), "what is queued goes out before it is over");
    }

    #[test]
    fn a_push_wakes_the_reader_once_per_drain() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count = Arc::new(Count(0.into()));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let outbox = Outbox::new(1 << 20, Arc::default());
        let mut batch = VecDeque::new();
        assert!(outbox.poll_drain(&mut cx, &mut batch).is_pending());
        for _ in 0..100 {
            outbox.push(WireFrame::text("x"));
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn pushes_from_many_threads_all_arrive() {
        let outbox = Outbox::new(1 << 20, Arc::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| assert_eq!(outbox.push(WireFrame::text("x")), Pushed::Queued)));
            }
        });
        assert_eq!(drain(&outbox).0.len(), 4_000);
    }
}
