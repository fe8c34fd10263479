//! The node's side of the locks: takes what connections ask for to the store, remembers what they hold, and lets go at their end.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    lanes::Lanes,
    store::{CloseCause, Fence, Incarnation, LifecycleStore, StoreError},
};

/// The locks of a node. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct LockManager(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn LifecycleStore>,
    lanes: Lanes,
    node: watch::Receiver<Option<Incarnation>>,
}

impl LockManager {
    /// Where the locks and the log are.
    pub fn store(&self) -> &Arc<dyn LifecycleStore> {
        &self.0.store
    }

    /// This process's incarnation; `None` before it is registered and while it is fenced.
    pub fn incarnation(&self) -> Option<Incarnation> {
        *self.0.node.borrow()
    }

    /// Whether a hold would be granted now, as far as this node knows.
    pub fn is_available(&self) -> bool {
        self.incarnation().is_some()
    }

    /// Ends one lock, whoever holds it. False if there is none of this fence, or it is over.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Fenced`] also while this node is not registered.
    pub async fn force_release(&self, fence: Fence) -> Result<bool, StoreError> {
        let by = self.incarnation().ok_or(StoreError::Fenced)?;
        self.0.store.force_release(by, fence, CloseCause::ForceReleased).await
    }
}
