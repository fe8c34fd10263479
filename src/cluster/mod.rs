//! The broker as a whole: applications, their live state, and what a node tells the others. Knows neither HTTP nor actors.
//!
//! This release runs on one node: a publish is a function call. Start with [`Broker`].

mod broker;
mod notices;
mod publication;
mod served;

pub use broker::{Admission, Broker, NotAdmitted, SocketGuard};
pub use publication::{NewPublication, Publication, PublishError};
