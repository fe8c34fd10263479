//! Figures: printed as lines, written as JSON.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e3 }
    }
}

/// What must be zero.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
}

/// What one run of one scenario against one server gave.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figure {
    pub(crate) scenario: String,
    pub(crate) server: String,
    /// What was counted: delivery, request, connection.
    pub(crate) unit: &'static str,
    pub(crate) units: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_us_per_unit: f64,
    /// CPU of the server and of the generator, in cores.
    pub(crate) server_cores: f64,
    pub(crate) own_cores: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<Latency>,
    pub(crate) faults: Faults,
    pub(crate) rss_mib: f64,
    /// Figures that only this scenario has; the unit is in the name.
    pub(crate) more: BTreeMap<&'static str, f64>,
}

impl Figure {
    pub(crate) fn per_second(&self) -> f64 {
        self.units as f64 / self.seconds.max(1e-9)
    }

    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.more.insert(name, value);
        self
    }

    /// `name` of `more`, or not a number.
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.more.get(name).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.latency_ms.map_or(f64::NAN, |latency| latency.p99)
    }

    pub(crate) fn print(&self) {
        let (scenario, server, unit) = (&self.scenario, &self.server, self.unit);
        println!(
            "{scenario:<14} {server:<15} {:>9.0} {unit}/s, {:>8.2} µs of CPU each ({:.2} cores, generator {:.2}), {:.1} MiB",
            self.per_second(),
            self.cpu_us_per_unit,
            self.server_cores,
            self.own_cores,
            self.rss_mib,
        );
        if let Some(Latency { p50, p90, p99, p999, max }) = self.latency_ms {
            println!("{:31}latency ms: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, p99.9 {p999:.2}, most {max:.2}", "");
        }
        if self.faults != Faults::default() {
            let Faults { lost, duplicated, reordered } = self.faults;
            println!("{:31}WRONG: lost {lost}, duplicated {duplicated}, reordered {reordered}", "");
        }
        if !self.more.is_empty() {
            let more: Vec<String> = self.more.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
            println!("{:31}{}", "", more.join(", "));
        }
    }
}

/// Prints what a figure is to its floor.
pub(crate) fn ratio(floor: &Figure, figure: &Figure) {
    let ratio = figure.cpu_us_per_unit / floor.cpu_us_per_unit;
    let tail = figure.p99() / floor.p99();
    print!("{:31}= {ratio:.2} × {}", "", floor.server);
    println!("{}", if tail.is_finite() { format!("; p99 {tail:.2} ×") } else { String::new() });
}
