//! How nodes wake each other's readers of the log. A ring only says "look": what there is to see is in the log, and a reader that hears
//! nothing looks now and then by itself.

use std::fmt;

use super::StoreFuture;

/// A session that hears the rings of all nodes.
pub trait Bell: Send + fmt::Debug {
    /// Resolves at the next ring. May be dropped and called again; nothing is lost by that.
    ///
    /// An error means that rings may have been missed, and that this bell is of no more use.
    fn heard(&mut self) -> StoreFuture<'_, Ring>;

    /// Whether the session still stands and listens: a read on its own line. Never resolves on a line that is cut without a word.
    fn check(&mut self) -> StoreFuture<'_, bool>;
}

/// Who rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// This store's own [`ring`](super::LifecycleStore::ring).
    Own,
    /// Somebody else.
    Other,
}
