//! Publishing over HTTP: fan-out to many, round many channels, to nobody, in batches. Closed loop (so many under way; a publish is over when
//! it is answered and everybody has it) or open loop (so many per second; latency counts from when each was due).

use std::{io, time::Duration};

use super::{Meter, PATIENCE, nothing_else, subscribe_all, wrong};
use crate::{app, frames::Mark, options::Options, report::Figure, server::Server, swarm::Swarm, tally::Tally};

/// What is published to whom, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) scenario: &'static str,
    pub(crate) subscribers: usize,
    pub(crate) channels: usize,
    pub(crate) payload: usize,
    pub(crate) in_flight: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    /// Events of one request.
    pub(crate) batch: usize,
    /// Whether a request is the unit, or a delivery.
    pub(crate) per_request: bool,
}

impl Load {
    /// Fan-out as the command line wants it.
    pub(crate) fn fanout(options: &Options) -> Self {
        Self {
            scenario: "fanout",
            subscribers: options.subscribers.unwrap_or(1_000),
            channels: options.channels,
            payload: options.payload,
            in_flight: options.in_flight.unwrap_or(32),
            rate: options.rate,
            seconds: options.seconds.unwrap_or(3.0),
            batch: 1,
            per_request: options.channels > 1,
        }
    }

    pub(crate) fn nobody(options: &Options) -> Self {
        Self { scenario: "publish", subscribers: 0, channels: 1, per_request: true, ..Self::fanout(options) }
    }

    pub(crate) fn batch(options: &Options) -> Self {
        Self { scenario: "batch", subscribers: 1, channels: 1, batch: 10, per_request: true, ..Self::fanout(options) }
    }
}

/// Sends what is published, and knows where each lane is.
pub(crate) struct Publisher {
    load: Load,
    lanes: usize,
    /// Events that a lane has published on a channel.
    numbers: Vec<u32>,
    /// The channel a lane publishes on next.
    turn: Vec<usize>,
    flight: u32,
}

impl Publisher {
    pub(crate) fn new(load: &Load) -> Self {
        let lanes = load.in_flight;
        // Each lane has channels of its own, if there are enough: on one channel one publisher is in order, many are not.
        let turn = (0..lanes).map(|lane| lane % load.channels).collect();
        Self { load: load.clone(), lanes, numbers: vec![0; lanes * load.channels], turn, flight: 0 }
    }

    fn receivers(&self, channel: usize) -> usize {
        let Load { subscribers, channels, .. } = self.load;
        subscribers / channels + usize::from(channel < subscribers % channels)
    }

    pub(crate) fn launch(&mut self, lane: usize, sent: u64, swarm: &mut Swarm, server: &mut Server, tally: &mut Tally) {
        let channel = self.turn[lane];
        self.turn[lane] = if channel + self.lanes < self.load.channels { channel + self.lanes } else { lane % self.load.channels };
        self.flight += 1;
        let name = format!("bench-{channel}");
        let mut events = Vec::with_capacity(self.load.batch);
        for _ in 0..self.load.batch {
            let number = &mut self.numbers[channel * self.lanes + lane];
            events.push(app::event(&name, &Mark { lane, number: *number, flight: self.flight }.data(self.load.payload)));
            *number += 1;
        }
        let request = if self.load.batch == 1 {
            server.app.request("POST", "/events", "", &events[0])
        } else {
            server.app.request("POST", "/batch_events", "", &format!(r#"{{"batch":[{}]}}"#, events.join(",")))
        };
        tally.launch(self.flight, sent, self.receivers(channel) * self.load.batch, lane, false);
        swarm.lanes[lane].send(&request);
    }
}

/// Marks have three digits for the lane.
const LANES: usize = 999;

/// Everybody subscribes, then it begins.
pub(crate) fn run(server: &mut Server, load: &Load) -> io::Result<Figure> {
    if load.channels == 0 || !(1..=LANES).contains(&load.in_flight) || load.rate.is_some_and(|rate| rate <= 0.0) {
        return Err(wrong(format!("there must be a channel, 1 to {LANES} publishes under way, and a rate above 0")));
    }
    let mut swarm = server.swarm()?;
    let channels = load.channels;
    subscribe_all(&mut swarm, server, load.subscribers, |socket| (format!("bench-{}", socket % channels), None))?;
    publish(server, load, &mut swarm)
}

/// The load itself, on sockets that are subscribed.
pub(crate) fn publish(server: &mut Server, load: &Load, swarm: &mut Swarm) -> io::Result<Figure> {
    swarm.open_lanes(load.in_flight - swarm.lanes.len())?;
    let mut publisher = Publisher::new(load);
    let mut tally = Tally::new(load.subscribers, load.in_flight, load.rate.is_some());
    tally.landed = (0..load.in_flight).collect();
    let warm_up = (load.seconds / 5.0).clamp(0.2, 1.0);
    let mut due = swarm.now();
    drive(server, swarm, &mut publisher, &mut tally, &mut due, warm_up)?;
    tally.begin();
    let meter = Meter::start(server);
    drive(server, swarm, &mut publisher, &mut tally, &mut due, load.seconds)?;
    let (deliveries, requests) = (tally.deliveries, tally.requests);
    let (unit, units) = if load.per_request { ("requests", requests) } else { ("deliveries", deliveries) };
    let mut figure = meter.stop(server, load.scenario, unit, units, load.subscribers);
    figure.latency_ms = Some(if load.subscribers > 0 { tally.latency() } else { tally.answers() });
    let deadline = swarm.now() + PATIENCE.as_nanos() as u64 / 6;
    while tally.open > 0 && swarm.now() < deadline {
        swarm.poll(Duration::from_millis(50), &mut tally)?;
    }
    // What comes now comes twice.
    swarm.poll(Duration::from_millis(50), &mut tally)?;
    figure.faults = Some(tally.faults(Some(load.channels)));
    nothing_else(swarm)?;
    let (cpu, seconds) = (figure.cpu_us_per_unit * units as f64, figure.seconds);
    if load.subscribers == 0 {
        return Ok(figure);
    }
    let figure = figure.with("deliveries_per_s", deliveries as f64 / seconds).with("requests_per_s", requests as f64 / seconds);
    let figure = figure.with("cpu_us_per_request", cpu / requests.max(1) as f64);
    Ok(figure.with("http_p50_ms", tally.answers().p50).with("http_p99_ms", tally.answers().p99))
}

fn drive(
    server: &mut Server,
    swarm: &mut Swarm,
    publisher: &mut Publisher,
    tally: &mut Tally,
    due: &mut u64,
    seconds: f64,
) -> io::Result<()> {
    let end = swarm.now() + (seconds * 1e9) as u64;
    let step = publisher.load.rate.map(|rate| (1e9 / rate) as u64);
    loop {
        let now = swarm.now();
        if now >= end {
            return Ok(());
        }
        let mut until = end;
        match step {
            None => {
                while let Some(lane) = tally.landed.pop_front() {
                    publisher.launch(lane, swarm.now(), swarm, server, tally);
                }
            }
            Some(step) => {
                while *due <= now {
                    let Some(lane) = tally.landed.pop_front() else { break };
                    publisher.launch(lane, *due, swarm, server, tally);
                    *due += step;
                }
                until = end.min((*due).max(now + 1_000));
            }
        }
        swarm.poll(Duration::from_nanos(until.saturating_sub(now)), tally)?;
    }
}
