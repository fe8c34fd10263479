//! The life of a lock: S1 to S7 and S9 of the reliability notes, and every row of the table of transitions.

use std::time::Duration;

use super::harness::{Case, LANE, end, gone, hold, new_node, one, op, unsubscribed};
use crate::lifecycle::store::*;

const GRACE: Duration = Duration::from_millis(150);

/// S1.
pub(super) async fn a_release_that_overtakes_its_commit_leaves_nothing_to_take(case: Case) {
    let late = one("order:1", "user:1", |_| ());
    let release = ReleaseOp { certainty: Certainty::Unsure, ..gone(&late) };
    assert_eq!(case.release(&release).await, 0);
    assert_eq!(case.commit(&late).await, Answer::Gone);

    // The answer was lost, a copy of the commit is still under way: granted, released unsure, and the copy finds it gone.
    let copied = one("order:2", "user:1", |_| ());
    case.take(&copied).await;
    assert_eq!(case.release(&ReleaseOp { certainty: Certainty::Unsure, ..gone(&copied) }).await, 1);
    assert_eq!(case.commit(&copied).await, Answer::Gone);
    assert_eq!(case.story().await, ["OrderLocked#1", "OrderUnlocked#1(gone)"]);
}

/// S2.
pub(super) async fn a_late_release_of_a_displaced_holder_frees_nobody(case: Case) {
    let first = one("order:1", "user:1", |_| ());
    let old = case.take(&first).await.fence;
    let second = one("order:1", "user:2", |hold| hold.if_taken = IfTaken::Take);
    let taken = case.take(&second).await;
    assert_eq!((taken.outcome, &taken.displaced[..]), (HoldOutcome::Granted, &[old][..]));
    assert!(taken.fence > old);
    assert_eq!(case.release(&gone(&first)).await, 0);
    assert_eq!(case.commit(&first).await, Answer::Gone, "a replay does not take it back");
    let lock = case.store.lock(taken.fence).await.unwrap().unwrap();
    assert_eq!((lock.state, lock.principal.as_str()), (LockState::Held, "user:2"));
    let [a, b] = [old, taken.fence];
    assert_eq!(case.story().await, [format!("OrderLocked#{a}"), format!("OrderUnlocked#{a}(taken_over)"), format!("OrderLocked#{b}")]);
    case.check().await;
}

/// S3.
pub(super) async fn grace_resumes_with_the_same_fence_and_expires_once(case: Case) {
    let first = one("order:1", "user:1", |hold| hold.grace = GRACE);
    let fence = case.take(&first).await.fence;
    assert_eq!(case.release(&gone(&first)).await, 0);
    let lock = case.store.lock(fence).await.unwrap().unwrap();
    assert_eq!((lock.state, lock.cause, lock.grace_until.is_some()), (LockState::Grace, Some(CloseCause::Gone), true));

    assert!(matches!(case.commit(&one("order:1", "user:2", |_| ())).await, Answer::Denied(_)), "a stranger waits");
    let back = one("order:1", "user:1", |hold| hold.grace = GRACE);
    let resumed = case.take(&back).await;
    assert_eq!((resumed.outcome, resumed.fence), (HoldOutcome::Resumed, fence));
    assert_eq!(case.take(&back).await.outcome, HoldOutcome::Resumed, "a replay answers the same");
    assert_eq!(case.story().await, [format!("OrderLocked#{fence}")]);

    let late = end(&back, Ending::Unclean, CloseCause::Idle);
    let made = std::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    case.release(&late).await;
    let waited = made.elapsed();
    tokio::time::sleep(GRACE + Duration::from_millis(20)).await;
    assert_eq!(case.store.due_shards().await.unwrap(), [lock.shard]);
    case.sweep().await;
    case.sweep().await;
    assert!(case.store.due_shards().await.unwrap().is_empty());
    assert_eq!(case.story().await, [format!("OrderLocked#{fence}"), format!("OrderUnlocked#{fence}(idle, after grace)")]);
    let entry = case.log().await.pop().unwrap();
    assert_eq!(entry.socket_id.as_deref(), Some("1.1"));
    let detected = Duration::from_millis(entry.detected_ms_before_commit.unwrap().try_into().unwrap());
    assert!(detected >= Duration::from_millis(57) && detected <= waited + Duration::from_millis(7), "until it is sent: {detected:?}");

    let clean = one("order:1", "user:1", |hold| hold.grace = GRACE);
    let fence = case.take(&clean).await.fence;
    assert_eq!(case.release(&unsubscribed(&clean)).await, 1, "a clean end has no grace");
    assert_eq!(case.story().await[2..], [format!("OrderLocked#{fence}"), format!("OrderUnlocked#{fence}(unsubscribed)")]);
    case.check().await;
}

/// S4.
pub(super) async fn the_last_of_several_tabs_unlocks(case: Case) {
    let (first, second) = (one("order:1", "user:1", |_| ()), one("order:1", "user:1", |_| ()));
    let fence = case.take(&first).await.fence;
    let other = case.take(&second).await;
    assert_eq!((other.outcome, other.fence), (HoldOutcome::Attached, fence));
    assert_eq!(case.release(&gone(&first)).await, 0);
    assert_eq!(case.release(&gone(&first)).await, 0, "again changes nothing");
    assert_eq!(case.store.lock(fence).await.unwrap().unwrap().state, LockState::Held);
    assert_eq!(case.release(&gone(&second)).await, 1);

    // Both at once: the last one decides.
    let (third, fourth) = (one("order:2", "user:1", |_| ()), one("order:2", "user:1", |_| ()));
    case.take(&third).await;
    case.take(&fourth).await;
    let ends = [gone(&third), end(&fourth, Ending::Unclean, CloseCause::Idle)];
    assert_eq!(case.store.release(LANE, case.node, &ends).await.unwrap(), 1);
    let causes: Vec<_> = case.log().await.into_iter().filter_map(|event| event.cause).collect();
    assert!(causes.contains(&CloseCause::Gone) && causes.contains(&CloseCause::Idle) && causes.len() == 2);
    case.check().await;
}

/// S5.
pub(super) async fn shared_and_exclusive_exclude_each_other(case: Case) {
    let shared = |principal: &str| one("order:1", principal, |hold| hold.mode = Mode::Shared);
    let (first, second) = (shared("user:1"), shared("user:2"));
    let fences = [case.take(&first).await.fence, case.take(&second).await.fence];
    assert_ne!(fences[0], fences[1], "one lock each");
    let Answer::Denied(denied) = case.commit(&one("order:1", "user:3", |_| ())).await else { panic!("not denied") };
    assert_eq!(denied.holders.iter().map(|holder| holder.fence).collect::<Vec<_>>(), fences);
    assert_eq!(denied.holders[0].principal, "user:1");
    assert!(matches!(case.commit(&one("order:1", "user:1", |_| ())).await, Answer::Denied(_)), "another mode, the same principal");

    let taker = one("order:1", "user:3", |hold| hold.if_taken = IfTaken::Take);
    assert_eq!(case.take(&taker).await.displaced.len(), 2);
    assert!(matches!(case.commit(&shared("user:1")).await, Answer::Denied(_)));
    assert_eq!(case.release(&gone(&taker)).await, 1);
    case.take(&shared("user:1")).await;
    case.check().await;
}

/// S6.
pub(super) async fn a_clock_that_was_set_back_makes_no_grace_longer(case: Case) {
    let op = one("order:1", "user:1", |hold| hold.grace = GRACE);
    case.take(&op).await;
    case.release(&gone(&op)).await;
    case.tamper("lock", "grace_until = {time}", Duration::from_secs(3600)).await;
    assert_eq!(case.store.due_shards().await.unwrap().len(), 1, "a grace that is too long is work");
    case.sweep().await;
    assert_eq!(case.story().await.len(), 1);
    tokio::time::sleep(GRACE + Duration::from_millis(20)).await;
    case.sweep().await;
    assert_eq!(case.story().await.len(), 2);
}

/// S7.
pub(super) async fn a_replay_changes_nothing(case: Case) {
    let op = one("order:1", "user:1", |_| ());
    let first = case.take(&op).await;
    assert_eq!(case.take(&op).await, first);
    let both = case.store.commit(LANE, case.node, &[op.clone(), op.clone()]).await.unwrap();
    assert_eq!(both, vec![Answer::Committed(vec![first.clone()]); 2]);
    assert_eq!(case.story().await.len(), 1);
    assert_eq!(case.store.lock(first.fence).await.unwrap().unwrap().holders.len(), 1);
    assert_eq!(case.release(&gone(&op)).await, 1);
    assert_eq!(case.release(&gone(&op)).await, 0);
}

pub(super) async fn conflict_policies(case: Case) {
    let ask = |if_taken| one("order:1", "user:2", |hold| hold.if_taken = if_taken);
    let held = one("order:1", "user:1", |hold| hold.grace = Duration::from_secs(60));
    let fence = case.take(&held).await.fence;
    assert!(matches!(case.commit(&ask(IfTaken::Deny)).await, Answer::Denied(_)));
    assert!(matches!(case.commit(&ask(IfTaken::TakeIfInGrace)).await, Answer::Denied(_)));
    case.release(&gone(&held)).await;
    let Answer::Denied(denied) = case.commit(&ask(IfTaken::Deny)).await else { panic!("not denied") };
    assert_eq!(denied.holders[0].state, LockState::Grace);
    assert_eq!(case.take(&ask(IfTaken::TakeIfInGrace)).await.displaced, [fence]);
    let returned = one("order:1", "user:1", |_| ());
    assert!(matches!(case.commit(&returned).await, Answer::Denied(_)), "back too late");
    // The same key in another app is another resource.
    case.take(&CommitOp { app: "other".to_owned(), ..returned }).await;
    case.check().await;
}

pub(super) async fn a_force_release_is_by_fence_and_cannot_be_undone_by_a_replay(case: Case) {
    let op = one("order:1", "user:1", |hold| hold.grace = GRACE);
    let fence = case.take(&op).await.fence;
    assert!(case.store.force_release(case.node, fence, CloseCause::ForceReleased).await.unwrap());
    assert!(!case.store.force_release(case.node, fence, CloseCause::ForceReleased).await.unwrap());
    assert!(!case.store.force_release(case.node, Fence(999), CloseCause::ForceReleased).await.unwrap());
    assert_eq!(case.commit(&op).await, Answer::Gone);
    assert_eq!(case.release(&gone(&op)).await, 0);
    let in_grace = one("order:1", "user:1", |hold| hold.grace = GRACE);
    let fence = case.take(&in_grace).await.fence;
    case.release(&gone(&in_grace)).await;
    assert!(case.store.force_release(case.node, fence, CloseCause::Released).await.unwrap(), "a grace ends too");
    assert_eq!(case.story().await.last().unwrap(), &format!("OrderUnlocked#{fence}(released)"));
    case.check().await;
}

/// S9.
pub(super) async fn a_fenced_node_writes_nothing(case: Case) {
    let op = one("order:1", "user:1", |_| ());
    case.take(&op).await;
    case.store.set_draining(case.node).await.unwrap();
    case.take(&one("order:2", "user:1", |_| ())).await;
    assert!(case.store.deregister(case.node).await.unwrap());
    assert!(!case.store.deregister(case.node).await.unwrap());
    let late = one("order:3", "user:1", |_| ());
    assert!(matches!(case.store.commit(LANE, case.node, std::slice::from_ref(&late)).await, Err(StoreError::Fenced)));
    assert!(matches!(case.store.release(LANE, case.node, &[gone(&op)]).await, Err(StoreError::Fenced)));
    assert!(matches!(case.store.heartbeat(case.node).await, Err(StoreError::Fenced)));
    assert!(matches!(case.store.sweep(case.node, Shard(0), 10).await, Err(StoreError::Fenced)));
    assert!(matches!(case.store.force_release(case.node, Fence(1), CloseCause::Released).await, Err(StoreError::Fenced)));

    let next = case.store.register(&new_node("node-2")).await.unwrap();
    assert!(next > case.node);
    let case = Case { node: next, ..case };
    case.sweep().await;
    let mut story = case.story().await;
    story.sort();
    assert_eq!(story, ["OrderLocked#1", "OrderLocked#2", "OrderUnlocked#1(shutdown)", "OrderUnlocked#2(shutdown)"]);
    let nodes = case.store.nodes().await.unwrap();
    assert_eq!((nodes[1].view.state, nodes[1].end_cause), (NodeState::Swept, Some(CloseCause::Shutdown)));
    let seen = case.store.heartbeat(next).await.unwrap();
    assert_eq!(seen.iter().map(|view| (view.incarnation, view.heartbeat)).collect::<Vec<_>>(), [(next, 1)]);
}

pub(super) async fn locks_are_listed_with_their_holders(case: Case) {
    let two = op("1.2", vec![hold("order:1", "user:1"), hold("order:2", "user:1")]);
    assert!(matches!(case.commit(&two).await, Answer::Committed(granted) if granted.len() == 2));
    let other = CommitOp { socket_id: "3.4".to_owned(), ..one("order:1", "user:1", |_| ()) };
    case.take(&other).await;
    case.release(&gone(&CommitOp { holds: vec![two.holds[1].clone()], ..two.clone() })).await;

    let live = case.store.locks(&LockQuery::default()).await.unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].holders.iter().map(|holder| holder.socket_id.as_str()).collect::<Vec<_>>(), ["1.2", "3.4"]);
    assert_eq!((live[0].context.clone(), live[0].topic.as_str()), (serde_json::json!({ "order_id": "order:1" }), "Order"));
    let released = LockQuery { state: Some(LockState::Released), ..LockQuery::default() };
    assert_eq!(case.store.locks(&released).await.unwrap()[0].resource, "order:2");
    for (query, count) in [
        (LockQuery { app: Some("app".to_owned()), ..LockQuery::default() }, 1),
        (LockQuery { app: Some("other".to_owned()), ..LockQuery::default() }, 0),
        (LockQuery { resource: Some("order:1".to_owned()), ..LockQuery::default() }, 1),
        (LockQuery { principal: Some("user:2".to_owned()), ..LockQuery::default() }, 0),
        (LockQuery { after: Some(live[0].fence), ..LockQuery::default() }, 0),
    ] {
        assert_eq!(case.store.locks(&query).await.unwrap().len(), count, "{query:?}");
    }
}

pub(super) async fn locks_are_counted_by_state(case: Case) {
    assert_eq!(case.store.census().await.unwrap(), StoreCensus::default());
    for n in 1..=3 {
        case.take(&one(&format!("order:{n}"), "user:1", |hold| hold.grace = GRACE * 100)).await;
    }
    let left = one("order:4", "user:1", |hold| hold.grace = GRACE * 100);
    case.take(&left).await;
    case.release(&gone(&left)).await;
    let over = one("order:5", "user:1", |_| ());
    case.take(&over).await;
    case.release(&unsubscribed(&over)).await;
    let census = case.store.census().await.unwrap();
    assert_eq!((census.locks(LockState::Held), census.locks(LockState::Grace), census.locks(LockState::Released)), (3, 1, 0));
    assert_eq!(census.parked("nobody", ParkReason::Poison), 0);
}
