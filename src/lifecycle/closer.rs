//! Who runs `on_close`. It lives on the main runtime: a task spawned on a worker dies with the worker when the server stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tracing::Instrument;

use super::guarded;
use crate::domain::{Closing, Handler};

/// One ended connection: its context, and how it ended.
#[derive(Debug)]
pub(crate) struct CloseJob<C> {
    /// What the application knew about it.
    pub(crate) conn: C,
    /// How it ended.
    pub(crate) closing: Closing,
}

/// Takes ended connections, from any thread, without waiting. Cloning is a reference count.
#[derive(Debug)]
pub(crate) struct Closer<C> {
    jobs: mpsc::UnboundedSender<CloseJob<C>>,
    owed: Arc<Owed>,
}

/// The closes that were handed over and have not run yet.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    jobs: AtomicUsize,
    done: Notify,
}

impl<C> Clone for Closer<C> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), owed: Arc::clone(&self.owed) }
    }
}

impl<C: Send + 'static> Closer<C> {
    /// Starts the task that runs the hooks, on the runtime this is called on.
    pub(crate) fn start<H: Handler<Conn = C>>(handler: Arc<H>, hook_timeout: Duration) -> Self {
        // Unbounded, and bounded from outside: one job per connection that was admitted.
        let (jobs, mut inbox) = mpsc::unbounded_channel::<CloseJob<C>>();
        let owed = Arc::<Owed>::default();
        let closer = Self { jobs, owed: Arc::clone(&owed) };
        tokio::spawn(async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    job = inbox.recv() => {
                        let Some(job) = job else { break };
                        let handler = Arc::clone(&handler);
                        running.spawn(async move {
                            let (socket_id, app_id) = (job.closing.socket_id, Arc::clone(&job.closing.app_id));
                            let span = tracing::info_span!("hook", hook.name = "on_close", app.id = %app_id, socket.id = %socket_id);
                            let hook = async { handler.on_close(job.conn, job.closing).await };
                            let closed = guarded(hook_timeout, hook).instrument(span).await;
                            if let Err(failure) = closed {
                                tracing::error!(app.id = %app_id, socket.id = %socket_id, error = %failure, "on_close of connection {socket_id} failed: {failure}");
                            }
                        });
                    }
                    Some(_) = running.join_next() => owed.settle(),
                }
            }
            while running.join_next().await.is_some() {
                owed.settle();
            }
        });
        closer
    }

    /// Hands over an ended connection.
    pub(crate) fn submit(&self, job: CloseJob<C>) {
        self.owed.jobs.fetch_add(1, Ordering::SeqCst);
        if self.jobs.send(job).is_err() {
            // The main runtime is gone, and with it everybody who could care.
            self.owed.settle();
        }
    }

    /// What is owed, to wait for.
    pub(crate) fn owed(&self) -> Arc<Owed> {
        Arc::clone(&self.owed)
    }
}

impl Owed {
    /// Resolves when nothing is owed.
    pub(crate) async fn settled(&self) {
        loop {
            let done = self.done.notified();
            if self.jobs.load(Ordering::SeqCst) == 0 {
                return;
            }
            done.await;
        }
    }

    fn settle(&self) {
        if self.jobs.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.done.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::{
        domain::{CloseCause, Handshake, Outcome, Reject},
        protocol::SocketId,
    };

    struct Counting(AtomicU32);

    impl Handler for Counting {
        type Conn = bool;

        async fn on_handshake(&self, _request: &Handshake) -> Result<bool, Reject> {
            Ok(false)
        }

        async fn on_close(&self, panics: bool, _closing: Closing) -> Outcome {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.fetch_add(1, Ordering::SeqCst);
            assert!(!panics, "on purpose");
            Outcome::accept()
        }
    }

    fn closing() -> Closing {
        Closing {
            cause: CloseCause::Gone,
            code: None,
            socket_id: SocketId::from_random(7),
            app_id: "app-id".into(),
            remote_ip: None,
            channels: Vec::new(),
            connected_for: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn settled_waits_for_every_close_even_for_one_that_panics() {
        let handler = Arc::new(Counting(AtomicU32::new(0)));
        let closer = Closer::start(Arc::clone(&handler), Duration::from_secs(5));
        closer.owed().settled().await;
        for n in 0..100 {
            closer.submit(CloseJob { conn: n == 50, closing: closing() });
        }
        closer.owed().settled().await;
        assert_eq!(handler.0.load(Ordering::SeqCst), 100);
    }
}
