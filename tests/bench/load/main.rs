//! The load bench: the real broker, real sockets, and a bare loop beside it that shows what the kernel alone costs.
//!
//! `cargo bench --bench load` runs every scenario, short. `cargo bench --bench load -- fanout --subscribers 1000 --in-flight 32 --pin` runs
//! one. `cargo bench --bench load -- table --pin` measures every row of `src/docs/performance.md`. `--help` lists the rest; `--url` points it
//! at another server.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so and stops")]

mod app;
mod floor;
mod frames;
mod lane;
mod options;
mod plot;
mod proc;
mod report;
mod rows;
mod scenario;
mod server;
mod swarm;
mod table;
mod tally;

use std::io;

use clap::Parser;

use crate::{
    options::Options,
    report::{Figure, ratio},
    scenario::{client_events, connects, holds, idle, presence, publishes, stuck, workers},
    server::{Floor, Server, Setup},
};

/// What the data of each event of ours begins with.
const MARK: &str = "@@";

const SCENARIOS: [&str; 14] = [
    "idle",
    "connect",
    "churn",
    "fanout",
    "publish",
    "batch",
    "presence",
    "client-events",
    "stuck",
    "holds",
    "mass",
    "workers",
    "handler",
    "slow-http",
];

/// Runs scenarios and keeps their figures.
struct Bench {
    options: Options,
    figures: Vec<Figure>,
}

impl Bench {
    fn keep(&mut self, figure: Figure) -> Figure {
        figure.print();
        self.figures.push(figure.clone());
        figure
    }

    /// One scenario on Holdline, or on the server of `--url`.
    fn measure(&mut self, setup: Setup, run: impl FnOnce(&mut Server, &Options) -> io::Result<Figure>) -> io::Result<Figure> {
        let mut server = Server::start(&self.options, setup);
        let figure = run(&mut server, &self.options)?;
        Ok(self.keep(figure))
    }

    /// The same on the floor first.
    fn compare(&mut self, floor: Floor, run: impl Fn(&mut Server, &Options) -> io::Result<Figure>) -> io::Result<[Figure; 2]> {
        let mut bare = Server::floor(&self.options, floor);
        let below = run(&mut bare, &self.options)?;
        let below = self.keep(below);
        drop(bare);
        let figure = self.measure(Setup::plain(), run)?;
        ratio(&below, &figure);
        Ok([below, figure])
    }

    fn with_floor(&mut self, floor: Floor, run: impl Fn(&mut Server, &Options) -> io::Result<Figure>) -> io::Result<()> {
        if self.options.no_floor { self.measure(Setup::plain(), run).map(drop) } else { self.compare(floor, run).map(drop) }
    }

    fn scenario(&mut self, name: &str) -> io::Result<()> {
        let options = self.options.clone();
        let cycles = options.cycles.unwrap_or(20_000);
        match name {
            "idle" => self.measure(Setup::plain(), idle::run).map(drop),
            "connect" => self.with_floor(Floor::Write, |s, o| connects::run(s, o, connects::Cycle::Connect, cycles)),
            "churn" => self.with_floor(Floor::Write, |s, o| connects::run(s, o, connects::Cycle::Churn, cycles)),
            "fanout" => {
                let load = publishes::Load::fanout(&options);
                let floor = if load.in_flight > 1 && load.rate.is_none() { Floor::Coalesce } else { Floor::Write };
                self.with_floor(floor, |server, _| publishes::run(server, &load))
            }
            "publish" => self.with_floor(Floor::Write, |s, o| publishes::run(s, &publishes::Load::nobody(o))),
            "batch" => self.with_floor(Floor::Coalesce, |s, o| publishes::run(s, &publishes::Load::batch(o))),
            "presence" => self.with_floor(Floor::Write, presence::run),
            "client-events" => self.with_floor(Floor::Write, client_events::run),
            "stuck" => {
                let mut server = Server::start(&options, Setup::plain());
                stuck::run(&mut server, &options)?.into_iter().for_each(|figure| drop(self.keep(figure)));
                Ok(())
            }
            "holds" | "mass" => {
                let mut server = Server::start(&options, Setup { holds: true, ..Setup::plain() });
                let figures = holds::run(&mut server, &options)?;
                figures.into_iter().filter(|figure| figure.scenario == name).for_each(|figure| drop(self.keep(figure)));
                Ok(())
            }
            "workers" => self.workers().map(drop),
            "handler" => self.handler(cycles).map(drop),
            "slow-http" => self.measure(Setup { workers: 2, ..Setup::plain() }, workers::slow_http).map(drop),
            "table" => table::run(self),
            other => panic!("no scenario is called {other}; there are: {SCENARIOS:?}, and table"),
        }
    }

    /// One worker, then two.
    fn workers(&mut self) -> io::Result<[Figure; 2]> {
        let one = self.measure(Setup::plain(), workers::split)?;
        let two = self.measure(Setup { workers: 2, ..Setup::plain() }, workers::split)?;
        ratio(&one, &two);
        Ok([one, two])
    }

    /// Plain channels without a rule and with one that matches none of them, in turn, so that a drift of the machine is in both. Gives the
    /// CPU time of a cycle without and with.
    fn handler(&mut self, cycles: usize) -> io::Result<[f64; 2]> {
        let mut sums = [0.0; 2];
        for holds in [false, true, true, false, false, true, true, false] {
            let mut server = Server::start(&self.options, Setup { holds, ..Setup::plain() });
            server.name = if holds { "holdline, rule" } else { "holdline" }.to_owned();
            let mut figure = connects::run(&mut server, &self.options, connects::Cycle::Plain, cycles)?;
            figure.scenario = "handler".to_owned();
            sums[usize::from(holds)] += self.keep(figure).cpu_us_per_unit / 4.0;
        }
        println!("{:31}= {:.3} × without", "", sums[1] / sums[0]);
        Ok(sums)
    }
}

fn main() -> io::Result<()> {
    let mut options = Options::parse();
    if let Some(mode) = &options.floor_server {
        floor::serve(mode, options.port);
    }
    rlimit::increase_nofile_limit(u64::MAX)?;
    options.cores = proc::cores();
    if options.pin && options.cores.len() < 2 {
        eprintln!("there is one core only: nothing is bound");
        options.pin = false;
    }
    let wanted: Vec<String> = if options.scenarios.is_empty() { SCENARIOS.map(str::to_owned).to_vec() } else { options.scenarios.clone() };
    let json = options.json.clone();
    let mut bench = Bench { options, figures: Vec::new() };
    wanted.iter().try_for_each(|name| bench.scenario(name))?;
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&bench.figures)?)?;
    }
    Ok(())
}
