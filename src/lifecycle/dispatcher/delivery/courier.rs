//! One endpoint at the shard of its application's webhooks: reads ahead, sends, moves the offset over what is done, puts aside.
//!
//! Everything but the requests themselves is done by one task, so that what is read, sent and parked cannot cross.

mod settle;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    super::{
        backoff::{Alarm, backoff},
        raised,
        reader::Reading,
    },
    Route,
    gate::Ticket,
    window::{Batch, Failure, Window},
};
use crate::lifecycle::{
    listener::{Batching, Retry},
    store::{Claim, Step, StoreError},
};

/// How many channels are told at the same time.
const AT_ONCE: usize = 32;
/// So many entries are kept in memory; no more are read.
const MOST_UNFINISHED: usize = 500;
/// So far ahead of the offset it may be: what was taken ahead comes again after a crash.
const MOST_AHEAD: usize = 10_000;
/// How often the offset is written while there is more to do.
const STORE_AFTER: Duration = Duration::from_millis(200);
/// And so many entries at the latest.
const STORE_MANY: i64 = 100;
/// If so many events failed and none was taken, what is too old is given up without a try of its own: an endpoint that hangs would not
/// even see all of them.
const MANY_FAILED: usize = 8;
/// How long to wait when the log is not there that should be.
const READ_AGAIN: Duration = Duration::from_millis(100);
/// After so many failures of a request with several events they are sent one by one.
const SINGLY_AFTER: u32 = 3;
/// How often the same trouble is said again.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// A request that has ended.
struct Landed {
    positions: Vec<i64>,
    ticket: Ticket,
    outcome: Result<(), Retry>,
}

/// A request with several events that failed.
#[derive(Default)]
struct Suspects {
    positions: Vec<i64>,
    failures: u32,
    round: u64,
}

/// See the module.
pub(in crate::lifecycle::dispatcher) struct Courier {
    reading: Arc<Reading>,
    route: Arc<Route>,
    claim: Claim,
    leave: watch::Receiver<bool>,
    window: Window,
    flights: JoinSet<Landed>,
    /// Up to here each event is a request of its own: one of several is to blame.
    singly_until: i64,
    suspects: Suspects,
    /// Which events failed since anything was taken.
    failing: HashSet<i64>,
    /// When the offset was last written.
    stored: Instant,
    /// When a request is due that waits for more events.
    batch_due: Option<Instant>,
    /// What the operator is to see of an outage; once in a round.
    to_note: Option<(u64, String)>,
    noted_round: u64,
    store_errors: u32,
    store_next: Instant,
    alarm: Alarm,
    store_alarm: Alarm,
}

impl Courier {
    pub(in crate::lifecycle::dispatcher) fn new(
        reading: Arc<Reading>,
        route: Arc<Route>,
        claim: Claim,
        leave: watch::Receiver<bool>,
    ) -> Self {
        let now = Instant::now();
        Self {
            reading,
            route,
            claim,
            leave,
            window: Window::default(),
            flights: JoinSet::new(),
            singly_until: 0,
            suspects: Suspects::default(),
            failing: HashSet::new(),
            stored: now,
            batch_due: None,
            to_note: None,
            noted_round: 0,
            store_errors: 0,
            store_next: now,
            alarm: Alarm::every(SAY_EVERY),
            store_alarm: Alarm::every(SAY_EVERY),
        }
    }

    /// Works until the shard is lost, or it is told to leave.
    pub(in crate::lifecycle::dispatcher) async fn run(mut self) {
        let (mut leave, mut heads, route) = (self.leave.clone(), self.reading.node.heads.clone(), Arc::clone(&self.route));
        let shard = usize::try_from(self.claim.shard.0).unwrap_or(0);
        loop {
            // What falls due from here on has not been looked at in this turn.
            let turn = Instant::now();
            if turn >= self.store_next {
                match self.store_and_read().await {
                    Ok(Step::Lost) => return,
                    Ok(Step::Done) => self.store_errors = 0,
                    Err(error) => self.trouble(&error),
                }
            }
            self.send();
            let may_read = Instant::now() >= self.store_next && self.has_room();
            let (wake, read) = (self.wake(turn), self.window.last().unwrap_or(self.claim.position));
            tokio::select! {
                () = raised(&mut leave) => return self.leave().await,
                Some(landed) = self.flights.join_next() => match landed {
                    Ok(landed) => self.land(landed),
                    Err(error) => return tracing::error!(listener.name = %self.reading.name, error = %error, "A request died: {error}"),
                },
                gone = async { heads.wait_for(|heads| heads.get(shard).is_some_and(|head| *head > read)).await.is_err() }, if may_read => {
                    if gone {
                        return;
                    }
                }
                () = route.opened.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            while let Some(Ok(landed)) = self.flights.try_join_next() {
                self.land(landed);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.window.unfinished() < MOST_UNFINISHED && self.window.span() < MOST_AHEAD
    }

    /// When there is something to do though nothing happens: the first that falls due after this.
    fn wake(&self, after: Instant) -> Instant {
        let later = after + Duration::from_secs(3600);
        let offset = self.window.done_upto().map(|_| self.stored + STORE_AFTER);
        let times = [Some(self.store_next), offset, self.route.gate().next_round(), self.batch_due, self.window.next_due(after)];
        times.into_iter().flatten().filter(|time| *time > after).fold(later, Instant::min)
    }

    fn trouble(&mut self, error: &StoreError) {
        self.store_errors = self.store_errors.saturating_add(1);
        self.store_next = Instant::now() + backoff(self.store_errors);
        if self.store_alarm.rings() {
            let (name, shard, position) = (&self.reading.name, self.claim.shard, self.claim.position);
            match matches!(error, StoreError::LogHole { .. } | StoreError::Trimmed { .. }) {
                true => tracing::error!(listener.name = %name, event.shard = %shard, event.position = position, error = %error,
                    "Endpoint {name} cannot go on after {shard}-{position}: {error}. Rewind or drop it."),
                false => tracing::warn!(listener.name = %name, event.shard = %shard, error = %error,
                    "Endpoint {name} cannot read shard {shard}: {error}"),
            }
        }
    }

    /// Lets what is under way end, and writes down how far that is.
    async fn leave(mut self) {
        while let Some(landed) = self.flights.join_next().await {
            landed.into_iter().for_each(|landed| self.land(landed));
        }
        self.judge();
        if let Err(error) = self.settle(true).await {
            tracing::debug!(listener.name = %self.reading.name, error = %error, "An offset was not stored: {error}");
        }
    }

    async fn store_and_read(&mut self) -> Result<Step, StoreError> {
        loop {
            self.judge();
            if self.settle(false).await? == Step::Lost || self.note().await? == Step::Lost {
                return Ok(Step::Lost);
            }
            // What was read may have to be put aside at once.
            if !self.read().await? {
                return Ok(Step::Done);
            }
        }
    }

    fn judge(&mut self) {
        self.window.judge(&mut self.route.gate());
    }

    /// What failed first then or before has kept its channel for long enough.
    fn waited(&self) -> Option<Instant> {
        Instant::now().checked_sub(self.route.endpoint.options().order_for)
    }

    /// Sends what may be sent.
    fn send(&mut self) {
        self.batch_due = None;
        let batching = self.route.endpoint.options().batch;
        let at_once = if batching.is_some() { 1 } else { AT_ONCE };
        while self.flights.len() < at_once && !*self.leave.borrow() {
            let now = Instant::now();
            if !self.route.gate().may_send(now) {
                return;
            }
            let picked = match batching {
                None => self.window.next_single(&self.route.gate(), i64::MAX, now).map(|position| vec![position]),
                Some(batching) => self.next_batch(batching, now),
            };
            let passing = || self.window.next_passing(&self.route.gate(), self.waited()).filter(|_| self.flights.is_empty());
            let Some(positions) = picked.or_else(|| passing().map(|position| vec![position])) else { return };
            let (events, ticket, route) = (self.window.send(&positions), self.route.gate().send(now), Arc::clone(&self.route));
            self.flights.spawn(async move { Landed { outcome: route.attempt(&events).await, positions, ticket } });
        }
    }

    /// One by one while somebody is to be found out; then what failed together, again together; then what has come since.
    fn next_batch(&mut self, batching: Batching, now: Instant) -> Option<Vec<i64>> {
        let gate = self.route.gate();
        if !self.suspects.positions.is_empty() {
            // Others are taken: one of these is to blame.
            if !gate.in_doubt() || self.suspects.failures >= SINGLY_AFTER {
                self.singly_until = self.suspects.positions.last().copied().unwrap_or(0);
                self.suspects = Suspects::default();
            } else if gate.is_due(self.suspects.round) {
                return Some(self.suspects.positions.clone());
            }
        }
        if let Some(position) = self.window.next_single(&gate, self.singly_until, now) {
            return Some(vec![position]);
        }
        let Batch { positions, since, full } = self.window.next_batch(&gate, self.singly_until, batching.most, now)?;
        let due = since + batching.window;
        if full || due <= now {
            return Some(positions);
        }
        self.batch_due = Some(due);
        None
    }

    /// A request has ended.
    fn land(&mut self, landed: Landed) {
        let Landed { positions, ticket, outcome } = landed;
        let now = Instant::now();
        let endpoint = Arc::clone(&self.route.endpoint);
        let name = endpoint.consumer();
        match outcome {
            Ok(()) => {
                if self.route.gate().good(ticket) && self.alarm.has_rung() {
                    tracing::info!(listener.name = name, "Endpoint {name} takes webhooks again");
                }
                self.alarm.reset();
                self.failing.clear();
                if self.suspects.positions == positions {
                    self.suspects = Suspects::default();
                }
                self.window.done(&positions);
            }
            Err(retry) => {
                let round = self.route.gate().bad(ticket, now, &retry);
                self.failing.extend(&positions);
                let next = now + self.route.pace.delay(1, retry.delay());
                self.window.failed(&positions, &Failure { round, at: now, next, error: retry.message() });
                self.to_note = Some((round, retry.message().to_owned()));
                let lasts = self.route.gate().rounds() > 1;
                if let (Some(first), true) = (positions.first(), lasts && self.alarm.rings()) {
                    tracing::warn!(listener.name = name, event.id = %format_args!("{}-{first}", self.claim.shard), error = %retry,
                        "Endpoint {name} does not take {}-{first}: {retry}", self.claim.shard);
                }
                if positions.len() > 1 {
                    let same = self.suspects.positions == positions;
                    let failures = if same { self.suspects.failures + 1 } else { 1 };
                    self.suspects = Suspects { positions, failures, round };
                }
            }
        }
    }
}
