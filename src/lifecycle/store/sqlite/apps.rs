//! The table of applications.

use sqlx::{Connection, SqliteConnection};

use super::rows::{self, app_columns};
use crate::lifecycle::store::{AppRow, AppTable, AppWrite, StoreError, Timestamp};

pub(super) async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT version FROM app_change").fetch_one(connection).await?)
}

pub(super) async fn list(connection: &mut SqliteConnection) -> Result<AppTable, StoreError> {
    // One snapshot: a version that is newer than the rows would hide a change for good.
    let mut transaction = connection.begin().await?;
    let version = version(&mut transaction).await?;
    let rows = sqlx::query(concat!("SELECT ", app_columns!(), " FROM app a ORDER BY a.id")).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(AppTable { version, rows: rows.iter().map(rows::app).collect::<Result<_, _>>()? })
}

/// One statement: the condition and the write are the same moment.
pub(super) async fn put(connection: &mut SqliteConnection, app: &AppRow, expected: Option<i64>) -> Result<AppWrite, StoreError> {
    let sql = match expected {
        None => {
            "INSERT INTO app (id, key, secret, previous_secret, previous_secret_until, enabled, settings, updated_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE ?9 IS NULL ON CONFLICT (id) DO NOTHING"
        }
        Some(_) => {
            "UPDATE app SET key = ?2, secret = ?3, previous_secret = ?4, previous_secret_until = ?5, enabled = ?6, settings = ?7,
                    updated_at = ?8, version = version + 1
              WHERE id = ?1 AND version = ?9"
        }
    };
    let write = sqlx::query(sql)
        .bind(&app.id)
        .bind(&app.key)
        .bind(&app.secret)
        .bind(app.previous_secret.as_ref().map(|(secret, _)| secret))
        .bind(app.previous_secret.as_ref().map(|(_, until)| until.0))
        .bind(app.enabled)
        .bind(&app.settings)
        .bind(Timestamp::now().0)
        .bind(expected);
    match write.execute(connection).await {
        Ok(done) if done.rows_affected() == 1 => Ok(AppWrite::Done),
        Ok(_) => Ok(AppWrite::Changed),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(AppWrite::KeyTaken),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn delete(connection: &mut SqliteConnection, id: &str) -> Result<bool, StoreError> {
    Ok(sqlx::query("DELETE FROM app WHERE id = ?1").bind(id).execute(connection).await?.rows_affected() == 1)
}
