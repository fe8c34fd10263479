//! What commands that list things print: aligned tables for people, one JSON object a line for programs.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use super::{error::CliError, event::printable};
use crate::lifecycle::store::Timestamp;

/// Whether somebody still reads what we print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// More is wanted.
    There,
    /// Whoever read us has enough: `events list | head`.
    Gone,
}

/// Prints text, and sees to it that it arrives now.
pub(super) fn print(text: &str) -> Result<Reader, CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(CliError::Output(error)),
    }
}

/// One JSON object as one line.
pub(super) fn json_line(value: &impl Serialize) -> Result<String, CliError> {
    let line = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
    Ok(line + "\n")
}

/// Prints rows as JSON lines, or as a table.
pub(super) fn list<T: Serialize>(rows: &[T], json: bool, table: impl FnOnce(&[T]) -> Table) -> Result<(), CliError> {
    let text = if json { rows.iter().map(json_line).collect::<Result<String, _>>()? } else { table(rows).to_string() };
    print(&text).map(drop)
}

/// Columns as wide as their widest cell.
#[derive(Debug)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    pub(super) fn new(heads: &[&str]) -> Self {
        Self(vec![heads.iter().map(|head| (*head).to_owned()).collect()])
    }

    /// Adds a row; an empty cell is shown as `-`.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell) }).collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// How long ago, by the clock of this machine; a moment that is still to come is now.
pub(super) fn age(at: Timestamp) -> String {
    span(Timestamp::now().0.saturating_sub(at.0))
}

/// How long until then.
pub(super) fn left(until: Timestamp) -> String {
    span(until.0.saturating_sub(Timestamp::now().0))
}

/// So long, in the largest unit that fits.
pub(super) fn span(ms: i64) -> String {
    let seconds = Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The text of something that may be missing.
pub(super) fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_moves_the_cursor() {
        let mut table = Table::new(&["FENCE", "RESOURCE", "AGE"]);
        table.row(["1".to_owned(), "order:42".to_owned(), "3m".to_owned()]);
        table.row(["1000000".to_owned(), "ü\x1b[2J".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "FENCE    RESOURCE    AGE\n1        order:42    3m\n1000000  ü\\u{1b}[2J  -\n");
    }

    #[test]
    fn ages_are_short() {
        for (ms, expected) in [
            (-5, "0s"),
            (999, "0s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (3_599_999, "59m"),
            (7_200_000, "2h"),
            (86_400_000, "1d"),
            (i64::MAX, "106751991167d"),
        ] {
            assert_eq!(span(ms), expected);
        }
    }
}
