//! What the statements of this store select, and how it is read.

use std::time::Duration;

use sqlx::{Row, sqlite::SqliteRow};

use crate::lifecycle::store::{
    AppRow, Claim, CloseCause, ConsumerRow, EventKind, EventRow, Fence, HoldId, HolderRow, Incarnation, LockRow, LockState, Mode, NodeRow,
    NodeState, NodeView, ParkReason, ParkedRow, Shard, StoreError, Timestamp, columns::row_readers,
};

/// Columns of an entry `e`.
macro_rules! event_columns {
    () => {
        "e.shard, e.position, e.kind, e.type, e.app, e.resource, e.fence, e.principal, e.socket_id, e.incarnation, e.cause, e.after_grace,
         e.detected_ms_before_commit, e.payload, e.at AS at_ms"
    };
}

/// Columns of a lock `l`.
macro_rules! lock_columns {
    () => {
        "l.fence, l.shard, l.app, l.resource, l.mode, l.principal, l.state, l.topic, l.context, l.grace_ms,
         l.grace_until AS grace_until_ms, l.acquired_at AS acquired_at_ms, l.released_at AS released_at_ms, l.socket_id, l.cause"
    };
}

/// Columns of an application `a`.
macro_rules! app_columns {
    () => {
        "a.id, a.key, a.secret, a.previous_secret, a.enabled, a.settings, a.version,
         a.previous_secret_until AS previous_secret_until_ms, a.updated_at AS updated_at_ms"
    };
}

pub(super) use {app_columns, event_columns, lock_columns};

row_readers!(SqliteRow);
