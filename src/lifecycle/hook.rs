//! One guarded call of an application's code.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

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
