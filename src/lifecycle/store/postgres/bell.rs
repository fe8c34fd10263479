//! NOTIFY and LISTEN. A ring is a statement of its own, never part of a write: committing with NOTIFY takes one lock for the whole
//! server and keeps it while the disk flushes.

use std::{fmt, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::session::{Slot, within};
use crate::lifecycle::store::{Bell, Ring, StoreError, StoreFuture};

/// What everybody listens to, programs that read the log by themselves included.
const CHANNEL: &str = "holdline";

/// Rings for all nodes. `own` only says who it was.
pub(super) async fn ring(slot: &Slot, own: &str) -> Result<(), StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(own).execute(&mut session.connection);
    let rung = within(session.limit, call).await;
    session.settle(rung).map(drop)
}

/// Connects and listens, within `limit`.
pub(super) async fn listen(address: PgConnectOptions, own: String, limit: Duration) -> Result<PostgresBell, StoreError> {
    let connect = async {
        // A pool of its own, since the listener gives its connection back to one. It reconnects in silence, and what was rung meanwhile
        // is lost without a word: so it is never asked again after anything but a notification.
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).acquire_timeout(limit);
        let mut listener = PgListener::connect_with(&pool.connect_lazy_with(address)).await?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    Ok(PostgresBell { listener: within(limit, connect).await?, own })
}

/// A session that listens.
pub(super) struct PostgresBell {
    listener: PgListener,
    own: String,
}

impl fmt::Debug for PostgresBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBell").finish_non_exhaustive()
    }
}

impl Bell for PostgresBell {
    fn heard(&mut self) -> StoreFuture<'_, Ring> {
        Box::pin(async move {
            match self.listener.try_recv().await? {
                Some(notification) if notification.payload() == self.own => Ok(Ring::Own),
                Some(_) => Ok(Ring::Other),
                None => Err(StoreError::Unavailable { source: "the connection that listens is closed".into() }),
            }
        })
    }

    fn check(&mut self) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let listens = "SELECT EXISTS (SELECT 1 FROM pg_listening_channels() channel WHERE channel = $1)";
            Ok(sqlx::query_scalar(listens).bind(CHANNEL).fetch_one(&mut self.listener).await?)
        })
    }
}
