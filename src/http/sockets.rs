//! Questions about connections: `GET …/connections`, `…/sockets` and `…/sockets/{socket_id}`.

use std::time::Instant;

use actix_web::HttpResponse;
use serde::Serialize;

use super::{
    error::ApiError,
    signed::{Json, Signed, json},
};
use crate::{domain::Conn, protocol::SocketId};

/// Connections on one page of the list, unless the request says otherwise.
const PAGE: usize = 100;
/// Most connections on one page.
const MAX_PAGE: usize = 1_000;

/// `GET /apps/{app_id}/connections`: how many there are.
pub(super) async fn count(signed: Signed) -> HttpResponse {
    signed.answer(json(&Count { connections: signed.hub.connection_count() }))
}

/// `GET /apps/{app_id}/sockets?limit=100&after=CURSOR`: a page of them, in the order of their ids.
pub(super) async fn list(signed: Signed) -> HttpResponse {
    signed.answer(page(&signed))
}

/// `GET /apps/{app_id}/sockets/{socket_id}`: one of them, or 404.
pub(super) async fn show(signed: Signed) -> HttpResponse {
    signed.answer(one(&signed))
}

#[derive(Serialize)]
struct Count {
    connections: usize,
}

#[derive(Serialize)]
struct Page {
    sockets: Vec<Socket>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Socket {
    socket_id: String,
    state: &'static str,
    remote_ip: Option<String>,
    connected_for_ms: u64,
    user_id: Option<String>,
    channels: Vec<String>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Socket {
    fn of(conn: &Conn, now: Instant) -> Self {
        Self {
            socket_id: conn.socket_id().to_string(),
            state: conn.state().as_str(),
            remote_ip: conn.remote_ip().map(|ip| ip.to_string()),
            connected_for_ms: u64::try_from(conn.connected_for(now).as_millis()).unwrap_or(u64::MAX),
            user_id: conn.user_id().map(|id| id.to_string()),
            channels: conn.channels().iter().map(ToString::to_string).collect(),
            bytes_in: conn.bytes_in(),
            bytes_out: conn.bytes_out(),
        }
    }
}

fn page(signed: &Signed) -> Result<Json, ApiError> {
    let limit = signed
        .param("limit")
        .map_or(Some(PAGE), page_size)
        .ok_or(ApiError::Field { field: "limit", rule: "must be a number from 1 to 1000" })?;
    let cursor =
        |text| SocketId::parse(text).ok().flatten().ok_or(ApiError::Field { field: "after", rule: "must be the cursor of a page" });
    let after = signed.param("after").map(cursor).transpose()?;
    // One more than is shown: is there a next page?
    let mut conns = signed.hub.connections(after, limit + 1);
    let more = conns.len() > limit;
    conns.truncate(limit);
    let next = conns.last().filter(|_| more).map(|last| last.socket_id().to_string());
    let now = Instant::now();
    json(&Page { sockets: conns.iter().map(|conn| Socket::of(conn, now)).collect(), next })
}

fn page_size(text: &str) -> Option<usize> {
    text.parse().ok().filter(|size| (1..=MAX_PAGE).contains(size))
}

fn one(signed: &Signed) -> Result<Json, ApiError> {
    let id = SocketId::parse(&signed.segment("socket_id")).ok().flatten();
    let conn = id.and_then(|id| signed.hub.connection(id)).ok_or(ApiError::UnknownSocket)?;
    json(&Socket::of(&conn, Instant::now()))
}
