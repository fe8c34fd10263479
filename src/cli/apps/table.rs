//! The table of applications, for the commands that read and change it.

use std::{future::Future, io::Read, path::Path, sync::Arc};

use actix_web::rt::System;

use crate::{
    cli::{FileArgs, error::CliError, event::printable, store::in_time},
    config::{AppSettings, Settings},
    lifecycle::store::{AppRow, AppWrite, LifecycleStore, StoreError},
    server::{
        apps::settings_of,
        store::{self, Access, OpenError, StoreTarget},
    },
};

/// How often a change is tried again that somebody else was faster than.
const ATTEMPTS: usize = 5;
/// Bytes that are read of a secret's file: more than a secret may have.
const MAX_SECRET: u64 = 4_096;

/// The table, and the configuration beside it.
pub(super) struct AppsTable {
    pub(super) settings: Settings,
    store: Arc<dyn LifecycleStore>,
}

/// Opens the configured store and does something with its applications. Where there is none yet, it is made for those who write, if the
/// start of a broker would make it.
pub(super) fn with_apps<F>(file: &FileArgs, access: Access, work: impl FnOnce(AppsTable) -> F) -> Result<(), CliError>
where
    F: Future<Output = Result<(), CliError>>,
{
    let settings = file.load()?.settings;
    if !settings.app_store.enabled {
        eprintln!(
            "holdline: warning: app_store.enabled is false: a broker with this configuration does not serve the table's applications"
        );
    }
    let target = StoreTarget::from(&settings.store);
    System::new().block_on(async {
        let store = match in_time(store::beside(&target, access)).await {
            Err(OpenError::NoDatabase { .. } | OpenError::Store(StoreError::SchemaMissing))
                if access == Access::Operate && settings.store.migrate =>
            {
                store::migrate(&target).await?;
                in_time(store::beside(&target, access)).await?
            }
            opened => opened?,
        };
        work(AppsTable { settings, store }).await
    })
}

impl AppsTable {
    pub(super) async fn rows(&self) -> Result<Vec<AppRow>, CliError> {
        Ok(self.store.apps().await?.rows)
    }

    pub(super) async fn get(&self, id: &str) -> Result<AppRow, CliError> {
        let found = self.rows().await?.into_iter().find(|row| row.id == id);
        found.ok_or_else(|| self.missing(id))
    }

    /// Why a broker would not serve it.
    pub(super) fn error_of(&self, row: &AppRow) -> Option<String> {
        self.check(row).err().map(|error| error.to_string())
    }

    /// Whether a broker with this configuration would serve it.
    pub(super) fn check(&self, row: &AppRow) -> Result<(), CliError> {
        servable(&self.settings, row).map(drop)
    }

    pub(super) async fn insert(&self, row: &AppRow) -> Result<(), CliError> {
        self.check(row)?;
        match self.store.put_app(row, None).await? {
            AppWrite::Done => Ok(()),
            AppWrite::Changed => Err(CliError::NotThere(format!("there is an application {} already", printable(&row.id)))),
            AppWrite::KeyTaken => Err(key_taken(row)),
        }
    }

    /// Changes an application as it is now; gives what it has become.
    pub(super) async fn change(&self, id: &str, mut change: impl FnMut(&mut AppRow) -> Result<(), CliError>) -> Result<AppRow, CliError> {
        for _ in 0..ATTEMPTS {
            let mut row = self.get(id).await?;
            let version = row.version;
            change(&mut row)?;
            self.check(&row)?;
            match self.store.put_app(&row, Some(version)).await? {
                AppWrite::Done => return Ok(row),
                AppWrite::Changed => {}
                AppWrite::KeyTaken => return Err(key_taken(&row)),
            }
        }
        Err(CliError::NotThere(format!("application {} is being changed by others all the time: try again", printable(id))))
    }

    pub(super) async fn delete(&self, id: &str) -> Result<(), CliError> {
        if self.store.delete_app(id).await? { Ok(()) } else { Err(self.missing(id)) }
    }

    fn missing(&self, id: &str) -> CliError {
        match self.settings.apps.iter().any(|app| app.id == id) {
            true => CliError::NotThere(format!("application {} is one of the configuration: change it there", printable(id))),
            false => CliError::NotThere(format!("there is no application {} in the table", printable(id))),
        }
    }
}

/// What a broker with this configuration would make of a row, if it serves it.
pub(in crate::cli) fn servable(settings: &Settings, row: &AppRow) -> Result<AppSettings, CliError> {
    let taken = |what: &str| {
        let text = format!("the {what} of application {} is that of an application in the configuration, which wins", printable(&row.id));
        Err(CliError::NotThere(text))
    };
    match settings.apps.iter().find(|app| app.id == row.id || app.key == row.key) {
        Some(app) if app.id == row.id => taken("id"),
        Some(_) => taken("key"),
        None => Ok(settings_of(row, &settings.store)?),
    }
}

fn key_taken(row: &AppRow) -> CliError {
    CliError::NotThere(format!("the key {} is that of another application in the table", printable(&row.key)))
}

/// A secret from a file, or from the standard input; the end of its line does not belong to it.
pub(super) fn read_secret(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(MAX_SECRET).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text)),
    };
    read.map_err(|error| CliError::NotThere(format!("cannot read the secret from {}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
