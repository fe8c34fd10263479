//! What became of every event: when it came, and whether each subscriber got each one, once, in order.

use std::collections::{HashSet, VecDeque};

use hdrhistogram::Histogram;

use super::{
    frames::Mark,
    report::{Faults, Latency},
    sink::Sink,
};

/// One publish under way.
#[derive(Clone, Copy, Default)]
struct Flight {
    id: u32,
    sent: u64,
    due: u32,
    lane: u16,
    answered: bool,
}

/// As many flights may be under way; one that is overtaken by so many others is lost.
const FLIGHTS: usize = 1 << 16;

pub(crate) struct Tally {
    lanes: usize,
    flights: Vec<Flight>,
    /// The flight whose answer a lane waits for.
    current: Vec<u32>,
    /// A lane is free as soon as it has its answer, not only when everybody has the event.
    open_loop: bool,
    /// Number that a socket expects next of a lane.
    expected: Vec<u32>,
    /// What each socket saw, in its order, as one number.
    order: Vec<u64>,
    missing: HashSet<(usize, usize, u32)>,
    hint: usize,
    histogram: Histogram<u64>,
    answers: Histogram<u64>,
    faults: Faults,
    pub(crate) deliveries: u64,
    pub(crate) requests: u64,
    /// Publishes that have not been answered, or not fully delivered.
    pub(crate) open: usize,
    /// Lanes that may publish again.
    pub(crate) landed: VecDeque<usize>,
}

impl Tally {
    pub(crate) fn new(sockets: usize, lanes: usize, open_loop: bool) -> Self {
        Self {
            lanes,
            flights: vec![Flight::default(); FLIGHTS],
            current: vec![0; lanes],
            open_loop,
            expected: vec![0; sockets * lanes],
            order: vec![0; sockets],
            missing: HashSet::new(),
            hint: 0,
            histogram: microseconds(),
            answers: microseconds(),
            faults: Faults::default(),
            deliveries: 0,
            requests: 0,
            open: 0,
            landed: VecDeque::new(),
        }
    }

    /// A publish leaves: `due` deliveries are owed, and an answer unless it needs none. Ids begin with 1.
    pub(crate) fn launch(&mut self, id: u32, sent: u64, due: usize, lane: usize, answered: bool) {
        let slot = &mut self.flights[id as usize % FLIGHTS];
        self.faults.lost += u64::from(slot.due);
        self.open -= usize::from(slot.id > 0 && (slot.due > 0 || !slot.answered));
        *slot = Flight { id, sent, due: due as u32, lane: lane as u16, answered };
        if !answered {
            self.current[lane] = id;
        }
        self.open += 1;
    }

    /// Forgets the times so far, and begins to count.
    pub(crate) fn begin(&mut self) {
        self.histogram.reset();
        self.answers.reset();
        (self.deliveries, self.requests) = (0, 0);
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency::of(&self.histogram)
    }

    pub(crate) fn answers(&self) -> Latency {
        Latency::of(&self.answers)
    }

    /// At the end, when nothing comes any more. Sockets `group` apart are on the same channel and must have seen the same order.
    pub(crate) fn faults(&self, group: Option<usize>) -> Faults {
        let owed: u64 = self.flights.iter().map(|flight| u64::from(flight.due)).sum();
        let mut faults = Faults { lost: self.faults.lost + owed, ..self.faults };
        // Whoever lost one has seen another sequence; that is counted already.
        if let Some(channels) = group.filter(|_| faults.lost == 0) {
            let differs = |(at, order): (usize, &u64)| self.order[at % channels] != *order;
            faults.reordered += self.order.iter().enumerate().filter(|pair| differs(*pair)).count() as u64;
        }
        faults
    }

    /// Whether it is the first time that this socket gets this event.
    fn check(&mut self, socket: usize, mark: Mark) -> bool {
        let expected = &mut self.expected[socket * self.lanes + mark.lane];
        if mark.number >= *expected {
            self.missing.extend((*expected..mark.number).map(|number| (socket, mark.lane, number)));
            *expected = mark.number + 1;
        } else if self.missing.remove(&(socket, mark.lane, mark.number)) {
            self.faults.reordered += 1;
        } else {
            self.faults.duplicated += 1;
            return false;
        }
        let order = &mut self.order[socket];
        *order = (order.rotate_left(5) ^ u64::from(mark.flight)).wrapping_mul(0x517c_c1b7_2722_0a95);
        true
    }

    fn land(&mut self, id: u32) {
        let lane = usize::from(self.flights[id as usize % FLIGHTS].lane);
        self.open -= 1;
        if !self.open_loop {
            self.landed.push_back(lane);
        }
    }
}

impl Sink for Tally {
    fn text(&mut self, socket: usize, message: &[u8], now: u64) -> bool {
        let Some(mark) = Mark::find(message, &mut self.hint) else { return false };
        let new = self.check(socket, mark);
        let flight = &mut self.flights[mark.flight as usize % FLIGHTS];
        // One that came before pays no debt: somebody else may still wait for his.
        if !new || flight.id != mark.flight || flight.due == 0 {
            return true;
        }
        flight.due -= 1;
        let done = flight.due == 0 && flight.answered;
        self.histogram.saturating_record(now.saturating_sub(flight.sent) / 1_000);
        self.deliveries += 1;
        if done {
            self.land(mark.flight);
        }
        true
    }

    fn response(&mut self, lane: usize, now: u64) {
        let id = self.current[lane];
        let flight = &mut self.flights[id as usize % FLIGHTS];
        flight.answered = true;
        let (done, sent) = (flight.due == 0, flight.sent);
        self.requests += 1;
        self.answers.saturating_record(now.saturating_sub(sent) / 1_000);
        if self.open_loop {
            self.landed.push_back(lane);
        }
        if done {
            self.land(id);
        }
    }
}

/// From a microsecond to a minute, with three digits.
pub(crate) fn microseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("legal bounds")
}
