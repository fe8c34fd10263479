//! Several workers: what a delivery costs then, how the load is split, and whether small requests get through beside a large fan-out.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{PATIENCE, publishes, subscribe_all};
use crate::{
    app,
    options::Options,
    report::{Figure, Latency},
    server::Server,
    swarm::Sink,
    tally::microseconds,
};

/// Fan-out, and the share of CPU time of the busiest of the two busiest threads.
pub(crate) fn split(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let load = publishes::Load { scenario: "workers", ..publishes::Load::fanout(options) };
    let mut swarm = server.swarm();
    subscribe_all(&mut swarm, server, load.subscribers, |_| ("bench-0".to_owned(), None))?;
    server.tree.cpu();
    let before = server.tree.threads();
    let figure = publishes::publish(server, &load, &mut swarm)?;
    server.tree.cpu();
    let spent = |(tid, thread): (u32, crate::proc::Thread)| {
        let earlier = before.get(&tid).map_or(0, |thread| thread.nanoseconds);
        (thread.nanoseconds - earlier, thread.name)
    };
    let mut spent: Vec<_> = server.tree.threads().into_iter().map(spent).collect();
    spent.sort_by(|one, other| other.cmp(one));
    let (first, second) = (spent[0].0 as f64, spent.get(1).map_or(0.0, |thread| thread.0 as f64));
    Ok(figure.with("busiest_worker_percent", 100.0 * first / (first + second)))
}

struct Times(hdrhistogram::Histogram<u64>, u64);

impl Sink for Times {
    fn text(&mut self, _: usize, _: &[u8], _: u64) -> bool {
        true
    }
    fn response(&mut self, _: usize, status: u16, now: u64) {
        assert_eq!(status, 200, "a publish was refused");
        self.0.saturating_record(now.saturating_sub(self.1) / 1_000);
    }
}

/// Publishes to a channel of nobody, a hundred a second, round eight connections, until told to stop.
fn probe(mut server: Server, stop: &AtomicBool) -> io::Result<Latency> {
    let mut swarm = server.swarm();
    swarm.open_lanes(8)?;
    let (mut times, mut lane) = (Times(microseconds(), 0), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + Duration::from_millis(10);
        let request = server.app.request("POST", "/events", "", &app::event("other", "x"));
        times.1 = swarm.now();
        swarm.lanes[lane].send(&request);
        let deadline = Instant::now() + PATIENCE;
        while swarm.lanes[lane].busy {
            swarm.poll(Duration::from_millis(100), &mut times)?;
            assert!(Instant::now() < deadline, "a publish is not answered");
        }
        lane = (lane + 1) % swarm.lanes.len();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(Latency::of(&times.0))
}

/// One publish after the other to 10,000 subscribers, and how long others wait for their answers meanwhile.
pub(crate) fn slow_http(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let load = publishes::Load {
        scenario: "slow-http",
        subscribers: options.subscribers.unwrap_or(10_000),
        in_flight: options.in_flight.unwrap_or(1),
        seconds: options.seconds.unwrap_or(5.0),
        ..publishes::Load::fanout(options)
    };
    let mut swarm = server.swarm();
    subscribe_all(&mut swarm, server, load.subscribers, |_| ("bench-0".to_owned(), None))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (told, other) = (Arc::clone(&stop), server.also());
    let prober = std::thread::spawn(move || probe(other, &told));
    let figure = publishes::publish(server, &load, &mut swarm)?;
    stop.store(true, Ordering::Relaxed);
    let latency = prober.join().expect("the probe does not panic")?;
    Ok(figure.with("other_http_p50_ms", latency.p50).with("other_http_p99_ms", latency.p99).with("other_http_max_ms", latency.max))
}
