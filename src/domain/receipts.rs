//! Which client events of an application have been delivered lately, so that one that is sent again is acknowledged again and not
//! delivered again.
//!
//! An id is *at work* from [`Receipts::begin`] until its [`Receipt`] is done (it was delivered, and is remembered) or dropped (it was
//! refused, or its connection ended first: nothing is remembered, and it may be sent again). Whoever sends it meanwhile over another
//! connection waits for that. What is at work is bounded by the connections, of which each handles one event at a time; what is remembered
//! is bounded here, and beyond the bound the oldest is forgotten before its time, and counted.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::protocol::{ReceiptId, SocketId};

/// Whose ids they are: ids of two senders have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// A signed-in user, over all its connections.
    User(Arc<str>),
    /// A connection that is not signed in.
    Socket(SocketId),
}

/// How many ids are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    /// Of one sender.
    of_sender: usize,
    /// Of the application, on this node.
    of_app: usize,
}

const BOUNDS: Bounds = Bounds { of_sender: 1_024, of_app: 65_536 };

/// The ids of one application on this node.
#[derive(Debug)]
pub struct Receipts {
    bounds: Bounds,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    senders: HashMap<Sender, Ids>,
    /// When each was delivered, the oldest first. What a sender's own bound has pushed out still stands here until its turn.
    order: VecDeque<Delivered>,
    /// Numbers attempts and deliveries.
    next: u64,
    remembered: usize,
    forgotten: u64,
}

#[derive(Debug)]
struct Delivered {
    at: Instant,
    number: u64,
    sender: Sender,
}

#[derive(Debug, Default)]
struct Ids {
    known: HashMap<ReceiptId, State>,
    /// Those that were delivered, the oldest first.
    delivered: VecDeque<(u64, ReceiptId)>,
}

#[derive(Debug)]
enum State {
    AtWork { attempt: u64, waiting: Vec<Waker> },
    Delivered,
}

/// What is to be done about an event.
#[derive(Debug)]
pub enum Begun {
    /// Deliver it, and say so to the receipt.
    First(Receipt),
    /// It was delivered before.
    Duplicate,
    /// Another connection of the sender is just at it: wait, then ask again.
    AtWork(Unfinished),
}

impl Default for Receipts {
    fn default() -> Self {
        Self::bounded(BOUNDS)
    }
}

impl Receipts {
    fn bounded(bounds: Bounds) -> Self {
        Self { bounds, window: Mutex::default() }
    }

    /// A sender wants to deliver an event; what was delivered within `window` is remembered.
    pub fn begin(self: &Arc<Self>, sender: Sender, id: ReceiptId, window: Duration, now: Instant) -> Begun {
        let mut state = self.window.lock();
        state.expire(window, now);
        let attempt = state.number();
        let place = Place { receipts: Arc::clone(self), sender: sender.clone(), id: id.clone(), attempt };
        match state.senders.entry(sender).or_default().known.entry(id) {
            Entry::Vacant(free) => {
                free.insert(State::AtWork { attempt, waiting: Vec::new() });
                Begun::First(Receipt(Some(place)))
            }
            Entry::Occupied(known) => match known.get() {
                State::Delivered => Begun::Duplicate,
                State::AtWork { attempt, .. } => Begun::AtWork(Unfinished(Place { attempt: *attempt, ..place })),
            },
        }
    }

    /// Forgets what is older than the window. To be called now and then, so that those who are silent cost nothing.
    pub fn expire(&self, window: Duration, now: Instant) {
        self.window.lock().expire(window, now);
    }

    /// How many ids are remembered.
    pub fn remembered(&self) -> usize {
        self.window.lock().remembered
    }

    /// How many were forgotten before their time, because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.window.lock().forgotten
    }
}

impl Window {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn expire(&mut self, window: Duration, now: Instant) {
        while self.order.front().is_some_and(|oldest| now.saturating_duration_since(oldest.at) >= window) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest of all; false if its sender has forgotten it already.
    fn forget_oldest(&mut self) -> bool {
        let Some(Delivered { number, sender, .. }) = self.order.pop_front() else { return false };
        let Some(ids) = self.senders.get_mut(&sender) else { return false };
        let is_live = ids.delivered.front().is_some_and(|(oldest, _)| *oldest == number);
        if is_live {
            ids.forget_oldest();
            self.remembered -= 1;
        }
        if ids.known.is_empty() {
            self.senders.remove(&sender);
        }
        is_live
    }

    /// The attempt is over: it has delivered its event, or not. Gives who waited for that.
    fn end(&mut self, place: &Place, delivered_at: Option<Instant>, bounds: Bounds) -> Vec<Waker> {
        let Some(ids) = self.senders.get_mut(&place.sender) else { return Vec::new() };
        let Some(State::AtWork { waiting, .. }) = ids.known.remove(&place.id) else { return Vec::new() };
        let Some(at) = delivered_at else {
            if ids.known.is_empty() {
                self.senders.remove(&place.sender);
            }
            return waiting;
        };
        self.next += 1;
        let number = self.next;
        ids.known.insert(place.id.clone(), State::Delivered);
        ids.delivered.push_back((number, place.id.clone()));
        if ids.delivered.len() > bounds.of_sender {
            ids.forget_oldest();
            self.forgotten += 1;
        } else {
            self.remembered += 1;
        }
        self.order.push_back(Delivered { at, number, sender: place.sender.clone() });
        if self.order.len() > bounds.of_app && self.forget_oldest() {
            self.forgotten += 1;
        }
        waiting
    }
}

impl Ids {
    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.delivered.pop_front() {
            self.known.remove(&id);
        }
    }
}

/// An attempt at one id.
#[derive(Debug)]
struct Place {
    receipts: Arc<Receipts>,
    sender: Sender,
    id: ReceiptId,
    attempt: u64,
}

impl Place {
    fn end(&self, delivered_at: Option<Instant>) {
        let waiting = self.receipts.window.lock().end(self, delivered_at, self.receipts.bounds);
        // Not under the lock: whoever is woken takes it.
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The right to deliver an event. Dropped without [`Receipt::done`], nothing of it is remembered.
#[must_use = "an event that is not said to be done may be delivered again"]
#[derive(Debug)]
pub struct Receipt(Option<Place>);

impl Receipt {
    /// The event was delivered.
    pub fn done(mut self, now: Instant) {
        if let Some(place) = self.0.take() {
            place.end(Some(now));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            place.end(None);
        }
    }
}

/// An event that another connection of its sender is at; ready when that is over, however it ended.
#[must_use = "it has to be waited for"]
#[derive(Debug)]
pub struct Unfinished(Place);

impl Future for Unfinished {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Place { receipts, sender, id, attempt } = &self.0;
        let mut window = receipts.window.lock();
        let state = window.senders.get_mut(sender).and_then(|ids| ids.known.get_mut(id));
        match state {
            Some(State::AtWork { attempt: current, waiting }) if current == attempt => {
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
#[path = "receipts_tests.rs"]
mod tests;
