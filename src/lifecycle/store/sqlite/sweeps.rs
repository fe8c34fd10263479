//! The holds of earlier processes, graces that are over, who is on channels no more, the old end of the log.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::{
    nodes::KEEP_NODES,
    occupancy,
    write::{SHARD, Write},
    writes::{self, LastWord},
};
use crate::lifecycle::{
    lock::{self, GraceLook},
    store::{CloseCause, Ending, EventKind, Fence, Incarnation, Shard, StoreError, Swept, Timestamp},
};

/// How long a hold that was released unsure is remembered; a statement cannot be under way longer than seconds.
const KEEP_TOMBSTONES: Duration = Duration::from_secs(3600);

pub(super) async fn due_shards(connection: &mut SqliteConnection) -> Result<Vec<Shard>, StoreError> {
    let due: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM hold WHERE incarnation IN (SELECT incarnation FROM node WHERE state = 'fenced'))
             OR EXISTS (SELECT 1 FROM lock WHERE state = 'grace' AND (grace_until <= ?1 OR grace_until > ?1 + grace_ms))
             OR EXISTS (SELECT 1 FROM occupant WHERE incarnation IN (SELECT incarnation FROM node WHERE state = 'fenced'))
             OR EXISTS (SELECT 1 FROM occupancy WHERE vacant_until <= ?1)
             OR EXISTS (SELECT 1 FROM occupancy WHERE vacant_until > ?1 AND vacant_until > ?1 + delay_ms)",
    )
    .bind(Timestamp::now().0)
    .fetch_one(connection)
    .await?;
    Ok(if due { vec![Shard(SHARD)] } else { Vec::new() })
}

pub(super) async fn sweep(connection: &mut SqliteConnection, by: Incarnation, limit: u32) -> Result<Swept, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let dropped: Vec<(i64, i64, String)> = sqlx::query_as(
        "DELETE FROM hold WHERE hold IN (SELECT h.hold FROM node n JOIN hold h USING (incarnation) WHERE n.state = 'fenced' LIMIT ?1)
         RETURNING fence, incarnation, socket_id",
    )
    .bind(limit)
    .fetch_all(&mut *write.transaction)
    .await?;
    let causes: HashMap<i64, String> = sqlx::query_as("SELECT incarnation, end_cause FROM node WHERE state = 'fenced'")
        .fetch_all(&mut *write.transaction)
        .await?
        .into_iter()
        .collect();
    // Of several holds of one lock, the newest process's counts.
    let mut last: BTreeMap<i64, (i64, &str)> = BTreeMap::new();
    for (fence, incarnation, socket_id) in &dropped {
        let newest = last.entry(*fence).or_insert((*incarnation, socket_id));
        *newest = (*newest).max((*incarnation, socket_id));
    }
    let mut ends = Vec::with_capacity(last.len());
    for (fence, (incarnation, socket_id)) in last {
        let cause = CloseCause::parse(causes.get(&incarnation).map_or("", String::as_str))?;
        ends.push(LastWord { fence: Fence(fence), ending: Ending::Unclean, cause, socket_id, detected_ms: None });
    }
    writes::settle(&mut write, &ends).await?;
    let mut done = dropped.len() + end_graces(&mut write, limit).await?;
    done += occupancy::drop_dead(&mut write, limit).await? + occupancy::end_vacancies(&mut write, limit).await?;
    write.commit().await?;
    Ok(Swept::Done(u32::try_from(done).unwrap_or(u32::MAX)))
}

async fn end_graces(write: &mut Write<'_>, limit: u32) -> Result<usize, StoreError> {
    let due: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT fence, grace_until, grace_ms FROM lock WHERE state = 'grace' AND (grace_until <= ?1 OR grace_until > ?1 + grace_ms)
          ORDER BY grace_until, fence LIMIT ?2",
    )
    .bind(write.now.0)
    .bind(limit)
    .fetch_all(&mut *write.transaction)
    .await?;
    let (mut over, mut clamped) = (Vec::new(), Vec::new());
    for (fence, until, grace_ms) in due {
        match lock::look(Timestamp(until), grace_ms, write.now) {
            GraceLook::Running => {}
            GraceLook::Clamped(earlier) => clamped.push(json!([fence, earlier])),
            GraceLook::Over => over.push(Fence(fence)),
        }
    }
    let clamp = "UPDATE lock SET grace_until = n.value ->> 1 FROM json_each(?1) n WHERE lock.fence = n.value ->> 0";
    sqlx::query(clamp).bind(Value::Array(clamped)).execute(&mut *write.transaction).await?;
    sqlx::query(
        "UPDATE lock SET state = 'released', released_at = ?2, grace_until = NULL WHERE fence IN (SELECT value FROM json_each(?1))",
    )
    .bind(Value::from_iter(over.iter().map(|fence| fence.0)))
    .bind(write.now.0)
    .execute(&mut *write.transaction)
    .await?;
    write.append_locks(EventKind::Unlocked, &over, true).await?;
    Ok(over.len())
}

pub(super) async fn finish_dead(connection: &mut SqliteConnection, by: Incarnation) -> Result<u64, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let finish = "UPDATE node SET state = 'swept' WHERE state = 'fenced'
                     AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.incarnation = node.incarnation)
                     AND NOT EXISTS (SELECT 1 FROM occupant o WHERE o.incarnation = node.incarnation)";
    let finished = sqlx::query(finish).execute(&mut *write.transaction).await?.rows_affected();
    // They will never write again.
    let forget = "DELETE FROM recorded WHERE incarnation IN (SELECT incarnation FROM node WHERE state = 'swept')";
    sqlx::query(forget).execute(&mut *write.transaction).await?;
    write.commit().await?;
    Ok(finished)
}

pub(super) async fn retain(connection: &mut SqliteConnection, by: Incarnation, keep: Duration, limit: u32) -> Result<u64, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let before = |age: Duration| write.now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let (old, old_tombstones, old_nodes) = (before(keep), before(KEEP_TOMBSTONES), before(KEEP_NODES));
    let upto: i64 = sqlx::query_scalar(
        "SELECT min(coalesce((SELECT min(position) FROM consumer WHERE shard = ?1), last_position),
                    coalesce((SELECT min(position) - 1 FROM parked WHERE shard = ?1 AND reason <> 'dead'), last_position),
                    coalesce((SELECT position - 1 FROM event WHERE shard = ?1 AND position >= first_position AND at >= ?2
                               ORDER BY position LIMIT 1), last_position),
                    first_position - 1 + ?3) FROM shard_head WHERE shard = ?1",
    )
    .bind(SHARD)
    .bind(old)
    .bind(limit)
    .fetch_one(&mut *write.transaction)
    .await?;
    // The entries of dead letters stay, below the first position, for as long as the letters do.
    let delete = "DELETE FROM event WHERE shard = ?1 AND position <= ?2
                     AND NOT EXISTS (SELECT 1 FROM parked q WHERE q.shard = event.shard AND q.position = event.position)";
    let deleted = sqlx::query(delete).bind(SHARD).bind(upto).execute(&mut *write.transaction).await?.rows_affected();
    sqlx::query("UPDATE shard_head SET first_position = ?2 + 1 WHERE shard = ?1 AND first_position <= ?2")
        .bind(SHARD)
        .bind(upto)
        .execute(&mut *write.transaction)
        .await?;
    sqlx::query(
        "DELETE FROM lock WHERE fence IN (SELECT fence FROM lock l WHERE l.state = 'released' AND l.released_at < ?1
            AND NOT EXISTS (SELECT 1 FROM event e WHERE e.fence = l.fence) LIMIT ?2)",
    )
    .bind(old)
    .bind(limit)
    .execute(&mut *write.transaction)
    .await?;
    sqlx::query("DELETE FROM tombstone WHERE at < ?1").bind(old_tombstones).execute(&mut *write.transaction).await?;
    sqlx::query("DELETE FROM node WHERE state = 'swept' AND fenced_at < ?1").bind(old_nodes).execute(&mut *write.transaction).await?;
    write.commit().await?;
    Ok(deleted)
}
