//! Keys of publishes that are to be done once.

use sqlx::PgConnection;

use super::consumers::interval;
use crate::lifecycle::store::{Incarnation, KeyClaim, KeyVerdict, StoreError};

pub(super) async fn claim(connection: &mut PgConnection, by: Incarnation, claim: &KeyClaim) -> Result<KeyVerdict, StoreError> {
    let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2);
    let (verdict, answer): (String, Option<String>) =
        sqlx::query_as("SELECT o_verdict, o_answer FROM holdline.claim_key($1, $2, $3, $4, $5, $6, $7)")
            .bind(by.0)
            .bind(&claim.app)
            .bind(&claim.key)
            .bind(claim.fingerprint.as_slice())
            .bind(claim.attempt.0)
            .bind(millis(claim.keep.max(claim.work)))
            .bind(millis(claim.work))
            .fetch_one(connection)
            .await?;
    match (verdict.as_str(), answer) {
        ("claimed", _) => Ok(KeyVerdict::Claimed),
        ("taken_over", _) => Ok(KeyVerdict::TakenOver),
        ("answered", Some(answer)) => Ok(KeyVerdict::Answered(answer)),
        ("at_work", _) => Ok(KeyVerdict::AtWork),
        ("mismatch", _) => Ok(KeyVerdict::Mismatch),
        _ => Err(StoreError::UnknownWord(crate::domain::UnknownWord { what: "the verdict on a key", word: verdict })),
    }
}

pub(super) async fn answer(connection: &mut PgConnection, claim: &KeyClaim, answer: &str) -> Result<bool, StoreError> {
    let answered = sqlx::query(
        "UPDATE holdline.idempotency SET answer = $4, expires_at = clock_timestamp() + $5::interval
          WHERE app = $1 AND key = $2 AND attempt = $3 AND answer IS NULL",
    );
    let answered = answered.bind(&claim.app).bind(&claim.key).bind(claim.attempt.0).bind(answer).bind(interval(claim.keep));
    Ok(answered.execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn give_back(connection: &mut PgConnection, claim: &KeyClaim) -> Result<bool, StoreError> {
    let given = sqlx::query("DELETE FROM holdline.idempotency WHERE app = $1 AND key = $2 AND attempt = $3 AND answer IS NULL");
    Ok(given.bind(&claim.app).bind(&claim.key).bind(claim.attempt.0).execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn forget(connection: &mut PgConnection, limit: u32) -> Result<u64, StoreError> {
    let forget = sqlx::query(
        "DELETE FROM holdline.idempotency WHERE ctid = ANY (ARRAY(
           SELECT ctid FROM holdline.idempotency WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))",
    );
    Ok(forget.bind(i64::from(limit)).execute(connection).await?.rows_affected())
}
