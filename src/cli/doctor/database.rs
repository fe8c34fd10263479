//! The store: is it there, may we, and does it keep what a broker needs it to keep.

use std::time::Duration;

use super::report::{Report, chain};
use crate::{
    config::{Settings, StoreKind},
    lifecycle::store::{Diagnosis, PostgresOptions, PostgresStore, StoreError},
    server::store::{self, Access, OpenError, StoreTarget},
};

/// How long a ring may take to be heard.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// Lacking rights that are named one by one.
const NAMED: usize = 3;
/// A clock that is further off than a database's usually is, in milliseconds.
const CLOCK_OFF: i64 = 2_000;

pub(super) async fn examine(report: &mut Report, settings: &Settings) {
    match settings.store.kind() {
        StoreKind::Postgres => postgres(report, settings).await,
        StoreKind::Sqlite => sqlite(report, settings).await,
        StoreKind::Memory | StoreKind::Nothing => {}
    }
}

/// What the schema is, whichever database has it.
fn schema(report: &mut Report, found: &Result<(), StoreError>, migrate: bool, may: Option<bool>) {
    let cannot = "but this role may not: GRANT CREATE, or let its owner run `holdline migrate`";
    match found {
        Ok(()) => report.ok("schema", "is the one that this program knows"),
        Err(error @ (StoreError::SchemaMissing | StoreError::SchemaOlder { .. })) if migrate => {
            let what = if matches!(error, StoreError::SchemaMissing) { "is not there yet" } else { "is an older one" };
            match may {
                Some(false) => report.fail("schema", format!("{what}: the next start would bring it up to date, {cannot}")),
                _ => report.ok("schema", format!("{what}: the next start brings it up to date")),
            }
        }
        Err(error @ (StoreError::SchemaMissing | StoreError::SchemaOlder { .. })) => {
            report.fail("schema", format!("{error}; store.migrate is false"));
        }
        Err(error) => report.fail("schema", chain(error)),
    }
}

async fn sqlite(report: &mut Report, settings: &Settings) {
    let opened = store::beside(&StoreTarget::from(&settings.store), Access::Read).await;
    match opened {
        Ok(_) => schema(report, &Ok(()), settings.store.migrate, None),
        Err(OpenError::NoDatabase { .. }) => schema(report, &Err(StoreError::SchemaMissing), settings.store.migrate, None),
        Err(OpenError::Store(error)) => schema(report, &Err(error), settings.store.migrate, None),
        Err(other) => report.fail("schema", chain(&other)),
    }
}

async fn postgres(report: &mut Report, settings: &Settings) {
    let store = &settings.store;
    let (url, direct) = (store.url.expose(), store.direct_url.expose());
    let is_pooled = match PostgresStore::is_pooled(url).await {
        Ok(is_pooled) => is_pooled,
        Err(error) => return report.fail("database", format!("store.url: {}: {}", store.url, chain(&error))),
    };
    // A pooler may keep parts of one session from another.
    let asked = if is_pooled && !direct.is_empty() { direct } else { url };
    match PostgresStore::diagnose(asked).await {
        Ok(found) => judge(report, settings, &found),
        Err(error) => report.fail("database", format!("{}: {}", if asked == url { &store.url } else { &store.direct_url }, chain(&error))),
    }
    listening(report, settings, is_pooled).await;
}

/// NOTIFY at `url` and LISTEN at `direct_url`.
async fn listening(report: &mut Report, settings: &Settings, is_pooled: bool) {
    let store = &settings.store;
    match (is_pooled, store.direct_url.is_empty()) {
        (true, true) => {
            let what = "is a pooler that hands out connections per transaction, and LISTEN is lost there";
            let how = "set store.direct_url to the address without the pooler (or store.notify = false, and only poll)";
            if store.notify {
                return report.fail("pooler", format!("store.url {what}: {how}"));
            }
            report
                .warn("pooler", "store.url is a pooler that hands out connections per transaction; as store.notify is false, that may be");
        }
        (true, false) => report.ok("pooler", "store.url is a pooler per transaction; store.direct_url is there to listen on"),
        (false, _) => report.ok("pooler", "store.url gives each connection its own session"),
    }
    if !store.notify {
        return report.ok("listen", "store.notify is false: other brokers look every store.poll_interval");
    }
    let (key, direct) = if store.direct_url.is_empty() { ("store.url", &store.url) } else { ("store.direct_url", &store.direct_url) };
    if !store.direct_url.is_empty() && matches!(PostgresStore::is_pooled(direct.expose()).await, Ok(true)) {
        return report
            .fail("listen", format!("{key} is a pooler that hands out connections per transaction, too: name the database itself"));
    }
    match PostgresStore::hears(store.url.expose(), direct.expose(), HEARD_WITHIN).await {
        Ok(true) => report.ok("listen", format!("a NOTIFY at store.url is heard at {key}")),
        Ok(false) => report.fail(
            "listen",
            format!("a NOTIFY at store.url is not heard at {key} within {HEARD_WITHIN:?}: it must be the same database, without a pooler"),
        ),
        Err(error) => report.fail("listen", format!("{key}: {direct}: {}", chain(&error))),
    }
}

fn judge(report: &mut Report, settings: &Settings, found: &Diagnosis) {
    let (role, database) = (&found.role, &found.database);
    let place = format!("PostgreSQL {}, database {database}, as {role}", found.version);
    if !found.is_supported {
        report.fail("database", format!("{place}: Holdline needs PostgreSQL 14 or newer"));
    } else if found.is_read_only {
        report.fail("database", format!("{place}: it only reads; name the primary, or turn default_transaction_read_only off"));
    } else if found.encoding != "UTF8" {
        report.warn("database", format!("{place}: its encoding is {}, which cannot store every text: use UTF8", found.encoding));
    } else {
        report.ok("database", place);
    }
    sessions(report, found);
    clock(report, settings, found);
    if found.isolation == "read committed" {
        report.ok("isolation", "read committed");
    } else {
        let how = format!("ALTER ROLE {role} SET default_transaction_isolation = 'read committed'");
        report.fail("isolation", format!("{}: no lock is granted at that; {how}", found.isolation));
    }
    match (found.synchronous_commit.as_str(), found.survives_crashes) {
        (_, false) => report.fail("durability", "fsync or full_page_writes is off: a crash of the database loses locks, or all of it"),
        ("off", true) => {
            let how = format!("ALTER ROLE {role} SET synchronous_commit = on");
            report.fail("durability", format!("synchronous_commit is off: a crash of the database forgets locks that were granted; {how}"));
        }
        ("local", true) => report.warn("durability", "synchronous_commit is local: a failover may forget locks that were granted"),
        (level, true) => report.ok("durability", format!("synchronous_commit is {level}")),
    }
    schema(report, &found.schema, settings.store.migrate, Some(found.may_migrate));
    if found.lacking.is_empty() {
        let may = if found.may_migrate { ", and may change the schema" } else { "" };
        let note = if found.schema_version == 0 { "no table is there to have rights on yet" } else { "has what a broker needs" };
        report.ok("rights", format!("{role}: {note}{may}"));
    } else {
        let named = found.lacking.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
        let more = found.lacking.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let how = "GRANT them, on all tables, sequences and functions in schema holdline";
        report.fail("rights", format!("{role} lacks {named}{more}; {how}"));
    }
}

fn sessions(report: &mut Report, found: &Diagnosis) {
    let (free, wanted) = (found.free_sessions, PostgresOptions::new("").sessions());
    if free < i64::from(wanted) {
        let how = "raise max_connections, or the role's CONNECTION LIMIT";
        report.warn("sessions", format!("{free} more are free; a broker that is started now takes up to {wanted}: {how}"));
    } else {
        report.ok("sessions", format!("{free} more are free; a broker takes up to {wanted}"));
    }
}

/// The database's clock dates the log. Locks depend on no clock; signatures of requests do, on ours.
fn clock(report: &mut Report, settings: &Settings, found: &Diagnosis) {
    let (ahead, took) = found.clock;
    let off = ahead.abs().saturating_sub(took);
    let tolerance = settings.apps.iter().map(|app| app.limits.timestamp_tolerance).min().unwrap_or_default();
    let side = if ahead < 0 { "ahead of" } else { "behind" };
    let distance = humantime::format_duration(Duration::from_millis(ahead.unsigned_abs()));
    let found = format!("this clock is {distance} {side} the database's");
    if u128::from(off.unsigned_abs()) > tolerance.as_millis() {
        let what = format!("more than timestamp_tolerance ({})", humantime::format_duration(tolerance));
        report.fail("clock", format!("{found}, {what}: one of them is wrong, and if it is this one, right requests are refused; use NTP"));
    } else if off > CLOCK_OFF {
        report.warn("clock", format!("{found}: use NTP on both"));
    } else {
        report.ok("clock", format!("agrees with the database's to {} ms", off.max(took)));
    }
}
