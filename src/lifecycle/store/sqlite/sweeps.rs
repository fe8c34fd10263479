//! The holds of earlier processes, graces that are over, the old end of the log.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{
    nodes::KEEP_NODES,
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
             OR EXISTS (SELECT 1 FROM lock WHERE state = 'grace' AND (grace_until <= ?1 OR grace_until > ?1 + grace_ms))",
    )
    .bind(Timestamp::now().0)
    .fetch_one(connection)
    .await?;
    Ok(if due { vec![Shard(SHARD)] } else { Vec::new() })
}

pub(super) async fn sweep(connection: &mut SqliteConnection, by: Incarnation, limit: u32) -> Result<Swept, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let victims: Vec<(uuid::Uuid, i64, String, String)> = sqlx::query_as(
        "SELECT h.hold, h.fence, h.socket_id, n.end_cause FROM node n JOIN hold h USING (incarnation) WHERE n.state = 'fenced' LIMIT ?1",
    )
    .bind(limit)
    .fetch_all(&mut *write.transaction)
    .await?;
    let mut done = victims.len();
    for (hold, fence, socket_id, cause) in victims {
        sqlx::query("DELETE FROM hold WHERE hold = ?1").bind(hold).execute(&mut *write.transaction).await?;
        let end = LastWord { ending: Ending::Unclean, cause: CloseCause::parse(&cause)?, socket_id: &socket_id, detected_ms: None };
        writes::settle(&mut write, Fence(fence), end).await?;
    }
    done += end_graces(&mut write, limit).await?;
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
    let mut ended = 0;
    for (fence, until, grace_ms) in due {
        match lock::look(Timestamp(until), grace_ms, write.now) {
            GraceLook::Running => {}
            GraceLook::Clamped(earlier) => {
                let clamp = sqlx::query("UPDATE lock SET grace_until = ?2 WHERE fence = ?1");
                clamp.bind(fence).bind(earlier.0).execute(&mut *write.transaction).await?;
            }
            GraceLook::Over => {
                let release = sqlx::query("UPDATE lock SET state = 'released', released_at = ?2, grace_until = NULL WHERE fence = ?1");
                release.bind(fence).bind(write.now.0).execute(&mut *write.transaction).await?;
                write.append_lock(EventKind::Unlocked, Fence(fence), true).await?;
                ended += 1;
            }
        }
    }
    Ok(ended)
}

pub(super) async fn finish_dead(connection: &mut SqliteConnection, by: Incarnation) -> Result<u64, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let finish = "UPDATE node SET state = 'swept' WHERE state = 'fenced'
                     AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.incarnation = node.incarnation)";
    let finished = sqlx::query(finish).execute(&mut *write.transaction).await?.rows_affected();
    write.commit().await?;
    Ok(finished)
}

pub(super) async fn retain(connection: &mut SqliteConnection, by: Incarnation, keep: Duration, limit: u32) -> Result<u64, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let before = |age: Duration| write.now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let (old, old_tombstones, old_nodes) = (before(keep), before(KEEP_TOMBSTONES), before(KEEP_NODES));
    let upto: i64 = sqlx::query_scalar(
        "SELECT min(coalesce((SELECT min(position) FROM consumer WHERE shard = ?1), last_position),
                    coalesce((SELECT min(position) - 1 FROM parked WHERE shard = ?1), last_position),
                    coalesce((SELECT position - 1 FROM event WHERE shard = ?1 AND at >= ?2 ORDER BY position LIMIT 1), last_position),
                    first_position - 1 + ?3) FROM shard_head WHERE shard = ?1",
    )
    .bind(SHARD)
    .bind(old)
    .bind(limit)
    .fetch_one(&mut *write.transaction)
    .await?;
    let deleted = sqlx::query("DELETE FROM event WHERE shard = ?1 AND position <= ?2").bind(SHARD).bind(upto);
    let deleted = deleted.execute(&mut *write.transaction).await?.rows_affected();
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
