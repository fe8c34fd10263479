//! Brokers on one database, what is done to them, and what must be true afterwards.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    audit,
    checker::{Allowed, Disturbance, Disturbed},
    driver::Driver,
    fleet::Spec,
    journal::{ClientId, Journal, Leave, What, now},
    ledger::{EventRow, Ledger, Sql},
    node::Node,
    plan::{Base, Plan},
};
use crate::support::{
    WAIT,
    postgres::Postgres,
    proxy::{Weather, runtime},
    until,
};

/// What a busy machine adds to any time.
pub(crate) const SLACK: Duration = Duration::from_millis(1_500);

/// Brokers on one database, with clients.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) journal: Journal,
    pub(crate) driver: Driver,
    pub(crate) sql: Sql,
    /// The server, if it is PostgreSQL and this cluster's own.
    postgres: Option<Postgres>,
    pub(crate) allowed: Mutex<Allowed>,
    pub(super) processes: Mutex<Vec<Arc<Driver>>>,
    watchers: Driver,
    pub(super) plain: HashSet<ClientId>,
    pub(super) disturbances: Mutex<Vec<Disturbance>>,
    next: AtomicU32,
    pub(super) longest_grace: Duration,
    pub(super) finished: bool,
}

/// From a moment in microseconds to an entry of the log.
pub(crate) fn after(event: &EventRow, from: i64) -> Duration {
    Duration::from_micros(u64::try_from(event.at - from).unwrap_or(0))
}

/// A client that was told that it holds something.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) client: ClientId,
    pub(crate) fence: i64,
    pub(crate) outcome: String,
}

impl Cluster {
    pub(crate) fn start(plan: Plan) -> Cluster {
        let postgres = match &plan.base {
            Base::Shared | Base::Sqlite => None,
            Base::Private(options) => Some(Postgres::start(options.clone())),
        };
        let server: Option<&Postgres> = match (&plan.base, &postgres) {
            (Base::Sqlite, _) => None,
            (_, Some(postgres)) => Some(postgres),
            _ => Some(Postgres::shared()),
        };
        let database = server.map(|server| (server, runtime().block_on(server.create_database())));
        let address = database.as_ref().map(|(server, _)| server.address());
        let url = |through| database.as_ref().map(|(server, name)| server.url_through(through, name)).unwrap_or_default();
        let nodes: Vec<Node> = (0..plan.nodes).map(|index| Node::new(index, &plan, address, url)).collect();
        let sql = match &database {
            Some((server, name)) => Sql::postgres(server.url(name, "postgres")),
            None => Sql::Sqlite(nodes[0].data_dir().join("holdline.sqlite")),
        };
        let journal = Journal::default();
        let mut cluster = Cluster {
            driver: Driver::here(&journal),
            watchers: Driver::here(&journal),
            nodes,
            journal,
            sql,
            postgres,
            allowed: Mutex::default(),
            processes: Mutex::default(),
            plain: HashSet::new(),
            disturbances: Mutex::default(),
            next: AtomicU32::new(1),
            longest_grace: plan.longest_grace,
            finished: false,
        };
        cluster.nodes[0].start();
        if cluster.sql.is_postgres() {
            audit::install(&cluster.sql);
        }
        for node in &cluster.nodes[1..] {
            node.start();
        }
        cluster.warm_up();
        cluster
    }

    /// One plain client each, and one hold that is taken and let go, so that what is counted has happened once.
    fn warm_up(&mut self) {
        for index in 0..self.nodes.len() {
            let channels = vec!["news".to_owned()];
            let brokers = self.nodes.iter().map(Node::address).collect();
            let spec = Spec { brokers, channels, ..self.spec(index, None) };
            let client = self.watchers.connect(Spec { comes_back: true, ..spec });
            self.plain.insert(client);
            self.journal.await_for(client, "a plain subscription", |seen| {
                seen.iter().any(|entry| matches!(entry.what, What::Subscribed { .. })).then_some(())
            });
            let user = format!("warm-{index}");
            let held = self.hold(index, &user, &format!("private-quick.{user}"));
            self.driver.leave(held.client, Leave::CloseFrame);
            self.unlocked(held.fence);
        }
        for node in &self.nodes {
            node.remember_footprint();
        }
    }

    /// A new client that starts at this broker.
    pub(crate) fn spec(&self, first: usize, user: Option<&str>) -> Spec {
        Spec {
            client: self.next.fetch_add(1, Ordering::Relaxed),
            brokers: self.nodes.iter().map(Node::front_address).collect(),
            first,
            user: user.map(str::to_owned),
            signs_in: false,
            channels: Vec::new(),
            comes_back: false,
            source: None,
        }
    }

    /// Connects a client; it is connected when this returns.
    pub(crate) fn client(&self, spec: Spec) -> ClientId {
        let client = self.driver.connect(spec);
        self.opened(client);
        client
    }

    pub(crate) fn opened(&self, client: ClientId) -> String {
        self.journal.await_for(client, "a connection", |seen| {
            seen.iter().find_map(|entry| match &entry.what {
                What::Opened { socket_id, .. } => Some(socket_id.clone()),
                _ => None,
            })
        })
    }

    /// A client of a user at a broker, which subscribes and must get the hold.
    pub(crate) fn hold(&self, first: usize, user: &str, channel: &str) -> Held {
        let client = self.driver.connect(Spec { channels: vec![channel.to_owned()], ..self.spec(first, Some(user)) });
        self.held(client, 1)
    }

    /// Waits until a client has been told for the `count`th time that it holds something.
    pub(crate) fn held(&self, client: ClientId, count: usize) -> Held {
        self.journal.await_for(client, "a hold", |seen| {
            let locked = seen.iter().filter_map(|entry| match &entry.what {
                What::Locked { fence: Some(fence), outcome, .. } => Some(Held { client, fence: *fence, outcome: outcome.clone() }),
                _ => None,
            });
            locked.into_iter().nth(count - 1)
        })
    }

    /// Waits until a client is refused; the type of the refusal.
    pub(crate) fn refused(&self, client: ClientId) -> (String, u64) {
        self.journal.await_for(client, "a refusal", |seen| {
            seen.iter().find_map(|entry| match &entry.what {
                What::Refused { kind, status, .. } => Some((kind.clone(), *status)),
                _ => None,
            })
        })
    }

    /// Waits until the connection of a client is over; the close code.
    pub(crate) fn ended(&self, client: ClientId) -> Option<u16> {
        self.journal.await_for(client, "the end of its connection", |seen| {
            seen.iter().find_map(|entry| match &entry.what {
                What::Ended { code } => Some(*code),
                _ => None,
            })
        })
    }

    /// Clients in a process of their own.
    pub(crate) fn process(&self) -> Arc<Driver> {
        let driver = Arc::new(Driver::process(&self.journal));
        self.processes.lock().expect("not poisoned").push(Arc::clone(&driver));
        driver
    }

    /// Waits for the end of a lock in the log.
    pub(crate) fn unlocked(&self, fence: i64) -> EventRow {
        self.unlocked_within(fence, WAIT)
    }

    pub(crate) fn unlocked_within(&self, fence: i64, limit: Duration) -> EventRow {
        let deadline = Instant::now() + limit;
        loop {
            // The database may be the one that is being hurt.
            let expression = format!("SELECT count(*) FROM {} WHERE fence = {fence} AND kind = 'unlocked'", self.table("event"));
            let count = self.sql.try_text(&format!("SELECT CAST(({expression}) AS text)"));
            if count.is_ok_and(|count| count.as_deref() == Some("1")) {
                return self.ledger().unlocked(fence).expect("it was there").clone();
            }
            assert!(
                Instant::now() < deadline,
                "fence {fence} is not unlocked after {limit:?}:\n{:#?}",
                self.sql.ledger().live().collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The server that is this cluster's own.
    pub(crate) fn postgres(&self) -> &Postgres {
        self.postgres.as_ref().expect("the plan has a private server")
    }

    pub(crate) fn table(&self, name: &str) -> String {
        if self.sql.is_postgres() { format!("holdline.{name}") } else { name.to_owned() }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.sql.ledger()
    }

    /// Waits until a resource has this story.
    pub(crate) fn story(&self, resource: &str, expected: &[&str]) {
        let told = |cluster: &Cluster| cluster.ledger().story(resource);
        let deadline = Instant::now() + WAIT;
        while told(self) != expected {
            assert!(Instant::now() < deadline, "{resource}: {:?}, not {expected:?}", told(self));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    // What is done to brokers. All of it is written down, since the checker must know it.

    fn disturb(&self, broker: usize, kind: Disturbed) {
        self.disturbances.lock().expect("not poisoned").push(Disturbance { broker, kind, from: now(), to: None });
    }

    fn calm(&self, broker: usize, kind: Disturbed) {
        let mut all = self.disturbances.lock().expect("not poisoned");
        let open = all.iter_mut().filter(|one| one.broker == broker && one.kind == kind && one.to.is_none());
        open.for_each(|one| one.to = Some(now()));
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, broker: usize) {
        self.disturb(broker, Disturbed::Killed);
        self.nodes[broker].kill();
    }

    /// Starts a broker that is not running, with its port and its data directory.
    pub(crate) fn restart(&self, broker: usize) {
        self.nodes[broker].start();
        self.calm(broker, Disturbed::Killed);
        self.calm(broker, Disturbed::Terminated);
    }

    /// The same where the database may not answer; false if it did not start.
    pub(crate) fn try_restart(&self, broker: usize) -> bool {
        let started = self.nodes[broker].try_start().is_ok();
        if started {
            self.calm(broker, Disturbed::Killed);
            self.calm(broker, Disturbed::Terminated);
        }
        started
    }

    /// SIGTERM, and waits for the end of the process, which must be a good one.
    pub(crate) fn terminate(&self, broker: usize) -> Duration {
        self.disturb(broker, Disturbed::Terminated);
        self.nodes[broker].terminate()
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self, broker: usize) {
        self.disturb(broker, Disturbed::Stopped);
        self.nodes[broker].signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self, broker: usize) {
        self.nodes[broker].signal("CONT");
        self.calm(broker, Disturbed::Stopped);
    }

    /// Between a broker and the database there is this weather now.
    pub(crate) fn cut_off(&self, broker: usize, weather: Weather) {
        self.disturb(broker, Disturbed::CutOff);
        self.nodes[broker].behind().set(weather);
    }

    /// The way to the database is clear again.
    pub(crate) fn heal(&self, broker: usize) {
        self.nodes[broker].behind().heal();
        self.calm(broker, Disturbed::CutOff);
    }

    /// Between a broker and its clients there is this weather now.
    pub(crate) fn hide(&self, broker: usize, weather: Weather) {
        self.disturb(broker, Disturbed::Unreachable);
        self.nodes[broker].front().set(weather);
    }

    /// The way to the clients is clear again.
    pub(crate) fn reach(&self, broker: usize) {
        self.nodes[broker].front().heal();
        self.calm(broker, Disturbed::Unreachable);
    }

    /// What the test will cause.
    pub(crate) fn allow(&self, change: impl FnOnce(&mut Allowed)) {
        change(&mut self.allowed.lock().expect("not poisoned"));
    }

    /// Waits until a broker's incarnation is in this state.
    pub(crate) fn node_state(&self, incarnation: i64, state: &str) {
        until(&format!("incarnation {incarnation} is {state}"), || {
            self.ledger().nodes.iter().any(|node| node.incarnation == incarnation && node.state == state)
        });
    }

    /// Where plain HTTP requests go.
    pub(crate) fn address(&self, broker: usize) -> SocketAddr {
        self.nodes[broker].address()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "a test of a cluster ends with finish()");
    }
}
