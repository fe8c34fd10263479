//! A store with a history, written through the library as a node would, so that commands and APIs have something to show. The node
//! is never heard of again: a broker beside it would declare it dead after its lease, which is long.

use std::{path::Path, sync::Arc, time::Duration};

use holdline::store::{
    Answer, BootId, Certainty, CloseCause, CommitOp, DataDirectory, Ending, EventKind, Fence, HoldId, IfTaken, Incarnation, Lane,
    LifecycleStore, Migrations, Mode, Naming, NewEvent, NewHold, NewNode, OpId, PostgresOptions, PostgresStore, ReleaseOp, SqliteStore,
    StoreLimits,
};
use serde_json::{Value, json};

use super::{postgres, proxy::runtime};

/// An hour: nobody comes back, and nobody is released, during a test.
const LONG: Duration = Duration::from_secs(3_600);

/// A store, and a node that writes to it.
pub(crate) struct Stored {
    pub(crate) store: Arc<dyn LifecycleStore>,
    node: Incarnation,
}

/// A lock that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) fence: i64,
    hold: HoldId,
    app: String,
    resource: String,
    socket_id: String,
}

/// Waits for something asynchronous.
pub(crate) fn wait<T>(call: impl Future<Output = T>) -> T {
    runtime().block_on(call)
}

impl Stored {
    /// The embedded database in a data directory, which is locked until this is dropped.
    pub(crate) fn sqlite(data_dir: &Path) -> Stored {
        let directory = DataDirectory::open(data_dir).expect("a data directory");
        let store = wait(SqliteStore::open(directory, Migrations::Apply, StoreLimits::default())).expect("SQLite opens");
        Stored::new(Arc::new(store))
    }

    /// A database of its own on the shared server, and its url.
    pub(crate) fn postgres() -> (Stored, String) {
        let (url, _) = wait(postgres::fresh_database());
        (Stored::postgres_at(&url), url)
    }

    pub(crate) fn postgres_at(url: &str) -> Stored {
        Stored::new(Arc::new(wait(PostgresStore::connect(PostgresOptions::new(url))).expect("PostgreSQL opens")))
    }

    fn new(store: Arc<dyn LifecycleStore>) -> Stored {
        let node = NewNode { name: "historian".to_owned(), boot: BootId::random(), ttl: LONG, naming: Naming::Shared };
        let node = wait(store.register(&node)).expect("a node");
        Stored { store, node }
    }

    /// A connection takes a resource for `user:{user}`.
    pub(crate) fn take(&self, app: &str, resource: &str, user: u32, mode: Mode) -> Taken {
        let hold = NewHold {
            id: HoldId::random(),
            resource: resource.to_owned(),
            principal: format!("user:{user}"),
            mode,
            if_taken: IfTaken::Deny,
            topic: "Order".to_owned(),
            context: json!({ "resource": resource }),
            grace: LONG,
        };
        let (hold_id, socket_id) = (hold.id, format!("{user}.{user}"));
        let op = CommitOp { id: OpId::random(), socket_id: socket_id.clone(), app: app.to_owned(), holds: vec![hold], events: Vec::new() };
        let Answer::Committed(granted) = self.commit(op) else { panic!("{resource} of {app} is not free") };
        Taken { fence: granted[0].fence.0, hold: hold_id, app: app.to_owned(), resource: resource.to_owned(), socket_id }
    }

    pub(crate) fn hold(&self, app: &str, resource: &str, user: u32) -> Taken {
        self.take(app, resource, user, Mode::Exclusive)
    }

    /// An event that is no lock.
    pub(crate) fn emit(&self, app: &str, name: &str, key: &str, payload: Value) {
        let event = NewEvent { kind: EventKind::Event, event_type: name.to_owned(), key: key.to_owned(), principal: None, payload };
        let op = CommitOp { id: OpId::random(), socket_id: "1.1".to_owned(), app: app.to_owned(), holds: Vec::new(), events: vec![event] };
        assert!(matches!(self.commit(op), Answer::Committed(_)));
    }

    fn commit(&self, op: CommitOp) -> Answer {
        wait(self.store.commit(Lane(0), self.node, &[op])).expect("a commit").remove(0)
    }

    /// The connection goes away without a word: an hour of grace begins.
    pub(crate) fn lose(&self, taken: &Taken) {
        self.end(taken, Ending::Unclean, CloseCause::Gone);
    }

    /// The connection lets go: the lock is over.
    pub(crate) fn release(&self, taken: &Taken) {
        self.end(taken, Ending::Clean, CloseCause::Unsubscribed);
    }

    fn end(&self, taken: &Taken, ending: Ending, cause: CloseCause) {
        let op = ReleaseOp {
            id: OpId::random(),
            socket_id: taken.socket_id.clone(),
            app: taken.app.clone(),
            holds: vec![(taken.hold, taken.resource.clone())],
            events: Vec::new(),
            cause,
            ending,
            certainty: Certainty::Sure,
            detected_at: None,
        };
        wait(self.store.release(Lane(0), self.node, &[op])).expect("a release");
    }

    /// The state of a lock, as a word.
    pub(crate) fn state(&self, fence: i64) -> &'static str {
        wait(self.store.lock(Fence(fence))).expect("a read").expect("a lock").state.as_str()
    }
}
