//! What the kernel says of a process and its children: CPU time, memory; and on which cores it may run.

use std::{collections::HashMap, fs, process};

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// A process tree. CPU time of threads that have ended since the last look is kept.
pub(crate) struct Tree {
    root: u32,
    threads: HashMap<u32, Thread>,
}

#[derive(Clone, Default)]
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) nanoseconds: u64,
}

impl Tree {
    pub(crate) fn new(root: u32) -> Self {
        Self { root, threads: HashMap::new() }
    }

    /// The same tree, seen anew.
    pub(crate) fn also(&self) -> Self {
        Self::new(self.root)
    }

    pub(crate) fn own() -> Self {
        Self::new(process::id())
    }

    /// User and system time of all threads so far.
    pub(crate) fn cpu(&mut self) -> u64 {
        for pid in self.processes() {
            for tid in numbers(&format!("/proc/{pid}/task")) {
                let path = format!("/proc/{pid}/task/{tid}");
                let nanoseconds = first_number(&format!("{path}/schedstat"));
                let thread = self.threads.entry(tid).or_insert_with(|| Thread {
                    name: fs::read_to_string(format!("{path}/comm")).unwrap_or_default().trim().to_owned(),
                    nanoseconds: 0,
                });
                thread.nanoseconds = thread.nanoseconds.max(nanoseconds);
            }
        }
        self.threads.values().map(|thread| thread.nanoseconds).sum()
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
    pub(crate) fn pin(&self, cores: &[usize]) {
        for pid in self.processes() {
            for tid in numbers(&format!("/proc/{pid}/task")) {
                pin(Pid::from_raw(tid as i32), cores);
            }
        }
    }
}

fn numbers(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn first_number(path: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.split(' ').next()?.trim().parse().ok()).unwrap_or(0)
}

/// Binds a thread, or this one, and what it starts, to these cores. Without the right to do so, or without the core, it stays free.
pub(crate) fn pin(thread: Option<Pid>, cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    if let Err(error) = sched_setaffinity(thread, &set) {
        eprintln!("cannot pin to {cores:?}: {error}");
    }
}

/// The cores that this thread may run on.
pub(crate) fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// State of a TCP connection of ours as the kernel has it, on the server's side.
pub(crate) fn socket_exists(server_port: u16, client_port: u16) -> bool {
    let (server, client) = (format!(":{server_port:04X}"), format!(":{client_port:04X}"));
    // sl local remote st …; 06 is TIME_WAIT: nobody holds it any more.
    fs::read_to_string("/proc/net/tcp").unwrap_or_default().lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        local.ends_with(&server) && remote.ends_with(&client) && state != "06"
    })
}
