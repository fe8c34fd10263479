//! Connections that come, and those that come and go: `connect` (until established; all of them stay until the figure is taken) and `churn`
//! (a subscription and the closing handshake, too).

use std::{io, time::Duration};

use hdrhistogram::Histogram;

use super::{Meter, PATIENCE, wrong};
use crate::{
    options::Options,
    proc::room_for,
    report::{Figure, Latency},
    server::Server,
    sink::Quiet,
    swarm::{Signal, Swarm},
    tally::microseconds,
};

/// What a connection does between its handshake and its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cycle {
    /// It stays: its end is no part of the figure.
    Connect,
    /// Subscribes to a private channel; closes with a close frame.
    Churn,
    /// The same with a public channel.
    Plain,
}

/// Under way at a time.
pub(crate) const IN_FLIGHT: usize = 32;
/// Connections that stay: what the descriptors of a machine allow.
const STAY: usize = 8_000;

/// Cycles on one swarm.
pub(crate) struct Cycles<'a> {
    server: &'a Server,
    swarm: Swarm,
    cycle: Cycle,
    in_flight: usize,
    begun: usize,
    pub(crate) ended: usize,
    /// When each socket began its last step.
    times: Vec<u64>,
    established: Histogram<u64>,
    lingering: Histogram<u64>,
}

impl<'a> Cycles<'a> {
    pub(crate) fn new(server: &'a Server, cycle: Cycle, in_flight: usize) -> io::Result<Self> {
        room_for(in_flight)?;
        let swarm = server.swarm()?;
        let (established, lingering) = (microseconds(), microseconds());
        Ok(Self { server, swarm, cycle, in_flight, begun: 0, ended: 0, times: Vec::new(), established, lingering })
    }

    /// Until so many have ended, of so many that are begun at most.
    pub(crate) fn run(&mut self, until: usize, most: usize) -> io::Result<()> {
        let mut last = self.swarm.now();
        while self.ended < until {
            while self.begun < most && self.begun - self.ended < self.in_flight {
                let at = self.swarm.now();
                let socket = self.swarm.open(None)?;
                if self.times.len() <= socket {
                    self.times.resize(socket + 1, 0);
                }
                self.times[socket] = at;
                self.begun += 1;
            }
            self.swarm.poll(Duration::from_millis(100), &mut Quiet)?;
            let now = self.swarm.now();
            for signal in self.swarm.take_signals() {
                last = now;
                self.step(signal, now)?;
            }
            if now - last > PATIENCE.as_nanos() as u64 {
                return Err(wrong(format!("nothing happened for {PATIENCE:?}, after {} cycles", self.ended)));
            }
        }
        Ok(())
    }

    fn step(&mut self, signal: Signal, now: u64) -> io::Result<()> {
        match signal {
            Signal::Open { socket, id } => {
                self.established.saturating_record((now - self.times[socket]) / 1_000);
                if self.cycle == Cycle::Connect {
                    self.ended += 1;
                    return Ok(());
                }
                let prefix = if self.cycle == Cycle::Churn { "private-" } else { "" };
                let frame = self.server.app.subscribe(&id, &format!("{prefix}churn-{socket}"), None);
                self.swarm.send(socket, &frame);
            }
            Signal::Text { socket, text } if text.contains("subscription_succeeded") => self.swarm.close(socket),
            Signal::Text { text, .. } => return Err(wrong(format!("the server refused a subscription: {text}"))),
            Signal::Closed { socket } => self.times[socket] = now,
            Signal::Gone { socket } => {
                self.lingering.saturating_record((now - self.times[socket]) / 1_000);
                self.ended += 1;
            }
        }
        Ok(())
    }
}

pub(crate) fn run(server: &mut Server, options: &Options, cycle: Cycle, count: usize) -> io::Result<Figure> {
    let scenario = if cycle == Cycle::Connect { "connect" } else { "churn" };
    // Pages that a server touches for the first time are no leak: memory is looked at from a twentieth of the way on.
    let warm_up = (count / 20).clamp(200, 10_000);
    let count = if cycle == Cycle::Connect { count.min(STAY) } else { count };
    room_for(if cycle == Cycle::Connect { warm_up + count } else { 0 })?;
    let view = server.also();
    let mut cycles = Cycles::new(&view, cycle, options.in_flight.unwrap_or(IN_FLIGHT))?;
    cycles.run(warm_up, warm_up + count)?;
    cycles.established.reset();
    cycles.lingering.reset();
    let (meter, memory, from) = (Meter::start(server), server.tree.rss(), cycles.ended);
    cycles.run(warm_up + count, warm_up + count)?;
    let done = cycles.ended - from;
    let mut figure = meter.stop(server, scenario, "cycles", done as u64, 0);
    figure.latency_ms = Some(Latency::of(&cycles.established));
    let grown = server.tree.rss() as f64 - memory as f64;
    if cycle == Cycle::Connect {
        return Ok(figure.with("rss_kib_per_connection", grown / 1024.0 / done as f64));
    }
    let figure = figure.with("rss_growth_kib", grown / 1024.0).with("rss_growth_bytes_per_cycle", grown / done as f64);
    let gone = Latency::of(&cycles.lingering);
    Ok(figure.with("tcp_gone_p99_ms", gone.p99).with("tcp_gone_max_ms", gone.max))
}
