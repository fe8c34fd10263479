//! One broker process: the real binary on a free port, its log on our side, and nothing left behind.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{APP, Http, Ws, eventually};

/// The binary under test: `HOLDLINE_BIN`, or the one that cargo built for this run.
fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_holdline").map(PathBuf::from);
    let path = std::env::var_os("HOLDLINE_BIN").map(PathBuf::from).or(built).expect("HOLDLINE_BIN names the binary under test");
    let path = if path.is_relative() { PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path) } else { path };
    assert!(path.is_file(), "{} is not there: build it, or set HOLDLINE_BIN", path.display());
    path
}

/// The binary, ready to be given arguments.
pub(crate) fn holdline(directory: &Path) -> Command {
    command(directory, binary())
}

/// A program in a bare environment, so that nothing of the tester's shell configures it.
fn command(directory: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(directory);
    command.stdin(Stdio::null());
    command
}

/// A configuration with the fixed test identity; `extra` are further keys (and sub-tables) of that app.
pub(crate) fn one_app(extra: &str) -> String {
    format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n{extra}\n", APP.id, APP.key, APP.secret)
}

/// The same with keys of `[server]` in front.
pub(crate) fn server_with(server: &str, app: &str) -> String {
    format!("[server]\n{server}\n{}", one_app(app))
}

/// What a broker is started with.
#[derive(Default)]
pub(crate) struct Launch {
    pub(crate) config: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// A test that provokes an error on purpose says so; otherwise an ERROR line fails the test.
    pub(crate) errors_expected: bool,
    /// Another binary than the usual one.
    pub(crate) binary: Option<PathBuf>,
    /// The hard limit of open files, where a test wants it to be reached.
    pub(crate) open_files: Option<u32>,
}

impl Launch {
    pub(crate) fn config(text: impl Into<String>) -> Launch {
        Launch { config: text.into(), ..Launch::default() }
    }

    pub(crate) fn arg(mut self, arg: &str) -> Launch {
        self.args.push(arg.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Launch {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts on a free port and waits for the line that names it.
    pub(crate) fn start(self) -> Broker {
        self.try_start().unwrap_or_else(|log| panic!("the broker ended at start:\n{log}"))
    }

    /// The same; what it logged if it ended instead.
    pub(crate) fn try_start(self) -> Result<Broker, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let binary = self.binary.unwrap_or_else(binary);
        let mut command = match self.open_files {
            None => command(directory.path(), binary),
            Some(limit) => {
                let mut shell = command(directory.path(), "sh");
                shell.arg("-c").arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\"")).arg(binary);
                shell
            }
        };
        command.arg("serve");
        if !self.config.is_empty() {
            let file = directory.path().join("test.toml");
            std::fs::write(&file, &self.config).expect("the configuration is written");
            command.arg("--config").arg(file);
        }
        if !self.args.iter().any(|arg| arg == "--port") && !self.env.iter().any(|(name, _)| name.ends_with("PORT")) {
            command.args(["--port", "0"]);
        }
        command.args(&self.args).envs(self.env).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the broker starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let reader = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let sink = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                sink.lock().expect("the log is not poisoned").push(line);
            }
        });
        let watchdog = Some(guard(child.id()));
        let mut broker = Broker {
            child,
            watchdog,
            log,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            errors_expected: self.errors_expected,
            looked_at: AtomicUsize::new(0),
            _directory: directory,
        };
        let address = eventually("the broker says where it listens", || {
            let ended = broker.child.try_wait().expect("wait works").is_some();
            let address = broker.log_lines().iter().find_map(|line| listening(line));
            address.map(Some).or(ended.then_some(None))
        });
        broker.address = match address {
            Some(address) => address,
            None => {
                broker.errors_expected = true;
                // Its last words may still be in the pipe.
                let _ = reading.join();
                return Err(broker.log_text());
            }
        };
        Ok(broker)
    }
}

/// The address in the line that names one, in either format of the log.
fn listening(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("Listening on ")?;
    address.split([' ', '"']).next()?.parse().ok()
}

/// Kills the broker should this test process be killed itself: its standard input ends with us.
fn guard(pid: u32) -> Child {
    let script = "read -r _; kill -9 \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &pid.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a shell starts")
}

/// A running broker.
pub(crate) struct Broker {
    child: Child,
    watchdog: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
    errors_expected: bool,
    /// How many log lines have been found calm.
    looked_at: AtomicUsize,
    _directory: TempDir,
}

impl Broker {
    /// The fixed test identity with client events on and defaults everywhere else.
    pub(crate) fn start() -> Broker {
        Broker::with(one_app("client_events = true"))
    }

    pub(crate) fn with(config: impl Into<String>) -> Broker {
        Launch::config(config).start()
    }

    /// From here on an ERROR line is no failure of the test.
    pub(crate) fn expect_errors(&mut self) {
        self.errors_expected = true;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on clients of ours come to `tls.plain_bind`.
    pub(crate) fn without_tls(mut self) -> Broker {
        let plain = || self.log_lines().iter().filter(|line| line.contains("without TLS")).find_map(|line| listening(line));
        let address = eventually("the broker says where it listens without TLS", plain);
        self.address = address;
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An accepted connection to the test app.
    pub(crate) fn ws(&self) -> Ws {
        Ws::open(self.address)
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address)
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
    }

    /// Open file descriptors that are sockets.
    pub(crate) fn sockets(&self) -> usize {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process is there");
        let is_socket = |path: PathBuf| std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        entries.flatten().filter(|entry| is_socket(entry.path())).count()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Whether the process runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("wait works").is_none()
    }

    /// Waits for the process to end.
    pub(crate) fn exited(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait works") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {within:?}:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.log.lock().expect("the log is not poisoned").clone()
    }

    pub(crate) fn log_text(&self) -> String {
        self.log_lines().join("\n")
    }

    /// No panic and no error was logged since the last look.
    fn assert_calm(&self) {
        let bad = |line: &&String| line.contains("panicked at") || (line.contains(r#""level":"ERROR""#) && !self.errors_expected);
        let lines = self.log_lines();
        let looked_at = self.looked_at.swap(lines.len(), Ordering::Relaxed).min(lines.len());
        let lines: Vec<&String> = lines[looked_at..].iter().filter(bad).collect();
        assert!(lines.is_empty(), "the broker logged: {lines:#?}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            self.assert_calm();
        }
    }
}

/// The broker that all tests share which use names of their own; looked over after each of them.
pub(crate) struct Shared(&'static Broker);

pub(crate) fn shared() -> Shared {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    Shared(BROKER.get_or_init(Broker::start))
}

impl Deref for Shared {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.assert_calm();
        }
    }
}

/// How a short run of the binary ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Everything it said.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs the binary where it must end by itself.
pub(crate) fn run_to_end(directory: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command = holdline(directory);
    let mut child =
        command.args(args).envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // Read while it runs: what does not fit into a pipe would keep it from ending.
    let [stdout, stderr] = [text(child.stdout.take().expect("piped")), text(child.stderr.take().expect("piped"))];
    let deadline = Instant::now() + super::WAIT;
    let mut late = false;
    while !late && child.try_wait().expect("wait works").is_none() {
        late = Instant::now() > deadline;
        std::thread::sleep(Duration::from_millis(5));
    }
    if late {
        let _ = child.kill();
    }
    let status = child.wait().expect("wait works");
    let [stdout, stderr] = [stdout, stderr].map(|text| text.join().expect("a reader does not panic"));
    assert!(!late, "{args:?} {env:?} did not end:\n{stdout}{stderr}");
    Ended { code: status.code().expect("an exit code"), stdout, stderr }
}

fn text(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks is one that has ended.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
