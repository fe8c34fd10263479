//! One guarded call of an application's code.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use crate::domain::{Counts, Histogram, HistogramView, Hook};

/// Why a hook gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HookFailure {
    /// It panicked; the panic is in the log, by way of the panic hook.
    #[error("the handler panicked")]
    Panicked,
    /// It took longer than its limit and was dropped.
    #[error("the handler took too long")]
    TimedOut,
}

impl HookFailure {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Panicked, Self::TimedOut];

    /// A word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
        }
    }
}

/// How long the hooks of a server's handler took, and how often they failed.
#[derive(Debug)]
pub(crate) struct HookStats {
    times: [Histogram; Hook::ALL.len()],
    failures: [Counts<{ Hook::ALL.len() }>; HookFailure::ALL.len()],
}

impl Default for HookStats {
    fn default() -> Self {
        Self { times: std::array::from_fn(|_| Histogram::of_times()), failures: Default::default() }
    }
}

impl HookStats {
    /// As [`guarded`], and counted.
    pub(crate) async fn guarded<T>(&self, hook: Hook, limit: Duration, call: impl Future<Output = T>) -> Result<T, HookFailure> {
        let began = Instant::now();
        self.count(hook, began, guarded(limit, call).await)
    }

    /// The same for a hook that cannot wait.
    pub(crate) fn guarded_now<T>(&self, hook: Hook, call: impl FnOnce() -> T) -> Result<T, HookFailure> {
        let began = Instant::now();
        self.count(hook, began, catch_unwind(AssertUnwindSafe(call)).map_err(|_panic| HookFailure::Panicked))
    }

    fn count<T>(&self, hook: Hook, began: Instant, answer: Result<T, HookFailure>) -> Result<T, HookFailure> {
        self.times[hook as usize].took(began.elapsed());
        answer.inspect_err(|failure| self.failures[*failure as usize].add(hook as usize))
    }

    /// How long the calls of each hook took.
    pub(crate) fn times(&self) -> impl Iterator<Item = (Hook, HistogramView)> {
        Hook::ALL.iter().map(|hook| (*hook, self.times[*hook as usize].view()))
    }

    /// How often each hook failed, and how.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (Hook, HookFailure, u64)> {
        let of = |hook: Hook| HookFailure::ALL.map(|failure| (hook, failure, self.failures[failure as usize].get(hook as usize)));
        Hook::ALL.iter().flat_map(move |hook| of(*hook))
    }
}

/// Runs a hook with a time limit, and stops a panic in it.
///
/// # Errors
/// [`HookFailure`] when there is no answer.
pub(crate) async fn guarded<T>(limit: Duration, hook: impl Future<Output = T>) -> Result<T, HookFailure> {
    // The hook is dropped inside, too: what it leaves behind when its time is up may panic as well, and nobody else would stop that.
    match AssertUnwindSafe(async move { tokio::time::timeout(limit, hook).await }).catch_unwind().await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_elapsed)) => Err(HookFailure::TimedOut),
        Err(_panic) => Err(HookFailure::Panicked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_hangs_or_panics_is_an_answer_too() {
        let limit = Duration::from_secs(5);
        assert_eq!(guarded(limit, async { 1 }).await, Ok(1));
        assert_eq!(guarded(limit, std::future::pending::<()>()).await, Err(HookFailure::TimedOut));
        assert_eq!(guarded(limit, async { panic!("on purpose") }).await, Err::<(), _>(HookFailure::Panicked));
    }

    #[tokio::test(start_paused = true)]
    async fn what_became_of_a_hook_is_counted_under_its_name() {
        let (stats, limit) = (HookStats::default(), Duration::from_secs(5));
        assert_eq!(stats.guarded(Hook::OnOpen, limit, async { 1 }).await, Ok(1));
        assert!(stats.guarded(Hook::OnOpen, limit, std::future::pending::<()>()).await.is_err());
        assert!(stats.guarded_now(Hook::OnPong, || panic!("on purpose")).is_err());
        let times: Vec<_> = stats.times().map(|(hook, view)| (hook.as_str(), view.count())).filter(|(_, count)| *count > 0).collect();
        assert_eq!(times, [("on_open", 2), ("on_pong", 1)]);
        let failures: Vec<_> = stats.failures().filter(|(.., count)| *count > 0).collect();
        assert_eq!(failures, [(Hook::OnOpen, HookFailure::TimedOut, 1), (Hook::OnPong, HookFailure::Panicked, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_hangs_and_then_panics_when_it_is_dropped_is_an_answer_too() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let hook = async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        };
        assert_eq!(guarded(Duration::from_secs(5), hook).await, Err(HookFailure::Panicked));
    }
}
