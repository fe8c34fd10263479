//! When there will be something to sweep, where that is known beforehand: what this node has recorded as vacant, once its delay is over.
//!
//! The sweep looks now and then anyway, for what others left behind. This only makes it look in time.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Moments that lie closer together are one.
const STEP: Duration = Duration::from_millis(200);

/// The moments to come, in order.
#[derive(Debug, Default)]
pub(super) struct Due {
    moments: Mutex<VecDeque<Instant>>,
    first: Notify,
}

impl Due {
    /// There will be something at this moment; not before any that was named earlier.
    pub(super) fn at(&self, moment: Instant) {
        let mut moments = self.moments.lock();
        match moments.back().copied() {
            Some(last) if moment <= last => {}
            Some(last) => moments.push_back(moment.max(last + STEP)),
            None => {
                moments.push_back(moment);
                self.first.notify_one();
            }
        }
    }

    /// Resolves at the next moment.
    pub(super) async fn next(&self) {
        loop {
            let first = self.moments.lock().front().copied();
            match first {
                Some(moment) => {
                    tokio::time::sleep_until(moment).await;
                    self.moments.lock().pop_front();
                    return;
                }
                None => self.first.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moments_that_lie_close_together_are_one_and_none_is_early() {
        let (due, start) = (Due::default(), Instant::now());
        for ms in [100, 110, 120, 299, 900] {
            due.at(start + Duration::from_millis(ms));
        }
        for ms in [100, 300, 900] {
            due.next().await;
            assert_eq!(start.elapsed().as_millis(), ms);
        }
        assert!(tokio::time::timeout(Duration::from_secs(60), due.next()).await.is_err());
        due.at(Instant::now());
        due.next().await;
    }
}
