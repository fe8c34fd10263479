//! What is checked before the first call: server, isolation, schema, rights.

use sqlx::{
    Connection, Row,
    postgres::{PgConnectOptions, PgConnection},
};

use crate::lifecycle::store::{
    Migrated, Migrations, StoreError,
    migrate::{self, Found},
    mutants,
};

/// `server_version_num` of the oldest PostgreSQL that has what the functions use (`bit_xor`).
pub(super) const OLDEST: i32 = 140_000;

/// Checks everything, migrates if that is allowed; what that did, and how many shards there are.
pub(super) async fn prepare(address: &PgConnectOptions, policy: Migrations, shards_of_fresh: u16) -> Result<(Migrated, u16), StoreError> {
    let mut connection = PgConnection::connect_with(address).await?;
    check_server(&mut connection).await?;
    // What the first migration installs with.
    sqlx::query("SELECT set_config('holdline.shards', $1, false)").bind(shards_of_fresh.to_string()).execute(&mut connection).await?;
    let migrated = migrate(&mut connection, policy).await?;
    check_rights(&mut connection).await?;
    mutants::apply(&mut connection).await?;
    let shards = shards(&mut connection).await?;
    connection.close().await?;
    Ok((migrated, shards))
}

async fn check_server(connection: &mut PgConnection) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::integer AS number, current_setting('server_version') AS version,
                current_setting('transaction_isolation') AS isolation",
    )
    .fetch_one(connection)
    .await?;
    if row.try_get::<i32, _>("number")? < OLDEST {
        return Err(StoreError::TooOld { found: row.try_get("version")? });
    }
    let isolation: String = row.try_get("isolation")?;
    if isolation != "read committed" {
        return Err(StoreError::WrongIsolation { source: format!("this session has {}", isolation.to_uppercase()).into() });
    }
    Ok(())
}

/// What the database says about its schema.
#[derive(Debug)]
pub(super) struct Record {
    /// Whether there is a schema of our name.
    pub(super) schema: bool,
    /// Whether nothing is in it: somebody who may has made it for us.
    empty: bool,
    /// What was applied, if that is recorded.
    applied: Option<Vec<(i64, String)>>,
}

impl Record {
    pub(super) fn found(&self) -> Found<'_> {
        match &self.applied {
            Some(applied) => Found::Applied(applied),
            None if self.schema && !self.empty => Found::NoRecord,
            None => Found::Nothing,
        }
    }
}

/// Reads it.
pub(super) async fn look(connection: &mut PgConnection) -> Result<Record, StoreError> {
    let (schema, table, empty): (bool, bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'holdline'),
                EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                         WHERE n.nspname = 'holdline' AND c.relname = 'migration'),
                NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                             WHERE n.nspname = 'holdline')",
    )
    .fetch_one(&mut *connection)
    .await?;
    let applied = match table {
        true => {
            let applied = sqlx::query_as("SELECT version, checksum FROM holdline.migration ORDER BY version").fetch_all(connection).await;
            Some(applied.map_err(|error| no_right("read schema holdline", error))?)
        }
        false => None,
    };
    Ok(Record { schema, empty, applied })
}

async fn migrate(connection: &mut PgConnection, policy: Migrations) -> Result<Migrated, StoreError> {
    let mut transaction = Connection::begin(connection).await?;
    // Of nodes that start together, one migrates.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('holdline.migration', 0))").execute(&mut *transaction).await?;
    let record = look(&mut transaction).await?;
    let found = record.found();
    let missing = migrate::missing(migrate::POSTGRES, found, policy)?;
    let migrated = Migrated::by(found, missing);
    if missing.is_empty() {
        return Ok(migrated);
    }
    if found == Found::Nothing {
        if !record.schema {
            let create = sqlx::raw_sql("CREATE SCHEMA holdline").execute(&mut *transaction).await;
            create.map_err(|error| no_right("create schema holdline", error))?;
        }
        let create = "CREATE TABLE holdline.migration (version bigint PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
                        applied_at timestamptz NOT NULL DEFAULT clock_timestamp())";
        sqlx::raw_sql(create).execute(&mut *transaction).await.map_err(|error| no_right("create tables in schema holdline", error))?;
    }
    for migration in missing {
        sqlx::raw_sql(migration.sql)
            .execute(&mut *transaction)
            .await
            .map_err(|error| no_right("create tables and functions in schema holdline", error))?;
        sqlx::query("INSERT INTO holdline.migration (version, name, checksum) VALUES ($1, $2, $3)")
            .bind(migration.version)
            .bind(migration.name)
            .bind(migration.checksum())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(migrated)
}

async fn check_rights(connection: &mut PgConnection) -> Result<(), StoreError> {
    let lacking: Option<(String,)> = sqlx::query_as(
        "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'holdline' AND c.relkind IN ('r', 'S')
            AND NOT (has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE')
                 ELSE has_table_privilege(c.oid, 'SELECT') AND (c.relname IN ('migration', 'setting')
                   OR (has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
                       AND has_table_privilege(c.oid, 'DELETE'))) END)
          ORDER BY c.relname LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    match lacking {
        Some((table,)) => Err(StoreError::NotPermitted {
            action: "read and write the tables of schema holdline",
            source: format!("no full access to holdline.{table}").into(),
        }),
        None => Ok(()),
    }
}

async fn shards(connection: &mut PgConnection) -> Result<u16, StoreError> {
    let (set, heads): (Option<i32>, i64) = sqlx::query_as(
        "SELECT (SELECT value::integer FROM holdline.setting WHERE name = 'shards'), (SELECT count(*) FROM holdline.shard_head)",
    )
    .fetch_one(connection)
    .await?;
    match set.and_then(|set| u16::try_from(set).ok()).filter(|set| i64::from(*set) == heads && *set > 0) {
        Some(shards) => Ok(shards),
        None => Err(StoreError::SchemaBroken { reason: format!("setting shards is {set:?}, there are {heads} shard heads") }),
    }
}

fn no_right(action: &'static str, error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::NotPermitted { source, .. } => StoreError::NotPermitted { action, source },
        other => other,
    }
}
