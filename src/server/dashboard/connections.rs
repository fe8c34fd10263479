//! The connections of this node: a page of them, one of them, and its end.

use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    DashboardError,
    input::{Answer, Asked, Body, has, json as answer, page_of},
    overview::{millis, now},
};
use crate::{
    domain::{CloseCause, Conn, Fence, Hub},
    lifecycle::LockManager,
    protocol::{ChannelName, CloseCode, SocketId},
};

/// Connections that are looked at before others may come and go.
const AT_ONCE: usize = 256;
/// Connections that one request looks at.
const MOST_SEEN: usize = 200_000;
/// Channels and holds of one connection that a list names.
const NAMED: usize = 3;
/// Channels of one connection that are named when it is asked for.
const MOST_CHANNELS: usize = 500;

const ORDERS: &str = "must be newest, oldest, sent, received or waiting";

#[derive(Serialize)]
struct Row {
    socket_id: String,
    state: &'static str,
    ip: Option<String>,
    user_id: Option<String>,
    connected_for_ms: u64,
    channels: Vec<String>,
    channel_count: usize,
    holds: Vec<String>,
    hold_count: usize,
    bytes_in: u64,
    bytes_out: u64,
    waiting_bytes: usize,
}

type Held = Vec<(String, Fence, Option<ChannelName>)>;

fn held(locks: Option<&LockManager>, conn: &Conn) -> Held {
    locks.map(|locks| locks.held_by(conn.socket_id())).unwrap_or_default()
}

impl Row {
    fn of(conn: &Conn, held: &Held, named: usize) -> Self {
        let channels = conn.channels();
        Self {
            socket_id: conn.socket_id().to_string(),
            state: conn.state().as_str(),
            ip: conn.remote_ip().map(|ip| ip.to_string()),
            user_id: conn.user_id().map(|id| id.to_string()),
            connected_for_ms: millis(conn.connected_for(Instant::now())),
            channel_count: channels.len(),
            channels: channels.iter().take(named).map(ToString::to_string).collect(),
            hold_count: held.len(),
            holds: held.iter().take(named).map(|(resource, ..)| resource.clone()).collect(),
            bytes_in: conn.bytes_in(),
            bytes_out: conn.bytes_out(),
            waiting_bytes: conn.outbox().waiting().1,
        }
    }
}

fn matches(conn: &Conn, search: &str) -> bool {
    search.is_empty()
        || has(&conn.socket_id().to_string(), search)
        || conn.user_id().is_some_and(|id| has(&id, search))
        || conn.remote_ip().is_some_and(|ip| has(&ip.to_string(), search))
        || conn.channels().iter().any(|channel| has(channel.as_str(), search))
}

/// `GET api/connections?app=&q=&sort=newest&offset=0&limit=100`: connections of this node whose id, user, address or channel has `q`.
pub(super) async fn list(asked: Asked) -> Answer {
    let hub = asked.dashboard.app(asked.required("app")?)?;
    let (search, page) = (asked.search()?, asked.page()?);
    let at = Instant::now();
    let age = |conn: &Conn| conn.connected_for(at).as_micros() as u64;
    let key: Box<dyn Fn(&Conn) -> u64> = match asked.param("sort").unwrap_or("newest") {
        "newest" => Box::new(age),
        "oldest" => Box::new(move |conn| u64::MAX - age(conn)),
        "sent" => Box::new(|conn| u64::MAX - conn.bytes_out()),
        "received" => Box::new(|conn| u64::MAX - conn.bytes_in()),
        "waiting" => Box::new(|conn| u64::MAX - conn.outbox().waiting().1 as u64),
        _ => return Err(DashboardError::field("sort", ORDERS)),
    };
    let (mut found, mut after, mut seen) = (Vec::new(), None, 0);
    let complete = loop {
        let conns = hub.connections(after, AT_ONCE);
        let Some(last) = conns.last() else { break true };
        after = Some(last.socket_id());
        seen += conns.len();
        found.extend(conns.into_iter().filter(|conn| matches(conn, search)).map(|conn| (key(&conn), conn.socket_id(), conn)));
        if seen >= MOST_SEEN {
            break false;
        }
        // The sockets of this worker wait for no more than one turn of this.
        tokio::task::yield_now().await;
    };
    let matched = found.len();
    let rows = page_of(found, page, |one, other| (one.0, one.1).cmp(&(other.0, other.1)));
    let locks = asked.dashboard.0.broker.locks();
    let rows: Vec<Row> = rows.iter().map(|(.., conn)| Row::of(conn, &held(locks, conn), NAMED)).collect();
    answer(&json!({ "now": now(), "rows": rows, "matched": matched, "total": hub.connection_count(), "complete": complete }))
}

/// `GET api/connections/{socket_id}?app=`: all that is known of one.
pub(super) async fn show(asked: Asked) -> Answer {
    let (_, conn) = find(&asked, asked.required("app")?)?;
    let held = held(asked.dashboard.0.broker.locks(), &conn);
    let mut row = serde_json::to_value(Row::of(&conn, &held, MOST_CHANNELS)).unwrap_or_default();
    let holds = held.iter().map(
        |(resource, fence, channel)| json!({ "resource": resource, "fence": fence, "channel": channel.as_ref().map(ChannelName::as_str) }),
    );
    row["holds"] = Value::Array(holds.collect());
    row["now"] = json!(now());
    row["worker"] = json!(conn.worker());
    row["waiting_frames"] = json!(conn.outbox().waiting().0);
    answer(&row)
}

#[derive(Deserialize)]
pub(super) struct Close {
    app: String,
    /// Whether the client is to come back at once.
    #[serde(default)]
    reconnect: bool,
}

/// `POST api/connections/{socket_id}/close`: ends it, with a code that says whether to come back.
pub(super) async fn close(asked: Asked, body: Body<Close>) -> Answer {
    let Body(Close { app, reconnect }) = body;
    let (hub, conn) = find(&asked, &app)?;
    let (code, reason) = match reconnect {
        true => (CloseCode::RECONNECT, "Closed by an operator: connect again"),
        false => (CloseCode::UNAUTHORIZED, "Closed by an operator"),
    };
    if !conn.fail(CloseCause::Kicked, code, reason) {
        return Err(DashboardError::UnknownSocket);
    }
    let id = conn.socket_id();
    tracing::info!(app.id = %hub.app().id, socket.id = %id, "Closed {id} from the dashboard");
    answer(&json!({ "closed": true }))
}

fn find(asked: &Asked, app: &str) -> Result<(Arc<Hub>, Conn), DashboardError> {
    let hub = asked.dashboard.app(app)?;
    let id = SocketId::parse(asked.segment("socket_id")).ok().flatten();
    let conn = id.and_then(|id| hub.connection(id)).ok_or(DashboardError::UnknownSocket)?;
    Ok((hub, conn))
}
