//! Subscriptions that hold something, and what happens when all who hold leave at once: that every lock is taken and ended exactly once
//! is read in the log. Only Holdline knows such things.

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant, SystemTime},
};

use hdrhistogram::Histogram;
use serde_json::Value;

use super::{Meter, PATIENCE, ask, wrong};
use crate::{
    options::Options,
    proc::room_for,
    report::{Faults, Figure, Latency},
    server::Server,
    sink::Quiet,
    swarm::{Signal, Swarm},
    tally::microseconds,
};

/// The holds, and their mass end.
pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<[Figure; 2]> {
    let count = options.subscribers.unwrap_or(5_000);
    let under_way = options.in_flight.unwrap_or(64);
    room_for(count)?;
    let mut swarm = server.swarm()?;
    // Everybody connects first: connecting is another scenario's.
    let sockets = connect(&mut swarm, count, under_way)?;
    let mut asking = server.swarm()?;
    asking.open_lanes(1)?;
    let mut log = Log::end(&mut asking, server)?;

    let meter = Meter::start(server);
    let histogram = hold(server, &mut swarm, &sockets, under_way)?;
    let mut holds = meter.stop(server, "holds", "holds", count as u64, count);
    log.read(&mut asking, server)?;
    holds.latency_ms = Some(Latency::of(&histogram));
    holds.faults = Some(Log::faults(&log.locked, count));

    let meter = Meter::start(server);
    let cut = SystemTime::now();
    drop(swarm);
    let deadline = Instant::now() + PATIENCE;
    while !ask(&mut asking, server, "/locks", "limit=1")?.contains(r#""locks":[]"#) {
        if Instant::now() > deadline {
            return Err(wrong("not all locks have ended"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut mass = meter.stop(server, "mass", "unlocks", count as u64, 0);
    log.read(&mut asking, server)?;
    let mut histogram = microseconds();
    for at in &log.unlocked_at {
        histogram.saturating_record(at.duration_since(cut).unwrap_or_default().as_micros() as u64);
    }
    // From the cut until the log says that it has ended, in the milliseconds of the log.
    mass.latency_ms = Some(Latency::of(&histogram));
    mass.faults = Some(Log::faults(&log.unlocked, count));
    let seconds = mass.seconds;
    Ok([holds, mass.with("all_unlocked_after_s", seconds)])
}

fn connect(swarm: &mut Swarm, count: usize, under_way: usize) -> io::Result<Vec<(usize, String)>> {
    let (mut sockets, mut begun) = (Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while sockets.len() < count {
        while begun < count && begun - sockets.len() < under_way {
            swarm.open(None)?;
            begun += 1;
        }
        swarm.poll(Duration::from_millis(100), &mut Quiet)?;
        for signal in swarm.take_signals() {
            match signal {
                Signal::Open { socket, id } => sockets.push((socket, id)),
                other => return Err(wrong(format!("while connecting there came {other:?}"))),
            }
        }
        if Instant::now() > deadline {
            return Err(wrong(format!("only {} of {count} are connected", sockets.len())));
        }
    }
    Ok(sockets)
}

/// Everybody takes a lock; gives how long each waited for it.
fn hold(server: &Server, swarm: &mut Swarm, sockets: &[(usize, String)], under_way: usize) -> io::Result<Histogram<u64>> {
    let count = sockets.len();
    let (mut begun, mut held, mut times, mut histogram) = (0, 0, vec![0; count], microseconds());
    let deadline = Instant::now() + PATIENCE;
    while held < count {
        while begun < count && begun - held < under_way {
            let (socket, id) = &sockets[begun];
            let frame = server.app.subscribe(id, &format!("private-order.{begun}"), None);
            times[*socket] = swarm.now();
            swarm.send(*socket, &frame);
            begun += 1;
        }
        swarm.poll(Duration::from_millis(100), &mut Quiet)?;
        let now = swarm.now();
        for signal in swarm.take_signals() {
            match signal {
                Signal::Text { socket, text } if text.contains("holdline:locked") => {
                    histogram.saturating_record((now - times[socket]) / 1_000);
                    held += 1;
                }
                Signal::Text { text, .. } if text.contains("subscription_succeeded") => {}
                other => return Err(wrong(format!("while taking locks there came {other:?}"))),
            }
        }
        if Instant::now() > deadline {
            return Err(wrong(format!("only {held} of {count} hold: is there a rule for private-order.* ?")));
        }
    }
    Ok(histogram)
}

/// What the log has of our locks since we came.
#[derive(Default)]
struct Log {
    next: Option<String>,
    /// How often each fence stands there.
    locked: HashMap<u64, u64>,
    unlocked: HashMap<u64, u64>,
    unlocked_at: Vec<SystemTime>,
}

impl Log {
    fn end(swarm: &mut Swarm, server: &mut Server) -> io::Result<Self> {
        let mut log = Self::default();
        log.read(swarm, server)?;
        Ok(Self { next: log.next, ..Self::default() })
    }

    fn read(&mut self, swarm: &mut Swarm, server: &mut Server) -> io::Result<()> {
        loop {
            let query = self.next.as_ref().map_or_else(|| "limit=1000".to_owned(), |next| format!("after={next}&limit=1000"));
            let page: Value = serde_json::from_str(&ask(swarm, server, "/events", &query)?)?;
            let events = page["events"].as_array().cloned().unwrap_or_default();
            self.next = page["next"].as_str().map(str::to_owned).or_else(|| self.next.take());
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                let Some(fence) = event["fence"].as_u64() else { continue };
                if event["kind"] == "locked" {
                    *self.locked.entry(fence).or_insert(0) += 1;
                } else if event["kind"] == "unlocked" {
                    *self.unlocked.entry(fence).or_insert(0) += 1;
                    self.unlocked_at.extend(event["at"].as_str().and_then(|at| humantime::parse_rfc3339(at).ok()));
                }
            }
        }
    }

    fn faults(seen: &HashMap<u64, u64>, count: usize) -> Faults {
        let duplicated = seen.values().map(|times| times - 1).sum();
        Faults { lost: (count as u64).saturating_sub(seen.len() as u64), duplicated, reordered: 0 }
    }
}
