//! Locks: `GET …/locks`, `GET …/locks/{resource}` and `POST …/locks/{fence}/release`.

use actix_web::HttpResponse;
use serde::Serialize;

use super::{
    error::ApiError,
    params,
    signed::{Json, Signed, json},
};
use crate::{
    domain::{Fence, LockState},
    lifecycle::{
        ForcedRelease, LockManager,
        store::{LockQuery, LockRow},
    },
};

/// `GET /apps/{app_id}/locks?resource=&principal=&state=&after=FENCE&limit=100`: a page of them, by fence. Locks that are over are
/// shown with `state=released` only, as long as they are remembered.
pub(super) async fn list(signed: Signed) -> HttpResponse {
    let page = page(&signed).await;
    signed.answer(page)
}

/// `GET /apps/{app_id}/locks/{resource}`: the locks of a resource that are alive; none if it is free.
pub(super) async fn show(signed: Signed) -> HttpResponse {
    let locks = on_resource(&signed).await;
    signed.answer(locks)
}

/// `POST /apps/{app_id}/locks/{fence}/release`: ends it, whoever holds it. By fence, so that nobody ends a lock that he has not seen.
pub(super) async fn release(signed: Signed) -> HttpResponse {
    let released = force_release(&signed).await;
    signed.answer(released)
}

#[derive(Serialize)]
struct Page {
    locks: Vec<LockRow>,
    next: Option<Fence>,
}

#[derive(Serialize)]
struct Live {
    locks: Vec<LockRow>,
}

async fn page(signed: &Signed) -> Result<Json, ApiError> {
    let limit = params::limit(signed)?;
    let key = |field| signed.param(field).map(|text| params::key(field, text)).transpose();
    let state = |word| LockState::parse(word).map_err(|_| ApiError::Field { field: "state", rule: "must be held, grace or released" });
    let query = LockQuery {
        app: None,
        resource: key("resource")?,
        principal: key("principal")?,
        state: signed.param("state").map(state).transpose()?,
        after: signed.param("after").map(|text| params::fence("after", text)).transpose()?,
        // One more than is shown: is there a next page?
        limit: limit + 1,
    };
    let mut locks = manager(signed)?.locks_of(&signed.app().id, query).await?;
    let more = u32::try_from(locks.len()).is_ok_and(|found| found > limit);
    locks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = locks.last().filter(|_| more).map(|last| last.fence);
    json(&Page { locks, next })
}

async fn on_resource(signed: &Signed) -> Result<Json, ApiError> {
    let resource = params::key("resource", &signed.segment("resource"))?;
    json(&Live { locks: manager(signed)?.locks_on(&signed.app().id, &resource).await? })
}

async fn force_release(signed: &Signed) -> Result<Json, ApiError> {
    let fence = params::fence("fence", &signed.segment("fence"))?;
    match manager(signed)?.force_release_of(&signed.app().id, fence).await? {
        ForcedRelease::Released => {
            let app_id = &*signed.app().id;
            tracing::info!(app.id = app_id, lock.fence = fence.0, "Released lock {fence} of app {app_id} by request");
            Ok(Json::Borrowed("{}"))
        }
        ForcedRelease::OverAlready => Err(ApiError::LockOver),
        ForcedRelease::Unknown => Err(ApiError::UnknownLock),
    }
}

/// The locks of this node.
///
/// # Errors
/// [`ApiError::NoStore`].
pub(super) fn manager(signed: &Signed) -> Result<&LockManager, ApiError> {
    signed.broker.locks().ok_or(ApiError::NoStore)
}
