//! What clients saw and did, in their own words: the evidence that the broker is compared with.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of a client in its test; it keeps it over reconnects.
pub(crate) type ClientId = u32;

/// How often somebody who waits looks.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Something that happened to one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Microseconds since 1970 by this machine's clock.
    pub(crate) at: i64,
    pub(crate) client: ClientId,
    pub(crate) what: What,
}

/// How a client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Leave {
    /// A close frame with 1000.
    CloseFrame,
    Fin,
    Reset,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum What {
    /// `connection_established`, by the broker of this number.
    Opened {
        broker: usize,
        socket_id: String,
    },
    /// No connection, or one that ended before it was established.
    NotOpened {
        broker: usize,
        code: Option<u16>,
    },
    /// A frame was sent.
    Subscribing {
        channel: String,
    },
    Unsubscribing {
        channel: String,
    },
    /// `subscription_succeeded`.
    Subscribed {
        channel: String,
    },
    /// `holdline:locked`; without a fence it is degraded: the store does not answer and the rule is `fail_open`.
    Locked {
        channel: String,
        resource: String,
        fence: Option<i64>,
        principal: Option<String>,
        outcome: String,
    },
    /// `subscription_error`.
    Refused {
        channel: String,
        kind: String,
        status: u64,
        holder: Option<Value>,
    },
    LockFree {
        resource: String,
    },
    LockLost {
        fence: i64,
        cause: String,
    },
    LockState {
        fence: Option<i64>,
        state: String,
    },
    /// Any other event on a channel.
    Event {
        channel: String,
        name: String,
        data: String,
    },
    /// The client ends the connection.
    Leaving {
        how: Leave,
    },
    /// The test has made the client unreachable: what it does not see from here on, it cannot see.
    Unreachable,
    /// The connection is over: by a close frame, or without one. Also follows on `Leaving`.
    Ended {
        code: Option<u16>,
    },
    /// The broker sent something that no broker may send.
    Nonsense {
        text: String,
    },
}

/// Now, as [`Entry::at`].
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_micros() as i64
}

/// All entries of one test, in the order in which they came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    inner: Arc<Mutex<Vec<Entry>>>,
}

impl Journal {
    pub(crate) fn add(&self, entry: Entry) {
        self.inner.lock().expect("not poisoned").push(entry);
    }

    pub(crate) fn note(&self, client: ClientId, what: What) {
        self.add(Entry { at: now(), client, what });
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.inner.lock().expect("not poisoned").clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().expect("not poisoned").len()
    }

    /// Waits until `find` finds something; `None` after `limit`.
    pub(crate) fn find_within<T>(&self, limit: Duration, mut find: impl FnMut(&[Entry]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = find(&self.inner.lock().expect("not poisoned")) {
                return Some(found);
            }
            if Instant::now() > deadline {
                return None;
            }
            // Not at every entry: a crowd writes thousands, and its pongs must not wait for us.
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until `find` finds something in what this client saw; fails with the client's story.
    pub(crate) fn await_for<T>(&self, client: ClientId, what: &str, mut find: impl FnMut(&[&Entry]) -> Option<T>) -> T {
        let of_client = |entries: &[Entry], find: &mut dyn FnMut(&[&Entry]) -> Option<T>| {
            let own: Vec<&Entry> = entries.iter().filter(|entry| entry.client == client).collect();
            find(&own)
        };
        let found = self.find_within(crate::support::WAIT, |entries| of_client(entries, &mut find));
        found.unwrap_or_else(|| panic!("client {client} waited in vain: {what}\n{}", self.story(client)))
    }

    /// What this client saw, for people.
    pub(crate) fn story(&self, client: ClientId) -> String {
        story(&self.entries(), client)
    }
}

/// What a client saw and did, a line each.
pub(crate) fn story(entries: &[Entry], client: ClientId) -> String {
    let own = |entry: &Entry| (entry.client == client).then(|| format!("  {:.3} {:?}", entry.at as f64 / 1e6, entry.what));
    entries.iter().filter_map(own).collect::<Vec<_>>().join("\n")
}

/// A time in which a client, on one connection, was told that it holds a lock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Belief {
    pub(crate) client: ClientId,
    pub(crate) broker: usize,
    pub(crate) socket_id: String,
    pub(crate) resource: String,
    pub(crate) principal: Option<String>,
    pub(crate) outcome: String,
    pub(crate) fence: i64,
    pub(crate) from: i64,
    /// When the client let go, was told to, or was gone. Still so if `None`.
    pub(crate) until: Option<i64>,
}

/// All beliefs, in the order in which they began.
pub(crate) fn beliefs(entries: &[Entry]) -> Vec<Belief> {
    let mut tellers: HashMap<ClientId, Teller> = HashMap::new();
    let mut found: Vec<(Belief, String)> = Vec::new();
    for entry in entries {
        let (at, client) = (entry.at, entry.client);
        let teller = tellers.entry(client).or_default();
        let mut end = |applies: &dyn Fn(&(Belief, String)) -> bool| {
            let mine = |pair: &&mut (Belief, String)| pair.0.client == client && pair.0.until.is_none();
            found.iter_mut().filter(mine).filter(|pair| applies(pair)).for_each(|pair| pair.0.until = Some(at));
        };
        match &entry.what {
            What::Opened { broker, socket_id } => {
                end(&|_| true);
                *teller = Teller { broker: *broker, socket_id: socket_id.clone(), ..Teller::default() };
            }
            What::Subscribing { channel } => teller.asked.push((channel.clone(), false)),
            What::Unsubscribing { channel } => {
                // Also of what is asked for and not answered yet, or not to the end: then the answer is old when it comes.
                let open = teller.asked.iter_mut().chain(&mut teller.answered);
                open.filter(|(asked, _)| asked == channel).for_each(|(_, taken_back)| *taken_back = true);
                end(&|pair| pair.1 == *channel);
            }
            What::Subscribed { channel } | What::Refused { channel, .. } => {
                if let Some(first) = teller.asked.iter().position(|(asked, _)| asked == channel) {
                    teller.answered = Some(teller.asked.remove(first));
                }
            }
            What::Locked { channel, resource, fence: Some(fence), principal, outcome } => {
                let (resource, principal, outcome) = (resource.clone(), principal.clone(), outcome.clone());
                let taken_back = teller.answered.as_ref().is_some_and(|(answered, taken_back)| answered == channel && *taken_back);
                let (broker, socket_id, until) = (teller.broker, teller.socket_id.clone(), taken_back.then_some(at));
                let belief = Belief { client, broker, socket_id, resource, principal, outcome, fence: *fence, from: at, until };
                found.push((belief, channel.clone()));
            }
            What::LockLost { fence, .. } => end(&|pair| pair.0.fence == *fence),
            What::Leaving { .. } | What::Unreachable | What::Ended { .. } => end(&|_| true),
            _ => {}
        }
    }
    found.into_iter().map(|(belief, _)| belief).collect()
}

/// What is known of one connection while its story is read.
#[derive(Default)]
struct Teller {
    broker: usize,
    socket_id: String,
    /// Channels whose subscription is not answered, in order, and whether it was taken back meanwhile.
    asked: Vec<(String, bool)>,
    /// The one that was answered last, and whether it was taken back since.
    answered: Option<(String, bool)>,
}

/// Socket ids that are open, with their clients.
pub(crate) fn open_sockets(entries: &[Entry]) -> HashMap<ClientId, String> {
    let mut open = HashMap::new();
    for entry in entries {
        match &entry.what {
            What::Opened { socket_id, .. } => drop(open.insert(entry.client, socket_id.clone())),
            What::Leaving { .. } | What::Ended { .. } => drop(open.remove(&entry.client)),
            _ => {}
        }
    }
    open
}
