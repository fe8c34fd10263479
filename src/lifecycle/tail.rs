//! This node's own eyes on the log: from its head on, entry by entry, for those who hold, wait or watch here. It keeps no offset: what
//! was written before the start is none of their business.

use std::fmt;

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
/// Follows the log from `cursor` on.
pub(super) async fn follow(locks: LockManager, mut rings: Rings, mut cursor: Cursor, readers: Vec<Reader>) {
    loop {
        rings.rung().await;
        tell_waiters(&locks).await;
        loop {
            match locks.store().events_after(&cursor, AT_ONCE).await {
                Ok((events, next)) => {
                    let more = events.len() >= AT_ONCE as usize;
                    cursor = next;
                    take(&locks, &events, &readers);
                    tell_waiters(&locks).await;
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

fn take(locks: &LockManager, events: &[EventRow], readers: &[Reader]) {
    for event in events {
        readers.iter().for_each(|reader| (reader.0)(event));
        if let (EventKind::Unlocked, Some(fence), Some(cause)) = (event.kind, event.fence, event.cause) {
            let notices = locks.table(|table| {
                if table.is_awaited(&event.app, &event.resource) {
                    table.is_unclear(&event.app, &event.resource);
                }
                // What a dead node held is this node's only if this one was declared dead: then all of it is over at once, and whoever
                // held something is closed. The heartbeat learns that, or a lane.
                if matches!(cause, CloseCause::NodeDeath | CloseCause::Superseded) { Vec::new() } else { table.lock_ended(fence, cause) }
            });
            locks.tell(notices);
        }
    }
}

/// Those who wait for what may be free. What the store cannot say is asked again later: there may be no other end of a lock on it.
async fn tell_waiters(locks: &LockManager) {
    while let Some((app, resource)) = locks.table(|table| table.next_unclear()) {
        if !locks.tell_if_free(&app, &resource).await {
            return;
        }
    }
}
