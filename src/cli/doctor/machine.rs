//! The machine: open files, memory, clock.

use std::{fs, time::SystemTime};

use bytesize::ByteSize;

use super::{directory::Owner, report::Report};
use crate::{config::Settings, server::room_for_connections};

/// Fewer connections than this, and a broker without a limit of its own is worth a word.
const FEW: usize = 4_000;
/// What a broker takes that has nothing to do.
const IDLE_BYTES: u64 = 64 << 20;
/// What an idle connection takes, plain and with TLS; see docs::performance.
const CONNECTION_BYTES: (u64, u64) = (8 << 10, 24 << 10);
/// Nobody has built this program before (2025-01-01): a clock that says so is wrong.
const EARLIEST: u64 = 1_735_689_600;

/// What a broker raises its limit of open files to.
pub(super) fn open_files(report: &mut Report, settings: &Settings, beside: Option<&Owner>) {
    let own = || rlimit::Resource::NOFILE.get_hard().ok();
    let (limit, whose) = match beside.and_then(|owner| Some((owner.open_files()?, owner.pid))) {
        Some((limit, pid)) => (Some(limit), format!("the broker that runs (process {pid})")),
        None => (own(), "a broker that is started from here".to_owned()),
    };
    let Some(limit) = limit else { return report.warn("files", "the limit of open files cannot be read") };
    let (room, wanted) = (room_for_connections(limit), settings.server.max_connections);
    let how = "raise the hard limit: LimitNOFILE= of the systemd unit, --ulimit nofile= of the container, or ulimit -Hn";
    let found = format!("{whose} may open {limit} files: room for {room} connections");
    if wanted > room {
        report.fail("files", format!("{found}, but server.max_connections is {wanted}; {how}"));
    } else if wanted == 0 && room < FEW {
        report.warn("files", format!("{found}; if more will come, {how}"));
    } else {
        report.ok("files", found);
    }
}

/// What may be kept in memory, beside what there is.
pub(super) fn memory(report: &mut Report, settings: &Settings, beside: Option<&Owner>) {
    let process = beside.map_or_else(|| "self".to_owned(), |owner| owner.pid.to_string());
    let Some((limit, whose)) = memory_limit(&process) else { return report.warn("memory", "the size of the memory cannot be read") };
    let server = &settings.server;
    let has_webhooks = settings.apps.iter().any(|app| !app.webhooks.is_empty());
    let queue = if has_webhooks { settings.webhooks.queue_size as u64 } else { 0 };
    let each = if settings.tls.is_on() { CONNECTION_BYTES.1 } else { CONNECTION_BYTES.0 };
    let waiting = server.max_outbox_memory as u64;
    let need = IDLE_BYTES.saturating_add(waiting).saturating_add(queue).saturating_add(each.saturating_mul(server.max_connections as u64));
    let size = |bytes: u64| ByteSize::b(bytes).to_string();
    let found = format!("{} of {whose}; a full broker takes up to {}", size(limit), size(need));
    let parts = "server.max_outbox_memory, webhooks.queue_size and server.max_connections decide that";
    if need > limit {
        report.fail("memory", format!("{found}, and would be killed: {parts}"));
    } else if waiting == 0 {
        report.warn("memory", format!("{found}, and more without end: server.max_outbox_memory is 0"));
    } else if need > limit / 5 * 4 {
        report.warn("memory", format!("{found}, which leaves little: {parts}"));
    } else {
        report.ok("memory", found);
    }
}

/// The smallest limit that holds for a process: of the machine, of the groups it is in, of itself.
fn memory_limit(process: &str) -> Option<(u64, &'static str)> {
    let mut limits = vec![(machine_memory()?, "the machine")];
    limits.extend(group_memory(process).map(|bytes| (bytes, "its control group")));
    let own = if process == "self" { rlimit::Resource::AS.get_soft().ok() } else { super::directory::limit(process, "Max address space") };
    limits.extend(own.filter(|bytes| *bytes != u64::MAX).map(|bytes| (bytes, "its address space (ulimit -v)")));
    limits.into_iter().min_by_key(|(bytes, _)| *bytes)
}

fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1_024))
}

/// The smallest `memory.max` from the group up to the root; those of containers are where the container sees its root.
fn group_memory(process: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let mut path = std::path::Path::new("/sys/fs/cgroup").join(group);
    let mut smallest = None;
    while path.starts_with("/sys/fs/cgroup") {
        let max = fs::read_to_string(path.join("memory.max")).ok().and_then(|text| text.trim().parse::<u64>().ok());
        smallest = smallest.into_iter().chain(max).min();
        path.pop();
    }
    smallest
}

/// Whether the clock can be right at all. The database's is compared with it where there is one.
pub(super) fn clock(report: &mut Report) {
    let now = SystemTime::now();
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let shown = if seconds == 0 { "before 1970".to_owned() } else { humantime::format_rfc3339_seconds(now).to_string() };
    if seconds < EARLIEST {
        let what = "requests are refused whose auth_timestamp is right; set it, by NTP";
        report.fail("clock", format!("it is {shown} here, which is before this program was made: {what}"));
    } else {
        report.ok("clock", format!("it is {shown}"));
    }
}
