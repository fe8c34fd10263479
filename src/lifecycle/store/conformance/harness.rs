//! A store under test, and short words for what is done to it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::cluster;
use crate::lifecycle::store::{migrate, *};

/// The version of the schema that this program knows.
pub(super) const NEWEST: i64 = migrate::POSTGRES[migrate::POSTGRES.len() - 1].version;

pub(super) const LANE: Lane = Lane(0);

/// One case's store, with its first node.
pub(super) struct Case {
    pub(super) store: Arc<dyn LifecycleStore>,
    pub(super) node: Incarnation,
    pub(super) backdoor: Backdoor,
    /// Deleted with the case.
    #[expect(dead_code)]
    pub(super) place: Option<tempfile::TempDir>,
}

pub(super) enum Backdoor {
    Sqlite(Arc<SqliteStore>),
    Postgres(String),
}

impl Case {
    pub(super) async fn in_memory() -> Self {
        let store = Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap());
        // Through the stopwatch, which must not change anything.
        Self::new(Arc::new(MeasuredStore::new(store.clone())), Backdoor::Sqlite(store)).await
    }

    pub(super) async fn in_sqlite() -> Self {
        let place = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(place.path()).unwrap();
        let store = Arc::new(SqliteStore::open(directory, Migrations::Apply, StoreLimits::default()).await.unwrap());
        Self { place: Some(place), ..Self::new(store.clone(), Backdoor::Sqlite(store)).await }
    }

    pub(super) async fn in_postgres() -> Self {
        let (url, _) = cluster::fresh_database().await;
        let store = Arc::new(PostgresStore::connect(PostgresOptions::new(&url)).await.unwrap());
        Self::new(store, Backdoor::Postgres(url)).await
    }

    async fn new(store: Arc<dyn LifecycleStore>, backdoor: Backdoor) -> Self {
        let node = store.register(&new_node("node-1")).await.unwrap();
        Self { store, node, backdoor, place: None }
    }

    pub(super) fn shards(&self) -> u16 {
        self.store.shards()
    }

    /// Changes a table behind the store's back; `{now}` is the time in the form of the columns, in `{ms}` from now.
    pub(super) async fn tamper(&self, table: &str, set: &str, offset: Duration) {
        match &self.backdoor {
            Backdoor::Sqlite(store) => {
                let at = Timestamp::now().0 + offset.as_millis() as i64;
                store.run(format!("UPDATE {table} SET {}", set.replace("{time}", &at.to_string()))).await;
            }
            Backdoor::Postgres(url) => {
                let at = format!("clock_timestamp() + interval '{} ms'", offset.as_millis());
                cluster::run(url, format!("UPDATE holdline.{table} SET {}", set.replace("{time}", &at))).await;
            }
        }
    }

    /// One more node, alive beside the first. An embedded database has one process: there, the first is raised from the dead.
    pub(super) async fn another_node(&self, name: &str) -> Incarnation {
        let node = self.store.register(&new_node(name)).await.unwrap();
        if let Backdoor::Sqlite(store) = &self.backdoor {
            store.run("UPDATE node SET state = 'alive', fenced_at = NULL, fenced_by = NULL, end_cause = NULL".to_owned()).await;
        }
        node
    }

    /// Lets all delays of what is vacant run out, in their order.
    pub(super) async fn end_delays(&self) {
        let delay = match &self.backdoor {
            Backdoor::Sqlite(_) => "delay_ms",
            Backdoor::Postgres(_) => "delay_ms * interval '1 ms'",
        };
        self.tamper("occupancy", &format!("vacant_until = vacant_until - {delay} WHERE vacant_until IS NOT NULL"), Duration::ZERO).await;
    }

    pub(super) async fn commit(&self, op: &CommitOp) -> Answer {
        self.store.commit(LANE, self.node, std::slice::from_ref(op)).await.unwrap().remove(0)
    }

    /// Commits an op of one hold that is expected to be taken.
    pub(super) async fn take(&self, op: &CommitOp) -> Granted {
        match self.commit(op).await {
            Answer::Committed(mut granted) if granted.len() == 1 => granted.remove(0),
            other => panic!("not taken: {other:?}"),
        }
    }

    pub(super) async fn release(&self, op: &ReleaseOp) -> u64 {
        self.store.release(LANE, self.node, std::slice::from_ref(op)).await.unwrap()
    }

    /// Sweeps until nothing is due.
    pub(super) async fn sweep(&self) {
        for shard in self.store.due_shards().await.unwrap() {
            while let Swept::Done(1..) | Swept::Busy = self.store.sweep(self.node, shard, 100).await.unwrap() {}
        }
        self.store.finish_dead(self.node).await.unwrap();
    }

    pub(super) async fn log(&self) -> Vec<EventRow> {
        self.store.events_after(&Cursor::start(self.shards()), 100_000).await.unwrap().0
    }

    /// The log in short: `OrderLocked#1`, `OrderUnlocked#1(gone)`, in grace `OrderUnlocked#1(gone, after grace)`, `Saved`.
    pub(super) async fn story(&self) -> Vec<String> {
        let word = |event: EventRow| {
            let fence = event.fence.map(|fence| format!("#{fence}")).unwrap_or_default();
            let grace = if event.after_grace { ", after grace" } else { "" };
            let cause = event.cause.map(|cause| format!("({cause}{grace})")).unwrap_or_default();
            format!("{}{fence}{cause}", event.event_type)
        };
        self.log().await.into_iter().map(word).collect()
    }

    /// What the log of every shard must be, always.
    pub(super) async fn check(&self) {
        let mut last = vec![0; usize::from(self.shards())];
        for event in self.log().await {
            let last = &mut last[event.shard.0 as usize];
            assert_eq!(event.position, *last + 1, "positions are dense");
            *last = event.position;
            // A handler may emit one, too.
            let shard = match event.kind {
                EventKind::Webhook if event.socket_id.is_none() => Shard::of_webhooks(&event.app, self.shards()),
                _ => Shard::of(&event.app, &event.resource, self.shards()),
            };
            assert_eq!(event.shard, shard);
        }
        assert_eq!(self.store.head().await.unwrap(), Cursor::from_positions(last), "the head is the end");
    }
}

impl SqliteStore {
    pub(super) async fn run(&self, sql: String) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *self.writer_for_tests().await).await.unwrap();
    }
}

pub(super) fn new_node(name: &str) -> NewNode {
    NewNode { name: name.to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3), naming: Naming::Shared }
}

pub(super) fn hold(resource: &str, principal: &str) -> NewHold {
    NewHold {
        id: HoldId::random(),
        resource: resource.to_owned(),
        principal: principal.to_owned(),
        mode: Mode::Exclusive,
        if_taken: IfTaken::Deny,
        topic: "Order".to_owned(),
        context: json!({ "order_id": resource }),
        grace: Duration::ZERO,
    }
}

pub(super) fn op(socket_id: &str, holds: Vec<NewHold>) -> CommitOp {
    CommitOp { id: OpId::random(), socket_id: socket_id.to_owned(), app: "app".to_owned(), holds, events: Vec::new() }
}

/// An op of one hold, altered.
pub(super) fn one(resource: &str, principal: &str, alter: impl FnOnce(&mut NewHold)) -> CommitOp {
    let mut hold = hold(resource, principal);
    alter(&mut hold);
    op("1.1", vec![hold])
}

pub(super) fn event(name: &str, key: &str) -> NewEvent {
    NewEvent { kind: EventKind::Event, event_type: name.to_owned(), key: key.to_owned(), principal: None, payload: json!({ "name": name }) }
}

/// The end of all holds of an op.
pub(super) fn end(op: &CommitOp, ending: Ending, cause: CloseCause) -> ReleaseOp {
    ReleaseOp {
        id: OpId::random(),
        socket_id: op.socket_id.clone(),
        app: op.app.clone(),
        holds: op.holds.iter().map(|hold| (hold.id, hold.resource.clone())).collect(),
        events: Vec::new(),
        cause,
        ending,
        certainty: Certainty::Sure,
        detected_at: Instant::now().checked_sub(Duration::from_millis(7)),
    }
}

pub(super) fn gone(op: &CommitOp) -> ReleaseOp {
    end(op, Ending::Unclean, CloseCause::Gone)
}

pub(super) fn unsubscribed(op: &CommitOp) -> ReleaseOp {
    end(op, Ending::Clean, CloseCause::Unsubscribed)
}
