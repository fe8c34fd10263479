use std::net::SocketAddr;

use sqlx::{Connection, postgres::PgListener};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::lifecycle::{
    lane_queue::LaneLimits,
    lanes::Lanes,
    store::{
        BootId, CommitOp, EventKind, Naming, NewEvent, NewNode, OpId, PostgresOptions, PostgresStore, SqliteStore, StoreLimits,
        conformance::cluster,
    },
};

/// Longer than any test: what resolves sooner is a ring.
const NEVER: Duration = Duration::from_secs(60);
/// For a machine that is busy.
const SLACK: Duration = Duration::from_secs(10);
const QUICK: DoorbellSettings = DoorbellSettings {
    notify: true,
    poll: NEVER,
    quiet: Duration::from_millis(20),
    probe: Duration::from_millis(300),
    // Longer than a server that is busy needs for an answer: a line that is at rest stays.
    patience: Duration::from_secs(3),
};

/// A way to the server that can be cut.
struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Open,
    Fin,
    Reset,
    BlackHole,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = watch::Sender::new(Way::Open);
        let ways = line.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, ways.clone()));
            }
        });
        Self { address, line }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}?sslmode=disable", self.address)
    }

    fn set(&self, way: Way) {
        self.line.send_replace(way);
    }
}

async fn pass(mut client: TcpStream, mut ways: watch::Receiver<Way>) {
    if *ways.borrow_and_update() == Way::Open {
        let mut server = TcpStream::connect(cluster::Postgres::shared().address()).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = ways.changed() => {}
        }
        // The server learns nothing either: its side stays open as long as ours.
        end(client, ways).await;
        drop(server);
    } else {
        end(client, ways).await;
    }
}

async fn end(client: TcpStream, mut ways: watch::Receiver<Way>) {
    let way = *ways.borrow();
    match way {
        Way::Open | Way::Fin => {}
        Way::Reset => socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap(),
        Way::BlackHole => drop(ways.changed().await),
    }
}

/// A node that listens through the proxy, and another one.
struct Two {
    proxy: Proxy,
    url: String,
    doorbell: Doorbell,
    other: PostgresStore,
}

async fn two(settings: DoorbellSettings) -> Two {
    let (url, name) = cluster::fresh_database().await;
    let proxy = Proxy::start().await;
    let options = PostgresOptions { direct_url: Some(proxy.url(&name)), ..PostgresOptions::new(&url) };
    let store = Arc::new(PostgresStore::connect(options).await.unwrap());
    let other = PostgresStore::connect(PostgresOptions::new(&url)).await.unwrap();
    let doorbell = Doorbell::start(store, Arc::default(), settings);
    Two { proxy, url, doorbell, other }
}

impl Two {
    /// Rings at the other node until it is heard here; how long that took.
    async fn until_heard(&self, rings: &mut Rings) -> Duration {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(40) {
            quiet(rings).await;
            self.other.ring().await.unwrap();
            if timeout(Duration::from_millis(150), rings.rung()).await.is_ok() {
                return began.elapsed();
            }
        }
        panic!("the other node is not heard");
    }

    /// Sessions of this database that listen.
    async fn listening(&self, end: bool) -> Vec<i32> {
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        let sessions = sqlx::query_scalar(
            "SELECT pid FROM (SELECT pid, $1 AND pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
                AND pid <> pg_backend_pid() AND (query LIKE 'LISTEN%' OR query LIKE '%pg_listening_channels%')) sessions",
        );
        sessions.bind(end).fetch_all(&mut connection).await.unwrap()
    }
}

/// Waits until no ring comes.
async fn quiet(rings: &mut Rings) {
    while timeout(Duration::from_millis(300), rings.rung()).await.is_ok() {}
}

fn event_op() -> CommitOp {
    let event = NewEvent {
        kind: EventKind::Event,
        event_type: "Seen".to_owned(),
        key: "order:1".to_owned(),
        principal: None,
        payload: serde_json::Value::Null,
    };
    CommitOp { id: OpId::random(), socket_id: "1.1".to_owned(), app: "app".to_owned(), holds: Vec::new(), events: vec![event] }
}

#[tokio::test]
async fn a_write_of_this_node_wakes_its_readers() {
    let store: Arc<dyn LifecycleStore> = Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap());
    let lanes = Lanes::start(Arc::clone(&store), LaneLimits::default(), StoreLimits::default());
    let doorbell = Doorbell::start(Arc::clone(&store), Arc::clone(lanes.written()), QUICK);
    let (mut first, mut second) = (doorbell.subscribe(), doorbell.clone().subscribe());
    let node = NewNode { name: "n".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3), naming: Naming::Shared };
    lanes.write_as(store.register(&node).await.unwrap());
    lanes.commit(event_op()).await.unwrap();
    timeout(SLACK, first.rung()).await.unwrap();
    timeout(SLACK, second.rung()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), first.rung()).await.is_err(), "once");
    doorbell.ring();
    timeout(SLACK, first.rung()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_looks_after_the_interval_whatever_happens() {
    let store = Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap());
    let doorbell = Doorbell::start(store, Arc::default(), DoorbellSettings::default());
    let mut rings = doorbell.subscribe();
    let began = Instant::now();
    rings.rung().await;
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    drop(doorbell);
    let began = Instant::now();
    rings.rung().await;
    assert_eq!(began.elapsed(), Duration::from_secs(1), "without a doorbell");
}

#[tokio::test]
async fn other_nodes_are_heard_and_the_own_ring_wakes_once() {
    let two = two(DoorbellSettings { probe: NEVER, ..QUICK }).await;
    let mut rings = two.doorbell.subscribe();
    two.until_heard(&mut rings).await;
    quiet(&mut rings).await;
    let mut others = PgListener::connect(&two.url).await.unwrap();
    others.listen("holdline").await.unwrap();
    two.doorbell.ring();
    timeout(SLACK, rings.rung()).await.unwrap();
    timeout(SLACK, others.recv()).await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(200), rings.rung()).await.is_err(), "its echo is no news");
}

#[tokio::test]
async fn many_writes_are_few_rings_and_a_node_at_rest_is_silent() {
    let two = two(DoorbellSettings { quiet: Duration::from_millis(50), probe: Duration::from_millis(50), ..QUICK }).await;
    let mut rings = two.doorbell.subscribe();
    two.until_heard(&mut rings).await;
    quiet(&mut rings).await;
    let sessions = two.listening(false).await;
    let mut others = PgListener::connect(&two.url).await.unwrap();
    others.listen("holdline").await.unwrap();
    // Ten probes, which must not ring: a ring is a transaction that writes.
    assert!(timeout(Duration::from_millis(500), others.recv()).await.is_err());
    assert_eq!(two.listening(false).await.len(), sessions.len() + 1);
    let began = Instant::now();
    for _ in 0..100 {
        two.doorbell.ring();
        sleep(Duration::from_millis(2)).await;
    }
    let most = began.elapsed().as_millis() / 50 + 2;
    let mut heard = 0;
    while timeout(Duration::from_millis(200), others.recv()).await.is_ok() {
        heard += 1;
    }
    assert!((2..=most).contains(&heard), "{heard} rings, at most {most}");
}

#[tokio::test]
async fn without_notify_nothing_is_rung_nor_listened_to() {
    let two = two(DoorbellSettings { notify: false, ..QUICK }).await;
    let mut rings = two.doorbell.subscribe();
    two.doorbell.ring();
    timeout(SLACK, rings.rung()).await.unwrap();
    two.other.ring().await.unwrap();
    assert!(timeout(Duration::from_millis(300), rings.rung()).await.is_err());
    assert!(two.listening(false).await.is_empty());
}

/// Cuts the line; what is rung meanwhile is lost. The reader looks at once, or when the silence is noticed, and later hears again.
async fn cut(way: Option<Way>) {
    let two = two(QUICK).await;
    let mut rings = two.doorbell.subscribe();
    two.until_heard(&mut rings).await;
    // Long enough for several checks: a line that is at rest stays.
    let sessions = two.listening(false).await;
    sleep(QUICK.probe * 3).await;
    assert_eq!(two.listening(false).await, sessions);
    let mut polling = Rings { poll: Duration::from_millis(100), ..two.doorbell.subscribe() };
    quiet(&mut rings).await;

    let began = Instant::now();
    match way {
        Some(way) => two.proxy.set(way),
        None => assert_eq!(two.listening(true).await, sessions),
    }
    polling.rung().await;
    assert!(began.elapsed() < SLACK, "by polling: {:?}", began.elapsed());
    timeout(QUICK.patience + SLACK, rings.rung()).await.unwrap_or_else(|_| panic!("{way:?}: nobody noticed"));
    if way.is_some() {
        two.other.ring().await.unwrap();
        two.proxy.set(Way::Open);
    }
    let took = two.until_heard(&mut rings).await;
    // The longest: an attempt that began in the black hole, and a pause.
    assert!(took < QUICK.patience + Duration::from_millis(400) + SLACK, "{way:?}: listens again after {took:?}");
    assert!(two.listening(false).await.iter().any(|session| !sessions.contains(session)));
}

#[tokio::test]
async fn a_line_that_the_server_ends_is_opened_anew() {
    cut(None).await;
}

#[tokio::test]
async fn a_line_that_is_closed_is_opened_anew() {
    cut(Some(Way::Fin)).await;
}

#[tokio::test]
async fn a_line_that_is_reset_is_opened_anew() {
    cut(Some(Way::Reset)).await;
}

#[tokio::test]
async fn a_line_that_falls_silent_is_opened_anew() {
    cut(Some(Way::BlackHole)).await;
}
