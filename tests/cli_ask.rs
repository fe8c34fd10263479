//! `holdline channels`, `connections`, `kick` and `sign`: who is here, asked from a terminal.

use serde_json::Value;

use crate::support::{Broker, Ended, Launch, run_to_end, until};

fn ask(broker: &Broker, args: &[&str]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("http://{}", broker.address());
    run_to_end(directory.path(), &[args, &["--url", &url]].concat(), &[])
}

fn rows(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, 0, "{}", ended.said());
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn channels_are_listed_with_their_subscriptions_and_members() {
    let broker = Launch::default().start();
    let (mut one, mut two) = (broker.ws(), broker.ws());
    one.subscribe("news");
    two.subscribe("news");
    one.join("presence-room", r#"{"user_id":"1"}"#);
    let all = rows(&ask(&broker, &["channels", "--json"]));
    let expected = [
        serde_json::json!({ "channel": "news", "subscription_count": 2 }),
        serde_json::json!({ "channel": "presence-room", "subscription_count": 1, "user_count": 1 }),
    ];
    assert_eq!(all, expected);
    let ended = ask(&broker, &["channels", "--prefix", "presence-r"]);
    let words: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [vec!["CHANNEL", "SUBSCRIPTIONS", "MEMBERS"], vec!["presence-room", "1", "1"]]);
    assert!(rows(&ask(&broker, &["channels", "--json", "--prefix", "nothing-"])).is_empty());
}

#[test]
fn connections_are_listed_and_a_user_is_sent_away() {
    let broker = Launch::default().start();
    let (mut ada, mut other) = (broker.ws(), broker.ws());
    ada.signin(r#"{"id":"ada"}"#);
    other.subscribe("news");
    let all = rows(&ask(&broker, &["connections", "--json"]));
    let of = |socket_id: &str| all.iter().find(|row| row["socket_id"] == socket_id).unwrap();
    assert_eq!((all.len(), &of(&ada.socket_id)["user_id"]), (2, &"ada".into()));
    assert_eq!(of(&other.socket_id)["channels"], serde_json::json!(["news"]));
    assert_eq!(rows(&ask(&broker, &["connections", "--json", "--limit", "1"])).len(), 1);
    assert!(ask(&broker, &["connections"]).stdout.contains(&ada.socket_id));

    let ended = ask(&broker, &["kick", "ada"]);
    assert!(ended.code == 0 && ended.stdout.contains("user ada"), "{}", ended.said());
    ada.refused(4009);
    until("one is left", || rows(&ask(&broker, &["connections", "--json"])).len() == 1);
    other.quiet();
}

#[test]
fn what_is_signed_is_accepted() {
    let broker = Launch::default().start();
    let mut ws = broker.ws();
    let id = ws.socket_id.clone();
    let signed = |args: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        rows(&run_to_end(directory.path(), args, &[])).remove(0)
    };
    let answer = signed(&["sign", "channel", &id, "private-paper"]);
    ws.send_subscribe("private-paper", answer["auth"].as_str(), None);
    ws.acknowledged("private-paper");
    let answer = signed(&["sign", "channel", &id, "presence-room", r#"{"user_id":"7"}"#]);
    ws.send_subscribe("presence-room", answer["auth"].as_str(), answer["channel_data"].as_str());
    ws.acknowledged("presence-room");
    let answer = signed(&["sign", "user", &id, r#"{"id":"7"}"#]);
    ws.send(&serde_json::json!({ "event": "pusher:signin", "data": answer }));
    ws.expect("pusher:signin_success");
}

#[test]
fn what_cannot_be_signed_is_said() {
    let directory = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (["sign", "channel", "1.2", "news"].as_slice(), "news is open to everybody"),
        (&["sign", "channel", "1.2", "presence-room"], "needs channel data"),
        (&["sign", "channel", "1.2", "presence-room", "{}"], "user_id\": it is missing"),
        (&["sign", "channel", "1.2", "private-x", "{"], "channel_data must be a JSON object"),
        (&["sign", "channel", "12", "private-x"], "\"12\" is not a socket id"),
        (&["sign", "user", "1.2", r#"{"id":[]}"#], "neither a text nor a number"),
        (&["sign", "user", "1.2", "{}", "--key", "other"], "it is missing"),
    ] {
        let ended = run_to_end(directory.path(), args, &[]);
        assert!(ended.code == 2 && ended.said().contains(expected), "{args:?}: {} {}", ended.code, ended.said());
    }
}
