//! Connections that do nothing, each with one private subscription of its own: what they cost in memory, and what the server does meanwhile.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{Meter, subscribe_all};
use crate::{options::Options, report::Figure, server::Server, sink::Quiet};

/// A few come and go first: pages of the program that are touched for the first time are no connection's.
const FIRST: usize = 100;
/// The server needs a moment to notice that all have left, and its allocator one to give back.
const SETTLES: Duration = Duration::from_secs(20);

pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let count = options.subscribers.unwrap_or(10_000);
    let seconds = options.seconds.unwrap_or(5.0);
    let channel = |socket| (format!("private-idle-{socket}"), None);
    subscribe_all(&mut server.swarm()?, server, FIRST.min(count), channel)?;
    std::thread::sleep(Duration::from_millis(500));
    let start = server.tree.rss();
    server.rss_at_start = start;
    let mut swarm = server.swarm()?;
    let opening = Meter::start(server);
    subscribe_all(&mut swarm, server, count, channel)?;
    let opening = opening.stop(server, "idle", "connections", count as u64, count);
    let meter = Meter::start(server);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        swarm.poll(left, &mut Quiet)?;
    }
    // Whatever pings left behind is a connection's, too.
    let figure = meter.stop(server, "idle", "connections", count as u64, count);
    let full = server.tree.rss();
    super::nothing_else(&mut swarm)?;
    drop(swarm);
    let deadline = Instant::now() + SETTLES;
    let mut after = server.tree.rss();
    while after > start + start / 10 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(250));
        after = after.min(server.tree.rss());
    }
    let percent = figure.server_cores * 100.0;
    // What a connection costs is the opening of it; doing nothing has no unit.
    let figure = Figure { cpu_us_per_unit: opening.cpu_us_per_unit, per_second: opening.per_second, ..figure };
    let mib = f64::from(1 << 20);
    Ok(figure
        .with("idle_cpu_percent", percent)
        .with("start_mib", start as f64 / mib)
        .with("full_mib", full as f64 / mib)
        .with("after_mib", after as f64 / mib)
        .with("after_to_start", after as f64 / start as f64))
}
