//! The link between a node and the database: cut, reset, one way only, late, and cut at the worst moment. F37–F41.

use std::time::Duration;

use super::{
    asking::{ask, hears, warm_lanes},
    cluster::{Cluster, SLACK, after},
    fleet::{Order, Spec},
    journal::{Leave, What, now},
    plan::{G, H, L, Plan, W},
};
use crate::support::{
    proxy::{Cut, Trap, Way, Weather},
    unique, until,
};

/// One node cannot reach the database, the others can: its holders are warned, then it is dead, then it learns of it.
fn one_node_cut_off(how: impl Fn(&Cluster), limit: Duration) {
    let cluster = Cluster::start(Plan::nodes(2).behind());
    cluster.allow(|allowed| allowed.errors.push("was declared dead"));
    let held = cluster.hold(0, "a", "private-order.1");
    let other = cluster.hold(1, "b", "private-order.2");
    let from = now();
    how(&cluster);
    hears(&cluster, held.client, "uncertain");
    let warned = now() - from;
    assert!(warned > (L / 2).as_micros() as i64 && warned < (L * 3 / 4 + H + SLACK).as_micros() as i64, "warned after {warned} µs");
    let event = cluster.unlocked(held.fence);
    assert_eq!((event.cause.as_deref(), event.after_grace), (Some("node_death"), true));
    assert!(after(&event, from) < limit + G, "{:?}", after(&event, from));
    let heir = cluster.hold(1, "c", "private-order.1");
    // A new subscription at the lonely node gets nothing.
    assert_eq!(ask(&cluster, 0, "d", "private-order.3").1, Err("LockUnavailable 503".to_owned()));
    cluster.heal(0);
    assert_eq!(cluster.ended(held.client), Some(4200), "{}", cluster.journal.story(held.client));
    let told = |what: &What| matches!(what, What::LockLost { fence, .. } if *fence == held.fence);
    assert!(cluster.journal.entries().iter().any(|entry| entry.client == held.client && told(&entry.what)));
    until("it grants again", || ask(&cluster, 0, "e", &format!("private-order.{}", unique("again"))).1.is_ok());
    let ledger = cluster.ledger();
    assert!(ledger.unlocked(other.fence).is_none() && ledger.unlocked(heir.fence).is_none());
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f37_one_node_in_a_black_hole() {
    one_node_cut_off(|cluster| cluster.cut_off(0, Weather::black_hole()), L + H * 2 + W + SLACK);
}

#[test]
#[ignore = "fault suite"]
fn f38_one_node_is_reset() {
    let reset = |cluster: &Cluster| {
        cluster.cut_off(0, Weather::default());
        cluster.nodes[0].behind().refuse(true);
        cluster.nodes[0].behind().cut(Cut::Reset);
    };
    one_node_cut_off(reset, L + H * 2 + W + SLACK);
}

/// Requests arrive and are carried out; their answers are late, or lost.
#[test]
#[ignore = "fault suite"]
fn f39_answers_do_not_arrive() {
    let cluster = Cluster::start(Plan::nodes(1).behind());
    let proxy = cluster.nodes[0].behind();
    warm_lanes(&cluster);
    // Late: the answer is still good.
    proxy.set(Weather::held(Way::Down));
    let early = cluster.client(Spec { channels: vec!["private-order.late".to_owned()], ..cluster.spec(0, Some("a")) });
    until("the database has it", || !cluster.ledger().fences("order:late").is_empty());
    std::thread::sleep(Duration::from_millis(300));
    proxy.heal();
    let held = cluster.held(early, 1);
    assert_eq!(cluster.ledger().fences("order:late"), [held.fence]);
    // Lost: the client is refused in time, and what was granted without its knowing is given back.
    proxy.set(Weather::held(Way::Down));
    let (_, answer, took) = ask(&cluster, 0, "b", "private-order.lost");
    assert_eq!(answer, Err("LockUnavailable 503".to_owned()));
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    assert_eq!(cluster.ledger().fences("order:lost").len(), 1, "the database did it all the same");
    proxy.cut(Cut::Reset);
    proxy.heal();
    let fences = cluster.ledger().fences("order:lost");
    cluster.unlocked(fences[0]);
    assert_eq!(cluster.ledger().fences("order:lost"), fences, "and only once");
    until("holds are granted again", || ask(&cluster, 0, "c", &format!("private-order.{}", unique("again"))).1.is_ok());
    cluster.settle();
    cluster.finish();
}

/// A commit whose bytes are still on their way when its connection has ended and its release is done.
#[test]
#[ignore = "fault suite"]
fn f40_a_commit_arrives_after_its_release() {
    let cluster = Cluster::start(Plan::nodes(1).behind());
    let proxy = cluster.nodes[0].behind();
    warm_lanes(&cluster);
    proxy.trap("quick:late", Trap::HoldUp);
    let (client, answer, _) = ask(&cluster, 0, "a", "private-quick.late");
    assert_eq!((answer, proxy.sprung()), (Err("LockUnavailable 503".to_owned()), 1));
    cluster.driver.leave(client, Leave::Fin);
    // The lane gives its connection up and writes the release on a new one: the hold is buried before it is born.
    until("there is a tombstone", || cluster.sql.number("SELECT count(*) FROM holdline.tombstone") >= 1);
    assert!(cluster.ledger().fences("quick:late").is_empty(), "it has not arrived");
    proxy.heal();
    until("what was held has arrived", || proxy.connections() > 0 && arrived(&cluster));
    assert!(cluster.ledger().fences("quick:late").is_empty(), "it came too late to take anything");
    cluster.settle();
    cluster.finish();
}

/// No statement is running any more; a moment for those on their way.
fn arrived(cluster: &Cluster) -> bool {
    std::thread::sleep(Duration::from_millis(300));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
                      AND pid <> pg_backend_pid() AND query LIKE '%holdline.commit%'";
    cluster.sql.number(running) == 0
}

#[test]
#[ignore = "fault suite"]
fn f41_the_answer_to_a_commit_is_cut() {
    let cluster = Cluster::start(Plan::nodes(1).behind());
    let proxy = cluster.nodes[0].behind();
    warm_lanes(&cluster);
    for number in 0..5 {
        proxy.trap(&format!("order:cut-{number}"), Trap::CutAnswer);
        // It is asked again with the same ids, so it is the same lock.
        let held = cluster.hold(0, &format!("cut-{number}"), &format!("private-order.cut-{number}"));
        assert_eq!((held.outcome.as_str(), proxy.sprung()), ("granted", number + 1));
        assert_eq!(cluster.ledger().fences(&format!("order:cut-{number}")), [held.fence]);
    }
    // An end whose answer is cut is an end, once.
    let held = cluster.hold(0, "x", "private-quick.x");
    proxy.trap("unsubscribed", Trap::CutAnswer);
    cluster.driver.tell(Order::Unsubscribe(held.client, "private-quick.x".to_owned()));
    cluster.unlocked(held.fence);
    until("the answer was cut", || proxy.sprung() == 6);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(cluster.ledger().story("quick:x"), ["locked", "unlocked unsubscribed"]);
    cluster.settle();
    cluster.finish();
}
