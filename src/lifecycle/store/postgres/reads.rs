//! What operators, the API and the wire notices look at. No statement here writes.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};

use super::{
    rows::{self, event_columns, lock_columns},
    session::Slot,
};
use crate::lifecycle::store::{
    Cursor, EventRow, Fence, HeldHold, HoldDigest, HoldId, Incarnation, LockQuery, LockRow, NodeRow, Shard, StoreCensus, StoreError,
};

/// Rows of a list whose length nobody asked for.
const DEFAULT_LIMIT: u32 = 100;

pub(super) async fn digest(connection: &mut PgConnection, node: Incarnation) -> Result<HoldDigest, StoreError> {
    let (holds, high, low): (i64, i64, i64) =
        sqlx::query_as("SELECT holds, high, low FROM holdline.digest($1)").bind(node.0).fetch_one(&mut *connection).await?;
    let bits = |half: i64| u128::from(u64::from_ne_bytes(half.to_ne_bytes()));
    Ok(HoldDigest { holds: u64::try_from(holds).unwrap_or(0), xor: bits(high) << 64 | bits(low) })
}

pub(super) async fn holds_of(connection: &mut PgConnection, node: Incarnation) -> Result<Vec<HeldHold>, StoreError> {
    let rows: Vec<(uuid::Uuid, i64, String, String, String)> = sqlx::query_as(
        "SELECT h.hold, h.fence, h.socket_id, l.app, l.resource FROM holdline.hold h JOIN holdline.lock l USING (fence)
          WHERE h.incarnation = $1 ORDER BY h.fence",
    )
    .bind(node.0)
    .fetch_all(&mut *connection)
    .await?;
    let held = |(hold, fence, socket_id, app, resource)| HeldHold { hold: HoldId(hold), fence: Fence(fence), socket_id, app, resource };
    Ok(rows.into_iter().map(held).collect())
}

pub(super) async fn locks(connection: &mut PgConnection, query: &LockQuery) -> Result<Vec<LockRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        lock_columns!(),
        " FROM holdline.lock l WHERE ($1::text IS NULL OR l.app = $1) AND ($2::text IS NULL OR l.resource = $2)
            AND ($3::text IS NULL OR l.principal = $3) AND CASE WHEN $4::text IS NULL THEN l.state <> 'released' ELSE l.state = $4 END
            AND l.fence > $5 ORDER BY l.fence LIMIT $6"
    ))
    .bind(&query.app)
    .bind(&query.resource)
    .bind(&query.principal)
    .bind(query.state.map(crate::lifecycle::store::LockState::as_str))
    .bind(query.after.map_or(0, |fence| fence.0))
    .bind(i64::from(if query.limit == 0 { DEFAULT_LIMIT } else { query.limit }))
    .fetch_all(&mut *connection)
    .await?;
    with_holders(&mut *connection, rows.iter().map(rows::lock).collect::<Result<_, _>>()?).await
}

pub(super) async fn lock(connection: &mut PgConnection, fence: Fence) -> Result<Option<LockRow>, StoreError> {
    let row = sqlx::query(concat!("SELECT ", lock_columns!(), " FROM holdline.lock l WHERE l.fence = $1"))
        .bind(fence.0)
        .fetch_optional(&mut *connection)
        .await?;
    let lock = row.as_ref().map(rows::lock).transpose()?;
    Ok(with_holders(&mut *connection, lock.into_iter().collect()).await?.pop())
}

async fn with_holders(connection: &mut PgConnection, mut locks: Vec<LockRow>) -> Result<Vec<LockRow>, StoreError> {
    let fences: Vec<i64> = locks.iter().map(|lock| lock.fence.0).collect();
    if fences.is_empty() {
        return Ok(locks);
    }
    let rows = sqlx::query(
        "SELECT fence, hold, socket_id, incarnation, (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms
           FROM holdline.hold WHERE fence = ANY ($1) ORDER BY created_at, hold",
    )
    .bind(fences)
    .fetch_all(&mut *connection)
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

pub(super) async fn nodes(connection: &mut PgConnection) -> Result<Vec<NodeRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT n.incarnation, n.name, n.heartbeat, n.state, n.ttl_ms::bigint AS ttl_ms, n.end_cause,
                (SELECT count(*) FROM holdline.hold h WHERE h.incarnation = n.incarnation) AS holds,
                (extract(epoch FROM n.started_at) * 1000)::bigint AS started_at_ms,
                (extract(epoch FROM n.heartbeat_at) * 1000)::bigint AS heartbeat_at_ms,
                (extract(epoch FROM n.fenced_at) * 1000)::bigint AS fenced_at_ms
           FROM holdline.node n ORDER BY n.incarnation DESC",
    )
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(rows::node).collect()
}

pub(super) async fn census(connection: &mut PgConnection) -> Result<StoreCensus, StoreError> {
    let locks = sqlx::query_as("SELECT state, count(*) FROM holdline.lock WHERE state <> 'released' GROUP BY state");
    let locks = locks.fetch_all(&mut *connection).await?;
    let parked = sqlx::query_as("SELECT name, reason, count(*) FROM holdline.parked GROUP BY name, reason").fetch_all(connection).await?;
    StoreCensus::read(locks, parked)
}

pub(super) async fn head(connection: &mut PgConnection) -> Result<Cursor, StoreError> {
    let positions = sqlx::query_scalar("SELECT last_position FROM holdline.shard_head ORDER BY shard").fetch_all(&mut *connection).await?;
    Ok(Cursor::from_positions(positions))
}

pub(super) async fn events_after(
    connection: &mut PgConnection,
    cursor: &Cursor,
    limit: u32,
    shards: u16,
) -> Result<(Vec<EventRow>, Cursor), StoreError> {
    if cursor.positions().len() != usize::from(shards) {
        return Err(StoreError::BadCursor);
    }
    let rows = sqlx::query(concat!(
        "SELECT ",
        event_columns!(),
        " FROM unnest($1::bigint[]) WITH ORDINALITY c (position, number)
            CROSS JOIN LATERAL (SELECT * FROM holdline.event e WHERE e.shard = (c.number - 1)::smallint AND e.position > c.position
                                 ORDER BY e.position LIMIT $2) e
           ORDER BY e.shard, e.position"
    ))
    .bind(cursor.positions())
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    let mut next = cursor.clone();
    let events = rows.iter().map(rows::event).collect::<Result<Vec<_>, _>>()?;
    let merged = next.merge(events, usize::try_from(limit).unwrap_or(usize::MAX));
    Ok((merged, next))
}

pub(super) async fn follow(slot: &Slot, cursor: &Cursor, limit: u32, shards: u16) -> Result<(Vec<EventRow>, Cursor), StoreError> {
    let mut session = slot.open().await?;
    let within = session.limit;
    let read = tokio::time::timeout(within, events_after(&mut session.connection, cursor, limit, shards)).await;
    session.settle(read.unwrap_or(Err(StoreError::TimedOut(within))))
}

pub(super) async fn event(connection: &mut PgConnection, shard: Shard, position: i64) -> Result<Option<EventRow>, StoreError> {
    let row = sqlx::query(concat!("SELECT ", event_columns!(), " FROM holdline.event e WHERE e.shard = $1 AND e.position = $2"))
        .bind(shard.0)
        .bind(position)
        .fetch_optional(&mut *connection)
        .await?;
    row.as_ref().map(rows::event).transpose()
}

/// Where a shard's log begins, for who found something missing.
pub(super) async fn first_position(connection: &mut PgConnection, shard: Shard) -> Result<i64, StoreError> {
    let row =
        sqlx::query("SELECT first_position FROM holdline.shard_head WHERE shard = $1").bind(shard.0).fetch_one(&mut *connection).await?;
    Ok(row.try_get("first_position")?)
}
