//! Keys of publishes that are to be done once.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection, SqliteConnection};

use super::consumers::ms;
use crate::lifecycle::store::{Incarnation, KeyClaim, KeyVerdict, StoreError, Timestamp};

/// Keys that are kept of all applications together where they are kept in memory.
const MOST_IN_MEMORY: u32 = 100_000;
/// So many claims may pass before that bound is kept again.
const KEEP_EVERY: u32 = 1_000;

/// How many keys may be there.
#[derive(Debug)]
pub(super) struct Keys {
    /// On disk there is no bound but their time.
    most: Option<u32>,
    claims: AtomicU32,
}

impl Keys {
    pub(super) fn on_disk() -> Self {
        Self { most: None, claims: AtomicU32::new(0) }
    }

    pub(super) fn in_memory() -> Self {
        Self { most: Some(MOST_IN_MEMORY), ..Self::on_disk() }
    }

    pub(super) async fn claim(&self, connection: &mut SqliteConnection, by: Incarnation, key: &KeyClaim) -> Result<KeyVerdict, StoreError> {
        let verdict = claim(connection, by, key).await?;
        // There is no time to wait for somebody who tidies up.
        if self.most.is_some() && self.claims.fetch_add(1, Ordering::Relaxed) % KEEP_EVERY == KEEP_EVERY - 1 {
            self.forget(connection, 2 * KEEP_EVERY).await?;
        }
        Ok(verdict)
    }

    pub(super) async fn forget(&self, connection: &mut SqliteConnection, limit: u32) -> Result<u64, StoreError> {
        forget(connection, limit, self.most).await
    }
}

/// A key that is there: fingerprint, attempt, claimed at, answer, and whether its node lives.
type Row = (Vec<u8>, uuid::Uuid, i64, Option<String>, bool);

async fn claim(connection: &mut SqliteConnection, by: Incarnation, claim: &KeyClaim) -> Result<KeyVerdict, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let lives = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM node WHERE incarnation = ?1 AND state IN ('alive', 'draining'))");
    if !lives.bind(by.0).fetch_one(&mut *transaction).await? {
        return Err(StoreError::Fenced);
    }
    let now = Timestamp::now().0;
    let found: Option<Row> = sqlx::query_as(
        "SELECT fingerprint, attempt, claimed_at, answer,
                EXISTS (SELECT 1 FROM node n WHERE n.incarnation = i.incarnation AND n.state IN ('alive', 'draining'))
           FROM idempotency i WHERE app = ?1 AND key = ?2 AND expires_at > ?3",
    )
    .bind(&claim.app)
    .bind(&claim.key)
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await?;
    let mut verdict = KeyVerdict::Claimed;
    if let Some((fingerprint, attempt, claimed_at, answer, lives)) = found {
        if fingerprint != claim.fingerprint {
            return Ok(KeyVerdict::Mismatch);
        }
        if let Some(answer) = answer {
            return Ok(KeyVerdict::Answered(answer));
        }
        if attempt != claim.attempt.0 {
            // A claim from the future was made before the clock was set back.
            let age = i64::try_from(now.abs_diff(claimed_at)).unwrap_or(i64::MAX);
            if lives && age <= ms(claim.work) {
                return Ok(KeyVerdict::AtWork);
            }
            verdict = KeyVerdict::TakenOver;
        }
    }
    sqlx::query(
        "INSERT INTO idempotency (app, key, fingerprint, attempt, incarnation, claimed_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (app, key) DO UPDATE SET fingerprint = excluded.fingerprint, attempt = excluded.attempt,
            incarnation = excluded.incarnation, claimed_at = excluded.claimed_at, answer = NULL, expires_at = excluded.expires_at",
    )
    .bind(&claim.app)
    .bind(&claim.key)
    .bind(claim.fingerprint.as_slice())
    .bind(claim.attempt.0)
    .bind(by.0)
    .bind(now)
    .bind(now.saturating_add(ms(claim.keep.max(claim.work))))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(verdict)
}

pub(super) async fn answer(connection: &mut SqliteConnection, claim: &KeyClaim, answer: &str) -> Result<bool, StoreError> {
    let answered =
        sqlx::query("UPDATE idempotency SET answer = ?4, expires_at = ?5 WHERE app = ?1 AND key = ?2 AND attempt = ?3 AND answer IS NULL");
    let answered = answered.bind(&claim.app).bind(&claim.key).bind(claim.attempt.0).bind(answer);
    let answered = answered.bind(Timestamp::now().0.saturating_add(ms(claim.keep)));
    Ok(answered.execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn give_back(connection: &mut SqliteConnection, claim: &KeyClaim) -> Result<bool, StoreError> {
    let given = sqlx::query("DELETE FROM idempotency WHERE app = ?1 AND key = ?2 AND attempt = ?3 AND answer IS NULL");
    Ok(given.bind(&claim.app).bind(&claim.key).bind(claim.attempt.0).execute(connection).await?.rows_affected() == 1)
}

/// Those whose time is over, and the oldest of those beyond `most`.
async fn forget(connection: &mut SqliteConnection, limit: u32, most: Option<u32>) -> Result<u64, StoreError> {
    let mut until = Timestamp::now().0;
    if let Some(most) = most {
        let first_beyond = sqlx::query_scalar("SELECT expires_at FROM idempotency ORDER BY expires_at DESC LIMIT 1 OFFSET ?1");
        let first_beyond: Option<i64> = first_beyond.bind(most).fetch_optional(&mut *connection).await?;
        until = until.max(first_beyond.unwrap_or(until));
    }
    let forget = sqlx::query(
        "DELETE FROM idempotency WHERE (app, key) IN (
           SELECT app, key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    );
    Ok(forget.bind(until).bind(limit).execute(connection).await?.rows_affected())
}
