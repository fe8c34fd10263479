//! `holdline consumers list`, `skip`, `rewind` and `drop`, beside whoever has the store and works as the consumer.

use std::time::Duration;

use holdline::store::{Ack, Claim, ParkReason, StartAt, Step};
use serde_json::{Value, json};

use crate::support::{APP, place::Place, stored::wait};

const LEASE: Duration = Duration::from_secs(60);

/// A consumer `orders` at the beginning of a log about one resource: `OrderLocked`, `Saved`, `OrderUnlocked`, `Saved`. Its shard, and
/// the claim of the worker who is at it.
fn scene(place: &Place) -> (i16, Claim) {
    wait(place.stored.store.create_consumer("orders", StartAt::Beginning)).unwrap();
    let lock = place.stored.hold(APP.id, "order:1", 1);
    place.stored.emit(APP.id, "Saved", "order:1", json!({ "n": 1 }));
    place.stored.release(&lock);
    place.stored.emit(APP.id, "Saved", "order:1", json!({ "n": 2 }));
    let shard = place.json(&["events", "list"])[0]["shard"].as_i64().unwrap();
    let claims = wait(place.stored.store.claim("orders", "worker", LEASE)).unwrap();
    let claim = claims.into_iter().find(|claim| i64::from(claim.shard.0) == shard).unwrap();
    (claim.shard.0, claim)
}

/// The row of the consumer at its shard.
fn row(place: &Place, shard: i16) -> Value {
    place.json(&["consumers", "list"]).into_iter().find(|row| row["name"] == "orders" && row["shard"] == shard).unwrap()
}

fn acknowledge(place: &Place, claim: &Claim, upto: i64) -> Step {
    wait(place.stored.store.acknowledge(Ack { claim, upto })).unwrap()
}

fn skip<'a>(shard: &'a str, position: &'a str) -> Vec<&'a str> {
    vec!["consumers", "skip", "orders", "--shard", shard, "--position", position]
}

#[test]
fn consumers_are_listed_shard_by_shard() {
    for place in Place::both() {
        let (shard, claim) = scene(&place);
        assert_eq!(acknowledge(&place, &claim, 1), Step::Done);
        let claim = Claim { position: 1, ..claim };
        assert_eq!(wait(place.stored.store.note_failure(&claim, "no such column", LEASE)).unwrap(), Step::Done);
        assert_eq!(place.json(&["consumers", "list"]).len(), usize::from(place.stored.store.shards()));
        assert_eq!(
            row(&place, shard),
            json!({
                "name": "orders", "shard": shard, "position": 1, "last_position": 4, "lag": 3, "owner": "worker", "attempts": 1,
                "last_error": "no such column", "parked": 0,
            })
        );
        let table = place.ok(&["consumers", "list"]);
        assert!(table.starts_with("NAME") && table.contains("no such column"), "{table}");
    }
}

#[test]
fn an_entry_is_skipped_and_whoever_was_at_it_loses_its_claim() {
    for place in Place::both() {
        let (shard, claim) = scene(&place);
        let shard_text = shard.to_string();
        for (position, reason) in [("2", "is neither next nor parked"), ("5", "is neither next nor parked")] {
            let said = place.refused(1, &skip(&shard_text, position));
            assert!(said.contains(reason), "{said}");
        }
        let done = place.ok(&skip(&shard_text, "1"));
        assert_eq!(done, format!("Skipped position 1 of shard {shard} (OrderLocked of order:1) for consumer orders\n"));
        assert_eq!(acknowledge(&place, &claim, 1), Step::Lost);
        assert_eq!(row(&place, shard)["position"], 1);
        let json = place.json(&skip(&shard_text, "2"));
        assert_eq!(json, [json!({ "name": "orders", "shard": shard, "position": 2, "skipped": true })]);

        let said = place.refused(1, &skip(&shard_text, "3"));
        assert!(said.contains("OrderUnlocked of order:1 says that lock ") && said.ends_with("--force does it all the same\n"), "{said}");
        assert_eq!(row(&place, shard)["position"], 2, "nothing was done");
        let forced = place.run(&[skip(&shard_text, "3"), vec!["--force"]].concat());
        assert!(forced.code == 0 && forced.stderr.starts_with("holdline: warning: OrderUnlocked of order:1"), "{}", forced.said());
        assert_eq!(place.run(&skip(&shard_text, "4")).code, 0);
        let said = place.refused(1, &skip(&shard_text, "5"));
        assert!(said.contains("is not written yet"), "{said}");
        let said = place.refused(1, &skip("9999", "1"));
        assert!(said.contains("there is no shard 9999"), "{said}");
    }
}

#[test]
fn parked_entries_are_shown_and_skipped_in_their_order() {
    for place in Place::both() {
        let (shard, claim) = scene(&place);
        let shard_text = shard.to_string();
        let park = |position, reason| {
            let claim = Claim { position, ..claim.clone() };
            assert_eq!(wait(place.stored.store.park(&claim, reason, Some("no such column"))).unwrap(), Step::Done);
        };
        assert_eq!(acknowledge(&place, &claim, 1), Step::Done);
        park(1, ParkReason::Poison);
        park(2, ParkReason::BehindPoison);
        let parked = place.json(&["consumers", "list", "--parked"]);
        let short: Vec<_> = parked.iter().map(|row| (&row["event"]["position"], row["reason"].as_str().unwrap())).collect();
        assert_eq!(short, [(&json!(2), "poison"), (&json!(3), "behind-poison")]);
        assert!(place.ok(&["consumers", "list", "--parked"]).contains("no such column"));
        let early = place.run(&[skip(&shard_text, "3"), vec!["--force"]].concat());
        assert!(early.code == 1 && early.stderr.contains("must go first"), "{}", early.said());
        assert_eq!(place.run(&skip(&shard_text, "2")).code, 0);
        assert!(place.refused(1, &skip(&shard_text, "3")).contains("OrderUnlocked"), "a parked one is an Unlocked, too");
        assert_eq!(place.run(&[skip(&shard_text, "3"), vec!["--force"]].concat()).code, 0);
        assert_eq!(place.json(&["consumers", "list", "--parked"]), [] as [Value; 0]);
        assert_eq!(row(&place, shard)["position"], 3, "its place has not moved");
    }
}

#[test]
fn a_consumer_is_set_back_and_forward_only_by_force() {
    for place in Place::both() {
        let (shard, claim) = scene(&place);
        let rewind = |to: &str, rest: &[&str]| place.run(&[&["consumers", "rewind", "orders", "--to", to], rest].concat());
        let middle = {
            let said = place.run(&["events", "list", "--limit", "2"]).stderr;
            said.lines().last().unwrap().strip_prefix("cursor: ").unwrap().to_owned()
        };
        assert_eq!(acknowledge(&place, &claim, 4), Step::Done);
        let ended = rewind(&middle, &[]);
        assert_eq!((ended.code, ended.stdout), (0, format!("Consumer orders goes on after {middle}\n")));
        assert_eq!(row(&place, shard)["position"], 2);
        assert_eq!(acknowledge(&place, &Claim { position: 4, ..claim }, 4), Step::Lost, "the worker begins anew");
        assert_eq!(rewind("start", &["--json"]).code, 0);
        assert_eq!(row(&place, shard)["position"], 0);
        let ended = rewind(&middle, &[]);
        assert!(ended.code == 1 && ended.stderr.contains("ahead of consumer orders"), "{}", ended.said());
        assert_eq!(row(&place, shard)["position"], 0);
        let ended = rewind(&middle, &["--force"]);
        assert!(ended.code == 0 && ended.stderr.starts_with("holdline: warning: "), "{}", ended.said());
        assert_eq!(row(&place, shard)["position"], 2);
        for wrong in ["", "end", "h1-1.1", &place.end().replace("h1-", "h1-ffff")] {
            assert_eq!(rewind(wrong, &["--force"]).code, 2, "{wrong}");
        }
    }
}

#[test]
fn a_consumer_is_dropped_and_an_unknown_one_is_named() {
    for place in Place::both() {
        scene(&place);
        assert_eq!(place.ok(&["consumers", "drop", "orders"]), "Dropped consumer orders\n");
        assert_eq!(place.json(&["consumers", "list"]), [] as [Value; 0]);
        for args in [
            &["consumers", "drop", "orders"][..],
            &["consumers", "rewind", "orders", "--to", "start"],
            &["consumers", "skip", "orders", "--shard", "0", "--position", "1"],
        ] {
            assert_eq!(place.refused(1, args), "holdline: there is no consumer orders\n");
        }
    }
}

#[test]
fn an_operator_and_the_broker_write_to_one_file_at_the_same_time() {
    let place = Place::sqlite();
    let (_, claim) = scene(&place);
    let mut ended = Vec::new();
    std::thread::scope(|scope| {
        let operator = scope.spawn(|| (0..10).map(|_| place.run(&["consumers", "rewind", "orders", "--to", "start"])).collect::<Vec<_>>());
        let mut written = 0;
        while !operator.is_finished() {
            place.stored.emit(APP.id, "Saved", "order:2", json!({}));
            written += 1;
        }
        assert!(written > 0);
        ended = operator.join().unwrap();
    });
    assert!(ended.iter().all(|ended| ended.code == 0), "{:?}", ended.iter().map(|ended| ended.said()).collect::<Vec<_>>());
    assert_eq!(acknowledge(&place, &claim, 1), Step::Lost);
    let log = place.json(&["events", "list"]);
    assert!(log.iter().zip(1..).all(|(event, position)| event["position"] == position), "the log has no hole");
}
