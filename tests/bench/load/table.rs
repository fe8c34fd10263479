//! `table`: every row, one after the other, with its verdict; as Markdown, JSON and a plot.

use std::{fs, io, path::Path, time::Instant};

use serde::Serialize;

use crate::{
    Bench, plot,
    report::{Faults, Figure},
    rows::{ROWS, Row},
};

/// The page, and what stands around the table there.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/performance.md");
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/performance.svg");
const BEGIN: &str = "<!-- table: written by the bench -->\n";
const END: &str = "<!-- end of the table -->";

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a str,
    rows: &'a [Row],
    figures: &'a [Figure],
}

pub(crate) fn run(bench: &mut Bench) -> io::Result<()> {
    let began = Instant::now();
    let mut rows: Vec<Row> = Vec::new();
    for row in ROWS {
        let done = row(bench)?;
        done.iter().for_each(|row| println!(">> {}", line(row)));
        rows.extend(done);
    }
    let machine = machine();
    let table = markdown(&rows, &machine);
    println!("\n{table}\nin {:.0} s", began.elapsed().as_secs_f64());
    fs::create_dir_all(&bench.options.out)?;
    let report = Report { machine: &machine, rows: &rows, figures: &bench.figures };
    fs::write(bench.options.out.join("performance.json"), serde_json::to_string_pretty(&report)?)?;
    fs::write(bench.options.out.join("performance.md"), &table)?;
    let plot = plot::draw(&rows);
    fs::write(bench.options.out.join("performance.svg"), &plot)?;
    if bench.options.publish {
        publish(Path::new(PAGE), &table)?;
        fs::write(PLOT, plot)?;
    }
    Ok(())
}

fn publish(page: &Path, table: &str) -> io::Result<()> {
    let text = fs::read_to_string(page)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| io::Error::other("the page has no place for the table"))?;
    fs::write(page, format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn markdown(rows: &[Row], machine: &str) -> String {
    let mut text = format!("{machine}\n\n| work | must | floor | Holdline | measured | verdict |\n|---|---|---:|---:|---|---|\n");
    rows.iter().for_each(|row| text += &(line(row) + "\n"));
    text
}

fn line(row: &Row) -> String {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{} µs", short(value)));
    let mut measured: Vec<String> = row.checks.iter().map(|check| format!("{} {}", short(check.value), check.what)).collect();
    let Faults { lost, duplicated, reordered } = row.faults;
    if row.faults != Faults::default() {
        measured.push(format!("**lost {lost}, duplicated {duplicated}, reordered {reordered}**"));
    }
    let (work, must, measured) = (row.work, row.must, measured.join("; "));
    format!("| {work} | {must} | {} | {} | {measured} | {} |", number(row.floor), number(row.value), row.verdict())
}

fn short(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_start_matches(['\t', ' ', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from).max(cpu.matches("processor\t").count());
    format!("{cores} cores ({}), Linux {}", if model.is_empty() { "unknown" } else { model }, kernel.trim())
}
