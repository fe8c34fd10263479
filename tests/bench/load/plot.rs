//! The plot: for each row CPU time as a share of what is allowed, the floor and the strongest other server beside it. Legible on white and
//! on black.

use std::fmt::Write;

use crate::rows::Row;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 400.0;
const STEP: f64 = 34.0;
const TOP: f64 = 46.0;
/// Longer bars are cut and labelled.
const MOST: f64 = 2.5;

pub(crate) fn draw(rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.value.is_some()).collect();
    let height = TOP + STEP * rows.len() as f64 + 16.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12">
<style>
text {{ fill: #24292f }} .floor {{ fill: #8c959f }} .ours {{ fill: #1f6feb }} .peer {{ fill: #d4a72c }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .floor {{ fill: #6e7681 }} }}
</style>
<text x="{LEFT}" y="16">CPU time of the server per unit, as a multiple of the floor of the same run</text>
<rect class="floor" x="{LEFT}" y="24" width="10" height="10"/><text x="{}" y="33">floor</text>
<rect class="ours" x="{}" y="24" width="10" height="10"/><text x="{}" y="33">Holdline</text>
<rect class="peer" x="{}" y="24" width="10" height="10"/><text x="{}" y="33">strongest peer, to its own floor</text>
"##,
        LEFT + 14.0,
        LEFT + 60.0,
        LEFT + 74.0,
        LEFT + 140.0,
        LEFT + 154.0,
    );
    let ratios = |row: &Row| (row.value.zip(row.floor).map(|(v, f)| v / f), row.peer.zip(row.floor_then).map(|(v, f)| v / f));
    // Logarithmic: the peer is an order of magnitude away in places.
    let x = |ratio: f64| LEFT + 8.0 + (WIDTH - LEFT - 70.0) * (ratio.max(0.05).ln() / (10.0_f64 * MOST / 1.5).ln()).clamp(0.0, 1.0);
    for (n, row) in rows.iter().enumerate() {
        let y = TOP + STEP * n as f64;
        let (ours, peer) = ratios(row);
        let _ = writeln!(svg, r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#, LEFT - 6.0, y + 15.0, escape(row.work));
        let _ = writeln!(svg, r#"<rect class="floor" x="{LEFT}" y="{y}" width="8" height="22"/>"#);
        for (class, ratio, dy) in [("ours", ours, 0.0), ("peer", peer, 12.0)] {
            let Some(ratio) = ratio else { continue };
            let (from, to) = (LEFT + 8.0, x(ratio));
            let _ = writeln!(svg, r#"<rect class="{class}" x="{from}" y="{}" width="{:.1}" height="10"/>"#, y + dy, (to - from).max(1.0));
            let _ = writeln!(svg, r#"<text x="{:.1}" y="{}" font-size="10">{ratio:.2} ×</text>"#, to + 4.0, y + dy + 9.0);
        }
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
