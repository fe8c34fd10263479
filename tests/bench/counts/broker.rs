//! The whole broker under callgrind, driven through its sockets, from the request's bytes to the last write: a publish to nobody, one to
//! 1,000 subscribers, and a connection's life. Counting is switched on when all subscribers are there, and begins anew after each kind of work
//! has been done a few times, so that only the work itself is counted.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    app::{self, App},
    budget::Counts,
    callgrind::{OPTIONS, Profile},
    sink::{Quiet, Sink},
    swarm::{Signal, Swarm},
};

const SUBSCRIBERS: usize = 1_000;
const FANOUTS: usize = 10;
const PUBLISHES: usize = 500;
const CONNECTIONS: usize = 200;
/// Before each step of a connection: a broker that is still at the last one would save a system call.
const PAUSE: Duration = Duration::from_millis(10);
/// Under callgrind everything is fifty times slower.
const PATIENCE: Duration = Duration::from_secs(90);

struct Broker {
    process: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
    dumps: usize,
}

impl Broker {
    fn start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = "[server]\nworkers = 1\n[log]\nlevel = \"warn\"\n[store]\nurl = \"none\"\n\
                      [[apps]]\nid = \"bench-id\"\nkey = \"bench-key\"\nsecret = \"bench-secret\"\n";
        let file = directory.path().join("bench.toml");
        std::fs::write(&file, config)?;
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
            .spawn()?;
        let mut broker = Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)), directory, dumps: 0 };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(broker.address).is_err() {
            if let Some(status) = broker.process.try_wait()? {
                return Err(io::Error::other(format!("the broker ended at its start: {status}")));
            }
            late(deadline, || "the broker does not start".to_owned())?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(broker)
    }

    /// A command to callgrind inside the broker.
    fn tell(&self, words: &[&str]) -> io::Result<()> {
        let pid = format!("--pid={}", self.process.id());
        let output = Command::new("vgdb").arg(pid).args(words).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("vgdb {words:?}: {}", String::from_utf8_lossy(&output.stderr))))
    }

    /// What `work` takes, without what was before it: a dump begins anew (`zero` does not, in a program of several threads).
    fn count(&mut self, work: impl FnOnce() -> io::Result<()>) -> io::Result<Profile> {
        self.tell(&["dump"])?;
        work()?;
        self.tell(&["dump"])?;
        self.dumps += 2;
        Profile::read(&self.directory.path().join(format!("out.{}", self.dumps)))
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

    fn response(&mut self, _: usize, _: u64) {
        self.answered = true;
    }
}

/// # Errors
/// Something failed, or took too long.
pub(crate) fn count() -> io::Result<Counts> {
    let mut broker = Broker::start()?;
    let mut app = App::new("bench-id", "bench-key", "bench-secret");
    let mut swarm = Swarm::new(broker.address, broker.address, &app)?;
    subscribe(&mut swarm, &app)?;
    swarm.open_lanes(1)?;
    broker.tell(&["instrumentation", "on"])?;

    let mut counts = Counts::new();
    let mut keep = |work: &str, unit: &str, units: usize, profile: &Profile| {
        let per = |count: f64| count / units as f64;
        let of = BTreeMap::from([
            (format!("instructions_per_{unit}"), per(profile.instructions)),
            (format!("allocations_per_{unit}"), per(profile.allocations)),
            (format!("system_calls_per_{unit}"), per(profile.system_calls)),
        ]);
        counts.insert(work.to_owned(), of);
    };
    for (work, unit, channel, receivers, times) in
        [("publish", "publish", "nobody", 0, PUBLISHES), ("fanout", "delivery", "news", SUBSCRIBERS, FANOUTS)]
    {
        publish(&mut swarm, &mut app, channel, receivers, 2)?;
        let profile = broker.count(|| publish(&mut swarm, &mut app, channel, receivers, times))?;
        keep(work, unit, times * receivers.max(1), &profile);
    }
    connections(&mut swarm, &app, 5)?;
    let profile = broker.count(|| connections(&mut swarm, &app, CONNECTIONS))?;
    keep("connect", "connection", CONNECTIONS, &profile);
    Ok(counts)
}

/// An error at the deadline.
fn late(deadline: Instant, what: impl Fn() -> String) -> io::Result<()> {
    if Instant::now() > deadline { Err(io::Error::new(io::ErrorKind::TimedOut, what())) } else { Ok(()) }
}

fn subscribe(swarm: &mut Swarm, app: &App) -> io::Result<()> {
    let (mut begun, mut ready, deadline) = (0, 0, Instant::now() + PATIENCE);
    while ready < SUBSCRIBERS {
        while begun < SUBSCRIBERS && begun - ready < 64 {
            swarm.open(None)?;
            begun += 1;
        }
        swarm.poll(Duration::from_millis(100), &mut Quiet)?;
        for signal in swarm.take_signals() {
            match signal {
                Signal::Open { socket, id } => swarm.send(socket, &app.subscribe(&id, "news", None)),
                Signal::Text { text, .. } if text.contains("subscription_succeeded") => ready += 1,
                other => return Err(io::Error::other(format!("while subscribing there came {other:?}"))),
            }
        }
        late(deadline, || format!("{ready} of {SUBSCRIBERS} are subscribed"))?;
    }
    Ok(())
}

/// One after the other: each is answered and delivered before the next.
fn publish(swarm: &mut Swarm, app: &mut App, channel: &str, receivers: usize, times: usize) -> io::Result<()> {
    let body = app::event(channel, &"x".repeat(200));
    for _ in 0..times {
        let request = app.request("POST", "/events", "", &body);
        let (mut seen, deadline) = (Seen::default(), Instant::now() + PATIENCE);
        swarm.lanes[0].send(&request);
        while !seen.answered || seen.events < receivers {
            swarm.poll(Duration::from_millis(100), &mut seen)?;
            late(deadline, || format!("{} of {receivers} have it", seen.events))?;
        }
    }
    Ok(())
}

/// Handshake, private subscription, closing handshake, until the TCP connection is gone; one after the other.
fn connections(swarm: &mut Swarm, app: &App, times: usize) -> io::Result<()> {
    for _ in 0..times {
        swarm.open(None)?;
        let (mut gone, deadline) = (false, Instant::now() + PATIENCE);
        while !gone {
            swarm.poll(Duration::from_millis(100), &mut Quiet)?;
            std::thread::sleep(PAUSE);
            for signal in swarm.take_signals() {
                match signal {
                    Signal::Open { socket, id } => swarm.send(socket, &app.subscribe(&id, "private-counted", None)),
                    Signal::Text { socket, text } if text.contains("subscription_succeeded") => swarm.close(socket),
                    Signal::Closed { .. } => {}
                    Signal::Gone { .. } => gone = true,
                    other => return Err(io::Error::other(format!("of a connection there came {other:?}"))),
                }
            }
            late(deadline, || "a connection does not end".to_owned())?;
        }
    }
    Ok(())
}
