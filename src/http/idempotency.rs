//! Publishes with an `Idempotency-Key`: however often one is sent, it is done once, and the first answer is given again.

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    http::header::{HeaderMap, HeaderName, HeaderValue},
    rt,
    web::Bytes,
};
use sha2::{Digest, Sha256};

use super::{
    error::ApiError,
    events::{Publishing, publish_now},
    express::ExpressRoute,
    signed::{Json, answer},
};
use crate::{
    cluster::Broker,
    domain::{App, Hub, KeyedPublish},
    lifecycle::{Attempt, Keyed, KeyedRequest},
};

/// The header that carries the key.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Most characters of a key.
const MAX_KEY: usize = 255;

/// A publish that goes on when its publisher has hung up: what was begun has to be finished, and the publisher will ask again.
struct Detached {
    broker: Broker,
    hub: Arc<Hub>,
    app: Arc<App>,
    body: Bytes,
    headers: HeaderMap,
    route: ExpressRoute,
}

/// Publishes unless that was done before.
pub(super) async fn respond(route: ExpressRoute, asked: Publishing<'_>) -> HttpResponse {
    let (hub, app) = (Arc::clone(asked.hub), Arc::clone(asked.app));
    let outcome = match key(asked.headers) {
        Ok(key) => {
            let request = KeyedRequest {
                app: app.id.to_string(),
                key: key.to_owned(),
                fingerprint: fingerprint(route, asked.body),
                keep: app.limits.idempotency_window,
            };
            let (broker, body, headers) = (asked.broker.clone(), asked.body.clone(), asked.headers.clone());
            let detached = Detached { broker, hub: Arc::clone(&hub), app: Arc::clone(&app), body, headers, route };
            // Its worker ends: so does the connection that would have been answered.
            rt::spawn(detached.once(request)).await.unwrap_or((KeyedPublish::Unavailable, Err(ApiError::OverCapacity)))
        }
        Err(error) => {
            hub.stats().keyed_publish(KeyedPublish::Refused);
            (KeyedPublish::Refused, Err(error))
        }
    };
    let (what, outcome) = outcome;
    let mut response = answer(outcome, &app.id);
    if what == KeyedPublish::Replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

impl Detached {
    async fn once(self, request: KeyedRequest) -> (KeyedPublish, Result<Json, ApiError>) {
        let hub = Arc::clone(&self.hub);
        let (what, outcome) = self.decide(request).await;
        hub.stats().keyed_publish(what);
        (what, outcome)
    }

    async fn decide(self, request: KeyedRequest) -> (KeyedPublish, Result<Json, ApiError>) {
        match self.broker.idempotency().claim(request).await {
            Ok(Keyed::Publish(attempt)) => self.publish(attempt).await,
            Ok(Keyed::Replay(answer)) => (KeyedPublish::Replayed, Ok(answer.into())),
            Ok(Keyed::AtWork) => (KeyedPublish::Conflict, Err(ApiError::KeyAtWork)),
            Ok(Keyed::Mismatch) => (KeyedPublish::Mismatch, Err(ApiError::KeyMismatch)),
            Err(error) => (KeyedPublish::Unavailable, Err(error.into())),
        }
    }

    async fn publish(self, attempt: Attempt) -> (KeyedPublish, Result<Json, ApiError>) {
        let Self { broker, hub, app, body, headers, route } = self;
        let accepted = if attempt.taken_over { KeyedPublish::TakenOver } else { KeyedPublish::Accepted };
        match publish_now(route, Publishing { broker: &broker, hub: &hub, app: &app, body: &body, headers: &headers }) {
            Ok(answer) => {
                if let Err(unwritten) = attempt.published(&answer).await {
                    rt::spawn(unwritten.insist(answer.clone().into_owned()));
                }
                (accepted, Ok(answer))
            }
            Err(refusal) => {
                attempt.give_back().await;
                (KeyedPublish::Refused, Err(refusal))
            }
        }
    }
}

/// The key of a request that has one.
fn key(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut given = headers.get_all(KEY);
    let field = "The header Idempotency-Key";
    let (Some(key), None) = (given.next(), given.next()) else { return Err(ApiError::Field { field, rule: "may be given once" }) };
    let is_key = |key: &&str| (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = key.to_str().ok().filter(is_key);
    key.ok_or(ApiError::Field { field, rule: "must be 1 to 255 visible ASCII characters" })
}

/// What the same request has again: its route and its body. The signature is none of it, since it is another one every second.
fn fingerprint(route: ExpressRoute, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update("POST ");
    hash.update(route.template().0);
    hash.update([0]);
    hash.update(body);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters_once() {
        let headers = |keys: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            keys.iter().for_each(|key| headers.append(KEY, HeaderValue::from_bytes(key).unwrap()));
            headers
        };
        let longest = [b'x'; 255];
        for good in [&b"a"[..], b"!~", &longest, b"\"quoted-as-some-do\""] {
            assert_eq!(key(&headers(&[good])).unwrap().as_bytes(), good);
        }
        let too_long = [b'x'; 256];
        for bad in [&[&b""[..]][..], &[b"a b"], &[b"\xc3\xa9"], &[b"a\tb"], &[&too_long], &[b"a", b"a"]] {
            let error = key(&headers(bad)).unwrap_err().to_string();
            assert!(error.starts_with("The header Idempotency-Key m"), "{error}");
        }
    }

    #[test]
    fn a_request_is_the_same_by_its_route_and_its_body() {
        let all = [(ExpressRoute::Events, "{}"), (ExpressRoute::Batch, "{}"), (ExpressRoute::Events, "{} ")];
        let prints: std::collections::HashSet<_> = all.map(|(route, body)| fingerprint(route, body.as_bytes())).into();
        assert_eq!(prints.len(), 3);
        assert_eq!(fingerprint(ExpressRoute::Events, b"{}"), fingerprint(ExpressRoute::Events, b"{}"));
    }
}
