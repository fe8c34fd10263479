//! The process, by the names that all Prometheus clients give it.

use std::{fmt, fs};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::page::{Page, labels};

/// Clock ticks of the kernel's interface a second: fixed on Linux, whatever the kernel itself ticks with.
const TICKS: f64 = 100.0;
const KIB: u64 = 1024;

/// What the kernel says of this process.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since 1970.
    started: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { started: started().unwrap_or(0.0) }
    }
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        let version = labels!["version" => env!("CARGO_PKG_VERSION"), "otlp" => if cfg!(feature = "otlp") { "yes" } else { "no" }];
        page.info("holdline_build", "What runs.", &version)?;
        if let Some(bytes) = resident() {
            page.plain_gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.", bytes)?;
        }
        if let Some(open) = open_files() {
            page.plain_gauge("process_open_fds", "Open file descriptors.", open)?;
        }
        if let Ok(most) = rlimit::Resource::NOFILE.get_soft() {
            page.plain_gauge("process_max_fds", "Most file descriptors that may be open.", most)?;
        }
        if let Some(fields) = stat() {
            let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            let help = "User and system CPU time, in seconds.";
            page.counter_seconds("process_cpu_seconds", help, (ticks(UTIME) + ticks(STIME)) / TICKS)?;
            page.plain_gauge("process_threads", "Threads of the process.", ticks(THREADS))?;
        }
        page.plain_gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", self.started)
    }
}

/// Fields of `/proc/self/stat` behind the name of the program, which may hold anything.
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const STARTED: usize = 19;

fn stat() -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * KIB)
}

/// Newer kernels (6.2) say the number as the size of the directory; reading it costs a look at each.
fn open_files() -> Option<u64> {
    let known = fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    if known > 0 {
        return Some(known);
    }
    // The directory itself is open while it is read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

fn started() -> Option<f64> {
    let ticks: f64 = stat()?.get(STARTED)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_kernel_tells_what_we_ask() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let began = started().unwrap();
        assert!(began <= now + 1.0 && began > now - 24.0 * 3600.0, "{began} is not a while before {now}");
        assert!(resident().unwrap() > 1024 * 1024);
        let before = open_files().unwrap();
        let files: Vec<_> = (0..10).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests open files, too.
        assert!(open_files().unwrap() + 5 > before && before > 2, "{before} and {} more", files.len());
        assert!(stat().unwrap()[THREADS].parse::<u32>().unwrap() >= 1);
    }
}
