//! One write: a transaction that begins with the writer's lock, knows its node and time, and appends to the log.

use serde_json::{Value, json};
use sqlx::{Connection, Sqlite, SqliteConnection, Transaction};

use crate::lifecycle::store::{EventKind, Fence, Incarnation, NewEvent, OpId, StoreError, Timestamp};

/// The only shard.
pub(super) const SHARD: i16 = 0;

/// An entry that tells who is on a channel, or what happened there.
pub(super) struct Webhook<'a> {
    /// The application's id.
    pub(super) app: &'a str,
    /// Its name, such as `channel_occupied`.
    pub(super) name: &'a str,
    /// The channel.
    pub(super) channel: &'a str,
    /// Its other fields.
    pub(super) payload: Value,
}

/// A transaction of one node.
pub(super) struct Write<'c> {
    /// Where statements go.
    pub(super) transaction: Transaction<'c, Sqlite>,
    /// Whose it is.
    pub(super) node: Incarnation,
    /// When it began.
    pub(super) now: Timestamp,
    begun_at: i64,
    position: i64,
}

impl<'c> Write<'c> {
    /// Begins, unless the node is fenced.
    pub(super) async fn begin(connection: &'c mut SqliteConnection, node: Incarnation) -> Result<Self, StoreError> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let (lives, position): (bool, i64) = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM node WHERE incarnation = ?1 AND state IN ('alive', 'draining')), last_position
               FROM shard_head WHERE shard = ?2",
        )
        .bind(node.0)
        .bind(SHARD)
        .fetch_one(&mut *transaction)
        .await?;
        if !lives {
            return Err(StoreError::Fenced);
        }
        Ok(Self { transaction, node, now: Timestamp::now(), begun_at: position, position })
    }

    /// Appends a `locked` or `unlocked` per lock, from its row.
    pub(super) async fn append_locks(&mut self, kind: EventKind, fences: &[Fence], after_grace: bool) -> Result<(), StoreError> {
        let appended = sqlx::query(
            "INSERT INTO event (shard, position, kind, type, app, resource, fence, principal, socket_id, incarnation, cause, after_grace,
                                detected_ms_before_commit, payload, at)
             SELECT l.shard, ?2 + f.key + 1, ?3,
                    CASE WHEN instr(l.topic, '/') = 0 THEN l.topic || CASE ?3 WHEN 'locked' THEN 'Locked' ELSE 'Unlocked' END
                         WHEN ?3 = 'locked' THEN substr(l.topic, 1, instr(l.topic, '/') - 1)
                         ELSE substr(l.topic, instr(l.topic, '/') + 1) END,
                    l.app, l.resource, l.fence, l.principal, l.socket_id, ?4, l.cause, ?5, l.detected_ms_before_commit, l.context, ?6
               FROM json_each(?1) f CROSS JOIN lock l ON l.fence = f.value",
        )
        .bind(serde_json::Value::from_iter(fences.iter().map(|fence| fence.0)))
        .bind(self.position)
        .bind(kind.as_str())
        .bind(self.node.0)
        .bind(after_grace)
        .bind(self.now.0)
        .execute(&mut *self.transaction)
        .await?;
        self.position += i64::try_from(appended.rows_affected()).unwrap_or(0);
        Ok(())
    }

    /// Appends what a handler emitted, unless that was done before.
    pub(super) async fn append_events(&mut self, op: OpId, app: &str, socket_id: &str, events: &[NewEvent]) -> Result<(), StoreError> {
        if events.is_empty() || self.has_events_of(op).await? {
            return Ok(());
        }
        for (event, index) in events.iter().zip(1i32..) {
            self.position += 1;
            sqlx::query(
                "INSERT INTO event (shard, position, kind, type, app, resource, principal, socket_id, incarnation, payload, operation,
                                    operation_index, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )
            .bind(SHARD)
            .bind(self.position)
            .bind(event.kind.as_str())
            .bind(&event.event_type)
            .bind(app)
            .bind(&event.key)
            .bind(&event.principal)
            .bind(socket_id)
            .bind(self.node.0)
            .bind(&event.payload)
            .bind(op.0)
            .bind(index)
            .bind(self.now.0)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    /// Appends webhooks.
    pub(super) async fn append_webhooks(&mut self, webhooks: &[Webhook<'_>]) -> Result<(), StoreError> {
        if webhooks.is_empty() {
            return Ok(());
        }
        let appended = sqlx::query(
            "INSERT INTO event (shard, position, kind, type, app, resource, incarnation, payload, at)
             SELECT ?2, ?3 + w.key + 1, 'webhook', w.value ->> 0, w.value ->> 1, w.value ->> 2, ?4, w.value -> 3, ?5 FROM json_each(?1) w",
        )
        .bind(Value::from_iter(webhooks.iter().map(|webhook| json!([webhook.name, webhook.app, webhook.channel, webhook.payload]))))
        .bind(SHARD)
        .bind(self.position)
        .bind(self.node.0)
        .bind(self.now.0)
        .execute(&mut *self.transaction)
        .await?;
        self.position += i64::try_from(appended.rows_affected()).unwrap_or(0);
        Ok(())
    }

    /// True if an op's events are in the log.
    pub(super) async fn has_events_of(&mut self, op: OpId) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM event WHERE operation = ?1)").bind(op.0);
        Ok(found.fetch_one(&mut *self.transaction).await?)
    }

    /// Ends; how many entries the log got.
    pub(super) async fn commit(mut self) -> Result<u64, StoreError> {
        if self.position != self.begun_at {
            sqlx::query("UPDATE shard_head SET last_position = ?2 WHERE shard = ?1")
                .bind(SHARD)
                .bind(self.position)
                .execute(&mut *self.transaction)
                .await?;
        }
        self.transaction.commit().await?;
        Ok(u64::try_from(self.position - self.begun_at).unwrap_or(0))
    }
}
