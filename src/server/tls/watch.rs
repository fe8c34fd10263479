//! Replaces the pair in use when its files change, or when SIGHUP asks for it.
//!
//! The files are compared by what stands in them: a link that is turned, a file that is renamed into place and one that is written over
//! look the same, and a clock that stands or jumps does not matter.

use std::{future::pending, sync::Arc, time::Duration};

use actix_web::rt::task::spawn_blocking;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use super::{
    InUse,
    certificate::{Contents, Files, Stamp, TlsError},
};
use crate::server::ServerError;

/// Whoever replaces two files does it one after the other: they are looked at again after so long, ...
const SETTLE: Duration = Duration::from_millis(250);
/// ... until they look the same twice, at most so many times.
const MAX_SETTLES: u32 = 8;

/// What the files were when they were looked at last: so that a broken pair is complained of once.
type Seen = Result<Stamp, String>;

/// Follows the files of the pair in use.
pub(super) struct Watch {
    files: Files,
    seen: Seen,
    in_use: Arc<InUse>,
    interval: Duration,
    hangup: Signal,
}

impl Watch {
    pub(super) fn new(files: Files, seen: Stamp, in_use: Arc<InUse>, interval: Duration) -> Result<Self, ServerError> {
        // From here on a SIGHUP no longer ends the process.
        let hangup = signal(SignalKind::hangup()).map_err(ServerError::Signals)?;
        Ok(Self { files, seen: Ok(seen), in_use, interval, hangup })
    }

    /// Goes on for ever.
    pub(super) async fn run(mut self) {
        loop {
            let pause = async {
                match self.interval {
                    Duration::ZERO => pending().await,
                    interval => sleep(interval).await,
                }
            };
            let asked = tokio::select! {
                _ = self.hangup.recv() => true,
                () = pause => false,
            };
            if asked {
                tracing::info!("Reading the TLS certificate again: got SIGHUP");
            }
            self.look(asked).await;
        }
    }

    /// Looks at the files once. Somebody who asks for it gets an answer, even if nothing has changed.
    async fn look(&mut self, asked: bool) {
        let mut contents = self.read().await;
        if !asked && seen(&contents) == self.seen {
            return;
        }
        for _ in 0..MAX_SETTLES {
            let before = seen(&contents);
            sleep(SETTLE).await;
            contents = self.read().await;
            if seen(&contents) == before {
                break;
            }
        }
        self.seen = seen(&contents);
        match contents.and_then(|contents| self.files.pair(&contents)) {
            Ok(pair) => {
                pair.leaf.say(&self.files);
                *self.in_use.0.write() = pair;
            }
            Err(error) => self.complain(&error),
        }
    }

    async fn read(&self) -> Result<Contents, TlsError> {
        let files = self.files.clone();
        // The disk may be far away.
        let read = spawn_blocking(move || files.read()).await;
        read.unwrap_or_else(|error| Err(TlsError::Unreadable { path: self.files.certificate.clone(), source: error.into() }))
    }

    fn complain(&self, error: &TlsError) {
        let Files { certificate, key } = &self.files;
        let until = &self.in_use.0.read().leaf.not_after;
        let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        tracing::error!(
            tls.certificate = %certificate.display(), tls.key = %key.display(), tls.not_after = until,
            "Keeping the TLS certificate in use, which is valid until {until}: {error}{cause}"
        );
    }
}

fn seen(contents: &Result<Contents, TlsError>) -> Seen {
    contents.as_ref().map(Contents::stamp).map_err(ToString::to_string)
}
