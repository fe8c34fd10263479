//! What this node remembers of the holds of its connections, and who waits for a resource. Pure: what somebody must be told comes back
//! as [`Notice`]s.
//!
//! A hold is here from before it is sent to the store until its release is handed to a writer lane. So whatever the store has of this
//! node and this table has not is left over, and may be released at any time (reliability: reconcile).

use std::{
    collections::{HashMap, VecDeque, hash_map},
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
    by_fence: HashMap<Fence, Vec<HoldId>>,
    by_socket: HashMap<SocketId, Vec<HoldId>>,
    waiters: HashMap<(Arc<str>, String), Vec<Place>>,
    /// Locks that ended against their holders' will, and are not here: the answer that granted one may still be under way.
    ended: VecDeque<(Fence, CloseCause)>,
}

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

impl HoldTable {
    /// Notes that the store is about to be asked. `quiet`: the client never hears of it.
    pub(crate) fn asked(&mut self, id: HoldId, place: Place, resource: String, quiet: bool) {
        self.by_socket.entry(place.socket_id).or_default().push(id);
        self.holds.insert(id, HoldEntry { place, resource, quiet, state: Grip::Asked });
    }

    /// Notes a grant. False if the hold was given up meanwhile.
    pub(crate) fn granted(&mut self, id: HoldId, fence: Fence) -> bool {
        let Some(entry) = self.holds.get_mut(&id) else { return false };
        let lost = self.ended.iter().find(|(ended, _)| *ended == fence).map(|(_, cause)| *cause);
        entry.state = Grip::Granted { fence, lost };
        self.by_fence.entry(fence).or_default().push(id);
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

    /// How many holds a connection has or asks for.
    pub(crate) fn count(&self, socket_id: SocketId) -> usize {
        self.by_socket.get(&socket_id).map_or(0, Vec::len)
    }

    /// A lock ended, and none of these holds released it.
    pub(crate) fn lock_ended(&mut self, fence: Fence, cause: CloseCause) -> Vec<Notice> {
        let Some(ids) = self.by_fence.get(&fence).cloned() else {
            let unwanted = matches!(
                cause,
                CloseCause::TakenOver | CloseCause::ForceReleased | CloseCause::NodeDeath | CloseCause::Superseded | CloseCause::Reconciled
            );
            if unwanted {
                if self.ended.len() == ENDED {
                    self.ended.pop_front();
                }
                self.ended.push_back((fence, cause));
            }
            return Vec::new();
        };
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

    /// Remembers whom to tell once the resource is free.
    pub(crate) fn wait(&mut self, place: Place, resource: String) {
        let waiters = self.waiters.entry((Arc::clone(&place.app_id), resource)).or_default();
        if !waiters.contains(&place) {
            waiters.push(place);
        }
    }

    /// Whether anybody waits for it.
    pub(crate) fn is_awaited(&self, app_id: &str, resource: &str) -> bool {
        // A look-up by borrowed parts would need a type of its own; waiters are few.
        !self.waiters.is_empty() && self.waiters.contains_key(&(Arc::from(app_id), resource.to_owned()))
    }

    /// The resource is free: tells those who wait, once.
    pub(crate) fn freed(&mut self, app_id: &str, resource: &str) -> Vec<Notice> {
        let waiters = self.waiters.remove(&(Arc::from(app_id), resource.to_owned())).unwrap_or_default();
        waiters.into_iter().map(|place| Notice { place, news: News::Free { resource: resource.to_owned() } }).collect()
    }

    /// A connection has ended, or left a channel: it waits for nothing (there) any more.
    pub(crate) fn stop_waiting(&mut self, socket_id: SocketId, channel: Option<&ChannelName>) {
        if self.waiters.is_empty() {
            return;
        }
        self.waiters.retain(|_, waiters| {
            waiters.retain(|place| place.socket_id != socket_id || channel.is_some_and(|channel| place.channel.as_ref() != Some(channel)));
            !waiters.is_empty()
        });
    }

    /// All holds that the store has granted.
    pub(crate) fn granted_ids(&self) -> Vec<HoldId> {
        self.holds.iter().filter(|(_, hold)| hold.state != Grip::Asked).map(|(id, _)| *id).collect()
    }

    /// Whether it is known here, in whatever state.
    pub(crate) fn knows(&self, id: HoldId) -> bool {
        self.holds.contains_key(&id)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.holds.len()
    }

    fn drop_hold(&mut self, id: HoldId) -> Option<HoldEntry> {
        let entry = self.holds.remove(&id)?;
        forget_in(&mut self.by_socket, entry.place.socket_id, id);
        if let Grip::Granted { fence, .. } | Grip::Told { fence } = entry.state {
            forget_in(&mut self.by_fence, fence, id);
        }
        Some(entry)
    }
}

fn forget_in<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Vec<HoldId>>, key: K, id: HoldId) {
    if let hash_map::Entry::Occupied(mut ids) = index.entry(key) {
        ids.get_mut().retain(|other| *other != id);
        if ids.get().is_empty() {
            ids.remove();
        }
    }
}

fn lost_notice(entry: HoldEntry, fence: Fence, cause: CloseCause) -> Option<Notice> {
    let HoldEntry { place, resource, quiet, .. } = entry;
    (!quiet).then_some(Notice { place, news: News::Lost { resource, fence, cause } })
}

#[cfg(test)]
#[path = "hold_table_tests.rs"]
mod tests;
