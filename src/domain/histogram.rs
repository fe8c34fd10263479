//! How values are spread: counts between fixed bounds, kept without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds for times, in nanoseconds: 100 µs to 10 s.
const TIMES: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Upper bounds for the sizes of batches.
const SIZES: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];
const NANOS: f64 = 1e-9;

/// How often values fell between which bounds. Two relaxed additions per value.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// What one unit of the bounds is worth.
    scale: f64,
    /// One more than there are bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramView {
    /// Each upper bound with how many values lay below it and above the one before; the last bound is [`f64::MAX`].
    pub buckets: Vec<(f64, u64)>,
    /// All values together.
    pub sum: f64,
}

impl HistogramView {
    /// Adds another one of the same bounds.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl Histogram {
    fn new(bounds: &'static [u64], scale: f64) -> Self {
        Self { bounds, scale, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Of times, in seconds.
    pub fn of_times() -> Self {
        Self::new(TIMES, NANOS)
    }

    /// Of sizes.
    pub fn of_sizes() -> Self {
        Self::new(SIZES, 1.0)
    }

    /// Notes one time.
    pub fn took(&self, time: Duration) {
        self.note(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Notes one value in the unit of the bounds.
    pub fn note(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was noted so far.
    pub fn view(&self) -> HistogramView {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 * self.scale).chain([f64::MAX]);
        let buckets = bounds.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        HistogramView { buckets, sum: self.sum.load(Ordering::Relaxed) as f64 * self.scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_at_or_below_its_bound() {
        let sizes = Histogram::of_sizes();
        for value in [0, 1, 2, 3, 1_000, 1_001] {
            sizes.note(value);
        }
        let view = sizes.view();
        let count = |bound: f64| view.buckets.iter().find(|(found, _)| *found == bound).map(|(_, count)| *count);
        assert_eq!((count(1.0), count(2.0), count(5.0), count(1_000.0), count(f64::MAX)), (Some(2), Some(1), Some(1), Some(1), Some(1)));
        assert_eq!((view.count(), view.sum), (6, 2_007.0));
        let times = Histogram::of_times();
        times.took(Duration::from_millis(30));
        let view = times.view();
        assert!((view.sum - 0.03).abs() < 1e-9 && view.buckets[8] == (0.05, 1), "{view:?}");
    }
}
