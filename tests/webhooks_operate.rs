//! What an operator sees of webhooks and does about dead letters: on the command line, and through the API.

use serde_json::{Value, json};

use crate::support::{APP, Answer, Broker, Ended, Feed, Http, OTHER, Reply, hmac_hex, run_to_end, until};

/// One that refuses what is called bad, and gives it up soon.
fn feed() -> Feed {
    let endpoint = "name = \"shop\"\nevents = [\"client_event\"]\nretry_for = \"1s\"\nheaders = { \"X-Token\" = \"open-sesame\" }";
    let feed = Feed { endpoint: endpoint.to_owned(), ..Feed::sqlite() };
    feed.receiver.does(|body| Reply::Status(if body.contains("client-bad") { 500 } else { 200 }));
    feed
}

/// A command beside the broker, with its configuration.
fn holdline(feed: &Feed, broker: &Broker, args: &[&str]) -> Ended {
    let config = feed.directory.path().join("holdline.toml");
    std::fs::write(&config, feed.launch(0).config).expect("the file is written");
    let url = format!("http://{}", broker.address());
    let mut args = args.to_vec();
    if matches!(args[1], "replay" | "drop") {
        args.extend(["--url", &url]);
    }
    run_to_end(feed.directory.path(), &args, &[])
}

fn lines(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, 0, "{}", ended.said());
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn dead(feed: &Feed, broker: &Broker) -> Vec<Value> {
    lines(&holdline(feed, broker, &["webhooks", "dead", "--json"]))
}

fn delete(http: &mut Http, path: &str, query: &[(&str, &str)]) -> Answer {
    let target = http.signed_target("DELETE", path, query, b"");
    http.request("DELETE", &target, &[], b"")
}

/// Client events of which the bad ones become dead letters.
fn happen(broker: &Broker, names: &[&str]) {
    let mut ws = broker.ws();
    ws.subscribe("private-room");
    for name in names {
        ws.send_text(&format!(r#"{{"event":"client-{name}","channel":"private-room","data":"{name}"}}"#));
    }
    // Its last word: all of it was read.
    ws.send_text(r#"{"event":"pusher:ping","data":{}}"#);
    ws.expect("pusher:pong");
}

#[test]
fn a_dead_letter_is_listed_replayed_with_a_new_time_and_signature_or_dropped() {
    let feed = feed();
    let broker = feed.start();
    happen(&broker, &["good", "bad-1", "bad-2", "fine"]);
    until("they are given up, and the others pass", || dead(&feed, &broker).len() == 2 && feed.receiver.events().len() == 2);
    let letters = dead(&feed, &broker);
    let letter = &letters[0];
    let event_id = letter["event_id"].as_str().expect("an id");
    assert_eq!((letter["id"].clone(), letter["endpoint"].clone()), (json!(format!("shop:{event_id}")), json!("shop")));
    assert_eq!((letter["name"].clone(), letter["channel"].clone()), (json!("client_event"), json!("private-room")));
    assert_eq!((letter["fields"]["event"].clone(), letter["app"].clone()), (json!("client-bad-1"), json!(APP.id)));
    assert!(letter["last_error"].as_str().is_some_and(|error| error.contains("500")) && letter["attempts"].as_i64() > Some(0), "{letter}");
    let table = holdline(&feed, &broker, &["webhooks", "dead"]).stdout;
    assert!(table.starts_with("ID ") && table.contains(letter["id"].as_str().unwrap()), "{table}");
    let warned = broker.log_lines().into_iter().filter(|line| line.contains("dead letter now")).collect::<Vec<_>>();
    assert_eq!(warned.len(), 2, "one line each: {warned:#?}");
    assert!(
        warned[0].contains("webhook:app-id:shop") && warned[0].contains(event_id) && warned[0].contains("client_event"),
        "{}",
        warned[0]
    );
    let state = &lines(&holdline(&feed, &broker, &["webhooks", "list", "--json"]))[0];
    assert_eq!((state["endpoint"].clone(), state["dead"].clone(), state["lag"].clone()), (json!("shop"), json!(2), json!(0)), "{state}");
    assert_eq!((state["events"].clone(), state["oldest_owed"].clone()), (json!(["client_event"]), Value::Null), "{state}");

    let tried = |name: &str| {
        let requests = feed.receiver.got().into_iter().filter(|request| request.body.contains(name));
        requests.map(|request| (request.json()["time_ms"].as_i64().unwrap(), request)).collect::<Vec<_>>()
    };
    let before = tried("client-bad-1");
    feed.receiver.answer(200);
    let ended = holdline(&feed, &broker, &["webhooks", "replay", letter["id"].as_str().unwrap()]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, format!("Replaying shop:{event_id} of app {}\n", APP.id).as_str()),
        "{}",
        ended.said()
    );
    until("it is delivered", || tried("client-bad-1").len() > before.len());
    let (time, last) = tried("client-bad-1").pop().unwrap();
    assert!(time > before.last().unwrap().0 && last.status == 200);
    assert_eq!(last.header("X-Pusher-Signature"), hmac_hex(APP.secret, &last.body));
    assert_eq!(last.header("X-Holdline-Event-Id"), event_id, "it is the same event");
    assert_eq!(last.header("X-Token"), "open-sesame", "a header of the configuration");
    until("it is done with", || dead(&feed, &broker).len() == 1);

    let other = letters[1]["id"].as_str().unwrap();
    let count = tried("client-bad-2").len();
    let ended = holdline(&feed, &broker, &["webhooks", "drop", other]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(dead(&feed, &broker).is_empty());
    assert_eq!(tried("client-bad-2").len(), count, "nobody sent it");
    let gone = holdline(&feed, &broker, &["webhooks", "replay", other]);
    assert!(gone.code == 1 && gone.stderr.contains("404 Unknown id: there is no such dead letter"), "{}", gone.said());
    for secret in [APP.secret, "open-sesame"] {
        assert!(!broker.log_text().contains(secret), "the log tells {secret}");
    }
}

#[test]
fn all_dead_letters_or_those_of_one_endpoint_are_replayed_or_dropped_at_once() {
    let feed = feed();
    let broker = feed.start();
    happen(&broker, &["bad-1", "bad-2", "bad-3", "fine"]);
    until("they are given up", || dead(&feed, &broker).len() == 3);
    let all = |args: &[&str]| lines(&holdline(&feed, &broker, args)).remove(0);
    assert_eq!(all(&["webhooks", "drop", "--endpoint", "other", "--json"]), json!({ "app": APP.id, "dropped": 0 }));
    assert_eq!(all(&["webhooks", "replay", "--endpoint", "shop", "--json"]), json!({ "app": APP.id, "replayed": 3 }));
    until("they fail again", || dead(&feed, &broker).len() == 3);
    assert_eq!(all(&["webhooks", "drop", "--all", "--json"]), json!({ "app": APP.id, "dropped": 3 }));
    assert!(dead(&feed, &broker).is_empty());
    let usage = holdline(&feed, &broker, &["webhooks", "drop"]);
    assert_eq!(usage.code, 2, "{}", usage.said());
}

#[test]
fn the_api_lists_endpoints_and_dead_letters_of_its_own_application_only() {
    let mut feed = feed();
    feed.endpoint += &format!("\n[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n", OTHER.id, OTHER.key, OTHER.secret);
    let broker = feed.start();
    happen(&broker, &["bad-1", "bad-2", "bad-3"]);
    let (mut http, mut other) = (broker.http(), broker.http().signing_as(OTHER));
    until("they are given up", || http.get("/webhooks/dead", &[]).json()["dead"].as_array().unwrap().len() == 3);
    let endpoints = http.get("/webhooks", &[]).json();
    let endpoint = &endpoints["webhooks"][0];
    assert_eq!(
        (endpoint["endpoint"].clone(), endpoint["dead"].clone(), endpoint["configured"].clone()),
        (json!("shop"), json!(3), json!(true))
    );
    assert_eq!((endpoint["lag"].clone(), endpoint["aside"].clone(), endpoint["oldest_owed"].clone()), (json!(0), json!(0), Value::Null));
    assert!(endpoint["url"].as_str().is_some_and(|url| url.ends_with("/hooks")), "{endpoint}");
    assert!(!endpoints.to_string().contains("open-sesame"));

    let page = http.get("/webhooks/dead", &[("limit", "2"), ("endpoint", "shop")]).json();
    assert_eq!(page["dead"].as_array().unwrap().len(), 2);
    let next = http.get("/webhooks/dead", &[("after", page["next"].as_str().expect("there are more"))]).json();
    assert_eq!((next["dead"].as_array().unwrap().len(), next["next"].clone()), (1, Value::Null));
    assert_eq!(http.get("/webhooks/dead", &[("endpoint", "none")]).json()["dead"], json!([]));
    let id = page["dead"][0]["id"].as_str().unwrap();

    assert_eq!(other.get("/webhooks", &[]).json(), json!({ "webhooks": [] }));
    assert_eq!(other.get("/webhooks/dead", &[]).json(), json!({ "dead": [], "next": null }));
    for answer in [other.post(&format!("/webhooks/dead/{id}/replay"), "{}"), delete(&mut other, &format!("/webhooks/dead/{id}"), &[])] {
        assert_eq!(answer.refused(404), "Unknown id: there is no such dead letter");
    }
    assert_eq!(http.post("/webhooks/dead/x/replay", "{}").refused(400), "id must be the id of a dead letter, such as shop:3-71");
    assert_eq!(http.get("/webhooks/dead", &[("after", "x")]).refused(400), "after must be the id of a dead letter, such as shop:3-71");
    assert_eq!(http.get("/webhooks/dead", &[("limit", "0")]).refused(400), "limit must be a number from 1 to 1000");
    assert_eq!(http.post("/webhooks", "{}").refused(405), "Method not allowed: this path takes GET");
    assert_eq!(http.plain(&format!("/apps/{}/webhooks", APP.id)).status, 401);

    assert_eq!(delete(&mut http, &format!("/webhooks/dead/{id}"), &[]).json(), json!({}));
    feed.receiver.answer(200);
    assert_eq!(http.post("/webhooks/dead/replay", "{}").json(), json!({ "replayed": 2, "more": false }));
    until("they are delivered", || feed.receiver.events().iter().filter(|event| event["event"] != "client-fine").count() == 2);
    until("none is left", || http.get("/webhooks/dead", &[]).json()["dead"] == json!([]));
    assert_eq!(delete(&mut http, "/webhooks/dead", &[("endpoint", "shop")]).json(), json!({ "dropped": 0, "more": false }));
}

#[test]
fn the_list_says_what_an_endpoint_waits_for_and_shows_no_secret() {
    let mut feed = feed();
    let token = feed.receiver.url("/hooks?token=open-sesame").replacen("http://", "http://shop:door-key@", 1);
    feed.endpoint = format!("[[apps.webhooks]]\nurl = \"{token}\"\nname = \"second\"\nbatch = true");
    let broker = feed.start();
    feed.receiver.answer(503);
    happen(&broker, &["a", "b"]);
    let list = || lines(&holdline(&feed, &broker, &["webhooks", "list", "--json"]));
    until("both wait", || list().iter().all(|state| state["lag"].as_i64() > Some(0) && state["last_error"].is_string()));
    for state in list() {
        assert!(state["last_error"].as_str().unwrap().contains("503") && state["attempts"].as_i64() > Some(0), "{state}");
        assert!(state["oldest_owed"].is_string() && state["owner"].is_string(), "{state}");
    }
    let table = holdline(&feed, &broker, &["webhooks", "list"]).stdout;
    assert!(table.contains("second") && table.contains("503"), "{table}");
    until("it is said once", || broker.log_text().contains("does not take"));
    for secret in ["door-key", "open-sesame", APP.secret] {
        assert!(!table.contains(secret) && !broker.log_text().contains(secret), "{secret}: {table}");
    }
    feed.receiver.answer(200);
    until("nothing is owed", || list().iter().all(|state| state["lag"] == 0 && state["oldest_owed"].is_null()));
}
