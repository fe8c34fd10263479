//! The store that the configuration names, for commands that look at it or operate on it beside the broker.

use std::{future::Future, sync::Arc, time::Duration};

use actix_web::rt::{System, time::timeout};

use super::{FileArgs, error::CliError};
use crate::{
    lifecycle::store::{LifecycleStore, Migrated, StoreError},
    server::store::{self, Access, OpenError, StoreTarget},
};

/// How long the store may take to be there.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// Opens the configured store and does something with it.
pub(super) fn with_store<F>(file: &FileArgs, access: Access, work: impl FnOnce(Arc<dyn LifecycleStore>) -> F) -> Result<(), CliError>
where
    F: Future<Output = Result<(), CliError>>,
{
    let target = StoreTarget::from(&file.load()?.settings.store);
    System::new().block_on(async { work(in_time(store::beside(&target, access)).await?).await })
}

/// Brings the configured store's schema up to date.
pub(super) fn migrate(file: &FileArgs) -> Result<Migrated, CliError> {
    let target = StoreTarget::from(&file.load()?.settings.store);
    // No time limit: what it does to a large table may take long, and is done whole or not at all.
    Ok(System::new().block_on(store::migrate(&target))?)
}

/// Gives a store that does not answer so long and no longer.
pub(super) async fn in_time<T>(opening: impl Future<Output = Result<T, OpenError>>) -> Result<T, OpenError> {
    timeout(OPEN_WITHIN, opening).await.unwrap_or(Err(StoreError::TimedOut(OPEN_WITHIN).into()))
}
