//! The pace at which a large fan-out wakes the connections of one worker.
//!
//! A worker runs what is woken in the order of the waking. Ten thousand connections that are woken at once are therefore ten thousand writes
//! before the next request is even read. So they are woken a few at a time: [`Pacer`] keeps the rest, and whatever else the worker has to do
//! has its turn in between.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    vec,
};

use parking_lot::Mutex;

/// Connections that are woken in one turn. Each costs some microseconds, most of them the kernel's.
const TURN: usize = 32;

/// Who waits to be woken on one worker. Without a [`Pace`] nobody waits.
#[derive(Debug, Default)]
pub struct Pacer(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    paced: bool,
    crowds: VecDeque<vec::IntoIter<Waker>>,
    pace: Option<Waker>,
}

/// What keeps the pace: to be polled on the worker for as long as it runs.
#[derive(Debug)]
#[must_use = "nobody is woken unless it is polled"]
pub struct Pace(Arc<Pacer>);

impl Pacer {
    /// From here on, crowds wait for their turn.
    pub fn pace(self: &Arc<Self>) -> Pace {
        self.0.lock().paced = true;
        Pace(Arc::clone(self))
    }

    /// Wakes all of these, in their order, soon.
    pub fn wake(&self, crowd: Vec<Waker>) {
        let mut waiting = self.0.lock();
        if !waiting.paced {
            drop(waiting);
            return crowd.into_iter().for_each(Waker::wake);
        }
        waiting.crowds.push_back(crowd.into_iter());
        let pace = waiting.pace.take();
        drop(waiting);
        if let Some(pace) = pace {
            pace.wake();
        }
    }
}

impl Waiting {
    fn next(&mut self) -> Option<Waker> {
        loop {
            if let Some(waker) = self.crowds.front_mut()?.next() {
                return Some(waker);
            }
            self.crowds.pop_front();
        }
    }
}

impl Future for Pace {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Woken without the lock: a waker may be of another thread, and take locks of its own.
        let mut turn = [const { None }; TURN];
        let mut waiting = self.0.0.lock();
        turn.iter_mut().for_each(|place| *place = waiting.next());
        let all = turn.iter().any(Option::is_none);
        waiting.pace = all.then(|| cx.waker().clone());
        drop(waiting);
        turn.into_iter().flatten().for_each(Waker::wake);
        if !all {
            // Behind those who have just been woken, and behind whatever else waits.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// The worker ends: nobody may be left waiting.
impl Drop for Pace {
    fn drop(&mut self) {
        let mut waiting = self.0.0.lock();
        waiting.paced = false;
        waiting.pace = None;
        let crowds = std::mem::take(&mut waiting.crowds);
        drop(waiting);
        crowds.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        fn crowd(self: &Arc<Self>, size: usize) -> Vec<Waker> {
            (0..size).map(|_| Waker::from(Arc::clone(self))).collect()
        }
    }

    #[test]
    fn without_a_pace_nobody_waits() {
        let (pacer, woken) = (Pacer::default(), Arc::<Count>::default());
        pacer.wake(woken.crowd(100));
        assert_eq!(woken.get(), 100);
    }

    #[test]
    fn a_crowd_is_woken_a_few_at_a_time_and_the_next_one_behind_it() {
        let (pacer, [one, two, own]) = (Arc::<Pacer>::default(), std::array::from_fn(|_| Arc::<Count>::default()));
        let mut pace = pacer.pace();
        let waker = Waker::from(Arc::clone(&own));
        let mut turn = || assert!(Pin::new(&mut pace).poll(&mut Context::from_waker(&waker)).is_pending());
        turn();
        assert_eq!(own.get(), 0, "there is nothing to do");
        pacer.wake(one.crowd(TURN + 1));
        pacer.wake(two.crowd(TURN));
        assert_eq!((one.get(), two.get(), own.get()), (0, 0, 1), "it is called once");
        turn();
        assert_eq!((one.get(), two.get(), own.get()), (TURN, 0, 2), "and calls itself as long as somebody waits");
        turn();
        assert_eq!((one.get(), two.get(), own.get()), (TURN + 1, TURN - 1, 3));
        turn();
        assert_eq!((one.get(), two.get(), own.get()), (TURN + 1, TURN, 3));
        pacer.wake(one.crowd(1));
        assert_eq!((one.get(), own.get()), (TURN + 1, 4), "it is called again");
    }

    #[test]
    fn who_waits_is_woken_when_the_pace_ends() {
        let (pacer, woken) = (Arc::<Pacer>::default(), Arc::<Count>::default());
        let pace = pacer.pace();
        pacer.wake(woken.crowd(100));
        assert_eq!(woken.get(), 0);
        drop(pace);
        assert_eq!(woken.get(), 100);
        pacer.wake(woken.crowd(1));
        assert_eq!(woken.get(), 101);
    }
}
