//! The questions of load balancers and supervisors; unsigned.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderValue},
    },
    web::Data,
};

use crate::cluster::Broker;

/// `GET /`: a server is here.
pub(super) async fn root() -> HttpResponse {
    say(StatusCode::OK, "OK")
}

/// `GET /up`: the same, in the words of Reverb.
pub(super) async fn up() -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(r#"{"health":"OK"}"#)
}

/// `GET /ready`: every part has started and the node is not leaving; else 503.
pub(super) async fn ready(broker: Data<Broker>) -> HttpResponse {
    if broker.is_ready() { say(StatusCode::OK, "OK") } else { say(StatusCode::SERVICE_UNAVAILABLE, "Not ready") }
}

/// `GET /ready/holds`: a hold would be granted; else 503, also by a broker without a store. Unlike `/ready` it follows the store.
pub(super) async fn ready_for_holds(broker: Data<Broker>) -> HttpResponse {
    let (status, line) = match broker.locks() {
        _ if !broker.is_ready() => (StatusCode::SERVICE_UNAVAILABLE, "Not ready"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "No store is configured"),
        Some(locks) if !locks.is_available() => (StatusCode::SERVICE_UNAVAILABLE, "The store does not answer"),
        Some(_) => (StatusCode::OK, "OK"),
    };
    say(status, line)
}

/// `GET /accept-traffic`: there is room for one more connection; else 503.
pub(super) async fn accept_traffic(broker: Data<Broker>) -> HttpResponse {
    if broker.has_room() { say(StatusCode::OK, "OK") } else { say(StatusCode::SERVICE_UNAVAILABLE, "No room for connections") }
}

fn say(status: StatusCode, line: &'static str) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))).body(line)
}
