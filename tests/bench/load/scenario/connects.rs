//! Connections that come and go: `connect` (until established, then the client drops it) and `churn` (a subscription and the closing
//! handshake, too).

use std::{io, time::Duration};

use super::{Meter, PATIENCE};
use crate::{
    options::Options,
    report::{Figure, Latency},
    server::Server,
    swarm::{Quiet, Signal},
    tally::microseconds,
};

/// What a connection does between its handshake and its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cycle {
    /// Nothing.
    Connect,
    /// Subscribes to a private channel; closes with a close frame.
    Churn,
    /// The same with a public channel.
    Plain,
}

/// Under way at a time.
const IN_FLIGHT: usize = 32;

pub(crate) fn run(server: &mut Server, options: &Options, cycle: Cycle, cycles: usize) -> io::Result<Figure> {
    let mut swarm = server.swarm();
    let under_way = options.in_flight.unwrap_or(IN_FLIGHT);
    let scenario = if cycle == Cycle::Connect { "connect" } else { "churn" };
    // Pages that a server touches for the first time are no leak: memory is looked at from a twentieth of the way on.
    let warm_up = (cycles / 20).clamp(200, 10_000);
    let (mut established, mut lingering) = (microseconds(), microseconds());
    let (mut begun, mut ended) = (0, 0);
    let mut times = Vec::new();
    let mut meter = None;
    let mut memory = (0, 0);
    let mut last = swarm.now();
    while ended < cycles + warm_up {
        if meter.is_none() && ended >= warm_up {
            memory = (server.tree.rss(), ended);
            established.reset();
            lingering.reset();
            meter = Some((Meter::start(server), ended));
        }
        while begun < cycles + warm_up && begun - ended < under_way {
            let at = swarm.now();
            let socket = swarm.open(None)?;
            if times.len() <= socket {
                times.resize(socket + 1, 0);
            }
            times[socket] = at;
            begun += 1;
        }
        swarm.poll(Duration::from_millis(100), &mut Quiet)?;
        let now = swarm.now();
        for signal in swarm.take_signals() {
            last = now;
            match signal {
                Signal::Open { socket, id } => {
                    established.saturating_record((now - times[socket]) / 1_000);
                    if cycle == Cycle::Connect {
                        swarm.drop(socket);
                        ended += 1;
                        continue;
                    }
                    let prefix = if cycle == Cycle::Churn { "private-" } else { "" };
                    let frame = server.app.subscribe(&id, &format!("{prefix}churn-{socket}"), None);
                    swarm.send(socket, &frame);
                }
                Signal::Text { socket, text } => {
                    assert!(text.contains("subscription_succeeded"), "{text}");
                    swarm.close(socket);
                }
                Signal::Closed { socket } => times[socket] = now,
                Signal::Gone { socket } => {
                    lingering.saturating_record((now - times[socket]) / 1_000);
                    ended += 1;
                }
            }
        }
        assert!(now - last < PATIENCE.as_nanos() as u64, "nothing happens any more");
    }
    let (meter, from) = meter.expect("there are more cycles than the warm-up has");
    let mut figure = meter.stop(server, scenario, "cycles", (ended - from) as u64);
    figure.latency_ms = Some(Latency::of(&established));
    let grown = server.tree.rss() as f64 - memory.0 as f64;
    let figure = figure.with("rss_growth_kib", grown / 1024.0).with("rss_growth_bytes_per_cycle", grown / (ended - memory.1) as f64);
    if cycle == Cycle::Connect {
        return Ok(figure);
    }
    let gone = Latency::of(&lingering);
    Ok(figure.with("tcp_gone_p99_ms", gone.p99).with("tcp_gone_max_ms", gone.max))
}
