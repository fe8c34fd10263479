//! Who is told: listeners of the log, and endpoints of webhooks with their dead letters.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    DashboardError,
    input::{Answer, Asked, Body, json as answer},
    overview::now,
};
use crate::{
    config::ListenerKind,
    http::ApiError,
    lifecycle::{About, DeadId, answer_of, endpoint_of, store::ConsumerRow},
};

/// Longest name of a listener or an endpoint.
const MAX_NAME: usize = 512;

/// `GET api/listeners`: who reads the log, of all nodes.
pub(super) async fn listeners(asked: Asked) -> Answer {
    let configured = &asked.dashboard.0.listeners;
    let store = asked.dashboard.locks()?.store();
    let mut shards: BTreeMap<String, Vec<ConsumerRow>> = BTreeMap::new();
    for row in answer_of(store.consumers()).await?.into_iter().filter(|row| endpoint_of(&row.name).is_none()) {
        shards.entry(row.name.clone()).or_default().push(row);
    }
    let kind = |name: &str| configured.iter().find(|(known, _)| known == name).map(|(_, kind)| kind.as_str());
    let mut rows: Vec<Value> = shards.iter().map(|(name, shards)| listener(name, kind(name), shards)).collect();
    // These keep no place in the log: each node tells its own connections.
    let broadcasts = configured.iter().filter(|(_, kind)| *kind == ListenerKind::Broadcast);
    rows.extend(broadcasts.map(|(name, kind)| json!({ "name": name, "kind": kind.as_str(), "lag": null })));
    answer(&json!({ "now": now(), "rows": rows }))
}

fn listener(name: &str, kind: Option<&'static str>, shards: &[ConsumerRow]) -> Value {
    let stuck = shards.iter().filter(|row| row.last_error.is_some()).max_by_key(|row| row.attempts);
    let mut owners: Vec<&str> = shards.iter().filter_map(|row| row.owner.as_deref()).collect();
    owners.sort_unstable();
    owners.dedup();
    json!({
        "name": name,
        "kind": kind,
        "lag": shards.iter().map(ConsumerRow::lag).sum::<i64>(),
        "read": shards.iter().map(|row| row.position).sum::<i64>(),
        "parked": shards.iter().map(|row| row.parked).sum::<i64>(),
        "dead": shards.iter().map(|row| row.dead).sum::<i64>(),
        "attempts": stuck.map_or(0, |row| row.attempts),
        "last_error": stuck.and_then(|row| row.last_error.clone()),
        "owners": owners,
    })
}

/// `GET api/parked?name=&limit=100`: entries that a listener has put aside.
pub(super) async fn parked(asked: Asked) -> Answer {
    let (name, limit) = (asked.required("name")?, asked.limit()?);
    if name.len() > MAX_NAME {
        return Err(DashboardError::field("name", format!("must have at most {MAX_NAME} bytes")));
    }
    let rows = answer_of(asked.dashboard.locks()?.store().parked(name, u32::try_from(limit).unwrap_or(u32::MAX))).await?;
    let rows = rows.iter().map(|row| {
        json!({
            "reason": row.reason, "attempts": row.attempts, "last_error": row.last_error, "parked_at": row.parked_at.to_rfc3339(),
            "event": row.event,
        })
    });
    answer(&json!({ "now": now(), "rows": rows.collect::<Vec<_>>() }))
}

/// `GET api/webhooks?app=`: the endpoints of an application, and how far each is.
pub(super) async fn webhooks(asked: Asked) -> Answer {
    let app = asked.required("app")?;
    asked.dashboard.app(app)?;
    answer(&json!({ "now": now(), "rows": asked.dashboard.deliveries()?.endpoints_of(app).await? }))
}

/// `GET api/webhooks/dead?app=&endpoint=&after=ID&limit=100`: events that were given up.
pub(super) async fn dead(asked: Asked) -> Answer {
    let (app, limit) = (asked.required("app")?, asked.limit()?);
    asked.dashboard.app(app)?;
    let after = asked.param("after").map(|text| id("after", text)).transpose()?;
    let (endpoint, most) = (asked.param("endpoint").map(str::to_owned), u32::try_from(limit + 1).unwrap_or(u32::MAX));
    // One more than is shown: is there a next page?
    let mut rows = asked.dashboard.deliveries()?.dead_of(app, endpoint, after.as_ref(), most).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|last| last.id().to_string());
    answer(&json!({ "now": now(), "rows": rows, "next": next }))
}

fn id(field: &'static str, text: &str) -> Result<DeadId, DashboardError> {
    text.parse().map_err(|_| DashboardError::field(field, "must be the id of a dead letter, such as shop:3-71"))
}

#[derive(Deserialize)]
pub(super) struct Which {
    app: String,
    endpoint: Option<String>,
}

/// `POST api/webhooks/dead/{id}/replay`: it is sent again.
pub(super) async fn replay(asked: Asked, body: Body<Which>) -> Answer {
    about_one(&asked, &body.0, About::Replay).await
}

/// `POST api/webhooks/dead/{id}/drop`: it is forgotten.
pub(super) async fn forget(asked: Asked, body: Body<Which>) -> Answer {
    about_one(&asked, &body.0, About::Drop).await
}

/// `POST api/webhooks/replay`: all of them, or those of one endpoint; some hundreds at a time.
pub(super) async fn replay_all(asked: Asked, body: Body<Which>) -> Answer {
    about_all(&asked, body.0, About::Replay).await
}

/// `POST api/webhooks/drop`: the same.
pub(super) async fn forget_all(asked: Asked, body: Body<Which>) -> Answer {
    about_all(&asked, body.0, About::Drop).await
}

fn done(about: About) -> &'static str {
    if about == About::Replay { "Replaying" } else { "Dropped" }
}

async fn about_one(asked: &Asked, which: &Which, about: About) -> Answer {
    let (app, id) = (which.app.as_str(), id("id", asked.segment("id"))?);
    asked.dashboard.app(app)?;
    if !asked.dashboard.deliveries()?.about_one(app, &id, about).await? {
        return Err(ApiError::UnknownDeadLetter.into());
    }
    tracing::info!(app.id = app, webhook.id = %id, "{} dead letter {id} of app {app} from the dashboard", done(about));
    answer(&json!({ "count": 1, "more": false }))
}

async fn about_all(asked: &Asked, which: Which, about: About) -> Answer {
    let app = which.app;
    asked.dashboard.app(&app)?;
    let (count, more) = asked.dashboard.deliveries()?.about_all(&app, which.endpoint, about).await?;
    if count > 0 {
        tracing::info!(app.id = app, count, "{} {count} dead letters of app {app} from the dashboard", done(about));
    }
    answer(&json!({ "count": count, "more": more }))
}
