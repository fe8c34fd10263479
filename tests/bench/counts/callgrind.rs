//! Reads what callgrind writes.

use std::{fs, io, path::Path};

/// With these, names and positions stand in the file as they are, and system calls are counted, by whatever function they are made.
pub(crate) const OPTIONS: [&str; 4] = ["--tool=callgrind", "--compress-strings=no", "--compress-pos=no", "--collect-systime=yes"];

/// What a Rust program asks its allocator by, whichever that is.
const ALLOCATIONS: [&str; 3] = ["__rust_alloc", "__rust_alloc_zeroed", "__rust_realloc"];
/// Only under callgrind are they system calls.
const CLOCKS: [&str; 3] = ["clock_gettime", "gettimeofday", "time"];

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Profile {
    pub(crate) instructions: f64,
    pub(crate) system_calls: f64,
    pub(crate) allocations: f64,
}

impl Profile {
    /// # Errors
    /// There is no such file, or callgrind has not written it.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("{} is not what callgrind writes", path.display())))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let events: Vec<&str> = text.lines().find_map(|line| line.strip_prefix("events: "))?.split(' ').collect();
        let event = |name| events.iter().position(|event| *event == name);
        let (instructions, system_calls) = (event("Ir")?, event("sysCount")?);
        // Those at the end that are zero are left out.
        let of = |costs: &[f64], at: usize| costs.get(at).copied().unwrap_or(0.0);
        let (mut function, mut callee, mut is_call, mut complete) = ("", "", false, false);
        let mut profile = Self::default();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = name;
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = name;
            } else if let Some(rest) = line.strip_prefix("calls=") {
                if ALLOCATIONS.iter().any(|name| plain(callee).ends_with(name)) {
                    profile.allocations += rest.split(' ').next()?.parse::<f64>().ok()?;
                }
                is_call = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let costs: Vec<f64> = line.split(' ').skip(1).map(|cost| cost.parse().ok()).collect::<Option<_>>()?;
                // The line behind `calls=` is what the callee took, which stands at the callee, too.
                if !is_call {
                    profile.instructions += of(&costs, instructions);
                    let counts = if CLOCKS.contains(&plain(function)) { 0.0 } else { of(&costs, system_calls) };
                    profile.system_calls += counts;
                }
                is_call = false;
            } else if let Some(sums) = line.strip_prefix("totals: ") {
                let sums: Vec<f64> = sums.split(' ').map(|sum| sum.parse().ok()).collect::<Option<_>>()?;
                complete = of(&sums, instructions) == profile.instructions;
            }
        }
        complete.then_some(profile)
    }
}

/// Without its version, and without the mark of one that calls itself.
fn plain(name: &str) -> &str {
    name.split(['@', '\'']).next().unwrap_or(name)
}
