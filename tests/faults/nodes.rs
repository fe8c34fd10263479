//! Brokers die, freeze, stop and come back. F22–F27.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    cluster::{Cluster, Held, SLACK, after},
    fleet::{Order, Spec},
    journal::{Leave, What, now},
    plan::{G, H, L, Plan, W},
};
use crate::support::{eventually, until};

/// So many holds at a broker, every second one with a grace.
fn holds(cluster: &Cluster, broker: usize, count: usize) -> Vec<Held> {
    let hold = |number: usize| {
        let rule = if number.is_multiple_of(2) { "quick" } else { "order" };
        cluster.hold(broker, &format!("user-{broker}-{number}"), &format!("private-{rule}.{broker}-{number}"))
    };
    (0..count).map(hold).collect()
}

/// The incarnation that the table says is alive and that holds this fence.
fn incarnation_of(cluster: &Cluster, fence: i64) -> i64 {
    cluster.ledger().holds.iter().find(|hold| hold.fence == fence).expect("a hold").incarnation
}

#[test]
#[ignore = "fault suite"]
fn f22_kill_9_of_a_node() {
    let cluster = Cluster::start(Plan::nodes(3));
    let victims = holds(&cluster, 0, 40);
    let others = holds(&cluster, 1, 6);
    let incarnation = incarnation_of(&cluster, victims[0].fence);
    let from = now();
    cluster.kill(0);
    for (number, held) in victims.iter().enumerate() {
        let event = cluster.unlocked(held.fence);
        assert_eq!(event.cause.as_deref(), Some("node_death"));
        let (took, grace) = (after(&event, from), if number % 2 == 0 { Duration::ZERO } else { G });
        // Its last heartbeat was up to H before its death.
        assert!(took >= L - H && took < L + H * 2 + W + grace + SLACK, "{took:?}, grace {grace:?}");
        assert_eq!(event.after_grace, number % 2 == 1);
    }
    cluster.node_state(incarnation, "swept");
    // The survivors' holders noticed nothing.
    let ledger = cluster.ledger();
    assert!(others.iter().all(|held| ledger.unlocked(held.fence).is_none()));
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f23_all_nodes_die_and_one_comes_back() {
    let cluster = Cluster::start(Plan::nodes(3));
    let owed: Vec<Held> = (0..3).flat_map(|broker| holds(&cluster, broker, 10)).collect();
    for broker in 0..3 {
        cluster.kill(broker);
    }
    std::thread::sleep(L + H * 2);
    let ledger = cluster.ledger();
    assert!(owed.iter().all(|held| ledger.unlocked(held.fence).is_none()), "nobody was there to do it");
    let from = now();
    cluster.restart(1);
    // What is still owed cannot be had; whoever wants it is told when it is free.
    let early = cluster.client(Spec { channels: vec!["private-quick.0-0".to_owned()], ..cluster.spec(1, Some("early")) });
    assert_eq!(cluster.refused(early), ("LockConflict".to_owned(), 409));
    for (number, held) in owed.iter().enumerate() {
        let event = cluster.unlocked(held.fence);
        // Its own former holds are known to be nobody's; those of the others must stand still for a lease.
        let own = number / 10 == 1;
        assert_eq!(event.cause.as_deref(), Some(if own { "superseded" } else { "node_death" }));
        let lease = if own { Duration::ZERO } else { L + H * 2 };
        assert!(after(&event, from) < lease + W + G + SLACK * 2, "{:?} {event:?}", after(&event, from));
    }
    cluster.journal.await_for(early, "that it is free", |seen| {
        seen.iter().any(|entry| matches!(&entry.what, What::LockFree { resource } if resource == "quick:0-0")).then_some(())
    });
    cluster.driver.tell(Order::Subscribe(early, "private-quick.0-0".to_owned()));
    assert!(cluster.held(early, 1).fence > owed.iter().map(|held| held.fence).max().unwrap());
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f24_a_restart_within_the_lease() {
    let cluster = Cluster::start(Plan::nodes(2));
    let victims = holds(&cluster, 0, 20);
    let incarnation = incarnation_of(&cluster, victims[0].fence);
    let from = now();
    cluster.kill(0);
    cluster.restart(0);
    let restarted = now();
    for (number, held) in victims.iter().enumerate() {
        let event = cluster.unlocked(held.fence);
        assert_eq!(event.cause.as_deref(), Some("superseded"));
        let grace = if number % 2 == 0 { Duration::ZERO } else { G };
        assert!(after(&event, restarted) < W + grace + Duration::from_millis(700), "{:?}", after(&event, restarted));
        assert!(after(&event, from) < L + grace, "{:?} after the death", after(&event, from));
    }
    cluster.node_state(incarnation, "swept");
    cluster.finish();
}

/// A node that stands still for three leases, and then goes on as if nothing had happened.
#[test]
#[ignore = "fault suite"]
fn f25_a_zombie() {
    let cluster = Cluster::start(Plan::nodes(2));
    cluster.allow(|allowed| allowed.errors.push("was declared dead"));
    let victims = holds(&cluster, 0, 10);
    let waiting: Vec<_> = (0..10).map(|number| cluster.client(cluster.spec(0, Some(&format!("late-{number}"))))).collect();
    let incarnation = incarnation_of(&cluster, victims[0].fence);
    let from = now();
    cluster.freeze(0);
    // These frames lie in the socket buffers of the frozen process, and so does this end.
    for (number, client) in waiting.iter().enumerate() {
        cluster.driver.tell(Order::Subscribe(*client, format!("private-order.late-{number}")));
    }
    cluster.driver.leave(victims[0].client, Leave::Reset);
    for held in &victims {
        let event = cluster.unlocked(held.fence);
        assert_eq!(event.cause.as_deref(), Some("node_death"));
        assert!(after(&event, from) < L + H * 2 + W + G + SLACK, "{:?}", after(&event, from));
    }
    cluster.node_state(incarnation, "swept");
    // Somebody else has one of them now.
    let heir = cluster.hold(1, "heir", "private-quick.0-2");
    std::thread::sleep((L * 3).saturating_sub(Duration::from_micros((now() - from) as u64)));
    cluster.thaw(0);
    for held in &victims[1..] {
        let code = cluster.ended(held.client);
        assert_eq!(code, Some(4200));
        let told = |entry: &&super::journal::Entry| matches!(&entry.what, What::LockLost { fence, cause } if *fence == held.fence && cause == "node_death");
        assert!(
            cluster.journal.entries().iter().any(|entry| entry.client == held.client && told(&entry)),
            "{}",
            cluster.journal.story(held.client)
        );
    }
    // A new incarnation lives; the old one wrote nothing, not even the end of the first socket.
    until("it is a node again", || cluster.ledger().nodes.iter().filter(|node| node.state == "alive").count() == 2);
    let ledger = cluster.ledger();
    assert!(ledger.unlocked(heir.fence).is_none());
    assert!(ledger.holds.iter().all(|hold| hold.incarnation != incarnation), "{:?}", ledger.holds);
    for client in waiting {
        // Each is answered: not by the old incarnation, which can write nothing.
        cluster.journal.await_for(client, "an answer", |seen| {
            seen.iter().any(|entry| matches!(entry.what, What::Locked { .. } | What::Refused { .. } | What::Ended { .. })).then_some(())
        });
    }
    cluster.settle();
    cluster.finish();
}

/// A node that is stopped again and again in the middle of its calls keeps nobody else waiting.
#[test]
#[ignore = "fault suite"]
fn f26_stopped_in_mid_call() {
    const STOPS: u64 = 50;
    let cluster = Cluster::start(Plan::nodes(2));
    let stop = std::sync::atomic::AtomicBool::new(false);
    // Both nodes work on the same few resources, in all shards.
    let busy = |broker: usize, who: &'static str| {
        let (cluster, stop) = (&cluster, &stop);
        move || {
            let mut slowest = Duration::ZERO;
            let mut count = 0;
            let client = cluster.client(cluster.spec(broker, Some(who)));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let channel = format!("private-seat.{}", count % 24);
                let seen = cluster.journal.len();
                let started = Instant::now();
                cluster.driver.tell(Order::Subscribe(client, channel.clone()));
                let answer = cluster.journal.find_within(Duration::from_secs(5), |entries| {
                    entries[seen..].iter().find_map(|entry| match &entry.what {
                        What::Locked { channel: of, .. } if entry.client == client && *of == channel => Some(true),
                        What::Refused { channel: of, .. } if entry.client == client && *of == channel => Some(false),
                        _ => None,
                    })
                });
                slowest = slowest.max(started.elapsed());
                assert!(broker == 0 || answer == Some(true), "{answer:?}: {}", cluster.journal.story(client));
                cluster.driver.tell(Order::Unsubscribe(client, channel));
                count += 1;
            }
            (slowest, count)
        }
    };
    let (slowest, count) = std::thread::scope(|scope| {
        for who in ["a", "b", "c", "d"] {
            scope.spawn(busy(0, who));
        }
        let measured = scope.spawn(busy(1, "e"));
        for number in 0..STOPS {
            // Instants and lengths without a common rhythm; never long enough to be declared dead.
            std::thread::sleep(Duration::from_millis(20 + number * 37 % 61));
            cluster.freeze(0);
            std::thread::sleep(Duration::from_millis(120 + number * 53 % 97));
            cluster.thaw(0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        measured.join().unwrap()
    });
    println!("the other node's slowest of {count} calls took {slowest:?}");
    assert!(count > 50 && slowest < Duration::from_secs(2), "{count} calls, the slowest {slowest:?}");
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f27_a_graceful_stop() {
    let cluster = Cluster::start(Plan::nodes(2));
    let leaving = holds(&cluster, 0, 20);
    let returning: Vec<_> = (0..20)
        .map(|number| {
            let channels = vec![format!("private-order.back-{number}")];
            let client = cluster.client(Spec { channels, comes_back: true, ..cluster.spec(0, Some(&format!("back-{number}"))) });
            cluster.held(client, 1)
        })
        .collect();
    let incarnation = incarnation_of(&cluster, leaving[0].fence);
    let mut ready = cluster.nodes[0].http();
    assert_eq!(ready.plain("/ready").status, 200);
    let (took, not_ready) = std::thread::scope(|scope| {
        let not_ready = scope.spawn(|| {
            let started = Instant::now();
            eventually("it is not ready", || (ready.plain("/ready").status == 503).then(|| started.elapsed()))
        });
        (cluster.terminate(0), not_ready.join().unwrap())
    });
    println!("stopped in {took:?}, not ready after {not_ready:?}");
    assert!(not_ready < Duration::from_millis(100) + SLACK && took < Duration::from_secs(10), "{not_ready:?}, {took:?}");
    for held in &leaving {
        assert_eq!(cluster.ended(held.client), Some(4200));
        let event = cluster.unlocked(held.fence);
        assert_eq!(event.cause.as_deref(), Some("shutdown"));
    }
    for held in &returning {
        let again = cluster.held(held.client, 2);
        // Sooner than the old hold was let go, or within the grace.
        assert!(["attached", "resumed"].contains(&again.outcome.as_str()) && again.fence == held.fence, "{again:?}, {held:?}");
    }
    cluster.node_state(incarnation, "swept");
    let node = cluster.ledger().nodes.into_iter().find(|node| node.incarnation == incarnation).unwrap();
    assert_eq!(node.end_cause.as_deref(), Some("shutdown"));
    std::thread::sleep(G + W * 2);
    let ledger = cluster.ledger();
    assert!(returning.iter().all(|held| ledger.unlocked(held.fence).is_none()), "whoever came back keeps its lock");
    let opened: HashSet<_> = returning.iter().map(|held| held.client).collect();
    assert_eq!(opened.len(), returning.len());
    cluster.settle();
    cluster.finish();
}
