//! This node's own eyes on the log: from its head on, entry by entry, for those who hold, wait or watch here. It keeps no offset: what
//! was written before the start is none of their business.

use std::{collections::BTreeSet, fmt};

use super::{
    LockManager,
    doorbell::Rings,
    store::{Cursor, EventKind, EventRow},
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
/// Follows the log from `cursor` on.
pub(super) async fn follow(locks: LockManager, mut rings: Rings, mut cursor: Cursor, readers: Vec<Reader>) {
    loop {
        rings.rung().await;
        loop {
            match locks.store().events_after(&cursor, AT_ONCE).await {
                Ok((events, next)) => {
                    let more = events.len() >= AT_ONCE as usize;
                    cursor = next;
                    take(&locks, &events, &readers).await;
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    tracing::debug!(error = %error, "Cannot follow the log: {error}");
                    break;
                }
            }
        }
    }
}

async fn take(locks: &LockManager, events: &[EventRow], readers: &[Reader]) {
    let mut ended = BTreeSet::new();
    for event in events {
        readers.iter().for_each(|reader| (reader.0)(event));
        if let (EventKind::Unlocked, Some(fence), Some(cause)) = (event.kind, event.fence, event.cause) {
            let (notices, awaited) = locks.table(|table| (table.lock_ended(fence, cause), table.is_awaited(&event.app, &event.resource)));
            locks.tell(notices);
            if awaited {
                ended.insert((event.app.as_str(), event.resource.as_str()));
            }
        }
    }
    for (app, resource) in ended {
        locks.tell_if_free(app, resource).await;
    }
}
