use std::collections::VecDeque;

use super::*;
use crate::lifecycle::store::{
    BootId, Certainty, CloseCause, Cursor, Ending, EventKind, HoldId, IfTaken, LockQuery, Mode, Naming, NewEvent, NewHold, NewNode, OpId,
    SqliteStore, StoreLimits,
};

/// A store in memory whose answers get lost, or whose calls never arrive, as the script says.
struct Unreliable {
    store: SqliteStore,
    script: Mutex<VecDeque<Fate>>,
    calls: Mutex<Vec<usize>>,
}

#[derive(Clone, Copy)]
enum Fate {
    Lost,
    AnswerLost,
}

fn no_answer() -> StoreError {
    StoreError::Unavailable { source: "the line is cut".into() }
}

impl Unreliable {
    async fn new(script: &[Fate]) -> (Arc<Self>, Incarnation) {
        let store = SqliteStore::in_memory(StoreLimits::default()).await.unwrap();
        let node = NewNode { name: "n".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3), naming: Naming::Shared };
        let node = store.register(&node).await.unwrap();
        (Arc::new(Self { store, script: Mutex::new(script.iter().copied().collect()), calls: Mutex::default() }), node)
    }

    async fn through<T>(&self, call: StoreFuture<'_, T>) -> Result<T, StoreError> {
        let fate = self.script.lock().pop_front();
        match fate {
            Some(Fate::Lost) => Err(no_answer()),
            Some(Fate::AnswerLost) => {
                call.await?;
                Err(no_answer())
            }
            None => call.await,
        }
    }

    async fn story(&self) -> Vec<String> {
        let (log, _) = self.store.events_after(&Cursor::start(1), 10_000).await.unwrap();
        log.into_iter().map(|event| format!("{} {}", event.event_type, event.resource)).collect()
    }

    async fn live(&self) -> usize {
        self.store.locks(&LockQuery { limit: 10_000, ..LockQuery::default() }).await.unwrap().len()
    }
}

impl LaneWriter for Unreliable {
    fn shards(&self) -> u16 {
        1
    }

    fn commit<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [CommitOp]) -> StoreFuture<'a, Vec<Answer>> {
        self.calls.lock().push(ops.len());
        Box::pin(self.through(self.store.commit(lane, node, ops)))
    }

    fn release<'a>(&'a self, lane: Lane, node: Incarnation, ops: &'a [ReleaseOp]) -> StoreFuture<'a, u64> {
        Box::pin(self.through(self.store.release(lane, node, ops)))
    }
}

fn op(socket_id: &str, resource: &str) -> CommitOp {
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
    CommitOp { id: OpId::random(), socket_id: socket_id.to_owned(), app: "app".to_owned(), holds: vec![hold], events: Vec::new() }
}

fn end(op: &CommitOp) -> ReleaseOp {
    ReleaseOp {
        id: OpId::random(),
        socket_id: op.socket_id.clone(),
        app: op.app.clone(),
        holds: op.holds.iter().map(|hold| (hold.id, hold.resource.clone())).collect(),
        events: Vec::new(),
        cause: CloseCause::Gone,
        ending: Ending::Unclean,
        certainty: Certainty::Sure,
        detected_at: None,
    }
}

fn lanes(store: &Arc<Unreliable>) -> Lanes {
    Lanes::start(Arc::clone(store), LaneLimits::default(), StoreLimits::default())
}

#[tokio::test]
async fn what_waits_while_a_call_is_under_way_makes_the_next_one() {
    let (store, node) = Unreliable::new(&[]).await;
    let lanes = lanes(&store);
    let all: Vec<_> = (0..400).map(|n| op("1.1", &format!("order:{n}"))).collect();
    let answers = futures_util::future::join_all(all.iter().map(|op| lanes.commit(op.clone())));
    let (answers, ()) = tokio::join!(answers, async { lanes.write_as(node) });
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Answer::Committed(_)))));
    assert!(store.calls.lock().len() <= 3, "{:?}", store.calls.lock());
    for op in &all {
        lanes.release(end(op));
    }
    lanes.flushed().await;
    assert_eq!((store.live().await, lanes.waiting()), (0, 0));
}

#[tokio::test]
async fn lost_calls_and_lost_answers_end_in_one_lock_and_one_unlock() {
    for script in [&[Fate::Lost][..], &[Fate::AnswerLost], &[Fate::AnswerLost, Fate::Lost, Fate::AnswerLost]] {
        let (store, node) = Unreliable::new(script).await;
        let lanes = lanes(&store);
        lanes.write_as(node);
        let op = op("1.1", "order:1");
        assert!(matches!(lanes.commit(op.clone()).await, Ok(Answer::Committed(granted)) if granted.len() == 1));
        store.script.lock().extend(script.iter().copied());
        lanes.release(end(&op));
        lanes.flushed().await;
        assert_eq!(store.story().await, ["OrderLocked order:1", "OrderUnlocked order:1"]);
        // The first copy, at last.
        assert_eq!(store.store.commit(Lane(0), node, &[op]).await.unwrap(), [Answer::Gone]);
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_no_lock() {
    let (store, node) = Unreliable::new(&[Fate::AnswerLost]).await;
    let lanes = lanes(&store);
    lanes.write_as(node);
    let given_up = tokio::time::timeout(Duration::from_millis(20), lanes.commit(op("1.1", "order:1"))).await;
    assert!(given_up.is_err());
    lanes.flushed().await;
    assert_eq!(store.live().await, 0);
    assert!(matches!(lanes.commit(op("1.1", "order:1")).await, Ok(Answer::Committed(_))), "it is free");
}

#[tokio::test]
async fn a_fenced_node_says_so_and_writes_again_as_its_next_incarnation() {
    let (store, node) = Unreliable::new(&[]).await;
    let lanes = lanes(&store);
    lanes.write_as(node);
    store.store.deregister(node).await.unwrap();
    assert_eq!(lanes.commit(op("1.1", "order:1")).await, Err(NoAnswer::Fenced));
    assert_eq!(*lanes.node().borrow(), None);
    let next = NewNode { name: "n".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3), naming: Naming::Shared };
    lanes.write_as(store.store.register(&next).await.unwrap());
    assert!(matches!(lanes.commit(op("1.1", "order:1")).await, Ok(Answer::Committed(_))));
}

/// The end of a connection that holds nothing, and what its handler says of it.
fn said(name: &str) -> ReleaseOp {
    let (event_type, key) = (name.to_owned(), "order:1".to_owned());
    ReleaseOp {
        id: OpId::random(),
        socket_id: "1.1".to_owned(),
        app: "app".to_owned(),
        holds: Vec::new(),
        events: vec![NewEvent { kind: EventKind::Event, event_type, key, principal: None, payload: serde_json::Value::Null }],
        cause: CloseCause::Gone,
        ending: Ending::Unclean,
        certainty: Certainty::Sure,
        detected_at: None,
    }
}

#[tokio::test]
async fn what_is_said_at_ends_while_the_store_is_away_is_bounded_and_the_holds_end_all_the_same() {
    let (store, node) = Unreliable::new(&[]).await;
    let before = lanes(&store);
    before.write_as(node);
    let held = op("1.1", "order:1");
    assert!(matches!(before.commit(held.clone()).await, Ok(Answer::Committed(_))));
    let lanes = Lanes::start(Arc::clone(&store), LaneLimits { ends: 2, ..LaneLimits::default() }, StoreLimits::default());
    ["First", "Second", "Third", "Fourth"].iter().for_each(|name| lanes.release(said(name)));
    lanes.release(ReleaseOp { events: said("Fifth").events, ..end(&held) });
    assert_eq!(lanes.waiting(), 3, "an end that has nothing left to say needs no place");
    lanes.write_as(node);
    lanes.flushed().await;
    assert_eq!(store.story().await, ["OrderLocked order:1", "First order:1", "Second order:1", "OrderUnlocked order:1"]);
}

#[tokio::test]
async fn what_a_handler_said_at_an_end_outlives_the_incarnation_and_is_written_once() {
    let (store, node) = Unreliable::new(&[Fate::AnswerLost]).await;
    let lanes = lanes(&store);
    lanes.release(said("First"));
    lanes.release(said("Second"));
    // Written, but the answer is lost; the next try is refused.
    lanes.write_as(node);
    while store.story().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store.store.deregister(node).await.unwrap();
    lanes.release(said("Third"));
    lanes.node().wait_for(Option::is_none).await.unwrap();
    lanes.stop_writing();
    let next = NewNode { name: "n".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3), naming: Naming::Shared };
    lanes.write_as(store.store.register(&next).await.unwrap());
    lanes.flushed().await;
    assert_eq!(store.story().await, ["First order:1", "Second order:1", "Third order:1"]);
}

#[tokio::test]
async fn any_store_can_be_behind_the_lanes() {
    let store: Arc<dyn LifecycleStore> = Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap());
    let node = NewNode { name: "n".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3), naming: Naming::Shared };
    let lanes = Lanes::start(Arc::clone(&store), LaneLimits::default(), StoreLimits::default());
    lanes.write_as(store.register(&node).await.unwrap());
    assert!(matches!(lanes.commit(op("1.1", "order:1")).await, Ok(Answer::Committed(_))));
    lanes.written().notified().await;
}
