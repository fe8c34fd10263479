//! A reader that stops, beside 999 that live: when it is ended, when its socket goes, what is held for it, and what the others notice.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Answer, PATIENCE, ask, publishes, subscribe_all, wrong};
use crate::{
    app,
    options::Options,
    proc::socket_exists,
    report::Figure,
    server::Server,
    sink::Quiet,
    swarm::{Signal, Swarm},
};

/// What only the stuck reader is subscribed to, and what fills its queue.
const FLOOD: &str = "flood";
const FLOOD_EVENT: usize = 8 * 1024;

struct Flooded {
    bytes: usize,
    ended: Option<Duration>,
    /// From then on its socket is waited for.
    at: Instant,
    /// More of resident memory than before; of a process that is known.
    held: Option<u64>,
}

/// Without it, with it, and without it again: the machine's own drift is in neither or in both.
pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<[Figure; 3]> {
    let seconds = options.seconds.unwrap_or(8.0);
    let load = publishes::Load {
        subscribers: options.subscribers.unwrap_or(1_000).max(2) - 1,
        channels: 1,
        per_request: false,
        in_flight: options.in_flight.unwrap_or(8),
        rate: options.rate.or(Some(50.0)),
        seconds,
        ..publishes::Load::fanout(options)
    };
    let before = publishes::run(server, &publishes::Load { scenario: "stuck: before", ..load.clone() })?;

    // The same again on fresh sockets, with one more that stops reading.
    let beside = publishes::Load { scenario: "stuck", ..load.clone() };
    let mut swarm = server.swarm()?;
    subscribe_all(&mut swarm, server, beside.subscribers, |_| ("bench-0".to_owned(), None))?;
    let stuck = add_stuck(&mut swarm, server)?;
    let other = server.also();
    // The others run for a while first.
    let pause = Duration::from_secs_f64((seconds / 4.0).min(2.0));
    let flood = std::thread::spawn(move || flood(other, pause));
    let with = publishes::publish(server, &beside, &mut swarm)?;
    let flooded = flood.join().map_err(|_| wrong("the flood panicked"))??;
    let gone = flooded.ended.and_then(|_| gone(server, stuck, flooded.at));
    drop(swarm);
    let after = publishes::run(server, &publishes::Load { scenario: "stuck: after", ..load })?;

    // Never: not a number.
    let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
    let change = 2.0 * with.p99() / (before.p99() + after.p99());
    let with = with
        .with("ended_after_ms", seconds(flooded.ended) * 1e3)
        .with("ended_after_kib", flooded.bytes as f64 / 1024.0)
        .with("socket_gone_after_s", seconds(gone))
        .with("held_kib", flooded.held.map_or(f64::NAN, |held| held as f64 / 1024.0))
        .with("p99_of_others_ratio", change);
    Ok([before, with, after])
}

fn add_stuck(swarm: &mut Swarm, server: &Server) -> io::Result<SocketAddr> {
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
                other => return Err(wrong(format!("when the stuck reader subscribed, there came {other:?}"))),
            }
        }
        if Instant::now() > deadline {
            return Err(wrong("the stuck reader is not subscribed"));
        }
    }
    swarm.ignore(socket)?;
    swarm.local_address(socket).ok_or_else(|| wrong("the stuck reader is gone before it began"))
}

fn flood(mut server: Server, pause: Duration) -> io::Result<Flooded> {
    let mut swarm = server.swarm()?;
    swarm.open_lanes(1)?;
    std::thread::sleep(pause);
    let before = server.tree.rss();
    let event = app::event(FLOOD, &"x".repeat(FLOOD_EVENT));
    let body = format!(r#"{{"batch":[{}]}}"#, [&*event; 10].join(","));
    let mut flooded = Flooded { bytes: 0, ended: None, at: Instant::now(), held: None };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let request = server.app.request("POST", "/batch_events", "", &body);
        let (sent, mut answered) = (Instant::now(), Answer(false));
        swarm.lanes[0].send(&request);
        while !answered.0 && sent.elapsed() < PATIENCE {
            swarm.poll(Duration::from_millis(100), &mut answered)?;
        }
        flooded.bytes += 10 * FLOOD_EVENT;
        if server.tree.exists() {
            flooded.held = flooded.held.max(Some(server.tree.rss().saturating_sub(before)));
        }
        if ask(&mut swarm, &mut server, &format!("/channels/{FLOOD}"), "")?.contains(r#""occupied":false"#) {
            // From the publish that was too much.
            (flooded.ended, flooded.at) = (Some(sent.elapsed()), Instant::now());
            break;
        }
    }
    Ok(flooded)
}

/// How long after it was ended its socket is gone. What the kernel has of all sockets of the machine takes long to read, on the generator's
/// core: not while the others are measured.
fn gone(server: &Server, stuck: SocketAddr, ended: Instant) -> Option<Duration> {
    while ended.elapsed() < Duration::from_secs(40) {
        if !socket_exists(server.ws.port(), stuck) {
            return Some(ended.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}
