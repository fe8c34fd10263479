//! One channel under one lock: its subscribers, its members, its cached event.
//!
//! Everything that a subscriber of the channel is told is pushed under this lock, so all subscribers see one order, and a
//! snapshot of members can cross no announcement.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    ChannelGlance, ChannelWatch, Conn, Seen,
    presence::Presence,
    subscribers::{Subscriber, Subscribers},
};
use crate::protocol::{
    ChannelName, Member, ServerFrame, SocketId, WireFrame,
    limits::{CACHE_MISS_INTERVAL, SUBSCRIPTION_COUNT_EAGER, SUBSCRIPTION_COUNT_INTERVAL},
    presence_succeeded,
};

/// A channel that has subscribers, or a cached event, or is just about to.
#[derive(Debug)]
pub(super) struct Channel {
    name: ChannelName,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Taken out of the registry: whoever still holds it has to look the name up again.
    retired: bool,
    subscribers: Subscribers,
    presence: Presence,
    cached: Option<Cached>,
    count: CountNotice,
    /// Events that were delivered here, since the channel is in memory.
    events: u64,
    /// When the watch was told of a cache miss.
    missed_at: Option<Instant>,
}

/// What the application says of all its channels, as far as it concerns this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Most distinct users.
    pub(super) max_members: usize,
    /// Whether subscribers are told how many they are.
    pub(super) tell_count: bool,
    /// Who is told what happens.
    pub(super) watch: Option<&'a dyn ChannelWatch>,
}

/// The last published event of a cache channel.
#[derive(Debug)]
struct Cached {
    frame: WireFrame,
    data: Arc<str>,
    expires_at: Instant,
}

/// When `subscription_count` was last told, and whether it has changed since.
#[derive(Debug, Default)]
struct CountNotice {
    told_at: Option<Instant>,
    owed: bool,
}

/// A subscription to be made.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// Who.
    pub conn: &'a Conn,
    /// As whom, on a presence channel.
    pub member: Option<&'a Member>,
    /// Frames for this subscriber alone, right after its success frame.
    pub greeting: &'a [WireFrame],
    /// Now.
    pub now: Instant,
}

/// What became of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Newly made.
    New,
    /// It was there before; acknowledged again.
    Again,
}

/// The presence channel has as many members as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The maximum members per presence channel limit was reached")]
pub struct ChannelFull;

/// The channel was retired between look-up and lock.
#[derive(Debug)]
pub(super) struct Retired;

/// What remains of a channel after somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Somebody or something is still there, or the leaver never was.
    Occupied,
    /// It is empty, and now retired: the registry has to forget it.
    Empty,
}

/// An event to be delivered on one channel. It is encoded once, and only if there is somebody to hear it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The event's name.
    pub event: &'a str,
    /// The publisher's text, unchanged.
    pub data: &'a str,
    /// The sending member, on client events of presence channels.
    pub user_id: Option<&'a str>,
    /// The connection that must not get it.
    pub except: Option<SocketId>,
    /// The connection that sent it, if it is a client event.
    pub sender: Option<SocketId>,
    /// Keep it this long for later subscribers: cache channels.
    pub keep_for: Option<Duration>,
}

impl Delivery<'_> {
    /// The frame every receiver on `channel` shares.
    pub(super) fn encode(&self, channel: &ChannelName) -> WireFrame {
        ServerFrame::Event { event: self.event, channel: Some(channel.as_str()), data: self.data, user_id: self.user_id }.encode()
    }
}

/// A look at a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Connections.
    pub subscription_count: usize,
    /// Distinct members.
    pub user_count: usize,
    /// The cached data and the time it has left.
    pub cached: Option<(Arc<str>, Duration)>,
}

impl Channel {
    pub(super) fn new(name: ChannelName) -> Self {
        Self { name, state: Mutex::default() }
    }

    fn live(&self) -> Result<MutexGuard<'_, State>, Retired> {
        let state = self.state.lock();
        if state.retired { Err(Retired) } else { Ok(state) }
    }

    /// Steps 5 to 10 of protocol.md 2.3, in one critical section.
    pub(super) fn join(&self, join: &Join<'_>, rules: Rules<'_>) -> Result<Result<Joined, ChannelFull>, Retired> {
        let mut state = self.live()?;
        if state.subscribers.contains(join.conn.socket_id()) {
            join.conn.push(self.success(&state));
            return Ok(Ok(Joined::Again));
        }
        let newcomer = match join.member {
            Some(member) if !state.presence.contains(&member.user_id) && state.presence.len() >= rules.max_members => {
                return Ok(Err(ChannelFull));
            }
            Some(member) => state.presence.join(member),
            None => false,
        };
        if state.subscribers.len() == 0 {
            self.tell(rules, Seen::Occupied);
        }
        if let (true, Some(member)) = (newcomer, join.member) {
            self.tell(rules, Seen::MemberAdded(&member.user_id));
            state.subscribers.push_all(&ServerFrame::MemberAdded { channel: self.name.as_str(), member }.encode(), None);
        }
        let user_id = join.member.map(|member| Arc::clone(&member.user_id));
        state.subscribers.insert(Subscriber { conn: join.conn.clone(), user_id });
        join.conn.push(self.success(&state));
        for frame in join.greeting {
            join.conn.push(frame.clone());
        }
        if self.name.kind().cache {
            match state.fresh(join.now) {
                // The bytes are the cache's: however many get them, they are there once.
                Some(cached) => join.conn.push_shared(cached.frame.clone()),
                None => {
                    if rules.watch.is_some() && !state.missed_recently(join.now) {
                        state.missed_at = Some(join.now);
                        self.tell(rules, Seen::CacheMiss);
                    }
                    join.conn.push(ServerFrame::CacheMiss { channel: self.name.as_str() }.encode())
                }
            };
        }
        if rules.tell_count {
            self.tell_count(&mut state, rules, join.now);
        }
        Ok(Ok(Joined::New))
    }

    fn tell(&self, rules: Rules<'_>, seen: Seen<'_>) {
        if let Some(watch) = rules.watch {
            watch.saw(&self.name, seen);
        }
    }

    /// Tells the watch who is here, as if all came now: it may want to hear of what it did not want to hear of before.
    pub(super) fn tell_again(&self, rules: Rules<'_>) {
        let state = self.state.lock();
        if state.subscribers.len() > 0 {
            self.tell(rules, Seen::Occupied);
            state.presence.members().for_each(|member| self.tell(rules, Seen::MemberAdded(&member.user_id)));
        }
    }

    fn success(&self, state: &State) -> WireFrame {
        let channel = self.name.as_str();
        if self.name.kind().is_presence() {
            presence_succeeded(channel, state.presence.members())
        } else {
            ServerFrame::SubscriptionSucceeded { channel }.encode()
        }
    }

    /// Takes a connection out. A channel that is left without anything to keep is retired in the same critical section.
    pub(super) fn leave(&self, socket_id: SocketId, rules: Rules<'_>, now: Instant) -> Left {
        let mut state = self.state.lock();
        if let Some(gone) = state.subscribers.remove(socket_id) {
            if let Some(user_id) = gone.user_id.filter(|id| state.presence.leave(id)) {
                self.tell(rules, Seen::MemberRemoved(&user_id));
                let frame = ServerFrame::MemberRemoved { channel: self.name.as_str(), user_id: &user_id }.encode();
                state.subscribers.push_all(&frame, None);
            }
            if rules.tell_count {
                self.tell_count(&mut state, rules, now);
            }
            if state.subscribers.len() == 0 {
                self.tell(rules, Seen::Vacated);
            }
        }
        state.retire_if_unused(now)
    }

    /// Pushes one frame to every subscriber but the excluded one, and keeps it where it has to be kept.
    pub(super) fn deliver(&self, delivery: &Delivery<'_>, rules: Rules<'_>, now: Instant) -> Result<usize, Retired> {
        let frame = delivery.encode(&self.name);
        let mut state = self.live()?;
        let reached = state.subscribers.push_all(&frame, delivery.except);
        state.events += 1;
        if let Some(sender) = delivery.sender {
            let Delivery { event, data, user_id, .. } = *delivery;
            self.tell(rules, Seen::ClientEvent { event, data, sender, user_id });
        }
        if let Some(ttl) = delivery.keep_for {
            state.cached = Some(Cached { frame, data: delivery.data.into(), expires_at: now + ttl });
        }
        Ok(reached)
    }

    /// Tells everybody how many they are: at once on a small channel, at most every five seconds on a large one (2.9).
    fn tell_count(&self, state: &mut State, rules: Rules<'_>, now: Instant) {
        let count = state.subscribers.len();
        let recently = state.count.told_at.is_some_and(|at| now.saturating_duration_since(at) < SUBSCRIPTION_COUNT_INTERVAL);
        if count > SUBSCRIPTION_COUNT_EAGER && recently {
            state.count.owed = true;
            return;
        }
        state.count = CountNotice { told_at: Some(now), owed: false };
        state.subscribers.push_all(&ServerFrame::SubscriptionCount { channel: self.name.as_str(), count }.encode(), None);
        self.tell(rules, Seen::SubscriptionCount(count));
    }

    /// The work that time brings: a count that is owed, a cached event that has expired.
    pub(super) fn tick(&self, rules: Rules<'_>, now: Instant) -> Left {
        let mut state = self.state.lock();
        if state.count.owed {
            self.tell_count(&mut state, rules, now);
        }
        state.retire_if_unused(now)
    }

    pub(super) fn info(&self, now: Instant) -> ChannelInfo {
        let state = self.state.lock();
        let cached = state.fresh(now).map(|cached| (Arc::clone(&cached.data), cached.expires_at.saturating_duration_since(now)));
        ChannelInfo { subscription_count: state.subscribers.len(), user_count: state.presence.len(), cached }
    }

    /// Subscriptions and members.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.subscribers.len(), state.presence.len())
    }

    /// What there is to say in one line.
    pub(super) fn glance(&self) -> ChannelGlance {
        let state = self.state.lock();
        let (subscriptions, members) = (state.subscribers.len(), state.presence.len());
        ChannelGlance { name: self.name.clone(), subscriptions, members, events: state.events }
    }

    /// The first of those who are there, as members and as connections.
    pub(super) fn attendance(&self, limit: usize) -> (Vec<Member>, Vec<SocketId>) {
        let state = self.state.lock();
        let members = state.presence.members().take(limit).cloned().collect();
        (members, state.subscribers.socket_ids().take(limit).collect())
    }

    pub(super) fn user_ids(&self) -> Vec<Arc<str>> {
        self.state.lock().presence.members().map(|member| Arc::clone(&member.user_id)).collect()
    }

    pub(super) fn name(&self) -> &ChannelName {
        &self.name
    }
}

impl State {
    fn fresh(&self, now: Instant) -> Option<&Cached> {
        self.cached.as_ref().filter(|cached| cached.expires_at > now)
    }

    fn missed_recently(&self, now: Instant) -> bool {
        self.missed_at.is_some_and(|at| now.saturating_duration_since(at) < CACHE_MISS_INTERVAL)
    }

    fn retire_if_unused(&mut self, now: Instant) -> Left {
        if self.fresh(now).is_none() {
            self.cached = None;
        }
        // A channel that is made anew does not know that a miss was told of.
        if self.subscribers.len() > 0 || self.cached.is_some() || self.missed_recently(now) {
            return Left::Occupied;
        }
        self.retired = true;
        Left::Empty
    }
}
