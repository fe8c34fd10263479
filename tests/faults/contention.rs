//! Several who want the same: races, shared seats, coming back in time and too late. F13–F17, F20.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    cluster::Cluster,
    fleet::{Order, Spec},
    journal::{ClientId, Entry, Leave, What, now},
    plan::{G, P, Plan, T, W},
};
use crate::support::{WAIT, proxy::Weather, until};

/// Connects so many clients of users of their own, evenly over the brokers.
fn crowd(cluster: &Cluster, size: usize) -> Vec<ClientId> {
    let connect = |number: usize| {
        let spec = cluster.spec(number % cluster.nodes.len(), Some(&format!("user-{number}")));
        cluster.driver.connect(spec)
    };
    let mut clients = Vec::with_capacity(size);
    while clients.len() < size {
        // Not more on the way than a busy machine greets in time.
        let wave: Vec<ClientId> = (clients.len()..size).take(100).map(connect).collect();
        for client in &wave {
            cluster.opened(*client);
        }
        clients.extend(wave);
    }
    clients
}

/// How many of these clients saw something.
fn count(entries: &[Entry], clients: &[ClientId], saw: impl Fn(&What) -> bool) -> usize {
    let clients: HashSet<&ClientId> = clients.iter().collect();
    entries.iter().filter(|entry| clients.contains(&entry.client) && saw(&entry.what)).count()
}

fn wait_for_count(cluster: &Cluster, what: &str, clients: &[ClientId], expected: usize, saw: impl Fn(&What) -> bool) {
    let found = cluster.journal.find_within(WAIT * 2, |entries| (count(entries, clients, &saw) >= expected).then_some(()));
    let entries = cluster.journal.entries();
    let seen = count(&entries, clients, &saw);
    assert!(found.is_some() && seen == expected, "{what}: {seen}, not {expected}");
}

/// All of them ask at once; the last answer of each. Whoever is refused because the machine is busy asks again.
fn contend(cluster: &Cluster, clients: &[ClientId], channel: &str) -> Vec<(ClientId, What)> {
    let mut asking: HashSet<ClientId> = clients.iter().copied().collect();
    let mut answers = HashMap::new();
    while !asking.is_empty() {
        let seen = cluster.journal.len();
        for client in &asking {
            cluster.driver.tell(Order::Subscribe(*client, channel.to_owned()));
        }
        let all = cluster.journal.find_within(WAIT * 2, |entries| {
            let is_answer =
                |entry: &&Entry| asking.contains(&entry.client) && matches!(entry.what, What::Locked { .. } | What::Refused { .. });
            let new: Vec<_> = entries[seen..].iter().filter(is_answer).map(|entry| (entry.client, entry.what.clone())).collect();
            (new.len() == asking.len()).then_some(new)
        });
        answers.extend(all.expect("an answer for each"));
        asking.retain(|client| matches!(&answers[client], What::Refused { status: 503, .. }));
    }
    answers.into_iter().collect()
}

#[test]
#[ignore = "fault suite"]
fn f13_a_thousand_principals_and_one_order() {
    const SIZE: usize = 1_000;
    let cluster = Cluster::start(Plan::nodes(3));
    let clients = crowd(&cluster, SIZE);
    let answers = contend(&cluster, &clients, "private-order.1");
    let winners: Vec<ClientId> =
        answers.iter().filter(|(_, what)| matches!(what, What::Locked { .. })).map(|(client, _)| *client).collect();
    let refused = |what: &What| matches!(what, What::Refused { kind, status: 409, holder: None, .. } if kind == "LockConflict");
    let refused = answers.iter().filter(|(_, what)| refused(what)).count();
    assert_eq!((winners.len(), refused), (1, SIZE - 1), "and nobody is told who the holder is");
    cluster.settle();
    // When it is free, each of them hears of it, once.
    cluster.driver.tell(Order::Unsubscribe(winners[0], "private-order.1".to_owned()));
    wait_for_count(&cluster, "told that it is free", &clients, SIZE - 1, |what| matches!(what, What::LockFree { .. }));

    // Whoever comes takes it: a chain of pairs, and every former holder is told.
    const CHAIN: usize = 300;
    for wave in clients[..CHAIN].chunks(50) {
        let answers = contend(&cluster, wave, "private-grab.2");
        assert!(answers.iter().all(|(_, what)| matches!(what, What::Locked { .. })), "{answers:?}");
    }
    let lost = |what: &What| matches!(what, What::LockLost { cause, .. } if cause == "taken_over");
    wait_for_count(&cluster, "told of the takeover", &clients, CHAIN - 1, lost);
    let story = cluster.ledger().story("order:2");
    let pairs = std::iter::once("locked").chain(["unlocked taken_over", "locked"].into_iter().cycle().take(story.len() - 1));
    assert!(story.len() >= 2 * CHAIN - 1 && story.iter().map(String::as_str).eq(pairs), "{story:?}");
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f14_shared_and_exclusive() {
    let cluster = Cluster::start(Plan::nodes(2));
    let one = cluster.hold(0, "a", "private-seat.1");
    let two = cluster.hold(1, "b", "private-seat.1");
    assert_ne!(one.fence, two.fence, "a lock each");
    let alone = cluster.client(Spec { channels: vec!["private-room.1".to_owned()], ..cluster.spec(1, Some("c")) });
    assert_eq!(cluster.refused(alone), ("LockConflict".to_owned(), 409));
    cluster.driver.tell(Order::Unsubscribe(one.client, "private-seat.1".to_owned()));
    cluster.unlocked(one.fence);
    let again = cluster.client(Spec { channels: vec!["private-room.1".to_owned()], ..cluster.spec(0, Some("c")) });
    assert_eq!(cluster.refused(again), ("LockConflict".to_owned(), 409), "there is still one seat taken");
    cluster.driver.tell(Order::Unsubscribe(two.client, "private-seat.1".to_owned()));
    cluster.unlocked(two.fence);
    let three = cluster.hold(0, "c", "private-room.1");
    let late = cluster.client(Spec { channels: vec!["private-seat.1".to_owned()], ..cluster.spec(1, Some("a")) });
    assert_eq!(cluster.refused(late), ("LockConflict".to_owned(), 409));
    cluster.driver.leave(three.client, Leave::CloseFrame);
    cluster.unlocked(three.fence);
    cluster.hold(1, "a", "private-seat.1");
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f15_back_within_the_grace_on_another_node() {
    let cluster = Cluster::start(Plan { longest_grace: Duration::from_secs(4), ..Plan::nodes(2) });
    let first = cluster.hold(0, "a", "private-long.1");
    cluster.driver.leave(first.client, Leave::Reset);
    until("it is in grace", || cluster.ledger().locks.iter().any(|lock| lock.fence == first.fence && lock.state == "grace"));
    std::thread::sleep(Duration::from_secs(2));
    // Nobody else gets it meanwhile.
    let other = cluster.client(Spec { channels: vec!["private-long.1".to_owned()], ..cluster.spec(0, Some("b")) });
    assert_eq!(cluster.refused(other).0, "LockConflict");
    let second = cluster.hold(1, "a", "private-long.1");
    assert_eq!((second.outcome.as_str(), second.fence), ("resumed", first.fence));
    // Longer than what was left of the grace.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(cluster.ledger().story("long:1"), ["locked"]);
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f16_back_after_the_grace() {
    let cluster = Cluster::start(Plan::nodes(2));
    let subscribe = |user: &str, channel: &str| cluster.client(Spec { channels: vec![channel.to_owned()], ..cluster.spec(1, Some(user)) });
    let first = cluster.hold(0, "a", "private-order.1");
    cluster.driver.leave(first.client, Leave::Reset);
    let event = cluster.unlocked(first.fence);
    assert_eq!((event.cause.as_deref(), event.after_grace), (Some("gone"), true));
    let second = cluster.hold(1, "b", "private-order.1");
    assert!(second.fence > first.fence);
    assert_eq!(cluster.refused(subscribe("a", "private-order.1")), ("LockConflict".to_owned(), 409));
    assert_eq!(cluster.ledger().story("order:1"), ["locked", "unlocked gone after grace", "locked"]);

    // Who may take what is in grace need not wait; who may only have what is free must.
    let first = cluster.hold(0, "a", "private-order.2");
    assert_eq!(cluster.refused(subscribe("b", "private-vacant.2")).0, "LockConflict", "it is held, not in grace");
    cluster.driver.leave(first.client, Leave::Reset);
    until("it is in grace", || cluster.ledger().locks.iter().any(|lock| lock.fence == first.fence && lock.state == "grace"));
    assert_eq!(cluster.refused(subscribe("b", "private-order.2")).0, "LockConflict");
    let second = cluster.hold(1, "b", "private-vacant.2");
    assert_eq!(second.outcome, "granted");
    assert_eq!(cluster.refused(subscribe("a", "private-order.2")).0, "LockConflict");
    std::thread::sleep(G + W * 2);
    assert_eq!(cluster.ledger().story("order:2"), ["locked", "unlocked taken_over", "locked"]);
    cluster.settle();
    cluster.finish();
}

/// The end of a half-open socket is noticed when its user, or somebody else, has long been there again.
#[test]
#[ignore = "fault suite"]
fn f17_a_late_end_lets_nobody_else_go() {
    let cluster = Cluster::start(Plan::nodes(2).front());
    let first = cluster.hold(0, "a", "private-order.1");
    let loser = cluster.hold(0, "b", "private-order.2");
    for client in [first.client, loser.client] {
        cluster.journal.note(client, What::Unreachable);
    }
    let from = now();
    cluster.nodes[0].front().set(Weather::black_hole());
    let second = cluster.hold(1, "a", "private-order.1");
    assert_eq!((second.outcome.as_str(), second.fence), ("attached", first.fence));
    let winner = cluster.hold(1, "c", "private-grab.2");
    // The two ends are noticed by the heartbeat; then nothing of them may be left but what belongs to the others.
    until("the late ends were noticed", || cluster.ledger().holds.len() == 2);
    until("their sockets are gone", || cluster.nodes[0].footprint().clients == 1);
    assert!(now() - from < (P + T + G).as_micros() as i64 + 2_000_000);
    std::thread::sleep(G + W * 2);
    assert_eq!(cluster.ledger().story("order:1"), ["locked"]);
    assert_eq!(cluster.ledger().story("order:2"), ["locked", "unlocked taken_over", "locked"]);
    assert_eq!(cluster.ledger().fences("order:2"), [loser.fence, winner.fence]);
    cluster.nodes[0].front().heal();
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f20_a_flapping_client() {
    let cluster = Cluster::start(Plan::nodes(2));
    let started = Instant::now();
    let mut outcomes: HashMap<String, usize> = HashMap::new();
    let mut number = 0;
    while started.elapsed() < Duration::from_secs(12) {
        let held = cluster.hold(number % 2, "a", "private-order.1");
        *outcomes.entry(held.outcome).or_default() += 1;
        std::thread::sleep(Duration::from_millis(50));
        let how = [Leave::Fin, Leave::Reset, Leave::CloseFrame][number % 3];
        cluster.driver.leave(held.client, how);
        std::thread::sleep(Duration::from_millis(50));
        number += 1;
    }
    println!("{number} connections, {outcomes:?}");
    assert!(number > 20, "only {number} connections");
    assert_eq!(cluster.ledger().story("order:1"), ["locked"], "the grace absorbs it");
    until("the grace is over", || cluster.ledger().live().count() == 0);
    assert_eq!(cluster.ledger().story("order:1").len(), 2);
    cluster.finish();
}
