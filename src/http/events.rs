//! Publishing: `POST …/events` and `POST …/batch_events` (protocol.md 6.4, 6.5).
//!
//! Nothing of a request is delivered unless all of it can be.

use std::time::Instant;

use actix_web::HttpResponse;
use serde::Serialize;

use super::{
    error::ApiError,
    fields::{self, EventFields},
    info::{Attributes, ChannelMap, Info},
    signed::{Json, Signed, json},
    trace,
};
use crate::{
    cluster::{NewPublication, Publication},
    domain::App,
};

/// The answer to a request that asks for nothing.
const NOTHING: Json = Json::Borrowed("{}");

/// An event that may be delivered, and what its publisher wants to know.
struct Checked {
    publication: Publication,
    info: Option<Info>,
}

/// `POST /apps/{app_id}/events`. 200 means accepted, not read by anybody.
pub(super) async fn publish(signed: Signed) -> HttpResponse {
    signed.answer(deliver_one(&signed))
}

/// `POST /apps/{app_id}/batch_events`.
pub(super) async fn publish_batch(signed: Signed) -> HttpResponse {
    signed.answer(deliver_batch(&signed))
}

fn deliver_one(signed: &Signed) -> Result<Json, ApiError> {
    let event = check(&EventFields::parse(&signed.body)?, signed.app())?;
    make_way(signed, 1)?;
    deliver(signed, std::slice::from_ref(&event));
    let Some(info) = event.info else { return Ok(NOTHING) };
    let now = Instant::now();
    let channels = event.publication.channels().iter();
    json(&ChannelMap { channels: channels.map(|channel| (channel.clone(), info.of(channel, &signed.hub.channel(channel, now)))).collect() })
}

/// `{"batch":[…]}`: as long as the request, in its order.
#[derive(Serialize)]
struct BatchAnswer {
    batch: Vec<Attributes>,
}

fn deliver_batch(signed: &Signed) -> Result<Json, ApiError> {
    let app = signed.app();
    let items = fields::batch(&signed.body, app.limits.max_batch)?;
    let events = items.iter().map(|item| check(item, app)).collect::<Result<Vec<_>, _>>()?;
    make_way(signed, events.len())?;
    deliver(signed, &events);
    if events.iter().all(|event| event.info.is_none()) {
        return Ok(NOTHING);
    }
    let now = Instant::now();
    let attributes = |event: &Checked| match (event.info, event.publication.channels()) {
        (Some(info), [channel, ..]) => info.of(channel, &signed.hub.channel(channel, now)),
        _ => Attributes::default(),
    };
    json(&BatchAnswer { batch: events.iter().map(attributes).collect() })
}

/// Delivers what may be delivered, inside a span for those who trace.
fn deliver(signed: &Signed, events: &[Checked]) {
    let span = trace::publishing(signed, events.len());
    if let [event] = events
        && let Some(channel) = event.publication.channels().first()
    {
        trace::names(&span, channel.as_str());
    }
    span.in_scope(|| events.iter().for_each(|event| signed.broker.deliver(&signed.hub, &event.publication)));
}

/// Whether so many events may be published now. What could never be was refused before, and is not counted.
fn make_way(signed: &Signed, events: usize) -> Result<(), ApiError> {
    if signed.broker.is_short_of_memory() {
        return Err(ApiError::OverCapacity);
    }
    signed.hub.rates().publish(events).map_err(|limit| ApiError::TooFast { what: "events", limit })
}

fn check(event: &EventFields<'_>, app: &App) -> Result<Checked, ApiError> {
    let (channels, socket_id, info) = (event.channels()?, event.socket_id()?, event.info()?);
    let new = NewPublication {
        channels: channels.iter().map(|name| &**name).collect(),
        event: event.name()?.into_owned(),
        data: event.data()?.into_owned(),
        socket_id: socket_id.as_deref(),
    };
    // A cached event is not an answer to a publisher (6.6).
    let info = info.map(|list| Info { cache: false, ..Info::parse(&list) });
    Ok(Checked { publication: new.validate(app)?, info })
}
