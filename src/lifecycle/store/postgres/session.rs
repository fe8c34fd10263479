//! A connection that belongs to one kind of work. It is opened when it is needed and thrown away when in doubt.

use std::{future::Future, time::Duration};

use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgConnection},
};
use tokio::sync::{Mutex, MutexGuard};

use crate::lifecycle::store::StoreError;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The database's own limit for a statement.
    pub(super) statement: Duration,
    /// Ours, for its answer: longer, so that the database usually says no first.
    pub(super) call: Duration,
}

/// Where the connection is kept between calls.
#[derive(Debug)]
pub(super) struct Slot {
    address: PgConnectOptions,
    limits: Limits,
    kept: Mutex<Option<PgConnection>>,
}

/// The connection, taken out for one call. Dropped without [`Session::settle`] (a cancelled call), it is closed: an answer that
/// was not read must not be taken for the next one's.
pub(super) struct Session<'a> {
    slot: MutexGuard<'a, Option<PgConnection>>,
    /// How long to wait for an answer.
    pub(super) limit: Duration,
    /// What to run the one statement on.
    pub(super) connection: PgConnection,
}

impl Slot {
    pub(super) fn new(address: PgConnectOptions, limits: Limits) -> Self {
        Self { address, limits, kept: Mutex::new(None) }
    }

    /// Takes the connection, or makes a new one.
    pub(super) async fn open(&self) -> Result<Session<'_>, StoreError> {
        let mut slot = self.kept.lock().await;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => {
                let connect = async {
                    let mut connection = PgConnection::connect_with(&self.address).await?;
                    set_up(&mut connection, self.limits.statement).await?;
                    Ok(connection)
                };
                within(self.limits.call, connect).await?
            }
        };
        Ok(Session { slot, limit: self.limits.call, connection })
    }
}

impl Session<'_> {
    /// Keeps the connection unless the answer makes it doubtful.
    pub(super) fn settle<T>(mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let doubtful = matches!(answer, Err(StoreError::Unavailable { .. } | StoreError::TimedOut(_) | StoreError::WrongIsolation { .. }));
        if !doubtful {
            *self.slot = Some(self.connection);
        }
        answer
    }
}

/// Waits so long and no longer.
pub(super) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(StoreError::from),
        Err(_elapsed) => Err(StoreError::TimedOut(limit)),
    }
}

/// Settings of a session. No sequential scans: the functions' plans are kept, and those made while a table was empty would stay when it
/// is large; and then no compilation, which high costs would start.
pub(super) async fn set_up(connection: &mut PgConnection, statement_timeout: Duration) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', '500ms', false),
                set_config('idle_in_transaction_session_timeout', '3s', false), set_config('enable_seqscan', 'off', false),
                set_config('jit', 'off', false)",
    )
    .bind(format!("{}ms", statement_timeout.as_millis()))
    .execute(connection)
    .await
    .map(drop)
}

/// Settings of a session whose statements are a listener's own: only what keeps one that hangs from keeping others.
pub(super) async fn set_up_listener(connection: &mut PgConnection, patience: Duration) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', '10s', false),
                set_config('idle_in_transaction_session_timeout', $1, false)",
    )
    .bind(format!("{}ms", patience.as_millis()))
    .execute(connection)
    .await
    .map(drop)
}
