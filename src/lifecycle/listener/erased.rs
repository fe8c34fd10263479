//! Listeners without their types, so that a server can have any number of any kind.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::{Delivered, Endpoint, Listener, ListenerOptions, Retry, TransactionalListener};
use crate::lifecycle::store::StartAt;

/// A listener of any type.
#[derive(Clone)]
pub(crate) enum BoxedListener {
    /// At least once.
    Plain(Arc<dyn ErasedListener>),
    /// Its effect and its offset in one transaction.
    Transactional(Arc<dyn ErasedTransactional>),
    /// Webhooks, at least once.
    Endpoint(Arc<dyn Endpoint>),
}

impl BoxedListener {
    pub(crate) fn plain(listener: impl Listener) -> Self {
        Self::Plain(Arc::new(listener))
    }

    pub(crate) fn transactional(listener: impl TransactionalListener) -> Self {
        Self::Transactional(Arc::new(listener))
    }

    pub(crate) fn endpoint(endpoint: impl Endpoint + 'static) -> Self {
        Self::Endpoint(Arc::new(endpoint))
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Endpoint(endpoint) => endpoint.consumer(),
            Self::Plain(listener) => listener.erased_name(),
            Self::Transactional(listener) => listener.erased_name(),
        }
    }

    pub(crate) fn options(&self) -> ListenerOptions {
        match self {
            // What was there before it is not its business; the rest is in its own options.
            Self::Endpoint(_) => ListenerOptions { start_at: StartAt::End, ..ListenerOptions::default() },
            Self::Plain(listener) => listener.erased_options(),
            Self::Transactional(listener) => listener.erased_options(),
        }
    }
}

impl fmt::Debug for BoxedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxedListener").field(&self.name()).finish()
    }
}

/// [`Listener`] as a trait object.
pub(crate) trait ErasedListener: Send + Sync {
    fn erased_name(&self) -> &str;
    fn erased_options(&self) -> ListenerOptions;
    fn erased_handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<(), Retry>>;
}

impl<L: Listener> ErasedListener for L {
    fn erased_name(&self) -> &str {
        self.name()
    }

    fn erased_options(&self) -> ListenerOptions {
        self.options()
    }

    fn erased_handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<(), Retry>> {
        Box::pin(self.handle(event))
    }
}

/// [`TransactionalListener`] as a trait object.
pub(crate) trait ErasedTransactional: Send + Sync {
    fn erased_name(&self) -> &str;
    fn erased_options(&self) -> ListenerOptions;
    fn erased_prepare<'a>(&'a self, transaction: &'a mut PgConnection) -> BoxFuture<'a, Result<(), Retry>>;
    fn erased_handle<'a>(&'a self, transaction: &'a mut PgConnection, event: &'a Delivered) -> BoxFuture<'a, Result<(), Retry>>;
}

impl<L: TransactionalListener> ErasedTransactional for L {
    fn erased_name(&self) -> &str {
        self.name()
    }

    fn erased_options(&self) -> ListenerOptions {
        self.options()
    }

    fn erased_prepare<'a>(&'a self, transaction: &'a mut PgConnection) -> BoxFuture<'a, Result<(), Retry>> {
        Box::pin(self.prepare(transaction))
    }

    fn erased_handle<'a>(&'a self, transaction: &'a mut PgConnection, event: &'a Delivered) -> BoxFuture<'a, Result<(), Retry>> {
        Box::pin(self.handle(transaction, event))
    }
}
