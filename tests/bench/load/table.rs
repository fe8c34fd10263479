//! `table`: every row, one after the other, with its verdict, as JSON; `publish` makes the page, the plot and README's table of that JSON.

use std::{fs, io, path::Path, time::Instant};

use crate::{
    Bench, explained, plot,
    row::{Row, Verdict},
    rows::ROWS,
    scenario::wrong,
    text::{self, Report},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/performance.md");
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/performance.svg");
const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/performance.json");
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

pub(crate) fn run(bench: &mut Bench) -> io::Result<()> {
    let wanted = bench.options.row.clone();
    if let Some(name) = wanted.iter().find(|name| ROWS.iter().all(|row| row.0 != **name)) {
        return Err(wrong(format!("no row is called {name}; there are {}", ROWS.map(|row| row.0).join(", "))));
    }
    if bench.options.publish && !wanted.is_empty() {
        return Err(wrong("a part of the table is not published"));
    }
    let began = Instant::now();
    let mut rows: Vec<Row> = Vec::new();
    for (name, run) in ROWS.into_iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| row.0 == name)) {
        let mut done = once(bench, name, run);
        for _ in 0..bench.options.again {
            if done.iter().all(|row| row.verdict() != Verdict::Void) {
                break;
            }
            println!(">> {name} is void: the floor is not what it was when the limits were set. Again:");
            done = once(bench, name, run);
        }
        done.iter().for_each(|row| println!(">> {}", text::line(row)));
        rows.extend(done);
    }
    let figures = serde_json::to_value(&bench.figures)?;
    let report = Report { machine: machine(), command: command(), rows, figures };
    println!("\n{}\nin {:.0} s", text::page(&report), began.elapsed().as_secs_f64());
    fs::write(&bench.options.out, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("written to {}", bench.options.out.display());
    if bench.options.publish { publish(&bench.options.out) } else { Ok(()) }
}

/// A row that cannot be measured does not take the others with it.
fn once(bench: &mut Bench, name: &str, run: fn(&mut Bench) -> io::Result<Vec<Row>>) -> Vec<Row> {
    run(bench).unwrap_or_else(|error| vec![Row::failed(name, explained(&error))])
}

/// Puts the figures of a file where they are read.
pub(crate) fn publish(file: &Path) -> io::Result<()> {
    let json = fs::read_to_string(file).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    let report: Report = serde_json::from_str(&json)?;
    for (path, new) in [(PAGE, text::page(&report)), (README, text::readme(&report))] {
        let old = fs::read_to_string(path)?;
        fs::write(path, text::between(&old, &new).ok_or_else(|| wrong(format!("{path} has no place for the figures")))?)?;
    }
    fs::write(PLOT, plot::draw(&report))?;
    fs::write(JSON, json)
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_start_matches(['\t', ' ', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The number of the release is enough: the rest is the builder's.
    let kernel = kernel.trim().split('-').next().unwrap_or("");
    let cores = cpu.matches("processor\t").count().max(1);
    let cores = if cores == 1 { "one core".to_owned() } else { format!("{cores} cores") };
    format!("a machine of {cores} ({}), Linux {kernel}", if model.is_empty() { "unknown" } else { model })
}

/// Without what cargo adds, and without what only says where things are.
fn command() -> String {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    while let Some(at) = arguments.iter().position(|argument| ["--out", "--bin", "--json"].contains(&&**argument)) {
        arguments.drain(at..(at + 2).min(arguments.len()));
    }
    format!("cargo bench --bench load -- {}", arguments.join(" "))
}
