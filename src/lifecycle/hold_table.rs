//! What this node remembers of the holds of its connections, and who waits for a resource. Pure: what somebody must be told comes back
//! as [`Notice`]s.
//!
//! A hold is here from before it is sent to the store until its release is handed to a writer lane. So whatever the store has of this
//! node and this table has not is left over, and may be released at any time (reliability: reconcile).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, hash_map},
    sync::Arc,
};

use super::store::{CloseCause, Fence, HoldId};
use crate::{
    domain::HoldOutcome,
    protocol::{ChannelName, SocketId},
};

/// Where a hold belongs: the connection, and the channel whose subscription took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The application's id.
    pub(crate) app_id: Arc<str>,
    /// The connection.
    pub(crate) socket_id: SocketId,
    /// The channel; `None` for a hold of the whole connection.
    pub(crate) channel: Option<ChannelName>,
}

/// Something to be told to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whom.
    pub(crate) place: Place,
    /// What.
    pub(crate) news: News,
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The lock is not this connection's any more.
    Lost {
        /// What was held.
        resource: String,
        /// The lock.
        fence: Fence,
        /// Why.
        cause: CloseCause,
    },
    /// Whether the lock is certainly held.
    State {
        /// What is held.
        resource: String,
        /// The lock.
        fence: Fence,
        /// False: the node has not heard of the store for a while, and may have been declared dead.
        certain: bool,
    },
    /// What this connection was refused is free.
    Free {
        /// What it asked for.
        resource: String,
    },
    /// The connection cannot keep what it holds, and is to be closed.
    Close,
}

/// A hold that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) id: HoldId,
    pub(crate) resource: String,
    pub(crate) fence: Fence,
    pub(crate) outcome: HoldOutcome,
}

/// All holds and waiters of a node.
#[derive(Debug, Default)]
pub(crate) struct HoldTable {
    holds: HashMap<HoldId, HoldEntry>,
    /// One set and not a list per lock: a user may have thousands of connections on one.
    by_fence: BTreeSet<(Fence, HoldId)>,
    by_socket: HashMap<SocketId, Vec<HoldId>>,
    waiters: HashMap<Awaited, BTreeMap<u64, Place>>,
    /// What each connection waits for, and since which turn.
    waiting: HashMap<SocketId, Vec<(Awaited, u64)>>,
    turns: u64,
    /// Awaited resources of which it is not known whether they are free.
    unclear: BTreeSet<Awaited>,
    /// Locks that ended against their holders' will: the answer that granted one may still be under way.
    ended: HashMap<Fence, CloseCause>,
    ended_order: VecDeque<Fence>,
}

/// An application, and one of its resources.
type Awaited = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct HoldEntry {
    place: Place,
    resource: String,
    quiet: bool,
    state: Grip,
}

/// How firm a hold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grip {
    /// The store was asked.
    Asked,
    /// The store granted it; the client has not been told. `lost`: it is gone again meanwhile.
    Granted { fence: Fence, lost: Option<CloseCause> },
    /// The client knows.
    Told { fence: Fence },
}

/// How many ended locks are remembered for answers that are under way.
const ENDED: usize = 4_096;
/// For how many resources one connection waits. Nothing else bounds them: a refused subscription counts nowhere.
const WAITING: usize = 100;

impl HoldTable {
    /// Notes that the store is about to be asked. `quiet`: the client never hears of it.
    pub(crate) fn asked(&mut self, id: HoldId, place: Place, resource: String, quiet: bool) {
        self.by_socket.entry(place.socket_id).or_default().push(id);
        self.holds.insert(id, HoldEntry { place, resource, quiet, state: Grip::Asked });
    }

    /// Notes a grant. False if the hold was given up meanwhile.
    pub(crate) fn granted(&mut self, id: HoldId, fence: Fence) -> bool {
        let Some(entry) = self.holds.get_mut(&id) else { return false };
        entry.state = Grip::Granted { fence, lost: self.ended.get(&fence).copied() };
        self.by_fence.insert((fence, id));
        let (socket_id, awaited) = (entry.place.socket_id, awaited(&entry.place.app_id, &entry.resource));
        self.wait_no_more(socket_id, |what, _| *what == awaited);
        true
    }

    /// Notes that the client was told of a grant. It may have to be told at once that it is over.
    pub(crate) fn told(&mut self, id: HoldId) -> Option<Notice> {
        let entry = self.holds.get_mut(&id)?;
        let Grip::Granted { fence, lost } = entry.state else { return None };
        entry.state = Grip::Told { fence };
        let cause = lost?;
        self.drop_hold(id).and_then(|entry| lost_notice(entry, fence, cause))
    }

    /// Forgets holds that were not granted.
    pub(crate) fn forget(&mut self, ids: impl IntoIterator<Item = HoldId>) {
        for id in ids {
            self.drop_hold(id);
        }
    }

    /// Takes out the holds of a connection that `which` is true for: they are about to be released.
    pub(crate) fn take(&mut self, socket_id: SocketId, which: impl Fn(&Place, &str, HoldId) -> bool) -> Vec<(HoldId, String)> {
        let Some(ids) = self.by_socket.get(&socket_id) else { return Vec::new() };
        let taken = ids.iter().filter(|id| self.holds.get(id).is_some_and(|hold| which(&hold.place, &hold.resource, **id)));
        let taken: Vec<HoldId> = taken.copied().collect();
        taken.into_iter().filter_map(|id| Some((id, self.drop_hold(id)?.resource))).collect()
    }

    /// What a connection holds, as the store has granted it: resource, lock, and the channel it came with.
    pub(crate) fn held_by(&self, socket_id: SocketId) -> Vec<(String, Fence, Option<ChannelName>)> {
        let held = self.by_socket.get(&socket_id).into_iter().flatten().filter_map(|id| {
            let hold = self.holds.get(id)?;
            let (Grip::Granted { fence, .. } | Grip::Told { fence }) = hold.state else { return None };
            Some((hold.resource.clone(), fence, hold.place.channel.clone()))
        });
        held.collect()
    }

    /// Whether a connection has a resource: granted, and not lost since.
    pub(crate) fn has(&self, socket_id: SocketId, resource: &str) -> bool {
        self.by_socket
            .get(&socket_id)
            .into_iter()
            .flatten()
            .filter_map(|id| self.holds.get(id))
            .any(|hold| hold.resource == resource && matches!(hold.state, Grip::Granted { lost: None, .. } | Grip::Told { .. }))
    }

    /// How many holds a connection has or asks for.
    pub(crate) fn count(&self, socket_id: SocketId) -> usize {
        self.by_socket.get(&socket_id).map_or(0, Vec::len)
    }

    /// A lock ended, and none of these holds released it.
    pub(crate) fn lock_ended(&mut self, fence: Fence, cause: CloseCause) -> Vec<Notice> {
        let ids: Vec<HoldId> =
            self.by_fence.range((fence, HoldId(uuid::Uuid::nil()))..=(fence, HoldId(uuid::Uuid::max()))).map(|(_, id)| *id).collect();
        // Also when some of its holds are here: one more may be on its way to a lock that this node has already.
        let unwanted = matches!(cause, CloseCause::TakenOver | CloseCause::ForceReleased | CloseCause::Reconciled);
        if unwanted && self.ended.insert(fence, cause).is_none() {
            self.ended_order.push_back(fence);
            if self.ended_order.len() > ENDED
                && let Some(oldest) = self.ended_order.pop_front()
            {
                self.ended.remove(&oldest);
            }
        }
        ids.into_iter().filter_map(|id| self.lose(id, cause)).collect()
    }

    /// A hold is gone from the store. Tells its client, unless that does not know of it yet: then [`Self::told`] does.
    pub(crate) fn lose(&mut self, id: HoldId, cause: CloseCause) -> Option<Notice> {
        match &mut self.holds.get_mut(&id)?.state {
            Grip::Asked => None,
            Grip::Granted { lost, .. } => {
                *lost = Some(cause);
                None
            }
            Grip::Told { fence } => {
                let fence = *fence;
                self.drop_hold(id).and_then(|entry| lost_notice(entry, fence, cause))
            }
        }
    }

    /// The node may have been declared dead, or certainly was not: for everybody who holds something.
    pub(crate) fn state(&self, certain: bool) -> Vec<Notice> {
        let state = |hold: &HoldEntry| match hold.state {
            Grip::Told { fence } if !hold.quiet => {
                Some(Notice { place: hold.place.clone(), news: News::State { resource: hold.resource.clone(), fence, certain } })
            }
            _ => None,
        };
        self.holds.values().filter_map(state).collect()
    }

    /// The node was declared dead: nothing is held any more. Everybody is told, and closed.
    pub(crate) fn clear(&mut self, cause: CloseCause) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut close: HashMap<SocketId, Place> = HashMap::new();
        for (_, entry) in self.holds.drain() {
            close.entry(entry.place.socket_id).or_insert_with(|| Place { channel: None, ..entry.place.clone() });
            if let Grip::Told { fence } = entry.state {
                notices.extend(lost_notice(entry, fence, cause));
            }
        }
        self.by_fence.clear();
        self.by_socket.clear();
        notices.extend(close.into_values().map(|place| Notice { place, news: News::Close }));
        notices
    }

    /// Every connection that holds something is to be closed.
    pub(crate) fn close_all(&self) -> Vec<Notice> {
        let places: HashMap<SocketId, &Place> = self.holds.values().map(|hold| (hold.place.socket_id, &hold.place)).collect();
        places.into_values().map(|place| Notice { place: Place { channel: None, ..place.clone() }, news: News::Close }).collect()
    }

    /// Remembers whom to tell once the resource is free. A connection that waits for too much already is not.
    pub(crate) fn wait(&mut self, place: Place, resource: &str) {
        let what = awaited(&place.app_id, resource);
        let mine = self.waiting.entry(place.socket_id).or_default();
        let waits = |turn| self.waiters.get(&what).and_then(|waiters| waiters.get(turn)) == Some(&place);
        if mine.len() >= WAITING || mine.iter().any(|(other, turn)| *other == what && waits(turn)) {
            return;
        }
        self.turns += 1;
        mine.push((what.clone(), self.turns));
        self.waiters.entry(what).or_default().insert(self.turns, place);
    }

    /// Whether anybody waits for it.
    pub(crate) fn is_awaited(&self, app_id: &str, resource: &str) -> bool {
        !self.waiters.is_empty() && self.waiters.contains_key(&awaited(app_id, resource))
    }

    /// Whether it is free is to be asked (again).
    pub(crate) fn is_unclear(&mut self, app_id: &str, resource: &str) {
        self.unclear.insert(awaited(app_id, resource));
    }

    /// One of the resources of which it is to be asked whether they are free, and for which somebody waits.
    pub(crate) fn next_unclear(&mut self) -> Option<(Arc<str>, Arc<str>)> {
        std::iter::from_fn(|| self.unclear.pop_first()).find(|what| self.waiters.contains_key(what))
    }

    /// The resource is free: tells those who wait, once, in the order of their coming.
    pub(crate) fn freed(&mut self, app_id: &str, resource: &str) -> Vec<Notice> {
        let what = awaited(app_id, resource);
        let waiters = self.waiters.remove(&what).unwrap_or_default();
        for place in waiters.values() {
            self.wait_no_more(place.socket_id, |other, _| *other == what);
        }
        waiters.into_values().map(|place| Notice { place, news: News::Free { resource: resource.to_owned() } }).collect()
    }

    /// A connection has ended, or left a channel: it waits for nothing (there) any more.
    pub(crate) fn stop_waiting(&mut self, socket_id: SocketId, channel: Option<&ChannelName>) {
        self.wait_no_more(socket_id, |_, place| channel.is_none_or(|channel| place.channel.as_ref() == Some(channel)));
    }

    fn wait_no_more(&mut self, socket_id: SocketId, ends: impl Fn(&Awaited, &Place) -> bool) {
        let hash_map::Entry::Occupied(mut mine) = self.waiting.entry(socket_id) else { return };
        mine.get_mut().retain(|(what, turn)| {
            let hash_map::Entry::Occupied(mut waiters) = self.waiters.entry(what.clone()) else { return false };
            if !waiters.get().get(turn).is_some_and(|place| ends(what, place)) {
                return waiters.get().contains_key(turn);
            }
            waiters.get_mut().remove(turn);
            if waiters.get().is_empty() {
                waiters.remove();
            }
            false
        });
        if mine.get().is_empty() {
            mine.remove();
        }
    }

    /// All holds that the store has granted.
    pub(crate) fn granted_ids(&self) -> Vec<HoldId> {
        self.by_fence.iter().map(|(_, id)| *id).collect()
    }

    /// The lock of a hold that was granted and is still known.
    pub(crate) fn fence_of(&self, id: HoldId) -> Option<Fence> {
        match self.holds.get(&id)?.state {
            Grip::Asked => None,
            Grip::Granted { fence, .. } | Grip::Told { fence } => Some(fence),
        }
    }

    /// Whether it is known here, in whatever state.
    pub(crate) fn knows(&self, id: HoldId) -> bool {
        self.holds.contains_key(&id)
    }

    /// Refused requests that wait for something to be free.
    pub(crate) fn waiters(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// How many holds there are, those that are asked for included.
    pub(crate) fn len(&self) -> usize {
        self.holds.len()
    }

    fn drop_hold(&mut self, id: HoldId) -> Option<HoldEntry> {
        let entry = self.holds.remove(&id)?;
        if let hash_map::Entry::Occupied(mut ids) = self.by_socket.entry(entry.place.socket_id) {
            ids.get_mut().retain(|other| *other != id);
            if ids.get().is_empty() {
                ids.remove();
            }
        }
        if let Grip::Granted { fence, .. } | Grip::Told { fence } = entry.state {
            self.by_fence.remove(&(fence, id));
        }
        Some(entry)
    }
}

fn awaited(app_id: &str, resource: &str) -> Awaited {
    (Arc::from(app_id), Arc::from(resource))
}

fn lost_notice(entry: HoldEntry, fence: Fence, cause: CloseCause) -> Option<Notice> {
    let HoldEntry { place, resource, quiet, .. } = entry;
    (!quiet).then_some(Notice { place, news: News::Lost { resource, fence, cause } })
}

#[cfg(test)]
#[path = "hold_table_tests.rs"]
mod tests;
