//! Whether a client is still there (protocol.md 1.3), and how often it may speak (3).

use std::time::{Duration, Instant};

/// A look that comes so much too late says that nobody was listening: the process stood still, or a hook was at work.
const LATE: Duration = Duration::from_millis(500);

/// Watches one connection. Any inbound frame counts as life.
#[derive(Debug)]
pub(super) struct Liveness {
    ping_interval: Duration,
    pong_timeout: Duration,
    last_seen: Instant,
    pinged_at: Option<Instant>,
}

/// What to do now, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// All is well until then.
    Fine(Instant),
    /// Send a ping, and look again then.
    Ping(Instant),
    /// The last ping was not answered in time.
    Lost,
}

impl Liveness {
    pub(super) fn new(ping_interval: Duration, pong_timeout: Duration, now: Instant) -> Self {
        Self { ping_interval, pong_timeout, last_seen: now, pinged_at: None }
    }

    /// A frame came in.
    pub(super) fn seen(&mut self, now: Instant) {
        self.last_seen = now;
        self.pinged_at = None;
    }

    /// A pong came in: the time since the ping, if it was asked for.
    pub(super) fn ponged(&mut self, now: Instant) -> Option<Duration> {
        let pinged_at = self.pinged_at;
        self.seen(now);
        pinged_at.map(|at| now.saturating_duration_since(at))
    }

    pub(super) fn check(&mut self, now: Instant) -> Pulse {
        if let Some(pinged_at) = self.pinged_at {
            let deadline = pinged_at + self.pong_timeout;
            if now < deadline {
                return Pulse::Fine(deadline);
            }
            if now < deadline + LATE {
                return Pulse::Lost;
            }
            // The pong may have come long ago, and wait to be read.
            self.pinged_at = Some(now);
            return Pulse::Fine(now + self.pong_timeout);
        }
        let due = self.last_seen + self.ping_interval;
        if now < due {
            return Pulse::Fine(due);
        }
        self.pinged_at = Some(now);
        Pulse::Ping(now + self.pong_timeout)
    }
}

/// A token bucket: `per_second` at once, and as many again each second.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: u32,
    tokens: f64,
    filled_at: Instant,
}

impl RateLimit {
    /// 0 is no limit.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, tokens: f64::from(per_second), filled_at: now }
    }

    /// Another limit from here on; what was used up of the former one stays used up.
    pub(super) fn change(&mut self, per_second: u32, now: Instant) {
        if self.per_second == 0 {
            *self = Self::new(per_second, now);
        }
        self.per_second = per_second;
        self.tokens = self.tokens.min(f64::from(per_second));
    }

    /// Takes one token, if there is one.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let capacity = f64::from(self.per_second);
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * capacity).min(capacity);
        self.filled_at = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_client_is_pinged_and_then_lost() {
        let start = Instant::now();
        let mut liveness = Liveness::new(25 * SECOND, 10 * SECOND, start);
        assert_eq!(liveness.check(start + 24 * SECOND), Pulse::Fine(start + 25 * SECOND));
        assert_eq!(liveness.check(start + 25 * SECOND), Pulse::Ping(start + 35 * SECOND));
        assert_eq!(liveness.check(start + 34 * SECOND), Pulse::Fine(start + 35 * SECOND));
        assert_eq!(liveness.check(start + 35 * SECOND), Pulse::Lost);
    }

    #[test]
    fn whoever_was_not_listened_to_gets_its_time_once_more() {
        let start = Instant::now();
        let mut liveness = Liveness::new(25 * SECOND, 10 * SECOND, start);
        liveness.check(start + 25 * SECOND);
        assert_eq!(liveness.check(start + 60 * SECOND), Pulse::Fine(start + 70 * SECOND), "the broker stood still");
        assert_eq!(liveness.check(start + 70 * SECOND), Pulse::Lost, "now it was listened to");
    }

    #[test]
    fn any_frame_is_life() {
        let start = Instant::now();
        let mut liveness = Liveness::new(25 * SECOND, 10 * SECOND, start);
        liveness.check(start + 25 * SECOND);
        liveness.seen(start + 26 * SECOND);
        assert_eq!(liveness.check(start + 35 * SECOND), Pulse::Fine(start + 51 * SECOND));
        assert_eq!(liveness.ponged(start + 36 * SECOND), None, "nobody had asked");
        liveness.check(start + 61 * SECOND);
        assert_eq!(liveness.ponged(start + 63 * SECOND), Some(2 * SECOND));
    }

    #[test]
    fn another_limit_does_not_give_what_was_used_up_again() {
        let start = Instant::now();
        let mut rate = RateLimit::new(10, start);
        assert_eq!((0..8).filter(|_| rate.allow(start)).count(), 8);
        rate.change(20, start);
        assert_eq!((0..20).filter(|_| rate.allow(start)).count(), 2);
        rate.change(5, start);
        assert_eq!((0..20).filter(|_| rate.allow(start + SECOND)).count(), 5);
        rate.change(0, start + SECOND);
        assert!((0..1_000).all(|_| rate.allow(start + SECOND)));
        rate.change(3, start + SECOND);
        assert_eq!((0..20).filter(|_| rate.allow(start + SECOND)).count(), 3);
    }

    #[test]
    fn ten_at_once_and_ten_a_second() {
        let start = Instant::now();
        let mut rate = RateLimit::new(10, start);
        assert_eq!((0..11).filter(|_| rate.allow(start)).count(), 10);
        assert!(!rate.allow(start + SECOND / 20));
        assert!(rate.allow(start + SECOND / 10));
        assert_eq!((0..50).filter(|_| rate.allow(start + 60 * SECOND)).count(), 10);
        let mut unlimited = RateLimit::new(0, start);
        assert!((0..1_000).all(|_| unlimited.allow(start)));
    }
}
