//! One line a check.

use std::{env, error::Error, io::IsTerminal};

use serde::Serialize;

use crate::cli::event::printable;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// A broker runs, but somebody should know.
    Warn,
    /// A broker does not start, or not work.
    Fail,
}

impl Verdict {
    /// The word, and the colour of it.
    fn shown(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "\x1b[32m"),
            Self::Warn => ("warn", "\x1b[33m"),
            Self::Fail => ("FAIL", "\x1b[1;31m"),
        }
    }
}

/// What one check found, and what to do.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    name: &'static str,
    verdict: Verdict,
    text: String,
}

/// All of them, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Check>);

impl Report {
    pub(super) fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Ok, text);
    }

    pub(super) fn warn(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Warn, text);
    }

    pub(super) fn fail(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Fail, text);
    }

    pub(super) fn add(&mut self, name: &'static str, verdict: Verdict, text: impl Into<String>) {
        // Parts of it may come from elsewhere: it stays one line, and moves no cursor.
        self.0.push(Check { name, verdict, text: printable(&text.into()) });
    }

    pub(super) fn checks(&self) -> impl Iterator<Item = &Check> {
        self.0.iter()
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|check| check.verdict == verdict).count()
    }

    /// A line each, and one for all of them.
    pub(super) fn text(&self, colours: bool) -> String {
        let width = self.0.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Check { name, verdict, text: line } in &self.0 {
            let (word, colour) = verdict.shown();
            let word = if colours { format!("{colour}{word:4}\x1b[0m") } else { format!("{word:4}") };
            text.push_str(&format!("{word}  {name:width$}  {line}\n"));
        }
        let (checks, warned, failed) = (self.0.len(), self.count(Verdict::Warn), self.count(Verdict::Fail));
        text.push_str(&match (failed, warned) {
            (0, 0) => format!("{checks} checks, all ok\n"),
            (0, _) => format!("{checks} checks, {warned} to look at\n"),
            _ => format!("{checks} checks, {failed} FAILED, {warned} to look at\n"),
        });
        text
    }
}

/// Whether somebody sees colours, and wants to.
pub(super) fn on_terminal() -> bool {
    std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// An error and its causes in one text.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_check_and_colours_only_for_terminals() {
        let mut report = Report::default();
        report.ok("config", "fine");
        report.fail("port", "taken\nby \x1b[2Jsomebody");
        assert_eq!(
            report.text(false),
            "ok    config  fine\nFAIL  port    taken\\nby \\u{1b}[2Jsomebody\n2 checks, 1 FAILED, 0 to look at\n"
        );
        assert!(report.text(true).starts_with("\x1b[32mok  \x1b[0m  config  fine\n"));
    }
}
