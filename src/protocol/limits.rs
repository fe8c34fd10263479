//! The numbers of the protocol, with their units and where each comes from (protocol.md 6.12 unless another section is named).
//!
//! These are the defaults; every one of them is a setting of the application or of the node.

use std::time::Duration;

/// Longest channel name, in bytes. Hosted documents 164, the server SDKs allow 200 (2.1).
pub const MAX_CHANNEL_NAME: usize = 200;
/// Longest event name, in characters.
pub const MAX_EVENT_NAME: usize = 200;
/// Largest `data` of one published event, in bytes of the decoded string.
pub const MAX_EVENT_BYTES: usize = 10_240;
/// Most channels one publish may name.
pub const MAX_CHANNELS_PER_EVENT: usize = 100;
/// Most events in one batch.
pub const MAX_BATCH: usize = 10;
/// Most distinct users on one presence channel (2.4).
pub const MAX_PRESENCE_MEMBERS: usize = 100;
/// Longest user id, in characters (2.4, 4.1).
pub const MAX_USER_ID: usize = 128;
/// Largest `user_info`, in bytes of its JSON text (2.4).
pub const MAX_USER_INFO_BYTES: usize = 1_024;
/// Most user ids in one watchlist (4.1).
pub const MAX_WATCHLIST: usize = 100;
/// Client events one connection may send per second (3).
pub const CLIENT_EVENTS_PER_SECOND: u32 = 10;
/// How long a cache channel keeps its last event (2.8).
pub const CACHE_TTL: Duration = Duration::from_secs(1_800);
/// How far a request's `auth_timestamp` may lie from the server's clock (6.1).
pub const TIMESTAMP_TOLERANCE: Duration = Duration::from_secs(600);
/// Above this many subscribers `subscription_count` is sent at most once per [`SUBSCRIPTION_COUNT_INTERVAL`] (2.9).
pub const SUBSCRIPTION_COUNT_EAGER: usize = 100;
/// The interval of `subscription_count` on a large channel (2.9).
pub const SUBSCRIPTION_COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// A channel's cache misses are told to webhooks at most once in this time (7).
pub const CACHE_MISS_INTERVAL: Duration = Duration::from_secs(10);
/// Longest reason in a close frame, in bytes: a control frame holds 125, two of them are the code (RFC 6455 5.5).
pub const MAX_CLOSE_REASON: usize = 123;
