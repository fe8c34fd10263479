//! Keys of publishes that are to be done once.

use std::time::Duration;

use super::harness::{Backdoor, Case, new_node};
use crate::lifecycle::store::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn claim(key: &str, request: u8) -> KeyClaim {
    KeyClaim {
        app: "app".to_owned(),
        key: key.to_owned(),
        fingerprint: [request; 32],
        attempt: OpId::random(),
        keep: HOUR,
        work: Duration::from_secs(60),
    }
}

impl Case {
    async fn claims(&self, claim: &KeyClaim) -> KeyVerdict {
        self.store.claim_key(self.node, claim).await.unwrap()
    }

    /// Claims and answers.
    async fn publishes(&self, claim: &KeyClaim, answer: &str) {
        assert_eq!(self.claims(claim).await, KeyVerdict::Claimed);
        assert!(self.store.answer_key(claim, answer).await.unwrap());
    }
}

pub(super) async fn a_key_is_claimed_once_and_its_answer_is_given_again(case: Case) {
    let (first, second) = (claim("k", 1), claim("k", 1));
    assert_eq!(case.claims(&first).await, KeyVerdict::Claimed);
    assert_eq!(case.claims(&first).await, KeyVerdict::Claimed, "the same attempt may ask again: its answer may have been lost");
    assert_eq!(case.claims(&second).await, KeyVerdict::AtWork);
    assert!(!case.store.answer_key(&second, "{}").await.unwrap(), "whoever may not publish cannot answer");
    assert!(!case.store.give_back_key(&second).await.unwrap(), "nor give it back");
    assert!(case.store.answer_key(&first, r#"{"channels":{"é":{}}}"#).await.unwrap());
    assert!(
        !case.store.answer_key(&first, "{}").await.unwrap() && !case.store.give_back_key(&first).await.unwrap(),
        "what is answered stays"
    );
    for attempt in [&first, &second, &claim("k", 1)] {
        assert_eq!(case.claims(attempt).await, KeyVerdict::Answered(r#"{"channels":{"é":{}}}"#.to_owned()));
    }
}

pub(super) async fn a_key_belongs_to_its_request_and_to_its_application(case: Case) {
    let at_work = claim("at work", 1);
    assert_eq!(case.claims(&at_work).await, KeyVerdict::Claimed);
    case.publishes(&claim("done", 1), "1").await;
    for key in ["at work", "done"] {
        assert_eq!(case.claims(&claim(key, 2)).await, KeyVerdict::Mismatch);
        let elsewhere = KeyClaim { app: "other".to_owned(), ..claim(key, 2) };
        assert_eq!(case.claims(&elsewhere).await, KeyVerdict::Claimed);
    }
    assert_eq!(case.claims(&claim("DONE", 2)).await, KeyVerdict::Claimed, "case counts");
}

pub(super) async fn a_key_that_is_given_back_is_free(case: Case) {
    let refused = claim("k", 1);
    assert_eq!(case.claims(&refused).await, KeyVerdict::Claimed);
    assert!(case.store.give_back_key(&refused).await.unwrap());
    assert!(!case.store.give_back_key(&refused).await.unwrap());
    case.publishes(&claim("k", 2), "2").await;
}

pub(super) async fn an_attempt_whose_time_is_over_is_taken_over(case: Case) {
    let (stuck, next) = (claim("k", 1), claim("k", 1));
    assert_eq!(case.claims(&stuck).await, KeyVerdict::Claimed);
    assert_eq!(case.claims(&claim("k", 1)).await, KeyVerdict::AtWork);
    // As if a minute had passed; or as if the clock had been set back by a day since.
    for offset in [-61_000, 24 * 3_600_000] {
        case.shift_claims(offset).await;
        assert_eq!(case.claims(&claim("k", 2)).await, KeyVerdict::Mismatch, "it may have published");
        assert_eq!(case.claims(&next).await, KeyVerdict::TakenOver);
        assert!(!case.store.answer_key(&stuck, "stuck").await.unwrap() && !case.store.give_back_key(&stuck).await.unwrap());
        assert_eq!(case.claims(&stuck).await, KeyVerdict::AtWork);
        // Once more, by the other one.
        case.shift_claims(offset).await;
        assert_eq!(case.claims(&stuck).await, KeyVerdict::TakenOver);
    }
    assert!(case.store.answer_key(&stuck, "after all").await.unwrap());
    assert_eq!(case.claims(&next).await, KeyVerdict::Answered("after all".to_owned()));
}

pub(super) async fn an_attempt_of_a_dead_node_is_taken_over_at_once(case: Case) {
    let (of_dead, of_dead_done) = (claim("k", 1), claim("done", 1));
    assert_eq!(case.claims(&of_dead).await, KeyVerdict::Claimed);
    case.publishes(&of_dead_done, "done").await;
    assert!(case.store.deregister(case.node).await.unwrap());
    assert!(matches!(case.store.claim_key(case.node, &claim("other", 1)).await, Err(StoreError::Fenced)), "the dead claim nothing");
    let case = Case { node: case.store.register(&new_node("node-2")).await.unwrap(), ..case };
    assert_eq!(case.claims(&claim("k", 2)).await, KeyVerdict::Mismatch);
    assert_eq!(case.claims(&claim("k", 1)).await, KeyVerdict::TakenOver);
    assert_eq!(case.claims(&of_dead_done).await, KeyVerdict::Answered("done".to_owned()), "what was answered stays");
    assert_eq!(case.claims(&claim("other", 1)).await, KeyVerdict::Claimed);
}

pub(super) async fn keys_whose_time_is_over_are_free_and_deleted_bit_by_bit(case: Case) {
    for n in 0..10 {
        case.publishes(&claim(&format!("old {n}"), 1), "1").await;
    }
    let unfinished = claim("old, unfinished", 1);
    assert_eq!(case.claims(&unfinished).await, KeyVerdict::Claimed);
    case.tamper("idempotency", "expires_at = {time}", Duration::ZERO).await;
    case.publishes(&claim("new", 1), "1").await;
    // Whoever comes before they are deleted finds them free, also for another request.
    case.publishes(&claim("old 0", 2), "2").await;
    assert_eq!(case.store.forget_keys(4).await.unwrap(), 4);
    assert_eq!(case.store.forget_keys(4).await.unwrap(), 4);
    assert_eq!(case.store.forget_keys(4).await.unwrap(), 2);
    assert_eq!(case.store.forget_keys(4).await.unwrap(), 0);
    assert_eq!(case.claims(&claim("new", 1)).await, KeyVerdict::Answered("1".to_owned()));
    assert_eq!(case.claims(&claim("old 0", 2)).await, KeyVerdict::Answered("2".to_owned()));
    assert!(!case.store.answer_key(&unfinished, "late").await.unwrap());
}

pub(super) async fn a_window_shorter_than_an_attempt_does_not_cut_it_off(case: Case) {
    let short = KeyClaim { keep: Duration::from_millis(1), ..claim("k", 1) };
    assert_eq!(case.claims(&short).await, KeyVerdict::Claimed);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(case.claims(&claim("k", 1)).await, KeyVerdict::AtWork);
    assert_eq!(case.store.forget_keys(10).await.unwrap(), 0);
    assert!(case.store.answer_key(&short, "1").await.unwrap());
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(case.store.forget_keys(10).await.unwrap(), 1, "from its answer on it is kept for its window");
}

pub(super) async fn of_many_at_once_one_claims(case: Case) {
    for round in 0..20 {
        let claims: Vec<KeyClaim> = (0..8).map(|_| claim(&format!("round {round}"), 1)).collect();
        let verdicts = futures_util::future::join_all(claims.iter().map(|claim| case.store.claim_key(case.node, claim))).await;
        let verdicts: Vec<KeyVerdict> = verdicts.into_iter().map(Result::unwrap).collect();
        let claimed = verdicts.iter().filter(|verdict| **verdict == KeyVerdict::Claimed).count();
        assert_eq!(claimed, 1, "{verdicts:?}");
        assert!(verdicts.iter().all(|verdict| matches!(verdict, KeyVerdict::Claimed | KeyVerdict::AtWork)), "{verdicts:?}");
    }
}

impl Case {
    /// Moves the time of all claims.
    async fn shift_claims(&self, millis: i64) {
        let set = match &self.backdoor {
            Backdoor::Sqlite(_) => format!("claimed_at = claimed_at + ({millis})"),
            Backdoor::Postgres(_) => format!("claimed_at = claimed_at + ({millis}) * interval '1 ms'"),
        };
        self.tamper("idempotency", &set, Duration::ZERO).await;
    }
}

/// Where there is no disk there is a bound: the newest stay.
#[tokio::test]
async fn in_memory_the_oldest_of_too_many_go() {
    let store = SqliteStore::in_memory(StoreLimits::default()).await.unwrap();
    store.register(&new_node("node-1")).await.unwrap();
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100100)
        INSERT INTO idempotency SELECT 'app', 'key ' || i, x'00', x'00', 1, 0, '{}', 9000000000000000 + i FROM n";
    store.run(rows.to_owned()).await;
    assert_eq!(store.forget_keys(60).await.unwrap(), 60);
    assert_eq!(store.forget_keys(60).await.unwrap(), 40);
    assert_eq!(store.forget_keys(60).await.unwrap(), 0);
    let oldest: i64 =
        sqlx::query_scalar("SELECT min(expires_at) FROM idempotency").fetch_one(&mut *store.writer_for_tests().await).await.unwrap();
    assert_eq!(oldest, 9_000_000_000_000_101);
    // Nor is there time to wait for somebody who tidies up: whoever claims does it.
    let node = store.register(&new_node("node-2")).await.unwrap();
    for n in 0..1_500 {
        assert_eq!(store.claim_key(node, &claim(&format!("new {n}"), 1)).await.unwrap(), KeyVerdict::Claimed);
    }
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency").fetch_one(&mut *store.writer_for_tests().await).await.unwrap();
    assert!((100_000..101_000).contains(&kept), "{kept}");
}
