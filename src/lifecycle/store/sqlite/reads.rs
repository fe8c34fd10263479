//! What operators, the API and the wire notices look at.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::{
    rows::{self, event_columns, lock_columns},
    write::SHARD,
};
use crate::lifecycle::store::{
    Cursor, EventRow, Fence, HeldHold, HoldDigest, HoldId, Incarnation, LockQuery, LockRow, LockState, Shard, StoreCensus, StoreError,
};

/// Rows of a list whose length nobody asked for.
const DEFAULT_LIMIT: u32 = 100;

pub(super) async fn digest(connection: &mut SqliteConnection, node: Incarnation) -> Result<HoldDigest, StoreError> {
    let ids: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT hold FROM hold WHERE incarnation = ?1").bind(node.0).fetch_all(connection).await?;
    Ok(ids.into_iter().map(HoldId).collect())
}

pub(super) async fn holds_of(connection: &mut SqliteConnection, node: Incarnation) -> Result<Vec<HeldHold>, StoreError> {
    let rows: Vec<(uuid::Uuid, i64, String, String, String)> = sqlx::query_as(
        "SELECT h.hold, h.fence, h.socket_id, l.app, l.resource FROM hold h JOIN lock l USING (fence) WHERE h.incarnation = ?1
          ORDER BY h.fence",
    )
    .bind(node.0)
    .fetch_all(connection)
    .await?;
    let held = |(hold, fence, socket_id, app, resource)| HeldHold { hold: HoldId(hold), fence: Fence(fence), socket_id, app, resource };
    Ok(rows.into_iter().map(held).collect())
}

pub(super) async fn locks(connection: &mut SqliteConnection, query: &LockQuery) -> Result<Vec<LockRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        lock_columns!(),
        " FROM lock l WHERE (?1 IS NULL OR l.app = ?1) AND (?2 IS NULL OR l.resource = ?2) AND (?3 IS NULL OR l.principal = ?3)
            AND CASE WHEN ?4 IS NULL THEN l.state <> 'released' ELSE l.state = ?4 END AND l.fence > ?5 ORDER BY l.fence LIMIT ?6"
    ))
    .bind(&query.app)
    .bind(&query.resource)
    .bind(&query.principal)
    .bind(query.state.map(LockState::as_str))
    .bind(query.after.map_or(0, |fence| fence.0))
    .bind(if query.limit == 0 { DEFAULT_LIMIT } else { query.limit })
    .fetch_all(&mut *connection)
    .await?;
    with_holders(connection, rows.iter().map(rows::lock).collect::<Result<_, _>>()?).await
}

pub(super) async fn lock(connection: &mut SqliteConnection, fence: Fence) -> Result<Option<LockRow>, StoreError> {
    let row = sqlx::query(concat!("SELECT ", lock_columns!(), " FROM lock l WHERE l.fence = ?1"))
        .bind(fence.0)
        .fetch_optional(&mut *connection)
        .await?;
    let lock = row.as_ref().map(rows::lock).transpose()?;
    Ok(with_holders(connection, lock.into_iter().collect()).await?.pop())
}

async fn with_holders(connection: &mut SqliteConnection, mut locks: Vec<LockRow>) -> Result<Vec<LockRow>, StoreError> {
    let fences = serde_json::Value::from_iter(locks.iter().map(|lock| lock.fence.0));
    let rows = sqlx::query(
        "SELECT fence, hold, socket_id, incarnation, created_at AS created_at_ms FROM hold
          WHERE fence IN (SELECT value FROM json_each(?1)) ORDER BY created_at, hold",
    )
    .bind(fences)
    .fetch_all(connection)
    .await?;
    let mut holders: HashMap<Fence, Vec<_>> = HashMap::new();
    for row in &rows {
        let (fence, holder) = rows::holder(row)?;
        holders.entry(fence).or_default().push(holder);
    }
    for lock in &mut locks {
        lock.holders = holders.remove(&lock.fence).unwrap_or_default();
    }
    Ok(locks)
}

pub(super) async fn census(connection: &mut SqliteConnection) -> Result<StoreCensus, StoreError> {
    let locks = sqlx::query_as("SELECT state, count(*) FROM lock WHERE state <> 'released' GROUP BY state");
    let locks = locks.fetch_all(&mut *connection).await?;
    let parked = sqlx::query_as("SELECT name, reason, count(*) FROM parked GROUP BY name, reason").fetch_all(connection).await?;
    StoreCensus::read(locks, parked)
}

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Cursor, StoreError> {
    let positions = sqlx::query_scalar("SELECT last_position FROM shard_head ORDER BY shard").fetch_all(connection).await?;
    Ok(Cursor::from_positions(positions))
}

pub(super) async fn events_after(
    connection: &mut SqliteConnection,
    cursor: &Cursor,
    limit: u32,
) -> Result<(Vec<EventRow>, Cursor), StoreError> {
    let [position] = cursor.positions() else { return Err(StoreError::BadCursor) };
    let rows = sqlx::query(concat!(
        "SELECT ",
        event_columns!(),
        " FROM event e WHERE e.shard = ?1 AND e.position > ?2 ORDER BY e.position LIMIT ?3"
    ))
    .bind(SHARD)
    .bind(position)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let events = rows.iter().map(rows::event).collect::<Result<Vec<_>, _>>()?;
    let mut next = cursor.clone();
    if let Some(last) = events.last() {
        next.advance(last);
    }
    Ok((events, next))
}

pub(super) async fn event(connection: &mut SqliteConnection, shard: Shard, position: i64) -> Result<Option<EventRow>, StoreError> {
    let row = sqlx::query(concat!("SELECT ", event_columns!(), " FROM event e WHERE e.shard = ?1 AND e.position = ?2"))
        .bind(shard.0)
        .bind(position)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(rows::event).transpose()
}
