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
    match tokio::time::timeout(limit, AssertUnwindSafe(hook).catch_unwind()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_panic)) => Err(HookFailure::Panicked),
        Err(_elapsed) => Err(HookFailure::TimedOut),
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
}
