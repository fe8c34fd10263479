//! The rows of `src/docs/performance.md`: how each is measured, what it must be, and what floor and strongest peer were when the rows were
//! set.

use std::io;

use crate::{
    Bench,
    options::Options,
    report::Figure,
    row::Row,
    scenario::{client_events, connects, idle, presence, publishes, stuck, workers},
    server::{Floor, Server, Setup},
};

type Run = fn(&mut Bench) -> io::Result<Vec<Row>>;

/// In the order of the page.
pub(crate) const ROWS: [(&str, Run); 15] = [
    ("burst", burst),
    ("single", single),
    ("paced", paced),
    ("large", large),
    ("channels", channels),
    ("nobody", nobody),
    ("batch", batch),
    ("connect", connect),
    ("churn", churn),
    ("idle", idle_row),
    ("presence", presence_row),
    ("client-events", client_row),
    ("workers", workers_row),
    ("stuck", stuck_row),
    ("handler", handler_row),
];

/// Cycles of churn: enough that ten bytes lost in each would show.
const CHURN: usize = 200_000;
/// A whole `ping_interval`, and a bit: idle connections are asked once in it whether they live.
const PINGED: f64 = 27.0;
/// Members who join or leave at a time, where the crowd's size is what is compared.
const WAVE: usize = 50;

fn fanout(bench: &Bench, subscribers: usize, in_flight: usize, rate: Option<f64>, seconds: f64) -> publishes::Load {
    let seconds = bench.options.seconds.unwrap_or(seconds);
    publishes::Load { subscribers, in_flight, rate, seconds, channels: 1, per_request: false, ..publishes::Load::fanout(&bench.options) }
}

/// The options of a scenario; `--seconds` is stronger.
fn options(bench: &Bench, subscribers: usize, seconds: f64) -> Options {
    Options { subscribers: Some(subscribers), seconds: bench.options.seconds.or(Some(seconds)), in_flight: None, ..bench.options.clone() }
}

fn burst(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = fanout(bench, 1_000, 32, None, 4.0);
    let both = bench.compare(Floor::Coalesce, |server, _| publishes::run(server, &load))?;
    let row = Row::of("1,000 subscribers, 32 publishes in flight, per delivery", "≤ 0.7 µs, ≤ 1.4 × floor", &both, [0.46, 6.0]);
    Ok(vec![row.brief("delivery to 1,000, 32 publishes in flight").at_most(0.7).times(1.4)])
}

fn single(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = fanout(bench, 1_000, 1, None, 4.0);
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    let row = Row::of("the same, one in flight", "≤ 1.15 × floor", &both, [3.4, 5.9]);
    Ok(vec![row.brief("delivery to 1,000, one publish in flight").times(1.15)])
}

fn paced(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = fanout(bench, 1_000, 8, Some(50.0), 8.0);
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    let tail = both[1].p99() / both[0].p99();
    let row = Row::of("the same, 50 publishes/s (open loop)", "≤ 1.15 × floor, p99 ≤ 1.5 ×", &both, [3.9, 6.9]);
    // The floor's p99 was 6 ms. One that cannot keep the pace coalesces, and is no floor any more.
    let noisy = both[0].p99() > 1.5 * 6.0;
    let row = Row { noisy, ..row.brief("delivery to 1,000, 50 publishes a second") };
    Ok(vec![row.times(1.15).check("× p99 of the floor", tail, 1.5)])
}

fn large(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = fanout(bench, 10_000, 1, None, 5.0);
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    let options = options(bench, 10_000, 5.0);
    let slow = bench.measure(Setup::workers(2), |server, _| workers::slow_http(server, &options))?;
    let must = "≤ 1.25 × floor; HTTP p99 on other channels < 10 ms with two workers";
    let row = Row::of("10,000 subscribers, one in flight, per delivery", must, &both, [5.0, 11.7]);
    // Who asks was himself not let in time.
    let row = Row { noisy: slow.get("other_http_late_p99_ms") > 5.0, ..row.brief("delivery to 10,000, one publish in flight") };
    Ok(vec![row.times(1.25).check("ms HTTP p99", slow.get("other_http_p99_ms"), 10.0)])
}

fn channels(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = publishes::Load { channels: 1_000, per_request: true, ..fanout(bench, 1_000, 32, None, 4.0) };
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    let row = Row::of("1,000 channels of one subscriber, per publish, delivery included", "≤ 20 µs", &both, [9.4, 41.0]);
    Ok(vec![row.brief("publish to one of 1,000 channels, delivered").at_most(20.0)])
}

fn nobody(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = publishes::Load { seconds: bench.options.seconds.unwrap_or(4.0), in_flight: 32, ..publishes::Load::nobody(&bench.options) };
    let both = bench.compare(Floor::Write, |server, _| publishes::run(server, &load))?;
    let row = Row::of("publish without subscriber, keep-alive, per request", "≤ 14 µs", &both, [5.4, 34.0]);
    Ok(vec![row.brief("publish without subscriber").at_most(14.0)])
}

fn batch(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let load = publishes::Load { seconds: bench.options.seconds.unwrap_or(4.0), in_flight: 32, ..publishes::Load::batch(&bench.options) };
    let load = publishes::Load { subscribers: 1, ..load };
    let both = bench.compare(Floor::Coalesce, |server, _| publishes::run(server, &load))?;
    Ok(vec![
        Row::of("batch of 10 to one subscriber, per request", "≤ 40 µs", &both, [10.0, 113.0])
            .brief("batch of 10, delivered")
            .at_most(40.0),
    ])
}

fn connect(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let cycles = bench.options.cycles.unwrap_or(20_000);
    let both = bench.compare(Floor::Write, |server, options| connects::run(server, options, connects::Cycle::Connect, cycles))?;
    Ok(vec![Row::of("connect until established", "≤ 70 µs", &both, [16.0, 111.0]).brief("connect until established").at_most(70.0)])
}

fn churn(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let cycles = bench.options.cycles.unwrap_or(CHURN);
    let short = cycles.min(20_000);
    let floor = connects::run(&mut Server::floor(&bench.options, Floor::Write)?, &bench.options, connects::Cycle::Churn, short)?;
    let floor = bench.keep(floor);
    let figure = connects::run(&mut Server::start(&bench.options, Setup::plain())?, &bench.options, connects::Cycle::Churn, cycles)?;
    let figure = bench.keep(figure.beside(&floor));
    let (growth, gone) = (figure.get("rss_growth_kib"), figure.get("tcp_gone_max_ms"));
    // Who was not looked at for so long by the machine cannot be blamed.
    let noisy = floor.get("tcp_gone_max_ms") > 25.0;
    let row = Row::of(
        &format!("connect, private subscribe, close handshake, per cycle ({cycles} cycles)"),
        "≤ 60 µs; memory flat; TCP gone < 50 ms after the close frames",
        &[floor, figure],
        [30.0, 63.0],
    );
    let row = Row { noisy, ..row.brief("connect, subscribe, close").at_most(60.0) };
    // Flat: a leak of ten bytes a cycle is too much; a mebibyte is the allocator's breath.
    Ok(vec![row.check("KiB grown", growth, 1024.0 + cycles as f64 / 100.0).check("ms TCP gone at most", gone, 50.0)])
}

fn idle_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let options = options(bench, 10_000, PINGED);
    let figure = bench.measure(Setup::plain(), |server, _| idle::run(server, &options))?;
    let each = figure.rss_kib_per_connection;
    let must = "≤ 18 KiB each; back within 20 % of the start after they leave";
    let memory = Row::plain("10,000 idle connections, one private subscription each", must, &figure);
    let memory = Row { unit: "KiB".to_owned(), value: Some(each), peer: Some(175.0), ..memory.brief("memory of an idle connection") };
    let memory = memory.check("KiB", each, 18.0).check("× the start afterwards", figure.get("after_to_start"), 1.2);
    let cpu = Row::plain("idle CPU with 10,000 connections", "≤ 1 % of a core", &figure).check("%", figure.get("idle_cpu_percent"), 1.0);
    Ok(vec![memory, cpu])
}

fn presence_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let whole = options(bench, 200, 3.0);
    let both = bench.compare(Floor::Write, |server, _| presence::run(server, &whole))?;
    // The same number at a time whatever the crowd: what differs is only how many are told.
    let mut sized = |count| {
        let options = Options { in_flight: Some(WAVE), ..options(bench, count, 2.0) };
        bench.measure(Setup::plain(), |server, _| presence::run(server, &options))
    };
    let (small, middle, big) = (sized(50)?, sized(200)?, sized(800)?);
    let growth = big.cpu_us_per_unit.max(middle.cpu_us_per_unit) / small.cpu_us_per_unit;
    let must = "≤ 3 µs; work grows with the frames owed";
    let row = Row::of("presence, 200 join and leave a channel of 200, per notification", must, &both, [3.6, 1.8]);
    Ok(vec![row.brief("presence notification, 200 join 200").at_most(3.0).check("× the cost at 50, with up to 800", growth, 1.1)])
}

fn client_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let options = options(bench, 1_000, 3.0);
    let both = bench.compare(Floor::Write, |server, _| client_events::run(server, &options))?;
    let row = Row::of("client events on private channels, per delivery", "≤ 6.5 µs", &both, [4.5, 8.0]);
    Ok(vec![row.brief("client event, delivered").at_most(6.5)])
}

fn workers_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let in_flight = |in_flight| Options { rate: None, in_flight: Some(in_flight), ..options(bench, 1_000, 1.5) };
    let (single, burst) = (in_flight(1), in_flight(32));
    let [[_, single], [_, burst]] = [bench.workers(&single)?, bench.workers(&burst)?];
    let row = Row::plain("two workers on two cores against one, per delivery", "≤ 1.15 ×, load split 40 to 60 %", &single);
    // Pairs that are so far apart say nothing.
    let noisy = |two: &Figure| two.get("times_most") > 1.25 * two.get("times_least");
    let row = Row { noisy: noisy(&single) || noisy(&burst), ..row };
    let row = row.check("× one worker, one publish in flight", single.get("times_one_worker"), 1.15);
    let row = row.check("× with 32 in flight", burst.get("times_one_worker"), 1.15);
    let busiest = single.get("busiest_worker_percent").max(burst.get("busiest_worker_percent"));
    Ok(vec![row.check("% on the busier", busiest, 60.0)])
}

fn stuck_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let options = Options { rate: None, ..options(bench, 1_000, 8.0) };
    // Its own lengths are what the row needs.
    let options = Options { seconds: bench.options.seconds, ..options };
    let figures = stuck::run(&mut Server::start(&bench.options, Setup::plain())?, &options)?;
    let [before, with, after]: [Figure; 3] = figures.map(|figure| bench.keep(figure));
    let must = "ended at once when its outbox fills; < 2 MiB held; socket gone ≤ 20 s; p99 of the others ≤ 1.2 ×";
    let row = Row::plain("a stuck reader beside 999 live ones", must, &with);
    // If the two without it are not alike, nothing can be said of the one with it.
    let noisy = before.p99().max(after.p99()) > 1.2 * before.p99().min(after.p99());
    let row = Row { noisy, ..row };
    Ok(vec![
        row.check("ms until it was ended", with.get("ended_after_ms"), 100.0)
            .check("KiB held", with.get("held_kib"), 2048.0)
            .check("s until the socket was gone", with.get("socket_gone_after_s"), 20.5)
            .check("× p99 of the others", with.get("p99_of_others_ratio"), 1.2),
    ])
}

fn handler_row(bench: &mut Bench) -> io::Result<Vec<Row>> {
    let [_, with] = bench.handler(bench.options.cycles.unwrap_or(40_000))?;
    let row = Row::plain("a rule for other channels only, per connect, public subscribe and close", "≤ 1.02 ×", &with);
    Ok(vec![row.check("× without", with.get("times_without"), 1.02)])
}
