//! What the statements of this store select, and how it is read.

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};

use crate::lifecycle::store::{
    AppRow, Claim, CloseCause, ConsumerRow, EventKind, EventRow, Fence, HoldId, HolderRow, Incarnation, LockRow, LockState, Mode, NodeRow,
    NodeState, NodeView, ParkReason, ParkedRow, Shard, StoreError, Timestamp, columns::row_readers,
};

/// Columns of an entry `e`.
macro_rules! event_columns {
    () => {
        "e.shard, e.position, e.kind, e.type, e.app, e.resource, e.fence, e.principal, e.socket_id, e.incarnation, e.cause, e.after_grace,
         e.detected_ms_before_commit, e.payload, (extract(epoch FROM e.at) * 1000)::bigint AS at_ms"
    };
}

/// Columns of a lock `l`.
macro_rules! lock_columns {
    () => {
        "l.fence, l.shard, l.app, l.resource, l.mode, l.principal, l.state, l.topic, l.context, l.grace_ms::bigint AS grace_ms,
         (extract(epoch FROM l.grace_until) * 1000)::bigint AS grace_until_ms,
         (extract(epoch FROM l.acquired_at) * 1000)::bigint AS acquired_at_ms,
         (extract(epoch FROM l.released_at) * 1000)::bigint AS released_at_ms, l.socket_id, l.cause"
    };
}

/// Columns of an application `a`.
macro_rules! app_columns {
    () => {
        "a.id, a.key, a.secret, a.previous_secret, a.enabled, a.settings, a.version,
         (extract(epoch FROM a.previous_secret_until) * 1000)::bigint AS previous_secret_until_ms,
         (extract(epoch FROM a.updated_at) * 1000)::bigint AS updated_at_ms"
    };
}

pub(super) use {app_columns, event_columns, lock_columns};

row_readers!(PgRow);
