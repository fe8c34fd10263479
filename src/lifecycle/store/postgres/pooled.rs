//! A connection of a pool, used and given back within time limits.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::{runtime::Handle, time::timeout};

/// A connection that goes back to its pool when this is dropped.
///
/// The pool tries what comes back, without a limit of its own, and its place stays taken meanwhile: where packets go nowhere, as long as
/// TCP hopes, which is a quarter of an hour. So it has this long for it, and is thrown away then.
pub(crate) struct Pooled {
    connection: PoolConnection<Postgres>,
    limit: Duration,
    doubtful: bool,
}

impl Pooled {
    /// Waits for one, as long as the pool's own limit says.
    pub(crate) async fn of(pool: &PgPool, limit: Duration) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: pool.acquire().await?, limit, doubtful: false })
    }

    /// It is not to be used again: an answer is missing.
    pub(crate) fn throw_away(mut self) {
        self.connection.close_on_drop();
        self.doubtful = true;
    }
}

impl Deref for Pooled {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if self.doubtful {
            return;
        }
        // Without a runtime there is nobody to try it: it is closed with what gives it back.
        let (given_back, limit) = (self.connection.return_to_pool(), self.limit);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { timeout(limit, given_back).await.ok() });
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process};
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::lifecycle::store::conformance::cluster;

    const PLACES: u32 = 3;

    /// Sessions of the database that stand still, and go on when this is dropped.
    struct Stopped(Vec<Pid>);

    impl Stopped {
        fn all(pids: &[i32]) -> Self {
            let pids: Vec<Pid> = pids.iter().filter_map(|pid| Pid::from_raw(*pid)).collect();
            pids.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
            Self(pids)
        }
    }

    impl Drop for Stopped {
        fn drop(&mut self) {
            for pid in &self.0 {
                let _gone_already = kill_process(*pid, Signal::CONT);
            }
        }
    }

    /// A server that has moved, and a network that says so to nobody.
    #[tokio::test]
    async fn what_gets_no_answer_on_its_way_back_does_not_keep_its_place() {
        let (url, _) = cluster::fresh_database().await;
        let pool = PgPoolOptions::new().max_connections(PLACES).acquire_timeout(Duration::from_secs(30)).connect_lazy(&url).unwrap();
        let (mut taken, mut pids) = (Vec::new(), Vec::new());
        for _ in 0..PLACES {
            let mut pooled = Pooled::of(&pool, Duration::from_millis(200)).await.unwrap();
            pids.push(sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *pooled).await.unwrap());
            taken.push(pooled);
        }
        let _stopped = Stopped::all(&pids);
        drop(taken);
        let mut again = Vec::new();
        for _ in 0..PLACES {
            let mut pooled = Pooled::of(&pool, Duration::from_secs(30)).await.unwrap();
            let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *pooled).await.unwrap();
            assert!(!pids.contains(&pid), "a new one");
            again.push(pooled);
        }
    }

    #[tokio::test]
    async fn what_is_well_is_used_again_and_what_is_thrown_away_is_not() {
        let (url, _) = cluster::fresh_database().await;
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy(&url).unwrap();
        let pid =
            async |pooled: &mut Pooled| sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(&mut **pooled).await.unwrap();
        let mut pooled = Pooled::of(&pool, Duration::from_secs(30)).await.unwrap();
        let first = pid(&mut pooled).await;
        drop(pooled);
        let mut pooled = Pooled::of(&pool, Duration::from_secs(30)).await.unwrap();
        assert_eq!(pid(&mut pooled).await, first);
        pooled.throw_away();
        let mut pooled = Pooled::of(&pool, Duration::from_secs(30)).await.unwrap();
        assert_ne!(pid(&mut pooled).await, first);
    }
}
