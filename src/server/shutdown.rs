//! Leaving the stage: whoever is connected is sent elsewhere, and what is owed is done, before the listener closes.
//!
//! A WebSocket is a response that never ends, so a server that is just stopped waits out its whole time limit and then drops
//! whatever its connections had still to do. The order here: say no to newcomers, close the live ones one after the other, wait
//! for the sockets and for `on_close`; exit as soon as that is done.

use std::{
    future::pending,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::locks::Lifecycle;
use crate::{
    cluster::Broker,
    config::DrainSettings,
    domain::{CloseCause, Conn},
    lifecycle::Owed,
    protocol::CloseCode,
};

/// Closes are paced in steps of this.
const STEP: Duration = Duration::from_millis(20);
/// What a socket's last bytes need from our buffer to the kernel's.
const LAST_WRITE: Duration = Duration::from_millis(50);

/// The signals that ask for a stop. Those that come before they are waited for are kept.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Nothing where it means something else.
    hangup: Option<Signal>,
    /// A hangup is the terminal's, which was closed; otherwise it asks for a reload, and there is nothing to reload.
    on_terminal: bool,
}

impl Signals {
    /// `reloads`: somebody else listens for SIGHUP, and reloads something then.
    pub(super) fn listen(reloads: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: if reloads { None } else { Some(signal(SignalKind::hangup())?) },
            on_terminal: io::stdin().is_terminal(),
        })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        let Self { terminate, interrupt, hangup, on_terminal } = self;
        loop {
            let hung_up = async {
                match hangup {
                    Some(hangup) => hangup.recv().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => return "SIGTERM",
                _ = interrupt.recv() => return "SIGINT",
                _ = hung_up => {}
            }
            if *on_terminal {
                return "SIGHUP";
            }
            tracing::info!("Ignoring SIGHUP: there is no TLS certificate to read again, and settings change with a restart");
        }
    }
}

/// Sends every connection away with 4200, spread over `spread` so that they do not come back as one wave, and waits until they
/// are gone and closed, at most `grace` in all.
pub(super) async fn drain(broker: &Broker, settings: &DrainSettings, lifecycle: Option<&Lifecycle>, owed: &Owed) {
    let started = Instant::now();
    broker.start_draining();
    let had_sockets = broker.socket_count() > 0;
    let drained = async {
        if let Some(lifecycle) = lifecycle {
            lifecycle.drain().await;
        }
        close_all(broker, settings.spread.min(settings.grace)).await;
        while broker.socket_count() > 0 || broker.connection_count() > 0 {
            // Whoever was being admitted when the drain began was not among them; to close a second time does nothing.
            live_connections(broker).for_each(|conn| send_away(&conn));
            tokio::time::sleep(STEP).await;
        }
        owed.settled().await;
    };
    if tokio::time::timeout(settings.grace, drained).await.is_err() {
        let (sockets, grace) = (broker.socket_count(), settings.grace);
        tracing::warn!(sockets, "Giving up on {sockets} sockets that did not close within {grace:?}");
    } else if had_sockets {
        tokio::time::sleep(LAST_WRITE).await;
    }
    let took_ms = started.elapsed().as_millis() as u64;
    tracing::info!(took_ms, "Drained in {took_ms} ms");
}

fn live_connections(broker: &Broker) -> impl Iterator<Item = Conn> {
    broker.apps().into_iter().flat_map(|hub| hub.connections(None, usize::MAX))
}

fn send_away(conn: &Conn) {
    conn.fail(CloseCause::Shutdown, CloseCode::RECONNECT, "Please reconnect immediately");
}

async fn close_all(broker: &Broker, spread: Duration) {
    let live: Vec<Conn> = live_connections(broker).collect();
    let steps = (spread.as_millis() / STEP.as_millis()).max(1) as usize;
    let per_step = live.len().div_ceil(steps).max(1);
    let mut batches = live.chunks(per_step).peekable();
    while let Some(batch) = batches.next() {
        batch.iter().for_each(send_away);
        if batches.peek().is_some() {
            tokio::time::sleep(STEP).await;
        }
    }
}
