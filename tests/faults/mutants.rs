//! The suite can fail: for each safety rule there is a build switch that breaks it, and a test through the wire that notices.
//!
//! `HOLDLINE_MUTANTS_BIN` names a binary built with `--features mutants`; `HOLDLINE_MUTANT` breaks one rule of it at run time. Each
//! scenario must pass with the switch unset, and fail, for the stated reason, with it set.

use std::{panic::AssertUnwindSafe, path::PathBuf, time::Duration};

use super::{
    cluster::Cluster,
    fleet::Order,
    journal::{Leave, What},
    plan::{G, Plan, W},
};
use crate::support::{proxy::Trap, until};

/// Runs the scenario twice. `complaint` is part of what the failure must say.
fn kills(mutant: &str, complaint: &[&str], scenario: fn(Plan)) {
    let binary = std::env::var_os("HOLDLINE_MUTANTS_BIN").expect("HOLDLINE_MUTANTS_BIN names a build with --features mutants");
    let plan = || Plan { binary: Some(PathBuf::from(&binary)), ..Plan::nodes(2).behind() };
    scenario(plan());
    let broken = plan().environment("HOLDLINE_MUTANT", mutant);
    // The build says loudly what it is; that alone is no failure.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| scenario(broken)));
    let Err(panic) = outcome else { panic!("the mutant {mutant} survived") };
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_default();
    assert!(complaint.iter().any(|part| text.contains(part)), "the mutant {mutant} failed for another reason: {text}");
    println!("the mutant {mutant} was killed: {text}");
}

/// A commit of a node that is dead and swept is still on its way. It must change nothing.
fn a_dead_nodes_commit_arrives(plan: Plan) {
    let cluster = Cluster::start(plan);
    let proxy = cluster.nodes[0].behind();
    let warm: Vec<_> = (0..12).map(|number| cluster.hold(0, &format!("user-{number}"), &format!("private-quick.warm-{number}"))).collect();
    let incarnation = cluster.ledger().holds[0].incarnation;
    proxy.trap("quick:late", Trap::HoldUp);
    let client = cluster.client(cluster.spec(0, Some("a")));
    cluster.driver.tell(Order::Subscribe(client, "private-quick.late".to_owned()));
    until("the commit is on its way", || proxy.sprung() == 1);
    cluster.kill(0);
    for held in &warm {
        cluster.unlocked(held.fence);
    }
    cluster.node_state(incarnation, "swept");
    assert!(cluster.ledger().fences("quick:late").is_empty());
    proxy.heal();
    until("what was held has arrived", || proxy.connections() == 0);
    std::thread::sleep(Duration::from_millis(500));
    cluster.settle();
    assert!(cluster.ledger().fences("quick:late").is_empty(), "I6: a dead node took a lock");
    cluster.finish();
}

#[test]
#[ignore = "fault suite; needs HOLDLINE_MUTANTS_BIN"]
fn without_the_incarnation_check_a_dead_node_takes_locks() {
    kills("no-incarnation-check", &["clients and tables disagree", "I6"], a_dead_nodes_commit_arrives);
}

/// F40 in short: a commit arrives after the release that was written because nobody knew what became of it.
fn a_commit_arrives_after_its_release(plan: Plan) {
    let cluster = Cluster::start(plan);
    let proxy = cluster.nodes[0].behind();
    for number in 0..12 {
        cluster.hold(0, &format!("user-{number}"), &format!("private-quick.warm-{number}"));
    }
    proxy.trap("quick:late", Trap::HoldUp);
    let client = cluster.client(cluster.spec(0, Some("a")));
    cluster.driver.tell(Order::Subscribe(client, "private-quick.late".to_owned()));
    assert_eq!((cluster.refused(client).0.as_str(), proxy.sprung()), ("LockUnavailable", 1));
    cluster.driver.leave(client, Leave::Fin);
    // The lane waits 3 s for its answer, then writes the release on a new connection.
    std::thread::sleep(Duration::from_secs(4));
    proxy.heal();
    std::thread::sleep(Duration::from_secs(1));
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite; needs HOLDLINE_MUTANTS_BIN"]
fn without_tombstones_a_late_commit_takes_a_lock_for_nobody() {
    kills("no-tombstones", &["clients and tables disagree"], a_commit_arrives_after_its_release);
}

/// The release of a former holder is still on its way when somebody else has taken the lock.
fn a_release_arrives_after_a_takeover(plan: Plan) {
    let cluster = Cluster::start(plan);
    let proxy = cluster.nodes[0].behind();
    for number in 0..12 {
        cluster.hold(0, &format!("user-{number}"), &format!("private-quick.warm-{number}"));
    }
    let former = cluster.hold(0, "a", "private-order.1");
    // Its socket id stands in its release, and in nothing else that is still to come.
    proxy.trap(&cluster.opened(former.client), Trap::HoldUp);
    cluster.driver.leave(former.client, Leave::Reset);
    until("the release is on its way", || proxy.sprung() == 1);
    let winner = cluster.hold(1, "b", "private-grab.1");
    assert_eq!(winner.outcome, "granted");
    proxy.heal();
    std::thread::sleep(G + W * 2);
    cluster.settle();
    assert_eq!(cluster.ledger().story("order:1"), ["locked", "unlocked taken_over", "locked"], "I7: the winner was let go");
    cluster.finish();
}

#[test]
#[ignore = "fault suite; needs HOLDLINE_MUTANTS_BIN"]
fn without_the_fence_a_late_release_lets_somebody_else_go() {
    kills("release-ignores-fence", &["clients and tables disagree", "I7"], a_release_arrives_after_a_takeover);
}

/// F15 in short.
fn back_within_the_grace(plan: Plan) {
    let cluster = Cluster::start(Plan { longest_grace: Duration::from_secs(4), ..plan });
    let first = cluster.hold(0, "a", "private-long.1");
    cluster.driver.leave(first.client, Leave::Reset);
    until("it is in grace", || cluster.ledger().locks.iter().any(|lock| lock.fence == first.fence && lock.state == "grace"));
    let second = cluster.client(cluster.spec(1, Some("a")));
    cluster.driver.tell(Order::Subscribe(second, "private-long.1".to_owned()));
    let answer = cluster.journal.await_for(second, "an answer", |seen| {
        seen.iter().find_map(|entry| match &entry.what {
            What::Locked { fence, outcome, .. } => Some((*fence, outcome.clone())),
            What::Refused { kind, .. } => Some((None, kind.clone())),
            _ => None,
        })
    });
    assert_eq!(answer, (Some(first.fence), "resumed".to_owned()), "not resumed");
    cluster.settle();
    assert_eq!(cluster.ledger().story("long:1"), ["locked"], "not resumed");
    cluster.finish();
}

#[test]
#[ignore = "fault suite; needs HOLDLINE_MUTANTS_BIN"]
fn without_resuming_whoever_comes_back_is_a_stranger() {
    kills("no-resume", &["not resumed", "clients and tables disagree"], back_within_the_grace);
}
