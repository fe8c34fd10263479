//! Webhooks of a crowd that comes and goes in one instant.

use std::collections::HashSet;

use crate::{
    presence_crowd::{CHANNEL, CROWD, everybody_joins},
    support::{Feed, Ws, member},
};

#[test]
fn a_thousand_who_join_at_once_are_a_thousand_added_to_a_channel_that_is_occupied_once() {
    rlimit::increase_nofile_limit(10_000).unwrap();
    let feed = Feed {
        app: format!("[apps.limits]\nmax_presence_members = {CROWD}"),
        // Nobody is pinged: on a slow machine nobody reads some of them for minutes.
        more: "[server]\nping_interval = \"1h\"".to_owned(),
        ..Feed::sqlite()
    };
    let broker = feed.start();
    let sockets = everybody_joins(&broker);
    let log = feed.lines(CROWD + 1);
    assert_eq!(log[0], format!("channel_occupied {CHANNEL}"));
    let added: HashSet<&str> = log[1..].iter().map(|line| line.strip_prefix("member_added presence-crowd ").expect(line)).collect();
    assert_eq!((added.len(), log.len()), (CROWD, CROWD + 1));
    // And they go as they came.
    drop(sockets);
    let log = feed.lines(2 * CROWD + 2);
    let removed: HashSet<&str> =
        log[CROWD + 1..2 * CROWD + 1].iter().map(|line| line.strip_prefix("member_removed presence-crowd ").expect(line)).collect();
    assert_eq!(removed, added);
    assert_eq!(log[2 * CROWD + 1..], [format!("channel_vacated {CHANNEL}")]);
}

#[test]
fn a_hundred_who_drop_at_once_are_removed_before_the_channel_is_vacated_once() {
    for delay in ["0s", "1s"] {
        let feed = Feed { delay, ..Feed::sqlite() };
        let broker = feed.start();
        let mut sockets: Vec<Ws> = (0..100).map(|_| broker.ws()).collect();
        for (at, ws) in sockets.iter_mut().enumerate() {
            ws.join("presence-room", &member(&at.to_string(), None));
        }
        drop(sockets);
        let log = feed.until_line("channel_vacated presence-room");
        assert_eq!(log.iter().filter(|line| line.starts_with("channel_")).count(), 2, "{log:#?}");
        let removed: HashSet<&String> = log[101..201].iter().filter(|line| line.starts_with("member_removed")).collect();
        assert_eq!((removed.len(), log.len()), (100, 202), "{delay}: {log:#?}");
    }
}
