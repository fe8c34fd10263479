//! Several workers: what a delivery costs then, how the load is split, and whether small requests get through beside a large fan-out.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{PATIENCE, publishes, subscribe_all, wrong};
use crate::{
    app,
    options::Options,
    report::{Figure, Latency},
    server::Server,
    sink::Sink,
    tally::microseconds,
};

/// Fan-out, and the share of CPU time of the busiest of the two busiest threads.
pub(crate) fn split(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let load = publishes::Load { scenario: "workers", seconds: options.seconds.unwrap_or(1.5), ..publishes::Load::fanout(options) };
    let mut swarm = server.swarm()?;
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
    let of = |n: usize| spent.get(n).map_or(0.0, |thread| thread.0 as f64);
    Ok(figure.with("busiest_worker_percent", 100.0 * of(0) / (of(0) + of(1))))
}

/// Runs of each; on a machine whose cores are shared no single one says much.
pub(crate) const PAIRS: usize = 6;

/// Of pairs of one worker's figure and two workers', the one in the middle; with the middle one of their ratios, and the others' range
/// without the outermost.
pub(crate) fn middle(mut pairs: Vec<[Figure; 2]>) -> [Figure; 2] {
    let times = |[one, two]: &[Figure; 2]| two.cpu_us_per_unit / one.cpu_us_per_unit;
    pairs.sort_by(|one, other| times(one).total_cmp(&times(other)));
    let ratios: Vec<f64> = pairs.iter().map(times).collect();
    let (count, half) = (ratios.len(), ratios.len() / 2);
    let share = "busiest_worker_percent";
    let busiest = pairs.iter().map(|[_, two]| two.get(share)).sum::<f64>() / count as f64;
    let [one, two] = pairs.swap_remove(half);
    let two = two.with(share, busiest).with("times_one_worker", (ratios[half] + ratios[(count - 1) / 2]) / 2.0);
    [one, two.with("times_least", ratios[1]).with("times_most", ratios[count - 2])]
}

/// When each lane's request was sent.
struct Times {
    sent: Vec<u64>,
    histogram: Histogram<u64>,
}

impl Sink for Times {
    fn text(&mut self, _: usize, _: &[u8], _: u64) -> bool {
        true
    }
    fn response(&mut self, lane: usize, now: u64) {
        self.histogram.saturating_record(now.saturating_sub(self.sent[lane]) / 1_000);
    }
}

/// So many connections, shared by all workers. Nobody waits for another's answer: while one is late, the others are sent.
const PROBES: usize = 64;
const PROBE_EVERY: Duration = Duration::from_millis(10);

/// Publishes to a channel of nobody, a hundred a second, until told to stop. Gives how long the answers took, and how late we were ourselves:
/// so late a machine without a free core may make us be with the answer, too.
fn probe(mut server: Server, stop: &AtomicBool) -> io::Result<[Latency; 2]> {
    let mut swarm = server.swarm()?;
    swarm.open_lanes(PROBES)?;
    let mut times = Times { sent: vec![0; PROBES], histogram: microseconds() };
    let (mut turn, mut due, mut late) = (0, Instant::now(), microseconds());
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= due {
            late.saturating_record((now - due).as_micros() as u64);
            due += PROBE_EVERY;
            // All busy: more than half a second late each, and that is in the figures already.
            if let Some(lane) = (0..PROBES).map(|n| (turn + n) % PROBES).find(|lane| !swarm.lanes[*lane].busy) {
                let request = server.app.request("POST", "/events", "", &app::event("other", "x"));
                times.sent[lane] = swarm.now();
                swarm.lanes[lane].send(&request);
                turn = lane + 1;
            }
        }
        swarm.poll(due.saturating_duration_since(Instant::now()), &mut times)?;
    }
    // Those that are late count most.
    let deadline = Instant::now() + PATIENCE / 6;
    while swarm.lanes.iter().any(|lane| lane.busy) {
        swarm.poll(Duration::from_millis(50), &mut times)?;
        if Instant::now() > deadline {
            return Err(wrong("a publish beside the load is not answered"));
        }
    }
    Ok([Latency::of(&times.histogram), Latency::of(&late)])
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
    let mut swarm = server.swarm()?;
    subscribe_all(&mut swarm, server, load.subscribers, |_| ("bench-0".to_owned(), None))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (told, other) = (Arc::clone(&stop), server.also());
    let prober = std::thread::spawn(move || probe(other, &told));
    let figure = publishes::publish(server, &load, &mut swarm);
    stop.store(true, Ordering::Relaxed);
    let [latency, late] = prober.join().map_err(|_| wrong("the probe panicked"))??;
    let figure = figure?.with("other_http_p50_ms", latency.p50).with("other_http_p99_ms", latency.p99);
    Ok(figure.with("other_http_max_ms", latency.max).with("other_http_late_p99_ms", late.p99))
}
