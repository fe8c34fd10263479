use std::time::Duration;

use super::*;
use crate::lifecycle::store::Shard;
use crate::lifecycle::store::{Denied, EventKind, Granted, IfTaken, Mode, NewEvent, NewHold};

fn op(resource: &str) -> CommitOp {
    let hold = NewHold {
        id: HoldId::random(),
        resource: resource.to_owned(),
        principal: "user:1".to_owned(),
        mode: Mode::Exclusive,
        if_taken: IfTaken::Deny,
        topic: "Order".to_owned(),
        context: serde_json::Value::Null,
        grace: Duration::ZERO,
    };
    CommitOp { id: OpId::random(), socket_id: "1.1".to_owned(), app: "app".to_owned(), holds: vec![hold], events: Vec::new() }
}

fn queue() -> LaneQueue<&'static str> {
    LaneQueue::new(LaneLimits { waiting: 4, ends: 100, commits: 2, releases: 2, shards: 1 })
}

fn resources(batch: &Batch) -> Vec<&str> {
    match batch {
        Batch::Commits(ops) => ops.iter().flat_map(|op| &op.holds).map(|hold| hold.resource.as_str()).collect(),
        Batch::Releases(ops) => ops.iter().flat_map(|op| &op.holds).map(|(_, resource)| resource.as_str()).collect(),
    }
}

fn commits(batch: Option<Batch>) -> Vec<CommitOp> {
    match batch {
        Some(Batch::Commits(ops)) => ops,
        other => panic!("no commits: {other:?}"),
    }
}

fn releases(batch: Option<Batch>) -> Vec<ReleaseOp> {
    match batch {
        Some(Batch::Releases(ops)) => ops,
        other => panic!("no releases: {other:?}"),
    }
}

fn yes(count: usize) -> Vec<Answer> {
    vec![Answer::Committed(Vec::<Granted>::new()); count]
}

#[test]
fn releases_go_first_and_one_batch_at_a_time() {
    let mut queue = queue();
    for resource in ["a", "b", "c"] {
        queue.push_commit(op(resource), "x").unwrap();
    }
    queue.push_release(release_of(&op("r")));
    let first = queue.next_batch(Instant::now()).unwrap();
    assert_eq!(resources(&first), ["r"]);
    assert!(queue.next_batch(Instant::now()).is_none(), "one is under way");
    queue.released(&releases(Some(first)));
    let second = queue.next_batch(Instant::now()).unwrap();
    assert_eq!(resources(&second), ["a", "b"]);
    assert_eq!(queue.committed(commits(Some(second)), yes(2)).len(), 2);
    assert_eq!(resources(&queue.next_batch(Instant::now()).unwrap()), ["c"]);
}

#[test]
fn more_than_the_limit_is_turned_away() {
    let mut queue = queue();
    for _ in 0..4 {
        queue.push_commit(op("a"), "x").unwrap();
    }
    assert_eq!(queue.push_commit(op("a"), "late"), Err("late"));
    queue.push_release(release_of(&op("r")));
    assert_eq!(queue.len(), 5, "a release is never turned away");
}

#[test]
fn a_commit_that_was_never_sent_is_cancelled_with_its_release() {
    let mut queue = queue();
    let never = op("a");
    queue.push_commit(never.clone(), "x").unwrap();
    assert_eq!(queue.push_release(release_of(&never)), [("x", Err(NoAnswer::Cancelled))]);
    assert!(queue.is_idle(), "nothing is sent at all");
}

#[test]
fn a_release_of_a_commit_under_way_waits_for_its_answer_and_is_sure() {
    let mut queue = queue();
    let sent = op("a");
    queue.push_commit(sent.clone(), "x").unwrap();
    let batch = commits(queue.next_batch(Instant::now()));
    assert!(queue.push_release(release_of(&sent)).is_empty());
    assert_eq!(queue.committed(batch, yes(1)).len(), 1);
    assert_eq!(releases(queue.next_batch(Instant::now()))[0].certainty, Certainty::Sure);
}

#[test]
fn without_an_answer_the_same_is_sent_again_and_its_release_is_unsure_for_ever() {
    let mut queue = queue();
    let (first, second) = (op("a"), op("b"));
    queue.push_commit(first.clone(), "x").unwrap();
    queue.push_commit(second.clone(), "y").unwrap();
    let batch = queue.next_batch(Instant::now()).unwrap();
    assert!(queue.unknown(batch).is_empty());
    // One ends before the replay: it is not sent again. The other is answered by the replay.
    assert_eq!(queue.push_release(release_of(&first)), [("x", Err(NoAnswer::Cancelled))]);
    let release = releases(queue.next_batch(Instant::now()));
    assert_eq!((release[0].certainty, release[0].holds[0].0), (Certainty::Unsure, first.holds[0].id));
    queue.released(&release);
    let replay = commits(queue.next_batch(Instant::now()));
    assert_eq!((replay.len(), replay[0].id), (1, second.id));
    assert_eq!(queue.committed(replay, yes(1)).len(), 1);
    queue.push_release(release_of(&second));
    let release = releases(queue.next_batch(Instant::now()));
    assert_eq!(release[0].certainty, Certainty::Unsure, "the first copy may still arrive");
    queue.released(&release);
    assert!(queue.doubtful.is_empty() && queue.asked.is_empty());
}

#[test]
fn what_was_released_while_under_way_is_not_sent_again() {
    let mut queue = queue();
    let sent = op("a");
    queue.push_commit(sent.clone(), "x").unwrap();
    let batch = queue.next_batch(Instant::now()).unwrap();
    queue.push_release(release_of(&sent));
    assert_eq!(queue.unknown(batch), [("x", Err(NoAnswer::Cancelled))]);
    assert!(releases(queue.next_batch(Instant::now())).iter().all(|release| release.certainty == Certainty::Unsure));
}

#[test]
fn a_doubtful_commit_that_is_denied_is_buried() {
    let mut queue = queue();
    let sent = op("a");
    queue.push_commit(sent.clone(), "x").unwrap();
    let batch = queue.next_batch(Instant::now()).unwrap();
    queue.unknown(batch);
    let replay = commits(queue.next_batch(Instant::now()));
    queue.committed(replay, vec![Answer::Denied(Denied { hold: sent.holds[0].id, holders: Vec::new() })]);
    assert_eq!(releases(queue.next_batch(Instant::now()))[0].certainty, Certainty::Unsure);
}

#[test]
fn releases_without_an_answer_keep_their_order() {
    let mut queue = queue();
    for resource in ["a", "b", "c"] {
        queue.push_release(release_of(&op(resource)));
    }
    let batch = queue.next_batch(Instant::now()).unwrap();
    queue.unknown(batch);
    assert_eq!(resources(&queue.next_batch(Instant::now()).unwrap()), ["a", "b"]);
}

#[test]
fn of_a_refused_batch_each_is_tried_alone() {
    let mut queue = queue();
    queue.push_commit(op("good"), "good").unwrap();
    queue.push_commit(op("bad"), "bad").unwrap();
    let batch = queue.next_batch(Instant::now()).unwrap();
    assert!(queue.refused(batch).is_empty());
    let good = commits(queue.next_batch(Instant::now()));
    assert_eq!(queue.committed(good, yes(1))[0].0, "good");
    let bad = queue.next_batch(Instant::now()).unwrap();
    assert_eq!(queue.refused(bad), [("bad", Err(NoAnswer::Refused))]);
    assert!(queue.is_idle());
}

#[test]
fn a_caller_who_leaves_takes_its_commit_along() {
    let mut queue = queue();
    let (unsent, sent) = (op("a"), op("b"));
    queue.push_commit(unsent.clone(), "x").unwrap();
    assert_eq!(queue.abandon(&unsent), [("x", Err(NoAnswer::Cancelled))]);
    queue.push_commit(sent.clone(), "y").unwrap();
    let batch = commits(queue.next_batch(Instant::now()));
    assert!(queue.abandon(&sent).is_empty());
    queue.committed(batch, yes(1));
    assert_eq!(resources(&queue.next_batch(Instant::now()).unwrap()), ["b"], "what was written is released");
}

#[test]
fn a_caller_who_leaves_just_after_the_answer_leaves_no_hold_behind() {
    let mut queue = queue();
    let answered = op("a");
    queue.push_commit(answered.clone(), "x").unwrap();
    let batch = commits(queue.next_batch(Instant::now()));
    assert_eq!(queue.committed(batch, yes(1)).len(), 1, "the answer is on its way, and nobody will look at it");
    assert!(queue.abandon(&answered).is_empty());
    assert_eq!(resources(&queue.next_batch(Instant::now()).expect("it is released")), ["a"]);
}

#[test]
fn an_end_whose_events_are_refused_still_ends_the_holds() {
    let mut queue = queue();
    let event =
        NewEvent { kind: EventKind::Event, event_type: "Left".into(), key: "a".into(), principal: None, payload: serde_json::Value::Null };
    queue.push_release(ReleaseOp { events: vec![event], ..release_of(&op("a")) });
    let batch = queue.next_batch(Instant::now()).unwrap();
    queue.refused(batch);
    let again = releases(queue.next_batch(Instant::now()));
    assert_eq!((again[0].holds.len(), again[0].events.len()), (1, 0));
    queue.refused(Batch::Releases(again));
    assert!(queue.is_idle(), "what remains is for the comparison with the store");
}

#[test]
fn nothing_is_remembered_of_a_doubtful_commit_that_is_gone() {
    let mut queue = queue();
    queue.push_commit(op("a"), "x").unwrap();
    let batch = queue.next_batch(Instant::now()).unwrap();
    queue.unknown(batch);
    let replay = commits(queue.next_batch(Instant::now()));
    queue.committed(replay, vec![Answer::Gone]);
    assert!(queue.doubtful.is_empty() && queue.is_idle());
    // And of one whose call comes back when the node is fenced already.
    queue.push_commit(op("b"), "y").unwrap();
    let batch = queue.next_batch(Instant::now()).unwrap();
    queue.fenced(None);
    queue.unknown(batch);
    assert!(queue.doubtful.is_empty() && queue.is_idle());
}

#[test]
fn a_fenced_node_forgets_everything() {
    let mut queue = queue();
    queue.push_commit(op("a"), "x").unwrap();
    let _batch = queue.next_batch(Instant::now()).unwrap();
    queue.push_commit(op("b"), "y").unwrap();
    queue.push_release(release_of(&op("c")));
    assert_eq!(queue.fenced(None), [("x", Err(NoAnswer::Fenced)), ("y", Err(NoAnswer::Fenced))]);
    assert!(queue.is_idle());
}

/// The end of a connection, with what its handler says of it.
fn end(resource: &str, said: &str) -> ReleaseOp {
    let key = resource.to_owned();
    let event = NewEvent { kind: EventKind::Event, event_type: said.to_owned(), key, principal: None, payload: serde_json::Value::Null };
    ReleaseOp { events: vec![event], ..release_of(&op(resource)) }
}

#[test]
fn what_was_said_at_an_end_is_still_to_be_written_after_a_fencing() {
    let mut queue = queue();
    for end in [end("a", "first"), release_of(&op("b")), end("c", "second")] {
        queue.push_release(end);
    }
    // The first two are on their way, and come back refused.
    let batch = queue.next_batch(Instant::now());
    assert!(queue.fenced(batch).is_empty());
    let owed = releases(queue.next_batch(Instant::now()));
    let said: Vec<&str> = owed.iter().flat_map(|op| &op.events).map(|event| event.event_type.as_str()).collect();
    assert_eq!(said, ["first", "second"]);
    assert!(owed.iter().all(|op| op.holds.is_empty()), "the holds are the sweep's");
    queue.released(&owed);
    assert!(queue.is_idle());
}

#[test]
fn what_waits_for_the_next_incarnation_is_not_given_up_with_the_last_call_of_the_former() {
    let mut queue = queue();
    queue.push_release(end("a", "said"));
    let late = queue.next_batch(Instant::now()).unwrap();
    assert!(queue.fenced(None).is_empty());
    queue.push_commit(op("b"), "new").unwrap();
    assert!(queue.outlived(late).is_empty());
    let owed = releases(queue.next_batch(Instant::now()));
    assert_eq!(owed[0].events[0].event_type, "said");
    queue.released(&owed);
    assert_eq!(commits(queue.next_batch(Instant::now())).len(), 1);
}

/// Two resources in different shards of four, and one more in the shard of the first.
const SHARDS: u16 = 4;

fn in_shard(shard: i16, not: &str) -> String {
    let name = |n: usize| format!("resource-{n}");
    (0..).map(name).find(|name| name != not && Shard::of("app", name, SHARDS) == Shard(shard)).unwrap()
}

#[test]
fn a_shard_that_is_locked_keeps_only_its_own_ops_waiting() {
    let (stuck, later, free) = (in_shard(1, ""), in_shard(1, &in_shard(1, "")), in_shard(2, ""));
    // Of a connection each: those of one connection stay in order.
    let op = |resource: &str| CommitOp { socket_id: format!("1.{}", resource.len() + usize::from(resource.as_bytes()[9])), ..op(resource) };
    let mut queue = LaneQueue::new(LaneLimits { waiting: 10, ends: 100, commits: 10, releases: 10, shards: SHARDS });
    let start = Instant::now();
    for resource in [&stuck, &free] {
        queue.push_commit(op(resource), "x").unwrap();
    }
    let both = queue.next_batch(start).unwrap();
    assert_eq!(resources(&both), [stuck.as_str(), &free]);
    assert!(queue.blocked(both, start).is_empty());

    // Each shard is tried alone; the one that is stuck then waits, and the other is as good as any.
    let (mut tried, mut answered) = (Vec::new(), 0);
    while let Some(batch) = queue.next_batch(start) {
        let name = resources(&batch)[0].to_owned();
        tried.push(name.clone());
        if name == stuck {
            assert!(queue.blocked(batch, start).is_empty());
        } else {
            answered += queue.committed(commits(Some(batch)), yes(1)).len();
        }
    }
    tried.sort();
    let mut expected = [stuck.clone(), free.clone()];
    expected.sort();
    assert_eq!((tried, answered), (expected.to_vec(), 1));

    // What comes for it waits with it, and ends of others pass.
    queue.push_commit(op(&later), "y").unwrap();
    queue.push_release(release_of(&op(&free)));
    let batch = queue.next_batch(start).unwrap();
    assert_eq!(resources(&batch), [free.as_str()]);
    queue.released(&releases(Some(batch)));
    assert!(queue.next_batch(start).is_none() && queue.next_trial() > Some(start));

    let then = queue.next_trial().unwrap();
    let batch = queue.next_batch(then).unwrap();
    assert_eq!(resources(&batch), [stuck.as_str(), &later]);
    assert_eq!(queue.committed(commits(Some(batch)), yes(2)).len(), 2);
    assert!(queue.is_idle() && queue.next_trial().is_none());
}

#[test]
fn what_was_never_sent_is_simply_withdrawn_from_a_locked_shard() {
    let mut queue = queue();
    let waits = op("a");
    queue.push_commit(waits.clone(), "x").unwrap();
    let now = Instant::now();
    let batch = queue.next_batch(now).unwrap();
    queue.blocked(batch, now);
    assert_eq!(queue.abandon(&waits).len(), 1);
    assert!(queue.is_idle(), "nothing may have been written, so nothing is to be released");
}
