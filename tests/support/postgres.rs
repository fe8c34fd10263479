//! PostgreSQL servers of our own: one that the cases of a test run share, a database each, and private ones for tests that hurt the
//! server. Included by the crate's conformance suite, too, so it stands on nothing but std, tempfile and sqlx.
#![allow(dead_code, reason = "each of the two that include it uses a part")]

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a server may take to start; after a crash it replays first.
const START: Duration = Duration::from_secs(60);

/// Where Debian puts the server; newest first.
fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("these tests need PostgreSQL: apt-get install postgresql")
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().expect("these tests need PostgreSQL: apt-get install postgresql")
}

/// The user that may run a server: `postgres`, if we are root.
pub(crate) fn owner() -> Option<(u32, u32)> {
    let number = |flag: &str| {
        let output = Command::new("id").args([flag, "postgres"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    let we = Command::new("id").arg("-u").output().ok()?;
    (we.stdout.trim_ascii() == b"0").then(|| number("-u").zip(number("-g"))).flatten()
}

/// A port that nobody listens on, below the range that the kernel gives to clients: there, a client of a server that is down could
/// be connected to itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 1_000) as u16 * 10;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Sessions are ended, everything is written.
    Fast,
    /// As in a crash: it recovers at the next start.
    Immediate,
}

/// What a private server is started with, besides the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerOptions {
    /// `name=value`.
    pub(crate) settings: Vec<String>,
    /// Environment of the server.
    pub(crate) environment: Vec<(String, String)>,
}

/// A server. It ends with this value, or with this process, however that goes.
#[derive(Debug)]
pub(crate) struct Postgres {
    directory: PathBuf,
    port: u16,
    owner: Option<(u32, u32)>,
    options: ServerOptions,
    watchdog: Child,
}

/// Stops the server and removes its files once its standard input ends, which is with the process that wrote to it.
const WATCH: &str = r#"read -r _; "$1/pg_ctl" -D "$2/data" -w -m immediate stop; rm -rf "$2""#;

impl Postgres {
    /// The server of all cases that do it no harm.
    pub(crate) fn shared() -> &'static Postgres {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(|| Postgres::start(ServerOptions::default()))
    }

    /// A server that nobody else uses.
    pub(crate) fn start(options: ServerOptions) -> Postgres {
        let (bin, owner) = (binaries(), owner());
        let directory = tempfile::Builder::new().prefix("holdline-pg-").tempdir().expect("a temporary directory").keep();
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&directory, Some(user), Some(group)).expect("root may give it away");
        }
        let watchdog = as_owner(Path::new("/bin/sh"), owner)
            .args(["-c", WATCH, "sh"])
            .args([&bin, &directory])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        let initdb = as_owner(&bin.join("initdb"), owner)
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D"])
            .arg(directory.join("data"))
            .status();
        assert!(initdb.expect("initdb runs").success(), "initdb failed");
        let server = Postgres { directory, port: free_port(), owner, options, watchdog };
        server.launch();
        server
    }

    /// Starts it again, with the same port and files.
    pub(crate) fn launch(&self) {
        let mut arguments = format!("-k {} -p {} -c listen_addresses=127.0.0.1", self.directory.display(), self.port);
        for setting in ["fsync=off", "max_connections=400", "log_min_messages=panic"] {
            arguments.push_str(&format!(" -c {setting}"));
        }
        for setting in &self.options.settings {
            arguments.push_str(&format!(" -c {setting}"));
        }
        let seconds = START.as_secs().to_string();
        let mut pg_ctl = as_owner(&binaries().join("pg_ctl"), self.owner);
        pg_ctl.arg("-D").arg(self.directory.join("data")).arg("-l").arg(self.log()).args(["-w", "-t", &seconds, "-o", &arguments, "start"]);
        let status = pg_ctl.envs(self.options.environment.iter().cloned()).status().expect("pg_ctl runs");
        let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
        assert!(status.success(), "PostgreSQL does not start:\n{}", log());
    }

    /// Stops it.
    pub(crate) fn stop(&self, how: Stop) {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut pg_ctl = as_owner(&binaries().join("pg_ctl"), self.owner);
        pg_ctl.arg("-D").arg(self.directory.join("data")).args(["-w", "-m", mode, "stop"]);
        assert!(pg_ctl.status().expect("pg_ctl runs").success(), "PostgreSQL does not stop");
    }

    /// Stops and starts it.
    pub(crate) fn restart(&self, how: Stop) {
        self.stop(how);
        self.launch();
    }

    /// Sends a signal to the server and all of its sessions.
    pub(crate) fn signal(&self, name: &str) {
        let server = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).expect("it runs");
        let server = server.lines().next().expect("a process id").to_owned();
        let sessions = Command::new("ps").args(["-o", "pid=", "--ppid", &server]).output().expect("ps runs");
        let sessions = String::from_utf8_lossy(&sessions.stdout).into_owned();
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(&server).args(sessions.split_whitespace()).stderr(Stdio::null());
        kill.status().expect("kill runs");
    }

    /// Where it listens, besides its socket.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// What the server wrote.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The url of a database for a role, through the socket.
    pub(crate) fn url(&self, database: &str, role: &str) -> String {
        format!("postgres://{role}@localhost:{}/{database}?host={}", self.port, self.directory.display())
    }

    /// The url of a database for the role `postgres`, through a TCP address: the server's own, or a proxy's.
    pub(crate) fn url_through(&self, address: SocketAddr, database: &str) -> String {
        format!("postgres://postgres@{address}/{database}?sslmode=disable")
    }

    /// A fresh, empty database; its name.
    pub(crate) async fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("case_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        run(&self.url("postgres", "postgres"), format!("CREATE DATABASE {name}")).await;
        name
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let deadline = Instant::now() + START;
        while Instant::now() < deadline && matches!(self.watchdog.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A program as the user that may run a server.
pub(crate) fn as_owner(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// The url of a database on the shared server, for a role.
pub(crate) fn url(database: &str, role: &str) -> String {
    Postgres::shared().url(database, role)
}

/// A fresh, empty database on the shared server; its url and its name.
pub(crate) async fn fresh_database() -> (String, String) {
    let server = tokio::task::spawn_blocking(Postgres::shared).await.expect("the server starts");
    let name = server.create_database().await;
    (server.url(&name, "postgres"), name)
}

/// Runs a statement.
pub(crate) async fn run(url: &str, sql: String) {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await.expect("the database answers");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("the statement runs");
    connection.close().await.expect("the session ends");
}
