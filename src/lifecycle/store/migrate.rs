//! The schema, step by step, and what it means if it is not what this program knows.
//!
//! All missing steps are applied in one transaction, so a step that fails leaves nothing behind. What is recorded must be a prefix
//! of what is known, text for text: anything else was done by another program or by hand.

use sha2::{Digest, Sha256};

use super::StoreError;

/// What to do about a schema that is missing or old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrations {
    /// Bring it up to date.
    Apply,
    /// Refuse to start.
    Forbid,
}

/// What [`Migrations::Apply`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version that was found; 0 if there was no schema.
    pub from: i64,
    /// The version that is there now.
    pub to: i64,
}

impl Migrated {
    /// From what was found by the steps that were missing.
    pub(super) fn by(found: Found<'_>, missing: &[Migration]) -> Self {
        let from = match found {
            Found::Applied(applied) => applied.last().map_or(0, |(version, _)| *version),
            Found::Nothing | Found::NoRecord => 0,
        };
        Self { from, to: missing.last().map_or(from, |migration| migration.version) }
    }
}

/// One file in `migrations/`.
#[derive(Debug)]
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

macro_rules! migrations {
    ($database:literal: $($version:literal $name:literal,)+) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../migrations/", $database, "/", $name, ".sql")),
        }),+]
    };
}

pub(super) const POSTGRES: &[Migration] = migrations!("postgres": 1 "0001_nodes", 2 "0002_locks_and_holds", 3 "0003_event_log", 4 "0004_consumers", 5 "0005_held", 6 "0006_occupancy", 7 "0007_dead_letters", 8 "0008_apps", 9 "0009_idempotency",);

pub(super) const SQLITE: &[Migration] = migrations!("sqlite": 1 "0001_nodes", 2 "0002_locks_and_holds", 3 "0003_event_log", 4 "0004_consumers", 5 "0005_held", 6 "0006_occupancy", 7 "0007_dead_letters", 8 "0008_apps", 9 "0009_idempotency",);

impl Migration {
    /// SHA-256 of the text, in hexadecimal.
    pub(super) fn checksum(&self) -> String {
        Sha256::digest(self.sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a database says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// No schema at all.
    Nothing,
    /// A schema without the table of applied migrations.
    NoRecord,
    /// What was applied: version and checksum, ascending.
    Applied(&'a [(i64, String)]),
}

/// The steps that are missing, in order; empty if the schema is as this program knows it.
pub(super) fn missing(known: &'static [Migration], found: Found<'_>, policy: Migrations) -> Result<&'static [Migration], StoreError> {
    let newest = known.last().map_or(0, |migration| migration.version);
    let applied = match found {
        Found::Nothing => &[],
        Found::NoRecord => return Err(StoreError::SchemaBroken { reason: "there is no record of what was applied".to_owned() }),
        Found::Applied(applied) => applied,
    };
    if let Some((found, _)) = applied.iter().max_by_key(|(version, _)| *version).filter(|(version, _)| *version > newest) {
        return Err(StoreError::SchemaNewer { found: *found, known: newest });
    }
    for (migration, (version, checksum)) in known.iter().zip(applied) {
        if migration.version != *version {
            return Err(StoreError::SchemaBroken { reason: format!("step {} was never applied, step {version} was", migration.name) });
        }
        if migration.checksum() != *checksum {
            return Err(StoreError::SchemaBroken { reason: format!("step {} was applied with another text", migration.name) });
        }
    }
    let missing = known.get(applied.len()..).unwrap_or_default();
    match policy {
        Migrations::Forbid if applied.is_empty() => Err(StoreError::SchemaMissing),
        Migrations::Forbid if !missing.is_empty() => {
            Err(StoreError::SchemaOlder { found: applied.last().map_or(0, |(version, _)| *version), known: newest })
        }
        _ => Ok(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(count: usize) -> Vec<(i64, String)> {
        POSTGRES[..count].iter().map(|migration| (migration.version, migration.checksum())).collect()
    }

    /// All steps there are.
    const ALL: usize = POSTGRES.len();
    const NEWEST: i64 = POSTGRES[ALL - 1].version;

    #[test]
    fn an_empty_and_an_old_database_are_brought_up_to_date() {
        assert_eq!(missing(POSTGRES, Found::Nothing, Migrations::Apply).unwrap().len(), ALL);
        assert_eq!(missing(POSTGRES, Found::Applied(&applied(ALL - 1)), Migrations::Apply).unwrap()[0].version, NEWEST);
        assert!(missing(POSTGRES, Found::Applied(&applied(ALL)), Migrations::Forbid).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        assert!(matches!(missing(POSTGRES, Found::Nothing, Migrations::Forbid), Err(StoreError::SchemaMissing)));
        let older = missing(POSTGRES, Found::Applied(&applied(4)), Migrations::Forbid);
        assert!(matches!(older, Err(StoreError::SchemaOlder { found: 4, known: NEWEST })));
        let mut newer = applied(ALL);
        newer.push((NEWEST + 1, "0".to_owned()));
        assert!(matches!(
            missing(POSTGRES, Found::Applied(&newer), Migrations::Apply),
            Err(StoreError::SchemaNewer { found, known: NEWEST }) if found == NEWEST + 1
        ));
        assert!(matches!(missing(POSTGRES, Found::NoRecord, Migrations::Apply), Err(StoreError::SchemaBroken { .. })));
        let broken =
            |applied: &[_]| matches!(missing(POSTGRES, Found::Applied(applied), Migrations::Apply), Err(StoreError::SchemaBroken { .. }));
        assert!(broken(&applied(ALL)[1..]));
        let mut altered = applied(ALL);
        altered[2].1.clear();
        assert!(broken(&altered));
    }

    #[test]
    fn both_databases_have_the_same_steps() {
        let names = |migrations: &[Migration]| migrations.iter().map(|migration| migration.name).collect::<Vec<_>>();
        assert_eq!(names(POSTGRES), names(SQLITE));
    }
}
