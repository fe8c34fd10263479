//! Applications from the table of the store: read before anybody can connect, and again whenever the table has changed, by whomever.
//!
//! All of them are in memory, so that an unknown key costs no query, and a database that is away stops nobody. A change rings the bell that
//! also tells of new entries of the log; whoever does not hear it looks at the table's version now and then.

mod webhooks;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::task::JoinSet;

pub(super) use self::webhooks::Webhooks;
use super::{ServerError, wiring};
use crate::{
    cluster::Broker,
    config::{AppDraft, AppSettings, ConfigError, Settings, StoreSettings},
    domain::{App, ConfiguredHolds, FormerKey},
    lifecycle::{
        Rings, Signer, Signers,
        store::{AppRow, AppTable, LifecycleStore, StoreError},
        take_places,
    },
    protocol::SigningKey,
};

/// How long to wait before the store is asked again for what has to be known before the start.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// The shortest time between two looks: the bell also rings for every entry of the log.
const QUIET: Duration = Duration::from_millis(100);

/// What the table's applications are put into.
pub(super) struct Parts {
    /// Where the table is.
    pub(super) store: Arc<dyn LifecycleStore>,
    /// Who serves them.
    pub(super) broker: Broker,
    /// Who carries out their rules.
    pub(super) holds: ConfiguredHolds,
    /// Who delivers their webhooks, if anybody does.
    pub(super) webhooks: Option<Webhooks>,
    /// In whose names `[[listeners]]` send.
    pub(super) signers: Signers,
}

/// The applications of the table, as they are served.
pub(super) struct TableApps {
    parts: Parts,
    /// Whose rules the holds have to keep.
    store_settings: StoreSettings,
    /// Ids and keys of the configuration's own applications, which win.
    own: Vec<(String, String)>,
    /// The table's version that was read last.
    version: Option<i64>,
    /// What was read, by id, and whether it is served.
    rows: HashMap<String, Seen>,
}

/// One row, as it was read last.
struct Seen {
    row: AppRow,
    /// Whether some version of it is served.
    served: bool,
}

/// Why a row is not served.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("an application of the configuration has the same {0}, and wins")]
    Taken(&'static str),
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error(transparent)]
    Rules(#[from] crate::config::Violation),
    #[error(transparent)]
    Webhook(#[from] ServerError),
    /// No fault of the row: to be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a row means.
///
/// # Errors
/// [`ConfigError`], as for an `[[apps]]` table.
pub(crate) fn settings_of(row: &AppRow, store: &StoreSettings) -> Result<AppSettings, ConfigError> {
    AppDraft::from_json(&row.id, &row.settings)?.settings((&row.id, &row.key, &row.secret), row.enabled, store)
}

fn app_of(row: &AppRow, settings: &AppSettings) -> App {
    App { former_key: former_key(row), ..wiring::app(settings) }
}

fn former_key(row: &AppRow) -> Option<FormerKey> {
    row.previous_secret.as_ref().map(|(secret, until)| FormerKey {
        key: SigningKey::new(secret),
        until: UNIX_EPOCH + Duration::from_millis(u64::try_from(until.0).unwrap_or(0)),
    })
}

fn signer_of(row: &AppRow) -> Signer {
    Signer { app_key: row.key.clone(), signing_key: SigningKey::new(&row.secret), former_key: former_key(row) }
}

impl TableApps {
    /// Reads them all and serves them, however long it takes until the store answers.
    pub(super) async fn read(parts: Parts, settings: &Settings) -> Self {
        let own = settings.apps.iter().map(|app| (app.id.clone(), app.key.clone())).collect();
        let mut apps = Self { parts, store_settings: settings.store.clone(), own, version: None, rows: HashMap::new() };
        let mut complained = false;
        while let Err(error) = apps.look().await {
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(error = %error, "The start waits for the table of applications: {error}");
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        let (known, served) = (apps.rows.len(), apps.rows.values().filter(|seen| seen.served).count());
        tracing::info!(known, served, "Serving {served} of the {known} applications in the table");
        apps
    }

    /// Looks again at every ring, and at the latest after the poll interval, until the set is dropped.
    pub(super) fn follow(mut self, mut rings: Rings) -> JoinSet<()> {
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut away = false;
            loop {
                rings.rung().await;
                match self.look().await {
                    Ok(()) => {
                        if std::mem::take(&mut away) {
                            tracing::info!("The table of applications can be read again");
                        }
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut away, true) {
                            tracing::warn!(error = %error, "Changes of applications are not seen, those that are known are served: {error}");
                        }
                    }
                }
                tokio::time::sleep(QUIET).await;
            }
        });
        task
    }

    /// Takes up what has changed, if anything has.
    async fn look(&mut self) -> Result<(), StoreError> {
        self.look_at_all().await?;
        self.parts.signers.looked();
        Ok(())
    }

    async fn look_at_all(&mut self) -> Result<(), StoreError> {
        if self.version.is_some() && self.version == Some(self.parts.store.app_version().await?) {
            return Ok(());
        }
        let AppTable { version, rows } = self.parts.store.apps().await?;
        self.take_up(rows).await?;
        self.version = Some(version);
        Ok(())
    }

    async fn take_up(&mut self, rows: Vec<AppRow>) -> Result<(), StoreError> {
        let there: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let gone: Vec<String> = self.rows.keys().filter(|id| !there.contains(id.as_str())).cloned().collect();
        for id in gone {
            if self.rows.remove(&id).is_some_and(|seen| seen.served) {
                tracing::info!(app.id = id, "Application {id} was deleted from the table: it is served no more");
                self.drop_app(&id);
            }
        }
        for row in rows {
            let known = self.rows.get(&row.id);
            if known.is_some_and(|seen| seen.row == row) {
                continue;
            }
            let was_served = known.is_some_and(|seen| seen.served);
            let id = row.id.clone();
            let served = match self.serve(&row).await {
                Err(Unfit::Store(error)) => return Err(error),
                Ok(()) => {
                    tracing::info!(app.id = id, app.version = row.version, "Application {id} of the table is served as it is now");
                    true
                }
                Err(unfit) => {
                    let meanwhile = if was_served { "it is served as it was before" } else { "it is not served" };
                    tracing::error!(app.id = id, error = %unfit, "Application {id} of the table: {unfit}; {meanwhile}");
                    was_served
                }
            };
            self.rows.insert(id, Seen { row, served });
        }
        Ok(())
    }

    async fn serve(&mut self, row: &AppRow) -> Result<(), Unfit> {
        for (id, key) in &self.own {
            if *id == row.id {
                return Err(Unfit::Taken("id"));
            }
            if *key == row.key {
                return Err(Unfit::Taken("key"));
            }
        }
        // Also of one that is not served as it is now: what it has in the log is still to be told.
        self.parts.signers.add(&row.id, || signer_of(row));
        let settings = settings_of(row, &self.store_settings)?;
        let rules = settings.hold_rules()?;
        let app = app_of(row, &settings);
        let made = super::endpoints::of_app(&settings, app.former_key.as_ref())?;
        let (endpoints, stats): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        // Whatever is recorded from here on is owed to them.
        take_places(&*self.parts.store, &endpoints).await?;
        self.parts.signers.set(&row.id, signer_of(row));
        // Before anybody can connect to it.
        self.parts.holds.set_app(&row.id, rules);
        let watch = self.parts.webhooks.as_ref().map(|webhooks| webhooks.watch(&settings));
        let hub = self.parts.broker.serve_watched(app, |hub| watch.into_iter().for_each(|watch| hub.watch(watch)));
        if let Some(webhooks) = &mut self.parts.webhooks
            && webhooks.serve(&settings, row, endpoints.into_iter().zip(stats))
        {
            hub.tell_again();
        }
        Ok(())
    }

    fn drop_app(&mut self, id: &str) {
        self.parts.broker.retire(id);
        if let Some(webhooks) = &mut self.parts.webhooks {
            webhooks.drop_app(id);
        }
        self.parts.holds.set_app(id, []);
    }
}

#[cfg(test)]
#[path = "apps_tests.rs"]
mod tests;
