//! The whole broker under callgrind, driven through its sockets: a publish to nobody, and one to 1,000. Counting is switched on when all
//! subscribers are there, and set to zero after a few publishes, so that only the work itself is counted.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Counts,
    app::{self, App},
    callgrind::{OPTIONS, Profile},
    swarm::{Signal, Sink, Swarm},
};

const SUBSCRIBERS: usize = 1_000;
const FANOUTS: usize = 10;
const PUBLISHES: usize = 200;
/// Under callgrind everything is fifty times slower.
const PATIENCE: Duration = Duration::from_secs(60);

struct Broker {
    process: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Broker {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a free port").port();
        let config = "[server]\nworkers = 1\n[log]\nlevel = \"warn\"\n[store]\nurl = \"none\"\n\
                      [[apps]]\nid = \"bench-id\"\nkey = \"bench-key\"\nsecret = \"bench-secret\"\n";
        let file = directory.path().join("bench.toml");
        std::fs::write(&file, config).expect("a configuration file");
        let process = Command::new("valgrind")
            .args(OPTIONS)
            .args(["--instr-atstart=no", "--quiet"])
            .arg(format!("--callgrind-out-file={}", directory.path().join("out").display()))
            .arg(env!("CARGO_BIN_EXE_holdline"))
            .arg("--config")
            .arg(file)
            .args(["--port", &port.to_string()])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("valgrind is installed");
        let broker = Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)), directory };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(broker.address).is_err() {
            assert!(Instant::now() < deadline, "the broker does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        broker
    }

    /// A command to callgrind inside the broker.
    fn tell(&self, words: &[&str]) {
        let pid = format!("--pid={}", self.process.id());
        let output = Command::new("vgdb").arg(pid).args(words).stdin(Stdio::null()).output().expect("vgdb comes with valgrind");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    /// What was counted since the last zero.
    fn dump(&self, number: usize) -> Profile {
        self.tell(&["dump"]);
        let path: PathBuf = Path::new(self.directory.path()).join(format!("out.{number}"));
        Profile::read(&path)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Default)]
struct Seen {
    events: usize,
    answered: bool,
}

impl Sink for Seen {
    fn text(&mut self, _: usize, message: &[u8], _: u64) -> bool {
        let event = message.starts_with(br#"{"event":"e""#);
        self.events += usize::from(event);
        event
    }

    fn response(&mut self, _: usize, status: u16, _: u64) {
        assert_eq!(status, 200, "a publish was refused");
        self.answered = true;
    }
}

pub(crate) fn count() -> Counts {
    let broker = Broker::start();
    let mut app = App::new("bench-id", "bench-key", "bench-secret");
    let mut swarm = Swarm::new(broker.address, broker.address, &app).expect("an epoll");
    subscribe(&mut swarm, &app);
    swarm.open_lanes(1).expect("a connection");
    broker.tell(&["instrumentation", "on"]);
    let mut counts = Counts::new();
    for (number, (work, channel, receivers, times)) in
        [("broker_publish", "nobody", 0, PUBLISHES), ("broker_fanout", "news", SUBSCRIBERS, FANOUTS)].into_iter().enumerate()
    {
        publish(&mut swarm, &mut app, channel, receivers, 2);
        broker.tell(&["zero"]);
        publish(&mut swarm, &mut app, channel, receivers, times);
        let profile = broker.dump(number + 1);
        let (unit, units) = if receivers == 0 { ("publish", times) } else { ("delivery", times * receivers) };
        let per = |count: f64| count / units as f64;
        counts.insert(
            work.to_owned(),
            BTreeMap::from([
                (format!("instructions_per_{unit}"), per(profile.instructions)),
                (format!("allocations_per_{unit}"), per(profile.allocations())),
                (format!("writes_per_{unit}"), per(profile.writes())),
            ]),
        );
    }
    counts
}

fn subscribe(swarm: &mut Swarm, app: &App) {
    let (mut begun, mut ready, deadline) = (0, 0, Instant::now() + PATIENCE);
    while ready < SUBSCRIBERS {
        while begun < SUBSCRIBERS && begun - ready < 64 {
            swarm.open(None).expect("a connection");
            begun += 1;
        }
        swarm.poll(Duration::from_millis(100), &mut Seen::default()).expect("epoll works");
        for signal in swarm.take_signals() {
            match signal {
                Signal::Open { socket, id } => swarm.send(socket, &app.subscribe(&id, "news", None)),
                Signal::Text { text, .. } if text.contains("subscription_succeeded") => ready += 1,
                other => panic!("while subscribing: {other:?}"),
            }
        }
        assert!(Instant::now() < deadline, "{ready} are subscribed");
    }
}

/// One after the other: each is answered and delivered before the next.
fn publish(swarm: &mut Swarm, app: &mut App, channel: &str, receivers: usize, times: usize) {
    let body = app::event(channel, &"x".repeat(200));
    for _ in 0..times {
        let request = app.request("POST", "/events", "", &body);
        let (mut seen, deadline) = (Seen::default(), Instant::now() + PATIENCE);
        swarm.lanes[0].send(&request);
        while !seen.answered || seen.events < receivers {
            swarm.poll(Duration::from_millis(100), &mut seen).expect("epoll works");
            assert!(Instant::now() < deadline, "{} of {receivers} have it", seen.events);
        }
    }
}
