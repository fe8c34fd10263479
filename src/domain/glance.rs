//! A live application as somebody looks at it: piece by piece, so that nobody waits for whoever looks.

use super::Hub;
use crate::protocol::{ChannelName, Member, SocketId};

/// One occupied channel in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelGlance {
    /// Its name.
    pub name: ChannelName,
    /// Connections on it.
    pub subscriptions: usize,
    /// Distinct members, on a presence channel.
    pub members: usize,
    /// Events that were delivered here since the channel came to be. It begins anew when a channel was empty in between.
    pub events: u64,
}

impl Hub {
    /// The occupied channels of one part of the table, in no order; `None` behind the last part. Each part is locked by itself.
    pub fn glance(&self, part: usize) -> Option<Vec<ChannelGlance>> {
        self.channels.glance(part)
    }

    /// A channel, and at most `limit` of its members and of its connections; `None` if it is not in memory.
    pub fn attendance(&self, channel: &ChannelName, limit: usize) -> Option<(ChannelGlance, Vec<Member>, Vec<SocketId>)> {
        self.channels.attendance(channel, limit)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::{
        super::{App, Delivery, Join, conn::tests::conn},
        *,
    };

    #[test]
    fn every_occupied_channel_is_seen_once_with_what_was_delivered_there() {
        let hub = Hub::new(Arc::new(App::for_tests()));
        let name = |text: &str| ChannelName::parse(text, 200).unwrap();
        let conns: Vec<_> = (1..=3).map(conn).collect();
        let join = |conn, channel: &str, user: Option<&str>| {
            let member = user.map(|id| Member { user_id: id.into(), user_info: None });
            hub.join(&name(channel), &Join { conn, member: member.as_ref(), greeting: &[], now: Instant::now() }).unwrap();
        };
        let publish = |channel: &str, ttl| {
            let delivery = Delivery { event: "e", data: "1", user_id: None, except: None, sender: None, keep_for: ttl };
            hub.deliver(&name(channel), &delivery, Instant::now());
        };
        (0..200).for_each(|n| join(&conns[0], &format!("c{n}"), None));
        conns.iter().for_each(|conn| join(conn, "presence-room", Some("a")));
        (0..5).for_each(|_| publish("c7", None));
        publish("cache-unseen", Some(std::time::Duration::from_secs(9)));
        let mut seen: Vec<_> = (0..).map_while(|part| hub.glance(part)).flatten().collect();
        seen.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(seen.len(), 201, "what nobody is on is not there");
        let of = |channel: &str| seen.iter().find(|glance| glance.name.as_str() == channel).cloned().unwrap();
        assert_eq!((of("c7").events, of("c8").events, of("c8").subscriptions), (5, 0, 1));
        assert_eq!((of("presence-room").subscriptions, of("presence-room").members), (3, 1));
        let (glance, members, sockets) = hub.attendance(&name("presence-room"), 2).unwrap();
        assert_eq!((glance.subscriptions, members.len(), sockets.len()), (3, 1, 2));
        assert!(hub.attendance(&name("nobody"), 2).is_none());
    }
}
