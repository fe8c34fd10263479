//! The servers that are measured: Holdline, the floor, or whatever listens at an address that is given.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    path::PathBuf,
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    /// With a rule for `private-order.*`.
    pub(crate) holds: bool,
    /// Server and generator share all cores, also when they are bound otherwise: with several workers there is none left for the
    /// generator alone, and what is compared with that has to be measured alike.
    pub(crate) shared: bool,
}

impl Setup {
    pub(crate) fn plain() -> Self {
        Self { workers: 1, holds: false, shared: false }
    }

    pub(crate) fn holding() -> Self {
        Self { holds: true, ..Self::plain() }
    }

    /// With so many workers, on all cores.
    pub(crate) fn workers(workers: usize) -> Self {
        Self { workers, shared: true, ..Self::plain() }
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
    /// Resident memory when it was ready.
    pub(crate) rss_at_start: u64,
    child: Option<Child>,
    directory: Option<tempfile::TempDir>,
}

impl Server {
    /// Holdline, or the server of `--url`.
    ///
    /// # Errors
    /// It does not come up, or nobody listens there.
    pub(crate) fn start(options: &Options, setup: Setup) -> io::Result<Self> {
        match &options.url {
            Some(url) => Self::external(options, url),
            None => Self::holdline(options, setup),
        }
    }

    fn holdline(options: &Options, setup: Setup) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let rule = if setup.holds {
            "[[apps.holds]]\nchannel = \"private-order.{order_id}\"\nresource = \"order:{order_id}\"\nevent = \"Order\"\ngrace = \"0s\"\n"
        } else {
            ""
        };
        let (workers, store) = (setup.workers, &options.store);
        let config = format!(
            "[server]\nworkers = {workers}\n[log]\nlevel = \"warn\"\n[store]\nurl = \"{store}\"\n\
             [[apps]]\nid = \"bench-id\"\nkey = \"bench-key\"\nsecret = \"bench-secret\"\nclient_events = true\n\
             [apps.limits]\nclient_events_per_second = 0\nmax_presence_members = 2000\n{rule}"
        );
        let path = directory.path().join("bench.toml");
        std::fs::write(&path, config)?;
        let program = options.bin.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_holdline")));
        let port = free_port()?;
        let mut command = Command::new(std::path::absolute(program)?);
        command.arg("--config").arg(path).args(["--port", &port.to_string()]).current_dir(directory.path());
        let name = if workers == 1 { "holdline".to_owned() } else { format!("holdline ×{workers}") };
        let mut server = Self::spawn(options, name, command, port, setup.shared)?;
        server.directory = Some(directory);
        server.settled()
    }

    /// # Errors
    /// It does not come up.
    pub(crate) fn floor(options: &Options, floor: Floor) -> io::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        let mode = if floor == Floor::Write { "write" } else { "coalesce" };
        command.args(["--floor-server", mode, "--port", &port.to_string()]);
        Self::spawn(options, format!("floor ({mode})"), command, port, false)?.settled()
    }

    fn spawn(options: &Options, name: String, mut command: Command, port: u16, shared: bool) -> io::Result<Self> {
        let bound = |core: usize| if shared { options.cores.clone() } else { vec![core] };
        if options.pin {
            // The child inherits it.
            proc::pin(None, &bound(options.server_core))?;
        }
        let child = command.stdin(Stdio::null()).spawn();
        if options.pin {
            proc::pin(None, &bound(options.generator_core))?;
        }
        let child = child.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", command.get_program().display())))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            name,
            ws: address,
            http: address,
            app: App::new("bench-id", "bench-key", "bench-secret"),
            tree: Tree::new(child.id()),
            rss_at_start: 0,
            child: Some(child),
            directory: None,
        })
    }

    fn external(options: &Options, url: &str) -> io::Result<Self> {
        let ws = resolve(url, "ws")?;
        let server = Self {
            name: options.name.clone(),
            ws,
            http: options.http.as_deref().map_or(Ok(ws), |url| resolve(url, "http"))?,
            app: App::new(&options.app_id, &options.key, &options.secret),
            tree: Tree::new(options.pid.unwrap_or(0)),
            rss_at_start: 0,
            child: None,
            directory: None,
        };
        if options.pid.is_some() && !server.tree.exists() {
            return Err(io::Error::other("there is no process of the number that --pid gives"));
        }
        if options.pin {
            server.tree.pin(&[options.server_core])?;
            proc::pin(None, &[options.generator_core])?;
        }
        server.settled()
    }

    /// Waits until it serves, and looks at its memory then.
    fn settled(mut self) -> io::Result<Self> {
        let deadline = Instant::now() + if self.child.is_some() { Duration::from_secs(20) } else { Duration::ZERO };
        loop {
            let error = match TcpStream::connect(self.ws) {
                Ok(_) if self.serves()? => break,
                Ok(_) => io::Error::other("it does not become ready"),
                Err(error) => error,
            };
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                return Err(io::Error::other(format!("{} ended at its start: {status}", self.name)));
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(error.kind(), format!("no server at {}: {error}", self.ws)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        TcpStream::connect(self.http).map_err(|error| io::Error::new(error.kind(), format!("no HTTP API at {}: {error}", self.http)))?;
        self.rss_at_start = self.tree.rss();
        Ok(self)
    }

    /// Holdline says so itself; of others a port that is open is all that is known.
    fn serves(&self) -> io::Result<bool> {
        if self.directory.is_none() {
            return Ok(true);
        }
        Ok(ready(self.http).unwrap_or(false))
    }

    pub(crate) fn swarm(&self) -> io::Result<Swarm> {
        Swarm::new(self.ws, self.http, &self.app)
    }

    /// The same server, for another thread.
    pub(crate) fn also(&self) -> Self {
        let (name, app, tree) = (self.name.clone(), self.app.clone(), self.tree.also());
        Self { name, ws: self.ws, http: self.http, app, tree, rss_at_start: self.rss_at_start, child: None, directory: None }
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
    let mut stream = TcpStream::connect(http)?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer.ends_with(b"200"))
}

/// The address of `scheme://host:port`.
fn resolve(url: &str, scheme: &str) -> io::Result<SocketAddr> {
    let wrong = |text: &str| io::Error::other(format!("{url}: {text}"));
    let (given, rest) = url.split_once("://").ok_or_else(|| wrong(&format!("must begin with {scheme}://")))?;
    if !given.eq_ignore_ascii_case(scheme) {
        return Err(wrong(&format!("must begin with {scheme}://, without TLS: that would measure something else")));
    }
    let host = rest.split('/').next().unwrap_or(rest);
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let found: Vec<_> = host.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.collect();
    // Our many source addresses are of IPv4.
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(|| wrong("has no address"))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
