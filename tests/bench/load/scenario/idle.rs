//! Connections that do nothing, each with one private subscription of its own: what they cost in memory, and what the server does meanwhile.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{Meter, subscribe_all};
use crate::{options::Options, report::Figure, server::Server, swarm::Quiet};

pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let count = options.subscribers.unwrap_or(10_000);
    let seconds = options.seconds.unwrap_or(5.0);
    let start = server.tree.rss();
    let mut swarm = server.swarm();
    let opening = Meter::start(server);
    subscribe_all(&mut swarm, server, count, |socket| (format!("private-idle-{socket}"), None))?;
    let opening = opening.stop(server, "idle", "connections", count as u64);
    let full = server.tree.rss();
    let meter = Meter::start(server);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        swarm.poll(left, &mut Quiet)?;
    }
    let figure = meter.stop(server, "idle", "connections", count as u64);
    drop(swarm);
    // The server needs a moment to notice, and its allocator one to give back.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut after = server.tree.rss();
    while after > start + start / 10 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(250));
        after = after.min(server.tree.rss());
    }
    let each = full.saturating_sub(start) as f64 / count as f64 / 1024.0;
    let percent = figure.server_cores * 100.0;
    let figure = Figure { cpu_us_per_unit: opening.cpu_us_per_unit, ..figure };
    let mib = f64::from(1 << 20);
    Ok(figure
        .with("rss_kib_each", each)
        .with("idle_cpu_percent", percent)
        .with("start_mib", start as f64 / mib)
        .with("full_mib", full as f64 / mib)
        .with("after_mib", after as f64 / mib)
        .with("after_to_start", after as f64 / start as f64))
}
