//! How long to wait after a failure, and how often to say so.

use std::time::Duration;

use tokio::time::Instant;

/// How fast waits grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The first wait; each is twice as long as the one before.
    pub(crate) first: Duration,
    /// The longest.
    pub(crate) longest: Duration,
}

impl Pace {
    /// Of ordinary listeners.
    const LISTENERS: Self = Self { first: Duration::from_millis(100), longest: Duration::from_secs(30) };
    /// Of webhooks, as senders of webhooks do it.
    pub(crate) const WEBHOOKS: Self = Self { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

    /// How long to wait after the n-th failure; a fifth more or less, so that what failed together does not come back together. Longer
    /// if it was asked for.
    pub(super) fn delay(self, failures: u32, asked: Option<Duration>) -> Duration {
        let step = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(self.longest);
        let dice = getrandom::u32().unwrap_or(u32::MAX / 2);
        step.mul_f64(0.8 + 0.4 * f64::from(dice) / f64::from(u32::MAX)).max(asked.unwrap_or_default())
    }
}

/// 0.1 s after the first failure, then twice as long each time, up to 30 s.
pub(super) fn backoff(failures: u32) -> Duration {
    Pace::LISTENERS.delay(failures, None)
}

/// The back-off, unless the listener asked for longer.
pub(super) fn delay(failures: u32, asked: Option<Duration>) -> Duration {
    Pace::LISTENERS.delay(failures, asked)
}

/// Something that would be said at every attempt is said once in a while.
#[derive(Debug)]
pub(super) struct Alarm {
    every: Duration,
    said: Option<Instant>,
}

impl Alarm {
    pub(super) fn every(every: Duration) -> Self {
        Self { every, said: None }
    }

    /// True if it is time to say it again.
    pub(super) fn rings(&mut self) -> bool {
        let rings = self.said.is_none_or(|said| said.elapsed() >= self.every);
        if rings {
            self.said = Some(Instant::now());
        }
        rings
    }

    /// Whether it was said since it was last over.
    pub(super) fn has_rung(&self) -> bool {
        self.said.is_some()
    }

    /// It is over: the next time it is said at once.
    pub(super) fn reset(&mut self) {
        self.said = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_half_a_minute() {
        for (failures, expected) in [(1, 100), (2, 200), (5, 1600), (9, 25_600), (10, 30_000), (u32::MAX, 30_000)] {
            let (least, most) = (Duration::from_millis(expected * 79 / 100), Duration::from_millis(expected * 121 / 100));
            assert!((least..most).contains(&backoff(failures)), "{failures}");
        }
        assert_eq!(delay(1, Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert!(delay(10, Some(Duration::from_secs(1))) > Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_once_in_a_while() {
        let mut alarm = Alarm::every(Duration::from_secs(60));
        assert!(alarm.rings());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!alarm.rings());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(alarm.rings());
        alarm.reset();
        assert!(alarm.rings());
    }
}
