//! The end of a connection, carried out on a runtime that outlives every worker; and the store of what outlives the process too.
//!
//! Knows handlers and their outcomes; neither channels, actors nor which broker moves messages. Start with [`Closer`], and with
//! [`store::LifecycleStore`].

mod closer;
mod hook;
mod lane_queue;
#[cfg_attr(not(test), expect(dead_code, reason = "the publisher will drive it"))]
mod lanes;
mod lock;
mod lock_manager;
#[cfg_attr(not(test), expect(dead_code, reason = "the publisher will drive it"))]
mod observer;
pub mod store;

pub(crate) use closer::{CloseJob, Closer, Owed};
pub use lock_manager::LockManager;
pub(crate) use hook::{HookFailure, guarded};
