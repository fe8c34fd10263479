//! `GET /apps/{id}/events`: the log of one application, in pages that end and miss nothing.

use serde_json::{Value, json};

use crate::{
    locks_api::broker,
    support::{APP, Http, OTHER},
};

/// A page: its entries' names in the order of their coming, and the next place.
fn page(http: &mut Http, query: &[(&str, &str)]) -> (Vec<Value>, String) {
    let answer = http.get("/events", query).json();
    (answer["events"].as_array().unwrap().clone(), answer["next"].as_str().unwrap().to_owned())
}

/// Everything from a place on, read in pages of `limit`, and the place after it.
fn all(http: &mut Http, after: Option<&str>, limit: usize) -> (Vec<Value>, String) {
    let limit_text = limit.to_string();
    let (mut found, mut place) = (Vec::new(), after.map(str::to_owned));
    loop {
        let mut query = vec![("limit", limit_text.as_str())];
        query.extend(place.as_deref().map(|place| ("after", place)));
        let (events, next) = page(http, &query);
        assert!(events.len() <= limit);
        found.extend(events);
        if place.as_ref() == Some(&next) {
            return (found, next);
        }
        place = Some(next);
        assert!(found.len() < 1_000, "it ends");
    }
}

fn numbers(events: &[Value]) -> Vec<u64> {
    let mut numbers: Vec<u64> = events.iter().filter_map(|event| event["context"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn pages_of_an_app_hold_all_of_its_entries_and_none_of_others() {
    let (broker, stored) = broker();
    let (mut http, mut theirs) = (broker.http(), broker.http().signing_as(OTHER));
    let (none, empty) = all(&mut http, None, 10);
    assert_eq!(none, [] as [Value; 0]);
    // Over all shards, and the rare app's entries far between.
    for n in 0..120 {
        let app = if n % 10 == 3 { OTHER.id } else { APP.id };
        stored.emit(app, "Saved", &format!("doc:{n}"), json!({ "n": n }));
    }
    let mine: Vec<u64> = (0..120).filter(|n| n % 10 != 3).collect();
    for limit in [1, 7, 100, 1_000] {
        let (events, _) = all(&mut http, None, limit);
        assert!(events.iter().all(|event| event["app"] == APP.id));
        assert_eq!(numbers(&events), mine, "in pages of {limit}");
        assert_eq!(numbers(&all(&mut http, Some(&empty), limit).0), mine);
        let (events, _) = all(&mut theirs, None, limit);
        assert_eq!(numbers(&events), (0..12).map(|n| n * 10 + 3).collect::<Vec<_>>());
    }
    let (_, end) = all(&mut http, None, 1_000);
    assert_eq!(page(&mut http, &[("after", &end)]), (Vec::new(), end.clone()), "the end stays the end");
    for n in 120..140 {
        stored.emit(APP.id, "Saved", &format!("doc:{n}"), json!({ "n": n }));
    }
    assert_eq!(numbers(&all(&mut http, Some(&end), 3).0), (120..140).collect::<Vec<u64>>(), "what came later, and only that");
}

#[test]
fn entries_have_the_documented_names_and_stand_in_their_order() {
    let (broker, stored) = broker();
    let mut http = broker.http();
    let lock = stored.hold(APP.id, "order:42", 7);
    stored.emit(APP.id, "Saved", "order:42", json!({ "n": 1 }));
    stored.release(&lock);
    let (events, _) = page(&mut http, &[]);
    let [locked, saved, unlocked] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        unlocked,
        &json!({
            "position": 3, "shard": locked["shard"], "kind": "unlocked", "type": "OrderUnlocked", "app": APP.id, "resource": "order:42",
            "principal": "user:7", "socket_id": "7.7", "fence": lock.fence, "cause": "unsubscribed", "after_grace": false,
            "at": unlocked["at"], "context": { "resource": "order:42" },
        })
    );
    assert_eq!((&locked["type"], &locked["position"], &locked["cause"]), (&json!("OrderLocked"), &json!(1), &Value::Null));
    assert_eq!((&saved["kind"], &saved["position"], &saved["fence"]), (&json!("event"), &json!(2), &Value::Null));
}

#[test]
fn a_place_that_is_none_of_this_log_is_refused() {
    let (broker, stored) = broker();
    let mut http = broker.http();
    stored.emit(APP.id, "Saved", "doc:1", json!({}));
    let (_, place) = page(&mut http, &[]);
    let beyond = place.replace("h1-", "h1-ffff");
    for wrong in ["", "x", "h1-", "h1-1.1", "7", &beyond, &format!("{place}.")] {
        let text = http.get("/events", &[("after", wrong)]).refused(400);
        assert_eq!(text, "after must be a `next` that this log has given", "{wrong}");
    }
    for wrong in ["0", "1001", "-1", "ten", ""] {
        assert_eq!(http.get("/events", &[("limit", wrong)]).refused(400), "limit must be a number from 1 to 1000");
    }
}
