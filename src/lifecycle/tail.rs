//! This node's own eyes on the log: from its head on, entry by entry, for those who hold, wait or watch here. It keeps no offset: what
//! was written before the start is none of their business.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    LockManager,
    doorbell::Rings,
    store::{CloseCause, Cursor, EventKind, EventRow},
};

/// Somebody in this process who reads along: called for every entry, in order. Must not block.
pub(crate) struct Reader(pub(crate) Box<dyn Fn(&EventRow) + Send + Sync>);

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// How many entries one read takes.
const AT_ONCE: u32 = 500;
/// When it is asked again whether something is free.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Follows the log from `cursor` on; rings `unclear` when somebody waits for what may be free now.
pub(super) async fn follow(locks: LockManager, mut rings: Rings, mut cursor: Cursor, readers: Vec<Reader>, unclear: Arc<Notify>) {
    let mut blind = false;
    loop {
        rings.rung().await;
        loop {
            match locks.store().follow(&cursor, AT_ONCE).await {
                Ok((events, next)) => {
                    if std::mem::take(&mut blind) {
                        tracing::info!("The log can be followed again");
                    }
                    let more = events.len() >= AT_ONCE as usize;
                    cursor = next;
                    take(&locks, &unclear, &events, &readers);
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut blind, true) {
                        tracing::warn!(error = %error, "The log cannot be followed; until it can, nobody here hears that a lock was lost or is free: {error}");
                    }
                    break;
                }
            }
        }
    }
}

fn take(locks: &LockManager, unclear: &Notify, events: &[EventRow], readers: &[Reader]) {
    for event in events {
        readers.iter().for_each(|reader| (reader.0)(event));
        if let (EventKind::Unlocked, Some(fence), Some(cause)) = (event.kind, event.fence, event.cause) {
            let (notices, awaited) = locks.table(|table| {
                let awaited = table.is_awaited(&event.app, &event.resource);
                if awaited {
                    table.is_unclear(&event.app, &event.resource);
                }
                // What a dead node held is this node's only if this one was declared dead: then all of it is over at once, and whoever
                // held something is closed. The heartbeat learns that, or a lane.
                let of_dead = matches!(cause, CloseCause::NodeDeath | CloseCause::Superseded);
                (if of_dead { Vec::new() } else { table.lock_ended(fence, cause) }, awaited)
            });
            locks.tell(notices);
            if awaited {
                unclear.notify_one();
            }
        }
    }
}

/// Tells those who wait for what may be free. Beside the reader of the log, for it asks the store resource by resource, and who has lost
/// something hears of it first. What the store cannot say is asked again a little later: there may be no other end of a lock on it.
pub(super) async fn tell_waiters(locks: LockManager, unclear: Arc<Notify>) {
    loop {
        let _news_or_time = tokio::time::timeout(ASK_AGAIN, unclear.notified()).await;
        while let Some((app, resource)) = locks.table(|table| table.next_unclear()) {
            if !locks.tell_if_free(&app, &resource).await {
                break;
            }
        }
    }
}
