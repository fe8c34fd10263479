//! The embedded database's schema.

use sqlx::{Connection, SqliteConnection};

use crate::lifecycle::store::{
    Migrations, StoreError, Timestamp,
    migrate::{self, Found},
};

/// Brings the schema up to date if that is allowed, all of it or nothing.
pub(super) async fn prepare(connection: &mut SqliteConnection, policy: Migrations) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (tables, record): (i64, bool) = sqlx::query_as(
        "SELECT count(*), coalesce(max(name = 'migration'), 0) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )
    .fetch_one(&mut *transaction)
    .await?;
    let applied: Vec<(i64, String)> = if record {
        sqlx::query_as("SELECT version, checksum FROM migration ORDER BY version").fetch_all(&mut *transaction).await?
    } else {
        Vec::new()
    };
    let found = match (tables, record) {
        (0, _) => Found::Nothing,
        (_, false) => Found::NoRecord,
        (_, true) => Found::Applied(&applied),
    };
    let missing = migrate::missing(migrate::SQLITE, found, policy)?;
    if found == Found::Nothing {
        let create = "CREATE TABLE migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
                        applied_at INTEGER NOT NULL) STRICT";
        sqlx::raw_sql(create).execute(&mut *transaction).await?;
    }
    for migration in missing {
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO migration (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)")
            .bind(migration.version)
            .bind(migration.name)
            .bind(migration.checksum())
            .bind(Timestamp::now().0)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}
