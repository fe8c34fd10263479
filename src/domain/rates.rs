//! How fast an application may publish and ask over HTTP.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use super::AppLimits;

/// The rates of one application on this node.
#[derive(Debug)]
pub struct Rates {
    publishes: Option<Rate>,
    reads: Option<Rate>,
}

#[derive(Debug)]
struct Rate {
    per_second: u32,
    limiter: DefaultDirectRateLimiter,
}

/// A rate is exceeded; nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// The limit, per second.
    pub per_second: u32,
    /// When to try again.
    pub after: Duration,
}

impl Rates {
    pub(super) fn new(limits: &AppLimits) -> Self {
        // A batch is published whole or not at all, so that the largest one has to fit.
        let largest = u32::try_from(limits.max_batch).unwrap_or(u32::MAX);
        Self { publishes: Rate::new(limits.publishes_per_second, largest), reads: Rate::new(limits.reads_per_second, 1) }
    }

    /// Counts events that are to be published.
    ///
    /// # Errors
    /// [`TooFast`].
    pub fn publish(&self, events: usize) -> Result<(), TooFast> {
        self.publishes.as_ref().map_or(Ok(()), |rate| rate.take(u32::try_from(events).unwrap_or(u32::MAX)))
    }

    /// Counts a question.
    ///
    /// # Errors
    /// [`TooFast`].
    pub fn read(&self) -> Result<(), TooFast> {
        self.reads.as_ref().map_or(Ok(()), |rate| rate.take(1))
    }
}

impl Rate {
    /// `per_second`, and as many at once, but no less than `largest`; 0 is no limit.
    fn new(per_second: u32, largest: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?).allow_burst(NonZeroU32::new(per_second.max(largest))?);
        Some(Self { per_second, limiter: RateLimiter::direct(quota) })
    }

    fn take(&self, count: u32) -> Result<(), TooFast> {
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let too_fast = |after| Err(TooFast { per_second: self.per_second, after });
        match self.limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => too_fast(until.wait_time_from(DefaultClock::default().now())),
            // Larger than a batch can be.
            Err(_) => too_fast(Duration::from_secs(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_at_once_as_in_a_second_and_then_it_says_when() {
        let rates = Rates::new(&AppLimits { publishes_per_second: 5, max_batch: 3, ..AppLimits::default() });
        assert_eq!((rates.publish(3), rates.publish(2)), (Ok(()), Ok(())));
        let refused = rates.publish(1).unwrap_err();
        assert_eq!(refused.per_second, 5);
        assert!(refused.after <= Duration::from_millis(200), "{refused:?}");
        assert!((0..1_000).all(|_| rates.read().is_ok()), "there is no limit");
    }

    #[test]
    fn the_largest_batch_fits_however_slow_the_rate() {
        let rates = Rates::new(&AppLimits { publishes_per_second: 1, max_batch: 10, ..AppLimits::default() });
        assert_eq!(rates.publish(10), Ok(()));
        assert!(rates.publish(10).unwrap_err().after > Duration::from_secs(8));
    }
}
