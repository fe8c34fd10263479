//! Named readers of the log.

use std::time::Duration;

use super::harness::{Case, LANE, event, gone, one, op};
use crate::lifecycle::store::*;

pub(super) const LEASE: Duration = Duration::from_secs(10);

/// Five events about two keys that are in one shard, whatever the number of shards; and the claim of that shard.
pub(super) async fn five_events(case: &Case) -> (Claim, [String; 2]) {
    let shard = Shard::of("app", "order:1", case.shards());
    let other = (2..).map(|n| format!("order:{n}")).find(|key| Shard::of("app", key, case.shards()) == shard).unwrap();
    let keys = ["order:1".to_owned(), other];
    case.store.create_consumer("orders", StartAt::Beginning).await.unwrap();
    case.store.create_consumer("orders", StartAt::End).await.unwrap();
    let events = (0..5usize).map(|n| event(&format!("E{n}"), &keys[n % 2])).collect();
    case.commit(&CommitOp { events, ..op("1.1", Vec::new()) }).await;
    (claim(case, "worker-1", shard).await.unwrap(), keys)
}

pub(super) async fn claim(case: &Case, owner: &str, shard: Shard) -> Option<Claim> {
    case.store.claim("orders", owner, LEASE).await.unwrap().into_iter().find(|claim| claim.shard == shard)
}

pub(super) async fn names(case: &Case, claim: &Claim) -> Vec<(String, bool)> {
    let deliveries = case.store.read(claim, 100).await.unwrap();
    deliveries.into_iter().map(|delivery| (delivery.event.event_type, delivery.blocked)).collect()
}

pub(super) async fn two_workers_cannot_both_move_on(case: Case) {
    let (first, _) = five_events(&case).await;
    assert_eq!(names(&case, &first).await.len(), 5);
    assert_eq!(claim(&case, "worker-2", first.shard).await, None, "the lease stands");
    assert_eq!(case.store.renew_leases("worker-1", LEASE).await.unwrap(), u64::from(case.shards()));
    assert_eq!(case.store.give_up_leases("worker-1", None).await.unwrap(), u64::from(case.shards()));
    let second = claim(&case, "worker-2", first.shard).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(case.store.acknowledge(Ack { claim: &first, upto: 2 }).await.unwrap(), Step::Lost);
    assert_eq!(case.store.note_failure(&first, "no", LEASE).await.unwrap(), Step::Lost);
    assert_eq!(case.store.park(&first, ParkReason::Poison, None).await.unwrap(), Step::Lost);
    assert_eq!(case.store.acknowledge(Ack { claim: &second, upto: 2 }).await.unwrap(), Step::Done);
    assert_eq!(case.store.acknowledge(Ack { claim: &second, upto: 3 }).await.unwrap(), Step::Lost, "from a position that is past");
    let moved = Claim { position: 2, ..second };
    assert_eq!(names(&case, &moved).await.len(), 3);
    assert_eq!(case.store.acknowledge(Ack { claim: &moved, upto: 5 }).await.unwrap(), Step::Done);
    let rows = case.store.consumers().await.unwrap();
    assert_eq!(rows.len(), usize::from(case.shards()));
    assert!(rows.iter().all(|row| row.lag() == 0));
}

pub(super) async fn a_consumer_of_one_shard_reads_that_one_and_no_other(case: Case) {
    five_events(&case).await;
    let shard = Shard::of("app", "order:1", case.shards());
    case.store.create_consumer_of("hooks", shard, StartAt::End).await.unwrap();
    case.store.create_consumer_of("hooks", shard, StartAt::Beginning).await.unwrap();
    let claims = case.store.claim("hooks", "worker-1", LEASE).await.unwrap();
    assert_eq!(claims.iter().map(|claim| (claim.shard, claim.position)).collect::<Vec<_>>(), [(shard, 5)]);
    assert!(case.store.claim("hooks", "worker-2", LEASE).await.unwrap().is_empty());
    let beside = case.store.claim_beside("hooks", "worker-2", LEASE, &[]).await.unwrap();
    assert!(beside.is_empty(), "one shard is not shared");
    assert_eq!(case.store.acknowledge(Ack { claim: &claims[0], upto: 5 }).await.unwrap(), Step::Done);
    case.store.rewind("hooks", &Cursor::start(case.shards())).await.unwrap();
    let rows = case.store.consumers().await.unwrap();
    let rows: Vec<_> = rows.iter().filter(|row| row.name == "hooks").map(|row| (row.shard, row.position)).collect();
    assert_eq!(rows, [(shard, 0)]);
}

pub(super) async fn a_lease_that_a_clock_step_made_endless_is_ignored(case: Case) {
    let (first, _) = five_events(&case).await;
    case.tamper("consumer", "lease_until = {time}", Duration::from_secs(3600)).await;
    assert!(claim(&case, "worker-2", first.shard).await.is_some());
    case.tamper("consumer", "lease_until = {time}", Duration::from_secs(5)).await;
    assert!(claim(&case, "worker-1", first.shard).await.is_none(), "a lease of ordinary length holds");
}

pub(super) async fn poison_is_parked_with_what_follows_it(case: Case) {
    let (mut claim, keys) = five_events(&case).await;
    assert_eq!(case.store.note_failure(&claim, "it does not parse", LEASE).await.unwrap(), Step::Done);
    let again = self::claim(&case, "worker-1", claim.shard).await.unwrap();
    assert_eq!(again.attempts, 1);
    assert!(again.wait > LEASE / 2 && again.wait <= LEASE);
    claim = again;
    assert_eq!(case.store.park(&claim, ParkReason::Poison, Some("it does not parse")).await.unwrap(), Step::Done);
    claim.position += 1;
    let rest = names(&case, &claim).await;
    let expected = [("E1", false), ("E2", true), ("E3", false), ("E4", true)];
    assert_eq!(rest, expected.map(|(name, blocked)| (name.to_owned(), blocked)));
    for delivery in case.store.read(&claim, 100).await.unwrap() {
        let step = match delivery.blocked {
            true => case.store.park(&claim, ParkReason::BehindPoison, None).await.unwrap(),
            false => case.store.acknowledge(Ack { claim: &claim, upto: delivery.event.position }).await.unwrap(),
        };
        assert_eq!(step, Step::Done);
        claim.position = delivery.event.position;
    }
    let parked = case.store.parked("orders", 10).await.unwrap();
    assert_eq!(
        parked.iter().map(|row| (row.event.event_type.as_str(), row.reason)).collect::<Vec<_>>(),
        [("E0", ParkReason::Poison), ("E2", ParkReason::BehindPoison), ("E4", ParkReason::BehindPoison)]
    );
    assert!(parked.iter().all(|row| row.event.resource == keys[0]));
    assert_eq!((parked[0].attempts, parked[0].last_error.as_deref()), (1, Some("it does not parse")));
    let census = case.store.census().await.unwrap();
    assert_eq!([ParkReason::Poison, ParkReason::BehindPoison].map(|reason| census.parked("orders", reason)), [1, 2]);
    let unpark = async |row: &ParkedRow| case.store.unpark("orders", row.event.shard, row.event.position).await.unwrap();
    assert!(!unpark(&parked[1]).await, "not before the first");
    for row in &parked {
        assert!(unpark(row).await);
    }
    assert!(case.store.parked("orders", 10).await.unwrap().is_empty());
}

pub(super) async fn who_is_at_work_keeps_its_claims_when_it_looks_for_more(case: Case) {
    let (first, _) = five_events(&case).await;
    let all: Vec<_> = (0..case.shards()).map(|shard| Shard(shard as i16)).collect();
    assert!(case.store.claim_beside("orders", "worker-1", LEASE, &all).await.unwrap().is_empty());
    assert_eq!(case.store.acknowledge(Ack { claim: &first, upto: 1 }).await.unwrap(), Step::Done, "its claim is still the newest");
    let others: Vec<_> = all.into_iter().filter(|shard| *shard != first.shard).collect();
    let lost = case.store.claim_beside("orders", "worker-1", LEASE, &others).await.unwrap();
    assert_eq!(lost.iter().map(|claim| claim.shard).collect::<Vec<_>>(), [first.shard], "an answer that was lost is claimed again");
    assert!(lost[0].epoch > first.epoch);
}

pub(super) async fn what_is_parked_is_tried_again_key_by_key_in_order(case: Case) {
    let (mut claim, keys) = five_events(&case).await;
    for reason in [ParkReason::Poison, ParkReason::Poison, ParkReason::BehindPoison, ParkReason::BehindPoison] {
        assert_eq!(case.store.park(&claim, reason, None).await.unwrap(), Step::Done);
        claim.position += 1;
    }
    let heads = async |max_attempts| {
        let heads = case.store.parked_heads("orders", max_attempts, 10).await.unwrap();
        heads.into_iter().map(|row| row.event.event_type).collect::<Vec<_>>()
    };
    assert_eq!(heads(2).await, ["E0", "E1"], "the first of each key");
    let first = case.store.parked_heads("orders", 2, 1).await.unwrap().remove(0);
    assert_eq!(first.event.resource, keys[0]);
    let behind = case.store.parked_behind("orders", &first.event, 10).await.unwrap();
    assert_eq!(behind.iter().map(|row| row.event.event_type.as_str()).collect::<Vec<_>>(), ["E0", "E2"]);
    for attempts in 1..=2 {
        assert!(case.store.note_parked_failure("orders", claim.shard, 1, "still no").await.unwrap());
        let row = case.store.parked("orders", 1).await.unwrap().remove(0);
        assert_eq!((row.attempts, row.last_error.as_deref(), row.reason), (attempts, Some("still no"), ParkReason::Poison));
    }
    assert_eq!(heads(2).await, ["E1"], "the other has been given up");
    assert_eq!(heads(3).await, ["E0", "E1"]);
    assert!(case.store.unpark("orders", claim.shard, 1).await.unwrap());
    assert_eq!(heads(2).await, ["E1", "E2"], "what was behind it is next");
    assert!(!case.store.note_parked_failure("orders", claim.shard, 1, "late").await.unwrap());

    // An end of a lock is never given up.
    let held = one(&keys[0], "user:1", |_| ());
    case.take(&held).await;
    case.release(&gone(&held)).await;
    let claim = self::claim(&case, "worker-1", claim.shard).await.unwrap();
    assert_eq!(case.store.acknowledge(Ack { claim: &claim, upto: 6 }).await.unwrap(), Step::Done);
    for position in [2, 3, 4] {
        assert!(case.store.unpark("orders", claim.shard, position).await.unwrap());
    }
    assert_eq!(case.store.park(&Claim { position: 6, ..claim.clone() }, ParkReason::Poison, None).await.unwrap(), Step::Done);
    assert!(case.store.note_parked_failure("orders", claim.shard, 7, "no").await.unwrap());
    assert_eq!(heads(0).await, ["OrderUnlocked"]);
}

pub(super) async fn an_operator_can_skip_rewind_and_drop(case: Case) {
    let (claim, _) = five_events(&case).await;
    assert!(!case.store.skip("orders", claim.shard, 2).await.unwrap(), "only the next");
    assert!(case.store.skip("orders", claim.shard, 1).await.unwrap());
    assert_eq!(case.store.acknowledge(Ack { claim: &claim, upto: 1 }).await.unwrap(), Step::Lost, "who was at work is fenced");
    let second = self::claim(&case, "worker-2", claim.shard).await.unwrap();
    assert_eq!(second.position, 1);
    assert_eq!(case.store.park(&second, ParkReason::Poison, None).await.unwrap(), Step::Done);
    case.store.rewind("orders", &Cursor::start(case.shards())).await.unwrap();
    assert!(case.store.parked("orders", 10).await.unwrap().is_empty(), "what is read again is not parked");
    let again = self::claim(&case, "worker-3", claim.shard).await.unwrap();
    assert_eq!(names(&case, &again).await.len(), 5);
    case.store.rewind("orders", &case.store.head().await.unwrap()).await.unwrap();
    let at_end = self::claim(&case, "worker-4", claim.shard).await.unwrap();
    assert_eq!((at_end.position, names(&case, &at_end).await.len()), (5, 0));
    assert!(!case.store.skip("orders", claim.shard, 6).await.unwrap(), "not past the end");
    assert!(matches!(case.store.rewind("nobody", &Cursor::start(case.shards())).await, Err(StoreError::UnknownConsumer { .. })));
    assert!(case.store.drop_consumer("orders").await.unwrap());
    assert!(!case.store.drop_consumer("orders").await.unwrap());
    case.store.create_consumer("late", StartAt::End).await.unwrap();
    assert!(case.store.consumers().await.unwrap().iter().all(|row| row.lag() == 0));
}

pub(super) async fn retention_stops_at_the_slowest_consumer_and_at_parked_entries(case: Case) {
    let (mut claim, _) = five_events(&case).await;
    let (node, shard) = (case.node, claim.shard);
    let retain = async |keep: Duration| case.store.retain(node, shard, keep, 100).await.unwrap();
    assert_eq!(retain(Duration::ZERO).await, 0, "nobody has read it");
    assert_eq!(case.store.park(&claim, ParkReason::Poison, None).await.unwrap(), Step::Done);
    claim.position += 1;
    assert_eq!(case.store.acknowledge(Ack { claim: &claim, upto: 4 }).await.unwrap(), Step::Done);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(retain(Duration::ZERO).await, 0, "the first is parked");
    assert!(case.store.unpark("orders", shard, 1).await.unwrap());
    assert_eq!(retain(Duration::from_secs(3600)).await, 0, "all are young");
    assert_eq!(case.store.retain(node, shard, Duration::ZERO, 3).await.unwrap(), 3, "bounded");
    assert_eq!(retain(Duration::ZERO).await, 1);
    let behind = Claim { position: 0, ..claim.clone() };
    assert!(matches!(case.store.read(&behind, 10).await, Err(StoreError::Trimmed { first: 5 })));
    assert_eq!(case.store.read(&Claim { position: 4, ..claim }, 10).await.unwrap().len(), 1);

    // A lock's row goes when the log no longer names it.
    case.store.drop_consumer("orders").await.unwrap();
    let op = one("order:1", "user:1", |_| ());
    let fence = case.take(&op).await.fence;
    case.store.release(LANE, node, &[gone(&op)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(retain(Duration::ZERO).await, 3);
    assert_eq!(case.store.lock(fence).await.unwrap(), None);
    let next = case.take(&one("order:1", "user:1", |_| ())).await;
    assert!(next.fence > fence, "a fence is never used twice");
}
