//! Endpoints that fail in every way, and come back: nothing is lost, and each channel's order stands.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    APP, Broker, Launch, Receiver, Reply, Ws, hmac_hex, one_app, postgres::fresh_database, run_to_end, stored::wait, until,
};

const APP_KEYS: &str = "client_events = true\n[apps.limits]\nclient_events_per_second = 1000\n";

/// A broker of a store, in a data directory that outlives it, whose application has these endpoints.
fn launch(place: &Path, store: &str, endpoints: &[(&Receiver, &str)]) -> Launch {
    let endpoints: Vec<String> =
        endpoints.iter().map(|(receiver, keys)| format!("[[apps.webhooks]]\nurl = \"{}\"\n{keys}\n", receiver.url("/hooks"))).collect();
    let data_dir = place.display().to_string();
    let app = one_app(&format!("{APP_KEYS}{}", endpoints.concat()));
    Launch::config(format!("[store]\nurl = {store:?}\ndata_dir = {data_dir:?}\n[webhooks]\ndelay = \"0s\"\n{app}"))
}

const EVENTS: &str = "events = [\"client_event\"]";

/// Sends a client event with a number.
fn send(ws: &mut Ws, channel: &str, number: usize) {
    ws.send_text(&format!(r#"{{"event":"client-n","channel":"{channel}","data":"{number}"}}"#));
}

/// Whoever sends client events on these channels.
fn sender(broker: &Broker, channels: &[&str]) -> Ws {
    let mut ws = broker.ws();
    channels.iter().for_each(|channel| drop(ws.subscribe(channel)));
    ws
}

/// The numbers that were taken on a channel, in order.
fn taken(receiver: &Receiver, channel: &str) -> Vec<usize> {
    let events = receiver.events().into_iter().filter(|event| event["channel"] == channel);
    events.map(|event| event["data"].as_str().expect("a text").parse().expect("a number")).collect()
}

fn within(limit: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn whatever_an_endpoint_does_it_gets_all_in_order_when_it_is_back_and_delays_no_other() {
    let place = tempfile::tempdir().unwrap();
    let (healthy, refused) = (Receiver::start(), Receiver::nowhere());
    let replies = [
        Reply::Status(500),
        Reply::Status(302),
        Reply::Hang(Duration::from_secs(60)),
        Reply::Bytes(""),
        Reply::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbroken o"),
    ];
    let failing: Vec<Receiver> = replies.iter().map(|_| Receiver::start()).collect();
    for (receiver, reply) in failing.iter().zip(replies) {
        receiver.does(move |_| reply);
    }
    // Behind the one that hangs, twelve of a channel would take 24 seconds.
    let keys = format!("{EVENTS}\ntimeout = \"2s\"");
    let mut endpoints: Vec<(&Receiver, &str)> = failing.iter().map(|receiver| (receiver, keys.as_str())).collect();
    endpoints.extend([(&refused, keys.as_str()), (&healthy, keys.as_str())]);
    let broker = launch(place.path(), "sqlite", &endpoints).start();
    let channels = ["private-a", "private-b", "private-c"];
    let mut ws = sender(&broker, &channels);
    let began = Instant::now();
    for number in 0..12 {
        channels.iter().for_each(|channel| send(&mut ws, channel, number));
    }
    until("the healthy one has everything", || channels.iter().all(|channel| taken(&healthy, channel).len() == 12));
    assert!(began.elapsed() < Duration::from_secs(20), "beside all that hangs: {:?}", began.elapsed());
    for (receiver, reply) in failing.iter().zip(replies) {
        until(&format!("it is tried again: {reply:?}"), || receiver.got().len() > 8);
        assert!(receiver.events().is_empty() && receiver.got().iter().all(|request| request.head.starts_with("POST /hooks ")));
        receiver.answer(200);
    }
    refused.listen();
    let numbers: Vec<usize> = (0..12).collect();
    for receiver in failing.iter().chain([&refused]) {
        let all = || channels.iter().all(|channel| taken(receiver, channel).len() >= 12);
        within(Duration::from_secs(80), "all has arrived", all);
        for channel in channels {
            assert_eq!(taken(receiver, channel), numbers, "{channel}");
        }
        // As a receiver would: each attempt has its own time, and its own signature over exactly what came.
        let mut times: Vec<i64> = receiver.got().iter().map(|request| request.json()["time_ms"].as_i64().expect("a time")).collect();
        times.sort_unstable();
        assert!(times.last() > times.first());
        for request in receiver.got() {
            assert_eq!(request.header("X-Pusher-Signature"), hmac_hex(APP.secret, &request.body));
        }
    }
    assert_eq!(taken(&healthy, "private-a"), numbers);
}

#[test]
fn an_event_that_alone_is_refused_holds_up_its_channel_and_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    let (strict, patient) = (Receiver::start(), Receiver::start());
    for receiver in [&strict, &patient] {
        receiver.does(|body| Reply::Status(if body.contains(r#""data":"113""#) { 500 } else { 200 }));
    }
    const ORDER_FOR: Duration = Duration::from_secs(5);
    let short = format!("{EVENTS}\norder_for = \"5s\"");
    let broker = launch(place.path(), "sqlite", &[(&strict, EVENTS), (&patient, &short)]).start();
    let mut ws = sender(&broker, &["private-bad", "private-good"]);
    let began = Instant::now();
    for number in 112..116 {
        send(&mut ws, "private-bad", number);
    }
    for number in 0..50 {
        send(&mut ws, "private-good", number);
    }
    let numbers: Vec<usize> = (0..50).collect();
    until("others pass", || taken(&strict, "private-good") == numbers && taken(&patient, "private-good") == numbers);
    assert_eq!(taken(&strict, "private-bad"), [112]);
    let passed = taken(&patient, "private-bad");
    assert!(passed == [112] || began.elapsed() >= ORDER_FOR, "{passed:?} after {:?}", began.elapsed());
    until("order_for is over", || taken(&patient, "private-bad") == [112, 114, 115]);
    send(&mut ws, "private-bad", 116);
    until("nothing waits for it any more", || taken(&patient, "private-bad") == [112, 114, 115, 116]);
    assert_eq!(taken(&strict, "private-bad"), [112], "here it is waited for");
    strict.answer(200);
    patient.answer(200);
    until("in order, where it was waited for", || taken(&strict, "private-bad") == [112, 113, 114, 115, 116]);
    until("and at last, where it was not", || taken(&patient, "private-bad") == [112, 114, 115, 116, 113]);
    let tries = |receiver: &Receiver| receiver.got().iter().filter(|request| request.body.contains(r#""data":"113""#)).count();
    assert!(tries(&strict) > 2 && tries(&patient) > 2);
}

#[test]
fn an_endpoint_is_left_alone_for_as_long_as_it_asks() {
    let place = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.does(|_| Reply::Bytes("HTTP/1.1 503 Service Unavailable\r\nretry-after: 4\r\ncontent-length: 0\r\n\r\n"));
    let broker = launch(place.path(), "sqlite", &[(&receiver, EVENTS)]).start();
    let mut ws = sender(&broker, &["private-a"]);
    send(&mut ws, "private-a", 0);
    until("it is tried", || receiver.got().len() == 1);
    receiver.answer(200);
    send(&mut ws, "private-a", 1);
    until("it is tried again", || taken(&receiver, "private-a") == [0, 1]);
    let waited = receiver.got()[1].at - receiver.got()[0].at;
    assert!(waited >= Duration::from_secs(4), "{waited:?}");
}

fn ids(receiver: &Receiver) -> Vec<(String, Value)> {
    let id = |request: &crate::support::Request| request.header("X-Holdline-Event-Id").to_owned();
    receiver.got().iter().map(|request| (id(request), request.json()["events"].clone())).collect()
}

/// How many webhooks the log has.
fn recorded(place: &Path, store: &str) -> usize {
    let data_dir = place.display().to_string();
    let env = [("HOLDLINE_STORE__DATA_DIR", data_dir.as_str()), ("HOLDLINE_STORE__URL", store)];
    let ended = run_to_end(place, &["events", "list", "--json", "--app", APP.id], &env);
    assert_eq!(ended.code, 0, "{}", ended.said());
    ended.stdout.lines().filter(|line| line.contains("\"webhook\"")).count()
}

fn what_is_owed_survives_a_kill(store: &str) {
    let place = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let broker = launch(place.path(), store, &[(&receiver, EVENTS)]).start();
    let mut ws = sender(&broker, &["private-a", "private-b"]);
    send(&mut ws, "private-a", 0);
    until("the first is taken", || taken(&receiver, "private-a") == [0]);
    receiver.answer(500);
    for number in 1..20 {
        send(&mut ws, "private-a", number);
        send(&mut ws, "private-b", number);
    }
    until("they are owed", || receiver.got().len() > 4);
    // What a broker has answered with a frame to others, it has recorded soon after: see the feed's tests.
    until("all of it is in the log", || recorded(place.path(), store) == 39);
    broker.signal("KILL");
    drop((ws, broker));
    let tried = ids(&receiver);
    receiver.answer(200);
    let broker = launch(place.path(), store, &[(&receiver, EVENTS)]).start();
    let done = |channel: &str| {
        let mut numbers = taken(&receiver, channel);
        numbers.dedup();
        numbers
    };
    until("the next start delivers all", || done("private-a").len() == 20 && done("private-b").len() == 19);
    assert_eq!((done("private-a"), done("private-b")), ((0..20).collect(), (1..20).collect()));
    let all = ids(&receiver);
    for (id, events) in &tried {
        assert!(all.iter().all(|(other, theirs)| (id == other) == (events == theirs)), "one event, one id: {id}");
        assert!(all[tried.len()..].iter().any(|(other, _)| other == id) || id == &tried[0].0, "{id} comes again");
    }
    drop(broker);
}

#[test]
fn what_is_owed_survives_a_kill_with_sqlite() {
    what_is_owed_survives_a_kill("sqlite");
}

#[test]
fn what_is_owed_survives_a_kill_with_postgresql() {
    what_is_owed_survives_a_kill(&wait(fresh_database()).0);
}

#[test]
fn of_two_nodes_one_delivers_and_the_other_when_it_is_killed() {
    let (place, url) = (tempfile::tempdir().unwrap(), wait(fresh_database()).0);
    let receiver = Receiver::start();
    let start = |node: &str| launch(&place.path().join(node), &url, &[(&receiver, EVENTS)]).start();
    let (first, second) = (start("1"), start("2"));
    let (mut one, mut two) = (sender(&first, &["private-a"]), sender(&second, &["private-b"]));
    for number in 0..30 {
        send(&mut one, "private-a", number);
        send(&mut two, "private-b", number);
    }
    let numbers: Vec<usize> = (0..30).collect();
    until("both nodes' events arrive", || taken(&receiver, "private-a").len() >= 30 && taken(&receiver, "private-b").len() >= 30);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((taken(&receiver, "private-a"), taken(&receiver, "private-b")), (numbers.clone(), numbers), "once");
    receiver.answer(500);
    for number in 30..40 {
        send(&mut two, "private-b", number);
    }
    until("they are owed", || receiver.got().len() > 62);
    // It was there first, and has the claim.
    first.signal("KILL");
    receiver.answer(200);
    let all = || {
        let mut numbers = taken(&receiver, "private-b");
        numbers.dedup();
        numbers == (0..40).collect::<Vec<_>>()
    };
    within(Duration::from_secs(80), "the other one takes over", all);
    drop(second);
}

#[test]
fn a_request_has_several_events_in_the_order_of_the_log_and_what_is_signed_is_what_is_filtered() {
    let place = tempfile::tempdir().unwrap();
    let (some, whole) = (Receiver::start(), Receiver::start());
    let batch = "batch = true\nmax_batch = 5\nbatch_window = \"400ms\"";
    let filtered = format!("{EVENTS}\nchannel_prefix = \"private-b\"\n{batch}");
    let broker = launch(place.path(), "sqlite", &[(&some, &filtered), (&whole, &format!("{EVENTS}\n{batch}"))]).start();
    let mut ws = sender(&broker, &["private-a", "private-b"]);
    for number in 0..12 {
        send(&mut ws, if number % 2 == 0 { "private-a" } else { "private-b" }, number);
    }
    until("all arrive", || whole.events().len() == 12 && some.events().len() == 6);
    let numbers = |events: &[Value]| events.iter().map(|event| event["data"].as_str().unwrap().parse().unwrap()).collect::<Vec<usize>>();
    assert_eq!(numbers(&whole.events()), (0..12).collect::<Vec<_>>(), "in the order in which they happened, over all channels");
    assert_eq!(numbers(&some.events()), [1, 3, 5, 7, 9, 11]);
    for receiver in [&some, &whole] {
        let sizes: Vec<usize> = receiver.got().iter().map(|request| request.events().len()).collect();
        assert!(sizes.iter().all(|size| *size <= 5) && sizes.len() <= 5, "{sizes:?}");
    }
    // Whole requests are tried again before anybody is blamed; then one event after the other.
    let before = whole.got().len();
    whole.does(|body| Reply::Status(if body.contains(r#""data":"99""#) { 500 } else { 200 }));
    for (channel, number) in [("private-a", 20), ("private-b", 99), ("private-a", 21), ("private-b", 22)] {
        send(&mut ws, channel, number);
    }
    let with_poison = || whole.got()[before..].iter().filter(|request| request.body.contains(r#""data":"99""#)).count();
    within(Duration::from_secs(80), "the others pass", || taken(&whole, "private-a").ends_with(&[20, 21]) && with_poison() > 3);
    assert!(!taken(&whole, "private-b").contains(&22), "what follows it for its channel waits");
    whole.answer(200);
    until("then that arrives, too", || taken(&whole, "private-b").ends_with(&[99, 22]));
}
