//! What a page says that is printed, and what is printed.

/// Whether `printed` is what `expected` says. A line of `…` is any number of lines, `…` within a line any text; runs of spaces and tabs
/// are one space.
pub(crate) fn matches(expected: &str, printed: &str) -> Result<(), String> {
    let [wanted, found] = [expected, printed].map(|text| {
        let lines = text.lines().map(|line| without_colours(line).split_whitespace().collect::<Vec<_>>().join(" "));
        let mut lines: Vec<String> = lines.collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    });
    if lines_match(&wanted, &found) {
        return Ok(());
    }
    Err(format!("this is said to be printed:\n{expected}and this is:\n{printed}"))
}

fn lines_match(wanted: &[String], found: &[String]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return found.is_empty() };
    if first == "…" {
        return (0..=found.len()).any(|skipped| lines_match(rest, &found[skipped..]));
    }
    found.split_first().is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others))
}

fn line_matches(wanted: &str, found: &str) -> bool {
    let mut parts = wanted.split('…');
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Without the sequences that colour a terminal.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}
