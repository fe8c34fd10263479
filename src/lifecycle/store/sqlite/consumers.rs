//! Named readers of the log, as in the store for many nodes: the epoch and the position decide, the lease only saves work.

use std::time::Duration;

use sqlx::{Connection, Row, SqliteConnection};

use super::{
    rows::{self, event_columns},
    write::SHARD,
};
use crate::lifecycle::store::{Ack, Claim, ConsumerRow, Cursor, Delivery, Shard, StartAt, Step, StoreError, Timestamp};

fn step(rows: u64) -> Step {
    if rows == 1 { Step::Done } else { Step::Lost }
}

pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// In one shard, or in all.
pub(super) async fn create(connection: &mut SqliteConnection, name: &str, shard: Option<Shard>, start: StartAt) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO consumer (name, shard, position)
         SELECT ?1, shard, CASE WHEN ?2 THEN last_position ELSE first_position - 1 END FROM shard_head WHERE shard = coalesce(?3, shard)
         ON CONFLICT (name, shard) DO NOTHING",
    )
    .bind(name)
    .bind(start == StartAt::End)
    .bind(shard.map(|shard| shard.0))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn claim(
    connection: &mut SqliteConnection,
    name: &str,
    owner: &str,
    lease: Duration,
    at_work: &[Shard],
) -> Result<Vec<Claim>, StoreError> {
    if at_work.contains(&Shard(SHARD)) {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "UPDATE consumer SET owner = ?2, epoch = epoch + 1, lease_until = ?4 + ?3
          WHERE name = ?1 AND (owner IS NULL OR owner = ?2 OR lease_until < ?4 OR lease_until > ?4 + ?3)
         RETURNING shard, position, epoch, attempts, max(coalesce(next_try, 0) - ?4, 0) AS wait_ms",
    )
    .bind(name)
    .bind(owner)
    .bind(ms(lease))
    .bind(Timestamp::now().0)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| rows::claim(name, row)).collect()
}

pub(super) async fn renew_leases(connection: &mut SqliteConnection, owner: &str, lease: Duration) -> Result<u64, StoreError> {
    let renew = sqlx::query("UPDATE consumer SET lease_until = ?2 WHERE owner = ?1");
    Ok(renew.bind(owner).bind(Timestamp::now().0 + ms(lease)).execute(connection).await?.rows_affected())
}

pub(super) async fn give_up_leases(connection: &mut SqliteConnection, owner: &str, of: Option<&str>) -> Result<u64, StoreError> {
    let give_up =
        sqlx::query("UPDATE consumer SET owner = NULL, lease_until = NULL, idle_since = ?2 WHERE owner = ?1 AND (?3 IS NULL OR name = ?3)");
    Ok(give_up.bind(owner).bind(Timestamp::now().0).bind(of).execute(connection).await?.rows_affected())
}

pub(super) async fn read(connection: &mut SqliteConnection, claim: &Claim, limit: u32) -> Result<Vec<Delivery>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        event_columns!(),
        ", EXISTS (SELECT 1 FROM parked p WHERE p.name = ?1 AND p.app = e.app AND p.resource = e.resource
                  AND p.reason IN ('poison', 'behind-poison')) AS blocked
           FROM event e WHERE e.shard = ?2 AND e.position > ?3 ORDER BY e.position LIMIT ?4"
    ))
    .bind(&claim.name)
    .bind(claim.shard.0)
    .bind(claim.position)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let mut deliveries = Vec::with_capacity(rows.len());
    for (row, expected) in rows.iter().zip(claim.position + 1..) {
        let event = rows::event(row)?;
        if event.position != expected {
            let first: i64 =
                sqlx::query_scalar("SELECT first_position FROM shard_head WHERE shard = ?1").bind(SHARD).fetch_one(connection).await?;
            return Err(match first > expected {
                true => StoreError::Trimmed { first },
                false => StoreError::LogHole { after: expected - 1, found: event.position },
            });
        }
        deliveries.push(Delivery { event, blocked: row.try_get("blocked")? });
    }
    Ok(deliveries)
}

pub(super) async fn acknowledge(connection: &mut SqliteConnection, ack: Ack<'_>) -> Result<Step, StoreError> {
    let moved = sqlx::query(
        "UPDATE consumer SET position = ?5, attempts = 0, next_try = NULL, last_error = NULL
          WHERE name = ?1 AND shard = ?2 AND epoch = ?3 AND position = ?4 AND ?5 >= ?4",
    )
    .bind(&ack.claim.name)
    .bind(ack.claim.shard.0)
    .bind(ack.claim.epoch)
    .bind(ack.claim.position)
    .bind(ack.upto)
    .execute(connection)
    .await?;
    Ok(step(moved.rows_affected()))
}

pub(super) async fn note_failure(
    connection: &mut SqliteConnection,
    claim: &Claim,
    error: &str,
    retry_in: Duration,
) -> Result<Step, StoreError> {
    let noted = sqlx::query(
        "UPDATE consumer SET attempts = attempts + 1, last_error = ?5, next_try = ?6
          WHERE name = ?1 AND shard = ?2 AND epoch = ?3 AND position = ?4",
    )
    .bind(&claim.name)
    .bind(claim.shard.0)
    .bind(claim.epoch)
    .bind(claim.position)
    .bind(error)
    .bind(Timestamp::now().0 + ms(retry_in))
    .execute(connection)
    .await?;
    Ok(step(noted.rows_affected()))
}

pub(super) async fn list(connection: &mut SqliteConnection) -> Result<Vec<ConsumerRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.name, c.shard, c.position, h.last_position, c.owner, c.attempts, c.last_error,
                (SELECT count(*) FROM parked p WHERE p.name = c.name AND p.shard = c.shard AND p.reason <> 'dead') AS parked,
                (SELECT count(*) FROM parked p WHERE p.name = c.name AND p.shard = c.shard AND p.reason = 'dead') AS dead
           FROM consumer c JOIN shard_head h USING (shard) ORDER BY c.name, c.shard",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(rows::consumer).collect()
}

pub(super) async fn skip(connection: &mut SqliteConnection, name: &str, shard: Shard, position: i64) -> Result<bool, StoreError> {
    let skipped = sqlx::query(
        "UPDATE consumer SET position = position + 1, epoch = epoch + 1, owner = NULL, lease_until = NULL, attempts = 0, next_try = NULL,
                last_error = NULL, idle_since = ?4
          WHERE name = ?1 AND shard = ?2 AND position + 1 = ?3
            AND EXISTS (SELECT 1 FROM shard_head h WHERE h.shard = consumer.shard AND h.last_position >= ?3)",
    );
    Ok(skipped.bind(name).bind(shard.0).bind(position).bind(Timestamp::now().0).execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn rewind(connection: &mut SqliteConnection, name: &str, to: &Cursor) -> Result<(), StoreError> {
    let [position] = to.positions() else { return Err(StoreError::BadCursor) };
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // What it comes to again. Of what the log has no more, dead letters are all there is.
    let forget = sqlx::query(
        "DELETE FROM parked WHERE name = ?1
            AND position > max(?2, (SELECT h.first_position - 1 FROM shard_head h WHERE h.shard = parked.shard))",
    );
    forget.bind(name).bind(position).execute(&mut *transaction).await?;
    let moved = sqlx::query(
        "UPDATE consumer SET position = max(min(?2, h.last_position), h.first_position - 1), epoch = epoch + 1, owner = NULL,
                lease_until = NULL, attempts = 0, next_try = NULL, last_error = NULL, idle_since = ?3
           FROM shard_head h WHERE name = ?1 AND consumer.shard = h.shard",
    )
    .bind(name)
    .bind(position)
    .bind(Timestamp::now().0)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    match moved.rows_affected() {
        0 => Err(StoreError::UnknownConsumer { name: name.to_owned() }),
        _ => Ok(()),
    }
}

pub(super) async fn drop_consumer(connection: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    drop_unless_owned_after(connection, name, i64::MAX).await
}

pub(super) async fn drop_orphan(connection: &mut SqliteConnection, name: &str, idle: Duration) -> Result<bool, StoreError> {
    drop_unless_owned_after(connection, name, Timestamp::now().0.saturating_sub(ms(idle))).await
}

/// All of it or nothing.
async fn drop_unless_owned_after(connection: &mut SqliteConnection, name: &str, time: i64) -> Result<bool, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let owned =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM consumer WHERE name = ?1 AND max(idle_since, coalesce(lease_until, 0)) > ?2)");
    if owned.bind(name).bind(time).fetch_one(&mut *transaction).await? {
        return Ok(false);
    }
    sqlx::query("DELETE FROM parked WHERE name = ?1").bind(name).execute(&mut *transaction).await?;
    let dropped = sqlx::query("DELETE FROM consumer WHERE name = ?1").bind(name).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(dropped.rows_affected() > 0)
}
