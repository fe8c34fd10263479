//! Entries a consumer has put aside, each resource's in order.

use std::time::Duration;

use sqlx::PgConnection;

use super::{
    consumers::{interval, step},
    rows::{self, event_columns},
};
use crate::lifecycle::store::{Claim, DeadQuery, EventKind, EventRow, ParkReason, ParkedRow, Shard, Step, StoreError};

/// Rows of a list whose length nobody asked for.
const DEFAULT_LIMIT: u32 = 100;

/// Columns of a parked entry `p` and its entry `e`.
macro_rules! parked_columns {
    () => {
        concat!(
            event_columns!(),
            ", p.name, p.reason, p.attempts, p.last_error, (extract(epoch FROM p.parked_at) * 1000)::bigint AS parked_at_ms"
        )
    };
}

pub(super) async fn park(
    connection: &mut PgConnection,
    claim: &Claim,
    reason: ParkReason,
    error: Option<&str>,
) -> Result<Step, StoreError> {
    let parked = sqlx::query(
        "WITH moved AS (
           UPDATE holdline.consumer c SET position = c.position + 1, attempts = 0, next_try = NULL, last_error = NULL
             FROM holdline.consumer former
            WHERE c.name = $1 AND c.shard = $2 AND c.epoch = $3 AND c.position = $4 AND former.name = c.name AND former.shard = c.shard
           RETURNING c.position, former.attempts)
         INSERT INTO holdline.parked (name, shard, position, app, resource, reason, attempts, last_error)
         SELECT $1, e.shard, e.position, e.app, e.resource, $5, moved.attempts, $6
           FROM moved JOIN holdline.event e ON e.shard = $2 AND e.position = moved.position
         ON CONFLICT (name, shard, position) DO UPDATE SET reason = excluded.reason, last_error = excluded.last_error",
    )
    .bind(&claim.name)
    .bind(claim.shard.0)
    .bind(claim.epoch)
    .bind(claim.position)
    .bind(reason.as_str())
    .bind(error.map(|error| error.replace('\0', " ")))
    .execute(&mut *connection)
    .await?;
    Ok(step(parked.rows_affected()))
}

pub(super) async fn list(connection: &mut PgConnection, name: &str, limit: u32) -> Result<Vec<ParkedRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM holdline.parked p JOIN holdline.event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.name = $1 AND p.reason <> 'dead' ORDER BY p.shard, p.position LIMIT $2"
    ))
    .bind(name)
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn heads(connection: &mut PgConnection, name: &str, max_attempts: u32, limit: u32) -> Result<Vec<ParkedRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM holdline.parked p JOIN holdline.event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.name = $1 AND p.reason <> 'dead'
            AND (p.reason = 'late' OR (e.kind = $2 OR p.attempts < $3)
             AND NOT EXISTS (SELECT 1 FROM holdline.parked b WHERE b.name = p.name AND b.app = p.app AND b.resource = p.resource
                                AND b.shard = p.shard AND b.position < p.position AND b.reason IN ('poison', 'behind-poison')))
          ORDER BY p.reason = 'late', p.shard, p.position LIMIT $4"
    ))
    .bind(name)
    .bind(EventKind::Unlocked.as_str())
    .bind(i32::try_from(max_attempts).unwrap_or(i32::MAX))
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn behind(connection: &mut PgConnection, name: &str, first: &EventRow, limit: u32) -> Result<Vec<ParkedRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM holdline.parked p JOIN holdline.event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.name = $1 AND p.app = $2 AND p.resource = $3 AND p.shard = $4 AND p.position >= $5
            AND CASE p.reason WHEN 'late' THEN p.position = $5 WHEN 'dead' THEN false
                     ELSE NOT EXISTS (SELECT 1 FROM holdline.parked f WHERE f.name = p.name AND f.shard = p.shard AND f.position = $5
                                         AND f.reason = 'late') END
          ORDER BY p.position LIMIT $6"
    ))
    .bind(name)
    .bind(&first.app)
    .bind(&first.resource)
    .bind(first.shard.0)
    .bind(first.position)
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn note_failure(
    connection: &mut PgConnection,
    name: &str,
    shard: Shard,
    position: i64,
    error: &str,
) -> Result<bool, StoreError> {
    let noted = sqlx::query(
        "UPDATE holdline.parked SET attempts = attempts + 1, last_error = $4, reason = CASE reason WHEN 'late' THEN 'late' ELSE 'poison' END
          WHERE name = $1 AND shard = $2 AND position = $3 AND reason <> 'dead'",
    );
    let noted = noted.bind(name).bind(shard.0).bind(position).bind(error.replace('\0', " "));
    Ok(noted.execute(&mut *connection).await?.rows_affected() == 1)
}

pub(super) async fn unpark(connection: &mut PgConnection, name: &str, shard: Shard, position: i64) -> Result<bool, sqlx::Error> {
    let forgotten = sqlx::query(
        "DELETE FROM holdline.parked p WHERE p.name = $1 AND p.shard = $2 AND p.position = $3
            AND (p.reason IN ('late', 'dead')
              OR NOT EXISTS (SELECT 1 FROM holdline.parked b WHERE b.name = p.name AND b.app = p.app AND b.resource = p.resource
                                AND b.shard = p.shard AND b.position < p.position AND b.reason IN ('poison', 'behind-poison')))",
    );
    Ok(forgotten.bind(name).bind(shard.0).bind(position).execute(connection).await?.rows_affected() == 1)
}

/// To late or dead; where is shard and position.
pub(super) async fn set_reason(
    connection: &mut PgConnection,
    name: &str,
    (shard, position): (Shard, i64),
    reason: ParkReason,
) -> Result<bool, StoreError> {
    if matches!(reason, ParkReason::Poison | ParkReason::BehindPoison) {
        return Ok(false);
    }
    let set = sqlx::query(
        "UPDATE holdline.parked SET reason = $4, attempts = CASE WHEN reason = 'dead' AND $4 = 'late' THEN 0 ELSE attempts END,
                parked_at = CASE WHEN reason <> $4 AND 'dead' IN (reason, $4) THEN clock_timestamp() ELSE parked_at END
          WHERE name = $1 AND shard = $2 AND position = $3",
    );
    Ok(set.bind(name).bind(shard.0).bind(position).bind(reason.as_str()).execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn dead(connection: &mut PgConnection, query: &DeadQuery) -> Result<Vec<ParkedRow>, StoreError> {
    let after = query.after.as_ref();
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM holdline.parked p JOIN holdline.event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.reason = 'dead' AND ($1::text IS NULL OR p.name = $1)
            AND ($2::text IS NULL OR (p.name, p.shard, p.position) > ($2, $3, $4)) AND ($6::text IS NULL OR p.app = $6)
          ORDER BY p.name, p.shard, p.position LIMIT $5"
    ))
    .bind(&query.name)
    .bind(after.map(|after| after.name.as_str()))
    .bind(after.map_or(0, |after| after.shard.0))
    .bind(after.map_or(0, |after| after.position))
    .bind(i64::from(if query.limit == 0 { DEFAULT_LIMIT } else { query.limit }))
    .bind(&query.app)
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn forget_dead(connection: &mut PgConnection, keep: Duration, limit: u32) -> Result<u64, StoreError> {
    let forget = sqlx::query(
        "DELETE FROM holdline.parked WHERE reason = 'dead' AND ctid = ANY (ARRAY(
           SELECT ctid FROM holdline.parked WHERE reason = 'dead' AND parked_at < clock_timestamp() - $1::interval ORDER BY parked_at LIMIT $2))",
    );
    Ok(forget.bind(interval(keep)).bind(i64::from(limit)).execute(connection).await?.rows_affected())
}
