//! When a row is kept, missed or void, and what is published of it.

use std::{fs, path::Path};

use super::{
    plot,
    report::{Faults, Figure, Latency},
    row::{Row, Verdict},
    text::{BEGIN, END, Report, between, line, page, readme},
};

fn figure(cpu: f64) -> Figure {
    Figure { cpu_us_per_unit: cpu, faults: Some(Faults::default()), ..Figure::default() }
}

/// A row that must be at most 4 µs and twice the floor, which was 2 µs when that was written.
fn row(floor: f64, value: f64) -> Row {
    Row::of("work", "≤ 4 µs, ≤ 2 × floor", &[figure(floor), figure(value)], [2.0, 12.0]).at_most(4.0).times(2.0)
}

fn report(rows: Vec<Row>) -> Report {
    Report { machine: "a machine".to_owned(), command: "the command".to_owned(), rows, figures: serde_json::Value::Null }
}

#[test]
fn a_row_is_kept_when_every_check_is() {
    assert_eq!(row(2.0, 4.0).verdict(), Verdict::Ok);
    assert_eq!(row(2.0, 4.01).verdict(), Verdict::Missed, "too much and too many times");
    assert_eq!(row(1.9, 3.9).verdict(), Verdict::Missed, "little enough, but too many times the floor");
    assert_eq!(row(2.5, 4.5).verdict(), Verdict::Missed, "few enough times, but too much");
    assert_eq!(row(2.0, 3.0).check("ms", 5.0, 4.0).verdict(), Verdict::Missed);
    assert_eq!(row(2.0, 3.0).check("s until it ends", f64::INFINITY, 4.0).verdict(), Verdict::Missed, "what never came is not kept");
    assert_eq!(row(2.0, f64::NAN).verdict(), Verdict::Missed, "nor is what nobody knows");
}

#[test]
fn a_row_is_void_when_its_floor_is_off_in_either_direction() {
    assert_eq!([row(3.0, 3.9).verdict(), row(3.01, 3.9).verdict()], [Verdict::Ok, Verdict::Void]);
    assert_eq!([row(1.34, 2.0).verdict(), row(1.33, 2.0).verdict()], [Verdict::Ok, Verdict::Void]);
    assert_eq!(row(9.0, 1_000.0).verdict(), Verdict::Void, "also when it looks missed");
    assert_eq!(row(f64::NAN, 3.0).verdict(), Verdict::Void, "a floor that is not known is no floor");
    assert_eq!(Row { noisy: true, ..row(2.0, 3.0) }.verdict(), Verdict::Void);
    assert_eq!(Row::plain("no floor", "", &figure(1.0)).verdict(), Verdict::Ok);
}

#[test]
fn no_noise_excuses_a_message_that_is_lost() {
    let lost = Faults { lost: 1, ..Faults::default() };
    assert_eq!(Row { faults: lost, ..row(9.0, 3.0) }.verdict(), Verdict::Missed);
    assert!(line(&Row { faults: lost, ..row(2.0, 3.0) }).contains("**lost 1, duplicated 0, reordered 0**"));
    assert_eq!(Row::failed("work", "no server".to_owned()).verdict(), Verdict::Failed);
}

#[test]
fn of_two_runs_the_quieter_one_counts_and_the_faults_of_both() {
    let loud = Figure { faults: Some(Faults { lost: 2, ..Faults::default() }), ..figure(5.0) };
    let better = loud.clone().better(figure(3.0));
    assert_eq!((better.cpu_us_per_unit, better.faults.unwrap().lost), (3.0, 2));
    let better = figure(3.0).better(loud);
    assert_eq!((better.cpu_us_per_unit, better.faults.unwrap().lost), (3.0, 2));
}

#[test]
fn a_figure_prints_its_ratio_its_faults_and_what_is_not_known() {
    let latency_ms = Some(Latency { p99: 6.0, ..Latency::default() });
    let floor = Figure { latency_ms, ..figure(2.0) };
    let latency_ms = Some(Latency { p99: 9.0, ..Latency::default() });
    let text = Figure { latency_ms, ..figure(3.0) }.beside(&floor).to_string();
    assert!(text.contains("= 1.50 × the floor; p99 1.50 ×") && text.contains("lost 0, duplicated 0, reordered 0"), "{text}");
    let text = figure(f64::NAN).to_string();
    assert!(text.contains("? µs of CPU each"), "{text}");
    let text = Figure { faults: Some(Faults { reordered: 3, ..Faults::default() }), ..figure(1.0) }.to_string();
    assert!(text.contains("WRONG: lost 0, duplicated 0, reordered 3"), "{text}");
}

#[test]
fn the_table_says_what_was_missed_and_readme_leaves_out_what_says_nothing() {
    let rows = vec![
        row(2.0, 3.0).brief("kept"),
        row(2.0, 5.0).brief("missed"),
        row(9.0, 5.0).brief("void"),
        row(2.0, 3.0),
        Row::failed("broken", "no server | at all".to_owned()).brief("broken"),
    ];
    let report = report(rows);
    let page = page(&report);
    assert_eq!(page.lines().filter(|line| line.starts_with("| work |")).count(), 5, "{page}");
    assert!(page.contains("| ok |") && page.contains("**missed**") && page.contains("| void |"), "{page}");
    assert!(page.contains("| broken |") && page.contains("no server   at all | **failed** |"), "{page}");
    let readme = readme(&report);
    let told: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).skip(1).collect();
    assert_eq!(told, ["kept", "missed"], "{readme}");
    assert!(readme.contains("| kept | 3.00 µs | 2.00 µs | 12.0 µs |"), "{readme}");
}

#[test]
fn only_what_stands_between_the_marks_is_replaced() {
    let text = format!("before\n{BEGIN}old\n{END}after\n");
    let once = between(&text, "new").unwrap();
    assert_eq!(once, format!("before\n{BEGIN}\nnew\n{END}after\n"));
    assert_eq!(between(&once, "new").unwrap(), once);
    assert_eq!((between("no marks", "new"), between(BEGIN, "new")), (None, None));
}

#[test]
fn bars_are_as_long_as_what_they_show() {
    let idle = Row { unit: "KiB".to_owned(), value: Some(17.5), peer: Some(175.0), ..Row::plain("idle", "", &figure(1.0)) };
    let svg = plot::draw(&report(vec![row(2.0, 3.0).brief("a <b> & c"), idle]));
    let widths = |class: &str| -> Vec<f64> {
        let bars = svg.lines().filter(|line| line.starts_with(&format!("<rect class=\"{class}\"")));
        // The first is the legend's.
        bars.skip(1).map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()).collect()
    };
    let (ours, peers) = (widths("ours"), widths("peer"));
    // 1.5 times our floor, 6 times theirs; then a tenth of their memory.
    assert!((peers[0] / ours[0] - 4.0_f64).abs() < 0.01 && (peers[1] / ours[1] - 10.0_f64).abs() < 0.05, "{ours:?} {peers:?}");
    assert!(svg.contains("a &lt;b> &amp; c") && svg.contains("1.50 ×") && svg.contains("17.5 KiB"), "{svg}");
    assert!(!svg.contains("NaN"), "{svg}");
    let void = plot::draw(&report(vec![row(9.0, 3.0).brief("void")]));
    assert!(!void.contains("void"), "{void}");
}

/// Whoever mends a figure by hand has not measured it.
#[test]
fn what_is_published_is_what_was_measured() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let page_text = read("src/docs/performance.md");
    let Ok(json) = fs::read_to_string(root.join("src/docs/performance.json")) else {
        assert!(page_text.contains("Not measured yet."), "the page has figures, and there is no performance.json that they are from");
        return;
    };
    let report: Report = serde_json::from_str(&json).unwrap();
    for (path, text, new) in [("src/docs/performance.md", page_text, page(&report)), ("README.md", read("README.md"), readme(&report))] {
        let again = between(&text, &new).unwrap_or_else(|| panic!("{path} has no place for the figures"));
        assert!(again == text, "{path} is not what `cargo bench --bench load -- publish-figures` writes");
    }
    assert!(read("src/docs/performance.svg") == plot::draw(&report), "the plot is not that of performance.json");
}
