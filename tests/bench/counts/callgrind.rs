//! Reads what callgrind writes.

use std::{collections::BTreeMap, fs, path::Path};

/// With these, names and positions stand in the file as they are.
pub(crate) const OPTIONS: [&str; 3] = ["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"];

/// Functions of the C library, or of an allocator in its place, that one allocation is one call of.
const ALLOCATIONS: [&str; 10] = [
    "malloc",
    "calloc",
    "realloc",
    "aligned_alloc",
    "posix_memalign",
    "_rjem_malloc",
    "_rjem_calloc",
    "_rjem_realloc",
    "_rjem_mallocx",
    "_rjem_rallocx",
];
/// One call is one system call that writes to a socket.
const WRITES: [&str; 6] = ["send", "__send", "write", "writev", "sendto", "sendmsg"];

pub(crate) struct Profile {
    pub(crate) instructions: f64,
    calls: BTreeMap<String, u64>,
}

impl Profile {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mut callee, mut calls, mut total) = ("", BTreeMap::new(), None);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("cfn=") {
                callee = name;
            } else if let Some(rest) = line.strip_prefix("calls=") {
                let count: u64 = rest.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
                *calls.entry(callee.trim_end_matches("'2").to_owned()).or_insert(0) += count;
            } else if let Some(sum) = line.strip_prefix("totals: ") {
                total = sum.split(' ').next().and_then(|sum| sum.parse().ok());
            }
        }
        Self { instructions: total.unwrap_or_else(|| panic!("{} has no totals", path.display())), calls }
    }

    fn sum(&self, names: &[&str]) -> f64 {
        names.iter().filter_map(|name| self.calls.get(*name)).sum::<u64>() as f64
    }

    pub(crate) fn allocations(&self) -> f64 {
        self.sum(&ALLOCATIONS)
    }

    pub(crate) fn writes(&self) -> f64 {
        self.sum(&WRITES)
    }
}
