//! Subscriptions that hold something, and what happens when all who hold leave at once. Holdline only.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{Meter, PATIENCE, ask};
use crate::{
    options::Options,
    report::{Figure, Latency},
    server::Server,
    swarm::{Quiet, Signal},
    tally::microseconds,
};

/// The holds, and their mass end.
pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<Vec<Figure>> {
    let count = options.subscribers.unwrap_or(5_000);
    let under_way = options.in_flight.unwrap_or(64);
    let mut swarm = server.swarm();
    let mut sockets = Vec::new();
    // Everybody connects first: connecting is another scenario's.
    while sockets.len() < count {
        let missing = count - sockets.len();
        (0..missing.min(under_way)).try_for_each(|_| swarm.open(None).map(drop))?;
        let (wanted, deadline) = (sockets.len() + missing.min(under_way), Instant::now() + PATIENCE);
        while sockets.len() < wanted {
            swarm.poll(Duration::from_millis(100), &mut Quiet)?;
            sockets.extend(swarm.take_signals().into_iter().map(|signal| match signal {
                Signal::Open { socket, id } => (socket, id),
                other => panic!("while connecting: {other:?}"),
            }));
            assert!(Instant::now() < deadline, "{} of {count} are connected", sockets.len());
        }
    }
    let meter = Meter::start(server);
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
                other => panic!("while taking holds: {other:?}"),
            }
        }
        assert!(Instant::now() < deadline, "{held} of {count} hold");
    }
    let mut holds = meter.stop(server, "holds", "holds", count as u64);
    holds.latency_ms = Some(Latency::of(&histogram));

    let mut asking = server.swarm();
    asking.open_lanes(1)?;
    let meter = Meter::start(server);
    drop(swarm);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, text) = ask(&mut asking, server, "GET", "/locks", "limit=1")?;
        assert_eq!(status, 200, "{text}");
        if text.contains(r#""locks":[]"#) {
            break;
        }
        assert!(Instant::now() < deadline, "not all are unlocked: {text}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mass = meter.stop(server, "mass", "unlocks", count as u64);
    let seconds = mass.seconds;
    Ok(vec![holds, mass.with("all_unlocked_after_s", seconds)])
}
