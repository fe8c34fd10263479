//! Named readers of the log. Every step is a compare-and-set on epoch and position: a worker that lost its lease without noticing
//! moves nothing. The lease only saves work; one that lies further in the future than its length is a clock that was set back.

use std::time::Duration;

use sqlx::{PgConnection, Row, postgres::types::PgInterval};

use super::{
    reads,
    rows::{self, event_columns},
};
use crate::lifecycle::store::{Ack, Claim, ConsumerRow, Cursor, Delivery, Shard, StartAt, Step, StoreError};

pub(super) fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

pub(super) fn step(rows: u64) -> Step {
    if rows == 1 { Step::Done } else { Step::Lost }
}

/// In one shard, or in all.
pub(super) async fn create(connection: &mut PgConnection, name: &str, shard: Option<Shard>, start: StartAt) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO holdline.consumer (name, shard, position)
         SELECT $1, shard, CASE WHEN $2 THEN last_position ELSE first_position - 1 END FROM holdline.shard_head
          WHERE shard = coalesce($3, shard)
         ON CONFLICT (name, shard) DO NOTHING",
    )
    .bind(name)
    .bind(start == StartAt::End)
    .bind(shard.map(|shard| shard.0))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Who asks, and for how long.
pub(super) struct Asking<'a> {
    pub(super) name: &'a str,
    pub(super) owner: &'a str,
    pub(super) lease: Duration,
}

/// Without `at_work`: its first claims. With: it looks for more, and levels what others have too much of.
pub(super) async fn claim(connection: &mut PgConnection, asking: Asking<'_>, at_work: Option<&[Shard]>) -> Result<Vec<Claim>, StoreError> {
    let Asking { name, owner, lease } = asking;
    let rows = sqlx::query("SELECT shard, position, epoch, attempts, wait_ms FROM holdline.claim($1, $2, $3, $4, $5)")
        .bind(name)
        .bind(owner)
        .bind(interval(lease))
        .bind(at_work.unwrap_or_default().iter().map(|shard| shard.0).collect::<Vec<_>>())
        .bind(at_work.is_some())
        .fetch_all(&mut *connection)
        .await?;
    let mut claims = rows.iter().map(|row| rows::claim(name, row)).collect::<Result<Vec<_>, _>>()?;
    claims.sort_by_key(|claim| claim.shard);
    Ok(claims)
}

pub(super) async fn renew_leases(connection: &mut PgConnection, owner: &str, lease: Duration) -> Result<u64, StoreError> {
    let renew = sqlx::query("UPDATE holdline.consumer SET lease_until = clock_timestamp() + $2 WHERE owner = $1");
    Ok(renew.bind(owner).bind(interval(lease)).execute(&mut *connection).await?.rows_affected())
}

pub(super) async fn give_up_leases(connection: &mut PgConnection, owner: &str, of: Option<&str>) -> Result<u64, StoreError> {
    let give_up = sqlx::query(
        "UPDATE holdline.consumer SET owner = NULL, lease_until = NULL, idle_since = clock_timestamp()
          WHERE owner = $1 AND ($2::text IS NULL OR name = $2)",
    );
    Ok(give_up.bind(owner).bind(of).execute(&mut *connection).await?.rows_affected())
}

pub(super) async fn read(connection: &mut PgConnection, claim: &Claim, limit: u32) -> Result<Vec<Delivery>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        event_columns!(),
        ", EXISTS (SELECT 1 FROM holdline.parked p WHERE p.name = $1 AND p.app = e.app AND p.resource = e.resource
                  AND p.reason IN ('poison', 'behind-poison')) AS blocked
           FROM holdline.event e WHERE e.shard = $2 AND e.position > $3 ORDER BY e.position LIMIT $4"
    ))
    .bind(&claim.name)
    .bind(claim.shard.0)
    .bind(claim.position)
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    let mut deliveries = Vec::with_capacity(rows.len());
    for (row, expected) in rows.iter().zip(claim.position + 1..) {
        let event = rows::event(row)?;
        if event.position != expected {
            let first = reads::first_position(&mut *connection, claim.shard).await?;
            return Err(match first > expected {
                true => StoreError::Trimmed { first },
                false => StoreError::LogHole { after: expected - 1, found: event.position },
            });
        }
        deliveries.push(Delivery { event, blocked: row.try_get("blocked")? });
    }
    Ok(deliveries)
}

pub(super) async fn acknowledge(connection: &mut PgConnection, ack: Ack<'_>) -> Result<Step, sqlx::Error> {
    let moved = sqlx::query(
        "UPDATE holdline.consumer SET position = $5, attempts = 0, next_try = NULL, last_error = NULL
          WHERE name = $1 AND shard = $2 AND epoch = $3 AND position = $4 AND $5 >= $4",
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
    connection: &mut PgConnection,
    claim: &Claim,
    error: &str,
    retry_in: Duration,
) -> Result<Step, StoreError> {
    let noted = sqlx::query(
        "UPDATE holdline.consumer SET attempts = attempts + 1, last_error = $5, next_try = clock_timestamp() + $6
          WHERE name = $1 AND shard = $2 AND epoch = $3 AND position = $4",
    )
    .bind(&claim.name)
    .bind(claim.shard.0)
    .bind(claim.epoch)
    .bind(claim.position)
    .bind(error.replace('\0', " "))
    .bind(interval(retry_in))
    .execute(&mut *connection)
    .await?;
    Ok(step(noted.rows_affected()))
}

pub(super) async fn list(connection: &mut PgConnection) -> Result<Vec<ConsumerRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.name, c.shard, c.position, h.last_position, c.owner, c.attempts, c.last_error,
                (SELECT count(*) FROM holdline.parked p WHERE p.name = c.name AND p.shard = c.shard AND p.reason <> 'dead') AS parked,
                (SELECT count(*) FROM holdline.parked p WHERE p.name = c.name AND p.shard = c.shard AND p.reason = 'dead') AS dead
           FROM holdline.consumer c JOIN holdline.shard_head h USING (shard) ORDER BY c.name, c.shard",
    )
    .fetch_all(&mut *connection)
    .await?;
    rows.iter().map(rows::consumer).collect()
}

pub(super) async fn skip(connection: &mut PgConnection, name: &str, shard: Shard, position: i64) -> Result<bool, StoreError> {
    let skipped = sqlx::query(
        "UPDATE holdline.consumer c SET position = c.position + 1, epoch = c.epoch + 1, owner = NULL, lease_until = NULL, attempts = 0,
                next_try = NULL, last_error = NULL, idle_since = clock_timestamp()
           FROM holdline.shard_head h
          WHERE c.name = $1 AND c.shard = $2 AND c.position + 1 = $3 AND h.shard = c.shard AND h.last_position >= $3",
    );
    Ok(skipped.bind(name).bind(shard.0).bind(position).execute(&mut *connection).await?.rows_affected() == 1)
}

pub(super) async fn rewind(connection: &mut PgConnection, name: &str, to: &Cursor) -> Result<(), StoreError> {
    let moved = sqlx::query(
        "WITH forgotten AS (
           -- What it comes to again. Of what the log has no more, dead letters are all there is.
           DELETE FROM holdline.parked q
            USING unnest($2::bigint[]) WITH ORDINALITY p (position, number) JOIN holdline.shard_head h ON h.shard = p.number - 1
            WHERE q.name = $1 AND q.shard = h.shard AND q.position > greatest(p.position, h.first_position - 1))
         UPDATE holdline.consumer c SET position = greatest(least(p.position, h.last_position), h.first_position - 1), epoch = c.epoch + 1,
                owner = NULL, lease_until = NULL, attempts = 0, next_try = NULL, last_error = NULL, idle_since = clock_timestamp()
           FROM unnest($2::bigint[]) WITH ORDINALITY p (position, number) JOIN holdline.shard_head h ON h.shard = p.number - 1
          WHERE c.name = $1 AND c.shard = h.shard",
    )
    .bind(name)
    .bind(to.positions())
    .execute(&mut *connection)
    .await?;
    match moved.rows_affected() {
        0 => Err(StoreError::UnknownConsumer { name: name.to_owned() }),
        _ => Ok(()),
    }
}

pub(super) async fn drop_consumer(connection: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    let dropped =
        sqlx::query("WITH forgotten AS (DELETE FROM holdline.parked WHERE name = $1) DELETE FROM holdline.consumer WHERE name = $1");
    Ok(dropped.bind(name).execute(&mut *connection).await?.rows_affected() > 0)
}

pub(super) async fn drop_orphan(connection: &mut PgConnection, name: &str, idle: Duration) -> Result<bool, StoreError> {
    let dropped = sqlx::query_scalar("SELECT holdline.drop_orphan($1, $2)").bind(name).bind(interval(idle));
    Ok(dropped.fetch_one(&mut *connection).await?)
}
