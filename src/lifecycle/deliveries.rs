//! What an operator sees of webhooks, and does about those that were given up: beside the broker, or through its API.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc, time::Duration};

use parking_lot::RwLock;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    listener::{Delivered, consumer_name, endpoint_of},
    queries::answer_of,
    store::{ConsumerRow, DeadQuery, LifecycleStore, ParkReason, ParkedPlace, ParkedRow, Shard, StoreError, Timestamp},
};

/// How many dead letters one call replays or drops.
const AT_ONCE: u32 = 500;

/// An endpoint as it is configured, without anything that is secret.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndpointInfo {
    /// Whose it is.
    pub(crate) app: String,
    /// Its name.
    pub(crate) endpoint: String,
    /// Where it is.
    pub(crate) url: String,
    /// The kinds it wants.
    pub(crate) events: Vec<&'static str>,
    /// Only channels that begin so.
    pub(crate) channel_prefix: String,
    /// Only channels that end so.
    pub(crate) channel_suffix: String,
    /// Whether one request may carry several events.
    pub(crate) batch: bool,
}

/// How far an endpoint is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndpointState {
    /// What is configured; of an endpoint that no configuration here names, only whose it is.
    #[serde(flatten)]
    pub(crate) info: Value,
    /// Whose it is.
    #[serde(skip)]
    pub(crate) app: String,
    /// Its name.
    #[serde(skip)]
    pub(crate) endpoint: String,
    /// Whether the configuration here has it.
    pub(crate) configured: bool,
    /// Entries of the log that it has still before it.
    pub(crate) lag: i64,
    /// When the oldest event happened that it has not taken and that is not given up.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) oldest_owed: Option<Timestamp>,
    /// How often the first of them was tried.
    pub(crate) attempts: i32,
    /// Why it was not taken.
    pub(crate) last_error: Option<String>,
    /// Events that failed by themselves, and those that wait for one of their channel.
    pub(crate) aside: i64,
    /// Events that were given up.
    pub(crate) dead: i64,
    /// The node that delivers.
    pub(crate) owner: Option<String>,
}

fn rfc3339<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(Timestamp::to_rfc3339).serialize(serializer)
}

/// Endpoints, those of the configuration first.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn endpoint_states(
    store: &dyn LifecycleStore,
    infos: &[EndpointInfo],
    app: Option<&str>,
) -> Result<Vec<EndpointState>, StoreError> {
    let mut rows: HashMap<String, ConsumerRow> = HashMap::new();
    for row in store.consumers().await? {
        if endpoint_of(&row.name).is_some_and(|(whose, _)| app.is_none_or(|app| app == whose)) {
            rows.insert(row.name.clone(), row);
        }
    }
    let mut states = Vec::new();
    for info in infos.iter().filter(|info| app.is_none_or(|app| app == info.app)) {
        let row = rows.remove(&consumer_name(&info.app, &info.endpoint));
        let value = serde_json::to_value(info).unwrap_or_default();
        states.push(state(store, (&info.app, &info.endpoint), Some(value), row.as_ref()).await?);
    }
    let mut left: Vec<_> = rows.into_values().collect();
    left.sort_by(|one, other| one.name.cmp(&other.name));
    for row in left {
        if let Some(whose) = endpoint_of(&row.name) {
            states.push(state(store, whose, None, Some(&row)).await?);
        }
    }
    Ok(states)
}

async fn state(
    store: &dyn LifecycleStore,
    (app, endpoint): (&str, &str),
    info: Option<Value>,
    row: Option<&ConsumerRow>,
) -> Result<EndpointState, StoreError> {
    let mut oldest = None;
    let mut aside = None;
    if let Some(row) = row {
        let next = if row.lag() > 0 { store.event(row.shard, row.position + 1).await? } else { None };
        aside = store.parked(&row.name, 1).await?.into_iter().next();
        let times = [next.map(|event| event.at), aside.as_ref().map(|row| row.event.at)];
        oldest = times.into_iter().flatten().min();
    }
    // What is tried at the moment says more than what waits aside.
    let queue = row.filter(|row| row.last_error.is_some());
    let attempts = queue.map(|row| row.attempts).or(aside.as_ref().map(|row| row.attempts));
    let error = queue.and_then(|row| row.last_error.clone()).or_else(|| aside.and_then(|row| row.last_error));
    Ok(EndpointState {
        configured: info.is_some(),
        info: info.unwrap_or_else(|| json!({ "app": app, "endpoint": endpoint })),
        app: app.to_owned(),
        endpoint: endpoint.to_owned(),
        lag: row.map_or(0, ConsumerRow::lag),
        oldest_owed: oldest,
        attempts: attempts.unwrap_or(0),
        last_error: error,
        aside: row.map_or(0, |row| row.parked),
        dead: row.map_or(0, |row| row.dead),
        owner: row.and_then(|row| row.owner.clone()),
    })
}

/// What a dead letter is called: `shop:3-71`, the endpoint and the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadId {
    /// The endpoint's name.
    pub(crate) endpoint: String,
    shard: Shard,
    position: i64,
}

impl fmt::Display for DeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}", self.endpoint, self.shard, self.position)
    }
}

/// Not the id of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an id such as shop:3-71")]
pub(crate) struct BadDeadId;

impl FromStr for DeadId {
    type Err = BadDeadId;

    fn from_str(text: &str) -> Result<Self, BadDeadId> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (endpoint, event) = text.rsplit_once(':').filter(|(endpoint, _)| !endpoint.is_empty()).ok_or(BadDeadId)?;
        let (shard, position) = event.split_once('-').filter(|(shard, position)| digits(shard) && digits(position)).ok_or(BadDeadId)?;
        let (shard, position) = (shard.parse().map_err(|_| BadDeadId)?, position.parse().map_err(|_| BadDeadId)?);
        Ok(Self { endpoint: endpoint.to_owned(), shard: Shard(shard), position })
    }
}

impl DeadId {
    fn place(&self, app: &str) -> ParkedPlace {
        ParkedPlace { name: consumer_name(app, &self.endpoint), shard: self.shard, position: self.position }
    }
}

/// An event that was given up.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter(ParkedRow);

impl DeadLetter {
    /// Its id.
    pub(crate) fn id(&self) -> DeadId {
        let (_, endpoint) = endpoint_of(&self.0.name).unwrap_or(("", &self.0.name));
        DeadId { endpoint: endpoint.to_owned(), shard: self.0.event.shard, position: self.0.event.position }
    }

    /// The entry, why it was given up, and when.
    pub(crate) fn row(&self) -> &ParkedRow {
        &self.0
    }
}

impl Serialize for DeadLetter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = &self.0;
        json!({
            "id": self.id().to_string(), "app": row.event.app, "endpoint": self.id().endpoint,
            "event_id": Delivered::new(row.event.clone(), 1).id().to_string(), "name": row.event.event_type, "channel": row.event.resource,
            "at": row.event.at.to_rfc3339(), "given_up_at": row.parked_at.to_rfc3339(), "attempts": row.attempts,
            "last_error": row.last_error, "fields": row.event.payload,
        })
        .serialize(serializer)
    }
}

/// Whose dead letters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Among {
    /// Of this application.
    pub(crate) app: Option<String>,
    /// Of this endpoint.
    pub(crate) endpoint: Option<String>,
}

/// Up to `limit` dead letters behind one, in the order of endpoint and log.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn dead_letters(
    store: &dyn LifecycleStore,
    which: &Among,
    after: Option<ParkedPlace>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let name = which.app.as_ref().zip(which.endpoint.as_ref()).map(|(app, endpoint)| consumer_name(app, endpoint));
    let (mut query, mut found) = (DeadQuery { name, app: which.app.clone(), after, limit: limit.max(AT_ONCE) }, Vec::new());
    loop {
        let rows = store.dead(&query).await?;
        let more = u32::try_from(rows.len()).is_ok_and(|count| count >= query.limit);
        query.after = rows.last().map(ParkedRow::place);
        found.extend(rows.into_iter().filter(|row| which.has(&row.name)).map(DeadLetter));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if !more || u32::try_from(found.len()).is_ok_and(|count| count >= limit) {
            return Ok(found);
        }
    }
}

impl Among {
    fn has(&self, consumer: &str) -> bool {
        endpoint_of(consumer).is_some_and(|(app, endpoint)| {
            self.app.as_ref().is_none_or(|id| id == app) && self.endpoint.as_ref().is_none_or(|name| name == endpoint)
        })
    }
}

/// What is done about a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// It is tried again.
    Replay,
    /// It is forgotten.
    Drop,
}

/// What an operator asks of a running node about one application's webhooks.
#[derive(Clone, Debug)]
pub(crate) struct Deliveries {
    store: Arc<dyn LifecycleStore>,
    infos: Arc<RwLock<Vec<EndpointInfo>>>,
}

impl Deliveries {
    pub(crate) fn new(store: Arc<dyn LifecycleStore>, infos: Vec<EndpointInfo>) -> Self {
        Self { store, infos: Arc::new(RwLock::new(infos)) }
    }

    /// From here on these are the endpoints of an application.
    pub(crate) fn set_endpoints_of(&self, app: &str, infos: Vec<EndpointInfo>) {
        let mut all = self.infos.write();
        all.retain(|info| info.app != app);
        all.extend(infos);
    }

    /// The endpoints of an application.
    ///
    /// # Errors
    /// [`StoreError`], also when no answer comes in time; so do the others.
    pub(crate) async fn endpoints_of(&self, app: &str) -> Result<Vec<EndpointState>, StoreError> {
        let infos: Vec<EndpointInfo> = self.infos.read().iter().filter(|info| info.app == app).cloned().collect();
        answer_of(endpoint_states(&*self.store, &infos, Some(app))).await
    }

    /// Its dead letters behind one, of one endpoint or all.
    pub(crate) async fn dead_of(
        &self,
        app: &str,
        endpoint: Option<String>,
        after: Option<&DeadId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let which = Among { app: Some(app.to_owned()), endpoint };
        answer_of(dead_letters(&*self.store, &which, after.map(|id| id.place(app)), limit)).await
    }

    /// One of them; false if there is none of that id.
    pub(crate) async fn about_one(&self, app: &str, id: &DeadId, about: About) -> Result<bool, StoreError> {
        answer_of(self.change(&id.place(app), about)).await
    }

    /// Many of them; how many, and whether there are more.
    pub(crate) async fn about_all(&self, app: &str, endpoint: Option<String>, about: About) -> Result<(u32, bool), StoreError> {
        let letters = self.dead_of(app, endpoint, None, AT_ONCE).await?;
        let more = u32::try_from(letters.len()).is_ok_and(|count| count >= AT_ONCE);
        let mut changed = 0;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
        for letter in &letters {
            if tokio::time::Instant::now() > deadline {
                return Ok((changed, true));
            }
            changed += u32::from(answer_of(self.change(&letter.0.place(), about)).await?);
        }
        Ok((changed, more))
    }

    async fn change(&self, place: &ParkedPlace, about: About) -> Result<bool, StoreError> {
        let ParkedPlace { name, shard, position } = place;
        // Only what is dead: anything else is being tried, and is not an operator's.
        let before = Some(ParkedPlace { position: position - 1, ..place.clone() });
        let found = self.store.dead(&DeadQuery { name: Some(name.clone()), app: None, after: before, limit: 1 }).await?;
        if found.first().is_none_or(|row| row.place() != *place) {
            return Ok(false);
        }
        match about {
            About::Replay => self.store.set_parked_reason(name, *shard, *position, ParkReason::Late).await,
            About::Drop => self.store.unpark(name, *shard, *position).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_called_by_its_endpoint_and_its_event() {
        let id: DeadId = "shop-2:3-71".parse().unwrap();
        assert_eq!((id.endpoint.as_str(), id.shard, id.position, id.to_string().as_str()), ("shop-2", Shard(3), 71, "shop-2:3-71"));
        for wrong in ["", "shop", "3-71", ":3-71", "shop:3", "shop:3-x", "shop:-3-71", "shop:+3-71", "shop:99999-1"] {
            assert_eq!(wrong.parse::<DeadId>(), Err(BadDeadId), "{wrong}");
        }
    }
}
