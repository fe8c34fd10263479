//! The end of a connection, carried out on a runtime that outlives every worker.
//!
//! Knows handlers and their outcomes; neither channels, actors nor which broker moves messages. Start with [`Closer`].

mod closer;
mod hook;

pub(crate) use closer::{CloseJob, Closer, Owed};
pub(crate) use hook::{HookFailure, guarded};
