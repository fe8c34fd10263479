//! The invariants of the guarantees, checked from outside: on the tables, on what clients saw, and on what the brokers logged. It
//! knows nothing of the product but its schema and its wire, and can be shown made-up evidence.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use super::{
    audit::View,
    journal::{Entry, What, beliefs, story},
    ledger::{ConsumerRow, EventRow, Ledger, LockRow},
};

/// A client may see the end of its connection so much later than the log does, in microseconds: both are told at the same time.
const SLOP: i64 = 1_000_000;

/// What a test did to a broker, from when to when, in microseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Disturbance {
    pub(crate) broker: usize,
    pub(crate) kind: Disturbed,
    pub(crate) from: i64,
    pub(crate) to: Option<i64>,
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, kind, from, to } = self;
        write!(f, "broker {broker} {kind:?} at {from} for {:?} s", to.map(|to| (to - from) as f64 / 1e6))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbed {
    /// `kill -9`: its connections end at once.
    Killed,
    /// SIGTERM: its connections are closed.
    Terminated,
    /// SIGSTOP: its connections stand still, and it may be declared dead.
    Stopped,
    /// It cannot reach the database, so that it may be declared dead.
    CutOff,
    /// It cannot reach its clients, so that it may close their connections as dead.
    Unreachable,
}

/// A broker process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Footprint {
    /// Connections that clients opened.
    pub(crate) clients: usize,
    pub(crate) files: usize,
    pub(crate) threads: usize,
    pub(crate) rss_kib: i64,
}

/// A broker process that lived through the test.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) broker: usize,
    pub(crate) before: Footprint,
    pub(crate) after: Footprint,
}

/// What a test allows, because it caused it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// Causes of an Unlocked while its connection is open, beyond those that the client is told.
    pub(crate) causes: Vec<&'static str>,
    /// Parts of log lines at level ERROR.
    pub(crate) errors: Vec<&'static str>,
    /// The database's clock was set: times of the log mean nothing.
    pub(crate) clock_was_set: bool,
    /// Entries may be parked.
    pub(crate) parked: bool,
    /// Memory may grow by so many KiB beyond a tenth.
    pub(crate) rss_kib: Option<i64>,
}

/// Everything there is, after the test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) ledger: Ledger,
    /// Whether nodes are running, which alone may stand as alive in the table.
    pub(crate) running: usize,
    pub(crate) entries: Vec<Entry>,
    /// Clients without a hold, who are to notice nothing.
    pub(crate) plain: HashSet<u32>,
    /// Log lines, by broker.
    pub(crate) logs: Vec<(usize, Vec<String>)>,
    pub(crate) processes: Vec<Process>,
    pub(crate) disturbances: Vec<Disturbance>,
    /// What the `orders` listener made of the log; none where there is no such listener.
    pub(crate) view: Option<View>,
    pub(crate) allowed: Allowed,
}

/// All that is broken, each with the invariant's name in front.
pub(crate) fn violations(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    let checks: [fn(&Evidence, &mut Vec<String>); 10] = [i1, i2, i3, i4, i5, i6, i7, i8, i9, i10];
    for check in checks {
        check(evidence, &mut found);
    }
    found
}

/// Each lock has exactly one `locked`, each released lock exactly one `unlocked`, later and in the same shard.
fn i1(evidence: &Evidence, found: &mut Vec<String>) {
    let mut by_fence: BTreeMap<i64, Vec<&EventRow>> = BTreeMap::new();
    for event in evidence.ledger.events.iter().filter(|event| event.fence.is_some()) {
        by_fence.entry(event.fence.unwrap_or_default()).or_default().push(event);
    }
    let locks: HashMap<i64, &LockRow> = evidence.ledger.locks.iter().map(|lock| (lock.fence, lock)).collect();
    for lock in &evidence.ledger.locks {
        let events = by_fence.get(&lock.fence).map(Vec::as_slice).unwrap_or_default();
        let of = |kind: &str| events.iter().copied().filter(|event| event.kind == kind).collect::<Vec<_>>();
        let (locked, unlocked) = (of("locked"), of("unlocked"));
        let expected = usize::from(lock.state == "released");
        if locked.len() != 1 || unlocked.len() != expected {
            found.push(format!("I1: {} locked and {} unlocked of {lock:?}", locked.len(), unlocked.len()));
        }
        let fits = |event: &&EventRow| {
            (event.shard, &event.app, &event.resource, event.principal.as_ref())
                == (lock.shard, &lock.app, &lock.resource, Some(&lock.principal))
        };
        if !events.iter().all(fits) {
            found.push(format!("I1: an entry of another lock has the fence of {lock:?}: {events:?}"));
        }
        if locked.iter().any(|began| unlocked.iter().any(|ended| ended.position <= began.position)) {
            found.push(format!("I1: unlocked before it was locked: {lock:?}"));
        }
    }
    for fence in by_fence.keys().filter(|fence| !locks.contains_key(fence)) {
        found.push(format!("I1: entries of fence {fence}, which is no lock"));
    }
}

/// Positions are dense in each shard, up to the head.
fn i2(evidence: &Evidence, found: &mut Vec<String>) {
    for head in &evidence.ledger.heads {
        let positions: Vec<i64> =
            evidence.ledger.events.iter().filter(|event| event.shard == head.shard).map(|event| event.position).collect();
        let expected: Vec<i64> = (head.first_position..=head.last_position).collect();
        if positions != expected {
            let missing: Vec<&i64> = expected.iter().filter(|position| !positions.contains(position)).take(5).collect();
            found.push(format!("I2: {head:?} has {} entries, missing {missing:?}", positions.len()));
        }
    }
    let shards: HashSet<i64> = evidence.ledger.heads.iter().map(|head| head.shard).collect();
    if let Some(event) = evidence.ledger.events.iter().find(|event| !shards.contains(&event.shard)) {
        found.push(format!("I2: an entry in a shard without a head: {event:?}"));
    }
}

/// For each resource, exclusive intervals overlap with nothing, shared ones not with one of the same principal; fences rise.
fn i3(evidence: &Evidence, found: &mut Vec<String>) {
    let locks: HashMap<i64, &LockRow> = evidence.ledger.locks.iter().map(|lock| (lock.fence, lock)).collect();
    let mut open: HashMap<(&str, &str), Vec<&LockRow>> = HashMap::new();
    let mut highest: HashMap<(&str, &str), i64> = HashMap::new();
    for event in &evidence.ledger.events {
        let Some((fence, lock)) = event.fence.and_then(|fence| Some((fence, *locks.get(&fence)?))) else { continue };
        let key = (event.app.as_str(), event.resource.as_str());
        let open = open.entry(key).or_default();
        if event.kind == "unlocked" {
            open.retain(|lock| lock.fence != fence);
            continue;
        }
        let clash = |other: &&&LockRow| lock.mode == "exclusive" || other.mode == "exclusive" || lock.principal == other.principal;
        if let Some(other) = open.iter().find(clash) {
            found.push(format!("I3: {lock:?} began while there was {other:?}"));
        }
        open.push(lock);
        let highest = highest.entry(key).or_insert(i64::MIN);
        if fence <= *highest {
            found.push(format!("I3: fence {fence} of {} came after {highest}", event.resource));
        }
        *highest = (*highest).max(fence);
    }
}

/// What a client was told to hold, stands in the log.
fn i4(evidence: &Evidence, found: &mut Vec<String>) {
    let logged: HashMap<i64, &EventRow> = {
        let locked = evidence.ledger.events.iter().filter(|event| event.kind == "locked");
        locked.filter_map(|event| Some((event.fence?, event))).collect()
    };
    let mut granted: HashMap<i64, String> = HashMap::new();
    for belief in beliefs(&evidence.entries) {
        match logged.get(&belief.fence) {
            Some(event) if event.resource == belief.resource && event.principal == belief.principal => {}
            other => found.push(format!("I4: a client saw {belief:?}, the log has {other:?}")),
        }
        if belief.outcome == "granted"
            && let Some(other) = granted.insert(belief.fence, belief.socket_id.clone()).filter(|other| *other != belief.socket_id)
        {
            found.push(format!("I4: fence {} was granted to {other} and to {}", belief.fence, belief.socket_id));
        }
    }
    for entry in &evidence.entries {
        if let What::Nonsense { text } = &entry.what {
            found.push(format!("I4: client {} does not understand {text}", entry.client));
        }
    }
}

/// A listener is at the end of the log and applied every entry once; it shows nothing that is over.
fn i5(evidence: &Evidence, found: &mut Vec<String>) {
    for consumer in &evidence.ledger.consumers {
        let head = evidence.ledger.heads.iter().find(|head| head.shard == consumer.shard).map_or(0, |head| head.last_position);
        if consumer.position != head {
            let ConsumerRow { name, shard, position } = consumer;
            found.push(format!("I5: consumer {name} is at {position} of shard {shard}, which ends at {head}"));
        }
    }
    if !evidence.allowed.parked {
        found.extend(evidence.ledger.parked.iter().map(|parked| format!("I5: parked: {parked:?}")));
    }
    if let Some(view) = &evidence.view {
        found.extend(view.faults(&evidence.ledger).into_iter().map(|fault| format!("I5: {fault}")));
    }
}

/// After all clients have left: no hold, no live lock; who is dead is swept.
fn i6(evidence: &Evidence, found: &mut Vec<String>) {
    let ledger = &evidence.ledger;
    found.extend(ledger.holds.iter().map(|hold| format!("I6: left behind: {hold:?}")));
    found.extend(ledger.live().map(|lock| format!("I6: left behind: {lock:?}")));
    let unfinished = ledger.nodes.iter().filter(|node| matches!(node.state.as_str(), "fenced" | "draining"));
    found.extend(unfinished.map(|node| format!("I6: not swept: {node:?}")));
    let alive = ledger.nodes.iter().filter(|node| node.state == "alive").count();
    if alive != evidence.running {
        found.push(format!("I6: {alive} nodes are alive in the table, {} are running: {:?}", evidence.running, ledger.nodes));
    }
}

/// No `unlocked` while a connection holds the lock, but for reasons that the client is told, or that the test gave.
fn i7(evidence: &Evidence, found: &mut Vec<String>) {
    if evidence.allowed.clock_was_set {
        return;
    }
    let told = ["taken_over", "force_released", "released"];
    let all = beliefs(&evidence.entries);
    for belief in &all {
        let Some(event) = evidence.ledger.unlocked(belief.fence) else { continue };
        let over = belief.until.unwrap_or(i64::MAX);
        if event.at <= belief.from || event.at >= over.saturating_sub(SLOP) {
            continue;
        }
        let cause = event.cause.as_deref().unwrap_or_default();
        let excuse = |disturbance: &&Disturbance| match disturbance.kind {
            // Its own hold ends as idle, unheard; with another tab the lock then ends for whatever reason that one has.
            Disturbed::Unreachable => {
                let another_tab = || all.iter().any(|other| other.fence == belief.fence && other.socket_id != belief.socket_id);
                matches!(cause, "idle" | "gone" | "client_closed" | "slow_consumer") || another_tab()
            }
            // Its hold is swept meanwhile, unheard, with the same consequence.
            Disturbed::CutOff | Disturbed::Stopped => true,
            _ => matches!(cause, "node_death" | "superseded" | "shutdown"),
        };
        let excused = evidence.disturbances.iter().filter(excuse).any(|disturbance| {
            disturbance.broker == belief.broker && disturbance.from <= event.at && disturbance.to.is_none_or(|to| to + 3 * SLOP >= event.at)
        });
        if !told.contains(&cause) && !evidence.allowed.causes.contains(&cause) && !excused {
            let story = story(&evidence.entries, belief.client);
            found.push(format!("I7: {belief:?} was unlocked at {} by {cause}, after grace: {}\n{story}", event.at, event.after_grace));
        }
    }
}

/// Brokers that lived through the test hold on to nothing.
fn i8(evidence: &Evidence, found: &mut Vec<String>) {
    // The store's connections come and go: lanes, heartbeat, housekeeping, readers, doorbell.
    const FILES: usize = 16;
    const THREADS: usize = 4;
    for process in &evidence.processes {
        let Process { broker, before, after } = process;
        if after.clients > before.clients {
            found.push(format!("I8: broker {broker} still has {} client connections, {} before", after.clients, before.clients));
        }
        if after.files > before.files + FILES || after.threads > before.threads + THREADS {
            found.push(format!("I8: broker {broker} has {after:?}, before {before:?}"));
        }
        if let Some(slack) = evidence.allowed.rss_kib
            && after.rss_kib > before.rss_kib + before.rss_kib / 10 + slack
        {
            found.push(format!("I8: broker {broker} has {} KiB, before {}", after.rss_kib, before.rss_kib));
        }
    }
}

/// Clients without holds are cut off only where their broker was ended.
fn i9(evidence: &Evidence, found: &mut Vec<String>) {
    let mut at: HashMap<u32, usize> = HashMap::new();
    for entry in evidence.entries.iter().filter(|entry| evidence.plain.contains(&entry.client)) {
        match entry.what {
            What::Opened { broker, .. } => drop(at.insert(entry.client, broker)),
            What::Ended { code } => {
                let ended = |disturbance: &Disturbance| {
                    Some(&disturbance.broker) == at.get(&entry.client)
                        && matches!(disturbance.kind, Disturbed::Killed | Disturbed::Terminated)
                        && disturbance.from <= entry.at
                };
                if !evidence.disturbances.iter().any(ended) {
                    found.push(format!("I9: client {} without holds was cut off, code {code:?}", entry.client));
                }
            }
            _ => {}
        }
    }
}

/// No panic, and no ERROR but those that the test provokes.
fn i10(evidence: &Evidence, found: &mut Vec<String>) {
    for (broker, lines) in &evidence.logs {
        for line in lines {
            let error = line.contains(r#""level":"ERROR""#) && !evidence.allowed.errors.iter().any(|allowed| line.contains(allowed));
            if error || line.contains("panicked at") {
                found.push(format!("I10: broker {broker} logged {line}"));
            }
        }
    }
}
