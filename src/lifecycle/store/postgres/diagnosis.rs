//! What an operator should know about a database before a broker trusts it. Only looks: nothing is created, changed or locked.

use std::time::Duration;

use sqlx::{
    Connection, Row,
    postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions},
};

use super::{schema, session::within};
use crate::lifecycle::store::{
    BootId, Migrations, StoreError, Timestamp,
    migrate::{self, Found},
};

/// How long the database may take for each part.
const PATIENCE: Duration = Duration::from_secs(5);
/// Turns in which a pooler may show itself.
const TURNS: usize = 3;

/// What was found.
#[derive(Debug)]
pub(crate) struct Diagnosis {
    /// The server's version, as it says it.
    pub(crate) version: String,
    /// Whether it is one that we know.
    pub(crate) is_supported: bool,
    /// As whom we are there.
    pub(crate) role: String,
    /// Which database.
    pub(crate) database: String,
    /// How far its clock is before ours, and how long it took to ask, in milliseconds.
    pub(crate) clock: (i64, i64),
    /// `read committed`, or wrong.
    pub(crate) isolation: String,
    /// Whether a transaction can write.
    pub(crate) is_read_only: bool,
    /// `synchronous_commit`.
    pub(crate) synchronous_commit: String,
    /// `fsync` and `full_page_writes`.
    pub(crate) survives_crashes: bool,
    /// How texts are stored.
    pub(crate) encoding: String,
    /// How many more sessions this role may open now.
    pub(crate) free_sessions: i64,
    /// The version of our schema; 0 without one.
    pub(crate) schema_version: i64,
    /// What a start would say of it that must not change it.
    pub(crate) schema: Result<(), StoreError>,
    /// Whether the role may make what is missing.
    pub(crate) may_migrate: bool,
    /// Tables, sequences and functions that it may not use as it has to.
    pub(crate) lacking: Vec<String>,
}

/// One row of everything that is no part of our schema.
const SERVER: &str = "
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer AS number,
       current_user::text AS role, current_database()::text AS database,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now,
       current_setting('transaction_isolation') AS isolation, current_setting('transaction_read_only') = 'on' AS read_only,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' AS survives_crashes,
       current_setting('server_encoding') AS encoding,
       least(current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
               - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'),
             (SELECT CASE WHEN rolconnlimit < 0 THEN 2147483647 ELSE rolconnlimit END
                       - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = current_user)
                FROM pg_catalog.pg_roles WHERE rolname = current_user)) AS free_sessions,
       CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'holdline')
            THEN (SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE')
                    FROM pg_catalog.pg_namespace WHERE nspname = 'holdline')
                 AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                                  WHERE n.nspname = 'holdline' AND c.relkind = 'r' AND NOT pg_has_role(c.relowner, 'USAGE'))
            ELSE has_database_privilege(current_database(), 'CREATE') END AS may_migrate";

/// What a broker reads, writes and calls, as far as this role may not.
const LACKING: &str = "
SELECT what FROM (
SELECT CASE WHEN has_schema_privilege(oid, 'USAGE') THEN NULL ELSE 'USAGE on schema holdline' END AS what
  FROM pg_catalog.pg_namespace WHERE nspname = 'holdline'
UNION ALL
SELECT CASE WHEN c.relkind = 'S' THEN CASE WHEN has_sequence_privilege(c.oid, 'USAGE') THEN NULL ELSE 'USAGE' END
            ELSE nullif(concat_ws(', ', CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
                 CASE WHEN w AND NOT has_table_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
                 CASE WHEN w AND NOT has_table_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
                 CASE WHEN w AND NOT has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END), '') END || ' on holdline.' || c.relname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       CROSS JOIN LATERAL (SELECT c.relname NOT IN ('migration', 'setting') AS w) AS kind
 WHERE n.nspname = 'holdline' AND c.relkind IN ('r', 'S')
UNION ALL
SELECT CASE WHEN has_function_privilege(p.oid, 'EXECUTE') THEN NULL ELSE 'EXECUTE on holdline.' || p.proname END
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'holdline'
) AS every WHERE what IS NOT NULL ORDER BY what NOT LIKE 'USAGE on schema%', what";

impl super::PostgresStore {
    /// Looks at everything that a broker would need here. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and its like if nobody answers.
    pub(crate) async fn diagnose(url: &str) -> Result<Diagnosis, StoreError> {
        look(&super::address(url)?).await
    }

    /// Whether `url` hands out connections per transaction.
    ///
    /// # Errors
    /// As [`Self::diagnose`].
    pub(crate) async fn is_pooled(url: &str) -> Result<bool, StoreError> {
        is_pooled(&super::address(url)?).await
    }

    /// Whether who listens at `direct_url` hears within `limit` who rings at `url`.
    ///
    /// # Errors
    /// As [`Self::diagnose`].
    pub(crate) async fn hears(url: &str, direct_url: &str, limit: Duration) -> Result<bool, StoreError> {
        hears(&super::address(url)?, super::address(direct_url)?, limit).await
    }
}

async fn connect(address: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    within(PATIENCE, PgConnection::connect_with(address)).await
}

/// Looks at everything, in one transaction: whatever is between us and the database gives all of it the same session.
async fn look(address: &PgConnectOptions) -> Result<Diagnosis, StoreError> {
    let mut connection = connect(address).await?;
    let mut transaction = within(PATIENCE, Connection::begin(&mut connection)).await?;
    let asked = Timestamp::now().0;
    let row = within(PATIENCE, sqlx::raw_sql(SERVER).fetch_one(&mut *transaction)).await?;
    let answered = Timestamp::now().0;
    let lacking = within(PATIENCE, sqlx::raw_sql(LACKING).fetch_all(&mut *transaction)).await?;
    let lacking = lacking.iter().map(|row| row.try_get("what")).collect::<Result<_, _>>()?;
    let (schema_version, schema) = match tokio::time::timeout(PATIENCE, schema::look(&mut transaction)).await {
        Err(_elapsed) => return Err(StoreError::TimedOut(PATIENCE)),
        Ok(Err(error)) => (0, Err(error)),
        Ok(Ok(record)) => {
            let version = match record.found() {
                Found::Applied(applied) => applied.last().map_or(0, |(version, _)| *version),
                Found::Nothing | Found::NoRecord => 0,
            };
            (version, migrate::missing(migrate::POSTGRES, record.found(), Migrations::Forbid).map(drop))
        }
    };
    // An error above may have ended it already.
    transaction.rollback().await.ok();
    connection.close().await.ok();
    Ok(Diagnosis {
        version: row.try_get("version")?,
        is_supported: row.try_get::<i32, _>("number")? >= schema::OLDEST,
        role: row.try_get("role")?,
        database: row.try_get("database")?,
        clock: (row.try_get::<i64, _>("now")? - (asked + (answered - asked) / 2), answered - asked),
        isolation: row.try_get("isolation")?,
        is_read_only: row.try_get("read_only")?,
        synchronous_commit: row.try_get("synchronous_commit")?,
        survives_crashes: row.try_get("survives_crashes")?,
        encoding: row.try_get("encoding")?,
        free_sessions: row.try_get("free_sessions")?,
        schema_version,
        schema,
        may_migrate: row.try_get("may_migrate")?,
        lacking,
    })
}

async fn session(connection: &mut PgConnection) -> Result<i32, StoreError> {
    let row = within(PATIENCE, sqlx::raw_sql("SELECT pg_backend_pid() AS pid").fetch_one(connection)).await?;
    Ok(row.try_get("pid")?)
}

/// Whether connections are handed out per transaction: then a second one gets the session that the first one has only just used, or
/// the first one gets another while the second one keeps it busy.
async fn is_pooled(address: &PgConnectOptions) -> Result<bool, StoreError> {
    let (mut first, mut second) = (connect(address).await?, connect(address).await?);
    let mut is_pooled = false;
    for _ in 0..TURNS {
        let before = session(&mut first).await?;
        let mut transaction = within(PATIENCE, Connection::begin(&mut second)).await?;
        let between = session(&mut transaction).await?;
        is_pooled |= between == before || session(&mut first).await? != before;
        transaction.rollback().await?;
    }
    first.close().await.ok();
    second.close().await.ok();
    Ok(is_pooled)
}

/// On a channel that nobody else listens to.
async fn hears(address: &PgConnectOptions, direct: PgConnectOptions, limit: Duration) -> Result<bool, StoreError> {
    let channel = format!("holdline_doctor_{}", BootId::random().0.simple());
    let listen = async {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE).connect_lazy_with(direct);
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(&channel).await?;
        Ok(listener)
    };
    let mut listener = within(PATIENCE, listen).await?;
    let mut connection = connect(address).await?;
    let mut transaction = within(PATIENCE, Connection::begin(&mut connection)).await?;
    let ring = sqlx::query("SELECT pg_notify($1, '')").persistent(false).bind(&channel).execute(&mut *transaction);
    within(PATIENCE, ring).await?;
    within(PATIENCE, transaction.commit()).await?;
    Ok(tokio::time::timeout(limit, listener.recv()).await.is_ok_and(|heard| heard.is_ok()))
}
