//! The table as Markdown: all of it for the page, a few rows for README.

use serde::{Deserialize, Serialize};

use super::row::{Row, Verdict};

/// What `table` writes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) command: String,
    pub(crate) rows: Vec<Row>,
    /// Of all runs, also of those that were void.
    pub(crate) figures: serde_json::Value,
}

pub(crate) const BEGIN: &str = "<!-- figures: written by the load bench -->\n";
pub(crate) const END: &str = "<!-- end of the figures -->\n";

/// `text` with something else between the marks.
pub(crate) fn between(text: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{new}\n{END}{after}"))
}

pub(crate) fn page(Report { machine, command, rows, .. }: &Report) -> String {
    let head =
        "| work | must | floor | Holdline | × floor | strongest peer | measured | verdict |\n|---|---|---:|---:|---:|---:|---|---|\n";
    let rows: String = rows.iter().map(|row| line(row) + "\n").collect();
    let plot = "![CPU time per unit as a multiple of the floor, beside the strongest peer; the numbers are in the table](performance.svg)";
    format!("{plot}\n\n`{command}` on {machine}:\n\n{head}{rows}")
}

pub(crate) fn readme(Report { machine, rows, .. }: &Report) -> String {
    let mut text = "| CPU time, or memory, of the server | Holdline | Floor | Strongest peer |\n|---|---:|---:|---:|\n".to_owned();
    for row in rows {
        // What was missed stays in sight; what the machine did not let be measured says nothing.
        let told = matches!(row.verdict(), Verdict::Ok | Verdict::Missed);
        let Some(brief) = row.brief.as_ref().filter(|_| told) else { continue };
        let (value, floor, peer) = (number(row, row.value), number(row, row.floor), number(row, row.peer));
        text += &format!("| {brief} | {value} | {floor} | {peer} |\n");
    }
    format!("{text}\nOn one core of {machine}.\n")
}

pub(crate) fn line(row: &Row) -> String {
    let (work, must) = (&row.work, &row.must);
    let (floor, value, peer) = (number(row, row.floor), number(row, row.value), number(row, row.peer));
    let ratio = row.to_floor().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    format!("| {work} | {must} | {floor} | {value} | {ratio} | {peer} | {} | {} |", measured(row), verdict(row))
}

fn measured(row: &Row) -> String {
    if let Some(error) = &row.error {
        return error.replace(['\n', '|'], " ");
    }
    let mut parts = Vec::new();
    if row.faults != Default::default() {
        parts.push(format!("**{}**", row.faults));
    }
    parts.extend(row.checks.iter().map(|check| match check.value {
        // The columns before say it.
        Some(_) if check.what == "× floor" || check.what == row.unit => String::new(),
        Some(value) if value <= check.limit => format!("{} {}", short(value), check.what),
        Some(value) => format!("**{} {}**", short(value), check.what),
        None => format!("**never {}**", check.what),
    }));
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

fn verdict(row: &Row) -> &'static str {
    match row.verdict() {
        Verdict::Ok => "ok",
        Verdict::Missed => "**missed**",
        Verdict::Void => "void",
        Verdict::Failed => "**failed**",
    }
}

fn number(row: &Row, value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{} {}", short(value), row.unit))
}

pub(crate) fn short(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}
