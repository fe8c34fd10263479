//! Holds from outside: the real binary, a private PostgreSQL, sockets. Prints the figures that the guarantees page speaks of.
//!
//! `cargo bench --bench holds` runs everything; `cargo bench --bench holds -- subscribe cut` only what is named.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench stops at the first failure")]

#[path = "../support/postgres.rs"]
mod postgres;

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use postgres::{Postgres, ServerOptions};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

/// A broker process. Killed when dropped.
struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    fn start(url: &str, more: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let port = postgres::free_port();
        let process = Command::new(env!("CARGO_BIN_EXE_holdline"))
            .args(["--port", &port.to_string(), "--log-level", "warn"])
            .env("HOLDLINE_STORE__URL", url)
            .envs(more.iter().copied())
            .current_dir(directory)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the broker does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, port }
    }

    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<u64> = stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // utime and stime, in hundredths of a second; the state before them is no number.
        Duration::from_millis((fields[10] + fields[11]) * 10)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client that can subscribe, and count what comes.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    socket_id: String,
}

impl Client {
    async fn connect(port: u16, n: usize) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 1, 1 + (n / 5_000) as u8], 0).into()).unwrap();
        let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = "GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut client = Self { stream, buffer: Vec::new(), socket_id: String::new() };
        let end = loop {
            if let Some(at) = client.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            client.fill().await;
        };
        client.buffer.drain(..end);
        let established = client.next().await;
        client.socket_id = established.split(r#"socket_id\":\""#).nth(1).unwrap().split('\\').next().unwrap().to_owned();
        client
    }

    async fn fill(&mut self) {
        assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the broker hung up");
    }

    /// The next text message.
    async fn next(&mut self) -> String {
        loop {
            let (head, length) = match self.buffer.get(1) {
                Some(126) if self.buffer.len() >= 4 => (4, usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]]))),
                Some(length) if *length < 126 => (2, usize::from(*length)),
                _ => (usize::MAX / 2, 0),
            };
            if self.buffer.len() >= head + length {
                let text = String::from_utf8_lossy(&self.buffer[head..head + length]).into_owned();
                let is_text = self.buffer[0] & 15 == 1;
                self.buffer.drain(..head + length);
                if is_text {
                    return text;
                }
                continue;
            }
            self.fill().await;
        }
    }

    async fn expect(&mut self, event: &str) -> String {
        loop {
            let text = self.next().await;
            assert!(!text.contains("error"), "{text}");
            if text.contains(event) {
                return text;
            }
        }
    }

    async fn subscribe(&mut self, channel: &str) {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"app-secret").unwrap();
        mac.update(format!("{}:{channel}", self.socket_id).as_bytes());
        let auth: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let auth = if channel.starts_with("private-") { format!(r#","auth":"app-key:{auth}""#) } else { String::new() };
        let text = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"{auth}}}}}"#);
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => frame.extend([0x80 | 126, (length >> 8) as u8, length as u8]),
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await.unwrap();
    }
}

async fn clients(port: u16, count: usize) -> Vec<Client> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let mut some = JoinSet::new();
        for n in all.len()..(all.len() + 100).min(count) {
            some.spawn(Client::connect(port, n));
        }
        all.extend(some.join_all().await);
    }
    all
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// Each client takes `each` holds, `window` of them under way at once, paced to `rate` a second in all (0: as fast as it goes).
async fn take_holds(clients: Vec<Client>, name: &str, each: usize, rate: usize) -> (Vec<Client>, Vec<Duration>, Duration) {
    let (count, started) = (clients.len(), Instant::now());
    let mut work = JoinSet::new();
    for (n, mut client) in clients.into_iter().enumerate() {
        let name = name.to_owned();
        work.spawn(async move {
            let mut times = Vec::with_capacity(each);
            for turn in 0..each {
                if rate > 0 {
                    tokio::time::sleep_until((started + Duration::from_secs_f64((turn * count + n) as f64 / rate as f64)).into()).await;
                }
                let asked = Instant::now();
                client.subscribe(&format!("private-order.{name}-{n}-{turn}")).await;
                client.expect("holdline:locked").await;
                times.push(asked.elapsed());
            }
            (client, times)
        });
    }
    let (clients, times): (Vec<_>, Vec<_>) = work.join_all().await.into_iter().unzip();
    (clients, times.into_iter().flatten().collect(), started.elapsed())
}

async fn number(url: &str, sql: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

const UNLOCKED: &str = "SELECT count(*) FROM holdline.event WHERE kind = 'unlocked'";

async fn until_unlocked(url: &str, count: i64, since: Instant) -> Duration {
    while number(url, UNLOCKED).await < count {
        assert!(since.elapsed() < Duration::from_secs(120), "{} of {count}", number(url, UNLOCKED).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    since.elapsed()
}

async fn subscribe(url: &str) {
    let broker = Broker::start(url, &[]);
    let (_clients, times, _) = take_holds(clients(broker.port, 200).await, "paced", 50, 1_000).await;
    println!("subscribe with a hold, 1,000/s offered: {}", percentiles(times));
}

async fn acquire(url: &str) {
    let broker = Broker::start(url, &[]);
    let idle = broker.cpu();
    let (_clients, times, took) = take_holds(clients(broker.port, 400).await, "fast", 100, 0).await;
    let (rate, cpu) = (times.len() as f64 / took.as_secs_f64(), (broker.cpu() - idle).as_secs_f64() / times.len() as f64);
    println!("acquires, 400 connections, one at a time each: {rate:.0}/s, {:.0} µs of broker CPU each; {}", cpu * 1e6, percentiles(times));
}

async fn cut(url: &str) {
    let broker = Broker::start(url, &[]);
    let before = number(url, UNLOCKED).await;
    let (clients, ..) = take_holds(clients(broker.port, 9_000).await, "cut", 1, 3_000).await;
    let writes = async || number(url, "SELECT pg_current_xact_id()::text::bigint").await;
    let (first, seconds) = (writes().await, 10);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // The question takes a number of its own.
    let per_second = (writes().await - first - 1) as f64 / seconds as f64;
    println!("idle node with {} held connections: {per_second:.1} transactions that write per second", clients.len());
    let (count, cpu, since) = (clients.len() as i64, broker.cpu(), Instant::now());
    drop(clients);
    let took = until_unlocked(url, before + count, since).await;
    println!("{count} connections with holds cut at once: all unlocked after {took:.2?}, {:.2?} of broker CPU", broker.cpu() - cpu);
}

async fn death(url: &str) {
    let fast =
        [("HOLDLINE_STORE__LEASE", "3s"), ("HOLDLINE_STORE__HEARTBEAT_INTERVAL", "500ms"), ("HOLDLINE_STORE__SWEEP_INTERVAL", "300ms")];
    let (mut broker, _survivor) = (Broker::start(url, &fast), Broker::start(url, &fast));
    let before = number(url, UNLOCKED).await;
    let (clients, ..) = take_holds(clients(broker.port, 1_000).await, "death", 100, 0).await;
    let since = Instant::now();
    broker.process.kill().unwrap();
    let took = until_unlocked(url, before + clients.len() as i64 * 100, since).await;
    println!("a node with 100,000 holds killed, lease 3 s, heartbeat 0.5 s, sweep 0.3 s: all unlocked after {took:.2?}");
}

/// One publish after the other, each waited for by all of 500 subscribers: plain work must not notice what the database does.
async fn outage(server: &Postgres, url: &str) {
    let broker = Broker::start(url, &[]);
    let mut subscribers = clients(broker.port, 500).await;
    for client in &mut subscribers {
        client.subscribe("news").await;
        client.expect("subscription_succeeded").await;
    }
    let subscribers = Arc::new(tokio::sync::Mutex::new(subscribers));
    let mut figures = Vec::new();
    for state in ["up", "stopped", "up again"] {
        if state == "stopped" {
            server.signal("STOP");
            // Longer than the node needs to notice.
            tokio::time::sleep(Duration::from_secs(12)).await;
        }
        let (cpu, mut times) = (broker.cpu(), Vec::new());
        for _ in 0..200 {
            let started = Instant::now();
            let output = Command::new(env!("CARGO_BIN_EXE_holdline"))
                .args(["publish", "--url", &format!("http://127.0.0.1:{}", broker.port), "news", "e", "{}"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            for client in subscribers.lock().await.iter_mut() {
                client.expect("\"e\"").await;
            }
            times.push(started.elapsed());
        }
        let per_delivery = (broker.cpu() - cpu).as_secs_f64() / (200.0 * 500.0) * 1e6;
        println!("fan-out to 500, database {state}: {per_delivery:.1} µs of broker CPU per delivery; {}", percentiles(times));
        figures.push(per_delivery);
        if state == "stopped" {
            server.signal("CONT");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    println!("fan-out, database stopped : up = {:.2}", figures[1] / figures[0]);
}

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|argument| argument == name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Postgres::start(ServerOptions { settings: vec!["fsync=on".to_owned()], ..ServerOptions::default() });
    runtime.block_on(async {
        let database = async || server.url(&server.create_database().await, "postgres");
        if wanted("subscribe") {
            subscribe(&database().await).await;
        }
        if wanted("acquire") {
            acquire(&database().await).await;
        }
        if wanted("cut") {
            cut(&database().await).await;
        }
        if wanted("death") {
            death(&database().await).await;
        }
        if wanted("outage") {
            outage(&server, &database().await).await;
        }
    });
}
