//! `Idempotency-Key` on publishes: one that is sent again is answered again, and not delivered again. See docs::receipts.

use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    APP, Answer, Broker, Http, Launch, OTHER, Ws, eventually, one_app,
    postgres::{self, Postgres, ServerOptions, Stop},
    proxy::{Proxy, Trap},
    scrape::Scrape,
    shared,
    stored::wait,
    unique, until,
};

const REPLAYED: &str = "idempotent-replayed";

/// A signed publish with this key.
fn send(http: &mut Http, path: &str, key: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let target = http.signed_target("POST", path, &[], body.as_bytes());
    http.request("POST", &target, &[("Content-Type", "application/json"), ("Idempotency-Key", key)], body.as_bytes())
}

fn event(channel: &str, data: &str) -> Value {
    json!({ "name": "e", "channel": channel, "data": data })
}

/// Accepted now, not before.
fn accepted(answer: &Answer) {
    assert_eq!((answer.json(), answer.header(REPLAYED)), (json!({}), None));
}

fn replayed(answer: &Answer) {
    assert_eq!((answer.json(), answer.header(REPLAYED)), (json!({}), Some("true")), "{:?}", answer.headers);
}

fn at(place: &Path, url: &str) -> Launch {
    let data_dir = place.display().to_string();
    Launch::config(format!(
        "[metrics]\nbind = \"127.0.0.1:0\"\n[store]\nurl = {url:?}\ndata_dir = {data_dir:?}\nlease = \"8s\"\nheartbeat_interval = \"1s\"\n{}",
        one_app("")
    ))
}

fn listener(broker: &Broker, channel: &str) -> Ws {
    let mut ws = broker.ws();
    ws.subscribe(channel);
    ws
}

fn count(broker: &Broker, outcome: &str) -> f64 {
    Scrape::of(broker).value("holdline_idempotent_publishes_total", &[("app_id", APP.id), ("outcome", outcome)])
}

#[test]
fn a_publish_that_is_sent_again_is_answered_again_and_not_delivered_again_whatever_the_store() {
    for url in ["sqlite", "memory", "none"] {
        let place = tempfile::tempdir().unwrap();
        let broker = at(place.path(), url).start();
        let (mut http, mut ws) = (broker.http(), listener(&broker, "news"));
        accepted(&send(&mut http, "/events", "k", &event("news", "1")));
        ws.expect_data("e", "news", "1");
        for mut again in [broker.http(), http] {
            replayed(&send(&mut again, "/events", "k", &event("news", "1")));
            let text = send(&mut again, "/events", "k", &event("news", "2")).refused(422);
            assert_eq!(text, "This Idempotency-Key was given with another request: another path or another body", "{url}");
            accepted(&send(&mut again, "/events", &unique("other"), &event("elsewhere", "1")));
        }
        ws.quiet();
        let counts = ["accepted", "replayed", "mismatch", "conflict"].map(|outcome| count(&broker, outcome));
        assert_eq!(counts, [3.0, 2.0, 2.0, 0.0], "{url}");
        assert_eq!(Scrape::of(&broker).value("holdline_messages_published_total", &[("source", "server")]), 3.0);
    }
}

#[test]
fn without_the_header_everything_is_published() {
    let broker = shared();
    let channel = unique("news");
    let mut ws = listener(&broker, &channel);
    for _ in 0..3 {
        assert_eq!(broker.http().trigger(&event(&channel, "1")).header(REPLAYED), None);
        ws.expect_data("e", &channel, "1");
    }
    ws.quiet();
}

#[test]
fn the_answer_that_is_given_again_is_the_first_one() {
    let broker = shared();
    let (channel, mut http) = (unique("presence-info"), broker.http());
    let asking = json!({ "name": "e", "channels": [channel], "data": "x", "info": "subscription_count,user_count" });
    let empty = json!({ "channels": { &channel: { "subscription_count": 0, "user_count": 0 } } });
    assert_eq!(send(&mut http, "/events", &channel, &asking).json(), empty);
    let mut ws = broker.ws();
    ws.join(&channel, &crate::support::member("1", None));
    let again = send(&mut http, "/events", &channel, &asking);
    assert_eq!((again.json(), again.header(REPLAYED)), (empty, Some("true")), "as it was then, not as it is now");
    ws.quiet();
    let batch = json!({ "batch": [event(&channel, "1"), { "channel": channel, "name": "f", "data": "2", "info": "user_count" }] });
    let key = unique("batch");
    let first = send(&mut http, "/batch_events", &key, &batch);
    assert_eq!(first.json(), json!({ "batch": [{}, { "user_count": 1 }] }));
    let again = send(&mut http, "/batch_events", &key, &batch);
    assert_eq!((again.text(), again.header(REPLAYED)), (first.text(), Some("true")));
    ws.expect_data("e", &channel, "1");
    ws.expect_data("f", &channel, "2");
    ws.quiet();
}

/// A body that both paths would take: the path is part of the request.
#[test]
fn a_key_belongs_to_a_path_and_to_an_application() {
    let config =
        format!("{}{}", one_app(""), one_app("").replace(APP.id, OTHER.id).replace(APP.key, OTHER.key).replace(APP.secret, OTHER.secret));
    let broker = Broker::with(config);
    let mut http = broker.http();
    let both = json!({ "name": "e", "channel": "news", "data": "1", "batch": [event("news", "1")] });
    accepted(&send(&mut http, "/events", "k", &both));
    send(&mut http, "/batch_events", "k", &both).refused(422);
    let mut other = broker.http().signing_as(OTHER);
    accepted(&send(&mut other, "/events", "k", &both));
    accepted(&send(&mut other, "/events", "K", &both));
}

/// An escaped path, which the shorter way leaves alone, and a prefix.
#[test]
fn the_way_through_the_router_is_the_same() {
    let broker = Broker::with(format!("[server]\npath_prefix = \"/ws\"\n{}", one_app("")));
    let (mut http, mut ws) = (broker.http(), listener(&broker, "news"));
    let body = event("news", "1").to_string();
    let path = format!("/apps/{}%2Did/events", APP.id.trim_end_matches("-id"));
    let query = crate::support::query_string(&APP.signed_query("POST", &path, &[], body.as_bytes()));
    let target = format!("{path}?{query}");
    let mut keyed = |target: &str| http.request("POST", target, &[("Idempotency-Key", "k")], body.as_bytes());
    accepted(&keyed(&target));
    replayed(&keyed(&target));
    let short = broker.http().signed_target("POST", "/events", &[], body.as_bytes());
    replayed(&keyed(&short));
    replayed(&keyed(&format!("/ws{short}")));
    ws.expect_data("e", "news", "1");
    ws.quiet();
}

#[test]
fn a_key_that_is_none_is_refused_by_name_and_limit() {
    let broker = shared();
    let (channel, mut http) = (unique("news"), broker.http());
    let mut ws = listener(&broker, &channel);
    let rule = "The header Idempotency-Key must be 1 to 255 visible ASCII characters";
    for bad in ["", "two words", "schlüssel", &"x".repeat(256)] {
        assert_eq!(send(&mut http, "/events", bad, &event(&channel, "1")).refused(400), rule, "{bad:?}");
    }
    let body = event(&channel, "1").to_string();
    let target = http.signed_target("POST", "/events", &[], body.as_bytes());
    let twice = [("Idempotency-Key", "a"), ("idempotency-key", "a")];
    assert_eq!(http.request("POST", &target, &twice, body.as_bytes()).refused(400), "The header Idempotency-Key may be given once");
    ws.quiet();
    accepted(&send(&mut http, "/events", &unique("key"), &event(&channel, "1")));
    accepted(&send(&mut http, "/events", &"~".repeat(255), &event(&channel, "2")));
}

#[test]
fn what_is_refused_leaves_its_key_free() {
    let broker =
        Broker::with(format!("[metrics]\nbind = \"127.0.0.1:0\"\n{}", one_app("[apps.limits]\npublishes_per_second = 1\nmax_batch = 1")));
    let (mut http, mut ws) = (broker.http(), listener(&broker, "news"));
    for (body, status) in [(json!({}), 400), (json!([]), 400), (event("no channel", "1"), 400), (event("news", &"x".repeat(10_241)), 413)] {
        send(&mut http, "/events", "k", &body).refused(status);
    }
    // Not signed: nobody looks at the key.
    let body = event("news", "1").to_string();
    let answer = http.request("POST", "/apps/app-id/events?auth_key=app-key", &[("Idempotency-Key", "k")], body.as_bytes());
    assert_eq!(answer.status, 401);
    accepted(&send(&mut http, "/events", "k", &event("news", "1")));
    ws.expect_data("e", "news", "1");
    // A replay costs nothing of the rate, and what the rate refuses may be sent again with the same key.
    for _ in 0..20 {
        replayed(&send(&mut http, "/events", "k", &event("news", "1")));
    }
    let mut refused = 0;
    eventually("the rate has room", || {
        let answer = send(&mut http, "/events", "later", &event("news", "2"));
        if answer.status == 429 {
            refused += 1;
            return None;
        }
        accepted(&answer);
        Some(())
    });
    ws.expect_data("e", "news", "2");
    ws.quiet();
    assert_eq!(count(&broker, "refused"), f64::from(4 + refused));
}

#[test]
fn a_key_is_remembered_over_a_stop_and_over_a_kill() {
    let place = tempfile::tempdir().unwrap();
    let mut broker = at(place.path(), "sqlite").start();
    for (round, signal) in ["TERM", "KILL", "KILL"].into_iter().enumerate() {
        let key = format!("k{round}");
        let mut ws = listener(&broker, "news");
        accepted(&send(&mut broker.http(), "/events", &key, &event("news", &key)));
        ws.expect_data("e", "news", &key);
        broker.signal(signal);
        broker.exited(Duration::from_secs(25));
        drop(broker);
        broker = at(place.path(), "sqlite").start();
        let mut ws = listener(&broker, "news");
        for round in 0..=round {
            let key = format!("k{round}");
            replayed(&send(&mut broker.http(), "/events", &key, &event("news", &key)));
            send(&mut broker.http(), "/events", &key, &event("news", "another")).refused(422);
        }
        ws.quiet();
    }
}

#[test]
fn after_its_window_a_key_is_new() {
    let broker = Broker::with(one_app("[apps.limits]\nidempotency_window = \"1s\""));
    let (mut http, mut ws) = (broker.http(), listener(&broker, "news"));
    accepted(&send(&mut http, "/events", "k", &event("news", "1")));
    ws.expect_data("e", "news", "1");
    eventually("the key is forgotten", || {
        let answer = send(&mut http, "/events", "k", &event("news", "2"));
        (answer.status == 200).then(|| accepted(&answer))
    });
    ws.expect_data("e", "news", "2");
    ws.quiet();
}

/// Waits out whoever is at work, as a publisher should; how often it was told to, and the answer.
fn insist(http: &mut Http, key: &str, body: &Value) -> (usize, Answer) {
    let mut told_to_wait = 0;
    let answer = eventually("the publish is answered", || {
        let answer = send(http, "/events", key, body);
        if answer.status == 409 || answer.status == 503 {
            assert_eq!(answer.header("retry-after"), Some("1"));
            told_to_wait += 1;
            return None;
        }
        Some(answer)
    });
    (told_to_wait, answer)
}

/// Four publishers at two brokers on one database, the same key at the same moment, many times: one of them delivers.
#[test]
fn two_brokers_that_race_for_a_key_deliver_once() {
    let (url, _) = wait(postgres::fresh_database());
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let brokers = [at(places[0].path(), &url).start(), at(places[1].path(), &url).start()];
    let mut listeners = brokers.each_ref().map(|broker| listener(broker, "news"));
    let (rounds, start) = (60, Barrier::new(4));
    let results: Vec<(usize, Vec<bool>)> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|racer| {
                let (mut http, start) = (brokers[racer % 2].http(), &start);
                scope.spawn(move || {
                    let mut waited = 0;
                    let round = |round: usize| {
                        start.wait();
                        let key = format!("race-{round}");
                        let (told_to_wait, answer) = insist(&mut http, &key, &event("news", &key));
                        assert_eq!(answer.json(), json!({}));
                        waited += told_to_wait;
                        answer.header(REPLAYED).is_none()
                    };
                    let first: Vec<bool> = (0..rounds).map(round).collect();
                    (waited, first)
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().expect("a racer does not panic")).collect()
    });
    for round in 0..rounds {
        assert_eq!(results.iter().filter(|(_, first)| first[round]).count(), 1, "round {round} was accepted by one");
    }
    for broker in &brokers {
        broker.http().publish("news", "end", "");
    }
    let mut delivered: Vec<String> = Vec::new();
    for ws in &mut listeners {
        loop {
            let event = ws.event();
            if event.name() == "end" {
                break;
            }
            delivered.push(event.data().to_owned());
        }
    }
    delivered.sort();
    let mut expected: Vec<String> = (0..rounds).map(|round| format!("race-{round}")).collect();
    expected.sort();
    assert_eq!(delivered, expected, "each once, over both brokers");
    let outcomes = |outcome: &str| brokers.iter().map(|broker| count(broker, outcome)).sum::<f64>();
    assert_eq!((outcomes("accepted"), outcomes("replayed"), outcomes("taken_over")), (60.0, 180.0, 0.0));
    let waited: usize = results.iter().map(|(waited, _)| waited).sum();
    assert_eq!(outcomes("conflict") + outcomes("unavailable"), waited as f64);
}

/// Killed between the claim and the publish: the claim is in the database, and nobody was told.
#[test]
fn what_a_dead_broker_had_claimed_is_published_by_the_next_attempt() {
    let (url, name) = wait(postgres::fresh_database());
    let proxy = Proxy::to(Postgres::shared().address());
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut doomed = at(places[0].path(), &Postgres::shared().url_through(proxy.address(), &name)).start();
    let other = at(places[1].path(), &url).start();
    let (mut here, mut there) = (listener(&doomed, "news"), listener(&other, "news"));
    accepted(&send(&mut doomed.http(), "/events", "warm", &event("elsewhere", "1")));
    // The claim is written and its answer lost; what would give the key back never arrives.
    proxy.trap("doomed-key", Trap::CutAnswer);
    proxy.trap("doomed-key", Trap::HoldUp);
    let body = event("news", "1").to_string();
    let mut http = doomed.http();
    let target = http.signed_target("POST", "/events", &[], body.as_bytes());
    http.send_bytes(&crate::support::request_bytes("POST", &target, &[("Idempotency-Key", "doomed-key")], body.as_bytes()));
    until("the claim is written", || proxy.sprung() == 2);
    here.quiet();
    doomed.signal("KILL");
    doomed.exited(Duration::from_secs(25));
    let answer = send(&mut other.http(), "/events", "doomed-key", &event("news", "1"));
    assert_eq!(answer.refused(409), "A request with this Idempotency-Key is at work, try again");
    assert_eq!(answer.header("retry-after"), Some("1"));
    send(&mut other.http(), "/events", "doomed-key", &event("news", "2")).refused(422);
    let (_, answer) = insist(&mut other.http(), "doomed-key", &event("news", "1"));
    accepted(&answer);
    there.expect_data("e", "news", "1");
    replayed(&send(&mut other.http(), "/events", "doomed-key", &event("news", "1")));
    there.quiet();
    assert_eq!((count(&other, "taken_over"), count(&other, "accepted")), (1.0, 0.0));
}

/// The publisher is told the truth, the database later; a broker that dies before that has published, and the next attempt does it again.
#[test]
fn an_answer_that_the_database_does_not_take_is_written_later_or_published_again_after_a_death() {
    let (url, _) = wait(postgres::fresh_database());
    let place = tempfile::tempdir().unwrap();
    let mut broker = at(place.path(), &url).start();
    let mut ws = listener(&broker, "news");
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE EXCEPTION 'not now' USING ERRCODE = '57P03'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON holdline.idempotency FOR EACH ROW WHEN (new.answer IS NOT NULL) EXECUTE FUNCTION refuse()";
    wait(postgres::run(&url, refuse.to_owned()));
    accepted(&send(&mut broker.http(), "/events", "k", &event("news", "1")));
    ws.expect_data("e", "news", "1");
    send(&mut broker.http(), "/events", "k", &event("news", "1")).refused(409);
    wait(postgres::run(&url, "ALTER TABLE holdline.idempotency DISABLE TRIGGER refuse".to_owned()));
    let (_, answer) = insist(&mut broker.http(), "k", &event("news", "1"));
    replayed(&answer);
    ws.quiet();
    wait(postgres::run(&url, "ALTER TABLE holdline.idempotency ENABLE TRIGGER refuse".to_owned()));
    accepted(&send(&mut broker.http(), "/events", "k2", &event("news", "2")));
    ws.expect_data("e", "news", "2");
    broker.signal("KILL");
    broker.exited(Duration::from_secs(25));
    wait(postgres::run(&url, "ALTER TABLE holdline.idempotency DISABLE TRIGGER refuse".to_owned()));
    // Its successor has its name: what it had claimed is free at once.
    let broker = at(place.path(), &url).start();
    let mut ws = listener(&broker, "news");
    accepted(&send(&mut broker.http(), "/events", "k2", &event("news", "2")));
    ws.expect_data("e", "news", "2");
    replayed(&send(&mut broker.http(), "/events", "k2", &event("news", "2")));
    ws.quiet();
    assert_eq!(count(&broker, "taken_over"), 1.0);
}

/// A stop waits for what is at work: nobody takes it over, and the answer is there for the next one.
#[test]
fn a_stop_in_the_midst_of_a_publish_loses_no_answer() {
    let (url, _) = wait(postgres::fresh_database());
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (mut leaving, other) = (at(places[0].path(), &url).start(), at(places[1].path(), &url).start());
    let (mut here, mut there) = (listener(&leaving, "news"), listener(&other, "news"));
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.5); RETURN new; END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON holdline.idempotency FOR EACH ROW WHEN (new.answer IS NOT NULL) EXECUTE FUNCTION slow()";
    wait(postgres::run(&url, slow.to_owned()));
    let body = event("news", "1").to_string();
    let mut http = leaving.http();
    let target = http.signed_target("POST", "/events", &[], body.as_bytes());
    http.send_bytes(&crate::support::request_bytes("POST", &target, &[("Idempotency-Key", "k")], body.as_bytes()));
    here.expect_data("e", "news", "1");
    leaving.signal("TERM");
    let (_, answer) = insist(&mut other.http(), "k", &event("news", "1"));
    replayed(&answer);
    accepted(&http.answer());
    assert!(leaving.exited(Duration::from_secs(25)).success());
    there.quiet();
    assert_eq!(count(&other, "taken_over"), 0.0);
}

/// A publisher that hangs up has begun something all the same, and asks again.
#[test]
fn a_publisher_that_does_not_wait_for_the_answer_gets_it_the_next_time() {
    let (url, _) = wait(postgres::fresh_database());
    let place = tempfile::tempdir().unwrap();
    let broker = at(place.path(), &url).start();
    let mut ws = listener(&broker, "news");
    for round in 0..20 {
        let data = round.to_string();
        let body = event("news", &data).to_string();
        let mut http = broker.http();
        let target = http.signed_target("POST", "/events", &[], body.as_bytes());
        http.send_bytes(&crate::support::request_bytes("POST", &target, &[("Idempotency-Key", &data)], body.as_bytes()));
        drop(http);
        // It may not even have been read before it was hung up; then it is the second one that publishes.
        let (_, answer) = insist(&mut broker.http(), &data, &event("news", &data));
        assert_eq!(answer.json(), json!({}));
        ws.expect_data("e", "news", &data);
    }
    ws.quiet();
}

#[test]
fn without_an_answer_from_the_store_nothing_is_published_on_a_guess() {
    let server = Postgres::start(ServerOptions::default());
    let name = wait(server.create_database());
    let place = tempfile::tempdir().unwrap();
    let broker = Launch { errors_expected: true, ..at(place.path(), &server.url(&name, "postgres")) }.start();
    let (mut http, mut ws) = (broker.http(), listener(&broker, "news"));
    accepted(&send(&mut http, "/events", "before", &event("news", "1")));
    ws.expect_data("e", "news", "1");
    server.stop(Stop::Fast);
    for key in ["before", "now"] {
        let answer = send(&mut http, "/events", key, &event("news", "1"));
        assert_eq!(answer.refused(503), "The store does not answer, try again");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    ws.quiet();
    // Without a key, nobody asks the store.
    http.publish("news", "e", "without");
    ws.expect_data("e", "news", "without");
    server.launch();
    let (_, answer) = insist(&mut http, "before", &event("news", "1"));
    replayed(&answer);
    let (_, answer) = insist(&mut http, "now", &event("news", "1"));
    accepted(&answer);
    ws.expect_data("e", "news", "1");
    ws.quiet();
    assert!(count(&broker, "unavailable") >= 2.0);
}
