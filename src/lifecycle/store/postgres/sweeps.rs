//! What any node does for all of them: the holds of dead nodes, graces that are over, the old end of the log.

use std::time::Duration;

use sqlx::PgConnection;

use super::session::{Slot, within};
use crate::lifecycle::store::{Incarnation, Shard, StoreError, Swept};

/// What `sweep` and `retain` return for a shard that somebody is at work in.
const BUSY: i32 = -1;

pub(super) async fn due_shards(connection: &mut PgConnection) -> Result<Vec<Shard>, StoreError> {
    let shards = sqlx::query_scalar("SELECT holdline.due_shards()").fetch_all(&mut *connection).await?;
    Ok(shards.into_iter().map(Shard).collect())
}

pub(super) async fn sweep(slot: &Slot, by: Incarnation, shard: Shard, limit: u32) -> Result<Swept, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_scalar("SELECT holdline.sweep($1, $2, $3)")
        .bind(by.0)
        .bind(shard.0)
        .bind(i32::try_from(limit).unwrap_or(i32::MAX))
        .fetch_one(&mut session.connection);
    let done = within(session.limit, call).await;
    session.settle(done).map(|done: i32| if done == BUSY { Swept::Busy } else { Swept::Done(u32::try_from(done).unwrap_or(0)) })
}

pub(super) async fn finish_dead(slot: &Slot, by: Incarnation) -> Result<u64, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_scalar("SELECT holdline.finish_dead($1)").bind(by.0).fetch_one(&mut session.connection);
    let done = within(session.limit, call).await;
    session.settle(done).map(|done: i32| u64::try_from(done).unwrap_or(0))
}

pub(super) async fn retain(slot: &Slot, by: Incarnation, shard: Shard, keep: Duration, limit: u32) -> Result<u64, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_scalar("SELECT holdline.retain($1, $2, $3, $4)")
        .bind(by.0)
        .bind(shard.0)
        .bind(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX / 2))
        .bind(i32::try_from(limit).unwrap_or(i32::MAX))
        .fetch_one(&mut session.connection);
    let done = within(session.limit, call).await;
    session.settle(done).map(|done: i32| u64::try_from(done).unwrap_or(0))
}
