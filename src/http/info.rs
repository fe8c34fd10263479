//! The attributes of channels that a request may ask for (protocol.md 6.6).

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{
    domain::ChannelInfo,
    protocol::{Access, ChannelName},
};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// Distinct members.
    pub(super) user_count: bool,
    /// Connections.
    pub(super) subscription_count: bool,
    /// The cached event.
    pub(super) cache: bool,
}

impl Info {
    /// Reads a list such as `user_count, subscription_count`. Names that nobody knows are ignored.
    pub(super) fn parse(list: &str) -> Self {
        let mut info = Self::default();
        for name in list.split(',') {
            match name.trim() {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                _ => {}
            }
        }
        info
    }

    /// What is asked for and applies to the channel; the rest is left out.
    pub(super) fn of(self, channel: &ChannelName, now: &ChannelInfo) -> Attributes {
        let kind = channel.kind();
        Attributes {
            occupied: None,
            user_count: (self.user_count && kind.is_presence()).then_some(now.user_count),
            // Subscriptions to the channel of a user say nothing about who is reached through it (4.2).
            subscription_count: (self.subscription_count && kind.access != Access::User).then_some(now.subscription_count),
            cache: (self.cache && kind.cache)
                .then(|| now.cached.as_ref().map(|(data, left)| Cached { data: data.to_string(), ttl: whole_seconds(*left) })),
        }
    }
}

/// What is told about a channel.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) occupied: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_count: Option<usize>,
    /// `Some(None)` is `null`: it was asked for, and there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Option<Cached>>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Cached {
    data: String,
    /// In seconds.
    ttl: u64,
}

/// Rounded up: what is still there has at least a second left.
fn whole_seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// `{"channels":{"news":{…},…}}`: an object also when it is empty.
#[derive(Debug, Serialize)]
pub(super) struct ChannelMap {
    #[serde(serialize_with = "as_object")]
    pub(super) channels: Vec<(ChannelName, Attributes)>,
}

fn as_object<S: Serializer>(channels: &[(ChannelName, Attributes)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(channels.iter().map(|(channel, attributes)| (channel.as_str(), attributes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(channel: &str) -> String {
        let channel = ChannelName::parse(channel, 200).unwrap();
        let now = ChannelInfo { subscription_count: 3, user_count: 2, cached: Some(("\"x\"".into(), Duration::from_millis(1_500))) };
        serde_json::to_string(&Info::parse("user_count,subscription_count,cache").of(&channel, &now)).unwrap()
    }

    #[test]
    fn lists_are_read_generously() {
        assert_eq!(
            Info::parse(" user_count ,, nonsense,subscription_count"),
            Info { user_count: true, subscription_count: true, cache: false }
        );
        assert_eq!(Info::parse(""), Info::default());
        assert_eq!(Info::parse("User_Count"), Info::default());
    }

    #[test]
    fn attributes_that_do_not_apply_are_left_out() {
        assert_eq!(all("news"), r#"{"subscription_count":3}"#);
        assert_eq!(all("presence-x"), r#"{"user_count":2,"subscription_count":3}"#);
        assert_eq!(all("cache-x"), r#"{"subscription_count":3,"cache":{"data":"\"x\"","ttl":2}}"#);
        assert_eq!(all("presence-cache-x"), r#"{"user_count":2,"subscription_count":3,"cache":{"data":"\"x\"","ttl":2}}"#);
        assert_eq!(all("#server-to-user-1"), "{}");
    }

    #[test]
    fn an_empty_cache_is_null_and_an_empty_map_an_object() {
        let channel = ChannelName::parse("cache-x", 200).unwrap();
        let attributes = Info::parse("cache").of(&channel, &ChannelInfo::default());
        assert_eq!(
            serde_json::to_string(&ChannelMap { channels: vec![(channel, attributes)] }).unwrap(),
            r#"{"channels":{"cache-x":{"cache":null}}}"#
        );
        assert_eq!(serde_json::to_string(&ChannelMap { channels: vec![] }).unwrap(), r#"{"channels":{}}"#);
    }
}
