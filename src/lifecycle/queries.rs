//! What an operator asks a running node about one application's locks and log. Another application's are as good as not there.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    LockManager,
    store::{Cursor, EventRow, Fence, LifecycleStore, LockQuery, LockRow, LockState, StoreError},
};
use crate::protocol::{ChannelName, SocketId};

/// How long an answer may take before the store counts as down: longer than its own limits, which name the reason.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// How long a page of the log looks for entries of its application among those of others.
const SCAN_FOR: Duration = Duration::from_secs(1);
/// Entries that are read at once. A store with many shards reads as many of each, and an entry may have 64 KiB.
const ENTRIES_AT_ONCE: u32 = 200;
/// Locks that are read at once.
const LOCKS_AT_ONCE: u32 = 1_000;

/// What became of an operator's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForcedRelease {
    /// The lock is over now.
    Released,
    /// It was already.
    OverAlready,
    /// The application has no such lock.
    Unknown,
}

impl LockManager {
    /// Locks of an application, by fence.
    ///
    /// # Errors
    /// [`StoreError`], also when no answer comes in time.
    pub(crate) async fn locks_of(&self, app: &str, query: LockQuery) -> Result<Vec<LockRow>, StoreError> {
        let query = LockQuery { app: Some(app.to_owned()), ..query };
        answer_of(self.store().locks(&query)).await
    }

    /// All locks of an application's resource that are alive; several if they are shared.
    ///
    /// # Errors
    /// As [`Self::locks_of`].
    pub(crate) async fn locks_on(&self, app: &str, resource: &str) -> Result<Vec<LockRow>, StoreError> {
        answer_of(locks_on(&**self.store(), app, resource, LOCKS_AT_ONCE)).await
    }

    /// What a connection of this node holds: resource, lock, and the channel it came with.
    pub(crate) fn held_by(&self, socket_id: SocketId) -> Vec<(String, Fence, Option<ChannelName>)> {
        self.table(|table| table.held_by(socket_id))
    }

    /// Whether a connection of this node holds a resource, as far as the node knows.
    pub(crate) fn holds(&self, socket_id: SocketId, resource: &str) -> bool {
        self.table(|table| table.has(socket_id, resource))
    }

    /// Ends a lock of an application, whoever holds it. After an error it is not known whether that was done: ask again.
    ///
    /// # Errors
    /// As [`Self::locks_of`]; [`StoreError::Fenced`] while this node is not registered.
    pub(crate) async fn force_release_of(&self, app: &str, fence: Fence) -> Result<ForcedRelease, StoreError> {
        let lock = answer_of(self.store().lock(fence)).await?;
        match lock.filter(|lock| lock.app == app).map(|lock| lock.state) {
            None => Ok(ForcedRelease::Unknown),
            Some(LockState::Released) => Ok(ForcedRelease::OverAlready),
            Some(LockState::Held | LockState::Grace) => match answer_of(self.force_release(fence)).await? {
                true => Ok(ForcedRelease::Released),
                false => Ok(ForcedRelease::OverAlready),
            },
        }
    }

    /// Up to `limit` entries of an application after a place (from the oldest if there is none), and the place after them. The page
    /// was the last one, for now, if that is the place that was given; an empty page alone may mean many entries of others.
    ///
    /// # Errors
    /// As [`Self::locks_of`]; [`StoreError::BadCursor`] for a place that this log does not have.
    pub(crate) async fn events_of(&self, app: &str, after: Option<Cursor>, limit: u32) -> Result<(Vec<EventRow>, Cursor), StoreError> {
        answer_of(events_of(&**self.store(), app, after, Page { limit, scan_for: SCAN_FOR })).await
    }
}

/// What the store answers, or that it does not in time.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn answer_of<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(ANSWER_WITHIN, call).await.unwrap_or(Err(StoreError::TimedOut(ANSWER_WITHIN)))
}

async fn locks_on(store: &dyn LifecycleStore, app: &str, resource: &str, batch: u32) -> Result<Vec<LockRow>, StoreError> {
    let (app, resource) = (Some(app.to_owned()), Some(resource.to_owned()));
    let mut query = LockQuery { app, resource, limit: batch, ..LockQuery::default() };
    let mut all: Vec<LockRow> = Vec::new();
    loop {
        let some = store.locks(&query).await?;
        let more = u32::try_from(some.len()).is_ok_and(|found| found >= batch);
        all.extend(some);
        if !more {
            return Ok(all);
        }
        query.after = all.last().map(|lock| lock.fence);
    }
}

struct Page {
    limit: u32,
    scan_for: Duration,
}

async fn events_of(
    store: &dyn LifecycleStore,
    app: &str,
    after: Option<Cursor>,
    page: Page,
) -> Result<(Vec<EventRow>, Cursor), StoreError> {
    let (begun, limit) = (Instant::now(), usize::try_from(page.limit).unwrap_or(usize::MAX));
    let given = after.is_some();
    let mut next = after.unwrap_or_else(|| Cursor::start(store.shards()));
    let mut events = Vec::new();
    let mut moved = false;
    loop {
        let (batch, end) = store.events_after(&next, ENTRIES_AT_ONCE).await?;
        if batch.is_empty() {
            break;
        }
        moved = true;
        for event in batch {
            next.advance(&event);
            if event.app == app {
                events.push(event);
                if events.len() >= limit {
                    return Ok((events, next));
                }
            }
        }
        next = end;
        if begun.elapsed() >= page.scan_for {
            break;
        }
    }
    // A place beyond the end would wait for ever: the log is another one, or was restored.
    if given && !moved && !store.head().await?.covers(&next) {
        return Err(StoreError::BadCursor);
    }
    Ok((events, next))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lifecycle::store::{
        BootId, CommitOp, EventKind, HoldId, IfTaken, Incarnation, Lane, Mode, Naming, NewEvent, NewHold, NewNode, OpId, SqliteStore,
        StoreLimits,
    };

    async fn store() -> (SqliteStore, Incarnation) {
        let store = SqliteStore::in_memory(StoreLimits::default()).await.unwrap();
        let node = NewNode { name: "node".into(), boot: BootId::random(), ttl: Duration::from_secs(12), naming: Naming::Unique };
        let node = store.register(&node).await.unwrap();
        (store, node)
    }

    /// Entries `0..count`; of every hundred, one is of app `rare`.
    async fn fill(store: &SqliteStore, node: Incarnation, count: usize) {
        for n in 0..count {
            let app = if n % 100 == 50 { "rare" } else { "loud" };
            let event = NewEvent {
                kind: EventKind::Event,
                event_type: "Saved".into(),
                key: "k".into(),
                principal: None,
                payload: json!({ "n": n }),
            };
            let op = CommitOp { id: OpId::random(), socket_id: "1.1".into(), app: app.into(), holds: Vec::new(), events: vec![event] };
            store.commit(Lane(0), node, &[op]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn pages_of_an_app_end_and_miss_nothing_however_short_they_are() {
        let (store, node) = store().await;
        fill(&store, node, 1_000).await;
        let expected: Vec<i64> = (0..10).map(|n| n * 100 + 51).collect();
        for scan_for in [Duration::ZERO, SCAN_FOR] {
            for limit in [1, 3, 10, 1_000] {
                let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
                loop {
                    let (events, next) = events_of(&store, "rare", after.clone(), Page { limit, scan_for }).await.unwrap();
                    assert!(events.len() <= limit as usize && events.iter().all(|event| event.app == "rare"));
                    found.extend(events.iter().map(|event| event.position));
                    if after.as_ref() == Some(&next) {
                        assert!(events.is_empty());
                        break;
                    }
                    after = Some(next);
                    pages += 1;
                    assert!(pages < 100, "it ends");
                }
                assert_eq!(found, expected);
            }
        }
        let (_, last) = events_of(&store, "rare", None, Page { limit: 1_000, scan_for: SCAN_FOR }).await.unwrap();
        assert_eq!(last, store.head().await.unwrap(), "the entries of others behind the last one are passed");
        fill(&store, node, 51).await;
        let (events, _) = events_of(&store, "rare", Some(last), Page { limit: 10, scan_for: SCAN_FOR }).await.unwrap();
        assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), [1_051], "what came later is on the next page");
    }

    #[tokio::test]
    async fn a_place_that_the_log_does_not_have_is_refused() {
        let (store, node) = store().await;
        fill(&store, node, 3).await;
        for (cursor, good) in [("h1-", true), ("h1-3", true), ("h1-4", false), ("h1-1.1", false)] {
            let page = events_of(&store, "loud", Some(cursor.parse().unwrap()), Page { limit: 10, scan_for: SCAN_FOR }).await;
            assert_eq!(page.is_ok(), good, "{cursor}");
            assert!(good || matches!(page, Err(StoreError::BadCursor)), "{cursor}");
        }
    }

    #[tokio::test]
    async fn all_holders_of_a_crowded_resource_are_found() {
        let (store, node) = store().await;
        let hold = |n: u32| NewHold {
            id: HoldId::random(),
            resource: "room:1".into(),
            principal: format!("user:{n}"),
            mode: Mode::Shared,
            if_taken: IfTaken::Deny,
            topic: "Room".into(),
            context: json!({}),
            grace: Duration::ZERO,
        };
        let op = |n: u32| CommitOp {
            id: OpId::random(),
            socket_id: format!("{n}.1"),
            app: "app".into(),
            holds: vec![hold(n)],
            events: Vec::new(),
        };
        let ops: Vec<CommitOp> = (0..25).map(op).collect();
        store.commit(Lane(0), node, &ops).await.unwrap();
        for batch in [1, 5, 24, 25, 26] {
            let locks = locks_on(&store, "app", "room:1", batch).await.unwrap();
            assert_eq!(locks.len(), 25);
            assert!(locks.windows(2).all(|pair| pair[0].fence < pair[1].fence));
        }
        assert!(locks_on(&store, "other", "room:1", 5).await.unwrap().is_empty());
    }
}
