//! What every node does for the whole: it sweeps up after the dead, compares its memory with the table, and deletes what is old.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    LockManager,
    due::Due,
    hold_table::Place,
    idempotency,
    lock_manager::Release,
    store::{CloseCause, Ending, HoldDigest, HoldId, Incarnation, LockState, Shard, StoreError, Swept, mutants},
};
use crate::protocol::SocketId;

/// Holds, and graces, that one pass of a sweep takes.
const SWEEP_AT_ONCE: u32 = 2_000;
/// How long after a comparison that was cut short.
const COMPARE_AGAIN: Duration = Duration::from_secs(1);
/// How often old entries are looked for, and how many of a shard go at once.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
const RETAIN_AT_ONCE: u32 = 5_000;

/// Releases the holds of dead nodes and ends graces that are over, for as long as it runs.
pub(super) async fn sweep(locks: LockManager, fenced_nodes: Arc<AtomicBool>, due: Arc<Due>) {
    let period = locks.settings().sweep_interval;
    loop {
        // Nodes that sweep in step find each other at work.
        let jitter = period.mul_f64(0.2 * random_fraction());
        tokio::select! {
            () = tokio::time::sleep(period - jitter) => {}
            () = due.next() => {}
        }
        let Some(node) = locks.incarnation() else { continue };
        let swept = async {
            sweep_all(&locks, node).await?;
            if fenced_nodes.load(Ordering::Relaxed) {
                locks.store().finish_dead(node).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = swept.await {
            tracing::debug!(error = %error, "The sweep was cut short: {error}");
        }
    }
}

/// Sweeps until nothing is due that nobody else is at.
pub(super) async fn sweep_all(locks: &LockManager, node: Incarnation) -> Result<(), StoreError> {
    let mut total = 0;
    for shard in locks.store().due_shards().await? {
        loop {
            match locks.store().sweep(node, shard, SWEEP_AT_ONCE).await? {
                Swept::Busy => break,
                Swept::Done(count) => {
                    total += count;
                    locks.lanes().written().notify_one();
                    if count < SWEEP_AT_ONCE {
                        break;
                    }
                }
            }
        }
    }
    if total > 0 {
        tracing::debug!(total, "Swept {total} holds and graces");
    }
    Ok(())
}

/// Compares the holds in memory with those in the store, now and then and whenever the store has been away; a comparison that was cut
/// short is made up for soon.
pub(super) async fn reconcile(locks: LockManager) {
    let period = locks.settings().reconcile_interval;
    let mut pause = period;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = locks.recovered().notified() => {}
        }
        pause = period;
        let Some(node) = locks.incarnation() else { continue };
        if mutants::reconcile_is_off() {
            continue;
        }
        if let Err(error) = compare(&locks, node).await {
            tracing::debug!(error = %error, "Cannot compare the holds with the store: {error}");
            pause = period.min(COMPARE_AGAIN);
        }
    }
}

async fn compare(locks: &LockManager, node: Incarnation) -> Result<(), StoreError> {
    let granted: Vec<HoldId> = locks.table(|table| table.granted_ids());
    let digest: HoldDigest = granted.iter().copied().collect();
    if locks.store().digest(node).await? == digest {
        return Ok(());
    }
    // What is under way differs, too: only the lists tell.
    let stored = locks.store().holds_of(node).await?;
    let known: HashSet<HoldId> = stored.iter().map(|held| held.hold).collect();
    let mut left_over = 0;
    for held in stored {
        let Ok(Some(socket_id)) = SocketId::parse(&held.socket_id) else { continue };
        if locks.table(|table| table.knows(held.hold)) {
            continue;
        }
        left_over += 1;
        // Behind the release that may be under way: they share a lane.
        locks.release(Release {
            place: Place { app_id: held.app.into(), socket_id, channel: None },
            holds: vec![(held.hold, held.resource)],
            events: Vec::new(),
            cause: CloseCause::Reconciled,
            ending: Ending::Unclean,
            detected_at: Instant::now(),
        });
    }
    let (mut lost, mut asked) = (0, Ok(()));
    for id in granted.into_iter().filter(|id| !known.contains(id)) {
        let Some(fence) = locks.table(|table| table.fence_of(id)) else { continue };
        // Usually somebody ended it, and the log has not been read that far yet.
        let cause = match locks.store().lock(fence).await {
            Ok(Some(lock)) if lock.state == LockState::Released => lock.cause,
            Ok(_) => None,
            Err(error) => {
                asked = Err(error);
                break;
            }
        };
        lost += usize::from(cause.is_none());
        // At once: who is taken out of the table here is told by nobody else.
        locks.tell(locks.table(|table| table.lose(id, cause.unwrap_or(CloseCause::Reconciled))));
    }
    if lost > 0 {
        tracing::error!(lost, "The store has lost {lost} holds of this node: was it restored, or did it fail over?");
    }
    if left_over > 0 {
        tracing::debug!(left_over, "Released {left_over} holds that the store has and this node has not");
    }
    asked
}

/// Deletes entries of the log that are old and that nobody needs, dead letters that nobody cared for, and keys whose time is over.
pub(super) async fn retain(locks: LockManager) {
    loop {
        tokio::time::sleep(RETAIN_EVERY.mul_f64(0.9 + 0.2 * random_fraction())).await;
        let Some(node) = locks.incarnation() else { continue };
        forget_dead(&locks).await;
        idempotency::forget(&**locks.store()).await;
        for shard in 0..locks.store().shards() {
            // As many as the column can number: see `Shard::MAX`.
            let shard = Shard(i16::try_from(shard).unwrap_or(i16::MAX));
            let keep = locks.settings().retention;
            while let Ok(deleted) = locks.store().retain(node, shard, keep, RETAIN_AT_ONCE).await {
                if deleted < u64::from(RETAIN_AT_ONCE) {
                    break;
                }
            }
        }
    }
}

async fn forget_dead(locks: &LockManager) {
    let (keep, mut total) = (locks.settings().retention, 0);
    while let Ok(forgotten) = locks.store().forget_dead(keep, RETAIN_AT_ONCE).await {
        total += forgotten;
        if forgotten < u64::from(RETAIN_AT_ONCE) {
            break;
        }
    }
    if total > 0 {
        tracing::warn!(total, "Deleted {total} dead letters that nobody replayed or dropped for {}", humantime::format_duration(keep));
    }
}

/// Of one; good enough to fall out of step.
fn random_fraction() -> f64 {
    f64::from(HoldId::random().0.as_fields().0) / f64::from(u32::MAX)
}
