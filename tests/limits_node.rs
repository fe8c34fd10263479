//! The limits of rates and of memory, crossed: new work is turned away with a word about when to come back, and who is connected stays.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{Answer, Broker, Http, Launch, Ws, eventually, one_app, request_bytes, server_with, until};

fn trigger(http: &mut Http, name: &str) -> Answer {
    http.trigger(&json!({ "name": name, "channel": "news", "data": "1" }))
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").expect("when to come back").parse().expect("whole seconds")
}

#[test]
fn publishes_per_second() {
    let broker = Broker::with(one_app("[apps.limits]\npublishes_per_second = 4\nmax_batch = 3\n"));
    let (mut http, mut ws) = (broker.http(), broker.ws());
    ws.subscribe("news");
    let began = Instant::now();
    trigger(&mut http, "").refused(400);
    let item = json!({ "channel": "news", "name": "e", "data": "1" });
    let batch = json!({ "batch": vec![item; 3] }).to_string();
    assert_eq!(http.post("/batch_events", &batch).status, 200);
    assert_eq!(trigger(&mut http, "e").status, 200, "what was refused was not counted");
    // Four were taken. On a slow machine some have come back, and so the next may pass.
    let mut taken = 4;
    let refused = eventually("a batch is too much", || {
        let answer = http.post("/batch_events", &batch);
        taken += if answer.status == 200 { 3 } else { 0 };
        (answer.status != 200).then_some(answer)
    });
    let most = 4 + (began.elapsed().as_secs_f64() * 4.0) as u32;
    assert!(taken <= most, "{taken} were taken, at most {most} may be");
    assert_eq!((refused.status, retry_after(&refused)), (429, 1));
    assert_eq!(refused.refused(429), "Too many events: at most 4 per second are allowed for this app");
    for _ in 0..taken {
        ws.expect_data("e", "news", "1");
    }
    ws.quiet();
    assert_eq!(http.get("/channels", &[]).status, 200, "questions are counted apart");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(trigger(&mut http, "e").status, 200);
}

#[test]
fn reads_per_second() {
    let broker = Broker::with(one_app("[apps.limits]\nreads_per_second = 3\n"));
    let mut http = broker.http();
    let began = Instant::now();
    for path in ["/channels", "/channels/news", "/connections"] {
        assert_eq!(http.get(path, &[]).status, 200);
    }
    let mut answered = 3;
    let refused = eventually("one question is too many", || {
        let answer = http.get("/channels", &[]);
        answered += u32::from(answer.status == 200);
        (answer.status != 200).then_some(answer)
    });
    let most = 3 + (began.elapsed().as_secs_f64() * 3.0) as u32;
    assert!(answered <= most, "{answered} were answered, at most {most} may be");
    assert_eq!(retry_after(&refused), 1);
    assert_eq!(refused.refused(429), "Too many requests: at most 3 per second are allowed for this app");
    assert_eq!(trigger(&mut http, "e").status, 200, "publishing is counted apart");
    assert_eq!(http.plain("/up").status, 200);
}

/// A handshake from an address of this machine; the status it is answered with.
fn knock(from: &str, to: SocketAddr) -> (u16, TcpStream) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    let headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    std::io::Write::write_all(&mut stream, &request_bytes("GET", "/app/app-key?protocol=7", &headers, b"")).unwrap();
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut head).unwrap();
    (std::str::from_utf8(&head[9..]).unwrap().parse().unwrap(), stream)
}

#[test]
fn connects_per_second() {
    let broker = Broker::with(server_with("connects_per_second = 3", ""));
    let began = Instant::now();
    let mut first: Vec<_> = (0..3).map(|_| knock("127.0.0.1", broker.address())).collect();
    let (status, mut refused) = eventually("one is too many", || {
        let (status, stream) = knock("127.0.0.1", broker.address());
        if status == 101 {
            first.push((status, stream));
            return None;
        }
        Some((status, stream))
    });
    let most = 3 + (began.elapsed().as_secs_f64() * 3.0) as usize;
    assert!(status == 429 && first.iter().all(|(status, _)| *status == 101), "{status} {first:?}");
    assert!(first.len() <= most, "{} came in, at most {most} may", first.len());
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut refused, &mut answer).unwrap();
    let answer = answer.to_lowercase();
    assert!(answer.contains("retry-after: 1") && answer.contains("too many connections from this address"), "{answer}");
    let other = knock("127.0.0.2", broker.address());
    assert_eq!(other.0, 101, "each address has its own");
    assert_eq!(broker.http().connections(), first.len() as u64 + 1, "who was there stays");
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(knock("127.0.0.1", broker.address()).0, 101);
}

/// A broker with little memory, and two clients: one that has stopped reading, one that reads.
fn short_of_memory() -> (Broker, Ws, Ws) {
    let config = server_with("max_outbox_memory = \"1MiB\"\noutbox_size = \"1MiB\"", "client_events = true");
    let broker = Broker::with(config);
    let (mut stuck, mut live) = (Ws::open_narrow(broker.address()), broker.ws());
    stuck.subscribe("flood");
    live.enter("private-talk");
    let mut http = broker.http();
    let data = "x".repeat(10_000);
    let refused = eventually("publishes are turned away", || {
        let answer = http.trigger(&json!({ "name": "e", "channel": "flood", "data": data }));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(retry_after(&refused), 1);
    assert_eq!(refused.refused(503), "Over capacity: too much waits to be delivered, try again");
    (broker, stuck, live)
}

#[test]
fn max_outbox_memory() {
    let (broker, _stuck, mut live) = short_of_memory();
    let mut http = broker.http();
    assert_eq!(http.connections(), 2, "nobody was dropped for it");
    assert_eq!(http.plain("/accept-traffic").status, 503);
    assert_eq!(http.plain("/up").status, 200);
    let mut late = Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[]);
    assert_eq!(late.refused(4100), "Over capacity");
    live.send(&json!({ "event": "client-hi", "channel": "private-talk", "data": "1" }));
    assert!(live.error(4301).contains("over capacity"));
    live.send(&json!({ "event": "pusher:ping", "data": {} }));
    live.expect("pusher:pong");

    // Whoever takes nothing keeps memory short, and is ended for it; then all is as before.
    until("the stuck reader is ended", || http.connections() == 1);
    until("publishes are taken again", || trigger(&mut http, "e").status == 200);
    assert_eq!(http.plain("/accept-traffic").status, 200);
    live.send(&json!({ "event": "client-hi", "channel": "private-talk", "data": "1" }));
    live.quiet();
    let slow = || broker.log_lines().iter().filter(|line| line.to_lowercase().contains("slow consumer")).count();
    until("it is logged", || slow() == 1);
}

#[test]
fn a_frame_that_many_wait_for_is_counted_once() {
    // Nobody is pinged: on a slow machine it takes a while until all of them are read.
    let limits = "max_outbox_memory = \"1MiB\"\noutbox_size = \"1MiB\"\nping_interval = \"1h\"";
    let broker = Broker::with(server_with(limits, ""));
    let mut clients: Vec<Ws> = (0..200).map(|_| broker.ws()).collect();
    for ws in &mut clients {
        ws.subscribe("news");
    }
    let mut http = broker.http();
    let data = "x".repeat(10_000);
    for _ in 0..20 {
        assert_eq!(http.trigger(&json!({ "name": "e", "channel": "news", "data": data })).status, 200, "that is 2 MB for all of them");
    }
    for ws in &mut clients {
        for _ in 0..20 {
            ws.expect_data("e", "news", &data);
        }
    }
}

#[test]
fn the_memory_of_all_has_room_for_one() {
    let config = format!("[server]\nport = 0\nmax_outbox_memory = \"512KiB\"\n{}", one_app(""));
    let refusal = Launch::config(config).try_start().err().expect("a refusal");
    assert!(refusal.contains("server.max_outbox_memory") && refusal.contains("1MiB"), "{refusal}");
}
