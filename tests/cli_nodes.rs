//! `holdline nodes list` and `holdline migrate`.

use serde_json::{Value, json};

use crate::support::{
    APP, Launch,
    place::Place,
    postgres, run_to_end,
    stored::{Stored, wait},
};

#[test]
fn nodes_are_listed_with_what_they_hold_and_how_old_their_heartbeat_is() {
    for place in Place::both() {
        place.stored.hold(APP.id, "order:1", 1);
        place.stored.hold(APP.id, "order:2", 1);
        let nodes = place.json(&["nodes", "list"]);
        let [node] = &nodes[..] else { panic!("{nodes:?}") };
        let short = ["name", "state", "holds", "lease_ms", "fenced_at", "cause"].map(|name| &node[name]);
        assert_eq!(short, [&json!("historian"), &json!("alive"), &json!(2), &json!(3_600_000), &Value::Null, &Value::Null]);
        assert!(node["incarnation"].is_i64() && node["heartbeat_at"].is_string() && node["started_at"].is_string(), "{node}");
        let table = place.ok(&["nodes", "list"]);
        assert!(table.starts_with("NODE") && table.contains("historian") && table.contains("s ago"), "{table}");
    }
}

#[test]
fn a_broker_is_one_of_the_nodes_until_nothing_of_it_is_left() {
    let place = Place::postgres();
    let mut broker = Launch { env: place.env.clone(), ..Launch::default() }.start();
    let names = |args: &[&str]| place.json(args).iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let found = names(&["nodes", "list"]);
    assert!(found.len() == 2 && found[0].starts_with("node-") && found[1] == "historian", "newest first: {found:?}");
    broker.signal("TERM");
    broker.exited(crate::support::WAIT);
    // Somebody has to see that it is gone and has nothing left; here the broker's successor.
    let successor = Launch { env: place.env.clone(), ..Launch::default() }.start();
    crate::support::until("the first one is forgotten", || names(&["nodes", "list"]).len() == 2);
    assert!(names(&["nodes", "list", "--all"]).contains(&found[0]));
    drop(successor);
}

#[test]
fn a_schema_is_created_once_and_by_nobody_who_only_looks() {
    let (url, _) = wait(postgres::fresh_database());
    let directory = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| run_to_end(directory.path(), args, &[("DATABASE_URL", &url)]);
    let ended = run(&["locks", "list"]);
    assert!(ended.code == 1 && ended.stderr.contains("run `holdline migrate`"), "{}", ended.said());
    let ended = run(&["migrate"]);
    assert!(ended.code == 0 && ended.stdout.starts_with("Created the schema at version "), "{}", ended.said());
    let ended = run(&["migrate"]);
    assert!(ended.code == 0 && ended.stdout.starts_with("The schema is at version "), "{}", ended.said());
    assert_eq!(run(&["locks", "list", "--json"]).said(), "");
    wait(postgres::run(&url, "INSERT INTO holdline.migration (version, name, checksum) VALUES (99, 'later', '')".to_owned()));
    for args in [&["migrate"][..], &["locks", "list"]] {
        let ended = run(args);
        assert!(
            ended.code == 1 && ended.stderr.contains("version 99") && ended.stderr.contains("use a newer Holdline"),
            "{}",
            ended.said()
        );
    }
}

#[test]
fn the_embedded_database_is_migrated_while_no_broker_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| run_to_end(directory.path(), args, &[]);
    let ended = run(&["migrate", "--json"]);
    let first: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.said()));
    assert_eq!(first["from"], 0);
    let again: Value = serde_json::from_str(&run(&["migrate", "--json"]).stdout).unwrap();
    assert_eq!(again, json!({ "from": first["to"], "to": first["to"] }));
    let _owner = Stored::sqlite(&directory.path().join("holdline-data"));
    let ended = run(&["migrate"]);
    assert!(ended.code == 1 && ended.stderr.contains("./holdline-data is in use by a broker; stop it first"), "{}", ended.said());
}
