//! Webhooks as they arrive (protocol.md 7): exact bodies, to each endpoint its own, over stops and kills.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Feed, Receiver, WAIT, Ws, member, until};

/// What of these lines is about a channel. Only that is in order: an endpoint gets the events of several channels at once.
fn about<'a>(received: &'a [String], channel: &str) -> Vec<&'a str> {
    received.iter().map(String::as_str).filter(|line| line.split(' ').nth(1) == Some(channel)).collect()
}

fn until_received(feed: &Feed, count: usize) -> Vec<String> {
    until(&format!("{count} webhooks have arrived"), || feed.received().len() >= count);
    feed.received()
}

#[test]
fn subscribe_unsubscribe_and_subscribe_again_is_one_channel_occupied() {
    let feed = Feed { delay: "1s", ..Feed::sqlite() };
    let broker = feed.start();
    let mut ws = broker.ws();
    ws.subscribe("news");
    ws.unsubscribe("news");
    ws.subscribe("news");
    let mut marker = broker.ws();
    marker.subscribe("marker");
    marker.unsubscribe("marker");
    let received = until_received(&feed, 3);
    assert_eq!(about(&received, "marker"), ["channel_occupied marker", "channel_vacated marker"]);
    assert_eq!(about(&received, "news"), ["channel_occupied news"]);
}

#[test]
fn every_webhook_is_signed_over_its_exact_body_and_has_its_kinds_fields() {
    let feed = Feed { app: "client_events = true\nsubscription_count = true".to_owned(), ..Feed::sqlite() };
    let broker = feed.start();
    let mut room = broker.ws();
    room.join("presence-room", &member("42", Some("{}")));
    room.send_text(r#"{"event":"client-typing","channel":"presence-room","data":{"on":true}}"#);
    room.send_text(r#"{"event":"client-zero","channel":"presence-room","data":"a\u0000b ü"}"#);
    room.subscribe("cache-x");
    room.unsubscribe("presence-room");
    let room_id = room.socket_id.clone();
    until_received(&feed, 9);
    // `events` looks at the key, the signature and the content type of each request.
    let of = |channel: &str| feed.receiver.events().into_iter().filter(|event| event["channel"] == channel).collect::<Value>();
    assert_eq!(
        of("presence-room"),
        json!([
            { "name": "channel_occupied", "channel": "presence-room" },
            { "name": "member_added", "channel": "presence-room", "user_id": "42" },
            {
                "name": "client_event", "channel": "presence-room", "event": "client-typing", "data": "{\"on\":true}",
                "socket_id": room_id, "user_id": "42",
            },
            {
                "name": "client_event", "channel": "presence-room", "event": "client-zero", "data": "a\0b ü",
                "socket_id": room_id, "user_id": "42",
            },
            { "name": "member_removed", "channel": "presence-room", "user_id": "42" },
            { "name": "channel_vacated", "channel": "presence-room" },
        ])
    );
    assert_eq!(
        of("cache-x"),
        json!([
            { "name": "channel_occupied", "channel": "cache-x" },
            { "name": "cache_miss", "channel": "cache-x" },
            { "name": "subscription_count", "channel": "cache-x", "subscription_count": 1 },
        ])
    );
    for request in feed.receiver.got() {
        assert!(request.head.starts_with("POST /hooks HTTP/1.1\r\n"), "{}", request.head);
        let body = request.json();
        assert!(body["time_ms"].as_i64().is_some_and(|time| time > 1_700_000_000_000), "{body}");
        assert_eq!((body.as_object().unwrap().len(), body["events"].as_array().unwrap().len()), (2, 1), "one event a request");
    }
    assert!(!broker.log_text().contains("app-secret"));
}

#[test]
fn endpoints_of_one_url_and_of_others_get_each_what_it_wants() {
    let other = Receiver::start();
    let mut feed = Feed::sqlite();
    feed.endpoint = format!(
        "events = [\"channel_occupied\"]\n\
         [[apps.webhooks]]\nurl = \"{}\"\nevents = [\"member_added\"]\n\
         [[apps.webhooks]]\nurl = \"{}\"\nchannel_prefix = \"presence-\"\nchannel_suffix = \".eu\"\n",
        feed.receiver.url("/hooks"),
        other.url("/eu"),
    );
    let broker = feed.start();
    let mut ws = broker.ws();
    for channel in ["presence-a", "presence-b.eu"] {
        ws.join(channel, &member("7", None));
        ws.unsubscribe(channel);
    }
    until("the other endpoint has heard of all of its channel", || other.events().len() == 4);
    assert!(other.events().iter().all(|event| event["channel"] == "presence-b.eu"));
    let mut received = until_received(&feed, 4);
    received.sort();
    assert_eq!(
        received,
        ["channel_occupied presence-a", "channel_occupied presence-b.eu", "member_added presence-a 7", "member_added presence-b.eu 7"]
    );
}

#[test]
fn without_a_store_that_lasts_a_stop_tells_of_everybody_before_it_ends() {
    for store in ["memory", "none"] {
        let feed = Feed { delay: "60s", more: "[drain]\nspread = \"100ms\"".to_owned(), ..Feed::on(store) };
        let mut broker = feed.start();
        let mut sockets: Vec<Ws> = (0..20).map(|_| broker.ws()).collect();
        for (at, ws) in sockets.iter_mut().enumerate() {
            ws.join("presence-room", &member(&at.to_string(), None));
        }
        // Somebody who has left is waited for no longer, either.
        let mut ws = broker.ws();
        ws.subscribe("news");
        ws.unsubscribe("news");
        until_received(&feed, 22);
        if store == "none" {
            assert_eq!(broker.http().get("/locks", &[]).status, 501, "there is a store, but not for locks");
        }
        let began = Instant::now();
        broker.signal("TERM");
        // The delay is a minute, and a stop may take half of one.
        assert!(broker.exited(WAIT).success());
        assert!(began.elapsed() < Duration::from_secs(20), "it ends when all is told: {:?}", began.elapsed());
        let received = feed.received();
        let count = |name: &str| received.iter().filter(|line| line.starts_with(name)).count();
        assert_eq!((count("member_added"), count("member_removed"), received.len()), (20, 20, 44), "{store}: {received:#?}");
        assert_eq!(about(&received, "presence-room").last(), Some(&"channel_vacated presence-room"), "{received:#?}");
    }
}

#[test]
fn a_stop_with_a_store_that_lasts_leaves_owed_what_the_next_start_tells() {
    let feed = Feed { delay: "1s", more: "[drain]\nspread = \"100ms\"".to_owned(), ..Feed::sqlite() };
    let mut broker = feed.start();
    let mut sockets: Vec<Ws> = (0..20).map(|_| broker.ws()).collect();
    for (at, ws) in sockets.iter_mut().enumerate() {
        ws.join("presence-room", &member(&at.to_string(), None));
    }
    until_received(&feed, 21);
    feed.receiver.answer(503);
    broker.signal("TERM");
    assert!(broker.exited(WAIT).success());
    drop((sockets, broker));
    assert_eq!(feed.received().len(), 21);
    feed.receiver.answer(200);
    let _broker = feed.start();
    let received = until_received(&feed, 42);
    assert!(received[21..41].iter().all(|line| line.starts_with("member_removed")), "{received:#?}");
    assert_eq!((received[41].as_str(), received.len()), ("channel_vacated presence-room", 42));
}

#[test]
fn what_a_killed_broker_owed_is_told_by_the_next_start_once() {
    let feed = Feed { delay: "500ms", ..Feed::sqlite() };
    let broker = feed.start();
    feed.receiver.answer(500);
    let mut ws = broker.ws();
    ws.join("presence-room", &member("7", None));
    feed.lines(2);
    broker.signal("KILL");
    drop((ws, broker));
    feed.receiver.answer(200);
    let _broker = feed.start();
    let expected = ["channel_occupied presence-room", "member_added presence-room 7", "member_removed presence-room 7"];
    let received = until_received(&feed, 4);
    assert_eq!((&received[..3], received[3..].join(" ")), (&expected.map(str::to_owned)[..], "channel_vacated presence-room".to_owned()));
}
