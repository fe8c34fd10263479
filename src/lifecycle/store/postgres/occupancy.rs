//! Who is on which channels, as the function `record` takes it.

use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;

use super::session::{Slot, within};
use crate::lifecycle::store::{Incarnation, Shard, Sighting, Sightings, StoreError};

#[derive(Serialize)]
struct SightingJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Value>,
}

impl<'a> From<&'a Sighting> for SightingJson<'a> {
    fn from(sighting: &'a Sighting) -> Self {
        let whose = |present, channel, member: &'a Option<String>| Self {
            present: Some(present),
            channel,
            member: member.as_deref(),
            name: None,
            payload: None,
        };
        match sighting {
            Sighting::Present { channel, member } => whose(true, channel, member),
            Sighting::Absent { channel, member } => whose(false, channel, member),
            Sighting::Event { name, channel, payload } => {
                Self { present: None, channel, member: None, name: Some(name), payload: Some(payload) }
            }
        }
    }
}

pub(super) async fn record(slot: &Slot, node: Incarnation, sightings: &Sightings, shards: u16) -> Result<(), StoreError> {
    sightings.validate()?;
    let seen: Vec<_> = sightings.seen.iter().map(SightingJson::from).collect();
    let mut session = slot.open().await?;
    let call = sqlx::query("SELECT holdline.record($1, $2, $3, $4, $5, $6)")
        .bind(node.0)
        .bind(Shard::of_webhooks(&sightings.app, shards).0)
        .bind(&sightings.app)
        .bind(sightings.number)
        .bind(sightings.delay_ms())
        .bind(Json(&seen))
        .execute(&mut session.connection);
    let recorded = within(session.limit, call).await;
    session.settle(recorded).map(drop)
}
