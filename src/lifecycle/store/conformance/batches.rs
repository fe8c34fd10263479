//! Batches against a model: a store in memory that gets the same ops one by one.

use std::{collections::BTreeMap, time::Duration};

use super::harness::{Case, LANE, end, event, hold, new_node, op};
use crate::lifecycle::store::*;

/// A small generator: the same numbers for the same seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn resource(&mut self, seed: u64) -> String {
        format!("{seed}:{}", self.below(9))
    }

    fn op(&mut self, seed: u64) -> CommitOp {
        let socket = self.below(8);
        let mut holds: Vec<NewHold> = Vec::new();
        for _ in 0..self.one_of(&[0, 1, 1, 1, 2]) {
            let resource = self.resource(seed);
            if holds.iter().all(|hold| hold.resource != resource) {
                let mut new = hold(&resource, &format!("user:{}", socket % 3));
                new.mode = self.one_of(&[Mode::Exclusive, Mode::Exclusive, Mode::Shared]);
                new.if_taken = self.one_of(&[IfTaken::Deny, IfTaken::Deny, IfTaken::TakeIfInGrace, IfTaken::Take]);
                new.grace = self.one_of(&[Duration::ZERO, Duration::from_secs(3600)]);
                holds.push(new);
            }
        }
        let events = (0..self.below(3)).map(|n| event(&format!("E{n}"), &self.resource(seed))).collect();
        CommitOp { events, ..op(&format!("{socket}.{socket}"), holds) }
    }
}

fn short(batch: &[CommitOp]) -> String {
    let hold =
        |hold: &NewHold| format!("{} {} {} {} {:?} {}", hold.resource, hold.principal, hold.mode, hold.if_taken, hold.grace, hold.id);
    let op = |(n, op): (usize, &CommitOp)| {
        let events: Vec<_> = op.events.iter().map(|event| event.key.as_str()).collect();
        format!("{n}: {} holds {:?}, events {events:?}\n", op.socket_id, op.holds.iter().map(hold).collect::<Vec<_>>())
    };
    batch.iter().enumerate().map(op).collect()
}

/// An answer without what two stores may number differently.
fn gist(answer: &Answer) -> String {
    match answer {
        Answer::Committed(granted) => {
            let mut words: Vec<_> = granted.iter().map(|g| format!("{} {} {}", g.hold, g.outcome, g.displaced.len())).collect();
            words.sort();
            format!("committed {words:?}")
        }
        Answer::Denied(denied) => {
            let mut holders: Vec<_> = denied.holders.iter().map(|h| format!("{} {} {}", h.principal, h.mode, h.state)).collect();
            holders.sort();
            format!("denied {} {holders:?}", denied.hold)
        }
        other => format!("{other:?}"),
    }
}

async fn live(store: &dyn LifecycleStore) -> Vec<String> {
    let locks = store.locks(&LockQuery { limit: 10_000, ..LockQuery::default() }).await.unwrap();
    let word = |lock: &LockRow| {
        let mut holders: Vec<_> = lock.holders.iter().map(|holder| holder.hold.to_string()).collect();
        holders.sort();
        format!("{} {} {} {} {:?} {holders:?}", lock.resource, lock.principal, lock.mode, lock.state, lock.cause)
    };
    let mut words: Vec<_> = locks.iter().map(word).collect();
    words.sort();
    words
}

/// What is promised about order: that of the locks of a resource, and that of what one connection wrote about it.
async fn stories(store: &dyn LifecycleStore) -> BTreeMap<String, Vec<String>> {
    let (log, _) = store.events_after(&Cursor::start(store.shards()), 1_000_000).await.unwrap();
    let mut stories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in log {
        let word = format!("{} {:?} {:?}", event.event_type, event.principal, event.cause);
        if event.fence.is_some() {
            stories.entry(event.resource.clone()).or_default().push(word.clone());
        }
        stories.entry(format!("{} {:?}", event.resource, event.socket_id)).or_default().push(word);
    }
    stories
}

pub(super) async fn a_batch_does_what_its_ops_would_one_by_one(case: Case) {
    let model = SqliteStore::in_memory(StoreLimits::default()).await.unwrap();
    let node = model.register(&new_node("model")).await.unwrap();
    for seed in 0..15 {
        let mut dice = Dice(seed);
        let mut sent: Vec<CommitOp> = Vec::new();
        for round in 0..6 {
            let at = format!("seed {seed}, round {round}");
            let mut batch: Vec<_> = (0..dice.one_of(&[1, 3, 6, 20])).map(|_| dice.op(seed)).collect();
            if !sent.is_empty() && dice.below(2) == 0 {
                batch.insert(dice.below(batch.len() as u64) as usize, sent[dice.below(sent.len() as u64) as usize].clone());
            }
            let answers = case.store.commit(LANE, case.node, &batch).await.unwrap();
            for (n, op) in batch.iter().enumerate() {
                let expected = model.commit(LANE, node, std::slice::from_ref(op)).await.unwrap();
                assert_eq!(gist(&answers[n]), gist(&expected[0]), "{at}, op {n} of\n{}", short(&batch));
            }
            assert_eq!(live(&*case.store).await, live(&model).await, "{at}:\n{}", short(&batch));
            sent.extend(batch);

            let ends: Vec<_> = (0..dice.below(8))
                .map(|_| {
                    let ended = &sent[dice.below(sent.len() as u64) as usize];
                    let ending = dice.one_of(&[Ending::Clean, Ending::Unclean]);
                    let certainty = dice.one_of(&[Certainty::Sure, Certainty::Sure, Certainty::Unsure]);
                    let events = (0..dice.below(2)).map(|_| event("Closed", &dice.resource(seed))).collect();
                    ReleaseOp { certainty, events, ..end(ended, ending, dice.one_of(&[CloseCause::Gone, CloseCause::Idle])) }
                })
                .collect();
            let mut appended = 0;
            for op in &ends {
                appended += model.release(LANE, node, std::slice::from_ref(op)).await.unwrap();
            }
            assert_eq!(case.store.release(LANE, case.node, &ends).await.unwrap(), appended, "{at}: {ends:#?}");
            assert_eq!(live(&*case.store).await, live(&model).await, "{at}: {ends:#?}");
        }
        assert_eq!(stories(&*case.store).await, stories(&model).await, "seed {seed}");
    }
    case.check().await;
}
