//! What happens on channels and is told by webhooks (protocol.md 7): which kinds, with which fields, in which order, to whom.

use serde_json::{Value, json};

use crate::support::{Feed, Ws, member, until};

#[test]
fn a_channel_that_is_subscribed_twice_is_occupied_once() {
    let feed = Feed::sqlite();
    let broker = feed.start();
    let mut ws = broker.ws();
    ws.subscribe("news");
    ws.subscribe("news");
    let mut other = broker.ws();
    other.subscribe("news");
    other.unsubscribe("news");
    assert_eq!(feed.mark(&broker, "marker"), ["channel_occupied news"]);
    drop(ws);
    assert_eq!(feed.until_line("channel_vacated news").last().unwrap(), "channel_vacated news");
}

#[test]
fn whoever_comes_back_within_the_delay_was_never_gone() {
    let feed = Feed { delay: "5s", ..Feed::sqlite() };
    let broker = feed.start();
    let (mut ws, mut user) = (broker.ws(), broker.ws());
    ws.subscribe("news");
    user.join("presence-room", &member("7", None));
    ws.unsubscribe("news");
    user.unsubscribe("presence-room");
    ws.subscribe("news");
    user.join("presence-room", &member("7", None));
    let log = feed.mark(&broker, "marker");
    assert_eq!(log, ["channel_occupied news", "channel_occupied presence-room", "member_added presence-room 7"]);
    // And whoever does not is gone once.
    drop((ws, user));
    let log = feed.until_line("channel_vacated presence-room");
    let log: Vec<&String> = log[3..].iter().filter(|line| !line.contains("marker")).collect();
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log.iter().any(|line| *line == "channel_vacated news"));
    let at = |wanted: &str| log.iter().position(|line| *line == wanted);
    assert!(at("member_removed presence-room 7") < at("channel_vacated presence-room"), "{log:?}");
}

#[test]
fn each_kind_has_exactly_its_fields() {
    let feed = Feed { app: "client_events = true\nsubscription_count = true".to_owned(), ..Feed::sqlite() };
    let broker = feed.start();
    let mut room = broker.ws();
    room.join("presence-room", &member("42", Some("{}")));
    room.send_text(r#"{"event":"client-typing","channel":"presence-room","data":{"on":true}}"#);
    room.send_text(r#"{"event":"client-zero","channel":"presence-room","data":"a\u0000b"}"#);
    let mut private = broker.ws();
    private.subscribe("private-x");
    private.send_text(r#"{"event":"client-a","channel":"private-x","data":"text"}"#);
    private.unsubscribe("private-x");
    let mut cache = broker.ws();
    cache.subscribe("cache-x");
    let (room_id, private_id) = (room.socket_id.clone(), private.socket_id.clone());
    drop(room);
    let entries = || {
        feed.entries().iter().map(|entry| (entry["type"].clone(), entry["resource"].clone(), entry["context"].clone())).collect::<Vec<_>>()
    };
    feed.until_line("channel_vacated presence-room");
    let of = |channel: &str| {
        entries().into_iter().filter(|(_, found, _)| *found == channel).map(|(kind, _, fields)| json!([kind, fields])).collect::<Vec<_>>()
    };
    let zero = json!({ "json": "\"a\\u0000b\"" });
    assert_eq!(
        Value::from(of("presence-room")),
        json!([
            ["channel_occupied", {}],
            ["member_added", { "user_id": "42" }],
            ["client_event", { "event": "client-typing", "data": "{\"on\":true}", "socket_id": room_id, "user_id": "42" }],
            ["client_event", { "event": "client-zero", "data": zero, "socket_id": room_id, "user_id": "42" }],
            ["member_removed", { "user_id": "42" }],
            ["channel_vacated", {}],
        ])
    );
    assert_eq!(
        Value::from(of("private-x")),
        json!([
            ["channel_occupied", {}],
            ["subscription_count", { "subscription_count": 1 }],
            ["client_event", { "event": "client-a", "data": "text", "socket_id": private_id }],
            ["subscription_count", { "subscription_count": 0 }],
            ["channel_vacated", {}],
        ])
    );
    assert_eq!(
        Value::from(of("cache-x")),
        json!([["channel_occupied", {}], ["cache_miss", {}], ["subscription_count", { "subscription_count": 1 }]])
    );
}

#[test]
fn a_second_tab_is_nobody_new_and_two_users_who_leave_are_two() {
    let feed = Feed::sqlite();
    let broker = feed.start();
    let [mut first, mut second, mut other] = [broker.ws(), broker.ws(), broker.ws()];
    first.join("presence-room", &member("7", None));
    second.join("presence-room", &member("7", None));
    other.join("presence-room", &member("8", None));
    first.unsubscribe("presence-room");
    let mut http = broker.http();
    until("the first tab has left", || http.subscribers("presence-room") == 2);
    let before = ["channel_occupied presence-room", "member_added presence-room 7", "member_added presence-room 8"];
    assert_eq!(feed.mark(&broker, "marker"), before);
    other.unsubscribe("presence-room");
    second.expect("pusher_internal:member_added");
    second.expect("pusher_internal:member_removed");
    second.unsubscribe("presence-room");
    until("both have left", || http.subscribers("presence-room") == 0);
    let after = ["member_removed presence-room 8", "member_removed presence-room 7", "channel_vacated presence-room"];
    assert_eq!(feed.mark(&broker, "second-marker"), [&before[..], &after[..]].concat());
}

#[test]
fn what_no_endpoint_wants_is_not_recorded() {
    let second = "channel_suffix = \".eu\"\nevents = [\"client_event\"]\n[[apps.webhooks]]\nurl = \"http://127.0.0.1:9/\"\n\
                  events = [\"channel_vacated\"]\nchannel_prefix = \"private-\"";
    let feed = Feed { endpoint: second.to_owned(), ..Feed::sqlite() };
    let broker = feed.start();
    let mut ws = broker.ws();
    for channel in ["news", "news.eu", "private-a", "private-a.eu", "presence-a.eu"] {
        if channel.starts_with("presence-") {
            ws.join(channel, &member("7", None));
        } else {
            ws.subscribe(channel);
        }
        if channel.starts_with('p') {
            ws.send(&json!({ "event": "client-a", "channel": channel, "data": "1" }));
        }
        ws.unsubscribe(channel);
    }
    let log = feed.until_line("channel_vacated private-a.eu");
    let log: Vec<&str> = log.iter().map(String::as_str).collect();
    // Its end needs its beginning; the endpoint gets only the end.
    assert_eq!(log[..2], ["channel_occupied private-a", "channel_vacated private-a"]);
    assert_eq!(log[2..5], ["channel_occupied private-a.eu", "client_event private-a.eu", "channel_vacated private-a.eu"]);
    assert_eq!(feed.lines(6)[5..], ["client_event presence-a.eu 7"]);
}

#[test]
fn the_channel_of_a_user_is_not_told_of() {
    let feed = Feed::sqlite();
    let broker = feed.start();
    let mut ws = broker.ws();
    ws.signin(r#"{"id":"42"}"#);
    ws.send_subscribe("#server-to-user-42", None, None);
    ws.acknowledged("#server-to-user-42");
    ws.unsubscribe("#server-to-user-42");
    ws.send_subscribe("#server-to-user-42", None, None);
    drop(ws);
    assert_eq!(feed.mark(&broker, "marker"), Vec::<String>::new());
}

fn client_events(ws: &mut Ws, channel: &str, count: usize) {
    for n in 0..count {
        ws.send(&json!({ "event": "client-a", "channel": channel, "data": n.to_string() }));
    }
}

#[test]
fn a_client_event_that_was_refused_is_not_told_of() {
    let feed = Feed { app: "client_events = true\n[apps.limits]\nclient_events_per_second = 3".to_owned(), ..Feed::sqlite() };
    let broker = feed.start();
    let (mut ws, mut stranger) = (broker.ws(), broker.ws());
    ws.subscribe("private-x");
    ws.subscribe("news");
    client_events(&mut ws, "news", 1);
    ws.error(4009);
    client_events(&mut stranger, "private-x", 1);
    stranger.error(4009);
    client_events(&mut ws, "private-x", 5);
    ws.send_text(r#"{"event":"pusher:ping"}"#);
    // The bucket may have got one more on a slow machine.
    let refused = std::iter::from_fn(|| Some(ws.event()).filter(|event| event.name() == "pusher:error")).count();
    broker.http().publish("private-x", "client-published", "1");
    let told = feed.mark(&broker, "marker").iter().filter(|line| line.starts_with("client_event")).count();
    assert!(refused >= 1 && told + refused == 5, "{refused} refused, {told} told");
}

#[test]
fn a_cache_that_many_find_empty_is_missed_once() {
    let feed = Feed::sqlite();
    let broker = feed.start();
    for _ in 0..5 {
        broker.ws().subscribe("cache-x");
    }
    broker.http().publish("cache-y", "e", "1");
    broker.ws().subscribe("cache-y");
    let misses = |log: Vec<String>| log.into_iter().filter(|line| line.starts_with("cache_miss")).collect::<Vec<_>>();
    assert_eq!(misses(feed.mark(&broker, "marker")), ["cache_miss cache-x"]);
}
