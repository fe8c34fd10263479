//! What waits to be recorded of the channels, and in which order it goes. Pure: the task in `recorder` sends what this says.
//!
//! There are two kinds of things. A *change*, somebody is present or absent, is a state: what matters is the newest, so a long wait
//! collapses to as many as there are keys that are not as they were recorded. An *event* only happens: those that do not fit into the
//! bound are dropped, newest first, and counted.
//!
//! One batch, of one application, is under way at a time, and stays as it is, number and all, until it is answered. What was answered
//! is remembered: when the incarnation that it was recorded for is fenced, it is declared again for the next one, before all else.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use super::store::{Sighting, Sightings};
use crate::protocol::ChannelName;

/// A channel, or a member of one.
pub(super) type Key = (ChannelName, Option<Arc<str>>);

/// How much waits, and how much goes at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordLimits {
    /// Sightings in one batch.
    pub(super) batch: usize,
    /// Bytes of events in one batch, unless one alone has more.
    pub(super) batch_bytes: usize,
    /// Changes of an application that wait before they are collapsed for the first time.
    pub(super) changes: usize,
    /// Bytes of events that wait, over all applications.
    pub(super) event_bytes: usize,
}

/// Something that only happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Happening {
    /// The name of the webhook.
    pub(super) name: &'static str,
    pub(super) channel: ChannelName,
    /// Its fields.
    pub(super) payload: Value,
    /// What it counts for.
    pub(super) bytes: usize,
}

#[derive(Clone, Debug)]
enum Waiting {
    Change { key: Key, present: bool },
    Event(Happening),
}

impl Waiting {
    fn bytes(&self) -> usize {
        match self {
            Self::Change { .. } => 0,
            Self::Event(event) => event.bytes,
        }
    }
}

/// What waits for the store.
#[derive(Debug)]
pub(super) struct RecordQueue {
    apps: Vec<AppQueue>,
    /// Whose turn it is: one busy application does not hold up the others.
    turn: usize,
    number: i64,
    under_way: Option<UnderWay>,
    /// So many sightings go one by one: one of them was refused.
    singly: usize,
    delay: Duration,
    limits: RecordLimits,
    event_bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct AppQueue {
    id: String,
    delay: Duration,
    waiting: VecDeque<Waiting>,
    changes: usize,
    collapse_above: usize,
    recorded: HashSet<Key>,
    /// Of those that are recorded, what the present incarnation has to declare yet.
    declare: VecDeque<Key>,
}

#[derive(Debug)]
struct UnderWay {
    app: usize,
    declared: Vec<Key>,
    waited: Vec<Waiting>,
    sent: Arc<Sightings>,
}

impl RecordQueue {
    /// A queue for these applications, by their ids, with one delay for all. They are named by their place in the list.
    pub(super) fn new(apps: impl IntoIterator<Item = String>, delay: Duration, limits: RecordLimits) -> Self {
        let apps = apps.into_iter().map(|id| AppQueue::new(id, delay, limits.changes)).collect();
        Self { apps, turn: 0, number: 0, under_way: None, singly: 0, delay, limits, event_bytes: 0, dropped: 0 }
    }

    /// One more application; its place in the list.
    pub(super) fn add(&mut self, app: String) -> usize {
        self.apps.push(AppQueue::new(app, self.delay, self.limits.changes));
        self.apps.len() - 1
    }

    /// Somebody is present from here on, or absent.
    pub(super) fn change(&mut self, app: usize, key: Key, present: bool) {
        let under_way = self.under_way.as_ref().filter(|under_way| under_way.app == app);
        self.apps[app].change(key, present, under_way, self.limits.changes);
    }

    /// Something happened.
    pub(super) fn happened(&mut self, app: usize, event: Happening) {
        if self.event_bytes + event.bytes > self.limits.event_bytes {
            self.dropped += 1;
            return;
        }
        self.event_bytes += event.bytes;
        self.apps[app].waiting.push_back(Waiting::Event(event));
    }

    /// What to send now: the batch that is not answered yet, or the next.
    pub(super) fn next_batch(&mut self) -> Option<Arc<Sightings>> {
        if self.under_way.is_none() {
            let count = self.apps.len();
            let app = (0..count).map(|step| (self.turn + step) % count).find(|app| self.apps[*app].has_work())?;
            self.turn = (app + 1) % count;
            let batch = if self.singly > 0 { 1 } else { self.limits.batch };
            self.singly = self.singly.saturating_sub(1);
            self.number += 1;
            self.under_way = Some(self.apps[app].take(app, self.number, RecordLimits { batch, ..self.limits }));
        }
        self.under_way.as_ref().map(|under_way| Arc::clone(&under_way.sent))
    }

    /// The store has recorded the batch that was under way.
    pub(super) fn recorded(&mut self) {
        let Some(UnderWay { app, waited, .. }) = self.under_way.take() else { return };
        for item in waited {
            match item {
                Waiting::Change { key, present: true } => {
                    self.apps[app].recorded.insert(key);
                }
                Waiting::Change { key, present: false } => {
                    self.apps[app].recorded.remove(&key);
                }
                Waiting::Event(event) => self.event_bytes -= event.bytes,
            }
        }
    }

    /// The store refused the batch that was under way for good. Of several, each is tried alone; one alone is given up. Says how many
    /// were.
    pub(super) fn refused(&mut self) -> usize {
        let Some(UnderWay { app, declared, waited, .. }) = self.under_way.take() else { return 0 };
        let (count, queue) = (declared.len() + waited.len(), &mut self.apps[app]);
        if count == 1 {
            declared.iter().for_each(|key| {
                queue.recorded.remove(key);
            });
            self.event_bytes -= waited.iter().map(Waiting::bytes).sum::<usize>();
            return 1;
        }
        declared.into_iter().rev().for_each(|key| queue.declare.push_front(key));
        queue.give_back(waited);
        // Those of other applications that have their turn meanwhile go one by one, too, which does no harm.
        self.singly += count;
        0
    }

    /// There is a new incarnation: nothing of what was recorded counts any more.
    pub(super) fn fenced(&mut self) {
        if let Some(UnderWay { app, waited, .. }) = self.under_way.take() {
            self.apps[app].give_back(waited);
        }
        self.singly = 0;
        self.apps.iter_mut().for_each(AppQueue::declare_again);
    }

    /// True if nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && !self.apps.iter().any(AppQueue::has_work)
    }

    /// How many wait, those that are under way included.
    pub(super) fn len(&self) -> usize {
        let under_way = self.under_way.as_ref().map_or(0, |under_way| under_way.sent.seen.len());
        under_way + self.apps.iter().map(|app| app.waiting.len() + app.declare.len()).sum::<usize>()
    }

    /// Events that were dropped since the last time this was asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl AppQueue {
    fn new(id: String, delay: Duration, collapse_above: usize) -> Self {
        let (waiting, declare) = (VecDeque::new(), VecDeque::new());
        Self { id, delay, waiting, changes: 0, collapse_above, recorded: HashSet::new(), declare }
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.declare.is_empty()
    }

    fn change(&mut self, key: Key, present: bool, under_way: Option<&UnderWay>, least: usize) {
        self.waiting.push_back(Waiting::Change { key, present });
        self.changes += 1;
        if self.changes > self.collapse_above {
            self.collapse(under_way);
            // What is left cannot be less than what has changed: only when it has doubled is it worth another look.
            self.collapse_above = least.max(self.changes * 2);
        }
    }

    /// Leaves of the changes of each key the newest, and that only if it differs from what is recorded, or will be. The order of those
    /// that are left stays: whoever is present came after the channel was occupied, and whoever is absent went before it was vacated.
    fn collapse(&mut self, under_way: Option<&UnderWay>) {
        let mut newest: HashMap<Key, usize> = HashMap::new();
        for (at, item) in self.waiting.iter().enumerate() {
            if let Waiting::Change { key, .. } = item {
                newest.insert(key.clone(), at);
            }
        }
        let mut sent: HashMap<&Key, bool> = HashMap::new();
        for item in under_way.into_iter().flat_map(|under_way| &under_way.waited) {
            if let Waiting::Change { key, present } = item {
                sent.insert(key, *present);
            }
        }
        let recorded = &self.recorded;
        let keeps = |at: usize, item: &Waiting| match item {
            Waiting::Event(_) => true,
            Waiting::Change { key, present } => {
                let before = sent.get(key).copied().unwrap_or_else(|| recorded.contains(key));
                newest.get(key) == Some(&at) && *present != before
            }
        };
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting.into_iter().enumerate().filter(|(at, item)| keeps(*at, item)).map(|(_, item)| item).collect();
        self.changes = self.waiting.iter().filter(|item| matches!(item, Waiting::Change { .. })).count();
    }

    fn take(&mut self, app: usize, number: i64, limits: RecordLimits) -> UnderWay {
        let declared: Vec<Key> = self.declare.drain(..self.declare.len().min(limits.batch)).collect();
        let (room, mut bytes) = (limits.batch - declared.len(), 0);
        let fits = |item: &&Waiting| {
            bytes += item.bytes();
            bytes <= limits.batch_bytes || bytes == item.bytes()
        };
        let count = self.waiting.iter().take(room).take_while(fits).count();
        let waited: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.changes -= waited.iter().filter(|item| matches!(item, Waiting::Change { .. })).count();
        let seen = declared.iter().map(|key| sighting(key, true)).chain(waited.iter().map(|item| match item {
            Waiting::Change { key, present } => sighting(key, *present),
            Waiting::Event(event) => {
                Sighting::Event { name: event.name.to_owned(), channel: event.channel.as_str().to_owned(), payload: event.payload.clone() }
            }
        }));
        let sent = Arc::new(Sightings { app: self.id.clone(), number, delay: self.delay, seen: seen.collect() });
        UnderWay { app, declared, waited, sent }
    }

    fn give_back(&mut self, waited: Vec<Waiting>) {
        for item in waited.into_iter().rev() {
            self.changes += usize::from(matches!(item, Waiting::Change { .. }));
            self.waiting.push_front(item);
        }
    }

    /// All that was recorded is to be declared again, channels before their members; but for those who have left since: to the store they
    /// are gone with the incarnation, and their absence need not be said any more. Unless members came meanwhile: they come to a channel.
    fn declare_again(&mut self) {
        let (mut looked_at, mut has_news) = (HashSet::new(), HashSet::new());
        for item in std::mem::take(&mut self.waiting) {
            if let Waiting::Change { key, present } = &item {
                let is_first = looked_at.insert(key.clone());
                let is_needed = *present || !is_first || key.1.is_none() && has_news.contains(&key.0);
                if !is_needed && self.recorded.remove(key) {
                    self.changes -= 1;
                    continue;
                }
                has_news.insert(key.0.clone());
            }
            self.waiting.push_back(item);
        }
        let mut declare: Vec<Key> = self.recorded.iter().cloned().collect();
        declare.sort_by(|(a, one), (b, other)| (one.is_some(), a, one).cmp(&(other.is_some(), b, other)));
        self.declare = declare.into();
    }
}

fn sighting((channel, member): &Key, present: bool) -> Sighting {
    let (channel, member) = (channel.as_str().to_owned(), member.as_deref().map(str::to_owned));
    if present { Sighting::Present { channel, member } } else { Sighting::Absent { channel, member } }
}

#[cfg(test)]
#[path = "record_queue_tests.rs"]
mod tests;
