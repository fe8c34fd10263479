//! A thousand users join one channel in the same instant: nobody may end with an incomplete list. (Another broker loses 54 to 97 of them.)

use std::collections::HashSet;

use serde_json::json;

use crate::support::{Broker, Ws, member, server_with};

pub(crate) const CROWD: usize = 1000;
pub(crate) const CHANNEL: &str = "presence-crowd";

/// Reads the snapshot and every later join; returns all user ids seen, after checking that none was seen twice.
fn everybody_seen(ws: &mut Ws) -> usize {
    let snapshot = ws.acknowledged(CHANNEL).payload();
    let listed = snapshot["presence"]["ids"].as_array().unwrap();
    assert_eq!(snapshot["presence"]["count"], json!(listed.len()));
    assert_eq!(snapshot["presence"]["hash"].as_object().unwrap().len(), listed.len());
    let mut seen: HashSet<String> = listed.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(seen.len(), listed.len(), "the snapshot names nobody twice");
    while seen.len() < CROWD {
        let event = ws.expect("pusher_internal:member_added");
        let user_id = event.payload()["user_id"].as_str().unwrap().to_owned();
        assert!(seen.insert(user_id), "announced twice, or announced and listed: {}", event.raw);
    }
    seen.len()
}

/// A thousand users join in the same instant, and each sees all of them.
pub(crate) fn everybody_joins(broker: &Broker) -> Vec<Ws> {
    let mut sockets: Vec<Ws> = (0..CROWD).map(|_| broker.ws()).collect();
    std::thread::scope(|scope| {
        for (part, chunk) in sockets.chunks_mut(CROWD / 4).enumerate() {
            scope.spawn(move || {
                for (at, ws) in chunk.iter_mut().enumerate() {
                    ws.send_join(CHANNEL, &member(&format!("user-{part}-{at}"), None));
                }
                for ws in chunk.iter_mut() {
                    assert_eq!(everybody_seen(ws), CROWD);
                }
            });
        }
    });
    sockets
}

#[test]
fn of_a_thousand_who_join_at_once_everybody_ends_with_the_complete_list() {
    rlimit::increase_nofile_limit(10_000).unwrap();
    // Nobody is pinged: on a slow machine nobody reads some of them for minutes.
    let broker = Broker::with(server_with("ping_interval = \"1h\"", &format!("[apps.limits]\nmax_presence_members = {CROWD}")));
    let mut sockets = everybody_joins(&broker);
    for ws in sockets.iter_mut().step_by(50) {
        ws.quiet();
    }
    let users = broker.http().get(&format!("/channels/{CHANNEL}/users"), &[]).json();
    assert_eq!(users["users"].as_array().unwrap().len(), CROWD);

    // And when all but one leave together, the last one hears of each exactly once.
    let mut last = sockets.pop().unwrap();
    drop(sockets);
    let mut gone = HashSet::new();
    while gone.len() < CROWD - 1 {
        let event = last.expect("pusher_internal:member_removed");
        assert!(gone.insert(event.payload()["user_id"].as_str().unwrap().to_owned()), "gone twice: {}", event.raw);
    }
    last.quiet();
    assert_eq!(
        broker.http().get(&format!("/channels/{CHANNEL}"), &[("info", "user_count")]).json(),
        json!({ "occupied": true, "user_count": 1 })
    );
}
