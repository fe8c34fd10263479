//! One guarded call of an application's code.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::{Instant, Sleep, sleep_until},
};

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
    pub(crate) fn guarded<F: Future>(
        &self,
        hook: Hook,
        limit: Duration,
        call: F,
    ) -> impl Future<Output = Result<F::Output, HookFailure>> + use<'_, F> {
        Guarded { counted: Some((self, hook)), ..Guarded::new(limit, call) }
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
pub(crate) fn guarded<F: Future>(limit: Duration, hook: F) -> impl Future<Output = Result<F::Output, HookFailure>> {
    Guarded::new(limit, hook)
}

pin_project! {
    /// Written by hand, because nested async blocks keep a copy of the hook each, and a timer beside it, for hooks that as a rule answer at once.
    struct Guarded<'a, F> {
        // Until it has answered, or its time is up.
        #[pin]
        hook: Option<F>,
        began: Instant,
        limit: Duration,
        timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
        counted: Option<(&'a HookStats, Hook)>,
    }
}

impl<F> Guarded<'_, F> {
    fn new(limit: Duration, hook: F) -> Self {
        Self { hook: Some(hook), began: Instant::now(), limit, timer: None, counted: None }
    }
}

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Result<F::Output, HookFailure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let Some(hook) = this.hook.as_mut().as_pin_mut() else { return Poll::Pending };
            let answer = match hook.poll(cx) {
                Poll::Ready(answer) => Ok(answer),
                Poll::Pending => {
                    let (began, limit) = (*this.began, *this.limit);
                    let timer = this.timer.get_or_insert_with(|| Box::pin(unconstrained(sleep_until(began + limit))));
                    ready!(timer.as_mut().poll(cx));
                    Err(HookFailure::TimedOut)
                }
            };
            // The hook is dropped in here, too: what it leaves behind may panic as well, and nobody else would stop that.
            this.hook.set(None);
            Poll::Ready(answer)
        }));
        let answer = match answer {
            Ok(answer) => ready!(answer),
            Err(_panic) => {
                // What is left of it may panic once more, and says nothing new.
                let _ = catch_unwind(AssertUnwindSafe(|| this.hook.set(None)));
                Err(HookFailure::Panicked)
            }
        };
        Poll::Ready(match *this.counted {
            Some((stats, hook)) => stats.count(hook, *this.began, answer),
            None => answer,
        })
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
