//! Incarnations. There is one process, so a new one is the end of all before it.

use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

use super::{rows, write::Write};
use crate::lifecycle::store::{Incarnation, NewNode, NodeRow, NodeView, StoreError, Timestamp};

/// Columns of a node `n`.
macro_rules! node_columns {
    () => {
        "n.incarnation, n.name, n.heartbeat, n.state, n.ttl_ms, n.end_cause, n.started_at AS started_at_ms,
         n.heartbeat_at AS heartbeat_at_ms, n.fenced_at AS fenced_at_ms,
         (SELECT count(*) FROM hold h WHERE h.incarnation = n.incarnation) AS holds"
    };
}
pub(super) async fn register(connection: &mut SqliteConnection, node: &NewNode) -> Result<Incarnation, StoreError> {
    let now = Timestamp::now().0;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let incarnation: i64 = sqlx::query_scalar(
        "INSERT INTO node (name, boot, ttl_ms, started_at, heartbeat_at) VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT (boot) DO UPDATE SET boot = excluded.boot RETURNING incarnation",
    )
    .bind(&node.name)
    .bind(node.boot.0)
    .bind(i64::try_from(node.ttl.as_millis()).unwrap_or(i64::MAX))
    .bind(now)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query(
        "UPDATE node SET state = 'fenced', fenced_at = ?2, fenced_by = ?1, end_cause = 'superseded'
          WHERE incarnation < ?1 AND state IN ('alive', 'draining')",
    )
    .bind(incarnation)
    .bind(now)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Incarnation(incarnation))
}

pub(super) async fn heartbeat(connection: &mut SqliteConnection, node: Incarnation) -> Result<Vec<NodeView>, StoreError> {
    let mut write = Write::begin(connection, node).await?;
    sqlx::query("UPDATE node SET heartbeat = heartbeat + 1, heartbeat_at = ?2 WHERE incarnation = ?1")
        .bind(node.0)
        .bind(write.now.0)
        .execute(&mut *write.transaction)
        .await?;
    let rows = sqlx::query(concat!("SELECT ", node_columns!(), " FROM node n WHERE n.state <> 'swept' ORDER BY n.incarnation"))
        .fetch_all(&mut *write.transaction)
        .await?;
    write.commit().await?;
    rows.iter().map(|row| rows::node(row).map(|node| node.view)).collect()
}

pub(super) async fn declare_dead(
    connection: &mut SqliteConnection,
    by: Incarnation,
    node: Incarnation,
    seen: i64,
) -> Result<bool, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let fenced = sqlx::query(
        "UPDATE node SET state = 'fenced', fenced_at = ?1, fenced_by = ?2, end_cause = 'node_death'
          WHERE incarnation = ?3 AND incarnation <> ?2 AND state IN ('alive', 'draining') AND heartbeat = ?4",
    )
    .bind(write.now.0)
    .bind(by.0)
    .bind(node.0)
    .bind(seen)
    .execute(&mut *write.transaction)
    .await?;
    write.commit().await?;
    Ok(fenced.rows_affected() == 1)
}

pub(super) async fn set_draining(connection: &mut SqliteConnection, node: Incarnation) -> Result<(), StoreError> {
    let mut write = Write::begin(connection, node).await?;
    let drain = sqlx::query("UPDATE node SET state = 'draining' WHERE incarnation = ?1 AND state = 'alive'");
    drain.bind(node.0).execute(&mut *write.transaction).await?;
    write.commit().await.map(drop)
}

pub(super) async fn deregister(connection: &mut SqliteConnection, node: Incarnation) -> Result<bool, StoreError> {
    let gone = sqlx::query(
        "UPDATE node SET state = 'fenced', fenced_at = ?2, fenced_by = ?1, end_cause = 'shutdown'
          WHERE incarnation = ?1 AND state IN ('alive', 'draining')",
    );
    Ok(gone.bind(node.0).bind(Timestamp::now().0).execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn list(connection: &mut SqliteConnection) -> Result<Vec<NodeRow>, StoreError> {
    let rows = sqlx::query(concat!("SELECT ", node_columns!(), " FROM node n ORDER BY n.incarnation DESC")).fetch_all(connection).await?;
    rows.iter().map(rows::node).collect()
}

/// How long swept nodes are remembered.
pub(super) const KEEP_NODES: Duration = Duration::from_secs(30 * 24 * 3600);
