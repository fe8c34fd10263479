//! What all outboxes of a node hold together, and when that is too much.
//!
//! A frame is counted once, however many connections wait for it, from the moment it is pushed until the last of them has let go of it; the
//! places in the queues are counted beside that. So the number is what the process really needs, and a burst to ten thousand
//! connections is not taken for ten thousand copies.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use bytes::Bytes;

use crate::protocol::WireFrame;

/// Smaller frames are not worth the note: their place in the queue is counted.
const SMALL: usize = 64;
/// At this share of the limit, in percent, new work is turned away.
const HIGH: usize = 80;

/// The count. One per node.
#[derive(Debug)]
pub struct OutboxMemory {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// A copy of what follows from the two, on a line of its own that hardly ever changes: every push looks at it.
    pressure: AtomicU8,
}

/// How short of memory a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not at all.
    None,
    /// New work is turned away, connections that take nothing are ended after a while; the others are served.
    High,
    /// Whoever has something waiting gets nothing more: it ends as a slow consumer.
    Full,
}

impl Default for OutboxMemory {
    /// Without a limit.
    fn default() -> Self {
        Self { limit: AtomicUsize::new(usize::MAX), used: AtomicUsize::new(0), pressure: AtomicU8::new(Pressure::None as u8) }
    }
}

impl OutboxMemory {
    /// Sets the limit, in bytes; 0 is none.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(if bytes == 0 { usize::MAX } else { bytes }, Ordering::Relaxed);
        self.look();
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// What follows from it.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::High,
            _ => Pressure::Full,
        }
    }

    /// Compares again. Of two threads that cross a threshold in opposite directions the slower one may have noted what is over.
    pub fn look(&self) -> Pressure {
        self.note(self.used());
        self.pressure()
    }

    /// Counts a frame until its last copy is gone.
    pub(super) fn track(self: &Arc<Self>, frame: WireFrame) -> WireFrame {
        if frame.len() < SMALL {
            return frame;
        }
        self.add(frame.len());
        frame.map_bytes(|bytes| Bytes::from_owner(Tracked { bytes, memory: Arc::clone(self) }))
    }

    pub(super) fn add(&self, bytes: usize) {
        self.note(self.used.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.note(self.used.fetch_sub(bytes, Ordering::Relaxed) - bytes);
    }

    fn note(&self, used: usize) {
        let limit = self.limit.load(Ordering::Relaxed);
        let pressure = match used {
            used if used >= limit => Pressure::Full,
            used if used >= limit / 100 * HIGH => Pressure::High,
            _ => Pressure::None,
        } as u8;
        if self.pressure.load(Ordering::Relaxed) != pressure {
            self.pressure.store(pressure, Ordering::Relaxed);
        }
    }
}

/// A frame that is counted.
struct Tracked {
    bytes: Bytes,
    memory: Arc<OutboxMemory>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.memory.remove(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_once_until_its_last_copy_is_gone() {
        let memory = Arc::new(OutboxMemory::default());
        let frame = memory.track(WireFrame::text(&"x".repeat(1_000)));
        assert_eq!(memory.used(), frame.len());
        let copies: Vec<_> = (0..100).map(|_| frame.clone()).collect();
        let last = copies[7].clone().into_bytes();
        drop((frame, copies));
        assert_eq!(memory.used(), last.len());
        drop(last);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn pressure_follows_the_count_both_ways() {
        let memory = OutboxMemory::default();
        memory.add(1_000);
        assert_eq!(memory.pressure(), Pressure::None, "there is no limit");
        memory.set_limit(1_000);
        assert_eq!(memory.pressure(), Pressure::Full);
        memory.remove(1);
        assert_eq!(memory.pressure(), Pressure::High);
        memory.remove(200);
        assert_eq!(memory.pressure(), Pressure::None);
        memory.set_limit(0);
        memory.add(1 << 40);
        assert_eq!(memory.look(), Pressure::None);
    }
}
