//! Publishes that are done once however often they are asked for: the key of each is claimed in the store before anything is delivered, and
//! its answer is kept there.
//!
//! A node that has a claim and ends before it has said what became of it may have published: the next attempt takes over and publishes,
//! perhaps once more. That is the one window in which a key is at least once, not exactly once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OnceCell, watch};

use super::{
    queries::answer_of,
    store::{BootId, Incarnation, KeyClaim, KeyVerdict, LifecycleStore, Naming, NewNode, OpId, SqliteStore, StoreError, StoreLimits},
};

/// How long one attempt may be at work: much longer than it takes, and no longer than a publisher should be told to come again.
const WORK: Duration = Duration::from_secs(10);
/// An attempt that was told so late that it may publish does not: somebody may be about to take over.
const LATE: Duration = Duration::from_secs(5);
/// Keys whose time is over that are deleted at once.
const FORGET_AT_ONCE: u32 = 5_000;
/// How long after a failure an answer is written again.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

/// The keys of a node. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Idempotency {
    place: Arc<Place>,
    at_work: watch::Sender<usize>,
    closed: Arc<AtomicBool>,
}

enum Place {
    /// In the store of this node.
    OfNode { store: Arc<dyn LifecycleStore>, node: watch::Receiver<Option<Incarnation>> },
    /// In memory, for a broker without a store; made when the first key comes.
    OfProcess(OnceCell<Own>),
}

#[derive(Clone)]
struct Own {
    store: Arc<dyn LifecycleStore>,
    node: Incarnation,
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("of_node", &matches!(*self.place, Place::OfNode { .. })).finish()
    }
}

/// A publish that carries a key.
#[derive(Clone, Debug)]
pub(crate) struct KeyedRequest {
    /// The application's id.
    pub(crate) app: String,
    /// The key.
    pub(crate) key: String,
    /// What the same request has again, and no other has.
    pub(crate) fingerprint: [u8; 32],
    /// How long it is remembered.
    pub(crate) keep: Duration,
}

/// What is to be done about it.
#[derive(Debug)]
pub(crate) enum Keyed {
    /// Publish, then tell the attempt.
    Publish(Attempt),
    /// It was published, and this was answered.
    Replay(String),
    /// Another attempt is at it.
    AtWork,
    /// The key belongs to another request.
    Mismatch,
}

/// The right to publish.
#[must_use = "what became of the publish has to be said"]
#[derive(Debug)]
pub(crate) struct Attempt {
    store: Arc<dyn LifecycleStore>,
    claim: KeyClaim,
    /// Whether an earlier attempt may have published.
    pub(crate) taken_over: bool,
    _at_work: AtWork,
}

/// Counts an attempt for as long as it lives.
#[derive(Debug)]
struct AtWork(watch::Sender<usize>);

impl AtWork {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Idempotency {
    /// Keys in the store of a node.
    pub(crate) fn of_node(store: Arc<dyn LifecycleStore>, node: watch::Receiver<Option<Incarnation>>) -> Self {
        Self::at(Place::OfNode { store, node })
    }

    /// Keys in memory.
    pub(crate) fn of_process() -> Self {
        Self::at(Place::OfProcess(OnceCell::new()))
    }

    fn at(place: Place) -> Self {
        Self { place: Arc::new(place), at_work: watch::Sender::new(0), closed: Arc::default() }
    }

    /// Lets no more attempts begin, and waits for those at work. To be called before the node signs off: from then on others would take over
    /// what it is just at.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // The sender is ours: there is always an answer.
        let _ = self.at_work.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Claims the key of a publish.
    ///
    /// # Errors
    /// [`StoreError`]; nothing may be published then: whether it was before is not known.
    pub(crate) async fn claim(&self, asked: KeyedRequest) -> Result<Keyed, StoreError> {
        let (began, at_work) = (Instant::now(), AtWork::new(&self.at_work));
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Fenced);
        }
        let Own { store, node } = self.place().await?;
        let KeyedRequest { app, key, fingerprint, keep } = asked;
        let claim = KeyClaim { app, key, fingerprint, attempt: OpId::random(), keep, work: WORK };
        let verdict = match answer_of(store.claim_key(node, &claim)).await {
            Ok(_) if began.elapsed() > LATE => Err(StoreError::TimedOut(LATE)),
            answer => answer,
        };
        let attempt = |taken_over| Attempt { store, claim, taken_over, _at_work: at_work };
        Ok(match verdict {
            Ok(KeyVerdict::Claimed) => Keyed::Publish(attempt(false)),
            Ok(KeyVerdict::TakenOver) => Keyed::Publish(attempt(true)),
            Ok(KeyVerdict::Answered(answer)) => Keyed::Replay(answer),
            Ok(KeyVerdict::AtWork) => Keyed::AtWork,
            Ok(KeyVerdict::Mismatch) => Keyed::Mismatch,
            Err(error) => {
                // It may have been written all the same, and would keep the key from the next attempt. Nobody has to wait for that.
                tokio::spawn(attempt(false).give_back());
                return Err(error);
            }
        })
    }

    async fn place(&self) -> Result<Own, StoreError> {
        match &*self.place {
            Place::OfNode { store, node } => {
                let node = (*node.borrow()).ok_or(StoreError::Fenced)?;
                Ok(Own { store: Arc::clone(store), node })
            }
            Place::OfProcess(own) => own.get_or_try_init(Own::open).await.cloned(),
        }
    }
}

impl Own {
    async fn open() -> Result<Self, StoreError> {
        let store = SqliteStore::in_memory(StoreLimits::default()).await?;
        let itself = NewNode { name: "process".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(3), naming: Naming::Unique };
        let node = store.register(&itself).await?;
        Ok(Self { store: Arc::new(store), node })
    }
}

/// Deletes the keys whose time is over.
pub(super) async fn forget(store: &dyn LifecycleStore) {
    while store.forget_keys(FORGET_AT_ONCE).await.is_ok_and(|forgotten| forgotten >= u64::from(FORGET_AT_ONCE)) {}
}

impl Attempt {
    /// It was published, and this is the answer.
    ///
    /// # Errors
    /// [`Unwritten`]: the publisher may hear it, and the store has to.
    pub(crate) async fn published(self, answer: &str) -> Result<(), Unwritten> {
        let since = Instant::now();
        answer_of(self.store.answer_key(&self.claim, answer)).await.map(drop).map_err(|error| Unwritten { attempt: self, since, error })
    }

    /// Nothing was published: the key is free again. If the store does not answer, it is free when the time of the attempt is over.
    pub(crate) async fn give_back(self) {
        let Self { store, claim, _at_work, .. } = self;
        if let Err(error) = answer_of(store.give_back_key(&claim)).await {
            tracing::debug!(app.id = claim.app, error = %error, "A key stays claimed for some seconds: {error}");
        }
    }
}

/// A publish that was done and whose answer the store did not take.
#[must_use = "it has to be written"]
#[derive(Debug)]
pub(crate) struct Unwritten {
    attempt: Attempt,
    since: Instant,
    error: StoreError,
}

impl Unwritten {
    /// Writes the answer again and again, as long as no other attempt may publish.
    pub(crate) async fn insist(self, answer: String) {
        let Self { attempt: Attempt { store, claim, _at_work, .. }, since, mut error } = self;
        while error.is_retryable() && since.elapsed() < WORK {
            tokio::time::sleep(WRITE_AGAIN).await;
            match answer_of(store.answer_key(&claim, &answer)).await {
                Ok(_) => return,
                Err(again) => error = again,
            }
        }
        tracing::warn!(
            app.id = claim.app,
            error = %error,
            "A publish of app {} was done, and the store does not know it: sent again with its Idempotency-Key it is done again", claim.app
        );
    }
}
