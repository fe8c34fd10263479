//! Entries a consumer has put aside, each resource's in order.

use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

use super::{
    consumers::{acknowledge, ms},
    rows::{self, event_columns},
};
use crate::lifecycle::store::{Ack, Claim, DeadQuery, EventKind, EventRow, ParkReason, ParkedRow, Shard, Step, StoreError, Timestamp};

/// Rows of a list whose length nobody asked for.
const DEFAULT_LIMIT: u32 = 100;

/// Columns of a parked entry `p` and its entry `e`.
macro_rules! parked_columns {
    () => {
        concat!(event_columns!(), ", p.name, p.reason, p.attempts, p.last_error, p.parked_at AS parked_at_ms")
    };
}

pub(super) async fn park(
    connection: &mut SqliteConnection,
    claim: &Claim,
    reason: ParkReason,
    error: Option<&str>,
) -> Result<Step, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let parked = sqlx::query(
        "INSERT INTO parked (name, shard, position, app, resource, reason, attempts, last_error, parked_at)
         SELECT c.name, e.shard, e.position, e.app, e.resource, ?5, c.attempts, ?6, ?7
           FROM consumer c JOIN event e ON e.shard = c.shard AND e.position = c.position + 1
          WHERE c.name = ?1 AND c.shard = ?2 AND c.epoch = ?3 AND c.position = ?4
         ON CONFLICT (name, shard, position) DO UPDATE SET reason = excluded.reason, last_error = excluded.last_error",
    )
    .bind(&claim.name)
    .bind(claim.shard.0)
    .bind(claim.epoch)
    .bind(claim.position)
    .bind(reason.as_str())
    .bind(error)
    .bind(Timestamp::now().0)
    .execute(&mut *transaction)
    .await?;
    if parked.rows_affected() != 1 {
        return Ok(Step::Lost);
    }
    let moved = acknowledge(&mut transaction, Ack { claim, upto: claim.position + 1 }).await?;
    transaction.commit().await?;
    Ok(moved)
}

pub(super) async fn list(connection: &mut SqliteConnection, name: &str, limit: u32) -> Result<Vec<ParkedRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM parked p JOIN event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.name = ?1 AND p.reason <> 'dead' ORDER BY p.shard, p.position LIMIT ?2"
    ))
    .bind(name)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn unpark(connection: &mut SqliteConnection, name: &str, shard: Shard, position: i64) -> Result<bool, StoreError> {
    let forgotten = sqlx::query(
        "DELETE FROM parked AS p WHERE p.name = ?1 AND p.shard = ?2 AND p.position = ?3
            AND (p.reason IN ('late', 'dead')
              OR NOT EXISTS (SELECT 1 FROM parked b WHERE b.name = p.name AND b.app = p.app AND b.resource = p.resource
                                AND b.shard = p.shard AND b.position < p.position AND b.reason IN ('poison', 'behind-poison')))",
    );
    Ok(forgotten.bind(name).bind(shard.0).bind(position).execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn heads(
    connection: &mut SqliteConnection,
    name: &str,
    max_attempts: u32,
    limit: u32,
) -> Result<Vec<ParkedRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM parked p JOIN event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.name = ?1 AND p.reason <> 'dead'
            AND (p.reason = 'late' OR (e.kind = ?2 OR p.attempts < ?3)
             AND NOT EXISTS (SELECT 1 FROM parked b WHERE b.name = p.name AND b.app = p.app AND b.resource = p.resource
                                AND b.shard = p.shard AND b.position < p.position AND b.reason IN ('poison', 'behind-poison')))
          ORDER BY p.reason = 'late', p.shard, p.position LIMIT ?4"
    ))
    .bind(name)
    .bind(EventKind::Unlocked.as_str())
    .bind(max_attempts)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn behind(
    connection: &mut SqliteConnection,
    name: &str,
    first: &EventRow,
    limit: u32,
) -> Result<Vec<ParkedRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM parked p JOIN event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.name = ?1 AND p.app = ?2 AND p.resource = ?3 AND p.shard = ?4 AND p.position >= ?5
            AND CASE p.reason WHEN 'late' THEN p.position = ?5 WHEN 'dead' THEN false
                     ELSE NOT EXISTS (SELECT 1 FROM parked f WHERE f.name = p.name AND f.shard = p.shard AND f.position = ?5
                                         AND f.reason = 'late') END
          ORDER BY p.position LIMIT ?6"
    ))
    .bind(name)
    .bind(&first.app)
    .bind(&first.resource)
    .bind(first.shard.0)
    .bind(first.position)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn note_failure(
    connection: &mut SqliteConnection,
    name: &str,
    shard: Shard,
    position: i64,
    error: &str,
) -> Result<bool, StoreError> {
    let noted = sqlx::query(
        "UPDATE parked SET attempts = attempts + 1, last_error = ?4, reason = CASE reason WHEN 'late' THEN 'late' ELSE 'poison' END
          WHERE name = ?1 AND shard = ?2 AND position = ?3 AND reason <> 'dead'",
    );
    let noted = noted.bind(name).bind(shard.0).bind(position).bind(error);
    Ok(noted.execute(connection).await?.rows_affected() == 1)
}

/// To late or dead; where is shard and position.
pub(super) async fn set_reason(
    connection: &mut SqliteConnection,
    name: &str,
    (shard, position): (Shard, i64),
    reason: ParkReason,
) -> Result<bool, StoreError> {
    if matches!(reason, ParkReason::Poison | ParkReason::BehindPoison) {
        return Ok(false);
    }
    let set = sqlx::query(
        "UPDATE parked SET reason = ?4, attempts = CASE WHEN reason = 'dead' AND ?4 = 'late' THEN 0 ELSE attempts END,
                parked_at = CASE WHEN reason <> ?4 AND 'dead' IN (reason, ?4) THEN ?5 ELSE parked_at END
          WHERE name = ?1 AND shard = ?2 AND position = ?3",
    );
    let set = set.bind(name).bind(shard.0).bind(position).bind(reason.as_str()).bind(Timestamp::now().0);
    Ok(set.execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn dead(connection: &mut SqliteConnection, query: &DeadQuery) -> Result<Vec<ParkedRow>, StoreError> {
    let after = query.after.as_ref();
    let rows = sqlx::query(concat!(
        "SELECT ",
        parked_columns!(),
        " FROM parked p JOIN event e ON e.shard = p.shard AND e.position = p.position
          WHERE p.reason = 'dead' AND (?1 IS NULL OR p.name = ?1) AND (?2 IS NULL OR (p.name, p.shard, p.position) > (?2, ?3, ?4))
            AND (?6 IS NULL OR p.app = ?6)
          ORDER BY p.name, p.shard, p.position LIMIT ?5"
    ))
    .bind(&query.name)
    .bind(after.map(|after| after.name.as_str()))
    .bind(after.map_or(0, |after| after.shard.0))
    .bind(after.map_or(0, |after| after.position))
    .bind(if query.limit == 0 { DEFAULT_LIMIT } else { query.limit })
    .bind(&query.app)
    .fetch_all(connection)
    .await?;
    rows.iter().map(rows::parked).collect()
}

pub(super) async fn forget_dead(connection: &mut SqliteConnection, keep: Duration, limit: u32) -> Result<u64, StoreError> {
    let forget = sqlx::query(
        "DELETE FROM parked WHERE (name, shard, position) IN (
           SELECT name, shard, position FROM parked WHERE reason = 'dead' AND parked_at < ?1 ORDER BY parked_at LIMIT ?2)",
    );
    let before = Timestamp::now().0.saturating_sub(ms(keep));
    Ok(forget.bind(before).bind(limit).execute(connection).await?.rows_affected())
}
