//! Parked entries that stop nobody: those that are late, and those that are dead.

use std::time::Duration;

use super::{
    consumers::{LEASE, claim, five_events, names},
    harness::{Case, event, op},
};
use crate::lifecycle::store::*;

/// One shard of five events, E0, E2 and E4 about one key, E1 and E3 about another.
struct Letters {
    case: Case,
    claim: Claim,
}

impl Letters {
    async fn new(case: Case) -> Self {
        let (claim, _) = five_events(&case).await;
        Self { case, claim }
    }

    async fn park(&mut self, reason: ParkReason) {
        assert_eq!(self.case.store.park(&self.claim, reason, Some("no")).await.unwrap(), Step::Done);
        self.claim.position += 1;
    }

    /// The entry `E{n}` stands at position `n + 1`.
    async fn set(&self, n: i64, reason: ParkReason) -> bool {
        self.case.store.set_parked_reason("orders", self.claim.shard, n + 1, reason).await.unwrap()
    }

    async fn fail(&self, n: i64) -> bool {
        self.case.store.note_parked_failure("orders", self.claim.shard, n + 1, "still no").await.unwrap()
    }

    async fn unpark(&self, n: i64) -> bool {
        self.case.store.unpark("orders", self.claim.shard, n + 1).await.unwrap()
    }

    async fn heads(&self, max_attempts: u32) -> Vec<String> {
        short(self.case.store.parked_heads("orders", max_attempts, 10).await.unwrap())
    }

    async fn parked(&self) -> Vec<String> {
        short(self.case.store.parked("orders", 10).await.unwrap())
    }

    async fn dead(&self) -> Vec<String> {
        short(self.case.store.dead(&DeadQuery::default()).await.unwrap())
    }

    async fn behind(&self, n: i64) -> Vec<String> {
        let first = self.case.store.event(self.claim.shard, n + 1).await.unwrap().unwrap();
        short(self.case.store.parked_behind("orders", &first, 10).await.unwrap())
    }

    async fn row(&self) -> ConsumerRow {
        let rows = self.case.store.consumers().await.unwrap();
        rows.into_iter().find(|row| row.name == "orders" && row.shard == self.claim.shard).unwrap()
    }
}

fn short(rows: Vec<ParkedRow>) -> Vec<String> {
    rows.into_iter().map(|row| format!("{} {} {}", row.event.event_type, row.reason, row.attempts)).collect()
}

pub(super) async fn what_is_late_is_tried_alone_while_others_pass(case: Case) {
    let mut letters = Letters::new(case).await;
    letters.park(ParkReason::Poison).await;
    letters.park(ParkReason::Poison).await;
    letters.park(ParkReason::BehindPoison).await;
    assert!(letters.fail(0).await);
    assert_eq!(letters.heads(9).await, ["E0 poison 1", "E1 poison 0"]);
    assert!(letters.set(0, ParkReason::Late).await);
    assert_eq!(letters.heads(9).await, ["E1 poison 0", "E2 behind-poison 0", "E0 late 1"], "what was behind it is the first now");
    assert_eq!(letters.heads(0).await, ["E0 late 1"], "by time, not by attempts");
    assert_eq!(letters.behind(0).await, ["E0 late 1"], "alone");
    assert_eq!(letters.behind(2).await, ["E2 behind-poison 0"]);
    let rest = [("E3".to_owned(), true), ("E4".to_owned(), true)];
    assert_eq!(names(&letters.case, &letters.claim).await, rest, "each has one before it that must go first");
    assert!(letters.unpark(2).await, "it is the first of those that keep the order");
    assert!(letters.set(1, ParkReason::Late).await);
    let rest = [("E3".to_owned(), false), ("E4".to_owned(), false)];
    assert_eq!(names(&letters.case, &letters.claim).await, rest);
    // A failure leaves it late, and what is late may be said so again.
    assert!(letters.fail(1).await && letters.set(1, ParkReason::Late).await);
    assert_eq!(letters.parked().await, ["E0 late 1", "E1 late 1"]);
    assert!(letters.unpark(1).await && letters.unpark(0).await);
    assert!(!letters.set(0, ParkReason::Late).await && !letters.set(0, ParkReason::Dead).await, "it is parked no more");
    assert!(letters.parked().await.is_empty());
}

pub(super) async fn a_late_entry_leaves_its_followers_in_their_order(case: Case) {
    let mut letters = Letters::new(case).await;
    for reason in [ParkReason::Poison, ParkReason::Late, ParkReason::BehindPoison, ParkReason::Poison, ParkReason::BehindPoison] {
        letters.park(reason).await;
    }
    assert!(letters.set(0, ParkReason::Late).await);
    assert_eq!(letters.behind(0).await, ["E0 late 0"]);
    assert_eq!(letters.behind(2).await, ["E2 behind-poison 0", "E4 behind-poison 0"]);
    assert!(!letters.unpark(4).await, "E2 goes first");
    assert!(letters.fail(2).await);
    assert_eq!(letters.heads(9).await, ["E2 poison 1", "E3 poison 0", "E0 late 0", "E1 late 0"]);
    assert!(letters.set(2, ParkReason::Dead).await);
    assert_eq!(letters.heads(9).await, ["E3 poison 0", "E4 behind-poison 0", "E0 late 0", "E1 late 0"]);
    assert_eq!(letters.behind(2).await, ["E4 behind-poison 0"], "the dead one is not among them");
    assert!(!letters.set(3, ParkReason::Poison).await && !letters.set(3, ParkReason::BehindPoison).await, "nothing becomes poison");
    assert_eq!(letters.parked().await, ["E0 late 0", "E1 late 0", "E3 poison 0", "E4 behind-poison 0"]);
    let row = letters.row().await;
    assert_eq!((row.parked, row.dead, row.lag()), (4, 1, 0));
}

pub(super) async fn dead_letters_block_nobody_and_can_be_replayed_and_dropped(case: Case) {
    let mut letters = Letters::new(case).await;
    letters.park(ParkReason::Dead).await;
    letters.park(ParkReason::Poison).await;
    assert!(letters.fail(1).await && letters.fail(1).await);
    let parked_at = async |n: i64| {
        let rows = letters.case.store.dead(&DeadQuery::default()).await.unwrap();
        rows.iter().find(|row| row.event.position == n + 1).unwrap().parked_at
    };
    letters.case.tamper("parked", "parked_at = {time}", Duration::from_secs(3600)).await;
    assert!(letters.set(1, ParkReason::Dead).await);
    let now = Timestamp::now().0;
    assert!(parked_at(0).await.0 > now + 3_000_000 && parked_at(1).await.0 <= now + 1_000, "since it was given up");
    assert_eq!(letters.dead().await, ["E0 dead 0", "E1 dead 2"]);
    let rest = ["E2", "E3", "E4"].map(|name| (name.to_owned(), false));
    assert_eq!(names(&letters.case, &letters.claim).await, rest, "nobody waits for them");
    assert!(letters.heads(9).await.is_empty() && letters.parked().await.is_empty());
    assert!(!letters.fail(1).await, "an attempt that was under way comes too late");
    assert_eq!((letters.row().await.parked, letters.row().await.dead), (0, 2));
    // Replayed, it is tried anew; what came later has passed it.
    assert!(letters.set(1, ParkReason::Late).await);
    assert_eq!(letters.heads(1).await, ["E1 late 0"]);
    assert!(letters.fail(1).await && letters.set(1, ParkReason::Dead).await && letters.set(1, ParkReason::Dead).await);
    assert_eq!(letters.dead().await, ["E0 dead 0", "E1 dead 1"]);
    assert!(letters.unpark(1).await && !letters.unpark(1).await);
    assert_eq!(letters.dead().await, ["E0 dead 0"]);
    // Who is set back gets it again, so it is dead no more.
    letters.case.store.rewind("orders", &Cursor::start(letters.case.shards())).await.unwrap();
    assert!(letters.dead().await.is_empty());
}

pub(super) async fn dead_letters_are_listed_page_by_page(case: Case) {
    for name in ["orders-b", "orders", "orders-a"] {
        case.store.create_consumer(name, StartAt::Beginning).await.unwrap();
    }
    let events = (0..6).map(|n| event(&format!("E{n}"), &format!("key:{n}"))).collect();
    case.commit(&CommitOp { events, ..op("1.1", Vec::new()) }).await;
    let mut all = 0;
    for name in ["orders-b", "orders", "orders-a"] {
        for mut claim in case.store.claim(name, "worker", LEASE).await.unwrap() {
            for reason in [ParkReason::Dead, ParkReason::Poison, ParkReason::Dead] {
                if case.store.park(&claim, reason, None).await.unwrap() == Step::Lost {
                    break;
                }
                claim.position += 1;
                all += usize::from(reason == ParkReason::Dead);
            }
        }
    }
    let mut listed: Vec<ParkedRow> = Vec::new();
    loop {
        let page = DeadQuery { after: listed.last().map(ParkedRow::place), limit: 2, ..DeadQuery::default() };
        let page = case.store.dead(&page).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed.len(), all);
    let places: Vec<_> = listed.iter().map(|row| (row.name.clone(), row.event.shard, row.event.position)).collect();
    assert!(places.is_sorted() && places.windows(2).all(|two| two[0] != two[1]), "{places:?}");
    assert!(listed.iter().all(|row| row.reason == ParkReason::Dead));
    let one = case.store.dead(&DeadQuery { name: Some("orders".to_owned()), ..DeadQuery::default() }).await.unwrap();
    assert!(one.len() == all / 3 && one.iter().all(|row| row.name == "orders"));
    let of_app = async |app: &str| case.store.dead(&DeadQuery { app: Some(app.to_owned()), ..DeadQuery::default() }).await.unwrap();
    assert_eq!((of_app(&one[0].event.app).await.len(), of_app("nobody").await.len()), (all, 0));
    let none = DeadQuery { name: Some("order".to_owned()), ..DeadQuery::default() };
    assert!(case.store.dead(&none).await.unwrap().is_empty());
}

pub(super) async fn dead_letters_outlive_the_log_and_are_forgotten_themselves(case: Case) {
    let mut letters = Letters::new(case).await;
    letters.park(ParkReason::Poison).await;
    letters.park(ParkReason::Dead).await;
    let ack = Ack { claim: &letters.claim, upto: 5 };
    assert_eq!(letters.case.store.acknowledge(ack).await.unwrap(), Step::Done);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (store, node, shard) = (&letters.case.store, letters.case.node, letters.claim.shard);
    let retain = async || store.retain(node, shard, Duration::ZERO, 100).await.unwrap();
    assert_eq!(retain().await, 0, "poison holds the log back");
    assert!(letters.set(0, ParkReason::Late).await);
    assert_eq!(retain().await, 0, "and so does what is late");
    assert!(letters.set(0, ParkReason::Dead).await);
    assert_eq!(retain().await, 3, "what is dead does not");
    assert_eq!(letters.dead().await, ["E0 dead 0", "E1 dead 0"], "and is still there, with its entry");
    assert_eq!(retain().await, 0);
    assert_eq!(store.event(shard, 2).await.unwrap().unwrap().event_type, "E1");
    let behind = Claim { position: 3, ..letters.claim.clone() };
    assert!(store.read(&behind, 10).await.unwrap().is_empty(), "nothing came since");
    // Replayed from there, and dropped.
    assert!(letters.set(0, ParkReason::Late).await);
    assert_eq!(letters.heads(1).await, ["E0 late 0"]);
    assert!(letters.unpark(0).await);
    assert_eq!(retain().await, 1, "its entry goes with it");
    assert_eq!(store.event(shard, 1).await.unwrap(), None);
    // New entries find their place, and new readers theirs.
    store.create_consumer("late", StartAt::Beginning).await.unwrap();
    letters.case.commit(&CommitOp { events: vec![event("E5", "order:1")], ..op("1.1", Vec::new()) }).await;
    let late = store.claim("late", "worker", LEASE).await.unwrap().into_iter().find(|claim| claim.shard == shard).unwrap();
    assert_eq!(names(&letters.case, &late).await, [("E5".to_owned(), false)]);

    store.rewind("orders", &Cursor::start(letters.case.shards())).await.unwrap();
    assert_eq!(letters.dead().await, ["E1 dead 0"], "who is set back does not come to it again");
    assert_eq!(store.forget_dead(Duration::from_secs(3600), 100).await.unwrap(), 0, "all are young");
    assert_eq!(store.forget_dead(Duration::ZERO, 0).await.unwrap(), 0, "bounded");
    assert_eq!(store.forget_dead(Duration::ZERO, 100).await.unwrap(), 1);
    assert!(letters.dead().await.is_empty());
    assert_eq!(retain().await, 1);
    assert_eq!(store.event(shard, 2).await.unwrap(), None);
    assert_eq!(letters.row().await.dead, 0);
}

pub(super) async fn only_what_nobody_owns_for_long_is_an_orphan(case: Case) {
    let (first, _) = five_events(&case).await;
    let orphan = async |idle| case.store.drop_orphan("orders", idle).await.unwrap();
    assert!(!orphan(Duration::ZERO).await, "its leases run");
    assert_eq!(case.store.park(&first, ParkReason::Dead, None).await.unwrap(), Step::Done);
    // One shard is owned, all others were given up.
    case.store.give_up_leases("worker-1", None).await.unwrap();
    claim(&case, "worker-2", first.shard).await.unwrap();
    case.tamper("consumer", &format!("lease_until = NULL, owner = NULL WHERE shard <> {}", first.shard), Duration::ZERO).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!orphan(Duration::ZERO).await, "a part of it is owned");
    case.store.give_up_leases("worker-2", None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!orphan(Duration::from_secs(60)).await, "not for long enough");
    // A lease that nobody renewed has been over for a while.
    claim(&case, "worker-3", first.shard).await.unwrap();
    case.tamper("consumer", "lease_until = {time}", Duration::from_millis(50)).await;
    assert!(!orphan(Duration::ZERO).await);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(!orphan(Duration::from_secs(60)).await);
    assert!(orphan(Duration::from_millis(5)).await);
    assert!(case.store.consumers().await.unwrap().is_empty());
    assert!(case.store.dead(&DeadQuery::default()).await.unwrap().is_empty(), "with what it had parked");
    assert!(!orphan(Duration::ZERO).await, "there is none");
    // One that is new has not been left by anybody.
    case.store.create_consumer("orders", StartAt::End).await.unwrap();
    assert!(!orphan(Duration::from_secs(60)).await);
}
