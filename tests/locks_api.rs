//! `GET /apps/{id}/locks`, `…/locks/{resource}`, `POST …/locks/{fence}/release` and `GET /ready/holds` of a running broker, beside
//! another node that holds.

use holdline::store::Mode;
use serde_json::{Value, json};

use crate::support::{
    APP, Answer, App, Broker, Http, Launch, OTHER, one_app,
    postgres::{self, Postgres},
    proxy::{Cut, Proxy, Weather},
    stored::{Stored, wait},
    until,
};

pub(crate) fn two_apps() -> String {
    let App { id, key, secret } = OTHER;
    format!("{}[[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n", one_app(""))
}

/// A broker on a PostgreSQL that another node writes to.
pub(crate) fn broker() -> (Broker, Stored) {
    let (stored, url) = Stored::postgres();
    (Launch::config(two_apps()).env("DATABASE_URL", &url).start(), stored)
}

fn fences(answer: &Answer) -> Vec<i64> {
    answer.json()["locks"].as_array().unwrap().iter().map(|lock| lock["fence"].as_i64().unwrap()).collect()
}

fn release(http: &mut Http, fence: impl std::fmt::Display) -> Answer {
    http.post(&format!("/locks/{fence}/release"), "{}")
}

#[test]
fn locks_are_listed_in_pages_that_end() {
    let (broker, stored) = broker();
    let mut http = broker.http();
    assert_eq!(http.get("/locks", &[]).json(), json!({ "locks": [], "next": null }));
    let taken: Vec<i64> = (1..=5).map(|n| stored.hold(APP.id, &format!("order:{n}"), n).fence).collect();
    stored.hold(OTHER.id, "order:1", 9);
    assert_eq!(fences(&http.get("/locks", &[])), taken, "and none of another application");
    for limit in [1, 2, 5, 1_000] {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let limit = limit.to_string();
            let mut query = vec![("limit", limit.as_str())];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let page = http.get("/locks", &query);
            found.extend(fences(&page));
            match &page.json()["next"] {
                Value::Null => break,
                next => after = Some(next.to_string()),
            }
            assert!(found.len() < 6, "it ends");
        }
        assert_eq!(found, taken);
    }
}

#[test]
fn locks_are_found_by_resource_principal_and_state() {
    let (broker, stored) = broker();
    let mut http = broker.http();
    let held = stored.hold(APP.id, "order:1", 1);
    let graceful = stored.hold(APP.id, "order:2", 1);
    let over = stored.hold(APP.id, "order:3", 2);
    stored.lose(&graceful);
    stored.release(&over);
    for (query, expected) in [
        (&[][..], vec![held.fence, graceful.fence]),
        (&[("resource", "order:2")], vec![graceful.fence]),
        (&[("resource", "order:")], vec![]),
        (&[("principal", "user:1")], vec![held.fence, graceful.fence]),
        (&[("state", "held")], vec![held.fence]),
        (&[("state", "grace"), ("principal", "user:2")], vec![]),
        (&[("state", "released")], vec![over.fence]),
    ] {
        assert_eq!(fences(&http.get("/locks", query)), expected, "{query:?}");
    }
    let lock = &http.get("/locks", &[("resource", "order:1")]).json()["locks"][0];
    let holder = &lock["holders"][0];
    assert_eq!(
        lock,
        &json!({
            "resource": "order:1", "fence": held.fence, "state": "held", "mode": "exclusive", "principal": "user:1", "app": APP.id,
            "event": "Order", "acquired_at": lock["acquired_at"], "context": { "resource": "order:1" },
            "holders": [{ "socket_id": "1.1", "node": holder["node"], "since": holder["since"] }],
        })
    );
    assert!(lock["acquired_at"].as_str().unwrap().ends_with('Z') && holder["node"].is_i64(), "{lock}");
    assert!(http.get("/locks", &[("resource", "order:2")]).json()["locks"][0]["grace_until"].is_string());
}

#[test]
fn one_resource_is_shown_with_all_that_hold_it_whatever_it_is_called() {
    let (broker, stored) = broker();
    let mut http = broker.http();
    let shared: Vec<i64> = (1..=3).map(|user| stored.take(APP.id, "room:1", user, Mode::Shared).fence).collect();
    assert_eq!(fences(&http.get("/locks/room:1", &[])), shared);
    assert_eq!(fences(&http.get("/locks/room%3A1", &[])), shared);
    assert_eq!(http.get("/locks/room:2", &[]).json(), json!({ "locks": [] }), "a free one is no error");
    for (name, path) in [
        ("doc/7", "doc%2F7"),
        ("doc/7/release", "doc/7/release"),
        ("Zoë & co", "Zo%C3%AB%20%26%20co"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("a+b", "a+b"),
        ("?", "%3F"),
        ("a//b", "a//b"),
    ] {
        let fence = stored.hold(APP.id, name, 1).fence;
        let answer = http.get(&format!("/locks/{path}"), &[]);
        assert_eq!(fences(&answer), [fence], "{path}");
        assert_eq!(answer.json()["locks"][0]["resource"], name);
    }
    assert_eq!(http.signing_as(OTHER).get("/locks/room:1", &[]).json(), json!({ "locks": [] }));
}

#[test]
fn a_lock_is_released_once_by_its_fence() {
    let (broker, stored) = broker();
    let mut http = broker.http();
    let (held, graceful) = (stored.hold(APP.id, "order:1", 1), stored.hold(APP.id, "order:2", 1));
    stored.lose(&graceful);
    for lock in [held, graceful] {
        assert_eq!(release(&mut http, lock.fence).json(), json!({}));
        assert_eq!(stored.state(lock.fence), "released");
        assert_eq!(release(&mut http, lock.fence).refused(409), "The lock is over already");
    }
    assert_eq!(http.get("/locks", &[]).json()["locks"], json!([]));
    let causes: Vec<Value> =
        http.get("/events", &[]).json()["events"].as_array().unwrap().iter().map(|event| event["cause"].clone()).collect();
    assert_eq!(causes.iter().filter(|cause| **cause == json!("force_released")).count(), 2, "{causes:?}");
    let next = stored.hold(APP.id, "order:1", 2);
    assert_eq!(release(&mut http, next.fence).json(), json!({}), "the resource was free again");
}

#[test]
fn a_lock_of_another_app_is_as_unknown_as_none() {
    let (broker, stored) = broker();
    let mut http = broker.http();
    let theirs = stored.hold(OTHER.id, "order:1", 1);
    let nobodys = release(&mut http, 1_000_000).refused(404);
    assert_eq!(release(&mut http, theirs.fence).refused(404), nobodys);
    stored.release(&theirs);
    assert_eq!(release(&mut http, theirs.fence).refused(404), nobodys, "nor is told that it is over");
    assert_eq!(release(&mut http, "x").refused(400), "fence must be a whole number from 1 to 9223372036854775807");
    for path in ["/locks", "/locks/order:1", "/events"] {
        assert_eq!(http.plain(&format!("/apps/{}{path}", APP.id)).status, 401, "{path} is signed");
    }
}

#[test]
fn while_the_store_is_down_everything_says_503_and_when_to_ask_again() {
    let name = wait(Postgres::shared().create_database());
    let stored = Stored::postgres_at(&postgres::url(&name, "postgres"));
    let lock = stored.hold(APP.id, "order:1", 1);
    let proxy = Proxy::to(Postgres::shared().address());
    let url = Postgres::shared().url_through(proxy.address(), &name);
    let mut launch = Launch::config(one_app("")).env("DATABASE_URL", &url).env("HOLDLINE_STORE__HEARTBEAT_INTERVAL", "500ms");
    launch.errors_expected = true;
    let broker = launch.start();
    let mut http = broker.http();
    assert_eq!(http.plain("/ready/holds").text(), "OK");
    let down = |answer: Answer| {
        assert_eq!(answer.header("retry-after"), Some("1"), "{}", answer.text());
        assert_eq!(answer.refused(503), "The store does not answer, try again");
    };
    // A refused connection is noticed at once, a silent one after a while.
    for silent in [false, true] {
        if silent {
            proxy.set(Weather::black_hole());
        } else {
            proxy.refuse(true);
            proxy.cut(Cut::Reset);
        }
        down(http.get("/locks", &[]));
        down(release(&mut http, lock.fence));
        if !silent {
            down(http.get("/locks/order:1", &[]));
            down(http.get("/events", &[]));
        }
        until("holds cannot be granted", || http.plain("/ready/holds").status == 503);
        assert_eq!(http.plain("/ready").status, 200, "plain clients do not notice");
        proxy.heal();
        until("holds can be granted again", || http.plain("/ready/holds").status == 200);
    }
    assert_eq!(stored.state(lock.fence), "held", "what was refused was not done");
    assert_eq!(release(&mut http, lock.fence).json(), json!({}));
}
