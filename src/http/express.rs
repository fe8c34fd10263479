//! Publishes past the router: by far the most frequent requests, and for each of them the router would run its patterns again.
//!
//! What goes this way is exactly what the routes of [`super::configure`] would take; everything else, also a publish in another form (an
//! escaped path, another method), is left to them.

use std::{borrow::Cow, ops::Range, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    body::{BodySize, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::Method,
    web,
};

use super::{
    HttpSettings, RouteTemplate,
    events::{Publishing, respond},
    signed::{Claimed, Proved},
};
use crate::{cluster::Broker, domain::Hub};

/// One event for some channels.
pub(super) const EVENTS: &str = "/apps/{app_id}/events";
/// Several events.
pub(super) const BATCH: &str = "/apps/{app_id}/batch_events";

/// The way past the router.
#[derive(Clone, Debug)]
pub(crate) struct Express {
    broker: Broker,
    settings: web::Data<HttpSettings>,
}

/// A request that may go this way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    /// Which of the routes it is for.
    pub(crate) route: ExpressRoute,
    /// Where the application stands in the path.
    app_id: Range<usize>,
}

/// A route of those who go past the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpressRoute {
    /// `POST /apps/{app_id}/events`
    Events,
    /// `POST /apps/{app_id}/batch_events`
    Batch,
}

impl ExpressRoute {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Events, Self::Batch];

    /// Its path as the router knows it.
    pub(crate) const fn template(self) -> RouteTemplate {
        match self {
            Self::Events => RouteTemplate(EVENTS),
            Self::Batch => RouteTemplate(BATCH),
        }
    }
}

impl Express {
    /// For a server in which nothing stands between the socket and our routes.
    pub(crate) fn new(broker: Broker, settings: web::Data<HttpSettings>) -> Self {
        Self { broker, settings }
    }

    /// Whether the request may go this way.
    pub(crate) fn takes(&self, request: &ServiceRequest) -> Option<Publish> {
        if *request.method() == Method::POST { publish(request.path(), &self.settings.path_prefix) } else { None }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, publish: Publish, request: ServiceRequest) -> ServiceResponse {
        let (request, payload) = request.into_parts();
        let response = self.response(publish, &request, payload).await;
        ServiceResponse::new(request, response)
    }

    async fn response(&self, publish: Publish, request: &HttpRequest, payload: Payload) -> HttpResponse {
        let Self { broker, settings } = self;
        let app_id = request.path().get(publish.app_id).unwrap_or_default();
        let claimed = Claimed { request, app_id: Some(Cow::Borrowed(app_id)), broker, settings };
        let mut charged = None;
        let response = match claimed.prove(payload, |hub, bytes_in| charged = Some((Arc::clone(hub), bytes_in))).await {
            Ok(Proved { by, body, .. }) => {
                let asked = Publishing { broker, hub: &by.hub, app: &by.app, body: &body, headers: request.headers() };
                respond(publish.route, asked).await
            }
            // Only ids that exist are written to the log.
            Err(error) => error.logged(broker.app(app_id).map_or("-", |_| app_id)).error_response(),
        };
        if let Some((hub, bytes_in)) = charged {
            account(&hub, bytes_in, &response);
        }
        response
    }
}

/// Counts a call of the API for its application.
pub(crate) fn account<B: MessageBody>(hub: &Hub, bytes_in: usize, response: &HttpResponse<B>) {
    let bytes_out = match response.body().size() {
        BodySize::Sized(bytes) => bytes,
        BodySize::None | BodySize::Stream => 0,
    };
    hub.stats().http_call(bytes_in as u64, bytes_out);
}

/// What a path says, if the router would say the same of it. It takes escapes apart before it looks; whoever escapes is left to it.
fn publish(path: &str, prefix: &str) -> Option<Publish> {
    // A path below the prefix belongs to the scope of the prefix, also where the rest of it would be a path of ours without.
    let below = !prefix.is_empty() && path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    let begin = if below { prefix.len() } else { 0 };
    let (id, rest) = path[begin..].strip_prefix("/apps/")?.split_once('/')?;
    let route = match rest {
        "events" => ExpressRoute::Events,
        "batch_events" => ExpressRoute::Batch,
        _ => return None,
    };
    let start = begin + "/apps/".len();
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%');
    plain.then_some(Publish { route, app_id: start..start + id.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_prefix_as_the_scope_has_it() {
        for (path, prefix, app_id) in [
            ("/apps/1/events", "", Some("1")),
            ("/apps/1/batch_events", "/ws", Some("1")),
            ("/ws/apps/1/events", "/ws", Some("1")),
            ("/ws/apps/1/events", "", None),
            ("/wsx/apps/1/events", "/ws", None),
            ("/ws", "/ws", None),
            // The scope of the prefix takes it, and has no such route.
            ("/apps/1/events", "/apps", None),
            ("/apps/apps/1/events", "/apps", Some("1")),
            ("/apps/apps/events", "/app", Some("apps")),
        ] {
            let publish = publish(path, prefix);
            assert_eq!(publish.map(|publish| &path[publish.app_id]), app_id, "{path} below {prefix:?}");
        }
    }
}
