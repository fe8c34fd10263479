//! The commands beside a live broker that keeps its locks in the embedded database, and clients that hold.

use std::path::Path;

use holdline::store::{DataDirectory, LifecycleStore, SqliteStore, StartAt};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{APP, Broker, Ended, Launch, WAIT, Ws, one_app, run_to_end, stored::wait, until};

/// Somebody who opens orders is signed in, and has an hour to come back.
const RULE: &str =
    "[[apps.holds]]\nchannel = \"private-order.{order_id}\"\nresource = \"order:{order_id}\"\nevent = \"Order\"\ngrace = \"1h\"";

/// A broker, and a directory with its data and its configuration.
struct Shop {
    broker: Broker,
    directory: TempDir,
}

impl Shop {
    fn open() -> Shop {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let config = format!("[store]\ndata_dir = \"{}\"\n{}", data_dir.display(), one_app(RULE));
        std::fs::write(directory.path().join("holdline.toml"), &config).unwrap();
        Shop { broker: Launch::config(config).start(), directory }
    }

    /// Runs a command where the configuration lies.
    fn run(&self, args: &[&str]) -> Ended {
        run_to_end(self.directory.path(), args, &[])
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        let ended = self.run(&[args, &["--json"]].concat());
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.said());
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A client that is signed in and holds an order; what it heard of its lock.
    fn editor(&self, user: u32, order: u32) -> (Ws, Value) {
        let mut ws = self.broker.ws();
        ws.signin(&json!({ "id": user.to_string() }).to_string());
        ws.subscribe(&format!("private-order.{order}"));
        let locked = ws.expect("holdline:locked");
        (ws, locked.payload())
    }

    fn database(&self) -> std::path::PathBuf {
        DataDirectory::database_in(&self.directory.path().join("data"))
    }
}

#[test]
fn what_clients_hold_is_seen_and_released_from_a_shell() {
    let shop = Shop::open();
    let (mut ws, locked) = shop.editor(7, 42);
    let fence = locked["fence"].to_string();
    let [lock] = &shop.json(&["locks", "list"])[..] else { panic!("one lock") };
    assert_eq!((&lock["fence"], &lock["principal"], &lock["app"]), (&locked["fence"], &json!("user:7"), &json!(APP.id)));
    assert_eq!(lock["holders"][0]["socket_id"], ws.socket_id);
    assert_eq!(shop.json(&["nodes", "list"])[0]["holds"], 1);
    assert_eq!(shop.broker.http().get("/locks/order:42", &[]).json()["locks"], json!([lock]), "the API shows the same object");

    let url = format!("http://{}", shop.broker.address());
    let ended = shop.run(&["locks", "release", "--url", &url, &fence]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let lost = ws.expect("holdline:lock_lost").payload();
    assert_eq!((&lost["fence"], &lost["cause"]), (&locked["fence"], &json!("force_released")));
    assert_eq!(shop.run(&["locks", "show", "order:42"]).stdout, "order:42 is free\n");
    let events = shop.json(&["events", "list", "--resource", "order:42"]);
    let story: Vec<_> = events.iter().map(|event| (event["type"].as_str().unwrap(), &event["cause"])).collect();
    assert_eq!(story, [("OrderLocked", &Value::Null), ("OrderUnlocked", &json!("force_released"))]);
    assert_eq!(shop.broker.http().get("/events", &[]).json()["events"], Value::Array(events), "the API shows the same objects");
    let (_ws, again) = shop.editor(8, 42);
    assert!(again["fence"].as_i64() > locked["fence"].as_i64());
}

#[test]
fn what_a_killed_broker_owes_is_still_to_be_seen() {
    let mut shop = Shop::open();
    let (_ws, locked) = shop.editor(7, 42);
    shop.broker.signal("KILL");
    shop.broker.exited(WAIT);
    assert_eq!(shop.json(&["locks", "list"])[0]["fence"], locked["fence"]);
    assert_eq!(shop.json(&["nodes", "list"])[0]["state"], "alive", "nobody has seen its end");
    assert_eq!(shop.json(&["events", "list"]).len(), 1);
}

#[test]
fn consumers_are_moved_while_the_broker_writes_and_neither_fails() {
    let shop = Shop::open();
    let operator = wait(SqliteStore::open_to_operate(&shop.database())).unwrap();
    wait(operator.create_consumer("auditor", StartAt::Beginning)).unwrap();
    drop(operator);
    std::thread::scope(|scope| {
        let commands = scope.spawn(|| {
            let mut skipped = 0;
            while skipped < 10 {
                let position = (skipped + 1).to_string();
                let args = ["consumers", "skip", "auditor", "--shard", "0", "--position", &position, "--force"];
                let ended = shop.run(&args);
                assert!(ended.code == 0 || ended.stderr.contains("is not written yet"), "{}", ended.said());
                skipped += u32::from(ended.code == 0);
            }
        });
        let (mut ws, mut written) = (shop.broker.ws(), 0);
        ws.signin(r#"{"id":"7"}"#);
        while !commands.is_finished() {
            ws.subscribe("private-order.42");
            ws.expect("holdline:locked");
            ws.unsubscribe("private-order.42");
            written += 1;
        }
        assert!(written > 0);
        commands.join().unwrap();
    });
    assert_eq!(shop.json(&["consumers", "list"])[0]["position"], 10);
    let log = shop.json(&["events", "list"]);
    assert!(log.len() >= 10 && log.iter().zip(1..).all(|(event, position)| event["position"] == position), "the log has no hole");
}

fn with_url(directory: &Path, url: &str, args: &[&str]) -> Ended {
    run_to_end(directory, args, &[("HOLDLINE_STORE__URL", url)])
}

#[test]
fn a_store_that_only_the_broker_can_see_is_a_clear_sentence() {
    let directory = tempfile::tempdir().unwrap();
    for args in [
        &["locks", "list"][..],
        &["locks", "show", "order:1"],
        &["events", "list"],
        &["events", "tail"],
        &["events", "show", "0", "1"],
        &["consumers", "list"],
        &["consumers", "drop", "x"],
        &["nodes", "list"],
        &["migrate"],
    ] {
        for (url, text) in [("memory", "are in the broker's own process, where only its HTTP API can look"), ("none", "there are no locks")]
        {
            let ended = with_url(directory.path(), url, args);
            assert!(ended.code == 2 && ended.stderr.contains(&format!("store.url is \"{url}\"")), "{args:?}: {}", ended.said());
            assert!(ended.stderr.contains(text), "{}", ended.said());
        }
        assert_eq!(with_url(directory.path(), "mysql://x", args).code, 2);
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn without_a_store_the_api_says_501_and_in_memory_it_works() {
    let none = Launch::config(one_app("")).env("HOLDLINE_STORE__URL", "none").start();
    let mut http = none.http();
    assert_eq!(http.get("/locks", &[]).refused(501), "This broker keeps no locks and no log: its store.url is \"none\"");
    assert_eq!(http.post("/locks/1/release", "{}").status, 501);
    assert_eq!((http.plain("/ready/holds").refused(503), http.plain("/ready").status), ("No store is configured".to_owned(), 200));

    let memory = Launch::config(one_app(RULE)).env("HOLDLINE_STORE__URL", "memory").start();
    let mut http = memory.http();
    assert_eq!(http.plain("/ready/holds").text(), "OK");
    let mut ws = memory.ws();
    ws.subscribe("private-order.1");
    ws.expect("holdline:locked");
    let locks = http.get("/locks", &[]).json()["locks"].clone();
    assert_eq!(locks[0]["principal"], format!("socket:{}", ws.socket_id), "nobody has signed in");
    let release = format!("/locks/{}/release", locks[0]["fence"]);
    assert_eq!(http.post(&release, "{}").json(), json!({}));
    ws.expect("holdline:lock_lost");
    until("it is free", || http.get("/locks/order:1", &[]).json()["locks"] == json!([]));
}
