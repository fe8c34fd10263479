//! What is done for all listeners of a node at once.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};

use super::{HeldByAll, Node, Rings, backoff::Alarm};
use crate::lifecycle::store::ConsumerRow;

/// How often it is looked who is behind.
const LAG_EVERY: Duration = Duration::from_secs(60);
/// How often it is said.
const LAG_ALARM_EVERY: Duration = Duration::from_secs(600);

/// One look at the ends of all shards serves all listeners: those without news read nothing.
pub(super) async fn watch_heads(node: Node, mut rings: Rings, heads: watch::Sender<Vec<i64>>) {
    loop {
        match node.store.head().await {
            Ok(head) => {
                heads.send_if_modified(|known| {
                    let news = *known != head.positions();
                    if news {
                        *known = head.positions().to_vec();
                    }
                    news
                });
            }
            Err(error) => tracing::debug!(error = %error, "The end of the log is not known: {error}"),
        }
        rings.rung().await;
    }
}

/// One write for all claims of the node. Fewer rows than claims: somebody took some, or an operator moved an offset.
pub(super) async fn renew(node: Node, held: HeldByAll, revoke: watch::Sender<u64>) {
    let mut tick = tokio::time::interval(node.settings.renew_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        let claims: usize = held.lock().iter().map(|held| held.len()).sum();
        if claims == 0 {
            continue;
        }
        match node.store.renew_leases(&node.owner, node.settings.lease).await {
            Ok(renewed) if usize::try_from(renewed).is_ok_and(|renewed| renewed < claims) => revoke.send_modify(|times| *times += 1),
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %error, "Claims of listeners were not renewed: {error}"),
        }
    }
}

/// Says who is far behind, programs that read by themselves included: the log is kept for the slowest, however long that takes.
pub(super) async fn watch_lag(node: Node) {
    let mut tick = tokio::time::interval(LAG_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut alarm = Alarm::every(LAG_ALARM_EVERY);
    tick.tick().await;
    loop {
        tick.tick().await;
        let Ok(rows) = node.store.consumers().await else { continue };
        let behind = behind(&rows, node.settings.lag_alarm);
        if behind.is_empty() {
            alarm.reset();
        } else if alarm.rings() {
            for (name, lag) in behind {
                tracing::error!(
                    consumer.name = name,
                    lag,
                    "Consumer {name} is {lag} entries behind, and the log is kept for it; if it is gone for good: holdline consumers drop"
                );
            }
        }
    }
}

/// Who is at least so far behind, over all shards.
fn behind(rows: &[ConsumerRow], limit: i64) -> Vec<(&str, i64)> {
    let mut lags = BTreeMap::new();
    for row in rows {
        *lags.entry(row.name.as_str()).or_insert(0) += row.lag();
    }
    lags.into_iter().filter(|(_, lag)| *lag >= limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::store::Shard;

    #[test]
    fn a_consumer_is_behind_by_the_sum_of_its_shards() {
        let row = |name: &str, shard: i16, lag: i64| ConsumerRow {
            name: name.to_owned(),
            shard: Shard(shard),
            position: 5,
            last_position: 5 + lag,
            owner: None,
            attempts: 0,
            last_error: None,
            parked: 0,
            dead: 0,
        };
        let rows = [row("fast", 0, 1), row("fast", 1, 8), row("slow", 0, 4), row("slow", 1, 6)];
        assert_eq!(behind(&rows, 10), [("slow", 10)]);
        assert_eq!(behind(&rows, 9), [("fast", 9), ("slow", 10)]);
        assert_eq!(behind(&rows, 11), []);
    }
}
