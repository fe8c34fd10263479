//! The tables of the store, as anybody with SQL sees them.

use std::{path::PathBuf, sync::Mutex};

use serde::Deserialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::support::proxy::runtime;

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) nodes: Vec<NodeRow>,
    pub(crate) locks: Vec<LockRow>,
    pub(crate) holds: Vec<HoldRow>,
    /// By shard and position.
    pub(crate) events: Vec<EventRow>,
    pub(crate) heads: Vec<HeadRow>,
    pub(crate) consumers: Vec<ConsumerRow>,
    pub(crate) parked: Vec<ConsumerRow>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NodeRow {
    pub(crate) incarnation: i64,
    pub(crate) state: String,
    pub(crate) end_cause: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LockRow {
    pub(crate) fence: i64,
    pub(crate) shard: i64,
    pub(crate) app: String,
    pub(crate) resource: String,
    pub(crate) mode: String,
    pub(crate) principal: String,
    pub(crate) state: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HoldRow {
    pub(crate) fence: i64,
    pub(crate) incarnation: i64,
    pub(crate) socket_id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EventRow {
    pub(crate) shard: i64,
    pub(crate) position: i64,
    pub(crate) kind: String,
    pub(crate) app: String,
    pub(crate) resource: String,
    pub(crate) fence: Option<i64>,
    pub(crate) principal: Option<String>,
    pub(crate) cause: Option<String>,
    pub(crate) after_grace: bool,
    /// Microseconds since 1970 by the database's clock.
    pub(crate) at: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HeadRow {
    pub(crate) shard: i64,
    pub(crate) last_position: i64,
    pub(crate) first_position: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConsumerRow {
    pub(crate) name: String,
    pub(crate) shard: i64,
    pub(crate) position: i64,
}

impl Ledger {
    pub(crate) fn unlocked(&self, fence: i64) -> Option<&EventRow> {
        self.events.iter().find(|event| event.kind == "unlocked" && event.fence == Some(fence))
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &LockRow> {
        self.locks.iter().filter(|lock| lock.state != "released")
    }

    /// What the log says about a resource: `locked`, `unlocked unsubscribed`, `unlocked gone after grace`.
    pub(crate) fn story(&self, resource: &str) -> Vec<String> {
        let word = |event: &EventRow| {
            let cause = event.cause.as_ref().map(|cause| format!(" {cause}")).unwrap_or_default();
            format!("{}{cause}{}", event.kind, if event.after_grace { " after grace" } else { "" })
        };
        self.events.iter().filter(|event| event.resource == resource).map(word).collect()
    }

    /// Fences of a resource's locks, in the order in which they began.
    pub(crate) fn fences(&self, resource: &str) -> Vec<i64> {
        let of = |event: &&EventRow| event.resource == resource && event.kind == "locked";
        self.events.iter().filter(of).filter_map(|event| event.fence).collect()
    }
}

/// A name in [`Ledger`], the table, its columns, and what to sort by.
const TABLES: [(&str, &str, &[&str], &str); 7] = [
    ("nodes", "node", &["incarnation", "state", "end_cause"], "incarnation"),
    ("locks", "lock", &["fence", "shard", "app", "resource", "mode", "principal", "state"], "fence"),
    ("holds", "hold", &["fence", "incarnation", "socket_id"], "fence"),
    (
        "events",
        "event",
        &["shard", "position", "kind", "app", "resource", "fence", "principal", "cause", "after_grace", "at"],
        "shard, position",
    ),
    ("heads", "shard_head", &["shard", "last_position", "first_position"], "shard"),
    ("consumers", "consumer", &["name", "shard", "position"], "name, shard"),
    ("parked", "parked", &["name", "shard", "position"], "name, shard, position"),
];

/// One statement, so that it is one moment.
fn statement(postgres: bool) -> String {
    let table = |(name, table, columns, order): (&str, &str, &[&str], &str)| {
        let field = |column: &&str| match (*column, postgres) {
            ("at", true) => "'at', (extract(epoch FROM at) * 1000000)::bigint".to_owned(),
            ("at", false) => "'at', at * 1000".to_owned(),
            ("after_grace", false) => "'after_grace', json(iif(after_grace, 'true', 'false'))".to_owned(),
            (column, _) => format!("'{column}', {column}"),
        };
        let fields = columns.iter().map(field).collect::<Vec<_>>().join(", ");
        if postgres {
            format!("'{name}', (SELECT coalesce(jsonb_agg(jsonb_build_object({fields}) ORDER BY {order}), '[]') FROM holdline.{table})")
        } else {
            format!("'{name}', (SELECT json_group_array(json_object({fields})) FROM (SELECT * FROM {table} ORDER BY {order}))")
        }
    };
    let tables = TABLES.map(table).join(",\n");
    if postgres { format!("SELECT jsonb_build_object({tables})::text") } else { format!("SELECT json_object({tables})") }
}

/// Where the tables are.
#[derive(Debug)]
pub(crate) enum Sql {
    Postgres { url: String, kept: Mutex<Option<PgConnection>> },
    Sqlite(PathBuf),
}

impl Sql {
    pub(crate) fn postgres(url: String) -> Sql {
        Sql::Postgres { url, kept: Mutex::new(None) }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Sql::Postgres { .. })
    }

    /// One text column of one row, or why not.
    pub(crate) fn try_text(&self, statement: &str) -> Result<Option<String>, sqlx::Error> {
        let query = || AssertSqlSafe(statement.to_owned());
        match self {
            Sql::Postgres { url, kept } => runtime().block_on(async {
                let former = kept.lock().expect("not poisoned").take();
                let mut connection = match former {
                    Some(connection) => connection,
                    None => PgConnection::connect(url).await?,
                };
                let answer = sqlx::query_scalar(query()).fetch_optional(&mut connection).await?;
                *kept.lock().expect("not poisoned") = Some(connection);
                Ok(answer.flatten())
            }),
            Sql::Sqlite(path) => runtime().block_on(async {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(5));
                let mut connection = SqliteConnection::connect_with(&options).await?;
                let answer: Option<Option<String>> = sqlx::query_scalar(query()).fetch_optional(&mut connection).await?;
                connection.close().await?;
                Ok(answer.flatten())
            }),
        }
    }

    /// The same where the database must answer; a connection that an earlier fault broke is replaced.
    pub(crate) fn text(&self, statement: &str) -> Option<String> {
        let again = |_: sqlx::Error| self.try_text(statement);
        self.try_text(statement).or_else(again).unwrap_or_else(|error| panic!("{error}: {statement}"))
    }

    pub(crate) fn number(&self, expression: &str) -> i64 {
        let text = self.text(&format!("SELECT CAST(({expression}) AS text)"));
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("not a number: {expression}"))
    }

    /// Runs statements on a connection of their own.
    pub(crate) fn run(&self, statements: &str) {
        let done = runtime().block_on(async {
            match self {
                Sql::Postgres { url, .. } => {
                    let mut connection = PgConnection::connect(url).await?;
                    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
                    connection.close().await
                }
                Sql::Sqlite(path) => {
                    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await?;
                    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
                    connection.close().await
                }
            }
        });
        done.unwrap_or_else(|error| panic!("{error}: {statements}"));
    }

    /// Everything, at one moment.
    pub(crate) fn ledger(&self) -> Ledger {
        let text = self.text(&statement(self.is_postgres())).expect("one row");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}
