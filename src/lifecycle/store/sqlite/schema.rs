//! The embedded database's schema.

use sqlx::{Connection, SqliteConnection};

use crate::lifecycle::store::{
    Migrated, Migrations, StoreError, Timestamp,
    migrate::{self, Found},
};

/// How many tables there are, and what is recorded as applied, if there is a record.
async fn look(connection: &mut SqliteConnection) -> Result<(i64, Option<Vec<(i64, String)>>), StoreError> {
    let (tables, record): (i64, bool) = sqlx::query_as(
        "SELECT count(*), coalesce(max(name = 'migration'), 0) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let applied = match record {
        true => Some(sqlx::query_as("SELECT version, checksum FROM migration ORDER BY version").fetch_all(connection).await?),
        false => None,
    };
    Ok((tables, applied))
}

fn found(tables: i64, applied: Option<&[(i64, String)]>) -> Found<'_> {
    match (tables, applied) {
        (0, _) => Found::Nothing,
        (_, None) => Found::NoRecord,
        (_, Some(applied)) => Found::Applied(applied),
    }
}

/// Refuses a schema that is not the one this program knows. Writes nothing.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let (tables, applied) = look(connection).await?;
    migrate::missing(migrate::SQLITE, found(tables, applied.as_deref()), Migrations::Forbid).map(drop)
}

/// Brings the schema up to date if that is allowed, all of it or nothing.
pub(super) async fn prepare(connection: &mut SqliteConnection, policy: Migrations) -> Result<Migrated, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (tables, applied) = look(&mut transaction).await?;
    let found = found(tables, applied.as_deref());
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
    Ok(Migrated::by(found, missing))
}
