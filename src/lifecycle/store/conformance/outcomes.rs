//! Ops as wholes, the log as a whole, and nodes that stop.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::harness::{Case, LANE, event, gone, hold, new_node, one, op};
use crate::lifecycle::store::*;

pub(super) async fn one_refused_hold_undoes_the_op_and_not_the_batch(case: Case) {
    let taken = one("order:2", "user:1", |_| ());
    case.take(&taken).await;
    let refused = CommitOp {
        events: vec![event("Opened", "order:1")],
        ..op("2.2", vec![hold("order:1", "user:2"), hold("order:2", "user:2"), hold("order:3", "user:2")])
    };
    let other = one("order:4", "user:2", |_| ());
    let answers = case.store.commit(LANE, case.node, &[refused.clone(), other.clone()]).await.unwrap();
    let Answer::Denied(denied) = &answers[0] else { panic!("not denied: {answers:?}") };
    assert_eq!((denied.hold, denied.holders[0].principal.as_str()), (refused.holds[1].id, "user:1"));
    assert!(matches!(&answers[1], Answer::Committed(granted) if granted.len() == 1));
    let resources: Vec<_> = case.store.locks(&LockQuery::default()).await.unwrap().into_iter().map(|lock| lock.resource).collect();
    assert_eq!(resources, ["order:2", "order:4"]);
    assert_eq!(case.log().await.len(), 2, "no event either");
    // When it is free, the same op succeeds, whole.
    case.release(&gone(&taken)).await;
    assert!(matches!(case.commit(&refused).await, Answer::Committed(granted) if granted.len() == 3));
    assert_eq!(case.log().await.len(), 2 + 1 + 3 + 1);
    case.check().await;
}

pub(super) async fn events_and_holds_stand_in_the_log_in_order(case: Case) {
    let op = CommitOp { events: vec![event("A", "order:1"), event("B", "order:1")], ..one("order:1", "user:1", |_| ()) };
    case.take(&op).await;
    assert_eq!(case.story().await, ["OrderLocked#1", "A", "B"]);
    let log = case.log().await;
    assert_eq!((log[1].kind, log[1].fence, log[1].payload.clone()), (EventKind::Event, None, json!({ "name": "A" })));
    assert_eq!((log[0].kind, log[0].principal.as_deref(), log[0].socket_id.as_deref()), (EventKind::Locked, Some("user:1"), Some("1.1")));
    assert_eq!(case.store.event(log[1].shard, log[1].position).await.unwrap(), Some(log[1].clone()));
    let webhook = CommitOp {
        events: vec![NewEvent { kind: EventKind::Webhook, principal: Some("user:9".to_owned()), ..event("channel_vacated", "room") }],
        ..op_without_holds()
    };
    assert_eq!(case.commit(&webhook).await, Answer::Committed(Vec::new()));
    let entry = case.log().await.into_iter().find(|event| event.kind == EventKind::Webhook).unwrap();
    assert_eq!(entry.principal.as_deref(), Some("user:9"));
    case.check().await;
}

fn op_without_holds() -> CommitOp {
    op("1.1", Vec::new())
}

pub(super) async fn events_of_a_replayed_op_are_not_appended_twice(case: Case) {
    let only_events = CommitOp { events: vec![event("A", "order:1"), event("B", "order:2")], ..op_without_holds() };
    let with_hold = CommitOp { events: vec![event("C", "order:3")], ..one("order:3", "user:1", |_| ()) };
    let closing = ReleaseOp { events: vec![event("D", "order:3")], ..gone(&with_hold) };
    for _ in 0..2 {
        assert_eq!(case.commit(&only_events).await, Answer::Committed(Vec::new()));
        case.take(&with_hold).await;
    }
    assert_eq!(case.release(&closing).await, 2);
    assert_eq!(case.release(&closing).await, 0);
    assert_eq!(case.log().await.len(), 6);
    case.check().await;
}

pub(super) async fn a_close_writes_its_events_before_its_unlocks(case: Case) {
    let first = one("order:1", "user:1", |_| ());
    let second = CommitOp { socket_id: "2.2".to_owned(), ..one("order:1", "user:1", |_| ()) };
    case.take(&first).await;
    case.take(&second).await;
    let ends = [
        ReleaseOp { events: vec![event("Left", "order:1")], ..gone(&first) },
        ReleaseOp { events: vec![event("Saved", "order:1")], cause: CloseCause::ClientClosed, ..gone(&second) },
    ];
    assert_eq!(case.store.release(LANE, case.node, &ends).await.unwrap(), 3);
    assert_eq!(case.story().await, ["OrderLocked#1", "Left", "Saved", "OrderUnlocked#1(client_closed)"]);
    case.check().await;
}

pub(super) async fn what_cannot_be_stored_is_refused_alone(case: Case) {
    let long = "x".repeat(201);
    let wrong: Vec<CommitOp> = vec![
        one("", "user:1", |_| ()),
        one(&long, "user:1", |_| ()),
        one("order:1", "", |_| ()),
        one("order:1", &long, |_| ()),
        one("order:\0", "user:1", |_| ()),
        one("order:1", "user:1", |hold| hold.context = json!({ "deep": ["\0"] })),
        one("order:1", "user:1", |hold| hold.context = json!("x".repeat(4096))),
        one("order:1", "user:1", |hold| hold.topic.clear()),
        one("order:1", "user:1", |hold| hold.topic = "/UserOffline".to_owned()),
        one("order:1", "user:1", |hold| hold.topic = "UserOnline/".to_owned()),
        one("order:1", "user:1", |hold| hold.topic = "A/B/C".to_owned()),
        one("order:1", "user:1", |hold| hold.grace = Duration::from_secs(1 << 32)),
        op("1.1", vec![hold("order:1", "user:1"), hold("order:1", "user:1")]),
        op("1.1", (0..101).map(|n| hold(&format!("order:{n}"), "user:1")).collect()),
        op("", vec![hold("order:1", "user:1")]),
        CommitOp { events: vec![event("", "order:1")], ..op_without_holds() },
        CommitOp { events: vec![event("A", "")], ..op_without_holds() },
        CommitOp { events: vec![NewEvent { kind: EventKind::Unlocked, ..event("A", "b") }], ..op_without_holds() },
    ];
    let mut batch = wrong.clone();
    let widest = "ü".repeat(100);
    batch.push(one(&widest, &widest, |hold| hold.context = json!(vec![1e300; 500])));
    let answers = case.store.commit(LANE, case.node, &batch).await.unwrap();
    for (op, answer) in wrong.iter().zip(&answers) {
        assert!(matches!(answer, Answer::Invalid(_)), "{op:?}: {answer:?}");
    }
    assert!(matches!(answers.last(), Some(Answer::Committed(_))), "{:?}", answers.last());
    assert_eq!(case.log().await.len(), 1);
    let release = ReleaseOp { events: vec![event("A", "")], ..gone(&batch[wrong.len()]) };
    assert!(matches!(case.store.release(LANE, case.node, &[release]).await, Err(StoreError::Invalid(_))));
}

pub(super) async fn a_pair_of_names_is_what_its_events_are_called(case: Case) {
    let pair = |resource: &str, principal: &str| {
        one(resource, principal, |hold| {
            hold.topic = "UserOnline/UserOffline".to_owned();
            hold.if_taken = IfTaken::Take;
        })
    };
    // One by one, in a batch, taken over, forced, after a grace, of a dead node: whatever writes the log.
    let single = pair("user:1", "user:1");
    case.take(&single).await;
    case.release(&gone(&single)).await;
    let batch: Vec<_> = (2..7).map(|n| pair(&format!("user:{n}"), "user:1")).collect();
    case.store.commit(LANE, case.node, &batch).await.unwrap();
    let taker = case.take(&pair("user:2", "user:2")).await;
    case.store.force_release(case.node, taker.fence, CloseCause::Kicked).await.unwrap();
    let mut graceful = pair("user:9", "user:9");
    graceful.holds[0].grace = Duration::from_millis(1);
    case.take(&graceful).await;
    case.release(&gone(&graceful)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    case.sweep().await;
    case.store.deregister(case.node).await.unwrap();
    let node = case.store.register(&new_node("node-2")).await.unwrap();
    let case = Case { node, ..case };
    case.sweep().await;
    for event in case.log().await {
        let expected = if event.kind == EventKind::Locked { "UserOnline" } else { "UserOffline" };
        assert_eq!(event.event_type, expected, "{event:?}");
    }
    assert_eq!(case.log().await.len(), 2 * (1 + 5 + 1 + 1));
}

pub(super) async fn digests_follow_the_holds(case: Case) {
    assert_eq!(case.store.digest(case.node).await.unwrap(), HoldDigest::default());
    let (first, second) = (one("order:1", "user:1", |_| ()), one("order:2", "user:1", |_| ()));
    case.take(&first).await;
    case.take(&second).await;
    let ids = [first.holds[0].id, second.holds[0].id];
    assert_eq!(case.store.digest(case.node).await.unwrap(), ids.into_iter().collect());
    let held = case.store.holds_of(case.node).await.unwrap();
    assert_eq!(held.iter().map(|held| (held.hold, held.resource.as_str())).collect::<Vec<_>>(), [(ids[0], "order:1"), (ids[1], "order:2")]);
    case.release(&gone(&first)).await;
    assert_eq!(case.store.digest(case.node).await.unwrap(), ids[1..].iter().copied().collect());
}

pub(super) async fn positions_are_dense_under_concurrent_writers(case: Case) {
    const TASKS: u8 = 8;
    const ROUNDS: usize = 20;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, node) = (Arc::clone(&case.store), case.node);
        tasks.spawn(async move {
            let lane = Lane(task % Lane::COUNT);
            for round in 0..ROUNDS {
                // Some resources are everybody's, and all orders of shards occur.
                let ops: Vec<_> = (0..5usize)
                    .map(|n| {
                        let key = if n == 0 { round % 7 } else { usize::from(task) * 1000 + round * 5 + n };
                        let alter = |hold: &mut NewHold| hold.if_taken = IfTaken::Take;
                        CommitOp {
                            events: vec![event("A", &format!("key:{key}"))],
                            ..one(&format!("order:{key}"), &format!("user:{task}"), alter)
                        }
                    })
                    .collect();
                let answers = store.commit(lane, node, &ops).await.unwrap();
                assert!(answers.iter().all(|answer| matches!(answer, Answer::Committed(_) | Answer::Gone)));
                let ends: Vec<_> = ops.iter().map(gone).collect();
                store.release(lane, node, &ends).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    case.check().await;
    let log = case.log().await;
    let count = |kind| log.iter().filter(|event| event.kind == kind).count();
    assert_eq!(count(EventKind::Locked), count(EventKind::Unlocked));
    assert_eq!(count(EventKind::Event), usize::from(TASKS) * ROUNDS * 5);
    assert!(case.store.locks(&LockQuery::default()).await.unwrap().is_empty());
    // Per resource: L1 U1 L2 U2 …, fences rising.
    let mut open = std::collections::HashMap::new();
    for event in log.iter().filter(|event| event.fence.is_some()) {
        let (last, held) = open.entry(event.resource.clone()).or_insert((Fence(0), false));
        let fence = event.fence.unwrap();
        match event.kind {
            EventKind::Locked => assert!(!*held && fence > *last, "{event:?}"),
            _ => assert!(*held && fence == *last, "{event:?}"),
        }
        (*last, *held) = (fence, !*held);
    }
}

pub(super) async fn sweeping_a_stopped_node_is_bounded(case: Case) {
    let ops: Vec<_> = (0..50)
        .map(|n| one(&format!("order:{n}"), "user:1", |hold| hold.grace = Duration::from_secs(if n < 10 { 60 } else { 0 })))
        .collect();
    case.store.commit(LANE, case.node, &ops).await.unwrap();
    case.store.deregister(case.node).await.unwrap();
    // A store for one node sweeps as it registers the next; there, passes show only in the result.
    let next = case.store.register(&new_node("node-2")).await.unwrap();
    let case = Case { node: next, ..case };
    for shard in case.store.due_shards().await.unwrap() {
        loop {
            match case.store.sweep(case.node, shard, 3).await.unwrap() {
                Swept::Done(0) => break,
                Swept::Done(done) => assert!(done <= 3),
                Swept::Busy => {}
            }
        }
    }
    assert_eq!(case.store.finish_dead(case.node).await.unwrap() + u64::from(case.shards() == 1), 1);
    let live = case.store.locks(&LockQuery::default()).await.unwrap();
    assert!(live.len() == 10 && live.iter().all(|lock| lock.state == LockState::Grace && lock.cause == Some(CloseCause::Shutdown)));
    assert_eq!(case.log().await.len(), 50 + 40);
    case.check().await;
}

pub(super) async fn a_cursor_walks_the_whole_log_once(case: Case) {
    let ops: Vec<_> = (0..40).map(|n| one(&format!("order:{n}"), "user:1", |_| ())).collect();
    case.store.commit(LANE, case.node, &ops).await.unwrap();
    let (mut cursor, mut seen) = (Cursor::start(case.shards()), Vec::new());
    loop {
        let (events, next) = case.store.events_after(&cursor.to_string().parse().unwrap(), 7).await.unwrap();
        assert!(events.len() <= 7);
        if events.is_empty() {
            break;
        }
        seen.extend(events);
        cursor = next;
    }
    assert_eq!(cursor, case.store.head().await.unwrap());
    let mut fences: Vec<_> = seen.iter().filter_map(|event| event.fence).collect();
    fences.sort();
    fences.dedup();
    assert_eq!((seen.len(), fences.len()), (40, 40));
    assert!(matches!(case.store.events_after(&Cursor::start(3), 1).await, Err(StoreError::BadCursor)));
}

pub(super) async fn a_batch_answers_as_its_ops_would_one_by_one(case: Case) {
    let by = |resource: &str, principal: &str| one(resource, principal, |_| ());
    let (before, late) = (by("order:0", "user:1"), by("order:7", "user:1"));
    case.take(&before).await;
    case.release(&ReleaseOp { certainty: Certainty::Unsure, ..gone(&late) }).await;
    let batch = vec![
        by("order:1", "user:1"),
        by("order:2", "user:1"),
        by("order:2", "user:2"),
        by("order:1", "user:1"),
        CommitOp { events: vec![event("Seen", "order:4")], ..by("order:3", "user:1") },
        by("order:4", "user:1"),
        before,
        late,
        op("1.1", vec![hold("order:5", "user:1"), hold("order:6", "user:1")]),
        op("1.1", vec![hold("order:8", "user:2"), hold("order:2", "user:2")]),
    ];
    let answers = case.store.commit(LANE, case.node, &batch).await.unwrap();
    let words: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Committed(granted) => granted.iter().map(|granted| granted.outcome.as_str()).collect::<Vec<_>>().join(" "),
            Answer::Denied(_) => "denied".to_owned(),
            Answer::Gone => "gone".to_owned(),
            Answer::Invalid(_) => "invalid".to_owned(),
        })
        .collect();
    let expected = ["granted", "granted", "denied", "attached", "granted", "granted", "granted", "gone", "granted granted", "denied"];
    assert_eq!(words, expected);
    let log = case.log().await;
    let of = |key: &str| log.iter().filter(|event| event.resource == key).map(|event| event.event_type.as_str()).collect::<Vec<_>>();
    assert_eq!(of("order:4"), ["Seen", "OrderLocked"]);
    assert_eq!((of("order:2"), of("order:8").len(), log.len()), (vec!["OrderLocked"], 0, 8));
    case.check().await;
}
