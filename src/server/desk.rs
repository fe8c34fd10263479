//! The order desk: a page where people open orders, and see who holds them. For the development application on this machine only.
//!
//! It is what an application around the broker would be: it signs ([`auth`]), it keeps orders that are written under a fence
//! ([`orders`]), and it looks at the locks and the log. The page is `clients/order-desk`, bundled and committed. Its sockets run
//! through [`wire`], so that one of them can be cut.

mod auth;
mod error;
mod orders;
mod records;
mod wire;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use actix_web::{
    Error, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName},
    middleware::{Next, from_fn},
    web,
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use self::{
    error::DeskError,
    orders::Orders,
    wire::{Cut, Wires},
};
use crate::{
    cluster::Broker,
    config::{AppSettings, HoldPoint, HoldSettings, Settings},
    domain::Hub,
    http,
    lifecycle::LockManager,
    protocol::ChannelPattern,
};

const PAGE: &str = include_str!("../../clients/order-desk/dist/index.html");
const SCRIPT: &str = include_str!("../../clients/order-desk/dist/desk.js");
const STYLE: &str = include_str!("../../clients/order-desk/dist/desk.css");
const LICENCES: &str = include_str!("../../clients/order-desk/dist/licences.txt");

/// What proxies add to a request that they pass on.
const PASSED_ON: [HeaderName; 5] =
    [header::FORWARDED, header::VIA, header::X_FORWARDED_FOR, header::X_FORWARDED_HOST, HeaderName::from_static("x-real-ip")];

/// The desk of one broker. Cloning is a reference count.
#[derive(Clone, Debug)]
pub(super) struct Desk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Broker,
    app_id: String,
    /// After so long without a frame the broker asks, and so long it waits for an answer: what a pulled plug takes to be noticed.
    silence: (Duration, Duration),
    /// The grace of the rule for the channels of the desk; `None` if the application has none.
    grace: Option<Duration>,
    orders: Mutex<Orders>,
    wires: Wires,
}

impl Desk {
    /// A desk, if this is a broker for development that only this machine can reach.
    pub(super) fn try_new(settings: &Settings, broker: Broker) -> Option<Self> {
        let app = settings.apps.iter().find(|app| app.is_development()).filter(|_| settings.server.is_loopback())?;
        Some(Self(Arc::new(Inner {
            broker,
            app_id: app.id.clone(),
            silence: (settings.server.ping_interval, settings.server.pong_timeout),
            grace: grace_at_the_desk(app),
            orders: Mutex::new(Orders::new()),
            wires: Wires::default(),
        })))
    }

    /// All routes of the desk.
    pub(super) fn configure(&self, routes: &mut web::ServiceConfig) {
        let file = |path: &str, kind: &'static str, text: &'static str| {
            web::resource(path).route(web::get().to(move || async move { HttpResponse::Ok().content_type(kind).body(text) }))
        };
        let desk = web::scope("/desk")
            .app_data(web::Data::new(self.clone()))
            .app_data(web::Data::new(self.0.wires.clone()))
            .wrap(from_fn(only_from_this_machine))
            .service(file("", "text/html; charset=utf-8", PAGE))
            .service(file("/desk.js", "text/javascript; charset=utf-8", SCRIPT))
            .service(file("/desk.css", "text/css; charset=utf-8", STYLE))
            .service(file("/licences.txt", "text/plain; charset=utf-8", LICENCES))
            .service(web::resource("/config").route(web::get().to(config)))
            .service(web::resource("/auth").route(web::post().to(auth::channel)))
            .service(web::resource("/user-auth").route(web::post().to(auth::user)))
            .service(web::resource("/events").route(web::get().to(records::events)))
            .service(web::resource("/locks").route(web::get().to(records::locks)))
            .service(web::resource("/locks/{fence}/release").route(web::post().to(records::release)))
            .service(web::resource("/orders").route(web::get().to(records::orders)))
            .service(web::resource("/orders/{id}").route(web::post().to(records::save)))
            .service(web::resource("/wire/{name}/cut").route(web::post().to(cut)))
            .service(web::resource("/wire/{name}/app/{key}").route(web::get().to(wire::connect)))
            .default_service(web::to(http::not_found));
        routes.service(desk);
    }

    /// The live state of the development application.
    fn app(&self) -> Result<Arc<Hub>, DeskError> {
        self.0.broker.app(&self.0.app_id).ok_or(DeskError::NoApp)
    }

    fn locks(&self) -> Result<&LockManager, DeskError> {
        self.0.broker.locks().ok_or(DeskError::NoLocks)
    }
}

fn grace_at_the_desk(app: &AppSettings) -> Option<Duration> {
    let applies = |hold: &&HoldSettings| {
        let pattern = ChannelPattern::parse(&hold.channel);
        hold.at == HoldPoint::Subscribe && pattern.is_ok_and(|pattern| pattern.captures("private-order.42").is_some())
    };
    app.holds.iter().find(applies).map(|hold| hold.grace)
}

/// `GET /desk/config`: what the page has to know before it starts.
async fn config(desk: web::Data<Desk>) -> Result<HttpResponse, DeskError> {
    let (ping_interval, pong_timeout) = desk.0.silence;
    Ok(HttpResponse::Ok().json(json!({
        "key": &*desk.app()?.app().key,
        "people": auth::PEOPLE,
        "pid": std::process::id(),
        "silence_ms": (ping_interval + pong_timeout).as_millis() as u64,
        "grace_ms": desk.0.grace.map(|grace| grace.as_millis() as u64),
    })))
}

#[derive(Debug, Deserialize)]
struct HowToCut {
    how: Cut,
}

/// `POST /desk/wire/{name}/cut`
async fn cut(desk: web::Data<Desk>, name: web::Path<String>, input: web::Json<HowToCut>) -> Result<HttpResponse, DeskError> {
    if desk.0.wires.cut(&name, input.how) { Ok(HttpResponse::Ok().json(json!({}))) } else { Err(DeskError::NoWire) }
}

/// Everybody knows the secret of the development application; still, no page of another site gets in here by way of this machine's
/// browser, be it by name (DNS rebinding) or by a request across sites.
async fn only_from_this_machine(request: ServiceRequest, next: Next<impl MessageBody>) -> Result<ServiceResponse<impl MessageBody>, Error> {
    // Where the broker listens for others as well, anybody can write any Host.
    let is_near = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let host = host_of_this_machine(request.headers()).filter(|_| is_near).ok_or(DeskError::Foreign)?.to_owned();
    let mut response = next.call(request).await?;
    let headers = response.headers_mut();
    // Of what a page of the desk may load, run and reach, nothing is elsewhere. `'self'` is not ws:// for every browser.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ws://{host}; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    );
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, value.parse().map_err(|_| DeskError::Foreign)?);
    }
    Ok(response)
}

/// The `Host` of a request that came to this machine by one of its own names, from nowhere else.
pub(super) fn host_of_this_machine(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_ours = name.eq_ignore_ascii_case("localhost") || name == "[::1]" || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    let is_own_page = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host));
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().is_ok_and(is_own_page));
    // A proxy on this machine comes from it, and may call us by its name, for somebody who does not.
    let is_passed_on = PASSED_ON.iter().any(|name| headers.contains_key(name));
    (is_ours && origin != Some(false) && !is_passed_on).then_some(host)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    #[test]
    fn the_desk_is_for_the_pages_and_the_names_of_this_machine() {
        for host in ["127.0.0.1", "127.0.0.1:6001", "127.1.2.3:1", "localhost", "LocalHost:6001", "[::1]", "[::1]:6001"] {
            assert_eq!(host_of_this_machine(&headers(host, None)), Some(host));
            assert!(host_of_this_machine(&headers(host, Some(&format!("http://{host}")))).is_some(), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:6001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "128.0.0.1",
            "::1",
            "[::2]:1",
            "localhost:6001@evil.example",
            "localhost:x",
        ] {
            assert_eq!(host_of_this_machine(&headers(host, None)), None, "{host}");
        }
        for origin in ["null", "", "http://evil.example", "http://localhost:3000", "http://127.0.0.1:6001"] {
            assert_eq!(host_of_this_machine(&headers("localhost:6001", Some(origin))), None, "{origin}");
        }
        assert_eq!(host_of_this_machine(&HeaderMap::new()), None);
        for name in PASSED_ON {
            let mut passed_on = headers("127.0.0.1:6001", None);
            passed_on.insert(name, HeaderValue::from_static("198.51.100.7"));
            assert_eq!(host_of_this_machine(&passed_on), None);
        }
    }

    #[test]
    fn the_grace_is_that_of_the_rule_for_the_orders() {
        let mut app = AppSettings::development();
        assert_eq!(grace_at_the_desk(&app), Some(Duration::from_secs(5)));
        app.holds[0].channel = "private-invoice.{id}".to_owned();
        assert_eq!(grace_at_the_desk(&app), None);
        app.holds.push(HoldSettings { channel: "private-order.{n}".to_owned(), grace: Duration::ZERO, ..HoldSettings::development() });
        assert_eq!(grace_at_the_desk(&app), Some(Duration::ZERO));
        app.holds[1].at = HoldPoint::Open;
        assert_eq!(grace_at_the_desk(&app), None);
    }

    #[test]
    fn there_is_a_desk_in_development_and_on_loopback_only() {
        let desk = |settings: &Settings| Desk::try_new(settings, Broker::new([], 0)).is_some();
        let mut settings = Settings::default();
        assert!(desk(&settings));
        settings.server.host = "0.0.0.0".to_owned();
        assert!(!desk(&settings));
        settings.server.host = "127.0.0.1".to_owned();
        settings.apps = vec![AppSettings::new("app-id", "app-key", "a secret")];
        assert!(!desk(&settings));
    }
}
