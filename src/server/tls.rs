//! TLS on our own port: a certificate and its key, read at the start, and again whenever they change.
//!
//! `certificate.rs` makes a pair of two files, `watch.rs` replaces the one in use. A connection keeps what it was opened with.

mod certificate;
mod watch;

use std::{sync::Arc, time::SystemTime};

use actix_web::rt;
use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

pub use certificate::TlsError;

use self::{
    certificate::{Files, Leaf, Pair},
    watch::Watch,
};
use super::ServerError;
use crate::config::TlsSettings;

/// The pair that new connections get.
#[derive(Debug)]
pub(super) struct InUse(RwLock<Pair>);

impl InUse {
    /// The last moment at which its certificate is valid.
    pub(super) fn ends(&self) -> SystemTime {
        self.0.read().leaf.ends
    }
}

impl ResolvesServerCert for InUse {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().key))
    }
}

/// TLS as it is configured, with a pair that fits.
pub(super) struct Tls {
    /// For each listener.
    pub(super) config: ServerConfig,
    pub(super) in_use: Arc<InUse>,
    watch: Watch,
}

impl Tls {
    /// Reads the files; `None` when there is no TLS.
    ///
    /// # Errors
    /// [`TlsError`] when there is no pair in them, and [`ServerError::Signals`].
    pub(super) fn start(settings: &TlsSettings) -> Result<Option<Self>, ServerError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let files = Files::of(settings);
        let contents = files.read()?;
        let pair = files.pair(&contents)?;
        pair.leaf.say(&files);
        let in_use = Arc::new(InUse(RwLock::new(pair)));
        let watch = Watch::new(files, contents.stamp(), Arc::clone(&in_use), settings.reload_interval)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Versions { source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&in_use) as Arc<dyn ResolvesServerCert>);
        // Not HTTP/2: a WebSocket could not be opened there.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { config, in_use, watch }))
    }

    /// Follows the files from now on.
    pub(super) fn watch(self) -> rt::task::JoinHandle<()> {
        rt::spawn(self.watch.run())
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whom it is for.
    pub(crate) names: Vec<String>,
    /// Its last moment, and how it is written.
    pub(crate) ends: (SystemTime, String),
    /// Why clients may refuse it today.
    pub(crate) doubt: Option<String>,
}

/// Reads the files as a start would; `None` when there is no TLS.
///
/// # Errors
/// As for a start.
pub(crate) fn look(settings: &TlsSettings) -> Result<Option<Seen>, TlsError> {
    if !settings.is_on() {
        return Ok(None);
    }
    let files = Files::of(settings);
    let Leaf { names, not_after, ends, doubt } = files.pair(&files.read()?)?.leaf;
    Ok(Some(Seen { names, ends: (ends, not_after), doubt }))
}

/// Whether the files would do. What should be said about them, if anything.
///
/// # Errors
/// As for a start.
pub(crate) fn check(settings: &TlsSettings) -> Result<Option<String>, TlsError> {
    Ok(look(settings)?.and_then(|seen| seen.doubt))
}
