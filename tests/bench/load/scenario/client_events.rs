//! Client events on private channels: one of each channel's subscribers sends, the others receive; one under way per channel.

use std::{io, time::Duration};

use super::{Meter, PATIENCE, nothing_else, subscribe_all, wrong};
use crate::{
    frames::{Mark, TEXT, masked},
    options::Options,
    report::Figure,
    server::Server,
    tally::Tally,
};

/// Subscribers of one channel, the sender included.
const EACH: usize = 10;

pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let channels = options.subscribers.unwrap_or(1_000) / EACH;
    if channels == 0 {
        return Err(wrong(format!("client-events needs at least {EACH} subscribers")));
    }
    let seconds = options.seconds.unwrap_or(3.0);
    let mut swarm = server.swarm()?;
    let name = |channel: usize| format!("private-bench-{channel}");
    subscribe_all(&mut swarm, server, channels * EACH, |socket| (name(socket % channels), None))?;
    let mut tally = Tally::new(channels * EACH, 1, false);
    let under_way = options.in_flight.unwrap_or(32).min(channels);
    tally.landed = (0..under_way).collect();
    let mut numbers = vec![0; channels];
    let mut flight = 0;
    let mut meter = None;
    let warm = swarm.now() + 300_000_000;
    let end = warm + (seconds * 1e9) as u64;
    loop {
        let now = swarm.now();
        if meter.is_none() && now > warm {
            tally.begin();
            meter = Some(Meter::start(server));
        }
        if now >= end {
            break;
        }
        while let Some(channel) = tally.landed.pop_front() {
            flight += 1;
            let data = Mark { lane: 0, number: numbers[channel], flight }.data(options.payload);
            numbers[channel] += 1;
            let event = format!(r#"{{"event":"client-e","channel":"{}","data":"{data}"}}"#, name(channel));
            let frame = masked(TEXT, event.as_bytes());
            tally.launch(flight, swarm.now(), EACH - 1, channel, true);
            // The first sockets are the first ones of their channels.
            swarm.send(channel, &frame);
        }
        swarm.poll(Duration::from_millis(50), &mut tally)?;
    }
    let deliveries = tally.deliveries;
    let meter = meter.ok_or_else(|| wrong("the run was shorter than its warm-up"))?;
    let mut figure = meter.stop(server, "client-events", "deliveries", deliveries, channels * EACH);
    figure.latency_ms = Some(tally.latency());
    let deadline = swarm.now() + PATIENCE.as_nanos() as u64 / 6;
    while tally.open > 0 && swarm.now() < deadline {
        swarm.poll(Duration::from_millis(50), &mut tally)?;
    }
    // What comes now comes twice.
    swarm.poll(Duration::from_millis(50), &mut tally)?;
    figure.faults = Some(tally.faults(None));
    nothing_else(&mut swarm)?;
    Ok(figure)
}
