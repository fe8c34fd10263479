//! Who is on which channel, as far as webhooks tell of it: what a node asks a store to record.
//!
//! A channel, or a member of one, is occupied while at least one living incarnation says so. The store decides over all nodes what is
//! the first and what the last, appends the entry that follows, and waits with the last: who comes back within the delay was never gone.

use std::time::Duration;

use serde_json::Value;

use super::{InvalidOp, ops};

/// Of an application's id and an event's name, bytes.
const MAX_NAME_BYTES: usize = 200;
/// Of a channel, bytes.
const MAX_CHANNEL_BYTES: usize = 512;
/// Of a member's user id, bytes.
const MAX_MEMBER_BYTES: usize = 1_024;
/// Of an event's fields as JSON, bytes.
const MAX_PAYLOAD_BYTES: usize = 1_048_576;

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

impl Sightings {
    /// The delay as both databases keep it: whole milliseconds, at most 24 days.
    pub(super) fn delay_ms(&self) -> i32 {
        i32::try_from(self.delay.as_millis()).unwrap_or(i32::MAX)
    }

    /// Checks what every store relies on.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), InvalidOp> {
        ops::text("app id", &self.app, MAX_NAME_BYTES)?;
        self.seen.iter().try_for_each(Sighting::validate)
    }
}

impl Sighting {
    /// The channel it is about.
    pub fn channel(&self) -> &str {
        match self {
            Self::Present { channel, .. } | Self::Absent { channel, .. } | Self::Event { channel, .. } => channel,
        }
    }

    /// Checks what every store relies on. Whoever asks a store to record drops what does not pass: a retry does not mend it, and a batch
    /// with it is never written.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), InvalidOp> {
        ops::text("channel", self.channel(), MAX_CHANNEL_BYTES)?;
        match self {
            Self::Present { member, .. } | Self::Absent { member, .. } => {
                member.as_ref().map_or(Ok(()), |member| ops::text("user id", member, MAX_MEMBER_BYTES))
            }
            Self::Event { name, payload, .. } => {
                ops::text("event name", name, MAX_NAME_BYTES)?;
                ops::json("payload", payload, MAX_PAYLOAD_BYTES)
            }
        }
    }
}
