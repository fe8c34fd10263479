//! The subscribers of one channel: dense, because walking them is the hot path, with an index for taking one out.

use std::{collections::HashMap, sync::Arc, task::Waker};

use smallvec::SmallVec;

use super::{Conn, Pacer, outbox::Pushed};
use crate::protocol::{SocketId, WireFrame};

/// Up to this many are searched by walking; most channels never have more, and pay for no index.
const INDEX_ABOVE: usize = 16;
/// Up to this many are woken at once; more would keep their workers from everything else for too long.
const PACED_ABOVE: usize = 128;

/// One connection on one channel.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) conn: Conn,
    /// The member it is there as, on a presence channel.
    pub(super) user_id: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Subscribers {
    dense: Vec<Subscriber>,
    index: Option<HashMap<SocketId, usize>>,
}

impl Subscribers {
    pub(super) fn len(&self) -> usize {
        self.dense.len()
    }

    /// Who is there, in no order.
    pub(super) fn socket_ids(&self) -> impl Iterator<Item = SocketId> {
        self.dense.iter().map(|subscriber| subscriber.conn.socket_id())
    }

    fn position(&self, socket_id: SocketId) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&socket_id).copied(),
            None => self.dense.iter().position(|subscriber| subscriber.conn.socket_id() == socket_id),
        }
    }

    pub(super) fn contains(&self, socket_id: SocketId) -> bool {
        self.position(socket_id).is_some()
    }

    /// Adds one that is not there yet.
    pub(super) fn insert(&mut self, subscriber: Subscriber) {
        let at = self.dense.len();
        if let Some(index) = &mut self.index {
            index.insert(subscriber.conn.socket_id(), at);
        }
        self.dense.push(subscriber);
        if self.index.is_none() && self.dense.len() > INDEX_ABOVE {
            self.index = Some(self.dense.iter().enumerate().map(|(at, s)| (s.conn.socket_id(), at)).collect());
        }
    }

    /// Takes one out; the last one moves to its place.
    pub(super) fn remove(&mut self, socket_id: SocketId) -> Option<Subscriber> {
        let at = self.position(socket_id)?;
        let gone = self.dense.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&socket_id);
            if let Some(moved) = self.dense.get(at) {
                index.insert(moved.conn.socket_id(), at);
            }
        }
        if self.dense.is_empty() {
            *self = Self::default();
        } else if self.dense.capacity() > 64 && self.dense.len() < self.dense.capacity() / 4 {
            self.dense.shrink_to(self.dense.len() * 2);
            if let Some(index) = &mut self.index {
                index.shrink_to(self.dense.len() * 2);
            }
        }
        Some(gone)
    }

    /// Pushes one shared frame to everybody but `except`; says how many took it.
    pub(super) fn push_all(&self, frame: &WireFrame, except: Option<SocketId>) -> usize {
        let Some(first) = self.dense.first() else { return 0 };
        let frame = first.conn.share(frame);
        let receivers = self.dense.iter().map(|subscriber| &subscriber.conn).filter(|conn| Some(conn.socket_id()) != except);
        if self.dense.len() <= PACED_ABOVE {
            return receivers.filter(|conn| conn.push_shared(frame.clone()) == Pushed::Queued).count();
        }
        let mut crowds = SmallVec::<[(&Arc<Pacer>, Vec<Waker>); 8]>::new();
        let mut queued = 0;
        for conn in receivers {
            let (pushed, waker) = conn.queue_shared(frame.clone());
            queued += usize::from(pushed == Pushed::Queued);
            let Some(waker) = waker else { continue };
            let Some(pacer) = conn.pacer() else {
                waker.wake();
                continue;
            };
            match crowds.iter_mut().find(|(found, _)| Arc::ptr_eq(found, pacer)) {
                Some((_, crowd)) => crowd.push(waker),
                None => crowds.push((pacer, vec![waker])),
            }
        }
        crowds.into_iter().for_each(|(pacer, crowd)| pacer.wake(crowd));
        queued
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Wake},
    };

    use proptest::prelude::*;

    use super::{
        super::conn::tests::{conn, paced},
        *,
    };

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_large_crowd_has_its_frames_at_once_and_is_woken_in_turns() {
        let (pacer, woken) = (Arc::<Pacer>::default(), Arc::<Count>::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut pace = pacer.pace();
        for (crowd, expected) in [(PACED_ABOVE, [PACED_ABOVE - 1, PACED_ABOVE - 1]), (PACED_ABOVE + 1, [0, 32])] {
            let conns: Vec<_> = (0..crowd).map(|n| paced(n as u64, Arc::clone(&pacer))).collect();
            let mut subscribers = Subscribers::default();
            for conn in &conns {
                assert!(conn.outbox().poll_drain(&mut Context::from_waker(&waker), &mut VecDeque::new()).is_pending());
                subscribers.insert(Subscriber { conn: conn.clone(), user_id: None });
            }
            woken.0.store(0, Ordering::Relaxed);
            assert_eq!(subscribers.push_all(&WireFrame::text("x"), Some(conns[7].socket_id())), crowd - 1);
            assert!(conns.iter().enumerate().all(|(n, conn)| conn.outbox().waiting().0 == usize::from(n != 7)));
            let at_once = woken.0.load(Ordering::Relaxed);
            assert!(Pin::new(&mut pace).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!([at_once, woken.0.load(Ordering::Relaxed)], expected, "of {crowd}");
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in proptest::collection::vec((any::<bool>(), 0_u64..40), 0..200)) {
            let conns: Vec<_> = (0..40).map(conn).collect();
            let mut subscribers = Subscribers::default();
            let mut model = std::collections::BTreeSet::new();
            for (add, n) in steps {
                let conn = &conns[n as usize];
                if add && model.insert(n) {
                    subscribers.insert(Subscriber { conn: conn.clone(), user_id: None });
                } else if !add {
                    prop_assert_eq!(subscribers.remove(conn.socket_id()).is_some(), model.remove(&n));
                }
                prop_assert_eq!(subscribers.len(), model.len());
                for (n, conn) in conns.iter().enumerate() {
                    prop_assert_eq!(subscribers.contains(conn.socket_id()), model.contains(&(n as u64)));
                }
            }
        }
    }
}
