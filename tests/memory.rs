//! Nothing is kept for what failed or is gone: memory and counts stay flat.

use serde_json::json;

use crate::support::{Broker, Frame, Ws, member, server_with, until, wire};

fn bad_subscribes(ws: &mut Ws, numbers: std::ops::Range<u32>) {
    let count = numbers.len();
    let bytes: Vec<u8> = numbers
        .flat_map(|at| {
            let channel = format!("{}-{at}", ["private-bad", "presence-bad", "private-cache-bad", "bad name"][at as usize % 4]);
            let text = json!({ "event": "pusher:subscribe", "data": { "channel": channel, "auth": "app-key:00", "channel_data": "{}" } });
            wire(1, text.to_string().as_bytes())
        })
        .collect();
    ws.send_bytes(&bytes);
    for _ in 0..count {
        ws.expect("pusher:subscription_error");
    }
}

#[test]
fn fifty_thousand_bad_subscribes_on_one_socket_leave_no_trace() {
    let broker = Broker::start();
    let mut ws = broker.ws();
    for start in (0..5_000).step_by(250) {
        bad_subscribes(&mut ws, start..start + 250);
    }
    let before = broker.rss_kib();
    for start in (5_000..50_000).step_by(250) {
        bad_subscribes(&mut ws, start..start + 250);
    }
    let grown = broker.rss_kib() - before;
    assert!(grown < 3 * 1024, "memory grew by {grown} KiB");
    assert_eq!(broker.http().get("/channels", &[]).json(), json!({ "channels": {} }));
    ws.quiet();
}

/// Nobody is pinged: with thousands of connections on a slow machine nobody reads some of them for minutes.
fn patient() -> Broker {
    Broker::with(server_with("ping_interval = \"1h\"", ""))
}

/// One short life, ended in one of several ways.
fn live_and_die(broker: &Broker, at: usize) {
    let mut ws = broker.ws();
    match at % 5 {
        0 => {
            ws.subscribe(&format!("short-{at}"));
            ws.send_close(1000);
            assert!(matches!(ws.frame(), Frame::Close(Some(1000), _)));
        }
        1 => drop(ws),
        2 => {
            ws.join("presence-short", &member(&at.to_string(), None));
        }
        3 => {
            ws.signin(&format!(r#"{{"id":"{at}","watchlist":["{}"]}}"#, at + 1));
        }
        _ => {
            ws.send_bytes(&wire(3, b"no such opcode"));
            assert!(matches!(ws.frame(), Frame::Close(Some(1002), _)));
        }
    }
}

#[test]
fn five_thousand_short_lives_leave_no_trace() {
    let broker = patient();
    let mut staying: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
    let round = |numbers: std::ops::Range<usize>| {
        let middle = (numbers.start + numbers.end) / 2;
        std::thread::scope(|scope| {
            let halves = [numbers.start..middle, middle..numbers.end];
            for half in halves {
                scope.spawn(|| half.for_each(|at| live_and_die(&broker, at)));
            }
        });
    };
    round(0..1_000);
    until("the first thousand are gone", || broker.http().connections() == 3);
    until("their sockets are closed", || broker.sockets() < 40);
    let before = broker.rss_kib();
    round(1_000..5_000);
    let mut http = broker.http();
    until("all are gone", || http.connections() == 3);
    until("their sockets are closed", || broker.sockets() < 40);
    let grown = broker.rss_kib() - before;
    assert!(grown < 6 * 1024, "memory grew by {grown} KiB");
    assert_eq!(http.get("/channels", &[]).json(), json!({ "channels": {} }));
    assert_eq!(http.get("/sockets", &[]).json()["sockets"].as_array().unwrap().len(), 3);
    for ws in &mut staying {
        ws.quiet();
    }
}

#[test]
fn two_thousand_sockets_at_once_are_served_and_so_are_the_next() {
    rlimit::increase_nofile_limit(10_000).unwrap();
    let broker = patient();
    let wave = || {
        let mut sockets: Vec<Ws> = (0..2_000).map(|_| broker.ws()).collect();
        for ws in &mut sockets {
            ws.subscribe("all");
        }
        let mut http = broker.http();
        assert_eq!((http.connections(), http.subscribers("all")), (2_000, 2_000));
        http.publish("all", "e", "1");
        for ws in &mut sockets {
            ws.expect_data("e", "all", "1");
        }
        let rss = broker.rss_kib();
        drop(sockets);
        until("all are gone", || http.connections() == 0);
        assert_eq!(http.get("/channels", &[]).json(), json!({ "channels": {} }));
        rss
    };
    // The allocator settles in the first wave; a leak would show in every later one.
    let (first, second, third) = (wave(), wave(), wave());
    assert!(first < 2_000 * 64, "{} KiB per subscribed connection", first / 2_000);
    assert!(third < second + second / 8, "the third wave of 2,000 needs {third} KiB, the second needed {second}");
}
