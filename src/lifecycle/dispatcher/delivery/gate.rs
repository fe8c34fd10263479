//! Whether an endpoint takes anything: what may be sent now, and which failures are an event's own.
//!
//! One rule tells the two apart: an event failed by itself if, since its attempt ended, a request that began later was taken. Until one
//! is, the endpoint is in doubt: a few events of different channels are tried, in rounds that come less and less often, and whichever
//! is taken ends the doubt. What was last tried in an earlier round than that one says nothing: the endpoint has come back since.

use std::time::Duration;

use tokio::time::Instant;

use super::super::backoff::Pace;
use crate::lifecycle::listener::{Fault, Retry};

/// How many requests are tried in one round while the endpoint is in doubt.
const PROBES: usize = 4;

/// An attempt that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) began: Instant,
    round: u64,
}

#[derive(Debug)]
struct Doubt {
    since: Instant,
    /// How many rounds there were, this one included.
    rounds: u32,
    tries_left: usize,
    /// When the next round may begin.
    next: Instant,
    error: String,
}

/// What is known of one endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    pace: Pace,
    doubt: Option<Doubt>,
    /// Rises with each round of each doubt.
    round: u64,
    /// The one in which the last doubt ended.
    ended: u64,
    /// When the newest of the requests that were taken had begun.
    last_good: Option<Instant>,
}

impl Gate {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, doubt: None, round: 0, ended: 0, last_good: None }
    }

    /// Whether one more request may be sent; begins the next round if it is time.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        let pace = self.pace;
        let Some(doubt) = &mut self.doubt else { return true };
        if now >= doubt.next {
            doubt.rounds = doubt.rounds.saturating_add(1);
            doubt.tries_left = PROBES;
            doubt.next = now + pace.delay(doubt.rounds, None);
            self.round += 1;
        }
        doubt.tries_left > 0
    }

    /// Whether something that was last tried in `round` may be tried now: in doubt, once in each round.
    pub(super) fn is_due(&self, round: u64) -> bool {
        self.doubt.is_none() || round != self.round
    }

    /// Begins an attempt.
    pub(super) fn send(&mut self, now: Instant) -> Ticket {
        if let Some(doubt) = &mut self.doubt {
            doubt.tries_left = doubt.tries_left.saturating_sub(1);
        }
        Ticket { began: now, round: self.round }
    }

    /// The attempt was taken. True if that ends a doubt.
    pub(super) fn good(&mut self, ticket: Ticket) -> bool {
        self.last_good = self.last_good.max(Some(ticket.began));
        let ends = self.doubt.take().is_some();
        if ends {
            self.ended = self.round;
        }
        ends
    }

    /// The attempt failed, and it is not known whose fault that is. The round that it counts as tried in.
    pub(super) fn bad(&mut self, ticket: Ticket, now: Instant, retry: &Retry) -> u64 {
        let closes = retry.fault() == Fault::Outage;
        match &mut self.doubt {
            None => {
                self.round += 1;
                self.doubt = Some(Doubt {
                    since: now,
                    rounds: 1,
                    tries_left: if closes { 0 } else { PROBES - 1 },
                    next: now + self.pace.delay(1, retry.delay()),
                    error: retry.to_string(),
                });
            }
            Some(doubt) => {
                if closes {
                    doubt.tries_left = 0;
                }
                // What was under way when the doubt began says nothing new, but for the wait that is asked for.
                let wait = if ticket.round == self.round {
                    self.pace.delay(doubt.rounds, retry.delay())
                } else {
                    retry.delay().unwrap_or_default()
                };
                doubt.next = doubt.next.max(now + wait);
                doubt.error = retry.to_string();
            }
        }
        self.round
    }

    /// Whether something was taken that began after `failed`.
    pub(super) fn took_since(&self, failed: Instant) -> bool {
        self.last_good.is_some_and(|good| good > failed)
    }

    /// All that failed did so by itself: nothing speaks against the endpoint, nor is anything left whose next try could.
    pub(super) fn acquit(&mut self) {
        self.doubt = None;
    }

    /// Whether the doubt that something last failed in, in `round`, went on in later rounds and is over.
    pub(super) fn has_come_back_since(&self, round: u64) -> bool {
        round < self.ended
    }

    /// How many rounds the doubt has had.
    pub(super) fn rounds(&self) -> u32 {
        self.doubt.as_ref().map_or(0, |doubt| doubt.rounds)
    }

    /// Begins an attempt at something that is known to fail by itself: it says nothing of the endpoint unless it is taken.
    pub(super) fn send_beside(&self, now: Instant) -> Ticket {
        Ticket { began: now, round: self.round }
    }

    pub(super) fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// When the next round may begin.
    pub(super) fn next_round(&self) -> Option<Instant> {
        self.doubt.as_ref().map(|doubt| doubt.next)
    }

    /// For how long nothing was taken, and why.
    pub(super) fn outage(&self, now: Instant) -> Option<(Duration, &str)> {
        self.doubt.as_ref().map(|doubt| (now.duration_since(doubt.since), doubt.error.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails() -> Retry {
        Retry::new("500")
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_takes_nothing_is_tried_in_rounds_that_come_less_often() {
        let mut gate = Gate::new(Pace::WEBHOOKS);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let mut tries = 0;
            while gate.may_send(Instant::now()) {
                let ticket = gate.send(Instant::now());
                gate.bad(ticket, Instant::now(), &fails());
                tries += 1;
            }
            assert_eq!(tries, PROBES);
            let wait = gate.next_round().unwrap() - Instant::now();
            waits.push(wait.as_secs_f64());
            tokio::time::advance(wait).await;
        }
        for (wait, expected) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!((expected * 0.79..expected * 1.21).contains(wait), "{waits:?}");
        }
        assert!(gate.may_send(Instant::now()));
        let ticket = gate.send(Instant::now());
        assert!(gate.good(ticket), "one that is taken ends the doubt");
        assert!(!gate.in_doubt() && (0..100).all(|_| gate.may_send(Instant::now())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_that_it_serves_nobody_is_not_tried_with_anything_else_and_gets_its_time() {
        let mut gate = Gate::new(Pace::WEBHOOKS);
        let ticket = gate.send(Instant::now());
        gate.bad(ticket, Instant::now(), &Retry::unavailable("503").after(Duration::from_secs(30)));
        assert!(!gate.may_send(Instant::now()));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(!gate.may_send(Instant::now()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(gate.may_send(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_failed_by_itself_if_one_that_was_sent_later_was_taken() {
        let mut gate = Gate::new(Pace::WEBHOOKS);
        let (poison, early) = (gate.send(Instant::now()), gate.send(Instant::now()));
        tokio::time::advance(Duration::from_millis(10)).await;
        let failed = Instant::now();
        let round = gate.bad(poison, failed, &fails());
        assert!(!gate.is_due(round), "it had its try in this round");
        gate.good(early);
        assert!(!gate.took_since(failed), "that one may have been taken before the endpoint fell over");
        assert!(gate.is_due(round));
        tokio::time::advance(Duration::from_millis(10)).await;
        let later = gate.send(Instant::now());
        gate.good(later);
        assert!(gate.took_since(failed));
    }
}
