//! Requests that have proved to come from the application they name.

use std::{
    borrow::Cow,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError, dev,
    http::header::{CONTENT_TYPE, HeaderValue},
    web::{Bytes, Data},
};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::{
    Account, HttpSettings, body,
    claim::{AUTHENTICATION, Claim, KEY, check_body, param},
    error::ApiError,
    query::Query,
};
use crate::{
    cluster::Broker,
    domain::{App, Hub},
};

/// A request of an application: everything in it was signed with its secret. Handlers of the API take nothing else.
#[derive(Debug)]
pub(super) struct Signed {
    /// The broker.
    pub(super) broker: Broker,
    /// The application.
    pub(super) hub: Arc<Hub>,
    /// Its keys and limits when the request came.
    pub(super) app: Arc<App>,
    /// The body, byte for byte.
    pub(super) body: Bytes,
    params: Vec<(String, String)>,
    /// What it came in. Headers are not signed.
    pub(super) request: HttpRequest,
}

/// The text of a successful answer.
pub(super) type Json = Cow<'static, str>;

impl Signed {
    /// The application's keys and limits.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// A parameter of the query that is not part of the authentication, decoded.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A segment of the path, decoded.
    pub(super) fn segment(&self, name: &str) -> Cow<'_, str> {
        segment(&self.request, name).unwrap_or_default()
    }

    /// Puts an outcome on the wire; a refusal is logged.
    pub(super) fn answer(&self, outcome: Result<Json, ApiError>) -> HttpResponse {
        answer(outcome, &self.app().id)
    }
}

/// Puts an outcome on the wire; a refusal is logged.
pub(super) fn answer(outcome: Result<Json, ApiError>, app_id: &str) -> HttpResponse {
    match outcome {
        Ok(json) => HttpResponse::Ok().insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(json),
        Err(error) => error.logged(app_id).error_response(),
    }
}

/// The JSON text of an answer.
pub(super) fn json(answer: &impl Serialize) -> Result<Json, ApiError> {
    serde_json::to_string(answer).map(Cow::Owned).map_err(ApiError::Answer)
}

impl FromRequest for Signed {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(verified(request, payload))
    }
}

async fn verified(request: HttpRequest, payload: dev::Payload) -> Result<Signed, ApiError> {
    let verified = verify(&request, payload).await;
    let (broker, Proving { hub, app }, body, params) = verified.map_err(|error| error.logged(&known_app_id(&request)))?;
    Ok(Signed { broker, hub, app, body, params, request })
}

type Verified = (Broker, Proving, Bytes, Vec<(String, String)>);

async fn verify(request: &HttpRequest, payload: dev::Payload) -> Result<Verified, ApiError> {
    let (broker, settings) = (data::<Broker>(request)?, data::<HttpSettings>(request)?);
    let claimed = Claimed { request, app_id: segment(request, "app_id"), broker, settings };
    let account = |hub: &Arc<Hub>, bytes_in| drop(request.extensions_mut().insert(Account { hub: Arc::clone(hub), bytes_in }));
    let Proved { by, query, body } = claimed.prove(payload, account).await?;
    let params = query.iter().filter(|(name, _)| !AUTHENTICATION.contains(name));
    let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok((broker.clone(), by, body, params))
}

/// A request before anything of it is believed.
pub(super) struct Claimed<'a> {
    /// What came.
    pub(super) request: &'a HttpRequest,
    /// The application that its path names, decoded.
    pub(super) app_id: Option<Cow<'a, str>>,
    /// The broker.
    pub(super) broker: &'a Broker,
    /// What the HTTP side is set to.
    pub(super) settings: &'a HttpSettings,
}

/// An application, and what a request of it is judged by from its first byte to its answer, though it be changed meanwhile.
pub(super) struct Proving {
    /// Its live state.
    pub(super) hub: Arc<Hub>,
    /// Its keys and limits.
    pub(super) app: Arc<App>,
}

/// What has proved to come from an application.
pub(super) struct Proved<'a> {
    /// Who.
    pub(super) by: Proving,
    /// The query.
    pub(super) query: Query<'a>,
    /// The body, byte for byte.
    pub(super) body: Bytes,
}

impl<'a> Claimed<'a> {
    /// Checks everything, and reads the body. `account` is told whose request it is as soon as that is known, and again how large the body
    /// was.
    ///
    /// # Errors
    /// The first check that fails.
    pub(super) async fn prove(&self, payload: dev::Payload, mut account: impl FnMut(&Arc<Hub>, usize)) -> Result<Proved<'a>, ApiError> {
        let (request, limit) = (self.request, self.settings.max_request_bytes);
        let headers = request.headers();
        let (by, query) = match self.caller(unix_now()) {
            Ok(caller) => caller,
            Err(refusal) => {
                // A stranger's body is read, or the connection would have to be closed, but it is not kept.
                body::discard(payload, headers, limit).await?;
                return Err(refusal);
            }
        };
        account(&by.hub, 0);
        let body = body::keep(payload, headers, limit).await?;
        account(&by.hub, body.len());
        check_body(&query, &body)?;
        if !by.app.enabled {
            return Err(ApiError::AppDisabled);
        }
        if request.method().is_safe() {
            by.hub.rates().read().map_err(|limit| ApiError::TooFast { what: "requests", limit })?;
        }
        Ok(Proved { by, query, body })
    }

    /// The application a request comes from, once everything is proved that can be proved without the body.
    fn caller(&self, now: u64) -> Result<(Proving, Query<'a>), ApiError> {
        let Self { request, app_id, broker, settings } = self;
        let (request, broker): (&'a HttpRequest, &'a Broker) = (request, broker);
        let named = app_id.as_ref().map(|id| broker.app(id).ok_or(ApiError::UnknownApp)).transpose()?;
        let query = Query::parse(request.query_string())?;
        let hub = match named {
            Some(hub) => hub,
            None => broker.app_by_key(param(&query, KEY)?).ok_or(ApiError::UnknownKey)?,
        };
        let app = hub.app();
        let path = without_prefix(request.path(), &settings.path_prefix);
        Claim { method: request.method().as_str(), path, query: &query }.check_head(&app, now)?;
        Ok((Proving { hub, app }, query))
    }
}

/// The path that clients sign. What is left without the prefix must be one of ours: an application may be called like the prefix.
fn without_prefix<'a>(path: &'a str, prefix: &str) -> &'a str {
    path.strip_prefix(prefix).filter(|rest| rest.starts_with("/apps/") || rest.starts_with("/users/")).unwrap_or(path)
}

fn data<T: 'static>(request: &HttpRequest) -> Result<&T, ApiError> {
    request.app_data::<Data<T>>().map(|data| &***data).ok_or(ApiError::NotConfigured)
}

fn segment<'a>(request: &'a HttpRequest, name: &str) -> Option<Cow<'a, str>> {
    request.match_info().get(name).map(|text| percent_decode_str(text).decode_utf8_lossy())
}

/// For the log: only ids that exist are written there.
fn known_app_id(request: &HttpRequest) -> String {
    let known = |id: &Cow<'_, str>| data::<Broker>(request).is_ok_and(|broker| broker.app(id).is_some());
    segment(request, "app_id").filter(known).map_or_else(|| "-".to_owned(), Cow::into_owned)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_taken_off_once_and_only_where_it_is_one() {
        for (path, prefix, expected) in [
            ("/apps/1/events", "", "/apps/1/events"),
            ("/ws/apps/1/events", "/ws", "/apps/1/events"),
            ("/apps/1/events", "/ws", "/apps/1/events"),
            ("/a/b/users/1/terminate_connections", "/a/b", "/users/1/terminate_connections"),
            ("/wsx/apps/1/events", "/ws", "/wsx/apps/1/events"),
            ("/apps/1/events", "/apps", "/apps/1/events"),
            ("/apps/apps/1/events", "/apps", "/apps/1/events"),
        ] {
            assert_eq!(without_prefix(path, prefix), expected);
        }
    }
}
