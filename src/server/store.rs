//! Which store there is, and how each kind of program opens it: the broker, to serve; commands, to look or to operate beside it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::StoreSettings,
    lifecycle::store::{
        BootId, DataDirectory, LifecycleStore, Migrated, Migrations, Naming, PostgresOptions, PostgresStore, SqliteStore, StoreError,
        StoreLimits,
    },
};

/// Where locks and log are kept, and what is accepted there.
#[derive(Clone)]
pub(crate) struct StoreTarget {
    /// `sqlite`, `memory`, `none`, or `postgres://…`. It may hold a password.
    pub(crate) url: String,
    /// PostgreSQL without the pooler that `url` goes through.
    pub(crate) direct_url: Option<String>,
    /// How many shards a fresh PostgreSQL schema gets.
    pub(crate) shards: u16,
    /// Of this node alone.
    pub(crate) data_dir: PathBuf,
    /// What the broker does about a schema that is missing or old.
    pub(crate) migrations: Migrations,
    /// Of single values.
    pub(crate) limits: StoreLimits,
}

impl From<&StoreSettings> for StoreTarget {
    fn from(settings: &StoreSettings) -> Self {
        let StoreSettings { max_resource_bytes, max_principal_bytes, max_context_bytes, max_holds, .. } = *settings;
        Self {
            url: settings.url.expose().to_owned(),
            direct_url: (!settings.direct_url.is_empty()).then(|| settings.direct_url.expose().to_owned()),
            shards: settings.shards,
            data_dir: PathBuf::from(&settings.data_dir),
            migrations: if settings.migrate { Migrations::Apply } else { Migrations::Forbid },
            limits: StoreLimits { max_resource_bytes, max_principal_bytes, max_context_bytes, max_holds, ..StoreLimits::default() },
        }
    }
}

/// A store that a broker serves from.
#[derive(Debug)]
pub(crate) struct OpenStore {
    /// The store.
    pub(crate) store: Arc<dyn LifecycleStore>,
    /// The same, if it is PostgreSQL: listeners may keep their effects there.
    pub(crate) postgres: Option<Arc<PostgresStore>>,
    /// The same, if it ends with this process.
    pub(crate) fleeting: Option<Arc<SqliteStore>>,
    /// The node's name.
    pub(crate) node_name: String,
    /// Whether nobody else can have it.
    pub(crate) naming: Naming,
    /// Keeps the name ours. SQLite has it in the store.
    _directory: Option<DataDirectory>,
}

/// What a command does beside the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Look.
    Read,
    /// Move consumers.
    Operate,
}

/// Why there is no store to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store says why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process has the directory of the embedded database.
    #[error("store.data_dir: {} is in use by another broker; give each its own, or share one PostgreSQL", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The same, for a migration.
    #[error("store.data_dir: {} is in use by a broker; stop it first (it migrates at its start, unless store.migrate = false)", path.display())]
    MigrateInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A broker has never been here.
    #[error("there is no database at {}: run this where the broker runs, with its configuration, once it has started", path.display())]
    NoDatabase {
        /// The file.
        path: PathBuf,
    },
    /// Nothing outside the broker's process.
    #[error("store.url is \"memory\": locks and log are in the broker's own process, where only its HTTP API can look")]
    Memory,
    /// Nothing at all.
    #[error("store.url is \"none\": there are no locks and there is no log")]
    Nothing,
    /// No kind of store that we have.
    #[error("store.url must be sqlite, memory, none or postgres://…")]
    UnknownUrl,
}

enum Kind<'a> {
    Sqlite,
    Postgres(&'a str),
    Memory,
    Nothing,
}

fn kind(target: &StoreTarget) -> Result<Kind<'_>, OpenError> {
    match target.url.as_str() {
        "sqlite" => Ok(Kind::Sqlite),
        "memory" => Ok(Kind::Memory),
        "none" => Ok(Kind::Nothing),
        url if url.starts_with("postgres://") || url.starts_with("postgresql://") => Ok(Kind::Postgres(url)),
        _ => Err(OpenError::UnknownUrl),
    }
}

/// Opens the store for a broker; `None` if it is configured to have none.
///
/// # Errors
/// [`OpenError`].
pub(crate) async fn serve(target: &StoreTarget) -> Result<Option<OpenStore>, OpenError> {
    Ok(Some(match kind(target)? {
        Kind::Nothing => return Ok(None),
        Kind::Memory => fleeting(target.limits).await?,
        Kind::Sqlite => {
            let directory = DataDirectory::open(&target.data_dir).map_err(|error| match error {
                StoreError::InUse { path } => OpenError::InUse { path },
                other => other.into(),
            })?;
            let node_name = directory.node_name().to_owned();
            let store = Arc::new(SqliteStore::open(directory, target.migrations, target.limits).await?);
            OpenStore { store, postgres: None, fleeting: None, node_name, naming: Naming::Unique, _directory: None }
        }
        Kind::Postgres(url) => {
            let (node_name, naming, directory) = name_of_node(&target.data_dir);
            let options = PostgresOptions {
                direct_url: target.direct_url.clone(),
                migrations: target.migrations,
                shards: target.shards,
                limits: target.limits,
                ..PostgresOptions::new(url)
            };
            let postgres = Arc::new(PostgresStore::connect(options).await?);
            OpenStore {
                store: Arc::clone(&postgres) as Arc<dyn LifecycleStore>,
                postgres: Some(postgres),
                fleeting: None,
                node_name,
                naming,
                _directory: directory,
            }
        }
    }))
}

/// A store that ends with this process.
///
/// # Errors
/// [`OpenError`].
pub(crate) async fn fleeting(limits: StoreLimits) -> Result<OpenStore, OpenError> {
    let store = Arc::new(SqliteStore::in_memory(limits).await?);
    let fleeting = Some(Arc::clone(&store));
    Ok(OpenStore { store, postgres: None, fleeting, node_name: random_name(), naming: Naming::Unique, _directory: None })
}

/// On PostgreSQL the directory has nothing but the name, and a node without a lasting one only takes longer to be missed: its former
/// life is noticed when its lease is over, not at once.
fn name_of_node(data_dir: &Path) -> (String, Naming, Option<DataDirectory>) {
    match DataDirectory::open(data_dir) {
        Ok(directory) => (directory.node_name().to_owned(), Naming::Unique, Some(directory)),
        Err(error) => {
            let name = random_name();
            tracing::info!(node.name = %name, "This node is called {name} until it stops: {error}");
            (name, Naming::Shared, None)
        }
    }
}

fn random_name() -> String {
    format!("node-{}", BootId::random().0.simple())
}

/// Opens the store for a command, beside any broker. No node is registered, no schema is changed.
///
/// # Errors
/// [`OpenError`].
pub(crate) async fn beside(target: &StoreTarget, access: Access) -> Result<Arc<dyn LifecycleStore>, OpenError> {
    match kind(target)? {
        Kind::Nothing => Err(OpenError::Nothing),
        Kind::Memory => Err(OpenError::Memory),
        Kind::Sqlite => {
            let path = DataDirectory::database_in(&target.data_dir);
            if !path.is_file() {
                return Err(OpenError::NoDatabase { path });
            }
            Ok(match access {
                Access::Read => Arc::new(SqliteStore::open_to_read(&path).await?),
                Access::Operate => Arc::new(SqliteStore::open_to_operate(&path).await?),
            })
        }
        Kind::Postgres(url) => {
            let options = PostgresOptions { migrations: Migrations::Forbid, readers: 1, ..PostgresOptions::new(url) };
            Ok(Arc::new(PostgresStore::connect(options).await?))
        }
    }
}

/// Creates the schema, or brings it up to date.
///
/// # Errors
/// [`OpenError`].
pub(crate) async fn migrate(target: &StoreTarget) -> Result<Migrated, OpenError> {
    match kind(target)? {
        Kind::Nothing => Err(OpenError::Nothing),
        Kind::Memory => Err(OpenError::Memory),
        Kind::Sqlite => {
            let directory = DataDirectory::open(&target.data_dir).map_err(|error| match error {
                StoreError::InUse { path } => OpenError::MigrateInUse { path },
                other => other.into(),
            })?;
            Ok(SqliteStore::migrate(&directory).await?)
        }
        Kind::Postgres(url) => Ok(PostgresStore::migrate(url, target.shards).await?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, data_dir: &Path) -> StoreTarget {
        let settings = StoreSettings { url: url.into(), data_dir: data_dir.display().to_string(), ..StoreSettings::default() };
        StoreTarget::from(&settings)
    }

    #[tokio::test]
    async fn a_directory_has_one_broker_and_any_number_of_readers() {
        let place = tempfile::tempdir().unwrap();
        let target = target("sqlite", &place.path().join("data"));
        assert!(matches!(beside(&target, Access::Read).await, Err(OpenError::NoDatabase { .. })));
        assert!(!target.data_dir.exists(), "whoever only looks leaves nothing behind");
        let open = serve(&target).await.unwrap().unwrap();
        assert_eq!(open.naming, Naming::Unique);
        assert!(matches!(serve(&target).await, Err(OpenError::InUse { .. })));
        assert!(matches!(migrate(&target).await, Err(OpenError::MigrateInUse { .. })));
        let readers = [beside(&target, Access::Read).await.unwrap(), beside(&target, Access::Operate).await.unwrap()];
        assert!(readers[0].drop_consumer("x").await.is_err(), "a reader cannot write");
        assert!(!readers[1].drop_consumer("x").await.unwrap());
        let name = open.node_name.clone();
        drop(open);
        assert_eq!(serve(&target).await.unwrap().unwrap().node_name, name, "it is the same node again");
        let migrated = migrate(&target).await.unwrap();
        assert!(migrated.from > 0 && migrated.from == migrated.to, "{migrated:?}");
    }

    #[tokio::test]
    async fn what_is_nowhere_cannot_be_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let memory = target("memory", place.path());
        let (first, second) = (serve(&memory).await.unwrap().unwrap(), serve(&memory).await.unwrap().unwrap());
        assert_ne!(first.node_name, second.node_name);
        assert!(matches!(beside(&memory, Access::Read).await, Err(OpenError::Memory)));
        let nothing = target("none", place.path());
        assert!(serve(&nothing).await.unwrap().is_none());
        assert!(matches!(beside(&nothing, Access::Operate).await, Err(OpenError::Nothing)));
        assert!(matches!(migrate(&nothing).await, Err(OpenError::Nothing)));
        for url in ["", "mysql://x", "SQLite", "postgres:/x"] {
            assert!(matches!(serve(&target(url, place.path())).await, Err(OpenError::UnknownUrl)), "{url}");
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn on_a_shared_store_two_nodes_may_start_in_one_directory() {
        let place = tempfile::tempdir().unwrap();
        let (first, naming, directory) = name_of_node(place.path());
        assert_eq!(naming, Naming::Unique);
        let (second, naming, none) = name_of_node(place.path());
        assert!(naming == Naming::Shared && none.is_none() && second != first);
        drop(directory);
        assert_eq!(name_of_node(place.path()).0, first);
    }
}
