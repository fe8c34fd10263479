//! The table of applications.

use sqlx::{PgConnection, Row};

use super::rows::{self, app_columns};
use crate::lifecycle::store::{AppRow, AppTable, AppWrite, StoreError};

pub(super) async fn version(connection: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT version FROM holdline.app_change").fetch_one(connection).await?)
}

/// One statement, and so one snapshot: a version that is newer than the rows would hide a change for good.
pub(super) async fn list(connection: &mut PgConnection) -> Result<AppTable, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT c.version AS table_version, ",
        app_columns!(),
        " FROM holdline.app_change c LEFT JOIN holdline.app a ON true ORDER BY a.id COLLATE \"C\""
    ))
    .fetch_all(connection)
    .await?;
    let mut table = AppTable { version: 0, rows: Vec::new() };
    for row in &rows {
        table.version = row.try_get("table_version")?;
        // Of a table without applications there is one row, of its version alone.
        if row.try_get::<Option<&str>, _>("id")?.is_some() {
            table.rows.push(rows::app(row)?);
        }
    }
    Ok(table)
}

/// One statement: the condition and the write are the same moment.
pub(super) async fn put(connection: &mut PgConnection, app: &AppRow, expected: Option<i64>) -> Result<AppWrite, StoreError> {
    let sql = match expected {
        None => {
            "INSERT INTO holdline.app (id, key, secret, previous_secret, previous_secret_until, enabled, settings)
             SELECT $1, $2, $3, $4, to_timestamp($5::double precision / 1000), $6, $7 WHERE $8::bigint IS NULL ON CONFLICT (id) DO NOTHING"
        }
        Some(_) => {
            "UPDATE holdline.app SET key = $2, secret = $3, previous_secret = $4,
                    previous_secret_until = to_timestamp($5::double precision / 1000), enabled = $6, settings = $7,
                    updated_at = clock_timestamp(), version = version + 1
              WHERE id = $1 AND version = $8"
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
        .bind(expected);
    match write.execute(connection).await {
        Ok(done) if done.rows_affected() == 1 => Ok(AppWrite::Done),
        Ok(_) => Ok(AppWrite::Changed),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(AppWrite::KeyTaken),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn delete(connection: &mut PgConnection, id: &str) -> Result<bool, StoreError> {
    Ok(sqlx::query("DELETE FROM holdline.app WHERE id = $1").bind(id).execute(connection).await?.rows_affected() == 1)
}
