//! All channels of one application, in shards, each channel behind its own small lock.
//!
//! A shard's lock covers the look-up only. A channel that empties is retired under its own lock first and leaves the shard
//! afterwards; whoever still holds the old one sees that and looks again.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::RwLock;

use super::{
    Census, ChannelWatch,
    channel::{Channel, ChannelFull, ChannelInfo, Delivery, Join, Joined, Left, Retired, Rules},
};
use crate::protocol::{ChannelName, SocketId};

const SHARDS: usize = 64;

type Shard = RwLock<HashMap<ChannelName, Arc<Channel>>>;

/// The channels of one application.
#[derive(Debug)]
pub(super) struct Registry {
    shards: Box<[Shard]>,
    hasher: RandomState,
    /// Most distinct users on one presence channel.
    max_members: usize,
    /// Whether subscribers are told how many they are.
    tell_count: bool,
    /// Who is told what happens.
    watch: OnceLock<Arc<dyn ChannelWatch>>,
}

impl Registry {
    pub(super) fn new(max_members: usize, tell_count: bool) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            max_members,
            tell_count,
            watch: OnceLock::new(),
        }
    }

    pub(super) fn watch(&self, watch: Arc<dyn ChannelWatch>) {
        // An application has one watch, from the start of its server.
        let _ = self.watch.set(watch);
    }

    fn rules(&self, name: &ChannelName) -> Rules<'_> {
        let tell_count = self.tell_count && !name.kind().is_presence();
        Rules { max_members: self.max_members, tell_count, watch: self.watch.get().map(Arc::as_ref) }
    }

    fn shard(&self, name: &str) -> &Shard {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.shard(name.as_str()).read().get(name).cloned()
    }

    /// Runs `f` on the channel of this name, made if it has to be, until it is one that is not retired.
    fn with_channel<T>(&self, name: &ChannelName, mut f: impl FnMut(&Channel) -> Result<T, Retired>) -> T {
        let mut retired = None;
        loop {
            let found = self.find(name).filter(|found| retired.as_ref().is_none_or(|old| !Arc::ptr_eq(old, found)));
            let channel = found.unwrap_or_else(|| {
                let mut shard = self.shard(name.as_str()).write();
                let entry = shard.entry(name.clone()).or_insert_with(|| Arc::new(Channel::new(name.clone())));
                if retired.as_ref().is_some_and(|old| Arc::ptr_eq(old, entry)) {
                    *entry = Arc::new(Channel::new(name.clone()));
                }
                Arc::clone(entry)
            });
            match f(&channel) {
                Ok(value) => return value,
                Err(Retired) => retired = Some(channel),
            }
        }
    }

    /// Forgets a retired channel, unless the name has a new one already.
    fn forget(&self, channel: &Arc<Channel>) {
        let mut shard = self.shard(channel.name().as_str()).write();
        if shard.get(channel.name()).is_some_and(|current| Arc::ptr_eq(current, channel)) {
            shard.remove(channel.name());
            if shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
        }
    }

    pub(super) fn join(&self, name: &ChannelName, join: &Join<'_>) -> Result<Joined, ChannelFull> {
        let joined = self.with_channel(name, |channel| channel.join(join, self.rules(name)));
        if joined.is_err() {
            // The channel may have been made for this refused join.
            self.leave(name, join.conn.socket_id(), join.now);
        }
        joined
    }

    pub(super) fn leave(&self, name: &ChannelName, socket_id: SocketId, now: Instant) {
        if let Some(channel) = self.find(name)
            && channel.leave(socket_id, self.rules(name), now) == Left::Empty
        {
            self.forget(&channel);
        }
    }

    /// Delivers to whoever is subscribed; says how many outboxes took it. A channel that nobody is on is made only to keep an
    /// event.
    pub(super) fn deliver(&self, name: &ChannelName, delivery: &Delivery<'_>, now: Instant) -> usize {
        if delivery.keep_for.is_some() {
            return self.with_channel(name, |channel| channel.deliver(delivery, self.rules(name), now));
        }
        // Retired means that the last subscriber has left: nobody is there to reach.
        self.find(name).map_or(0, |channel| channel.deliver(delivery, self.rules(name), now).unwrap_or(0))
    }

    pub(super) fn info(&self, name: &ChannelName, now: Instant) -> ChannelInfo {
        self.find(name).map(|channel| channel.info(now)).unwrap_or_default()
    }

    pub(super) fn user_ids(&self, name: &ChannelName) -> Vec<Arc<str>> {
        self.find(name).map(|channel| channel.user_ids()).unwrap_or_default()
    }

    /// Every occupied channel whose name starts with `prefix`, by name.
    pub(super) fn occupied(&self, prefix: &str, now: Instant) -> Vec<(ChannelName, ChannelInfo)> {
        let matching = |channel: &&Arc<Channel>| channel.name().as_str().starts_with(prefix);
        let found = self.shards.iter().flat_map(|shard| shard.read().values().filter(matching).cloned().collect::<Vec<_>>());
        let infos = found.map(|channel| (channel.name().clone(), channel.info(now)));
        let mut occupied: Vec<_> = infos.filter(|(_, info)| info.subscription_count > 0).collect();
        occupied.sort_by(|a, b| a.0.cmp(&b.0));
        occupied
    }

    /// Counts occupied channels and who is on them, shard by shard.
    pub(super) fn census(&self, census: &mut Census) {
        for shard in &self.shards {
            for channel in shard.read().values() {
                let (subscriptions, members) = channel.size();
                census.count_channel(channel.name().kind(), subscriptions, members);
            }
        }
    }

    /// What time brings to every channel: see [`Channel::tick`].
    pub(super) fn tick(&self, now: Instant) {
        for shard in &self.shards {
            let channels: Vec<_> = shard.read().values().filter(|c| self.tell_count || c.name().kind().cache).cloned().collect();
            for channel in channels.iter().filter(|channel| channel.tick(self.rules(channel.name()), now) == Left::Empty) {
                self.forget(channel);
            }
        }
    }

    /// Channels in memory, cached ones without subscribers included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}
