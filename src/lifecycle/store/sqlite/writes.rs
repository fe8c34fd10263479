//! Outcomes and ends. What becomes of a lock is decided in `lifecycle::lock`.

use serde_json::json;
use sqlx::SqliteConnection;

use super::write::{SHARD, Write};
use crate::lifecycle::{
    lock::{self, Ask, LiveLock, Verdict},
    store::{
        Answer, Certainty, CloseCause, CommitOp, Denied, Ending, EventKind, Fence, Granted, HoldId, HoldOutcome, Holder, Incarnation,
        LockState, Mode, NewHold, ReleaseOp, StoreError, StoreLimits, Timestamp,
    },
};

pub(super) async fn commit(
    connection: &mut SqliteConnection,
    node: Incarnation,
    ops: &[CommitOp],
    limits: &StoreLimits,
) -> Result<Vec<Answer>, StoreError> {
    let mut write = Write::begin(connection, node).await?;
    let mut answers = Vec::with_capacity(ops.len());
    for op in ops {
        answers.push(match op.validate(limits) {
            Ok(()) => commit_one(&mut write, op).await?,
            Err(invalid) => Answer::Invalid(invalid),
        });
    }
    write.commit().await?;
    Ok(answers)
}

async fn commit_one(write: &mut Write<'_>, op: &CommitOp) -> Result<Answer, StoreError> {
    if let Some(answer) = replayed(write, op).await? {
        return Ok(answer);
    }
    // Everything is decided before anything is written. The holds of one op are for different resources, so none depends on another.
    let mut verdicts = Vec::with_capacity(op.holds.len());
    for hold in &op.holds {
        let (live, holders) = live_locks(write, &op.app, &hold.resource).await?;
        match lock::decide(&live, Ask { mode: hold.mode, principal: &hold.principal, if_taken: hold.if_taken }) {
            None => return Ok(Answer::Denied(Denied { hold: hold.id, holders })),
            Some(verdict) => verdicts.push(verdict),
        }
    }
    let mut granted = Vec::with_capacity(op.holds.len());
    for (hold, verdict) in op.holds.iter().zip(verdicts) {
        granted.push(take(write, op, hold, verdict).await?);
    }
    write.append_events(op.id, &op.app, &op.socket_id, &op.events).await?;
    Ok(Answer::Committed(granted))
}

/// The answer to an op that was here before; `None` if it was not.
async fn replayed(write: &mut Write<'_>, op: &CommitOp) -> Result<Option<Answer>, StoreError> {
    if op.holds.is_empty() {
        return Ok(write.has_events_of(op.id).await?.then(|| Answer::Committed(Vec::new())));
    }
    let (mut granted, mut gone) = (Vec::new(), false);
    for hold in &op.holds {
        let (dead, fence, outcome): (bool, Option<i64>, Option<String>) = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM tombstone WHERE hold = ?1), h.fence, h.outcome FROM (SELECT 1) LEFT JOIN hold h ON h.hold = ?1",
        )
        .bind(hold.id.0)
        .fetch_one(&mut *write.transaction)
        .await?;
        gone |= dead;
        if let (Some(fence), Some(outcome)) = (fence, outcome) {
            let outcome = HoldOutcome::parse(&outcome)?;
            granted.push(Granted { hold: hold.id, outcome, fence: Fence(fence), displaced: Vec::new() });
        }
    }
    Ok(match granted.len() {
        _ if gone => Some(Answer::Gone),
        0 => None,
        found if found == op.holds.len() => Some(Answer::Committed(granted)),
        _ => Some(Answer::Gone),
    })
}

async fn live_locks(write: &mut Write<'_>, app: &str, resource: &str) -> Result<(Vec<LiveLock>, Vec<Holder>), StoreError> {
    let rows: Vec<(i64, String, String, String, i64)> = sqlx::query_as(
        "SELECT fence, mode, principal, state, acquired_at FROM lock WHERE app = ?1 AND resource = ?2 AND state <> 'released' ORDER BY fence",
    )
    .bind(app)
    .bind(resource)
    .fetch_all(&mut *write.transaction)
    .await?;
    let (mut live, mut holders) = (Vec::new(), Vec::new());
    for (fence, mode, principal, state, since) in rows {
        let (fence, mode, state) = (Fence(fence), Mode::parse(&mode)?, LockState::parse(&state)?);
        live.push(LiveLock { fence, mode, principal: principal.clone(), state });
        holders.push(Holder { fence, principal, mode, state, since: Timestamp(since) });
    }
    Ok((live, holders))
}

async fn take(write: &mut Write<'_>, op: &CommitOp, hold: &NewHold, verdict: Verdict) -> Result<Granted, StoreError> {
    let (outcome, fence, displaced) = match verdict {
        Verdict::Grant { displaced } => {
            for fence in &displaced {
                drop_holds(write, *fence).await?;
                release_lock(write, *fence, CloseCause::TakenOver).await?;
            }
            let fence = Fence(new_lock(write, op, hold).await?);
            write.append_locks(EventKind::Locked, &[fence], false).await?;
            (HoldOutcome::Granted, fence, displaced)
        }
        Verdict::Attach(fence) => (HoldOutcome::Attached, fence, Vec::new()),
        Verdict::Resume(fence) => {
            sqlx::query(
                "UPDATE lock SET state = 'held', grace_until = NULL, cause = NULL, detected_ms_before_commit = NULL, socket_id = ?2
                  WHERE fence = ?1",
            )
            .bind(fence.0)
            .bind(&op.socket_id)
            .execute(&mut *write.transaction)
            .await?;
            (HoldOutcome::Resumed, fence, Vec::new())
        }
    };
    sqlx::query("INSERT INTO hold (hold, fence, shard, incarnation, socket_id, outcome, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
        .bind(hold.id.0)
        .bind(fence.0)
        .bind(SHARD)
        .bind(write.node.0)
        .bind(&op.socket_id)
        .bind(outcome.as_str())
        .bind(write.now.0)
        .execute(&mut *write.transaction)
        .await?;
    Ok(Granted { hold: hold.id, outcome, fence, displaced })
}

async fn new_lock(write: &mut Write<'_>, op: &CommitOp, hold: &NewHold) -> Result<i64, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO lock (shard, app, resource, mode, principal, state, topic, context, grace_ms, acquired_at, socket_id)
         VALUES (?1, ?2, ?3, ?4, ?5, 'held', ?6, ?7, ?8, ?9, ?10)",
    )
    .bind(SHARD)
    .bind(&op.app)
    .bind(&hold.resource)
    .bind(hold.mode.as_str())
    .bind(&hold.principal)
    .bind(&hold.topic)
    .bind(&hold.context)
    .bind(i64::try_from(hold.grace.as_millis()).unwrap_or(i64::MAX))
    .bind(write.now.0)
    .bind(&op.socket_id)
    .execute(&mut *write.transaction)
    .await?;
    Ok(inserted.last_insert_rowid())
}

/// Ends a lock's holds behind their nodes' backs, and remembers them.
async fn drop_holds(write: &mut Write<'_>, fence: Fence) -> Result<(), StoreError> {
    sqlx::query("INSERT OR IGNORE INTO tombstone (hold, at) SELECT hold, ?2 FROM hold WHERE fence = ?1")
        .bind(fence.0)
        .bind(write.now.0)
        .execute(&mut *write.transaction)
        .await?;
    sqlx::query("DELETE FROM hold WHERE fence = ?1").bind(fence.0).execute(&mut *write.transaction).await?;
    Ok(())
}

async fn release_lock(write: &mut Write<'_>, fence: Fence, cause: CloseCause) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE lock SET state = 'released', released_at = ?2, grace_until = NULL, cause = ?3, detected_ms_before_commit = NULL
          WHERE fence = ?1 AND state <> 'released'",
    )
    .bind(fence.0)
    .bind(write.now.0)
    .bind(cause.as_str())
    .execute(&mut *write.transaction)
    .await?;
    write.append_locks(EventKind::Unlocked, &[fence], false).await
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    node: Incarnation,
    ops: &[ReleaseOp],
    limits: &StoreLimits,
) -> Result<u64, StoreError> {
    ops.iter().try_for_each(|op| op.validate(limits))?;
    let mut write = Write::begin(connection, node).await?;
    for op in ops {
        write.append_events(op.id, &op.app, &op.socket_id, &op.events).await?;
        for (hold, _) in &op.holds {
            let_go(&mut write, op, *hold).await?;
        }
    }
    write.commit().await
}

async fn let_go(write: &mut Write<'_>, op: &ReleaseOp, hold: HoldId) -> Result<(), StoreError> {
    if op.certainty == Certainty::Unsure {
        sqlx::query("INSERT OR IGNORE INTO tombstone (hold, at) VALUES (?1, ?2)")
            .bind(hold.0)
            .bind(write.now.0)
            .execute(&mut *write.transaction)
            .await?;
    }
    let fence: Option<i64> = sqlx::query_scalar("DELETE FROM hold WHERE hold = ?1 AND incarnation = ?2 RETURNING fence")
        .bind(hold.0)
        .bind(write.node.0)
        .fetch_optional(&mut *write.transaction)
        .await?;
    let Some(fence) = fence else { return Ok(()) };
    let end = LastWord { fence: Fence(fence), ending: op.ending, cause: op.cause, socket_id: &op.socket_id, detected_ms: op.detected_ms() };
    settle(write, &[end]).await
}

/// How the hold of a lock that may have been its last ended.
pub(super) struct LastWord<'a> {
    pub(super) fence: Fence,
    pub(super) ending: Ending,
    pub(super) cause: CloseCause,
    pub(super) socket_id: &'a str,
    pub(super) detected_ms: Option<i32>,
}

/// Carries out what the loss of holds means for their locks, which are all different.
pub(super) async fn settle(write: &mut Write<'_>, ends: &[LastWord<'_>]) -> Result<(), StoreError> {
    let fences = serde_json::Value::from_iter(ends.iter().map(|end| end.fence.0));
    let found: Vec<(i64, String, i64, i64)> = sqlx::query_as(
        "SELECT f.key, l.state, l.grace_ms, (SELECT count(*) FROM hold h WHERE h.fence = l.fence)
           FROM json_each(?1) f CROSS JOIN lock l ON l.fence = f.value ORDER BY f.key",
    )
    .bind(fences)
    .fetch_all(&mut *write.transaction)
    .await?;
    let (mut released, mut changed) = (Vec::new(), Vec::new());
    for (key, state, grace_ms, left) in found {
        let Some(end) = usize::try_from(key).ok().and_then(|key| ends.get(key)) else { continue };
        let left = u64::try_from(left).unwrap_or(0);
        let Some(next) = lock::settle(LockState::parse(&state)?, left, end.ending, grace_ms) else { continue };
        let (released_at, grace_until) = match next {
            LockState::Released => (Some(write.now.0), None),
            _ => (None, Some(write.now.0.saturating_add(grace_ms))),
        };
        if next == LockState::Released {
            released.push(end.fence);
        }
        changed.push(json!([end.fence, next, released_at, grace_until, end.cause, end.socket_id, end.detected_ms]));
    }
    sqlx::query(
        "UPDATE lock SET state = n.value ->> 1, released_at = n.value ->> 2, grace_until = n.value ->> 3, cause = n.value ->> 4,
                socket_id = n.value ->> 5, detected_ms_before_commit = n.value ->> 6
           FROM json_each(?1) n WHERE lock.fence = n.value ->> 0",
    )
    .bind(serde_json::Value::Array(changed))
    .execute(&mut *write.transaction)
    .await?;
    write.append_locks(EventKind::Unlocked, &released, false).await
}

pub(super) async fn force_release(
    connection: &mut SqliteConnection,
    by: Incarnation,
    fence: Fence,
    cause: CloseCause,
) -> Result<bool, StoreError> {
    let mut write = Write::begin(connection, by).await?;
    let live: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM lock WHERE fence = ?1 AND state <> 'released')")
        .bind(fence.0)
        .fetch_one(&mut *write.transaction)
        .await?;
    if live {
        drop_holds(&mut write, fence).await?;
        release_lock(&mut write, fence, cause).await?;
    }
    write.commit().await?;
    Ok(live)
}
