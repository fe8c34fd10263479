//! The durable log: `GET …/events`.

use actix_web::HttpResponse;
use serde::Serialize;

use super::{
    error::ApiError,
    locks, params,
    signed::{Json, Signed, json},
};
use crate::lifecycle::store::{Cursor, EventRow, StoreError};

/// `GET /apps/{app_id}/events?after=CURSOR&limit=100`: what the log has of the application after a place, from the oldest entry
/// if none is given. Whoever has read all gets back the place he gave. Entries that retention has deleted are not there: a reader
/// that must not miss any is a consumer, which retention waits for.
pub(super) async fn read(signed: Signed) -> HttpResponse {
    let page = page(&signed).await;
    signed.answer(page)
}

#[derive(Serialize)]
struct Page {
    events: Vec<EventRow>,
    next: String,
}

const NO_CURSOR: ApiError = ApiError::Field { field: "after", rule: "must be a `next` that this log has given" };

async fn page(signed: &Signed) -> Result<Json, ApiError> {
    let limit = params::limit(signed)?;
    let after = signed.param("after").map(|text| text.parse::<Cursor>().map_err(|_| NO_CURSOR)).transpose()?;
    let page = locks::manager(signed)?.events_of(&signed.app().id, after, limit).await;
    let (events, next) = page.map_err(|error| if let StoreError::BadCursor = error { NO_CURSOR } else { error.into() })?;
    json(&Page { events, next: next.to_string() })
}
