//! A listener is called: alone, or in the transaction that stores its offset.

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::{Instant, timeout};

use super::delivery::Route;
use crate::lifecycle::{
    guarded,
    hook::HookFailure,
    listener::{Delivered, ErasedListener, ErasedTransactional, Retry, is_outage},
    store::{Ack, Claim, LISTENER_PATIENCE, Pooled, PostgresStore, Shard, Step},
};

/// How long a transaction that failed may take to end; a statement that hangs keeps it from that.
const ROLL_BACK: Duration = Duration::from_secs(1);

/// What a listener does with an entry.
#[derive(Clone)]
pub(super) enum Effect {
    /// It is told.
    Plain(Arc<dyn ErasedListener>),
    /// It is told in a transaction.
    Transactional {
        /// Who.
        listener: Arc<dyn ErasedTransactional>,
        /// Where.
        pool: PgPool,
    },
    /// It is an endpoint of webhooks, which takes several at once.
    Endpoint(Arc<Route>),
}

/// An entry that is to be handled, or passed over because the listener does not want it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Delivered,
    pub(super) wanted: bool,
}

/// What is committed with the effects.
pub(super) enum Seal<'a> {
    /// The offset.
    Acknowledge(&'a Claim),
    /// That a parked entry waits no more.
    Unpark { name: &'a str, shard: Shard, position: i64 },
}

/// What became of entries in one transaction.
#[derive(Debug)]
pub(super) enum Applied {
    /// So many took effect, and are sealed.
    Upto(usize),
    /// Somebody else has done it, or has the shard. Nothing took effect.
    Lost,
    /// This one failed. Nothing took effect.
    Failed(usize, Retry),
    /// They were handled, and the database did not commit: nobody can say which one is to blame. Nothing took effect, or all.
    Refused(Retry),
}

/// One call, with a time limit, and panics stopped.
pub(super) async fn call(limit: Duration, handle: impl Future<Output = Result<(), Retry>>) -> Result<(), Retry> {
    match guarded(limit, handle).await {
        Ok(answer) => answer,
        Err(HookFailure::Panicked) => Err(Retry::new("the listener panicked")),
        Err(HookFailure::TimedOut) => Err(Retry::new(format_args!("the listener took longer than {limit:?}"))),
    }
}

/// Lets a listener prepare what it needs, in a transaction.
pub(super) async fn prepare((listener, pool): (&dyn ErasedTransactional, &PgPool), limit: Duration) -> Result<(), Retry> {
    let mut connection = Pooled::of(pool, LISTENER_PATIENCE).await?;
    let prepared: Result<(), Retry> = async {
        let mut transaction = answered(Connection::begin(&mut *connection)).await?;
        call(limit, async { listener.erased_prepare(&mut transaction).await }).await?;
        Ok(answered(transaction.commit()).await?)
    }
    .await;
    if prepared.is_err() {
        connection.throw_away();
    }
    prepared
}

/// Handles entries in order and commits them with their seal. After `budget` it commits what it has.
pub(super) async fn apply(
    (listener, pool): (&dyn ErasedTransactional, &PgPool),
    entries: &[Entry],
    seal: Seal<'_>,
    limit: Duration,
    budget: Duration,
) -> Applied {
    let mut connection = match Pooled::of(pool, LISTENER_PATIENCE).await {
        Ok(connection) => connection,
        Err(error) => return Applied::Refused(error.into()),
    };
    let (applied, session) = in_transaction(&mut connection, listener, entries, seal, (limit, budget)).await;
    if session == Session::Doubtful {
        connection.throw_away();
    }
    applied
}

/// Whether a connection can be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    Usable,
    Doubtful,
}

async fn in_transaction(
    connection: &mut PgConnection,
    listener: &dyn ErasedTransactional,
    entries: &[Entry],
    seal: Seal<'_>,
    (limit, budget): (Duration, Duration),
) -> (Applied, Session) {
    let begun = Instant::now();
    let mut transaction = match answered(Connection::begin(connection)).await {
        Ok(transaction) => transaction,
        Err(error) => return (Applied::Refused(error.into()), Session::Doubtful),
    };
    let mut count = 0;
    for entry in entries {
        if entry.wanted {
            let handled = call(limit, async { listener.erased_handle(&mut transaction, &entry.event).await }).await;
            if let Err(retry) = handled {
                let (session, away) = roll_back(transaction).await;
                // What the listener says of an error may hide that the connection is gone.
                return (Applied::Failed(count, if away { Retry::unavailable(retry) } else { retry }), session);
            }
        }
        count += 1;
        if begun.elapsed() > budget {
            break;
        }
    }
    let Some(last) = entries[..count].last() else { return (Applied::Upto(0), Session::Doubtful) };
    let sealed = match seal {
        Seal::Acknowledge(claim) => {
            let ack = Ack { claim, upto: last.event.position };
            answered(PostgresStore::acknowledge_within(&mut transaction, ack)).await.map(|step| step == Step::Done)
        }
        Seal::Unpark { name, shard, position } => answered(PostgresStore::unpark_within(&mut transaction, name, shard, position)).await,
    };
    match sealed {
        Ok(true) => match answered(transaction.commit()).await {
            Ok(()) => (Applied::Upto(count), Session::Usable),
            Err(error) => (Applied::Refused(error.into()), Session::Doubtful),
        },
        Ok(false) => (Applied::Lost, roll_back(transaction).await.0),
        Err(error) => {
            let retry = if error.is_retryable() { Retry::unavailable(error) } else { error.into() };
            (Applied::Refused(retry), roll_back(transaction).await.0)
        }
    }
}

/// What the database says to a statement of ours. Silence is an outage, too: where packets go nowhere nobody else would ever say so.
async fn answered<T, E: From<sqlx::Error>>(statement: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let silence = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into();
    timeout(LISTENER_PATIENCE, statement).await.unwrap_or_else(|_elapsed| Err(silence()))
}

/// Undoes a transaction, unless a statement that hangs keeps it from that; and whether the database is away.
async fn roll_back(transaction: Transaction<'_, Postgres>) -> (Session, bool) {
    match timeout(ROLL_BACK, transaction.rollback()).await {
        Ok(Ok(())) => (Session::Usable, false),
        Ok(Err(error)) => (Session::Doubtful, is_outage(&error)),
        Err(_elapsed) => (Session::Doubtful, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_never_answers_is_away() {
        let silent = std::future::pending::<Result<(), sqlx::Error>>();
        assert!(is_outage(&answered(silent).await.unwrap_err()));
        let sealed = answered(std::future::pending::<Result<Step, crate::lifecycle::store::StoreError>>()).await;
        assert!(sealed.unwrap_err().is_retryable());
    }
}
