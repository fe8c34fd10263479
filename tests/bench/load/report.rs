//! Figures: printed as lines, written as JSON.

use std::{collections::BTreeMap, fmt, ops::AddAssign};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

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
    /// Of microseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e3 }
    }
}

/// What must be zero.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, more: Self) {
        self.lost += more.lost;
        self.duplicated += more.duplicated;
        self.reordered += more.reordered;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "lost {}, duplicated {}, reordered {}", self.lost, self.duplicated, self.reordered)
    }
}

/// What one run of one scenario against one server gave. Not a number: nobody knows (a server whose process is not known has no CPU time).
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figure {
    pub(crate) scenario: String,
    pub(crate) server: String,
    /// What was counted: delivery, request, connection.
    pub(crate) unit: &'static str,
    pub(crate) units: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// User and system time of the whole process tree.
    pub(crate) cpu_us_per_unit: f64,
    /// CPU of the server and of the generator, in cores.
    pub(crate) server_cores: f64,
    pub(crate) own_cores: f64,
    pub(crate) latency_ms: Option<Latency>,
    /// Where every single message is accounted for.
    pub(crate) faults: Option<Faults>,
    pub(crate) connections: usize,
    pub(crate) rss_mib: f64,
    /// What it grew by since the server was ready, of each connection.
    pub(crate) rss_kib_per_connection: f64,
    /// CPU time and p99 as multiples of those of the floor in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to_floor: Option<[f64; 2]>,
    /// Figures that only this scenario has; the unit is in the name.
    pub(crate) more: BTreeMap<&'static str, f64>,
}

impl Figure {
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

    /// Beside the floor of the same run.
    pub(crate) fn beside(self, floor: &Self) -> Self {
        let ratios = [self.cpu_us_per_unit / floor.cpu_us_per_unit, self.p99() / floor.p99()];
        Self { to_floor: Some(ratios), ..self }
    }

    /// Of two runs the one that was disturbed less; what must be zero must be so in both.
    pub(crate) fn better(self, other: Self) -> Self {
        let faults = self.faults.zip(other.faults).map(|(mut one, two)| {
            one += two;
            one
        });
        let better = if other.cpu_us_per_unit < self.cpu_us_per_unit { other } else { self };
        Self { faults, ..better }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scenario, server, unit) = (&self.scenario, &self.server, self.unit);
        let (cpu, cores) = (known(self.cpu_us_per_unit), known(self.server_cores));
        write!(to, "{scenario:<14} {server:<15} {:>9.0} {unit}/s, ", self.per_second)?;
        write!(to, "{cpu:>8} µs of CPU each ({cores} cores; generator {:.2})", self.own_cores)?;
        let indent = "";
        if self.rss_mib > 0.0 {
            write!(to, "\n{indent:31}{:.1} MiB", self.rss_mib)?;
            // Of a few it would say what the requests left behind.
            if self.connections >= 100 {
                let (each, count) = (self.rss_kib_per_connection, self.connections);
                write!(to, ", {each:.2} KiB more for each of {count} connections")?;
            }
        }
        if let Some(Latency { p50, p90, p99, p999, max }) = self.latency_ms {
            write!(to, "\n{indent:31}latency ms: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, p99.9 {p999:.2}, most {max:.2}")?;
        }
        if !self.more.is_empty() {
            let more: Vec<String> = self.more.iter().map(|(name, value)| format!("{name} {}", known(*value))).collect();
            write!(to, "\n{indent:31}{}", more.join(", "))?;
        }
        if let Some(faults) = self.faults {
            let wrong = if faults == Faults::default() { "" } else { "WRONG: " };
            write!(to, "\n{indent:31}{wrong}{faults}")?;
        }
        if let Some([cpu, p99]) = self.to_floor {
            write!(to, "\n{indent:31}= {} × the floor", known(cpu))?;
            if p99.is_finite() {
                write!(to, "; p99 {p99:.2} ×")?;
            }
            // The floor leaves it nothing to wait for; a broker that waits for the generator is not measured under load.
            if self.own_cores > self.server_cores {
                write!(to, "\n{indent:31}(the generator worked more than the server)")?;
            }
        }
        Ok(())
    }
}

fn known(value: f64) -> String {
    if value.is_nan() { "?".to_owned() } else { format!("{value:.2}") }
}
