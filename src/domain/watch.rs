//! What happens on channels, for those who are told of it from outside: the kinds, and who wants which of them.

use std::fmt;

use super::words;
use crate::protocol::{ChannelName, SocketId};

/// Somebody outside who is told what happens on the channels of an application.
///
/// It is told under the channel's lock, so that the order of what it hears about a channel is the order in which it happened. It must
/// not wait for anything, and must not call back.
pub trait ChannelWatch: fmt::Debug + Send + Sync {
    /// This happened on this channel. Never told of user channels.
    fn saw(&self, channel: &ChannelName, seen: Seen<'_>);
}

/// Something that happened on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Its first subscription here.
    Occupied,
    /// Its last subscription here is gone.
    Vacated,
    /// The first connection here of this user.
    MemberAdded(&'a str),
    /// The last one is gone.
    MemberRemoved(&'a str),
    /// A client event was accepted.
    ClientEvent {
        /// Its name.
        event: &'a str,
        /// Its data, as it was relayed.
        data: &'a str,
        /// Who sent it.
        sender: SocketId,
        /// The member who sent it, on a presence channel.
        user_id: Option<&'a str>,
    },
    /// A subscriber found the cache empty; said at most once in [`CACHE_MISS_INTERVAL`](crate::protocol::limits::CACHE_MISS_INTERVAL).
    CacheMiss,
    /// How many subscriptions there are here, whenever subscribers are told.
    SubscriptionCount(usize),
}

words! {
    /// What a webhook tells of (protocol.md 7).
    WebhookKind {
        /// The first subscription of a channel.
        ChannelOccupied = "channel_occupied",
        /// The last one is gone.
        ChannelVacated = "channel_vacated",
        /// The first connection of a user on a presence channel.
        MemberAdded = "member_added",
        /// The last one is gone.
        MemberRemoved = "member_removed",
        /// A client event that was accepted.
        ClientEvent = "client_event",
        /// A subscriber found an empty cache channel.
        CacheMiss = "cache_miss",
        /// How many subscriptions a channel has.
        SubscriptionCount = "subscription_count",
    }
}

/// What one endpoint wants to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookFilter {
    /// The kinds; none is all of them.
    pub kinds: Vec<WebhookKind>,
    /// What the channel's name begins with.
    pub channel_prefix: String,
    /// What the channel's name ends with.
    pub channel_suffix: String,
}

impl WebhookFilter {
    /// Whether this kind is wanted, on whatever channel.
    pub fn has_kind(&self, kind: WebhookKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether something of this kind is wanted of this channel.
    pub fn wants(&self, kind: WebhookKind, channel: &str) -> bool {
        self.has_kind(kind) && channel.starts_with(&self.channel_prefix) && channel.ends_with(&self.channel_suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_fits_all_of_it() {
        let all = WebhookFilter::default();
        assert!(WebhookKind::ALL.iter().all(|kind| all.wants(*kind, "news")));
        let some = WebhookFilter {
            kinds: vec![WebhookKind::ChannelOccupied, WebhookKind::CacheMiss],
            channel_prefix: "presence-".to_owned(),
            channel_suffix: ".eu".to_owned(),
        };
        assert!(some.wants(WebhookKind::CacheMiss, "presence-room.eu"));
        for (kind, channel) in [
            (WebhookKind::ChannelVacated, "presence-room.eu"),
            (WebhookKind::CacheMiss, "presence-room.us"),
            (WebhookKind::CacheMiss, "private-room.eu"),
        ] {
            assert!(!some.wants(kind, channel), "{kind} {channel}");
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod channel_tests;
