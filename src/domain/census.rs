//! What is alive at one moment, counted in the tables themselves: a number that is kept beside them could drift away.

use super::{Conn, ConnState};
use crate::protocol::{ChannelKind, SocketId};

/// Connections that are looked at before others may come and go.
const AT_ONCE: usize = 256;
/// Kinds of channels that can be occupied, with the names that [`ChannelKind::as_str`] has for them.
const KINDS: [&str; 8] =
    ["public", "private", "private-encrypted", "presence", "cache", "private-cache", "private-encrypted-cache", "presence-cache"];

/// The numbers of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Connections by [`ConnState`].
    states: [usize; ConnState::ALL.len()],
    channels: [ChannelCensus; KINDS.len()],
    /// Users who are signed in, each once.
    pub users: usize,
    /// Frames that wait for connections.
    pub outbox_frames: usize,
    /// Their bytes.
    pub outbox_bytes: usize,
    /// Bytes of the fullest outbox.
    pub fullest_outbox: usize,
}

/// The channels of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCensus {
    /// Channels that somebody is on.
    pub occupied: usize,
    /// Connections on them.
    pub subscriptions: usize,
    /// Members of presence channels, each once per channel.
    pub members: usize,
}

impl Census {
    pub(super) fn of_users(users: usize) -> Self {
        Self { users, ..Self::default() }
    }

    /// Connections in one state.
    pub fn connections(&self, state: ConnState) -> usize {
        self.states[state as usize]
    }

    /// Channels by the name of their kind.
    pub fn channels(&self) -> impl Iterator<Item = (&'static str, ChannelCensus)> {
        KINDS.into_iter().zip(self.channels)
    }

    pub(super) fn count_channel(&mut self, kind: ChannelKind, subscriptions: usize, members: usize) {
        let place = KINDS.iter().position(|name| *name == kind.as_str()).and_then(|at| self.channels.get_mut(at));
        if let Some(place) = place.filter(|_| subscriptions > 0) {
            place.occupied += 1;
            place.subscriptions += subscriptions;
            place.members += members;
        }
    }

    /// Counts all connections, a page at a time.
    pub(super) fn count_connections(&mut self, page: impl Fn(Option<SocketId>, usize) -> Vec<Conn>) {
        let mut after = None;
        loop {
            let conns = page(after, AT_ONCE);
            conns.iter().for_each(|conn| self.count(conn));
            match conns.last() {
                Some(last) => after = Some(last.socket_id()),
                None => return,
            }
        }
    }

    fn count(&mut self, conn: &Conn) {
        let (frames, bytes) = conn.outbox().waiting();
        self.states[conn.state() as usize] += 1;
        self.outbox_frames += frames;
        self.outbox_bytes += bytes;
        self.fullest_outbox = self.fullest_outbox.max(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::{
        super::{App, CloseCause, Hub, Join, conn::tests::conn},
        *,
    };
    use crate::protocol::{ChannelName, Member};

    #[test]
    fn what_is_there_is_counted_and_what_is_gone_is_not() {
        let hub = Hub::new(Arc::new(App::for_tests()));
        let conns: Vec<_> = (1..=600).map(conn).collect();
        for conn in &conns {
            hub.admit(conn).unwrap();
            hub.opened(conn);
        }
        let join = |conn: &Conn, channel: &str, user: Option<&str>| {
            let member = user.map(|id| Member { user_id: id.into(), user_info: None });
            let join = Join { conn, member: member.as_ref(), greeting: &[], now: Instant::now() };
            hub.join(&ChannelName::parse(channel, 200).unwrap(), &join).unwrap();
        };
        join(&conns[0], "news", None);
        join(&conns[1], "private-encrypted-cache-x", None);
        (0..3).for_each(|n| join(&conns[n], "presence-room", Some(["a", "a", "b"][n])));
        let census = hub.census();
        assert_eq!((census.connections(ConnState::Active), census.connections(ConnState::Closing)), (600, 0));
        let of = |census: &Census, kind: &str| census.channels().find(|(name, _)| *name == kind).unwrap().1;
        assert_eq!(of(&census, "presence"), ChannelCensus { occupied: 1, subscriptions: 3, members: 2 });
        assert_eq!(of(&census, "public").occupied + of(&census, "private-encrypted-cache").subscriptions, 2);
        assert!(census.outbox_frames >= 5 && census.outbox_bytes > census.outbox_frames, "{census:?}");
        assert!(census.fullest_outbox <= census.outbox_bytes);
        for conn in &conns {
            hub.closed(conn, None, CloseCause::Gone, Instant::now());
        }
        let (opened, closed) = hub.totals();
        assert_eq!(opened, closed.map(|(_, count)| count).sum::<u64>());
        assert_eq!(hub.census(), Census::default(), "nothing is left to count");
    }

    #[test]
    fn every_kind_of_channel_has_a_name_here() {
        for prefix in
            ["", "cache-", "private-", "private-cache-", "private-encrypted-", "private-encrypted-cache-", "presence-", "presence-cache-"]
        {
            let name = ChannelName::parse(&format!("{prefix}x"), 200).unwrap();
            assert!(KINDS.contains(&name.kind().as_str()), "{prefix}");
        }
    }
}
