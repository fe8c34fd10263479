//! One order per channel: whatever the publishers do, all subscribers see the same sequence. Protocol.md 2.7, design 2.4.

use serde_json::json;

use crate::support::{Broker, Ws, one_app, shared, unique};

const EACH: usize = 150;
const PUBLISHERS: usize = 4;

#[test]
fn all_subscribers_see_the_events_of_concurrent_publishers_in_one_order() {
    let broker = shared();
    let channel = unique("order");
    let mut sockets: Vec<Ws> = (0..6).map(|_| broker.ws()).collect();
    for ws in &mut sockets {
        ws.subscribe(&channel);
    }
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (broker, channel) = (&broker, &channel);
            scope.spawn(move || {
                let mut http = broker.http();
                for at in 0..EACH {
                    http.publish(channel, "e", &format!("{publisher}:{at}"));
                }
            });
        }
    });
    let read = |ws: &mut Ws| -> Vec<String> { (0..EACH * PUBLISHERS).map(|_| ws.expect("e").data().to_owned()).collect() };
    let reference = read(&mut sockets[0]);
    for ws in &mut sockets[1..] {
        assert_eq!(read(ws), reference);
        ws.quiet();
    }
    for publisher in 0..PUBLISHERS {
        let own: Vec<String> = reference.iter().filter(|data| data.starts_with(&format!("{publisher}:"))).cloned().collect();
        let expected: Vec<String> = (0..EACH).map(|at| format!("{publisher}:{at}")).collect();
        assert_eq!(own, expected, "each publisher's own order is kept");
    }
}

#[test]
fn client_events_and_published_events_share_one_order() {
    let broker = Broker::with(one_app("client_events = true\n[apps.limits]\nclient_events_per_second = 0"));
    let channel = "private-mixed";
    let mut watchers: Vec<Ws> = (0..4).map(|_| broker.ws()).collect();
    for ws in &mut watchers {
        ws.subscribe(channel);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut http = broker.http();
            for at in 0..EACH {
                http.publish(channel, "published", &at.to_string());
            }
        });
        scope.spawn(|| {
            let mut ws = broker.ws();
            ws.subscribe(channel);
            for at in 0..EACH {
                ws.send(&json!({ "event": "client-sent", "channel": channel, "data": at }));
            }
            // Its own socket gets the published ones only; stay until all was handled.
            ws.send_text(r#"{"event":"pusher:ping"}"#);
            while ws.event().name() != "pusher:pong" {}
        });
    });
    let read = |ws: &mut Ws| -> Vec<String> {
        (0..EACH * 2)
            .map(|_| {
                let event = ws.event();
                format!("{} {}", event.name(), event.data())
            })
            .collect()
    };
    let reference = read(&mut watchers[0]);
    for ws in &mut watchers[1..] {
        assert_eq!(read(ws), reference);
    }
}

#[test]
fn joins_and_leaves_are_announced_to_all_members_in_one_order() {
    let broker = shared();
    let channel = unique("presence-order");
    let mut watchers: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
    for (at, ws) in watchers.iter_mut().enumerate() {
        ws.join(&channel, &crate::support::member(&format!("w{at}"), None));
    }
    for (at, ws) in watchers.iter_mut().enumerate() {
        for _ in at + 1..3 {
            ws.expect("pusher_internal:member_added");
        }
    }
    std::thread::scope(|scope| {
        for visitor in 0..4 {
            let (broker, channel) = (&broker, &channel);
            scope.spawn(move || {
                let mut ws = broker.ws();
                for _ in 0..25 {
                    let data = crate::support::member(&format!("v{visitor}"), None);
                    ws.send_join(channel, &data);
                    while ws.event().name() != "pusher_internal:subscription_succeeded" {}
                    ws.unsubscribe(channel);
                }
                ws.send_text(r#"{"event":"pusher:ping"}"#);
                while ws.event().name() != "pusher:pong" {}
            });
        }
    });
    let read = |ws: &mut Ws| -> Vec<String> {
        (0..200)
            .map(|_| {
                let event = ws.event();
                format!("{} {}", event.name(), event.payload()["user_id"])
            })
            .collect()
    };
    let reference = read(&mut watchers[0]);
    for ws in &mut watchers[1..] {
        assert_eq!(read(ws), reference);
        ws.quiet();
    }
}
