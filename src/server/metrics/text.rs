//! The two forms of a page: OpenMetrics for who asks for it, as Prometheus does, and the older text for everybody else.

use std::fmt::Write;

/// OpenMetrics, as the encoder writes it.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The text format before it.
pub(super) const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether somebody who accepts this reads OpenMetrics.
pub(super) fn reads_open_metrics(accept: &str) -> bool {
    let refused = |parameter: &str| parameter.trim().strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
    accept.split(',').any(|range| {
        let mut parts = range.split(';');
        parts.next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/openmetrics-text")) && !parts.any(refused)
    })
}

/// The page in the older form: there a family is named as its samples are, and only comments that it knows have a meaning.
pub(super) fn plain(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    let (mut help, mut samples_of) = (None, String::new());
    for line in page.lines() {
        // Writing to a string cannot fail.
        let _ = match line.strip_prefix("# ").and_then(|comment| comment.split_once(' ')) {
            Some(("HELP", text)) => {
                help = text.split_once(' ').map(|(_, text)| text);
                Ok(())
            }
            Some(("TYPE", text)) => {
                let (name, kind) = text.split_once(' ').unwrap_or((text, "untyped"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    // What has no type in OpenMetrics are counters by older names: see `Page::old_counter`.
                    "unknown" => ("", "counter"),
                    kind => ("", kind),
                };
                samples_of.clear();
                let _ = write!(samples_of, "{name}{suffix}");
                writeln!(out, "# HELP {samples_of} {}\n# TYPE {samples_of} {kind}", help.take().unwrap_or_default())
            }
            _ if line.starts_with('#') => Ok(()),
            _ => writeln!(out, "{line}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_open_metrics_says_so() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5";
        assert!(reads_open_metrics(prometheus));
        for other in ["", "*/*", "text/plain", "text/html,application/xhtml+xml", "application/openmetrics-text;q=0"] {
            assert!(!reads_open_metrics(other), "{other}");
        }
    }

    #[test]
    fn the_older_form_names_families_as_their_samples() {
        let page = "# HELP a Of a.\n# TYPE a counter\na_total{x=\"# TYPE\"} 1\n# HELP b B b.\n# TYPE b unknown\nb 2\n\
                    # HELP c C.\n# TYPE c info\nc_info{v=\"1\"} 1\n# HELP d D.\n# TYPE d histogram\nd_sum 1.0\n# EOF\n";
        let expected = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"# TYPE\"} 1\n# HELP b B b.\n# TYPE b counter\nb 2\n\
                        # HELP c_info C.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n# HELP d D.\n# TYPE d histogram\nd_sum 1.0\n";
        assert_eq!(plain(page), expected);
    }
}
