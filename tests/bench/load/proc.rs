//! What the kernel says of a process and its children: CPU time, memory; on which cores it may run; and how many sockets we may have.

use std::{collections::HashMap, fs, io, net::SocketAddr, process};

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// A process tree.
pub(crate) struct Tree {
    root: u32,
    threads: HashMap<u32, Thread>,
    /// CPU time of processes as a whole, which keeps that of their threads that have ended.
    processes: HashMap<u32, u64>,
}

#[derive(Clone, Default)]
pub(crate) struct Thread {
    process: u32,
    pub(crate) name: String,
    pub(crate) nanoseconds: u64,
}

/// What /proc/PID/stat counts in: 100 a second, on every Linux there is.
const TICK: u64 = 10_000_000;

impl Tree {
    pub(crate) fn new(root: u32) -> Self {
        Self { root, threads: HashMap::new(), processes: HashMap::new() }
    }

    /// The same tree, seen anew.
    pub(crate) fn also(&self) -> Self {
        Self::new(self.root)
    }

    pub(crate) fn own() -> Self {
        Self::new(process::id())
    }

    /// Whether there is such a process.
    pub(crate) fn exists(&self) -> bool {
        self.root != 0 && fs::exists(format!("/proc/{}", self.root)).unwrap_or(false)
    }

    /// User and system time so far, of all threads of all processes: to the nanosecond of threads that live, and never less than what
    /// the kernel has for the process as a whole.
    pub(crate) fn cpu(&mut self) -> u64 {
        for pid in self.processes() {
            for tid in numbers(&format!("/proc/{pid}/task")) {
                let path = format!("/proc/{pid}/task/{tid}");
                let nanoseconds = first_number(&format!("{path}/schedstat"));
                let thread = self.threads.entry(tid).or_insert_with(|| Thread {
                    process: pid,
                    name: fs::read_to_string(format!("{path}/comm")).unwrap_or_default().trim().to_owned(),
                    nanoseconds: 0,
                });
                thread.nanoseconds = thread.nanoseconds.max(nanoseconds);
            }
            let whole = ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()) * TICK;
            let known = self.processes.entry(pid).or_insert(0);
            *known = whole.max(*known);
        }
        let of_threads =
            |pid: u32| self.threads.values().filter(|thread| thread.process == pid).map(|thread| thread.nanoseconds).sum::<u64>();
        self.processes.iter().map(|(pid, whole)| of_threads(*pid).max(*whole)).sum()
    }

    /// The threads as they were at the last look.
    pub(crate) fn threads(&self) -> HashMap<u32, Thread> {
        self.threads.clone()
    }

    /// Resident memory, in bytes.
    pub(crate) fn rss(&self) -> u64 {
        let resident = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            line.and_then(|kib| kib.trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.processes().iter().map(resident).sum::<u64>() * 1024
    }

    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.root];
        if self.root == process::id() {
            // Our children are the servers.
            return found;
        }
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            at += 1;
            for tid in numbers(&format!("/proc/{pid}/task")) {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
                found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        found
    }

    /// Binds every thread to these cores.
    ///
    /// # Errors
    /// We may not.
    pub(crate) fn pin(&self, cores: &[usize]) -> io::Result<()> {
        for pid in self.processes() {
            for tid in numbers(&format!("/proc/{pid}/task")) {
                pin(Pid::from_raw(tid as i32), cores)?;
            }
        }
        Ok(())
    }
}

fn numbers(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// User and system time of a process: the 14th and the 15th field, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> u64 {
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').skip(11);
    fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn first_number(path: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.split(' ').next()?.trim().parse().ok()).unwrap_or(0)
}

/// Binds a thread, or this one and what it starts, to these cores.
///
/// # Errors
/// We may not, or there is no such core.
pub(crate) fn pin(thread: Option<Pid>, cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(thread, &set).map_err(|error| io::Error::other(format!("cannot bind to the cores {cores:?}: {error}")))
}

/// The cores that this thread may run on.
pub(crate) fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Whether the kernel still has the server's end of a connection of ours.
pub(crate) fn socket_exists(server_port: u16, client: SocketAddr) -> bool {
    let SocketAddr::V4(client) = client else { return false };
    // As the kernel prints it: the address in its own byte order. A listener on [::] has it behind the zeros of a mapped address.
    let ours = format!("{:08X}:{:04X}", u32::from_ne_bytes(client.ip().octets()), client.port());
    let theirs = format!(":{server_port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).any(|line| {
        // sl local remote st …; 06 is TIME_WAIT: nobody holds it any more.
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        local.ends_with(&theirs) && remote.ends_with(&ours) && state != "06"
    })
}

/// As many files as the system lets us have, for us and for the servers that we start.
pub(crate) fn raise_file_limit() {
    // Whoever needs more than there are is told by the next one.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// # Errors
/// There are not enough for so many connections.
pub(crate) fn room_for(connections: usize) -> io::Result<()> {
    let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    if connections as u64 + 200 > limit {
        let text =
            format!("{connections} connections need more open files than the {limit} that this process may have: raise `ulimit -Hn`");
        return Err(io::Error::other(text));
    }
    Ok(())
}
