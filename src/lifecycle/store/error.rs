//! What a store can answer instead.

use std::{error::Error, path::PathBuf, time::Duration};

use super::InvalidOp;
use crate::domain::UnknownWord;

/// The cause underneath, as the database driver says it.
pub type Source = Box<dyn Error + Send + Sync>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody declared this node dead. Close everything that holds, forget all holds, register anew.
    #[error("this node's incarnation is fenced: it was declared dead, replaced, or it signed off")]
    Fenced,
    /// The session does not run at READ COMMITTED, at which alone fencing works.
    #[error("the store needs READ COMMITTED: set default_transaction_isolation of the role or the database to 'read committed' ({source})")]
    WrongIsolation {
        /// What the database said.
        #[source]
        source: Source,
    },
    /// No answer, or none now. Whether a write was done is not known.
    #[error("the store does not answer: {source}")]
    Unavailable {
        /// What the driver said.
        #[source]
        source: Source,
    },
    /// Somebody else has the row of a shard locked. Nothing was written.
    #[error("a shard of the store is locked by another session: {source}")]
    Busy {
        /// What the database said.
        #[source]
        source: Source,
    },
    /// No answer within the client's limit. Whether a write was done is not known.
    #[error("the store did not answer within {0:?}")]
    TimedOut(Duration),
    /// The database's role may not do it.
    #[error("the store's role has no right to {action}: {source}")]
    NotPermitted {
        /// What it tried.
        action: &'static str,
        /// What the database said.
        #[source]
        source: Source,
    },
    /// There is no schema, and creating it at start is forbidden.
    #[error("the database has no Holdline schema; run `holdline migrate`, or let it migrate at start")]
    SchemaMissing,
    /// The schema is older, and migrating at start is forbidden.
    #[error("the database's schema is at version {found}, this program needs {known}; run `holdline migrate`")]
    SchemaOlder {
        /// What is there.
        found: i64,
        /// What this program has.
        known: i64,
    },
    /// A newer program has been here.
    #[error("the database's schema is at version {found}, this program knows {known}: use a newer Holdline")]
    SchemaNewer {
        /// What is there.
        found: i64,
        /// What this program has.
        known: i64,
    },
    /// Parts of the schema are missing, or its history is not ours.
    #[error("the database's schema is half migrated or altered: {reason}; restore it, or drop it and start anew")]
    SchemaBroken {
        /// What is wrong.
        reason: String,
    },
    /// A resource in two shards: the number of shards was changed after the installation.
    #[error("the number of shards does not fit this database: {source}")]
    ShardMismatch {
        /// What the database said.
        #[source]
        source: Source,
    },
    /// The database server is too old.
    #[error("the store needs PostgreSQL 14 or newer, this is {found}")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// Another process has the data directory.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDirectory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address of the store cannot be read.
    #[error("the store's url cannot be read: {source}")]
    BadUrl {
        /// Why.
        #[source]
        source: Source,
    },
    /// What was asked for cannot be stored.
    #[error(transparent)]
    Invalid(#[from] InvalidOp),
    /// Retention has deleted what comes next. `first` is the oldest that is left.
    #[error("the log before position {first} has been deleted")]
    Trimmed {
        /// The oldest position that is left.
        first: i64,
    },
    /// A position is missing: stop, and say so loudly.
    #[error("the log has a hole: {found} comes after {after}")]
    LogHole {
        /// The last position that was read.
        after: i64,
        /// The one that came.
        found: i64,
    },
    /// There is no consumer of that name.
    #[error("there is no consumer {name}")]
    UnknownConsumer {
        /// The name.
        name: String,
    },
    /// A word in the database that this program does not know.
    #[error("in the database, {0}")]
    UnknownWord(#[from] UnknownWord),
    /// A cursor that no store has given out.
    #[error("this is not a cursor of this log")]
    BadCursor,
    /// The database refused the statement, and would again.
    #[error("the store refused: {source}")]
    Refused {
        /// What it said.
        #[source]
        source: Source,
    },
}

impl StoreError {
    /// True if the same call may succeed later. Commits and releases are replayed with the same ids: they are idempotent.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut(_) | Self::Busy { .. })
    }
}

/// SQLSTATEs of our own functions; see `migrations/postgres/0001_nodes.sql`.
const FENCED: &str = "HL001";
const WRONG_ISOLATION: &str = "HL002";
const SHARD_MISMATCH: &str = "HL003";

/// Whether a SQLSTATE of PostgreSQL says that the database is away, for everybody and for now: connection, credentials or database that
/// are being changed, resources, shutdown and crash, system error, read only after a failover.
pub(in crate::lifecycle) fn is_outage(code: &str) -> bool {
    ["08", "28", "3D", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) || code == "25006"
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(std::borrow::Cow::into_owned);
        let source: Source = Box::new(error);
        match code.as_deref() {
            Some(FENCED) => Self::Fenced,
            Some(WRONG_ISOLATION) => Self::WrongIsolation { source },
            Some(SHARD_MISMATCH) => Self::ShardMismatch { source },
            Some("42501") => Self::NotPermitted { action: "do this", source },
            // PostgreSQL: no schema, no table, no function.
            Some("3F000" | "42P01" | "42883") => Self::SchemaMissing,
            // PostgreSQL: lock timeout.
            Some("55P03") => Self::Busy { source },
            // PostgreSQL: serialization, deadlock.
            Some("40001" | "40P01") => Self::Unavailable { source },
            // PostgreSQL, operator intervention: here also a statement that was cancelled.
            Some(code) if code.len() == 5 && (is_outage(code) || code.starts_with("57")) => Self::Unavailable { source },
            // SQLite, primary code in the low byte: busy, locked, read only, I/O, full, cannot open.
            Some(code) if code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14)) => {
                Self::Unavailable { source }
            }
            Some(_) => Self::Refused { source },
            None => match source.downcast_ref::<sqlx::Error>() {
                Some(sqlx::Error::Configuration(_)) => Self::BadUrl { source },
                Some(
                    sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::RowNotFound
                    | sqlx::Error::TypeNotFound { .. },
                ) => Self::Refused { source },
                _ => Self::Unavailable { source },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_what_nobody_asked_for() {
        // A password that was changed, a database that was renamed, a shutdown, too many connections, a failover.
        for code in ["08006", "28P01", "28000", "3D000", "57P01", "57P03", "53300", "58030", "25006"] {
            assert!(is_outage(code), "{code}");
        }
        // A cancelled statement, a broken rule, no such table, a lock that cannot be had.
        for code in ["57014", "23505", "42P01", "55P03", "40001"] {
            assert!(!is_outage(code), "{code}");
        }
    }
}
