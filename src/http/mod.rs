//! The HTTP side of the broker: the API that application servers publish and ask through (protocol.md 6), and the questions of
//! load balancers.
//!
//! It knows the [`Broker`](crate::cluster::Broker) and nothing of sockets or actors. Every route stands in [`configure`]; what a request has to prove
//! before a handler sees it stands in [`signed`]; every refusal there is stands in [`error`]. Handlers are short: they read a
//! [`signed::Signed`] request and answer with JSON or with an [`error::ApiError`].

mod body;
mod channels;
mod claim;
mod error;
mod events;
mod express;
mod fields;
mod health;
mod idempotency;
mod info;
mod locks;
mod log;
mod openapi;
mod params;
mod query;
mod signed;
mod sockets;
#[cfg(not(feature = "otlp"))]
#[path = "no_trace.rs"]
mod trace;
#[cfg(feature = "otlp")]
mod trace;
mod users;
mod webhooks;

#[cfg(test)]
#[path = "../../tests/fuzz/http.rs"]
mod fuzz;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix_web::{
    FromRequest, Handler, Resource, Responder, Route,
    guard::{Any, Get, Head, Post},
    web,
};

pub(crate) use body::keep as read_body;
pub(crate) use error::{ApiError, not_found};
pub(crate) use express::{Express, ExpressRoute, account};

use crate::domain::Hub;

/// What the HTTP side is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpSettings {
    /// Largest request body, in bytes. A larger one is answered with 413.
    pub(crate) max_request_bytes: usize,
    /// A path such as `/ws` that stands before ours on the wire and is not part of what clients sign; empty for none.
    pub(crate) path_prefix: String,
}

/// The path of a route as it is declared, for those who count requests. It is data of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteTemplate(pub(crate) &'static str);

/// Whose request it was: an extension of a request that came from an application.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The application.
    pub(crate) hub: Arc<Hub>,
    /// Bytes of the body, as far as it was read.
    pub(crate) bytes_in: usize,
}

/// Guarded by its method, so that the route of a resource below is tried, too.
const RELEASE: &str = "/apps/{app_id}/locks/{fence}/release";

/// Every route of the HTTP side. The most frequent one comes first: the router tries them in this order.
///
/// The server around it has to provide `web::Data<Broker>` and `web::Data<HttpSettings>`.
pub(crate) fn configure(cfg: &mut web::ServiceConfig) {
    let events = web::post().to(events::publish);
    cfg.service(only(express::EVENTS, events, "GET, POST").route(web::get().to(log::read)))
        .service(post(express::BATCH, events::publish_batch))
        .service(get("/apps/{app_id}/channels", channels::list))
        .service(get("/apps/{app_id}/channels/{channel}", channels::show))
        .service(get("/apps/{app_id}/channels/{channel}/users", channels::users))
        .service(post("/apps/{app_id}/users/{user_id}/terminate_connections", users::terminate))
        // The server SDK of Python leaves the application out (6.10): it is found by its key.
        .service(post("/users/{user_id}/terminate_connections", users::terminate))
        .service(get("/apps/{app_id}/connections", sockets::count))
        .service(get("/apps/{app_id}/sockets", sockets::list))
        .service(get("/apps/{app_id}/sockets/{socket_id}", sockets::show))
        .service(get("/apps/{app_id}/locks", locks::list))
        .service(web::resource(RELEASE).app_data(RouteTemplate(RELEASE)).guard(Post()).to(locks::release))
        // A resource is any text: `doc/7` may come with its slash escaped, or not.
        .service(get("/apps/{app_id}/locks/{resource:.+}", locks::show))
        .service(get("/apps/{app_id}/webhooks", webhooks::list))
        .service(
            only("/apps/{app_id}/webhooks/dead", web::delete().to(webhooks::forget_all), "GET, DELETE")
                .route(web::get().to(webhooks::dead)),
        )
        .service(post("/apps/{app_id}/webhooks/dead/replay", webhooks::replay_all))
        .service(only("/apps/{app_id}/webhooks/dead/{id}", web::delete().to(webhooks::forget), "DELETE"))
        .service(post("/apps/{app_id}/webhooks/dead/{id}/replay", webhooks::replay))
        .service(health("/", health::root))
        .service(health("/up", health::up))
        .service(health("/ready", health::ready))
        .service(health("/ready/holds", health::ready_for_holds))
        .service(health("/accept-traffic", health::accept_traffic))
        .service(health(openapi::PATH, openapi::document));
}

fn post<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    only(path, web::post().to(handler), "POST")
}

fn get<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    only(path, web::get().to(handler), "GET")
}

/// Load balancers and tools ask with either method.
fn health<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    only(path, web::route().guard(Any(Get()).or(Head())).to(handler), "GET, HEAD")
}

/// One route, and 405 for every other method.
fn only(path: &'static str, route: Route, allow: &'static str) -> Resource {
    web::resource(path)
        .app_data(RouteTemplate(path))
        .route(route)
        .default_service(web::to(move |request, payload| error::method_not_allowed(request, payload, allow)))
}
