//! All channels of one application, in shards, each channel behind its own small lock.
//!
//! A shard's lock covers the look-up only. A channel that empties is retired under its own lock first and leaves the shard
//! afterwards; whoever still holds the old one sees that and looks again.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use hashbrown::{HashTable, hash_table::Entry};
use parking_lot::RwLock;

use super::{
    Census, ChannelGlance, ChannelWatch,
    channel::{Channel, ChannelFull, ChannelInfo, Delivery, Join, Joined, Left, Retired, Rules},
};
use crate::protocol::{ChannelName, Member, SocketId};

const SHARDS: usize = 64;

/// By the hash of their names, which is made once for each look: it is a keyed one, because clients choose the names.
type Shard = RwLock<HashTable<Arc<Channel>>>;

/// The channels of one application.
#[derive(Debug)]
pub(super) struct Registry {
    shards: Box<[Shard]>,
    hasher: RandomState,
    /// Most distinct users on one presence channel.
    max_members: AtomicUsize,
    /// Whether subscribers are told how many they are.
    tell_count: AtomicBool,
    /// Who is told what happens.
    watch: OnceLock<Arc<dyn ChannelWatch>>,
}

impl Registry {
    pub(super) fn new(max_members: usize, tell_count: bool) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            max_members: AtomicUsize::new(max_members),
            tell_count: AtomicBool::new(tell_count),
            watch: OnceLock::new(),
        }
    }

    pub(super) fn watch(&self, watch: Arc<dyn ChannelWatch>) {
        // An application has one watch, from the start of its server.
        let _ = self.watch.set(watch);
    }

    /// Tells the watch who is on all channels: see [`Channel::tell_again`].
    pub(super) fn tell_again(&self) {
        for shard in &self.shards {
            let channels: Vec<_> = shard.read().iter().cloned().collect();
            channels.iter().for_each(|channel| channel.tell_again(self.rules(channel.name())));
        }
    }

    /// For everything from here on; who is on a channel already stays.
    pub(super) fn set_rules(&self, max_members: usize, tell_count: bool) {
        self.max_members.store(max_members, Ordering::Relaxed);
        self.tell_count.store(tell_count, Ordering::Relaxed);
    }

    fn rules(&self, name: &ChannelName) -> Rules<'_> {
        let tell_count = !name.kind().is_presence() && self.tell_count.load(Ordering::Relaxed);
        Rules { max_members: self.max_members.load(Ordering::Relaxed), tell_count, watch: self.watch.get().map(Arc::as_ref) }
    }

    fn hash(&self, name: &ChannelName) -> u64 {
        self.hasher.hash_one(name.as_str())
    }

    /// By other bits than those that a table uses.
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.find_hashed(name, self.hash(name))
    }

    fn find_hashed(&self, name: &ChannelName, hash: u64) -> Option<Arc<Channel>> {
        self.shard(hash).read().find(hash, |channel| channel.name() == name).cloned()
    }

    /// Runs `f` on the channel of this name, made if it has to be, until it is one that is not retired.
    fn with_channel<T>(&self, name: &ChannelName, mut f: impl FnMut(&Channel) -> Result<T, Retired>) -> T {
        let hash = self.hash(name);
        let mut retired: Option<Arc<Channel>> = None;
        loop {
            let is_retired = |found: &Arc<Channel>| retired.as_ref().is_some_and(|old| Arc::ptr_eq(old, found));
            let found = self.find_hashed(name, hash).filter(|found| !is_retired(found));
            let channel = found.unwrap_or_else(|| {
                let new = || Arc::new(Channel::new(name.clone()));
                let mut shard = self.shard(hash).write();
                match shard.entry(hash, |channel| channel.name() == name, |channel| self.hash(channel.name())) {
                    Entry::Occupied(mut entry) => {
                        if is_retired(entry.get()) {
                            *entry.get_mut() = new();
                        }
                        Arc::clone(entry.get())
                    }
                    Entry::Vacant(entry) => Arc::clone(entry.insert(new()).get()),
                }
            });
            match f(&channel) {
                Ok(value) => return value,
                Err(Retired) => retired = Some(channel),
            }
        }
    }

    /// Forgets a retired channel, unless the name has a new one already.
    fn forget(&self, channel: &Arc<Channel>) {
        let hash = self.hash(channel.name());
        let mut shard = self.shard(hash).write();
        if let Ok(found) = shard.find_entry(hash, |current| Arc::ptr_eq(current, channel)) {
            found.remove();
            if shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit(|channel| self.hash(channel.name()));
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
        let found = self.shards.iter().flat_map(|shard| shard.read().iter().filter(matching).cloned().collect::<Vec<_>>());
        let infos = found.map(|channel| (channel.name().clone(), channel.info(now)));
        let mut occupied: Vec<_> = infos.filter(|(_, info)| info.subscription_count > 0).collect();
        occupied.sort_by(|a, b| a.0.cmp(&b.0));
        occupied
    }

    /// The occupied channels of one part of the table, in no order; `None` behind the last part.
    pub(super) fn glance(&self, part: usize) -> Option<Vec<ChannelGlance>> {
        let channels: Vec<_> = self.shards.get(part)?.read().iter().cloned().collect();
        Some(channels.iter().map(|channel| channel.glance()).filter(|glance| glance.subscriptions > 0).collect())
    }

    /// The first of those who are on a channel.
    pub(super) fn attendance(&self, name: &ChannelName, limit: usize) -> Option<(ChannelGlance, Vec<Member>, Vec<SocketId>)> {
        let channel = self.find(name)?;
        let (members, sockets) = channel.attendance(limit);
        Some((channel.glance(), members, sockets))
    }

    /// Counts occupied channels and who is on them, shard by shard.
    pub(super) fn census(&self, census: &mut Census) {
        for shard in &self.shards {
            for channel in shard.read().iter() {
                let (subscriptions, members) = channel.size();
                census.count_channel(channel.name().kind(), subscriptions, members);
            }
        }
    }

    /// What time brings to every channel: see [`Channel::tick`].
    pub(super) fn tick(&self, now: Instant) {
        let tell_count = self.tell_count.load(Ordering::Relaxed);
        for shard in &self.shards {
            let channels: Vec<_> = shard.read().iter().filter(|c| tell_count || c.name().kind().cache).cloned().collect();
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
