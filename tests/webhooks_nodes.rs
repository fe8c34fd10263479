//! Webhooks over several nodes, stops and kills: the store knows who is where, so nothing is told twice and nobody is forgotten.

use crate::support::{Broker, Feed, WAIT, Ws, member, until};

fn both(broker: &Broker) -> Ws {
    let mut ws = broker.ws();
    ws.subscribe("news");
    ws.join("presence-room", &member("7", None));
    ws
}

const CAME: [&str; 3] = ["channel_occupied news", "channel_occupied presence-room", "member_added presence-room 7"];

/// Who is gone, each once; the member before its channel.
fn assert_gone(log: &[String]) {
    let at = |wanted: &str| log.iter().position(|line| line == wanted).unwrap_or_else(|| panic!("no {wanted} in {log:?}"));
    assert!(at("member_removed presence-room 7") < at("channel_vacated presence-room"), "{log:?}");
    at("channel_vacated news");
    assert_eq!(log.len(), 3, "{log:?}");
}

#[test]
fn a_channel_on_two_nodes_is_occupied_by_the_first_and_vacated_by_the_last() {
    let feed = Feed::postgres();
    let (one, other) = (feed.start(), feed.launch(1).start());
    let here = both(&one);
    feed.lines(3);
    let there = both(&other);
    assert_eq!(feed.mark(&other, "first-marker"), CAME);
    drop(here);
    let mut http = one.http();
    until("nobody is left on the first", || http.subscribers("news") == 0);
    assert_eq!(feed.mark(&one, "marker"), CAME);
    assert_eq!(feed.mark(&other, "marker-there"), CAME);
    drop(there);
    feed.until_line("channel_vacated presence-room");
    feed.until_line("channel_vacated news");
    let log = feed.mark(&other, "last-marker");
    assert_gone(&log[3..]);
}

#[test]
fn whoever_is_there_when_a_broker_stops_is_told_gone_by_the_next_start() {
    for feed in [Feed::sqlite(), Feed::postgres()] {
        let feed = Feed { delay: "6s", ..feed };
        let mut broker = feed.start();
        let mut sockets: Vec<Ws> = (0..20).map(|_| broker.ws()).collect();
        for (at, ws) in sockets.iter_mut().enumerate() {
            ws.join("presence-room", &member(&at.to_string(), None));
        }
        broker.signal("TERM");
        assert!(broker.exited(WAIT).success());
        drop((sockets, broker));
        assert!(!feed.log().contains(&"channel_vacated presence-room".to_owned()), "nobody knew yet whether they come back");
        let _broker = feed.start();
        let log = feed.until_line("channel_vacated presence-room");
        let count = |name: &str| log.iter().filter(|line| line.starts_with(name)).count();
        assert_eq!((count("channel_occupied"), count("member_added"), count("member_removed")), (1, 20, 20), "{log:#?}");
        assert_eq!((log.len(), log[41].as_str()), (42, "channel_vacated presence-room"));
    }
}

#[test]
fn after_a_kill_those_who_come_back_in_time_were_never_gone_and_the_others_are_told_once() {
    let feed = Feed { delay: "10s", ..Feed::sqlite() };
    let broker = feed.start();
    let ws = both(&broker);
    feed.lines(3);
    broker.signal("KILL");
    drop((broker, ws));
    let broker = feed.start();
    let ws = both(&broker);
    assert_eq!(feed.mark(&broker, "marker"), CAME, "they were back in time");
    broker.signal("KILL");
    drop((broker, ws));
    let broker = feed.start();
    feed.until_line("channel_vacated presence-room");
    feed.until_line("channel_vacated news");
    let log = feed.mark(&broker, "second-marker");
    assert_eq!(log[..3], CAME);
    assert_gone(&log[3..]);
}
