//! What the page looks at and writes: the log, the locks, the orders.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Desk, DeskError,
    orders::{Change, NotSaved},
};
use crate::lifecycle::store::{Cursor, EventRow, Fence, LifecycleStore, LockQuery, LockRow, StoreError};

/// Entries of the log that a page starts with, and gets at once.
const PAGE: u32 = 100;

#[derive(Debug, Deserialize)]
pub(super) struct After {
    after: Option<String>,
}

#[derive(Serialize)]
struct Events {
    events: Vec<EventRow>,
    next: String,
}

#[derive(Serialize)]
struct Locks {
    locks: Vec<LockRow>,
}

/// `GET /desk/events?after=CURSOR`: what the log has behind a place; without one, its last entries.
pub(super) async fn events(desk: web::Data<Desk>, query: web::Query<After>) -> Result<HttpResponse, DeskError> {
    let store = desk.locks()?.store();
    let (rows, next) = match &query.after {
        Some(cursor) => store.events_after(&cursor.parse()?, PAGE).await?,
        None => last_events(&**store).await?,
    };
    let events = rows.into_iter().filter(|row| row.app == desk.0.app_id).collect();
    Ok(HttpResponse::Ok().json(Events { events, next: next.to_string() }))
}

async fn last_events(store: &dyn LifecycleStore) -> Result<(Vec<EventRow>, Cursor), StoreError> {
    let head = store.head().await?;
    let start = head.positions().iter().map(|position| (position - i64::from(PAGE)).max(0)).collect();
    let (mut rows, next) = store.events_after(&Cursor::from_positions(start), PAGE * u32::from(store.shards())).await?;
    rows.drain(..rows.len().saturating_sub(PAGE as usize));
    Ok((rows, next))
}

/// `GET /desk/locks`: who holds what.
pub(super) async fn locks(desk: web::Data<Desk>) -> Result<HttpResponse, DeskError> {
    Ok(HttpResponse::Ok().json(Locks { locks: locks_on(&desk, None).await? }))
}

async fn locks_on(desk: &Desk, resource: Option<String>) -> Result<Vec<LockRow>, DeskError> {
    let query = LockQuery { app: Some(desk.0.app_id.clone()), resource, ..LockQuery::default() };
    Ok(desk.locks()?.store().locks(&query).await?)
}

/// `POST /desk/locks/{fence}/release`: what an operator does with `holdline locks release`. The body is read and ignored: one that
/// is left unread ends the client's connection.
pub(super) async fn release(desk: web::Data<Desk>, fence: web::Path<i64>, _body: web::Bytes) -> Result<HttpResponse, DeskError> {
    let (locks, fence) = (desk.locks()?, Fence(*fence));
    let lock = locks.store().lock(fence).await?.filter(|lock| lock.app == desk.0.app_id);
    if lock.is_none() {
        return Err(DeskError::NoLock(fence));
    }
    if locks.force_release(fence).await? { Ok(HttpResponse::Ok().json(json!({}))) } else { Err(DeskError::Over(fence)) }
}

/// `GET /desk/orders`
pub(super) async fn orders(desk: web::Data<Desk>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "orders": desk.0.orders.lock().all() }))
}

/// `POST /desk/orders/{id}`: a write that only the lock that is alive may do.
///
/// That it is alive now is no proof that it will be in the moment of the write: the comparison in [`super::orders`] is the proof.
pub(super) async fn save(desk: web::Data<Desk>, id: web::Path<u32>, change: web::Json<Change>) -> Result<HttpResponse, DeskError> {
    let (id, change) = (*id, change.into_inner());
    if !desk.0.orders.lock().has(id) {
        return Err(NotSaved::Unknown.into());
    }
    let given = change.fence();
    let alive = locks_on(&desk, Some(format!("order:{id}"))).await?;
    let Some(lock) = alive.iter().find(|lock| lock.fence == given) else {
        let current = alive.first().map(|lock| format!("{} holds order:{id} under fence {}", lock.principal, lock.fence));
        return Err(DeskError::NotCurrent { given, current: current.unwrap_or_else(|| format!("nobody holds order:{id}")) });
    };
    let order = desk.0.orders.lock().save(id, change, lock.principal.clone())?;
    Ok(HttpResponse::Ok().json(json!({ "order": order })))
}
