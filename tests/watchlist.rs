//! Watchlist events: protocol.md 4.3.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Broker, Frame, WAIT, Ws, member, one_app, shared, unique};

fn user_data(id: &str, watchlist: &[&str]) -> String {
    json!({ "id": id, "watchlist": watchlist }).to_string()
}

fn plain(id: &str) -> String {
    json!({ "id": id }).to_string()
}

/// The next frame must be a watchlist frame: state by user id.
fn states(ws: &mut Ws) -> BTreeMap<String, String> {
    let event = ws.expect("pusher_internal:watchlist_events");
    assert_eq!(event.channel(), None, "{}", event.raw);
    parse(&event.payload())
}

fn parse(payload: &Value) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    for group in payload["events"].as_array().expect("`events` is an array") {
        let name = group["name"].as_str().unwrap();
        assert!(matches!(name, "online" | "offline"), "{payload}");
        let ids = group["user_ids"].as_array().unwrap();
        assert!(!ids.is_empty(), "an empty group is left out: {payload}");
        for id in ids {
            states.insert(id.as_str().expect("ids are strings").to_owned(), name.to_owned());
        }
    }
    states
}

/// Reads watchlist frames until this user is in this state; nothing else may come.
fn becomes(ws: &mut Ws, id: &str, state: &str) {
    assert_eq!(states(ws), BTreeMap::from([(id.to_owned(), state.to_owned())]));
}

#[test]
fn the_first_frame_after_success_tells_who_is_online_and_who_is_not() {
    let broker = shared();
    let (here, away, own) = (unique("here"), unique("away"), unique("own"));
    let mut other = broker.ws();
    other.signin(&plain(&here));
    let mut ws = broker.ws();
    ws.signin(&user_data(&own, &[&here, &away]));
    let expected = BTreeMap::from([(here, "online".to_owned()), (away, "offline".to_owned())]);
    assert_eq!(states(&mut ws), expected);
    ws.quiet();
}

#[test]
fn a_watched_user_goes_online_with_his_first_connection_and_offline_with_his_last() {
    let broker = shared();
    let (watched, own) = (unique("watched"), unique("watcher"));
    let mut ws = broker.ws();
    ws.signin(&user_data(&own, &[&watched]));
    becomes(&mut ws, &watched, "offline");
    let (mut first, mut second) = (broker.ws(), broker.ws());
    first.quiet();
    ws.quiet();
    first.signin(&plain(&watched));
    becomes(&mut ws, &watched, "online");
    second.signin(&plain(&watched));
    ws.quiet();
    drop(first);
    second.quiet();
    ws.quiet();
    drop(second);
    becomes(&mut ws, &watched, "offline");
    let mut third = broker.ws();
    third.signin(&plain(&watched));
    becomes(&mut ws, &watched, "online");
}

#[test]
fn presence_membership_does_not_make_a_user_online() {
    let broker = shared();
    let (watched, own) = (unique("member"), unique("watcher"));
    let mut present = broker.ws();
    present.join(&unique("presence-w"), &member(&watched, None));
    let mut ws = broker.ws();
    ws.signin(&user_data(&own, &[&watched]));
    becomes(&mut ws, &watched, "offline");
    drop(present);
    ws.quiet();
}

#[test]
fn without_a_watchlist_no_frame_is_ever_sent() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.signin(&plain(&unique("no-list")));
    let mut other = broker.ws();
    other.signin(&plain(&unique("somebody")));
    ws.quiet();
    let mut ws = broker.ws();
    ws.signin(&user_data(&unique("empty-list"), &[]));
    ws.quiet();
}

#[test]
fn two_watchers_of_one_user_are_both_told() {
    let broker = shared();
    let watched = unique("star");
    let mut fans: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
    for ws in &mut fans {
        ws.signin(&user_data(&unique("fan"), &[&watched]));
        becomes(ws, &watched, "offline");
    }
    let mut star = broker.ws();
    star.signin(&plain(&watched));
    for ws in &mut fans {
        becomes(ws, &watched, "online");
        ws.quiet();
    }
}

#[test]
fn a_repeated_sign_in_replaces_the_watchlist() {
    let broker = shared();
    let (own, old, new) = (unique("own"), unique("old"), unique("new"));
    let mut ws = broker.ws();
    ws.signin(&user_data(&own, &[&old]));
    becomes(&mut ws, &old, "offline");
    ws.signin(&user_data(&own, &[&new]));
    becomes(&mut ws, &new, "offline");
    let (mut first, mut second) = (broker.ws(), broker.ws());
    first.signin(&plain(&old));
    ws.quiet();
    second.signin(&plain(&new));
    becomes(&mut ws, &new, "online");
}

#[test]
fn a_watchlist_of_more_than_a_hundred_is_cut_and_reported_with_4302() {
    let broker = shared();
    let own = unique("long-list");
    let ids: Vec<String> = (0..101).map(|at| format!("{own}-w{at}")).collect();
    let mut ws = broker.ws();
    ws.signin(&json!({ "id": own, "watchlist": &ids[..100] }).to_string());
    assert_eq!(states(&mut ws).len(), 100);
    ws.quiet();
    let mut ws = broker.ws();
    ws.signin(&json!({ "id": format!("{own}-2"), "watchlist": ids }).to_string());
    let (one, two) = (ws.event(), ws.event());
    let (error, list) = if one.name() == "pusher:error" { (one, two) } else { (two, one) };
    assert_eq!((error.name(), &error.json["data"]["code"]), ("pusher:error", &json!(4302)));
    let listed = parse(&list.payload());
    assert_eq!(listed.len(), 100, "the first hundred are kept");
    assert!(!listed.contains_key(&ids[100]));
    ws.quiet();
}

#[test]
fn an_app_can_switch_watchlists_off() {
    let broker = Broker::with(one_app("watchlist = false"));
    let mut ws = broker.ws();
    ws.signin(&user_data("42", &["7"]));
    let mut other = broker.ws();
    other.signin(&plain("7"));
    ws.quiet();
}

#[test]
fn a_flickering_user_ends_in_the_right_state() {
    let broker = shared();
    let (watched, own) = (unique("flicker"), unique("watcher"));
    let mut ws = broker.ws();
    ws.signin(&user_data(&own, &[&watched]));
    becomes(&mut ws, &watched, "offline");
    for _ in 0..10 {
        let mut visit = broker.ws();
        visit.signin(&plain(&watched));
    }
    let mut stays = broker.ws();
    stays.signin(&plain(&watched));
    let deadline = Instant::now() + WAIT;
    let mut last = "offline".to_owned();
    let mut calm = false;
    while !calm && Instant::now() < deadline {
        match ws.frame_within(Duration::from_millis(500)) {
            Some(Frame::Text(text)) => {
                let event: Value = serde_json::from_str(&text).unwrap();
                let inner: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
                last = parse(&inner).remove(&watched).expect("only the watched user changes");
            }
            Some(other) => panic!("{other:?}"),
            // Silence says that it was the last word, if it was the right one; else it may only be late.
            None => calm = last == "online",
        }
    }
    assert_eq!(last, "online");
}
