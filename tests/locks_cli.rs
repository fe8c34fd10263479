//! `holdline locks list`, `show` and `release`, beside whoever has the store.

use holdline::store::Mode;
use serde_json::{Value, json};

use crate::{
    locks_api::two_apps,
    support::{APP, Launch, OTHER, place::Place, run_to_end},
};

fn fences(locks: &[Value]) -> Vec<i64> {
    locks.iter().map(|lock| lock["fence"].as_i64().unwrap()).collect()
}

#[test]
fn locks_are_listed_beside_the_process_that_has_the_store() {
    for place in Place::both() {
        assert_eq!(place.json(&["locks", "list"]), [] as [Value; 0]);
        let held = place.stored.hold(APP.id, "order:1", 1);
        let theirs = place.stored.hold(OTHER.id, "order:1", 2);
        let graceful = place.stored.hold(APP.id, "order:2", 1);
        let over = place.stored.hold(APP.id, "order:3", 1);
        place.stored.lose(&graceful);
        place.stored.release(&over);
        for (filter, expected) in [
            (&[][..], vec![held.fence, theirs.fence, graceful.fence]),
            (&["--app", APP.id], vec![held.fence, graceful.fence]),
            (&["--resource", "order:1"], vec![held.fence, theirs.fence]),
            (&["--principal", "user:1", "--state", "grace"], vec![graceful.fence]),
            (&["--state", "released"], vec![over.fence]),
            (&["--limit", "2"], vec![held.fence, theirs.fence]),
            (&["--app", "nobody"], vec![]),
        ] {
            assert_eq!(fences(&place.json(&[&["locks", "list"], filter].concat())), expected, "{filter:?}");
        }
        let lock = &place.json(&["locks", "list"])[0];
        assert_eq!((&lock["resource"], &lock["event"], &lock["mode"]), (&json!("order:1"), &json!("Order"), &json!("exclusive")));
        assert_eq!(lock["holders"][0]["socket_id"], "1.1");
        let table = place.ok(&["locks", "list"]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[0].starts_with("FENCE  STATE") && lines[3].contains("grace (59m left)") && lines[1].ends_with("s   1.1"), "{table}");
        let column = |name: &str| lines[0].find(name).unwrap();
        assert!(lines[1..].iter().all(|line| line[column("RESOURCE")..].starts_with("order:")), "columns are aligned:\n{table}");
    }
}

#[test]
fn more_locks_than_are_read_at_once_are_listed_once_each() {
    let place = Place::sqlite();
    let taken: Vec<i64> = (0..1_003).map(|n| place.stored.hold(APP.id, &format!("order:{n}"), 1).fence).collect();
    assert_eq!(fences(&place.json(&["locks", "list"])), taken);
    assert_eq!(fences(&place.json(&["locks", "list", "--limit", "501"])), taken[..501]);
}

#[test]
fn one_resource_is_shown_with_all_that_hold_it() {
    for place in Place::both() {
        assert_eq!(place.ok(&["locks", "show", "room:1"]), "room:1 is free\n");
        assert_eq!(place.json(&["locks", "show", "room:1"]), [] as [Value; 0]);
        let shared: Vec<i64> = (1..=2).map(|user| place.stored.take(APP.id, "room:1", user, Mode::Shared).fence).collect();
        assert_eq!(fences(&place.json(&["locks", "show", "room:1"])), shared);
        let shown = place.ok(&["locks", "show", "room:1"]);
        for part in
            ["principal  user:1", "principal  user:2", "state      held", "holder     2.2 on node ", r#"context    {"resource":"room:1"}"#]
        {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert_eq!(place.ok(&["locks", "show", "--app", OTHER.id, "room:1"]), "room:1 is free\n");
    }
}

#[test]
fn a_lock_is_released_through_the_running_broker() {
    let place = Place::postgres();
    let broker = Launch { env: place.env.clone(), ..Launch::config(two_apps()) }.start();
    let url = format!("http://{}", broker.address());
    let identity = ["--app-id", APP.id, "--key", APP.key, "--secret", APP.secret];
    let release = |fence: &str, rest: &[&str]| {
        let args = [&["locks", "release", "--url", &url], identity.as_slice(), rest, &[fence]].concat();
        run_to_end(place.directory.path(), &args, &[])
    };
    let (mine, theirs) = (place.stored.hold(APP.id, "order:1", 1), place.stored.hold(OTHER.id, "order:1", 1));
    let (fence, foreign) = (mine.fence.to_string(), theirs.fence.to_string());
    let ended = release(&fence, &[]);
    assert_eq!((ended.code, ended.stdout), (0, format!("Released lock {fence} of app {}\n", APP.id)));
    assert_eq!(place.stored.state(mine.fence), "released");
    let ended = release(&fence, &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (1, "holdline: the broker refused the release: 409 The lock is over already\n"));
    let ended = release(&foreign, &[]);
    assert!(
        ended.code == 1 && ended.stderr.contains("404 Unknown fence: there is no such lock of app app-id; --app-id names another"),
        "{}",
        ended.said()
    );
    assert_eq!(place.stored.state(theirs.fence), "held");
    let next = place.stored.hold(APP.id, "order:1", 2);
    let ended = release(&next.fence.to_string(), &["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), json!({ "fence": next.fence, "app": APP.id, "released": true }));
    for wrong in ["0", "x", "-1"] {
        assert_eq!(release(wrong, &[]).code, 2, "{wrong}");
    }
}

#[test]
fn without_a_broker_a_release_says_who_does_not_answer() {
    let directory = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ended = run_to_end(directory.path(), &["locks", "release", "--url", &format!("http://127.0.0.1:{port}"), "1"], &[]);
    assert!(ended.code == 1 && ended.stderr.contains(&port.to_string()), "{}", ended.said());
}

#[test]
fn a_store_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for args in [&["locks", "list"][..], &["events", "list"], &["events", "tail"], &["consumers", "list"], &["nodes", "list"]] {
        let ended = run_to_end(directory.path(), args, &[]);
        let text = "there is no database at ./holdline-data/holdline.sqlite";
        assert!(ended.code == 1 && ended.stderr.contains(text), "{}", ended.said());
        let port = crate::support::postgres::free_port();
        let url = format!("postgres://nobody:hunter2@127.0.0.1:{port}/none");
        let ended = run_to_end(directory.path(), args, &[("DATABASE_URL", &url)]);
        assert!(ended.code == 1 && ended.stderr.starts_with("holdline: the store does not answer: "), "{}", ended.said());
        assert!(!ended.said().contains("hunter2"), "{}", ended.said());
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "whoever only looks leaves nothing behind");
}
