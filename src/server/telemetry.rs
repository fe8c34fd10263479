//! The log: pretty on a terminal, one JSON object a line otherwise, always on standard error.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Stderr, Write, stderr},
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{self, MakeWriter},
};

use super::{ServerError, otlp};
use crate::config::{LogFormat, LogSettings, OtlpSettings};

/// What the libraries below say is of use to their developers only: an account of the workers, an error for every peer that sends bad
/// bytes, every statement, and an error for every connection that a database which is away does not take, which the broker says itself.
const QUIET: [&str; 4] = ["actix_server=warn", "actix_http=off", "sqlx=off", "sqlx_core=off"];

/// Starts the log of the process, and its spans for a collector if there is one. A second call changes nothing: the first subscriber stays.
///
/// # Errors
/// [`ServerError::LogFilter`] when the level is no filter; [`ServerError::Otlp`] when spans cannot be sent.
pub(super) fn start(settings: &LogSettings, otlp: &OtlpSettings) -> Result<otlp::Traces, ServerError> {
    let bad_filter = |source| ServerError::LogFilter { filter: settings.level.clone(), source };
    let mut filter = EnvFilter::try_new(&settings.level).map_err(bad_filter)?;
    // A plain level is about the broker; whoever writes directives gets what they say.
    if !settings.level.contains(['=', ',']) {
        for directive in QUIET {
            filter = filter.add_directive(directive.parse().map_err(bad_filter)?);
        }
    }
    let json = match settings.format {
        LogFormat::Auto => !stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let started = if json {
        let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false).with_writer(stderr);
        otlp::subscribe(lines, filter, otlp)
    } else {
        let lines = fmt::layer().with_target(false).with_ansi(stderr().is_terminal()).with_writer(OneLine);
        otlp::subscribe(lines, filter, otlp)
    };
    let (traces, started) = started.map_err(|error| ServerError::Otlp { reason: error.to_string() })?;
    if !started {
        tracing::debug!("A log was there already");
    }
    Ok(traces)
}

/// Standard error, on which every entry of the log is one line. Some of what is logged was written by strangers, who could otherwise
/// write lines that look like ours. (JSON has no line ends in its texts, and the library itself escapes what commands a terminal.)
struct OneLine;

struct Entry(Stderr);

impl MakeWriter<'_> for OneLine {
    type Writer = Entry;

    fn make_writer(&self) -> Entry {
        Entry(stderr())
    }
}

impl Write for Entry {
    /// Takes all of it: an entry is written at once.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.write_all(&in_one_line(entry))?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn in_one_line(entry: &[u8]) -> Cow<'_, [u8]> {
    let text = entry.strip_suffix(b"\n").unwrap_or(entry);
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(entry);
    }
    let mut line = Vec::with_capacity(entry.len() + 8);
    for byte in text {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            other => line.push(*other),
        }
    }
    line.push(b'\n');
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        for (entry, line) in
            [("INFO ready\n", "INFO ready\n"), ("a\nb\r\nc\n", "a\\nb\\r\\nc\n"), ("é\n\n", "é\\n\n"), ("", ""), ("\n", "\n")]
        {
            assert_eq!(in_one_line(entry.as_bytes()), line.as_bytes());
        }
    }
}
