//! How a database is reached, and how long it may take.

use std::time::Duration;

use crate::lifecycle::store::{Lane, Migrations, StoreLimits};

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://…`.
    pub url: String,
    /// Where to LISTEN if `url` leads to a transaction pooler, which cannot.
    pub direct_url: Option<String>,
    /// What to do about a schema that is missing or old.
    pub migrations: Migrations,
    /// How many shards a fresh schema gets; fixed from then on.
    pub shards: u16,
    /// What is accepted.
    pub limits: StoreLimits,
    /// How long the database may work on a write.
    pub statement_timeout: Duration,
    /// How long to wait for an answer before the connection is thrown away; longer than `statement_timeout`.
    pub call_timeout: Duration,
    /// How many connections reads may take.
    pub readers: u32,
    /// How many connections transactional listeners may take.
    pub listeners: u32,
}

impl PostgresOptions {
    /// The defaults, for a url.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            direct_url: None,
            migrations: Migrations::Apply,
            shards: 16,
            limits: StoreLimits::default(),
            statement_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(3),
            readers: 4,
            listeners: 4,
        }
    }

    /// Most sessions that a store opens: its lanes, [`super::SLOTS`] for single kinds of work, the pools for reads, for keys of publishes and
    /// for listeners, and the one that listens.
    pub(crate) fn sessions(&self) -> u32 {
        let (readers, listeners) = (self.readers.max(1), self.listeners.max(1));
        u32::from(Lane::COUNT) + super::SLOTS + 2 * readers + listeners + 1
    }
}
