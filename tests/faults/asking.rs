//! What many tests do to a cluster: ask for a hold and see what comes of it.

use std::time::{Duration, Instant};

use super::{
    cluster::Cluster,
    fleet::Order,
    journal::{ClientId, Leave, What},
};

/// Asks for a hold; whether it was granted, and why not.
pub(super) fn ask(cluster: &Cluster, broker: usize, user: &str, channel: &str) -> (ClientId, Result<i64, String>, Duration) {
    let client = cluster.client(cluster.spec(broker, Some(user)));
    let started = Instant::now();
    cluster.driver.tell(Order::Subscribe(client, channel.to_owned()));
    let answer = cluster.journal.await_for(client, "an answer", |seen| {
        seen.iter().find_map(|entry| match &entry.what {
            What::Locked { fence: Some(fence), .. } => Some(Ok(*fence)),
            What::Refused { kind, status, .. } => Some(Err(format!("{kind} {status}"))),
            What::LockState { fence: None, state } => Some(Err(state.clone())),
            _ => None,
        })
    });
    (client, answer, started.elapsed())
}

/// Takes and lets go as many holds as it takes for every lane to have a connection and its statements.
pub(super) fn warm_lanes(cluster: &Cluster) {
    for number in 0..12 {
        let held = cluster.hold(0, &format!("warm-{number}"), &format!("private-quick.lane-{number}"));
        cluster.driver.leave(held.client, Leave::Fin);
        cluster.unlocked(held.fence);
    }
}

/// Waits until a client has heard this state of its lock.
pub(super) fn hears(cluster: &Cluster, client: ClientId, state: &str) {
    cluster.journal.await_for(client, state, |seen| {
        seen.iter().any(|entry| matches!(&entry.what, What::LockState { state: heard, .. } if heard == state)).then_some(())
    });
}
