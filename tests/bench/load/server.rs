//! The servers that are measured: Holdline, the floor, or whatever listens at an address that is given.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    app::App,
    options::Options,
    proc::{self, Tree},
    swarm::Swarm,
};

/// What to start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    /// With a rule for `private-order.*`.
    pub(crate) holds: bool,
}

impl Setup {
    pub(crate) fn plain() -> Self {
        Self { workers: 1, holds: false }
    }
}

/// A bare loop in a process of its own: what the kernel's part costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// One write(2) per frame.
    Write,
    /// One write(2) for all frames that wait.
    Coalesce,
}

pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) ws: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) app: App,
    pub(crate) tree: Tree,
    child: Option<Child>,
    directory: Option<tempfile::TempDir>,
}

impl Server {
    /// Holdline, or the server of `--url`.
    pub(crate) fn start(options: &Options, setup: Setup) -> Self {
        match &options.url {
            Some(url) => Self::external(options, url),
            None => Self::holdline(options, setup),
        }
    }

    fn holdline(options: &Options, setup: Setup) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let rule = if setup.holds {
            "[[apps.holds]]\nchannel = \"private-order.{order_id}\"\nresource = \"order:{order_id}\"\nevent = \"Order\"\ngrace = \"0s\"\n"
        } else {
            ""
        };
        let (workers, store) = (setup.workers, &options.store);
        let config = format!(
            "[server]\nworkers = {workers}\n[log]\nlevel = \"warn\"\n[store]\nurl = \"{store}\"\n\
             [[apps]]\nid = \"bench-id\"\nkey = \"bench-key\"\nsecret = \"bench-secret\"\nclient_events = true\n\
             [apps.limits]\nclient_events_per_second = 0\nmax_presence_members = 1000\n{rule}"
        );
        let path = directory.path().join("bench.toml");
        std::fs::write(&path, config).expect("a configuration file");
        let port = free_port();
        let mut command = Command::new(options.bin.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_holdline").into()));
        command.arg("--config").arg(path).args(["--port", &port.to_string()]).current_dir(directory.path());
        let name = if setup.workers == 1 { "holdline".to_owned() } else { format!("holdline ×{workers}") };
        let mut server = Self::spawn(options, name, command, port, setup.workers);
        server.directory = Some(directory);
        server
    }

    pub(crate) fn floor(options: &Options, floor: Floor) -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mode = if floor == Floor::Write { "write" } else { "coalesce" };
        command.args(["--floor-server", mode, "--port", &port.to_string()]);
        Self::spawn(options, format!("floor ({mode})"), command, port, 1)
    }

    fn spawn(options: &Options, name: String, mut command: Command, port: u16, workers: usize) -> Self {
        if options.pin {
            // The child inherits it. With several workers everybody may run everywhere: there is no core left for the generator alone.
            let cores = if workers == 1 { vec![options.server_core] } else { options.cores.clone() };
            proc::pin(None, &cores);
        }
        let child = command.stdin(Stdio::null()).spawn().expect("the server starts");
        if options.pin && workers == 1 {
            proc::pin(None, &[options.generator_core]);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let server = Self {
            name,
            ws: address,
            http: address,
            app: App::new("bench-id", "bench-key", "bench-secret"),
            tree: Tree::new(child.id()),
            child: Some(child),
            directory: None,
        };
        server.wait();
        server
    }

    fn external(options: &Options, url: &str) -> Self {
        let ws = resolve(url);
        let server = Self {
            name: options.name.clone(),
            ws,
            http: options.http.as_deref().map_or(ws, resolve),
            app: App::new(&options.app_id, &options.key, &options.secret),
            tree: Tree::new(options.pid.unwrap_or(0)),
            child: None,
            directory: None,
        };
        if options.pin {
            server.tree.pin(&[options.server_core]);
        }
        server.wait();
        server
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.ws).is_err() {
            assert!(Instant::now() < deadline, "nobody listens at {}", self.ws);
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.child.is_some() && self.name.starts_with("holdline") {
            while !ready(self.http).unwrap_or(false) {
                assert!(Instant::now() < deadline, "the broker does not become ready");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    pub(crate) fn swarm(&self) -> Swarm {
        Swarm::new(self.ws, self.http, &self.app).expect("an epoll")
    }

    /// The same server, for another thread.
    pub(crate) fn also(&self) -> Self {
        let (name, app, tree) = (self.name.clone(), self.app.clone(), self.tree.also());
        Self { name, ws: self.ws, http: self.http, app, tree, child: None, directory: None }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ready(http: SocketAddr) -> io::Result<bool> {
    use std::io::Read;
    let mut stream = TcpStream::connect(http)?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer.ends_with(b"200"))
}

fn resolve(url: &str) -> SocketAddr {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    host.to_socket_addrs().ok().and_then(|mut found| found.next()).unwrap_or_else(|| panic!("cannot resolve {host}"))
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}
