//! The load bench: the real broker, real sockets, and a bare loop beside it that shows what the kernel alone costs.
//!
//! `cargo bench --bench load` runs every scenario, short. `cargo bench --bench load -- fanout --subscribers 1000 --in-flight 32 --pin` runs
//! one. `cargo bench --bench load -- table --pin` measures every row of `src/docs/performance.md`. `--help` lists the rest; `--url` points it
//! at another server.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so and stops")]

mod app;
mod crowd;
mod floor;
mod frames;
mod lane;
mod options;
mod plot;
mod proc;
mod report;
mod row;
mod rows;
mod scenario;
mod server;
mod sink;
mod swarm;
mod table;
mod tally;
mod text;

use std::{io, process::ExitCode};

use clap::Parser;

use crate::{
    options::Options,
    report::Figure,
    scenario::{client_events, connects, handler, holds, idle, presence, publishes, stuck, workers, wrong},
    server::{Floor, Server, Setup},
};

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
    "slow-http",
    "workers",
    "handler",
];
/// These start Holdline in a way of their own, or ask for what only Holdline has.
const OURS: [&str; 5] = ["holds", "mass", "slow-http", "workers", "handler"];

/// Runs scenarios and keeps their figures.
struct Bench {
    options: Options,
    figures: Vec<Figure>,
}

impl Bench {
    fn keep(&mut self, figure: Figure) -> Figure {
        println!("{figure}");
        self.figures.push(figure.clone());
        figure
    }

    /// One scenario on Holdline, or on the server of `--url`.
    fn measure(&mut self, setup: Setup, run: impl FnOnce(&mut Server, &Options) -> io::Result<Figure>) -> io::Result<Figure> {
        let mut server = Server::start(&self.options, setup)?;
        let figure = run(&mut server, &self.options)?;
        Ok(self.keep(figure))
    }

    /// The floor, and Holdline after it. Several times: the lowest of each.
    fn compare(&mut self, floor: Floor, run: impl Fn(&mut Server, &Options) -> io::Result<Figure>) -> io::Result<[Figure; 2]> {
        let mut best: Option<[Figure; 2]> = None;
        for _ in 0..self.options.repeat.max(1) {
            let below = run(&mut Server::floor(&self.options, floor)?, &self.options)?;
            let below = self.keep(below);
            let figure = run(&mut Server::start(&self.options, Setup::plain())?, &self.options)?;
            let figure = self.keep(figure.beside(&below));
            best = Some(match best {
                Some([floor, ours]) => [floor.better(below), ours.better(figure)],
                None => [below, figure],
            });
        }
        best.ok_or_else(|| wrong("nothing was measured"))
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
                let figures = stuck::run(&mut Server::start(&options, Setup::plain())?, &options)?;
                figures.into_iter().for_each(|figure| drop(self.keep(figure)));
                Ok(())
            }
            "holds" | "mass" => {
                let figures = holds::run(&mut Server::start(&options, Setup::holding())?, &options)?;
                figures.into_iter().for_each(|figure| drop(self.keep(figure)));
                Ok(())
            }
            "slow-http" => self.measure(Setup::workers(2), workers::slow_http).map(drop),
            "workers" => self.workers(&options).map(drop),
            "handler" => self.handler(cycles).map(drop),
            "table" => table::run(self),
            "publish-figures" => table::publish(&options.out),
            other => Err(wrong(format!("no scenario is called {other}; there are {}, and table", SCENARIOS.join(", ")))),
        }
    }

    /// One worker and two, on the same cores, in turn.
    fn workers(&mut self, options: &Options) -> io::Result<[Figure; 2]> {
        let mut pairs = Vec::new();
        for pair in 0..workers::PAIRS {
            let mut run = |workers| self.measure(Setup::workers(workers), |server, _| workers::split(server, options));
            let (first, second) = if pair % 2 == 0 { (run(1)?, run(2)?) } else { (run(2)?, run(1)?) };
            pairs.push(if pair % 2 == 0 { [first, second] } else { [second, first] });
        }
        let [one, two] = workers::middle(pairs);
        let times = |name| two.get(name);
        let (least, middle, most) = (times("times_least"), times("times_one_worker"), times("times_most"));
        println!("{:31}= {middle:.3} × one worker's ({least:.2} to {most:.2})", "");
        Ok([one, two])
    }

    /// Plain channels without a rule and with one that matches none of them.
    fn handler(&mut self, cycles: usize) -> io::Result<[Figure; 2]> {
        Ok(handler::run(&self.options, cycles)?.map(|figure| self.keep(figure)))
    }
}

fn run(mut options: Options) -> io::Result<()> {
    proc::raise_file_limit();
    options.cores = proc::cores();
    if options.pin && options.cores.len() < 2 {
        eprintln!("there is one core only: nothing is bound");
        options.pin = false;
    }
    if options.pin && options.server_core == options.generator_core {
        return Err(wrong("--server-core and --generator-core are the same"));
    }
    let ours = |name: &&str| OURS.contains(name) || *name == "table";
    let mut wanted: Vec<String> =
        if options.scenarios.is_empty() { SCENARIOS.map(str::to_owned).to_vec() } else { options.scenarios.clone() };
    if options.url.is_some() {
        if let Some(name) = options.scenarios.iter().map(String::as_str).find(|name| ours(name) && !["holds", "mass"].contains(name)) {
            return Err(wrong(format!("{name} starts Holdline in ways of its own: it cannot be run on the server of --url")));
        }
        wanted.retain(|name| !options.scenarios.is_empty() || !ours(&name.as_str()));
        if options.pid.is_none() {
            eprintln!("without --pid nothing is known of that server's CPU time and memory");
        }
        // Better now than after the floor.
        Server::start(&options, Setup::plain())?;
    }
    // Both are one run.
    if wanted.iter().any(|name| name == "holds") {
        wanted.retain(|name| name != "mass");
    }
    let json = options.json.clone();
    let mut bench = Bench { options, figures: Vec::new() };
    let done = wanted
        .iter()
        .try_for_each(|name| bench.scenario(name).map_err(|error| io::Error::new(error.kind(), format!("{name}: {}", explained(&error)))));
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&bench.figures)?)?;
    }
    done
}

/// What may be the matter, for those who point it at a server of their own.
pub(crate) fn explained(error: &io::Error) -> String {
    let text = error.to_string();
    let hint = if text.contains("refused a request with 401") || text.contains("refused a request with 403") {
        " (are --app-id, --key and --secret those of the server?)"
    } else if text.contains("refused a request with 404") || text.contains("refused a connection") {
        " (is there an app of this --app-id and --key?)"
    } else if text.contains("AuthError") {
        " (is --secret that of the server?)"
    } else if text.contains("lient event") || text.contains("4301") {
        " (are client events on for this app, without a rate limit?)"
    } else {
        ""
    };
    text + hint
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(mode) = &options.floor_server {
        floor::serve(mode, options.port);
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
