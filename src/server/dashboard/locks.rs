//! Locks and the log, which all nodes share.

use serde::Deserialize;
use serde_json::json;

use super::{
    DashboardError,
    input::{Answer, Asked, Body, has, json as answer},
    overview::now,
};
use crate::{
    domain::LockState,
    http::ApiError,
    lifecycle::{
        ForcedRelease, answer_of,
        store::{Cursor, EventRow, LifecycleStore, LockQuery, LockRow, StoreError},
    },
};

/// Locks that are read at once.
const AT_ONCE: u32 = 1_000;
/// Locks that one request looks through for a text.
const MOST_SEEN: usize = 5_000;
/// Entries of each shard that the first look at the log begins with.
const LAST_ENTRIES: u32 = 100;

/// `GET api/locks?app=&q=&state=&after=FENCE&limit=100`: locks that are alive, by fence; those whose resource or principal has `q`.
pub(super) async fn list(asked: Asked) -> Answer {
    let app = asked.required("app")?;
    asked.dashboard.app(app)?;
    let (search, limit) = (asked.search()?, asked.limit()?);
    let state = asked.param("state").map(|word| match LockState::parse(word) {
        Ok(state @ (LockState::Held | LockState::Grace)) => Ok(state),
        _ => Err(DashboardError::field("state", "must be held or grace")),
    });
    let after = asked.param("after").map(|text| Asked::fence("after", text)).transpose()?;
    let locks = asked.dashboard.locks()?;
    // One more than is shown: is there a next page?
    let at_once = if search.is_empty() { u32::try_from(limit + 1).unwrap_or(AT_ONCE) } else { AT_ONCE };
    let mut query = LockQuery { state: state.transpose()?, after, limit: at_once, ..LockQuery::default() };
    let (mut rows, mut seen): (Vec<LockRow>, _) = (Vec::new(), 0);
    let next = loop {
        let some = locks.locks_of(app, query.clone()).await?;
        let more = u32::try_from(some.len()).is_ok_and(|found| found >= at_once);
        seen += some.len();
        query.after = some.last().map(|lock| lock.fence).or(query.after);
        rows.extend(some.into_iter().filter(|lock| has(&lock.resource, search) || has(&lock.principal, search)));
        if rows.len() > limit {
            rows.truncate(limit);
            break rows.last().map(|last| last.fence);
        }
        if !more {
            break None;
        }
        if seen >= MOST_SEEN {
            break query.after;
        }
    };
    answer(&json!({ "now": now(), "rows": rows, "next": next }))
}

#[derive(Deserialize)]
pub(super) struct Whose {
    app: String,
}

/// `POST api/locks/{fence}/release`: ends it, whoever holds it. By fence, so that nobody ends a lock that he has not seen.
pub(super) async fn release(asked: Asked, body: Body<Whose>) -> Answer {
    let Body(Whose { app }) = body;
    let fence = Asked::fence("fence", asked.segment("fence"))?;
    match asked.dashboard.locks()?.force_release_of(&app, fence).await? {
        ForcedRelease::Released => {
            tracing::info!(app.id = app, lock.fence = fence.0, "Released lock {fence} of app {app} from the dashboard");
            answer(&json!({ "released": true }))
        }
        ForcedRelease::OverAlready => Err(ApiError::LockOver.into()),
        ForcedRelease::Unknown => Err(ApiError::UnknownLock.into()),
    }
}

/// `GET api/events?app=&after=CURSOR&limit=100`: what the log has behind a place; without one, its last entries.
pub(super) async fn events(asked: Asked) -> Answer {
    let (app, limit) = (asked.required("app")?, asked.limit()?);
    asked.dashboard.app(app)?;
    let locks = asked.dashboard.locks()?;
    let (rows, next) = match asked.param("after") {
        Some(text) => {
            let cursor: Cursor = text.parse().map_err(|_| StoreError::BadCursor)?;
            locks.events_of(app, Some(cursor), u32::try_from(limit).unwrap_or(LAST_ENTRIES)).await?
        }
        None => answer_of(last_events(&**locks.store(), app, limit)).await?,
    };
    answer(&json!({ "now": now(), "rows": rows, "next": next.to_string() }))
}

async fn last_events(store: &dyn LifecycleStore, app: &str, limit: usize) -> Result<(Vec<EventRow>, Cursor), StoreError> {
    let head = store.head().await?;
    let start = head.positions().iter().map(|position| (position - i64::from(LAST_ENTRIES)).max(0)).collect();
    let most = LAST_ENTRIES * u32::from(store.shards());
    let (mut rows, next) = store.events_after(&Cursor::from_positions(start), most).await?;
    rows.retain(|row| row.app == app);
    rows.drain(..rows.len().saturating_sub(limit));
    Ok((rows, next))
}
