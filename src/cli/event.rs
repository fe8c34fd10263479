//! One event as one line.

use std::io::{self, Write};

use serde::Serialize;

/// An event as `listen` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    pub(super) channel: Option<String>,
    pub(super) event: String,
    /// The text the publisher gave.
    pub(super) data: String,
    /// Who sent it, on a presence channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_id: Option<String>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `CHANNEL EVENT DATA`, separated by tabs, control characters escaped.
    Tabs,
    /// One JSON object.
    Json,
}

impl Event {
    /// Writes the line, and sees to it that it arrives now.
    pub(super) fn write(&self, format: Format, out: &mut impl Write) -> io::Result<()> {
        match format {
            Format::Json => serde_json::to_writer(&mut *out, self)?,
            Format::Tabs => {
                let channel = self.channel.as_deref().unwrap_or("-");
                write!(out, "{}\t{}\t{}", printable(channel), printable(&self.event), printable(&self.data))?;
            }
        }
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// Without line breaks, tabs and whatever else moves a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &Event, format: Format) -> String {
        let mut out = Vec::new();
        event.write(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_in_either_form() {
        let mut event =
            Event { channel: Some("news".to_owned()), event: "e".to_owned(), data: "{\"a\":\n\"ü\x1b[2J\"}".to_owned(), user_id: None };
        assert_eq!(line(&event, Format::Tabs), "news\te\t{\"a\":\\n\"ü\\u{1b}[2J\"}\n");
        assert_eq!(line(&event, Format::Json), "{\"channel\":\"news\",\"event\":\"e\",\"data\":\"{\\\"a\\\":\\n\\\"ü\\u001b[2J\\\"}\"}\n");
        event.user_id = Some("42".to_owned());
        assert!(line(&event, Format::Json).ends_with(",\"user_id\":\"42\"}\n"));
        event.channel = None;
        assert!(line(&event, Format::Tabs).starts_with("-\te\t"));
    }
}
