//! The dashboard: a page that shows what is going on, and an API for it alone.
//!
//! Whoever comes is looked at in [`guard`]; every route stands in [`Dashboard::configure`]. The page is `clients/dashboard`, plain files
//! that are part of the program. No request takes a lock for long: tables are walked in pieces, and answers are pages.

mod channels;
mod connections;
mod console;
mod deliveries;
mod error;
mod guard;
mod input;
mod locks;
mod overview;

use std::{sync::Arc, time::Instant};

use actix_web::{
    FromRequest, Handler, HttpResponse, Resource, Responder,
    body::BoxBody,
    dev::ServiceRequest,
    http::header::LOCATION,
    middleware::{Next, from_fn},
    web,
};

use self::{channels::ChannelLists, error::DashboardError, guard::Guard, overview::StoreLook};
use crate::{
    cluster::Broker,
    config::{ListenerKind, Settings},
    domain::{ConfiguredHolds, Hub},
    http::{ApiError, RouteTemplate},
    lifecycle::{Deliveries, LockManager},
};

/// The page and what it loads, by the names it asks for them.
const FILES: [(&str, &str, &str); 12] = [
    ("/dashboard.css", CSS, include_str!("../../clients/dashboard/dashboard.css")),
    ("/icon.svg", "image/svg+xml", include_str!("../../clients/dashboard/icon.svg")),
    ("/main.js", JS, include_str!("../../clients/dashboard/main.js")),
    ("/api.js", JS, include_str!("../../clients/dashboard/api.js")),
    ("/dom.js", JS, include_str!("../../clients/dashboard/dom.js")),
    ("/table.js", JS, include_str!("../../clients/dashboard/table.js")),
    ("/overview.js", JS, include_str!("../../clients/dashboard/overview.js")),
    ("/live.js", JS, include_str!("../../clients/dashboard/live.js")),
    ("/locks.js", JS, include_str!("../../clients/dashboard/locks.js")),
    ("/log.js", JS, include_str!("../../clients/dashboard/log.js")),
    ("/delivery.js", JS, include_str!("../../clients/dashboard/delivery.js")),
    ("/console.js", JS, include_str!("../../clients/dashboard/console.js")),
];
const PAGE: &str = include_str!("../../clients/dashboard/index.html");
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// What requests of the page and of its API count as.
const PAGE_ROUTE: RouteTemplate = RouteTemplate("/dashboard");
const API_ROUTE: RouteTemplate = RouteTemplate("/dashboard/api");

/// The dashboard of one broker. Cloning is a reference count.
#[derive(Clone, Debug)]
pub(super) struct Dashboard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Broker,
    guard: Guard,
    started: Instant,
    /// `sqlite`, `postgres`, `memory` or `none`.
    store: &'static str,
    /// Which subscriptions take a lock.
    holds: ConfiguredHolds,
    /// Listeners of the configuration, by name.
    listeners: Vec<(String, ListenerKind)>,
    channels: ChannelLists,
    look: StoreLook,
}

impl Dashboard {
    /// A dashboard, if somebody may see it: whoever has the token, or this machine in development.
    pub(super) fn try_new(settings: &Settings, broker: Broker, holds: ConfiguredHolds) -> Option<Self> {
        let guard = Guard::try_new(settings)?;
        Some(Self(Arc::new(Inner {
            broker,
            guard,
            started: Instant::now(),
            store: settings.store.kind().as_str(),
            holds,
            listeners: settings.listeners.iter().map(|listener| (listener.name.clone(), listener.kind)).collect(),
            channels: ChannelLists::default(),
            look: StoreLook::default(),
        })))
    }

    /// All routes, below whatever they are configured in.
    pub(super) fn configure(&self, routes: &mut web::ServiceConfig) {
        let guarded = |is_api: bool| {
            let dashboard = self.clone();
            from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
                let dashboard = dashboard.clone();
                async move { dashboard.0.guard.pass(is_api, request, next).await }
            })
        };
        let api = web::scope("/api")
            .app_data(web::Data::new(self.clone()))
            .app_data(API_ROUTE)
            .wrap(guarded(true))
            .service(get("/overview", overview::show))
            .service(get("/nodes", overview::nodes))
            .service(get("/connections", connections::list))
            .service(get("/connections/{socket_id}", connections::show))
            .service(post("/connections/{socket_id}/close", connections::close))
            .service(get("/channels", channels::list))
            .service(get("/channel", channels::show))
            .service(get("/locks", locks::list))
            .service(post("/locks/{fence}/release", locks::release))
            .service(get("/events", locks::events))
            .service(get("/listeners", deliveries::listeners))
            .service(get("/parked", deliveries::parked))
            .service(get("/webhooks", deliveries::webhooks))
            .service(get("/webhooks/dead", deliveries::dead))
            .service(post("/webhooks/dead/{id}/replay", deliveries::replay))
            .service(post("/webhooks/dead/{id}/drop", deliveries::forget))
            .service(post("/webhooks/replay", deliveries::replay_all))
            .service(post("/webhooks/drop", deliveries::forget_all))
            .service(post("/publish", console::publish))
            .service(post("/auth", console::authorize))
            .default_service(web::to(async || refuse(ApiError::UnknownPath)));
        let mut page = web::scope("/dashboard").app_data(PAGE_ROUTE).service(api);
        let mut files = web::scope("").wrap(guarded(false)).service(file("", HTML, PAGE));
        // The page names its files and its API by where it is itself.
        files = files.service(
            web::resource("/")
                .route(web::get().to(async || HttpResponse::PermanentRedirect().insert_header((LOCATION, "../dashboard")).finish())),
        );
        for (path, kind, text) in FILES {
            files = files.service(file(path, kind, text));
        }
        page = page.service(files.default_service(web::to(async || refuse(ApiError::UnknownPath))));
        routes.service(page);
    }

    fn app(&self, id: &str) -> Result<Arc<Hub>, DashboardError> {
        self.0.broker.app(id).ok_or(ApiError::UnknownApp.into())
    }

    fn locks(&self) -> Result<&LockManager, DashboardError> {
        self.0.broker.locks().ok_or(ApiError::NoStore.into())
    }

    fn deliveries(&self) -> Result<&Deliveries, DashboardError> {
        self.0.broker.deliveries().ok_or(ApiError::NoStore.into())
    }
}

fn refuse(error: ApiError) -> HttpResponse {
    DashboardError::from(error).response()
}

fn file(path: &'static str, kind: &'static str, text: &'static str) -> Resource {
    get(path, move || async move { HttpResponse::Ok().content_type(kind).body(text) })
}

fn get<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    let other = || async || refuse(ApiError::Method { allow: "GET" });
    web::resource(path).route(web::get().to(handler)).default_service(web::to(other()))
}

fn post<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    let other = || async || refuse(ApiError::Method { allow: "POST" });
    web::resource(path).route(web::post().to(handler)).default_service(web::to(other()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppSettings, Secret};

    #[test]
    fn it_is_there_in_development_on_loopback_or_with_a_token() {
        let there = |settings: &Settings| Dashboard::try_new(settings, Broker::new([], 0), ConfiguredHolds::default()).is_some();
        let mut settings = Settings::default();
        assert!(there(&settings));
        settings.server.host = "0.0.0.0".to_owned();
        assert!(!there(&settings), "others could come");
        settings.server.host = "127.0.0.1".to_owned();
        settings.apps = vec![AppSettings::new("shop", "shop-key", "a secret of its own")];
        assert!(!there(&settings), "nobody has asked for it");
        settings.server.host = "0.0.0.0".to_owned();
        settings.dashboard.token = Secret::new("sixteen-or-more-of-them");
        assert!(there(&settings));
        settings.dashboard.enabled = false;
        assert!(!there(&settings));
    }

    #[test]
    fn everything_that_the_page_loads_is_served_and_nothing_else_is() {
        let modules = FILES.iter().filter(|(_, kind, _)| *kind == JS);
        let imports: Vec<&str> =
            modules.flat_map(|(_, _, text)| text.split("from './").skip(1)).filter_map(|rest| rest.split('\'').next()).collect();
        for name in imports.iter().copied().chain(["dashboard.css", "main.js", "icon.svg"]) {
            assert!(FILES.iter().any(|(path, ..)| path[1..] == *name), "{name} is asked for and not served");
        }
        for (path, ..) in FILES {
            assert!(imports.contains(&&path[1..]) || PAGE.contains(&format!("dashboard{path}")), "{path} is served and not asked for");
        }
    }
}
