//! The plot: CPU time as a multiple of the floor's, and memory, each beside the strongest peer. It brings its own background, so that it
//! can be read on a light page and on a dark one.

use std::fmt::Write;

use super::{
    row::{Row, Verdict},
    text::{Report, short},
};

const WIDTH: f64 = 960.0;
/// Where bars begin and where the longest one ends; numbers stand behind the bars.
const LEFT: f64 = 372.0;
const RIGHT: f64 = 800.0;
const BAR: f64 = 13.0;
const ROW: f64 = 42.0;

/// Two bars and what is written behind them.
struct Pair<'a> {
    label: &'a str,
    bars: [Option<(f64, String)>; 2],
}

pub(crate) fn draw(Report { rows, machine, .. }: &Report) -> String {
    let times = |ratio: f64, value: Option<f64>| (ratio, format!("{ratio:.2} ×  ({} µs)", short(value.unwrap_or(f64::NAN))));
    // What was missed is shown; what the machine did not let be measured says nothing.
    let told = || rows.iter().filter(|row| matches!(row.verdict(), Verdict::Ok | Verdict::Missed));
    let cpu = told().filter_map(|row| {
        let ours = times(row.to_floor()?, row.value);
        Some(Pair { label: label(row), bars: [Some(ours), row.peer_to_floor().map(|ratio| times(ratio, row.peer))] })
    });
    let amount = |unit: &str, value: Option<f64>| value.map(|value| (value, format!("{} {unit}", short(value))));
    let memory = told().filter(|row| row.unit == "KiB" && row.value.is_some());
    let memory = memory.map(|row| Pair { label: label(row), bars: [amount("KiB", row.value), amount("KiB", row.peer)] });

    let mut body = String::new();
    let mut y = 24.0;
    text(&mut body, 24.0, y, "start", "title", "CPU time of the server per unit of work, as a multiple of the floor");
    y += 20.0;
    text(
        &mut body,
        24.0,
        y,
        "start",
        "small",
        "Floor: a bare loop that makes the same system calls for the same sockets, measured in the same run.",
    );
    y += 26.0;
    for (x, class, name) in [(LEFT, "ours", "Holdline"), (LEFT + 90.0, "peer", "strongest peer on this kind of machine, to its floor")] {
        rect(&mut body, class, x, y - 10.0, BAR);
        text(&mut body, x + 17.0, y, "start", "small", name);
    }
    y += 14.0;
    y = panel(&mut body, y, &cpu.collect::<Vec<_>>(), Some("floor"));
    let memory: Vec<_> = memory.collect();
    if !memory.is_empty() {
        y += 30.0;
        text(&mut body, 24.0, y, "start", "title", "Resident memory of the server per connection");
        y = panel(&mut body, y + 14.0, &memory, None);
    }
    y += 24.0;
    text(&mut body, 24.0, y, "start", "small", machine);
    let height = y + 16.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<style>
.page {{ fill: #ffffff; stroke: #d0d7de }} text {{ fill: #1f2328; font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif }}
.title {{ font-size: 15px; font-weight: 600 }} .small {{ font-size: 12px; fill: #59636e }} .ours {{ fill: #1a7f5a }} .peer {{ fill: #b8bec6 }}
.line {{ stroke: #59636e; stroke-dasharray: 4 3 }} .axis {{ stroke: #d0d7de }}
@media (prefers-color-scheme: dark) {{
.page {{ fill: #0d1117; stroke: #30363d }} text {{ fill: #e6edf3 }} .small {{ fill: #9198a1 }} .ours {{ fill: #3fb98a }} .peer {{ fill: #565e68 }}
.line {{ stroke: #9198a1 }} .axis {{ stroke: #30363d }}
}}
</style>
<rect class="page" x="0.5" y="0.5" width="{:.1}" height="{:.1}" rx="8"/>
{body}</svg>
"##,
        WIDTH - 1.0,
        height - 1.0,
    )
}

/// The whole sentence has no room there.
fn label(row: &Row) -> &str {
    row.brief.as_ref().unwrap_or(&row.work)
}

/// Gives where it ends. `floor`: there is a line at 1, of this name.
fn panel(body: &mut String, top: f64, pairs: &[Pair<'_>], floor: Option<&str>) -> f64 {
    let most = pairs.iter().flat_map(|pair| pair.bars.iter().flatten()).fold(1.0_f64, |most, bar| most.max(bar.0));
    let scale = (RIGHT - LEFT) / most;
    let bottom = top + ROW * pairs.len() as f64;
    let _ = writeln!(body, r#"<line class="axis" x1="{LEFT}" y1="{top}" x2="{LEFT}" y2="{bottom}"/>"#);
    for (n, pair) in pairs.iter().enumerate() {
        let y = top + ROW * n as f64 + 6.0;
        text(body, LEFT - 10.0, y + BAR + 6.0, "end", "label", pair.label);
        for (class, bar, y) in [("ours", &pair.bars[0], y), ("peer", &pair.bars[1], y + BAR + 3.0)] {
            let Some((value, label)) = bar else { continue };
            rect(body, class, LEFT, y, value * scale);
            text(body, (LEFT + value * scale).max(floor.map_or(0.0, |_| LEFT + scale)) + 6.0, y + BAR - 2.5, "start", "small", label);
        }
    }
    if let Some(name) = floor {
        let x = LEFT + scale;
        let _ = writeln!(body, r#"<line class="line" x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{:.1}"/>"#, bottom + 4.0);
        text(body, x, bottom + 18.0, "middle", "small", &format!("1 × = {name}"));
        return bottom + 18.0;
    }
    bottom
}

fn rect(body: &mut String, class: &str, x: f64, y: f64, width: f64) {
    let _ = writeln!(body, r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{:.1}" height="{BAR}"/>"#, width.max(1.0));
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}
