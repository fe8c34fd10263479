//! Who is on a channel, while nodes die or freeze and the database is away: in the end each webhook is in the log once.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Broker, Feed, Launch, Ws, member,
    postgres::{Postgres, ServerOptions, Stop},
    stored::wait,
    until,
};

/// A lease that is soon over.
const QUICK: &str = "lease = \"3s\"\nheartbeat_interval = \"500ms\"\nsweep_interval = \"200ms\"";

#[test]
#[ignore = "fault suite"]
fn the_channels_of_a_lost_node_are_vacated_by_another_and_those_of_both_are_not() {
    let feed = Feed { delay: "1s", keys: QUICK, ..Feed::postgres() };
    let (lost, other) = (feed.start(), feed.launch(1).start());
    let mut here = lost.ws();
    here.subscribe("news");
    here.join("presence-room", &member("7", None));
    here.join("presence-both", &member("7", None));
    feed.lines(5);
    let mut there = other.ws();
    there.join("presence-both", &member("7", None));
    there.join("presence-both-too", &member("8", None));
    assert_eq!(feed.mark(&other, "marker").len(), 7);
    lost.signal("KILL");
    drop((lost, here));
    feed.until_line("channel_vacated presence-room");
    feed.until_line("channel_vacated news");
    let log = feed.mark(&other, "marker-after");
    let gone: Vec<&str> = log[7..].iter().map(String::as_str).filter(|line| *line != "channel_vacated news").collect();
    assert_eq!((gone.as_slice(), log.len()), (&["member_removed presence-room 7", "channel_vacated presence-room"][..], 10), "{log:#?}");
}

#[test]
#[ignore = "fault suite"]
fn while_the_database_is_away_events_wait_and_comings_and_goings_collapse() {
    let server = Postgres::start(ServerOptions::default());
    let database = wait(server.create_database());
    let url = server.url(&database, "postgres");
    let app = "client_events = true\n[apps.limits]\nclient_events_per_second = 0".to_owned();
    let feed = Feed { app, ..Feed::on(&url) };
    let broker = feed.start();
    let (mut steady, mut flaps, mut leaver) = (broker.ws(), broker.ws(), broker.ws());
    steady.subscribe("private-steady");
    leaver.join("presence-left", &member("7", None));
    feed.lines(3);
    server.stop(Stop::Immediate);
    until("it is noticed", || {
        steady.send(&json!({ "event": "client-n", "channel": "private-steady", "data": "-" }));
        broker.log_text().contains("Webhooks wait until the store answers")
    });
    // More than are kept one by one: 20 channels that end as they began, and 20 that end occupied.
    for round in 0..120 {
        for channel in 0..40 {
            let name = format!("flap-{channel}");
            flaps.subscribe(&name);
            if channel < 20 || round < 119 {
                flaps.unsubscribe(&name);
            }
        }
        steady.send(&json!({ "event": "client-n", "channel": "private-steady", "data": round.to_string() }));
    }
    leaver.unsubscribe("presence-left");
    leaver.subscribe("private-last");
    server.launch();
    feed.until_line("channel_occupied private-last");
    let log = feed.mark(&broker, "marker");
    let entries = feed.entries();
    let told = entries.iter().filter(|entry| entry["type"] == "client_event").map(|entry| entry["context"]["data"].as_str().unwrap());
    let told: Vec<&str> = told.filter(|data| *data != "-").collect();
    assert_eq!(told, (0..120).map(|round| round.to_string()).collect::<Vec<_>>(), "each once, in order");
    for channel in 0..40 {
        let name = format!("flap-{channel}");
        let of: Vec<&str> = log.iter().filter_map(|line| line.strip_suffix(&format!(" {name}"))).collect();
        let expected = |at: usize| if at.is_multiple_of(2) { "channel_occupied" } else { "channel_vacated" };
        assert!(of.iter().enumerate().all(|(at, kind)| *kind == expected(at)), "{name}: {of:?}");
        assert_eq!(of.len() % 2, usize::from(channel >= 20), "{name} is as it is: {of:?}");
    }
    let flapped = log.iter().filter(|line| line.contains("flap-")).count();
    assert!(flapped < 4_200, "{flapped} of 9,580 comings and goings: they did not collapse");
    let left: Vec<&String> = log.iter().filter(|line| line.contains("presence-left")).collect();
    assert_eq!(left[2..], ["member_removed presence-left 7", "channel_vacated presence-left"]);
    drop((steady, flaps, broker));
}

#[test]
#[ignore = "fault suite"]
fn a_node_that_was_declared_dead_by_mistake_declares_who_is_there_and_nobody_hears_of_it() {
    let feed = Feed { delay: "10s", keys: QUICK, ..Feed::postgres() };
    let frozen = Launch { errors_expected: true, ..feed.launch(0) }.start();
    let other = feed.launch(1).start();
    let mut ws = frozen.ws();
    ws.subscribe("news");
    ws.join("presence-room", &member("7", None));
    let came = ["channel_occupied news", "channel_occupied presence-room", "member_added presence-room 7"];
    assert_eq!(feed.lines(3), came);
    frozen.signal("STOP");
    until("the other has declared it dead", || other.log_text().contains("Declared node"));
    std::thread::sleep(Duration::from_secs(1));
    frozen.signal("CONT");
    until("it notices", || frozen.log_text().contains("was declared dead"));
    // What it left vacant would be told of before the marker, which leaves later.
    assert_eq!(mark_after(&feed, &other), came);
    ws.send_text(r#"{"event":"pusher:ping"}"#);
    ws.expect("pusher:pong");
    ws.unsubscribe("news");
    feed.until_line("channel_vacated news");
    let log = feed.mark(&frozen, "marker-of-its-own");
    assert_eq!((log.len(), log[3].as_str()), (4, "channel_vacated news"));
}

/// As `mark`, for a delay that is longer than others wait.
fn mark_after(feed: &Feed, broker: &Broker) -> Vec<String> {
    let mut ws: Ws = broker.ws();
    ws.subscribe("marker");
    ws.unsubscribe("marker");
    std::thread::sleep(Duration::from_secs(10));
    let mut log = feed.until_line("channel_vacated marker");
    log.retain(|line| !line.contains("marker"));
    log
}
