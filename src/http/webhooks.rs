//! Webhooks: `GET …/webhooks`, `GET …/webhooks/dead`, and what an operator does about dead letters.

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::json;

use super::{
    error::ApiError,
    params,
    signed::{Json, Signed, json},
};
use crate::lifecycle::{About, DeadId, DeadLetter, Deliveries, EndpointState};

/// `GET /apps/{app_id}/webhooks`: the application's endpoints, and how far each is.
pub(super) async fn list(signed: Signed) -> HttpResponse {
    let endpoints = endpoints(&signed).await;
    signed.answer(endpoints)
}

/// `GET /apps/{app_id}/webhooks/dead?endpoint=&after=ID&limit=100`: a page of dead letters, by endpoint and log.
pub(super) async fn dead(signed: Signed) -> HttpResponse {
    let page = page(&signed).await;
    signed.answer(page)
}

/// `POST /apps/{app_id}/webhooks/dead/{id}/replay`: it is sent again, as soon as the endpoint takes anything.
pub(super) async fn replay(signed: Signed) -> HttpResponse {
    let done = about_one(&signed, About::Replay).await;
    signed.answer(done)
}

/// `DELETE /apps/{app_id}/webhooks/dead/{id}`: it is forgotten.
pub(super) async fn forget(signed: Signed) -> HttpResponse {
    let done = about_one(&signed, About::Drop).await;
    signed.answer(done)
}

/// `POST /apps/{app_id}/webhooks/dead/replay?endpoint=`: all of them, or those of one endpoint; some hundreds at a time.
pub(super) async fn replay_all(signed: Signed) -> HttpResponse {
    let done = about_all(&signed, About::Replay).await;
    signed.answer(done)
}

/// `DELETE /apps/{app_id}/webhooks/dead?endpoint=`: the same.
pub(super) async fn forget_all(signed: Signed) -> HttpResponse {
    let done = about_all(&signed, About::Drop).await;
    signed.answer(done)
}

#[derive(Serialize)]
struct Endpoints {
    webhooks: Vec<EndpointState>,
}

#[derive(Serialize)]
struct Page {
    dead: Vec<DeadLetter>,
    next: Option<String>,
}

async fn endpoints(signed: &Signed) -> Result<Json, ApiError> {
    json(&Endpoints { webhooks: deliveries(signed)?.endpoints_of(&signed.app().id).await? })
}

async fn page(signed: &Signed) -> Result<Json, ApiError> {
    let limit = params::limit(signed)?;
    let after = signed.param("after").map(|text| id("after", text)).transpose()?;
    // One more than is shown: is there a next page?
    let mut dead = deliveries(signed)?.dead_of(&signed.app().id, endpoint(signed)?, after.as_ref(), limit + 1).await?;
    let more = u32::try_from(dead.len()).is_ok_and(|found| found > limit);
    dead.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = dead.last().filter(|_| more).map(|last| last.id().to_string());
    json(&Page { dead, next })
}

async fn about_one(signed: &Signed, about: About) -> Result<Json, ApiError> {
    let (app_id, id) = (&*signed.app().id, id("id", &signed.segment("id"))?);
    if !deliveries(signed)?.about_one(app_id, &id, about).await? {
        return Err(ApiError::UnknownDeadLetter);
    }
    let done = if about == About::Replay { "Replaying" } else { "Dropped" };
    tracing::info!(app.id = app_id, webhook.id = %id, "{done} dead letter {id} of app {app_id} by request");
    Ok(Json::Borrowed("{}"))
}

async fn about_all(signed: &Signed, about: About) -> Result<Json, ApiError> {
    let app_id = &*signed.app().id;
    let (count, more) = deliveries(signed)?.about_all(app_id, endpoint(signed)?, about).await?;
    let (done, word) = if about == About::Replay { ("Replaying", "replayed") } else { ("Dropped", "dropped") };
    if count > 0 {
        tracing::info!(app.id = app_id, count, "{done} {count} dead letters of app {app_id} by request");
    }
    json(&json!({ word: count, "more": more }))
}

fn id(field: &'static str, text: &str) -> Result<DeadId, ApiError> {
    text.parse().map_err(|_| ApiError::Field { field, rule: "must be the id of a dead letter, such as shop:3-71" })
}

fn endpoint(signed: &Signed) -> Result<Option<String>, ApiError> {
    signed.param("endpoint").map(|text| params::key("endpoint", text)).transpose()
}

fn deliveries(signed: &Signed) -> Result<&Deliveries, ApiError> {
    signed.broker.deliveries().ok_or(ApiError::NoStore)
}
