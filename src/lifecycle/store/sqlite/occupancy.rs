//! Who is on which channels. One look at the tables, a decision in memory, and a few writes for the whole batch.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::write::{SHARD, Webhook, Write};
use crate::lifecycle::store::{Incarnation, Sighting, Sightings, StoreError};

/// A channel, or with a member that is not empty, a member of one.
type Key<'a> = (&'a str, &'a str);

/// What is known about a key, and what this node does to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// This node sees it.
    own: bool,
    /// Other nodes see it; the dead ones count until they are swept.
    others: bool,
    /// It is occupied, or its delay runs.
    known: bool,
    /// This batch has changed something.
    touched: bool,
}

pub(super) async fn record(connection: &mut SqliteConnection, node: Incarnation, sightings: &Sightings) -> Result<(), StoreError> {
    sightings.validate()?;
    let mut write = Write::begin(connection, node).await?;
    let newer = sqlx::query(
        "INSERT INTO recorded (incarnation, number) VALUES (?1, ?2)
         ON CONFLICT (incarnation) DO UPDATE SET number = excluded.number WHERE recorded.number < excluded.number",
    );
    if newer.bind(node.0).bind(sightings.number).execute(&mut *write.transaction).await?.rows_affected() == 0 {
        return Ok(());
    }
    let mut standings = look(&mut write, sightings).await?;
    let webhooks = decide(&mut standings, sightings);
    keep(&mut write, sightings, &standings).await?;
    write.append_webhooks(&webhooks).await?;
    write.commit().await.map(drop)
}

/// How all keys of a batch stand before it.
async fn look<'a>(write: &mut Write<'_>, sightings: &'a Sightings) -> Result<HashMap<Key<'a>, Standing>, StoreError> {
    let keys: Vec<Key<'a>> = sightings.seen.iter().filter_map(|sighting| Some((key(sighting)?).0)).collect();
    let found: Vec<(i64, bool, bool, bool)> = sqlx::query_as(
        "SELECT k.key,
                EXISTS (SELECT 1 FROM occupant o WHERE o.app = ?2 AND o.channel = k.value ->> 0 AND o.member = k.value ->> 1
                           AND o.incarnation = ?3),
                EXISTS (SELECT 1 FROM occupant o WHERE o.app = ?2 AND o.channel = k.value ->> 0 AND o.member = k.value ->> 1
                           AND o.incarnation <> ?3),
                EXISTS (SELECT 1 FROM occupancy y WHERE y.app = ?2 AND y.channel = k.value ->> 0 AND y.member = k.value ->> 1)
           FROM json_each(?1) k",
    )
    .bind(Value::from_iter(keys.iter().map(|(channel, member)| json!([channel, member]))))
    .bind(&sightings.app)
    .bind(write.node.0)
    .fetch_all(&mut *write.transaction)
    .await?;
    let mut standings = HashMap::with_capacity(keys.len());
    for (number, own, others, known) in found {
        if let Some(key) = usize::try_from(number).ok().and_then(|number| keys.get(number)) {
            standings.insert(*key, Standing { own, others, known, touched: false });
        }
    }
    Ok(standings)
}

/// What a sighting is about, and whether it is there; `None` if it only happens.
fn key(sighting: &Sighting) -> Option<(Key<'_>, bool)> {
    match sighting {
        Sighting::Present { channel, member } => Some(((channel, member.as_deref().unwrap_or_default()), true)),
        Sighting::Absent { channel, member } => Some(((channel, member.as_deref().unwrap_or_default()), false)),
        Sighting::Event { .. } => None,
    }
}

/// Goes through a batch in its order; what is to be told.
fn decide<'a>(standings: &mut HashMap<Key<'a>, Standing>, sightings: &'a Sightings) -> Vec<Webhook<'a>> {
    let app = sightings.app.as_str();
    let mut webhooks = Vec::new();
    for sighting in &sightings.seen {
        let Some((key, present)) = key(sighting) else {
            if let Sighting::Event { name, channel, payload } = sighting {
                webhooks.push(Webhook { app, name, channel, payload: payload.clone() });
            }
            continue;
        };
        let standing = standings.entry(key).or_default();
        if standing.own == present {
            continue;
        }
        (standing.own, standing.touched) = (present, true);
        if standing.others {
            continue;
        }
        // Who comes back was never gone; who goes is gone later, unless there is no delay.
        let tells = if present { !standing.known } else { sightings.delay_ms() == 0 };
        if tells {
            standing.known = present;
            webhooks.push(webhook(app, key, present));
        }
    }
    webhooks
}

fn webhook<'a>(app: &'a str, (channel, member): Key<'a>, present: bool) -> Webhook<'a> {
    let (name, payload) = match (member, present) {
        ("", true) => ("channel_occupied", json!({})),
        ("", false) => ("channel_vacated", json!({})),
        (member, true) => ("member_added", json!({ "user_id": member })),
        (member, false) => ("member_removed", json!({ "user_id": member })),
    };
    Webhook { app, name, channel, payload }
}

/// Writes how the keys stand after the batch.
async fn keep(write: &mut Write<'_>, sightings: &Sightings, standings: &HashMap<Key<'_>, Standing>) -> Result<(), StoreError> {
    let vacant_until = write.now.0.saturating_add(i64::from(sightings.delay_ms()));
    let (mut came, mut went, mut kept, mut ended) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((channel, member), standing) in standings.iter().filter(|(_, standing)| standing.touched) {
        let key = json!([channel, member]);
        if standing.own { &mut came } else { &mut went }.push(key.clone());
        match (standing.others, standing.known) {
            (true, _) => {}
            (false, true) => kept.push(json!([channel, member, (!standing.own).then_some(vacant_until)])),
            (false, false) => ended.push(key),
        }
    }
    let statements = [
        (
            came,
            "INSERT OR IGNORE INTO occupant (app, channel, member, incarnation, shard)
             SELECT ?1, k.value ->> 0, k.value ->> 1, ?2, ?3 FROM json_each(?5) k",
        ),
        (
            went,
            "DELETE FROM occupant WHERE app = ?1 AND incarnation = ?2
                AND (channel, member) IN (SELECT k.value ->> 0, k.value ->> 1 FROM json_each(?5) k)",
        ),
        (
            kept,
            "INSERT INTO occupancy (app, channel, member, shard, delay_ms, vacant_until)
             SELECT ?1, k.value ->> 0, k.value ->> 1, ?3, ?4, k.value ->> 2 FROM json_each(?5) k WHERE true
             ON CONFLICT (app, channel, member) DO UPDATE SET delay_ms = excluded.delay_ms, vacant_until = excluded.vacant_until",
        ),
        (
            ended,
            "DELETE FROM occupancy WHERE app = ?1
                AND (channel, member) IN (SELECT k.value ->> 0, k.value ->> 1 FROM json_each(?5) k)",
        ),
    ];
    for (keys, statement) in statements.into_iter().filter(|(keys, _)| !keys.is_empty()) {
        sqlx::query(statement)
            .bind(&sightings.app)
            .bind(write.node.0)
            .bind(SHARD)
            .bind(sightings.delay_ms())
            .bind(Value::Array(keys))
            .execute(&mut *write.transaction)
            .await?;
    }
    Ok(())
}

/// Drops up to `limit` of what fenced nodes saw; what is left vacant begins its delay. How many. The members of a node go before its
/// channels, so that they begin first.
pub(super) async fn drop_dead(write: &mut Write<'_>, limit: u32) -> Result<usize, StoreError> {
    let dropped: Vec<(String, String, String)> = sqlx::query_as(
        "DELETE FROM occupant WHERE (app, channel, member, incarnation) IN (
           SELECT o.app, o.channel, o.member, o.incarnation FROM node n JOIN occupant o USING (incarnation)
            WHERE n.state = 'fenced' ORDER BY o.incarnation, o.member = '' LIMIT ?1)
         RETURNING app, channel, member",
    )
    .bind(limit)
    .fetch_all(&mut *write.transaction)
    .await?;
    if !dropped.is_empty() {
        sqlx::query(
            "UPDATE occupancy SET vacant_until = ?2 + delay_ms
              WHERE (app, channel, member) IN (SELECT k.value ->> 0, k.value ->> 1, k.value ->> 2 FROM json_each(?1) k)
                AND vacant_until IS NULL
                AND NOT EXISTS (SELECT 1 FROM occupant o WHERE o.app = occupancy.app AND o.channel = occupancy.channel
                                   AND o.member = occupancy.member)",
        )
        .bind(json!(dropped))
        .bind(write.now.0)
        .execute(&mut *write.transaction)
        .await?;
    }
    Ok(dropped.len())
}

/// Lets the delay of whoever is away be over, in the order in which they went.
pub(super) async fn end_delays(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let end = "UPDATE occupancy SET vacant_until = vacant_until - delay_ms WHERE vacant_until IS NOT NULL";
    sqlx::query(end).execute(connection).await?;
    Ok(())
}

/// Ends up to `limit` vacancies that have had their delay, members before their channel. How many.
pub(super) async fn end_vacancies(write: &mut Write<'_>, limit: u32) -> Result<usize, StoreError> {
    // The clock was set back.
    sqlx::query("UPDATE occupancy SET vacant_until = ?1 + delay_ms WHERE vacant_until > ?1 AND vacant_until > ?1 + delay_ms")
        .bind(write.now.0)
        .execute(&mut *write.transaction)
        .await?;
    let due: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT y.app, y.channel, y.member FROM occupancy y WHERE y.vacant_until <= ?1
            -- Not before the last of its members, which a change of clock or delay may have put behind it.
            AND NOT (y.member = '' AND EXISTS (SELECT 1 FROM occupancy m WHERE m.app = y.app AND m.channel = y.channel AND m.member <> ''
                                                  AND m.vacant_until > y.vacant_until))
          ORDER BY y.vacant_until, y.member = '', y.app, y.channel, y.member LIMIT ?2",
    )
    .bind(write.now.0)
    .bind(limit)
    .fetch_all(&mut *write.transaction)
    .await?;
    if due.is_empty() {
        return Ok(0);
    }
    sqlx::query(
        "DELETE FROM occupancy
          WHERE (app, channel, member) IN (SELECT k.value ->> 0, k.value ->> 1, k.value ->> 2 FROM json_each(?1) k)",
    )
    .bind(json!(due))
    .execute(&mut *write.transaction)
    .await?;
    let webhooks: Vec<_> = due.iter().map(|(app, channel, member)| webhook(app, (channel, member), false)).collect();
    write.append_webhooks(&webhooks).await?;
    Ok(due.len())
}
