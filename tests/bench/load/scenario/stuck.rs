//! A reader that stops, beside 999 that live: when it is ended, when its socket goes, what is held for it, and what the others notice.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{PATIENCE, ask, publishes, subscribe_all};
use crate::{
    app,
    options::Options,
    proc::socket_exists,
    report::Figure,
    server::Server,
    swarm::{Quiet, Signal, Sink, Swarm},
};

/// What only the stuck reader is subscribed to, and what fills its queue.
const FLOOD: &str = "flood";
const FLOOD_EVENT: usize = 8 * 1024;

struct Flooded {
    bytes: usize,
    ended: Option<Duration>,
    gone: Option<Duration>,
    held: u64,
}

pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<Vec<Figure>> {
    let load = publishes::Load {
        scenario: "stuck",
        subscribers: options.subscribers.unwrap_or(1_000) - 1,
        in_flight: options.in_flight.unwrap_or(8),
        rate: options.rate.or(Some(50.0)),
        seconds: options.seconds.unwrap_or(5.0),
        ..publishes::Load::fanout(options)
    };
    let mut swarm = server.swarm();
    subscribe_all(&mut swarm, server, load.subscribers, |_| ("bench-0".to_owned(), None))?;
    let mut without = publishes::publish(server, &load, &mut swarm)?;
    without.scenario = "stuck: before".to_owned();
    drop(swarm);

    // The same again on fresh sockets, with one more that stops reading.
    let mut swarm = server.swarm();
    subscribe_all(&mut swarm, server, load.subscribers, |_| ("bench-0".to_owned(), None))?;
    let port = add_stuck(&mut swarm, server)?;
    let other = server.also();
    let flood = std::thread::spawn(move || flood(other, port));
    // TCP_USER_TIMEOUT is 20 s.
    let load = publishes::Load { seconds: if options.seconds.is_some() { load.seconds } else { 25.0 }, ..load };
    let with = publishes::publish(server, &load, &mut swarm)?;
    let flooded = flood.join().expect("the flood does not panic")?;
    let seconds = |time: Option<Duration>| time.map_or(f64::INFINITY, |time| time.as_secs_f64());
    let change = with.p99() / without.p99();
    let with = with
        .with("ended_after_ms", seconds(flooded.ended) * 1e3)
        .with("ended_after_kib", flooded.bytes as f64 / 1024.0)
        .with("socket_gone_after_s", seconds(flooded.gone))
        .with("held_kib", flooded.held as f64 / 1024.0)
        .with("p99_of_others_ratio", change);
    Ok(vec![without, with])
}

fn add_stuck(swarm: &mut Swarm, server: &Server) -> io::Result<u16> {
    let socket = swarm.open(Some(4096))?;
    let (mut subscribed, deadline) = (0, Instant::now() + PATIENCE);
    while subscribed < 2 {
        swarm.poll(Duration::from_millis(100), &mut Quiet)?;
        for signal in swarm.take_signals() {
            match signal {
                Signal::Open { id, .. } => {
                    for channel in ["bench-0", FLOOD] {
                        let frame = server.app.subscribe(&id, channel, None);
                        swarm.send(socket, &frame);
                    }
                }
                Signal::Text { text, .. } if text.contains("subscription_succeeded") => subscribed += 1,
                other => panic!("while subscribing: {other:?}"),
            }
        }
        assert!(Instant::now() < deadline, "the stuck reader is not subscribed");
    }
    swarm.ignore(socket)?;
    Ok(swarm.local_port(socket).expect("it is connected"))
}

struct Answered(bool);

impl Sink for Answered {
    fn text(&mut self, _: usize, _: &[u8], _: u64) -> bool {
        true
    }
    fn response(&mut self, _: usize, _: u16, _: u64) {
        self.0 = true;
    }
}

fn flood(mut server: Server, port: u16) -> io::Result<Flooded> {
    let mut swarm = server.swarm();
    swarm.open_lanes(1)?;
    // The others run for a while first.
    std::thread::sleep(Duration::from_secs(2));
    let before = server.tree.rss();
    let event = app::event(FLOOD, &"x".repeat(FLOOD_EVENT));
    let body = format!(r#"{{"batch":[{}]}}"#, [&*event; 10].join(","));
    let mut flooded = Flooded { bytes: 0, ended: None, gone: None, held: 0 };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let request = server.app.request("POST", "/batch_events", "", &body);
        let (sent, mut answered) = (Instant::now(), Answered(false));
        swarm.lanes[0].send(&request);
        while !answered.0 && sent.elapsed() < PATIENCE {
            swarm.poll(Duration::from_millis(100), &mut answered)?;
        }
        flooded.bytes += 10 * FLOOD_EVENT;
        flooded.held = flooded.held.max(server.tree.rss().saturating_sub(before));
        let (_, text) = ask(&mut swarm, &mut server, "GET", &format!("/channels/{FLOOD}"), "")?;
        if text.contains(r#""occupied":false"#) {
            // From the publish that was too much.
            flooded.ended = Some(sent.elapsed());
            break;
        }
    }
    let ended = Instant::now();
    while ended.elapsed() < Duration::from_secs(40) {
        if !socket_exists(server.ws.port(), port) {
            flooded.gone = Some(ended.elapsed());
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(flooded)
}
