//! What is in the store, read beside the scrapes: while somebody scrapes, every few seconds; otherwise not at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::rt;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use crate::lifecycle::{
    LockManager,
    store::{ConsumerRow, NodeRow, StoreCensus, StoreError},
};

/// The store is read no more often than this.
const EVERY: Duration = Duration::from_secs(5);
/// Nobody scrapes if nobody has for so long.
const IDLE_AFTER: Duration = Duration::from_secs(90);
/// Longest time that one look may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is older says nothing any more.
const TOO_OLD: Duration = Duration::from_secs(300);

/// The store at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    /// When it was read.
    pub(super) at: Instant,
    /// The last position of each shard.
    pub(super) head: Vec<i64>,
    /// All consumers, shard by shard.
    pub(super) consumers: Vec<ConsumerRow>,
    pub(super) census: StoreCensus,
    pub(super) nodes: Vec<NodeRow>,
}

/// Reads the store when it is asked for.
#[derive(Debug)]
pub(super) struct Sampler {
    shared: Arc<Shared>,
    task: rt::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    scraped_at: Mutex<Instant>,
    wanted: Notify,
    latest: Mutex<Option<Arc<Sample>>>,
    failures: AtomicU64,
}

impl Sampler {
    /// Starts on the runtime this is called on.
    pub(super) fn start(locks: LockManager) -> Self {
        let shared = Arc::new(Shared {
            scraped_at: Mutex::new(Instant::now().checked_sub(IDLE_AFTER).unwrap_or_else(Instant::now)),
            wanted: Notify::new(),
            latest: Mutex::default(),
            failures: AtomicU64::new(0),
        });
        let task = rt::spawn(run(Arc::clone(&shared), locks));
        Self { shared, task }
    }

    /// What is known by now. It waits for nothing: the answer to the first scrape comes with the second.
    pub(super) fn latest(&self) -> Option<Arc<Sample>> {
        *self.shared.scraped_at.lock() = Instant::now();
        self.shared.wanted.notify_one();
        self.shared.latest.lock().clone().filter(|sample| sample.at.elapsed() < TOO_OLD)
    }

    /// How often the store could not be read.
    pub(super) fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(shared: Arc<Shared>, locks: LockManager) {
    loop {
        while shared.scraped_at.lock().elapsed() >= IDLE_AFTER {
            shared.wanted.notified().await;
        }
        match timeout(PATIENCE, look(&locks)).await {
            Ok(Ok(sample)) => *shared.latest.lock() = Some(Arc::new(sample)),
            // Whoever scrapes sees it by the age of what is shown; the log says enough about a store that is away.
            failed => {
                shared.failures.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(timed_out = failed.is_err(), "The store cannot be read for the metrics");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(locks: &LockManager) -> Result<Sample, StoreError> {
    let (at, store) = (Instant::now(), locks.store());
    Ok(Sample {
        at,
        head: store.head().await?.positions().to_vec(),
        consumers: store.consumers().await?,
        census: store.census().await?,
        nodes: store.nodes().await?,
    })
}
