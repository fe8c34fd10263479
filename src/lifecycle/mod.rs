//! The end of a connection, carried out on a runtime that outlives every worker; and the store of what outlives the process too.
//!
//! Knows handlers and their outcomes; neither channels, actors nor which broker moves messages. Start with [`Handover`] (from a connection's
//! worker to the publisher), then [`LockManager`], [`Node`] (what runs beside the connections) and [`store::LifecycleStore`].

mod deliveries;
mod dispatcher;
mod doorbell;
mod due;
#[cfg(test)]
mod fake_store;
mod handover;
mod hold_table;
mod hook;
mod idempotency;
mod lane_queue;
mod lane_suspects;
mod lanes;
mod listener;
mod listeners;
mod lock;
mod lock_manager;
mod node;
mod observer;
mod queries;
mod record_queue;
mod recorder;
mod stats;
pub mod store;
mod tail;
mod upkeep;
mod webhook;

pub(crate) use deliveries::{About, Among, DeadId, DeadLetter, Deliveries, EndpointInfo, EndpointState, dead_letters, endpoint_states};
pub use dispatcher::ListenerError;
pub(crate) use dispatcher::{Dispatcher, DispatcherParts, DispatcherSettings, take_places};
pub(crate) use doorbell::{DoorbellSettings, Rings};
pub(crate) use handover::{CloseJob, Handover, Job, LettingGo, Owed, Publishing, Which};
pub(crate) use hold_table::{News, Notice, Place, Taken};
pub(crate) use hook::{HookFailure, HookStats, guarded};
pub(crate) use idempotency::{Attempt, Idempotency, Keyed, KeyedRequest};
pub(crate) use listener::{Batching, BoxedListener, EndpointOptions, endpoint_of};
pub use listener::{Delivered, EventFilter, EventId, Listener, ListenerOptions, Retry, TransactionalListener};
pub(crate) use listeners::{
    broadcast::{Broadcast, TemplateError},
    http::{HttpDelivery, HttpDeliverySettings},
    orders::OrdersListener,
    post::PostSettings,
    signers::{Signer, Signers},
    webhook::{WebhookEndpoint, WebhookEndpointSettings},
};
pub use lock_manager::LockManager;
pub(crate) use lock_manager::{Asking, LockSettings, NotTaken, Notices};
pub(crate) use node::Node;
pub(crate) use queries::{ForcedRelease, answer_of};
pub(crate) use recorder::{Recorder, RecorderSettings, WatchedApp};
pub(crate) use stats::{LaneStats, LockStats, PostStats};
pub(crate) use tail::Reader;
