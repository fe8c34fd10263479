//! A client that stops reading is closed with 4100 and nobody else suffers. It never loses messages silently while it stays.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Broker, Frame, Http, Ws, member, one_app, server_with, until};

const CHANNEL: &str = "firehose";

/// Publishes batches of ten numbered 10 KiB events.
struct Hose {
    http: Http,
    sent: usize,
}

impl Hose {
    fn gush(&mut self) {
        let items: Vec<_> = (self.sent..self.sent + 10)
            .map(|number| json!({ "channel": CHANNEL, "name": number.to_string(), "data": "x".repeat(10_240) }))
            .collect();
        assert_eq!(self.http.post("/batch_events", json!({ "batch": items }).to_string()).json(), json!({}));
        self.sent += 10;
    }
}

/// Reads numbered events in order until the broker has `finished`; returns how many came.
fn read_all(ws: &mut Ws, seen: &AtomicUsize, finished: &AtomicBool, sent: &AtomicUsize) {
    while !(finished.load(Ordering::Acquire) && seen.load(Ordering::Relaxed) == sent.load(Ordering::Acquire)) {
        match ws.frame_within(Duration::from_millis(50)) {
            Some(Frame::Text(text)) => {
                let expected = format!(r#""event":"{}""#, seen.load(Ordering::Relaxed));
                assert!(text.contains(&expected), "expected {expected} in {}", &text[text.len() - 60..]);
                seen.fetch_add(1, Ordering::Release);
            }
            None => {}
            Some(other) => panic!("a reader that keeps up got {other:?}"),
        }
    }
}

/// Publishes until the stalled subscriber has been dropped; two readers check that they get everything in order.
fn drown(broker: &Broker, stalled: &Ws) -> (usize, [Ws; 2]) {
    let mut readers = [broker.ws(), broker.ws()];
    for ws in &mut readers {
        ws.subscribe(CHANNEL);
    }
    let mut hose = Hose { http: broker.http(), sent: 0 };
    let mut watch = broker.http();
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let (sent, finished) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (ws, seen) in readers.iter_mut().zip(&seen) {
            scope.spawn(|| read_all(ws, seen, &finished, &sent));
        }
        // 80 MB would not fit into the kernel's buffers of one loopback connection.
        while hose.sent < 8_000 && watch.subscribers(CHANNEL) == 3 {
            hose.gush();
            sent.store(hose.sent, Ordering::Release);
            until("the readers keep up", || seen.iter().all(|seen| hose.sent - seen.load(Ordering::Acquire) <= 20));
        }
        finished.store(true, Ordering::Release);
    });
    assert_eq!(watch.subscribers(CHANNEL), 2, "{} was not dropped after {} MB", stalled.socket_id, hose.sent / 100);
    (hose.sent, readers)
}

fn slow_consumer_lines(broker: &Broker) -> Vec<String> {
    broker.log_lines().into_iter().filter(|line| line.to_lowercase().contains("slow consumer")).collect()
}

#[test]
fn a_stalled_reader_ends_logically_at_once_and_finds_4100_behind_what_it_was_sent() {
    let broker = Broker::with(one_app(""));
    let (mut stalled, mut friend) = (broker.ws(), broker.ws());
    stalled.join("presence-friends", &member("stalled", None));
    friend.join("presence-friends", &member("friend", None));
    stalled.expect("pusher_internal:member_added");
    stalled.subscribe(CHANNEL);
    let (sent, readers) = drown(&broker, &stalled);
    friend.expect_data("pusher_internal:member_removed", "presence-friends", r#"{"user_id":"stalled"}"#);
    assert_eq!(broker.http().connections(), 3, "it does not count as a connection any more");
    until("it is logged", || !slow_consumer_lines(&broker).is_empty());
    for mut ws in readers {
        ws.quiet();
    }

    let mut next = 0;
    let code = loop {
        match stalled.frame() {
            Frame::Text(text) if text.contains("pusher:error") => assert!(text.contains("4100"), "{text}"),
            Frame::Text(text) => {
                assert!(text.contains(&format!(r#""event":"{next}""#)), "a gap before event {next}");
                next += 1;
            }
            Frame::Close(code, _) => break code,
            other => panic!("after {next} of {sent} events: {other:?}"),
        }
    };
    assert_eq!(code, Some(4100));
    assert!(next < sent, "it cannot have been sent everything");
    stalled.gone();
    assert_eq!(slow_consumer_lines(&broker).len(), 1, "logged once: {:#?}", broker.log_lines());
}

#[test]
fn the_socket_of_a_reader_that_never_comes_back_is_gone_within_the_user_timeout() {
    let broker = Broker::with(server_with("tcp_user_timeout = \"2s\"\noutbox_size = \"256KiB\"", ""));
    let mut watch = broker.http();
    watch.plain("/up");
    let before = broker.sockets();
    let mut stalled = broker.ws();
    stalled.subscribe(CHANNEL);
    drop(drown(&broker, &stalled));
    // Readers and publishers are closed by now; only the stalled one could be left. By default it would be for twenty seconds.
    let began = Instant::now();
    until("the socket is closed on our side", || broker.sockets() <= before);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    until("nobody is connected", || watch.connections() == 0);
    until("it is logged", || !slow_consumer_lines(&broker).is_empty());
    assert_eq!(slow_consumer_lines(&broker).len(), 1);
}

#[test]
fn a_reader_that_falls_behind_but_comes_back_in_time_loses_nothing() {
    let broker = Broker::with(one_app(""));
    let mut slow = broker.ws();
    slow.subscribe(CHANNEL);
    let mut hose = Hose { http: broker.http(), sent: 0 };
    // 800 KiB: under the outbox limit of 1 MiB, whatever the kernel takes.
    for _ in 0..8 {
        hose.gush();
    }
    for number in 0..hose.sent {
        assert_eq!(slow.event().name(), number.to_string());
    }
    slow.quiet();
}

#[test]
fn a_small_outbox_serves_a_reader_that_is_awake() {
    let broker = Broker::with(server_with("outbox_size = \"64KiB\"", ""));
    let mut ws = broker.ws();
    ws.subscribe(CHANNEL);
    let mut http = broker.http();
    for at in 0..50 {
        http.publish(CHANNEL, &at.to_string(), &"x".repeat(10_240));
        assert_eq!(ws.event().name(), at.to_string());
    }
    ws.quiet();
}

/// The outbox bounds what waits, not what one event may have: a reader that keeps up gets it.
#[test]
fn an_event_larger_than_the_outbox_reaches_a_client_that_reads() {
    let broker = Broker::with(server_with("outbox_size = \"64KiB\"", "[apps.limits]\nmax_event_bytes = \"200KiB\""));
    let mut ws = broker.ws();
    ws.subscribe(CHANNEL);
    let data = "x".repeat(200 * 1024);
    let event = json!({ "name": "large", "channel": CHANNEL, "data": data }).to_string();
    assert_eq!(broker.http().post("/events", event).json(), json!({}));
    ws.expect_data("large", CHANNEL, &data);
    ws.quiet();
}
