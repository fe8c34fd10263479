//! Where locks and the log are kept.

use std::time::Duration;

use super::{DAY, HOUR, MILLIS_10, MILLIS_100, MINUTE, MINUTES_10, SECOND};
use crate::{
    config::{
        error::{Reason, Violation},
        rules::{Flag, KIB, Number, Size, Text, Time, UrlText, Word, directory, keywords, no_url_or_postgres, store_url, time_text},
        secret::SecretUrl,
        section::section,
    },
    domain::words,
};

/// A node that did not move for less than this may only be slow.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);
/// How many heartbeats fit into a lease, so that one or two may be late.
const HEARTBEATS_PER_LEASE: u32 = 4;
const YEARS_10: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

section! {
    /// `[store]`: where locks and the log are kept.
    StoreSettings {
        /// `sqlite`, `postgres://…`, `memory` or `none`.
        url: SecretUrl = SecretUrl::new("sqlite"), UrlText(store_url);
        /// What this node alone has: its name, and the SQLite database.
        data_dir: String = "./holdline-data".to_owned(), Text(directory);
        /// PostgreSQL without the pooler that `url` goes through; empty is `url`.
        direct_url: SecretUrl = SecretUrl::default(), UrlText(no_url_or_postgres);
        /// Whether nodes on PostgreSQL wake each other with NOTIFY, or only poll.
        notify: bool = true, Flag;
        /// Whether the start may change the schema.
        migrate: bool = true, Flag;
        /// The shards of a fresh PostgreSQL schema.
        shards: u16 = 16, Number(1..=1_024);
        /// How long a subscription waits for its hold before it is refused with `LockUnavailable`.
        acquire_timeout: Duration = Duration::from_secs(2), Time::within(MILLIS_10..=MINUTE);
        /// How often a node shows that it lives; at most a quarter of `lease`.
        heartbeat_interval: Duration = Duration::from_secs(3), Time::within(MILLIS_100..=HOUR);
        /// A node that did not move for so long is declared dead.
        lease: Duration = Duration::from_secs(12), Time::within(SHORTEST_LEASE..=HOUR);
        /// How often locks whose time is over are released.
        sweep_interval: Duration = SECOND, Time::within(MILLIS_10..=MINUTES_10);
        /// How often a node compares its connections with the holds that stand in its name.
        reconcile_interval: Duration = MINUTE, Time::within(MILLIS_100..=DAY);
        /// How often the log is looked at when nothing rings.
        poll_interval: Duration = SECOND, Time::within(MILLIS_10..=MINUTES_10);
        /// How long entries of the log are kept that everybody has read.
        retention: Duration = Duration::from_secs(7 * 24 * 60 * 60), Time::within(MINUTE..=YEARS_10);
        /// What becomes of connections that hold something when this node's lease is in doubt.
        on_doubt: OnDoubt = OnDoubt::Notify, Word::new();
        /// Holds of one connection.
        max_holds: usize = 100, Number(1..=10_000);
        /// Bytes of a resource.
        max_resource_bytes: usize = 200, Number(1..=512);
        /// Bytes of a principal.
        max_principal_bytes: usize = 200, Number(1..=512);
        /// Bytes of the JSON text of a context.
        max_context_bytes: usize = 4 * KIB, Size(2..=60_000);
    }
}

words! {
    /// What becomes of connections that hold something when it is not sure that they still do.
    OnDoubt {
        /// They are told.
        Notify = "notify",
        /// They are closed with 4200.
        Close = "close",
    }
}

words! {
    /// The kinds of stores.
    StoreKind {
        /// A database file of this node alone.
        Sqlite = "sqlite",
        /// A database that several nodes share.
        Postgres = "postgres",
        /// Nothing outlives the process.
        Memory = "memory",
        /// No locks, and no log.
        Nothing = "none",
    }
}
keywords!(OnDoubt);

impl StoreSettings {
    /// What `url` names.
    pub fn kind(&self) -> StoreKind {
        match self.url.expose() {
            "sqlite" => StoreKind::Sqlite,
            "memory" => StoreKind::Memory,
            "none" => StoreKind::Nothing,
            _ => StoreKind::Postgres,
        }
    }

    /// Keys that have to fit each other.
    pub(in crate::config) fn check_together(&self) -> Result<(), Violation> {
        let most = self.lease / HEARTBEATS_PER_LEASE;
        if self.heartbeat_interval > most {
            let (found, at_most) = (time_text(self.heartbeat_interval), time_text(most));
            return Err(Violation::at("store.heartbeat_interval", Reason::MoreThan { found, at_most, of: "a quarter of store.lease" }));
        }
        if !self.direct_url.is_empty() && self.kind() != StoreKind::Postgres {
            return Err(Violation::at("store.direct_url", self.needs("PostgreSQL")));
        }
        Ok(())
    }

    /// Something that this store cannot do.
    pub(in crate::config) fn needs(&self, what: &'static str) -> Reason {
        Reason::NeedsStore { what, found: self.url.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_what_the_url_names() {
        let kind = |url: &str| StoreSettings { url: SecretUrl::new(url), ..StoreSettings::default() }.kind();
        assert_eq!(StoreSettings::default().kind(), StoreKind::Sqlite);
        assert_eq!(
            ["memory", "none", "postgres://h/d", "postgresql://h/d"].map(kind).map(StoreKind::as_str),
            ["memory", "none", "postgres", "postgres"]
        );
    }

    #[test]
    fn a_heartbeat_fits_four_times_into_a_lease() {
        let check = |heartbeat: u64, lease: u64| {
            let (heartbeat_interval, lease) = (Duration::from_millis(heartbeat), Duration::from_millis(lease));
            let settings = StoreSettings { heartbeat_interval, lease, ..StoreSettings::default() };
            settings.check_together().map_err(|violation| violation.to_string())
        };
        assert_eq!(check(3_000, 12_000), Ok(()));
        assert_eq!(check(750, 3_000), Ok(()));
        let expected = "store.heartbeat_interval: 4s is more than 3s, a quarter of store.lease";
        assert_eq!(check(4_000, 12_000), Err(expected.to_owned()));
        assert!(check(751, 3_000).is_err());
    }
}
