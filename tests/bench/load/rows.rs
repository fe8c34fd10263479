//! The rows of `src/docs/performance.md`: what is measured, what it must be, and what the floor was when the rows were set.

use std::io;

use serde::Serialize;

use crate::{
    Bench,
    report::{Faults, Figure},
    scenario::{client_events, connects, idle, presence, publishes, stuck, workers},
    server::{Floor, Server, Setup},
};

/// One thing that must not be exceeded.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) limit: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) must: &'static str,
    /// CPU time of a unit, in µs, where that is what counts.
    pub(crate) floor: Option<f64>,
    pub(crate) value: Option<f64>,
    /// What the strongest other server took on the machine that the rows were set on.
    pub(crate) peer: Option<f64>,
    /// The floor on that machine.
    pub(crate) floor_then: Option<f64>,
    pub(crate) checks: Vec<Check>,
    pub(crate) faults: Faults,
    /// The floor shows that the machine was busy, in another way than by its CPU time.
    pub(crate) noisy: bool,
}

impl Row {
    fn of(work: &'static str, must: &'static str, [floor, figure]: &[Figure; 2], then: [f64; 2]) -> Self {
        Self {
            work,
            must,
            floor: Some(floor.cpu_us_per_unit),
            value: Some(figure.cpu_us_per_unit),
            floor_then: Some(then[0]),
            peer: Some(then[1]),
            checks: Vec::new(),
            faults: figure.faults.clone(),
            noisy: false,
        }
    }

    fn plain(work: &'static str, must: &'static str, figure: &Figure) -> Self {
        Self { work, must, faults: figure.faults.clone(), ..Self::default() }
    }

    fn check(mut self, what: impl Into<String>, value: f64, limit: f64) -> Self {
        self.checks.push(Check { what: what.into(), value, limit });
        self
    }

    /// CPU time of a unit against a number.
    fn at_most(self, limit: f64) -> Self {
        let value = self.value.unwrap_or(f64::NAN);
        self.check("µs", value, limit)
    }

    /// CPU time of a unit against the floor.
    fn times(self, limit: f64) -> Self {
        let ratio = self.value.unwrap_or(f64::NAN) / self.floor.unwrap_or(f64::NAN);
        self.check("× floor", ratio, limit)
    }

    /// `void` on a machine that is too noisy to tell.
    pub(crate) fn verdict(&self) -> &'static str {
        let void = self.noisy || self.floor.zip(self.floor_then).is_some_and(|(now, then)| now > 1.5 * then);
        let kept = self.checks.iter().all(|check| check.value <= check.limit) && self.faults == Faults::default();
        match (void, kept) {
            (true, _) => "void",
            (false, true) => "ok",
            (false, false) => "missed",
        }
    }
}

type Run = fn(&mut Bench) -> io::Result<Vec<Row>>;

/// In the order of the page.
pub(crate) const ROWS: [Run; 13] =
    [burst, single, paced, large, channels, nobody, batch, connect, churn, idle_row, presence_row, client_row, rest];

fn fanout(bench: &Bench, subscribers: usize, in_flight: usize, rate: Option<f64>, seconds: f64) -> publishes::Load {
    publishes::Load { subscribers, in_flight, rate, seconds, channels: 1, ..publishes::Load::fanout(&bench.options) }
}

fn burst(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = publishes::Load { per_request: false, ..fanout(bench, 1_000, 32, None, 4.0) };
    let both = bench.compare(Floor::Coalesce, |server, _| publishes::run(server, &load))?;
    let row = Row::of("1,000 subscribers, 32 publishes in flight, per delivery", "≤ 0.7 µs, ≤ 1.4 × floor", &both, [0.46, 6.0]);
    Ok(vec![row.at_most(0.7).times(1.4)])
}

fn single(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = fanout(bench, 1_000, 1, None, 4.0);
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    Ok(vec![Row::of("the same, one in flight", "≤ 1.15 × floor", &both, [3.4, 5.9]).times(1.15)])
}

fn paced(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = fanout(bench, 1_000, 8, Some(50.0), 6.0);
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    let tail = both[1].p99() / both[0].p99();
    let row = Row::of("the same, 50 publishes/s", "≤ 1.15 × floor, p99 ≤ 1.5 ×", &both, [3.9, 6.9]);
    // The floor's p99 was 6 ms. One that cannot keep the pace coalesces, and is no floor any more.
    let noisy = both[0].p99() > 1.5 * 6.0;
    Ok(vec![Row { noisy, ..row.times(1.15).check("× p99 of the floor", tail, 1.5) }])
}

fn large(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = fanout(bench, 10_000, 1, None, 5.0);
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    let options = crate::options::Options { subscribers: Some(10_000), in_flight: Some(1), seconds: Some(5.0), ..bench.options.clone() };
    let slow = bench.measure(Setup { workers: 2, ..Setup::plain() }, |server, _| workers::slow_http(server, &options))?;
    let row =
        Row::of("10,000 subscribers, one in flight", "≤ 1.25 × floor; HTTP p99 elsewhere < 10 ms with two workers", &both, [5.0, 11.7]);
    Ok(vec![row.times(1.25).check("ms HTTP p99", slow.get("other_http_p99_ms"), 10.0)])
}

fn channels(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = publishes::Load { channels: 1_000, per_request: true, ..fanout(bench, 1_000, 32, None, 4.0) };
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    Ok(vec![Row::of("1,000 channels of one subscriber, per publish", "≤ 20 µs", &both, [9.4, 41.0]).at_most(20.0)])
}

fn nobody(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = publishes::Load { seconds: 4.0, in_flight: 32, ..publishes::Load::nobody(&bench.options) };
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    Ok(vec![Row::of("publish without subscriber, per request", "≤ 14 µs", &both, [5.4, 34.0]).at_most(14.0)])
}

fn batch(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = publishes::Load { seconds: 4.0, in_flight: 32, ..publishes::Load::batch(&bench.options) };
    let both = bench.compare(Floor::Coalesce, |server, _| publishes::run(server, &load))?;
    Ok(vec![Row::of("batch of 10 to one subscriber, per request", "≤ 40 µs", &both, [10.0, 113.0]).at_most(40.0)])
}

fn connect(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let both = bench.compare(Floor::Write, |server, options| connects::run(server, options, connects::Cycle::Connect, 20_000))?;
    Ok(vec![Row::of("connect until established", "≤ 70 µs", &both, [16.0, 111.0]).at_most(70.0)])
}

fn churn(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let mut bare = Server::floor(&bench.options, Floor::Write);
    let floor = connects::run(&mut bare, &bench.options, connects::Cycle::Churn, 20_000)?;
    let floor = bench.keep(floor);
    drop(bare);
    let cycles = bench.options.cycles.unwrap_or(200_000);
    let figure = bench.measure(Setup::plain(), |server, options| connects::run(server, options, connects::Cycle::Churn, cycles))?;
    let (growth, gone) = (figure.get("rss_growth_kib"), figure.get("tcp_gone_max_ms"));
    let row =
        Row::of("connect, private subscribe, close: per cycle", "≤ 60 µs; memory flat; TCP gone < 50 ms", &[floor, figure], [30.0, 63.0]);
    // Flat: less than ten bytes a cycle, which is the allocator's breath and not a leak.
    Ok(vec![row.at_most(60.0).check("KiB grown", growth, cycles as f64 / 100.0).check("ms TCP gone at most", gone, 50.0)])
}

fn idle_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let options = crate::options::Options { subscribers: Some(10_000), seconds: Some(10.0), ..bench.options.clone() };
    let figure = bench.measure(Setup::plain(), |server, _| idle::run(server, &options))?;
    let memory =
        Row::plain("10,000 idle connections, one private subscription each", "≤ 18 KiB each; ≤ 1.2 × the start after they leave", &figure);
    let memory = memory.check("KiB each", figure.get("rss_kib_each"), 18.0).check("× start after", figure.get("after_to_start"), 1.2);
    let cpu = Row::plain("idle CPU with 10,000 connections", "≤ 1 % of a core", &figure).check("%", figure.get("idle_cpu_percent"), 1.0);
    Ok(vec![memory, cpu])
}

fn presence_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let sized = |count| crate::options::Options { subscribers: Some(count), seconds: Some(3.0), ..bench.options.clone() };
    let (whole, quarter, paced) = (sized(200), sized(50), crate::options::Options { in_flight: Some(8), ..sized(200) });
    let both = bench.compare(Floor::Write, |server, _| presence::run(server, &whole))?;
    let small = bench.measure(Setup::plain(), |server, _| presence::run(server, &quarter))?;
    let growth = both[1].cpu_us_per_unit / small.cpu_us_per_unit;
    let few = bench.measure(Setup::plain(), |server, _| presence::run(server, &paced))?;
    let row =
        Row::of("presence, 200 join and leave a channel of 200, per notification", "≤ 3 µs; grows with the frames owed", &both, [3.6, 5.7]);
    Ok(vec![row.at_most(3.0).check("µs, eight at a time", few.cpu_us_per_unit, 3.0).check("× the cost at 50", growth, 1.25)])
}

fn client_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let both = bench.compare(Floor::Write, client_events::run)?;
    Ok(vec![Row::of("client events on private channels, per delivery", "≤ 6.5 µs", &both, [4.5, 8.0]).at_most(6.5)])
}

fn rest(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let [one, two] = bench.workers()?;
    let ratio = two.cpu_us_per_unit / one.cpu_us_per_unit;
    let split = Row::plain("two workers against one, per delivery", "≤ 1.15 ×, load split 40 to 60 %", &two);
    let split = split.check("× one worker", ratio, 1.15).check("% on the busier", two.get("busiest_worker_percent"), 60.0);

    let mut server = Server::start(&bench.options, Setup::plain());
    let figures = stuck::run(&mut server, &crate::options::Options { seconds: None, ..bench.options.clone() })?;
    drop(server);
    let figures: Vec<_> = figures.into_iter().map(|figure| bench.keep(figure)).collect();
    let beside = &figures[1];
    let stuck = Row::plain("a stuck reader beside 999 live ones", "ended at once; < 2 MiB held; socket gone ≤ 20 s; p99 ≤ 1.2 ×", beside);
    let stuck = stuck
        .check("ms until it was ended", beside.get("ended_after_ms"), 100.0)
        .check("KiB held", beside.get("held_kib"), 2048.0)
        .check("s until the socket was gone", beside.get("socket_gone_after_s"), 20.5)
        .check("× p99 of the others", beside.get("p99_of_others_ratio"), 1.2);

    let [without, with] = bench.handler(20_000)?;
    let unused = Row { work: "a rule for other channels, per connect and subscribe", must: "≤ 1.02 ×", ..Row::default() };
    Ok(vec![split, stuck, unused.check("× without", with / without, 1.02)])
}
