//! Wakes whoever reads the log on this node: after this node's writes, after those of other nodes, and now and then in any case.
//!
//! A ring carries nothing and may get lost; the log is what counts, and a reader looks there after every ring and at the latest after
//! the poll interval. So a doorbell that is out of order costs a second, never an entry.
//!
//! The line to the other nodes is watched, because a lost one makes no sound: whatever is not a ring means "look now, connect anew",
//! and a line that has been silent for [`probe`](DoorbellSettings::probe) is asked whether it still listens. That is a read, so a node
//! at rest writes nothing. Once, when it begins to listen, it rings itself and waits for that: what cannot hear itself, such as LISTEN
//! through a transaction pooler, hears nobody.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::store::{Bell, LifecycleStore, Ring, StoreError};

/// How often things happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DoorbellSettings {
    /// Whether to ring and to listen over the database. Otherwise other nodes' writes are seen by polling.
    pub(crate) notify: bool,
    /// How long a reader waits for a ring.
    pub(crate) poll: Duration,
    /// The shortest time between two rings.
    pub(crate) quiet: Duration,
    /// How long the line to the other nodes may be silent before it is asked.
    pub(crate) probe: Duration,
    /// When a line that does not answer is given up, counted from its last sign of life; longer than `probe`.
    pub(crate) patience: Duration,
}

impl Default for DoorbellSettings {
    fn default() -> Self {
        Self {
            notify: true,
            poll: Duration::from_secs(1),
            quiet: Duration::from_millis(20),
            probe: Duration::from_secs(10),
            patience: Duration::from_secs(15),
        }
    }
}

/// Rings for the readers of a node. Cloning is a reference count; the tasks end with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    #[cfg(test)]
    written: Arc<Notify>,
    rings: Arc<watch::Sender<()>>,
    settings: DoorbellSettings,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Doorbell {
    /// Starts the tasks on the runtime this is called on. `written` is woken after every write of this node.
    pub(crate) fn start(store: Arc<dyn LifecycleStore>, written: Arc<Notify>, settings: DoorbellSettings) -> Self {
        let (rings, _) = watch::channel(());
        let (rings, outside) = (Arc::new(rings), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(ring_inside(Arc::clone(&written), Arc::clone(&rings), settings.notify.then(|| Arc::clone(&outside)), settings.quiet));
        if settings.notify {
            tasks.spawn(ring_outside(Arc::clone(&store), Arc::clone(&outside), settings.quiet));
            tasks.spawn(Line { store, rings: Arc::clone(&rings), outside, settings }.keep());
        }
        Self(Arc::new(Inner {
            #[cfg(test)]
            written,
            rings,
            settings,
            _tasks: tasks,
        }))
    }

    /// Rings, here and on the other nodes.
    #[cfg(test)]
    pub(crate) fn ring(&self) {
        self.0.written.notify_one();
    }

    /// A reader's own ear. Rings from now on are kept for it.
    pub(crate) fn subscribe(&self) -> Rings {
        Rings { heard: self.0.rings.subscribe(), poll: self.0.settings.poll }
    }
}

/// What one reader hears. Look at the log first, wait then.
#[derive(Debug)]
pub(crate) struct Rings {
    heard: watch::Receiver<()>,
    poll: Duration,
}

impl Rings {
    /// Resolves after a ring, or after the poll interval. Any number of rings since the last time are one.
    pub(crate) async fn rung(&mut self) {
        let ring = async {
            if self.heard.changed().await.is_err() {
                // The doorbell is gone: only the time is left.
                std::future::pending::<()>().await;
            }
        };
        let _ring_or_time = timeout(self.poll, ring).await;
    }
}

/// This node's readers, and whoever rings for the others.
async fn ring_inside(written: Arc<Notify>, rings: Arc<watch::Sender<()>>, outside: Option<Arc<Notify>>, quiet: Duration) {
    loop {
        written.notified().await;
        rings.send_replace(());
        if let Some(outside) = &outside {
            outside.notify_one();
        }
        sleep(quiet).await;
    }
}

/// The other nodes. A task of its own: a database that does not answer must not keep this node's readers waiting.
async fn ring_outside(store: Arc<dyn LifecycleStore>, outside: Arc<Notify>, quiet: Duration) {
    loop {
        outside.notified().await;
        if let Err(error) = store.ring().await {
            // Whoever waits for it polls.
            tracing::debug!(error = %error, "A ring for the other nodes is lost: {error}");
        }
        sleep(quiet).await;
    }
}

/// Pauses between attempts to listen.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The line on which other nodes are heard.
struct Line {
    store: Arc<dyn LifecycleStore>,
    rings: Arc<watch::Sender<()>>,
    outside: Arc<Notify>,
    settings: DoorbellSettings,
}

/// Why a line is given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("its own ring did not come back within {0:?}: does direct_url go through a transaction pooler?")]
    Deaf(Duration),
    #[error("the session does not listen any more")]
    Unlistened,
}

impl Line {
    /// Listens for as long as there is somebody to listen to.
    async fn keep(self) {
        let (mut pause, mut complained) = (FIRST_PAUSE, false);
        loop {
            let began = Instant::now();
            let lost = match timeout(self.settings.patience, self.store.listen()).await {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(bell))) => {
                    complained = false;
                    self.hear(bell).await
                }
                Ok(Err(error)) => error.into(),
                Err(_elapsed) => Lost::Silent(self.settings.patience),
            };
            self.rings.send_replace(());
            if began.elapsed() >= self.settings.patience {
                pause = FIRST_PAUSE;
            }
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(error = %lost, "The line to the other nodes is opened anew; until then this node polls: {lost}");
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Passes rings on until the line is lost.
    async fn hear(&self, mut bell: Box<dyn Bell>) -> Lost {
        let DoorbellSettings { probe, patience, .. } = self.settings;
        // What was rung before there was an ear.
        self.rings.send_replace(());
        self.outside.notify_one();
        let mut proof = Some(Instant::now() + patience);
        let mut ask_at = Instant::now() + probe;
        loop {
            tokio::select! {
                heard = bell.heard() => match heard {
                    Ok(Ring::Own) => proof = None,
                    Ok(Ring::Other) => { self.rings.send_replace(()); }
                    Err(error) => return error.into(),
                },
                () = sleep_until(proof.unwrap_or(ask_at)), if proof.is_some() => return Lost::Deaf(patience),
                () = sleep_until(ask_at) => match timeout(patience.saturating_sub(probe), bell.check()).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => return Lost::Unlistened,
                    Ok(Err(error)) => return error.into(),
                    Err(_elapsed) => return Lost::Silent(patience),
                },
            }
            ask_at = Instant::now() + probe;
        }
    }
}

#[cfg(test)]
#[path = "doorbell_tests.rs"]
mod tests;
