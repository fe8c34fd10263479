//! One broker of a cluster over all of its lives: the same port, the same data directory, one process after the other.

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{checker::Footprint, plan::Plan};
use crate::support::{Broker, Http, Launch, postgres::free_port, proxy::Proxy};

pub(crate) struct Node {
    index: usize,
    port: u16,
    config: String,
    environment: Vec<(String, String)>,
    binary: Option<PathBuf>,
    data_dir: PathBuf,
    _directory: TempDir,
    /// Between it and the database.
    behind: Option<Proxy>,
    /// Between it and the database, for the connection that listens.
    bell: Option<Proxy>,
    /// Between clients and it.
    front: Option<Proxy>,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    broker: Option<Broker>,
    /// What earlier processes logged.
    past: Vec<String>,
    before: Option<Footprint>,
}

impl Node {
    /// `url` is where the database is, without a proxy, by the address that one connects to.
    pub(super) fn new(index: usize, plan: &Plan, database: Option<SocketAddr>, url: impl Fn(SocketAddr) -> String) -> Node {
        let proxy = |wanted: bool| database.filter(|_| wanted).map(Proxy::to);
        let (behind, bell) = (proxy(plan.behind), proxy(plan.bells));
        let direct = bell.as_ref().map(|bell| url(bell.address()));
        let url = database.map_or_else(|| "sqlite".to_owned(), |address| url(behind.as_ref().map_or(address, Proxy::address)));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data_dir = plan.data_dir.clone().unwrap_or_else(|| directory.path().join("data"));
        let config = plan.config(&url, direct.as_deref(), &data_dir);
        let port = free_port();
        let front = plan.front.then(|| Proxy::to(SocketAddr::from(([127, 0, 0, 1], port))));
        let environment = plan.environment.clone();
        let binary = plan.binary.clone();
        Node { index, port, config, environment, binary, data_dir, _directory: directory, behind, bell, front, life: Mutex::default() }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where clients go: through the proxy, if there is one.
    pub(crate) fn front_address(&self) -> SocketAddr {
        self.front.as_ref().map_or(self.address(), Proxy::address)
    }

    pub(crate) fn front(&self) -> &Proxy {
        self.front.as_ref().expect("the plan has proxies in front")
    }

    pub(crate) fn behind(&self) -> &Proxy {
        self.behind.as_ref().expect("the plan has proxies behind")
    }

    pub(crate) fn bell(&self) -> &Proxy {
        self.bell.as_ref().expect("the plan has proxies for bells")
    }

    pub(crate) fn has_behind(&self) -> bool {
        self.behind.is_some()
    }

    pub(crate) fn has_front(&self) -> bool {
        self.front.is_some()
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address())
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().expect("not poisoned")
    }

    /// What this process would be started with.
    pub(crate) fn launch(&self) -> Launch {
        let mut launch = Launch::config(self.config.clone()).arg("--port").arg(&self.port.to_string());
        launch.env.clone_from(&self.environment);
        launch.binary.clone_from(&self.binary);
        // The checker knows which errors are expected.
        launch.errors_expected = true;
        launch
    }

    pub(super) fn start(&self) {
        self.try_start().unwrap_or_else(|log| panic!("broker {} ended at start:\n{log}", self.index));
    }

    pub(super) fn try_start(&self) -> Result<(), String> {
        let broker = self.launch().try_start()?;
        let mut life = self.life();
        life.before = None;
        life.broker = Some(broker);
        Ok(())
    }

    /// Only a process that lives to the end is compared with what it was.
    pub(super) fn remember_footprint(&self) {
        let footprint = self.footprint();
        self.life().before = Some(footprint);
    }

    pub(super) fn footprint_before(&self) -> Option<Footprint> {
        self.life().before
    }

    pub(crate) fn is_running(&self) -> bool {
        self.life().broker.is_some()
    }

    /// Whether the process has not ended by itself.
    pub(crate) fn is_alive(&self) -> bool {
        self.life().broker.as_mut().is_some_and(Broker::is_alive)
    }

    pub(super) fn signal(&self, name: &str) {
        self.life().broker.as_ref().expect("it runs").signal(name);
    }

    pub(super) fn kill(&self) {
        self.signal("KILL");
        self.exited();
    }

    pub(super) fn terminate(&self) -> Duration {
        let started = Instant::now();
        self.signal("TERM");
        assert!(self.exited(), "broker {} did not end well:\n{}", self.index, self.log().join("\n"));
        started.elapsed()
    }

    /// Waits for the end of the process; whether it was a good one.
    fn exited(&self) -> bool {
        let mut life = self.life();
        let mut broker = life.broker.take().expect("it runs");
        let well = broker.exited(Duration::from_secs(35)).success();
        // The last lines are still on their way from the pipe.
        std::thread::sleep(Duration::from_millis(50));
        life.past.extend(broker.log_lines());
        well
    }

    /// Log lines of all of its processes.
    pub(crate) fn log(&self) -> Vec<String> {
        let life = self.life();
        life.past.iter().cloned().chain(life.broker.iter().flat_map(Broker::log_lines)).collect()
    }

    pub(crate) fn footprint(&self) -> Footprint {
        let life = self.life();
        let broker = life.broker.as_ref().expect("it runs");
        let process = PathBuf::from(format!("/proc/{}", broker.pid()));
        let threads = std::fs::read_dir(process.join("task")).expect("it runs").count();
        let (files, sockets) = open_files(&process);
        let table = std::fs::read_to_string("/proc/net/tcp").expect("a table of connections");
        Footprint { clients: clients_of(self.port, &sockets, &table), files, threads, rss_kib: broker.rss_kib() }
    }
}

/// How many files are open, and which sockets.
fn open_files(process: &Path) -> (usize, HashSet<String>) {
    let entries: Vec<_> = std::fs::read_dir(process.join("fd")).expect("it runs").flatten().collect();
    let target = |entry: &std::fs::DirEntry| Some(std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned());
    let inode = |target: String| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    let sockets = entries.iter().filter_map(target).filter_map(inode).collect();
    (entries.len(), sockets)
}

/// How many of these sockets are connections to this port, by the kernel's table of connections: which is read in pieces, and names one
/// twice when others open and close meanwhile.
pub(super) fn clients_of(port: u16, sockets: &HashSet<String>, table: &str) -> usize {
    const LISTENING: &str = "0A";
    let port = format!(":{port:04X}");
    let accepted = |line| {
        let fields = Vec::from_iter(str::split_whitespace(line));
        let inode = *fields.get(9)?;
        (fields[1].ends_with(&port) && fields[3] != LISTENING && sockets.contains(inode)).then_some(inode)
    };
    table.lines().filter_map(accepted).collect::<HashSet<_>>().len()
}
