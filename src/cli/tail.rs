//! `holdline events tail`

use std::{io, sync::Arc, time::Duration};

use actix_web::rt::time::{sleep, timeout};
use tokio::signal::ctrl_c;

use super::{
    error::CliError,
    events::{BATCH, Lines, Selection, say_cursor, start},
    output::Reader,
};
use crate::lifecycle::store::{Cursor, LifecycleStore, StoreError};

/// How often the log is looked at.
const EVERY: Duration = Duration::from_millis(300);
/// How often it is tried while the store does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// How long a look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Prints what is written from now on, or from where `--after` says, until Ctrl-C or until nobody reads.
pub(super) async fn run(store: &Arc<dyn LifecycleStore>, selection: &Selection) -> Result<(), CliError> {
    let mut place = match start(store, selection).await? {
        Some(place) => place,
        None => store.head().await?,
    };
    let mut lines = Lines::new(selection.json);
    if lines.head()? == Reader::Gone {
        return Ok(());
    }
    let interrupted = tokio::select! {
        followed = follow(store, selection, &mut lines, &mut place) => return followed,
        interrupted = ctrl_c() => interrupted,
    };
    say_cursor(&place);
    interrupted.map_err(|error| CliError::Output(io::Error::other(error)))
}

async fn follow(store: &Arc<dyn LifecycleStore>, selection: &Selection, lines: &mut Lines, place: &mut Cursor) -> Result<(), CliError> {
    let mut away = false;
    loop {
        let look = timeout(LOOK_WITHIN, store.events_after(place, BATCH)).await;
        let (batch, next) = match look.unwrap_or(Err(StoreError::TimedOut(LOOK_WITHIN))) {
            Ok(found) => found,
            Err(error) if error.is_retryable() => {
                if !away {
                    eprintln!("holdline: {error}; waiting for it");
                }
                away = true;
                sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if std::mem::take(&mut away) {
            eprintln!("holdline: the store answers again");
        }
        if batch.is_empty() {
            sleep(EVERY).await;
            continue;
        }
        for event in batch {
            if selection.takes(&event) && lines.print(&event)? == Reader::Gone {
                return Ok(());
            }
            // After it was printed: what an interruption names has been shown.
            place.advance(&event);
        }
        *place = next;
    }
}
