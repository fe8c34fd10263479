//! Why a server does not start, or stops before its time.

use std::{io, net::SocketAddr};

use super::{store::OpenError, tls::TlsError, unix_socket::UnixSocketError};
use crate::{
    config::Violation,
    lifecycle::{ListenerError, store::StoreError},
};

/// A start that failed, or a listener that gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Settings made in code break a rule.
    #[error("bad settings")]
    Settings(#[from] Violation),
    /// The log filter is no filter.
    #[error("log.level: `{filter}` is no log filter")]
    LogFilter {
        /// What was configured.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {host} port {port}")]
    Bind {
        /// The address.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address for the metrics cannot be listened on.
    #[error("metrics.bind: cannot listen on {address}")]
    BindMetrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The unix socket cannot be listened on.
    #[error("cannot listen on the unix socket {path}")]
    UnixSocket {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: UnixSocketError,
    },
    /// Certificate and key cannot be used.
    #[error("cannot speak TLS")]
    Tls(#[from] TlsError),
    /// Traces cannot be sent as they are configured.
    #[error("otlp.endpoint: {reason}")]
    Otlp {
        /// What is wrong.
        reason: String,
    },
    /// The store of locks and of the log cannot be used.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The store that is configured cannot be opened.
    #[error("cannot open the store")]
    OpenStore(#[from] OpenError),
    /// A listener of the configuration cannot work.
    #[error("listener {name}: {reason}")]
    Listener {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Listeners cannot be started together, or with this store.
    #[error(transparent)]
    Listeners(#[from] ListenerError),
    /// There are listeners, and no store: there is no log to hear.
    #[error("listener {name} has no log to hear: store.url is \"none\"")]
    NoLog {
        /// The first of them.
        name: String,
    },
    /// Signals cannot be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The listener ended with an error.
    #[error("the server failed")]
    Serve(#[source] io::Error),
}
