//! Publishing: `POST …/events` and `POST …/batch_events` (protocol.md 6.4, 6.5).
//!
//! Nothing of a request is delivered unless all of it can be.

use std::{sync::Arc, time::Instant};

use actix_web::{HttpResponse, http::header::HeaderMap, web::Bytes};
use serde::Serialize;

use super::{
    error::ApiError,
    express::ExpressRoute,
    fields::{self, EventFields},
    idempotency,
    info::{Attributes, ChannelMap, Info},
    signed::{Json, Signed, answer, json},
    trace,
};
use crate::{
    cluster::{Broker, Publication},
    domain::{App, Hub},
};

/// A request that publishes; everything in it was signed with the secret of its application.
#[derive(Clone, Copy)]
pub(super) struct Publishing<'a> {
    /// The broker.
    pub(super) broker: &'a Broker,
    /// The application.
    pub(super) hub: &'a Arc<Hub>,
    /// Its keys and limits when the request came.
    pub(super) app: &'a Arc<App>,
    /// The body, byte for byte.
    pub(super) body: &'a Bytes,
    /// Headers are not signed.
    pub(super) headers: &'a HeaderMap,
}

/// The answer to a request that asks for nothing.
const NOTHING: Json = Json::Borrowed("{}");

/// An event that may be delivered, and what its publisher wants to know.
struct Checked<'a> {
    publication: Publication<'a>,
    info: Option<Info>,
}

/// `POST /apps/{app_id}/events`. 200 means accepted, not read by anybody.
pub(super) async fn publish(signed: Signed) -> HttpResponse {
    respond(ExpressRoute::Events, publishing(&signed)).await
}

/// `POST /apps/{app_id}/batch_events`.
pub(super) async fn publish_batch(signed: Signed) -> HttpResponse {
    respond(ExpressRoute::Batch, publishing(&signed)).await
}

/// Publishes what was asked for; what carries a key only if it was not done before.
pub(super) async fn respond(route: ExpressRoute, asked: Publishing<'_>) -> HttpResponse {
    if asked.headers.contains_key(idempotency::KEY) {
        // On the heap: the publish without a key shall not carry the room for one with.
        return Box::pin(idempotency::respond(route, asked)).await;
    }
    answer(publish_now(route, asked), &asked.app.id)
}

/// Publishes what was asked for.
///
/// # Errors
/// [`ApiError`]; nothing was delivered then.
pub(super) fn publish_now(route: ExpressRoute, asked: Publishing<'_>) -> Result<Json, ApiError> {
    match route {
        ExpressRoute::Events => deliver_one(asked),
        ExpressRoute::Batch => deliver_batch(asked),
    }
}

fn publishing(signed: &Signed) -> Publishing<'_> {
    Publishing { broker: &signed.broker, hub: &signed.hub, app: &signed.app, body: &signed.body, headers: signed.request.headers() }
}

/// One event, for some channels.
///
/// # Errors
/// [`ApiError`]; nothing was delivered then.
fn deliver_one(asked: Publishing<'_>) -> Result<Json, ApiError> {
    let event = check(&EventFields::parse(asked.body)?, asked.app)?;
    make_way(asked, 1)?;
    deliver(asked, std::slice::from_ref(&event));
    let Some(info) = event.info else { return Ok(NOTHING) };
    let now = Instant::now();
    let channels = event.publication.channels().iter();
    json(&ChannelMap { channels: channels.map(|channel| (channel.clone(), info.of(channel, &asked.hub.channel(channel, now)))).collect() })
}

/// `{"batch":[…]}`: as long as the request, in its order.
#[derive(Serialize)]
struct BatchAnswer {
    batch: Vec<Attributes>,
}

/// All events of a batch, or none.
///
/// # Errors
/// [`ApiError`]; nothing was delivered then.
fn deliver_batch(asked: Publishing<'_>) -> Result<Json, ApiError> {
    let app = asked.app;
    let items = fields::batch(asked.body, app.limits.max_batch)?;
    let events = items.iter().map(|item| check(item, app)).collect::<Result<Vec<_>, _>>()?;
    make_way(asked, events.len())?;
    deliver(asked, &events);
    if events.iter().all(|event| event.info.is_none()) {
        return Ok(NOTHING);
    }
    let now = Instant::now();
    let attributes = |event: &Checked<'_>| match (event.info, event.publication.channels()) {
        (Some(info), [channel, ..]) => info.of(channel, &asked.hub.channel(channel, now)),
        _ => Attributes::default(),
    };
    json(&BatchAnswer { batch: events.iter().map(attributes).collect() })
}

/// Delivers what may be delivered, inside a span for those who trace.
fn deliver(asked: Publishing<'_>, events: &[Checked<'_>]) {
    let span = trace::publishing(&asked.app.id, asked.headers, events.len());
    if let [event] = events
        && let Some(channel) = event.publication.channels().first()
    {
        trace::names(&span, channel.as_str());
    }
    span.in_scope(|| events.iter().for_each(|event| asked.broker.deliver(asked.hub, &event.publication)));
}

/// Whether so many events may be published now. What could never be was refused before, and is not counted.
fn make_way(asked: Publishing<'_>, events: usize) -> Result<(), ApiError> {
    if asked.broker.is_short_of_memory() {
        return Err(ApiError::OverCapacity);
    }
    asked.hub.rates().publish(events).map_err(|limit| ApiError::TooFast { what: "events", limit })
}

fn check<'a>(event: &EventFields<'a>, app: &App) -> Result<Checked<'a>, ApiError> {
    let (channels, socket_id, info) = (event.channels()?, event.socket_id()?, event.info()?);
    let (name, data) = (event.name()?, event.data()?);
    let publication = Publication::check(app, channels.iter().map(|name| &**name), name, data, socket_id.as_deref())?;
    // A cached event is not an answer to a publisher (6.6).
    Ok(Checked { publication, info: info.map(|list| Info { cache: false, ..Info::parse(&list) }) })
}
