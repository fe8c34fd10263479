//! Who is on which channel, as far as webhooks tell of it: what a node asks a store to record.
//!
//! A channel, or a member of one, is occupied while at least one living incarnation says so. The store decides over all nodes what is
//! the first and what the last, appends the entry that follows, and waits with the last: who comes back within the delay was never gone.

use std::time::Duration;

use serde_json::Value;

/// What one node saw on the channels of one app, in the order it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Sightings {
    /// The application's id.
    pub app: String,
    /// Rises with each batch of an incarnation, over all apps: a batch that is not above the last one recorded changes nothing.
    pub number: i64,
    /// How long a channel or a member may be away before it counts as gone; zero is at once.
    pub delay: Duration,
    /// What was seen.
    pub seen: Vec<Sighting>,
}

/// One thing that a node saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Sighting {
    /// The channel has its first subscriber on this node, or the member its first connection.
    Present {
        /// The channel.
        channel: String,
        /// The member's user id; `None` is the channel itself.
        member: Option<String>,
    },
    /// The last one of this node is gone.
    Absent {
        /// The channel.
        channel: String,
        /// The member's user id; `None` is the channel itself.
        member: Option<String>,
    },
    /// Something that only happens, such as a client event.
    Event {
        /// Its name, such as `client_event`.
        name: String,
        /// The channel.
        channel: String,
        /// The fields of the webhook besides `name` and `channel`.
        payload: Value,
    },
}
