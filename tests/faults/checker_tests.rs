//! Each invariant is seen to fail on evidence that breaks it, and on nothing else.

use super::{
    audit::{Change, Move, View},
    checker::{Allowed, Disturbance, Disturbed, Evidence, Footprint, Process, violations},
    journal::{Entry, Leave, What, beliefs},
    ledger::{ConsumerRow, EventRow, HeadRow, HoldRow, Ledger, LockRow, NodeRow},
    node::clients_of,
};

const SECOND: i64 = 1_000_000;

fn lock(fence: i64, resource: &str, principal: &str, state: &str) -> LockRow {
    let text = str::to_owned;
    let (app, mode) = (text("app-id"), text("exclusive"));
    LockRow { fence, shard: 0, app, resource: text(resource), mode, principal: text(principal), state: text(state) }
}

fn event(position: i64, kind: &str, of: &LockRow, seconds: i64) -> EventRow {
    EventRow {
        shard: 0,
        position,
        kind: kind.to_owned(),
        app: of.app.clone(),
        resource: of.resource.clone(),
        fence: Some(of.fence),
        principal: Some(of.principal.clone()),
        cause: (kind == "unlocked").then(|| "gone".to_owned()),
        after_grace: false,
        at: seconds * SECOND,
    }
}

fn seen(client: u32, seconds: i64, what: What) -> Entry {
    Entry { at: seconds * SECOND, client, what }
}

fn opened(broker: usize, socket_id: &str) -> What {
    What::Opened { broker, socket_id: socket_id.to_owned() }
}

fn locked(resource: &str, fence: i64, principal: &str, outcome: &str) -> What {
    let [channel, resource, principal, outcome] = ["private-x", resource, principal, outcome].map(str::to_owned);
    What::Locked { channel, resource, fence: Some(fence), principal: Some(principal), outcome }
}

/// The listener took the first two entries in one transaction, then one in each.
fn view(entries: usize) -> View {
    let change = |(fence, kind, transaction): (i64, &str, i64)| Change { fence, kind: kind.to_owned(), transaction };
    let step = |after, upto, transaction| Move { name: "orders".to_owned(), shard: 0, after, upto, aside: false, transaction };
    let changes = [(1, "locked", 71), (1, "unlocked", 71), (2, "locked", 72), (2, "unlocked", 73)].map(change);
    let moves = [step(0, 2, 71), step(2, 3, 72), step(3, 4, 73)];
    let shown = if entries == 4 { [].into() } else { [2].into() };
    View { shown, changes: changes[..entries].to_vec(), moves: moves[..entries - 1].to_vec() }
}

/// Two users, one after the other, held order 1; a third, plain client watched; broker 0 lived through it.
fn good() -> Evidence {
    let (one, two) = (lock(1, "order:1", "user:a", "released"), lock(2, "order:1", "user:b", "released"));
    let events =
        vec![event(1, "locked", &one, 10), event(2, "unlocked", &one, 20), event(3, "locked", &two, 30), event(4, "unlocked", &two, 40)];
    let node = NodeRow { incarnation: 1, state: "alive".to_owned(), end_cause: None };
    let consumer = ConsumerRow { name: "orders".to_owned(), shard: 0, position: 4 };
    let entries = vec![
        seen(9, 1, opened(0, "9.9")),
        seen(1, 9, opened(0, "1.1")),
        seen(1, 10, locked("order:1", 1, "user:a", "granted")),
        seen(1, 19, What::Leaving { how: Leave::Fin }),
        seen(2, 29, opened(0, "2.2")),
        seen(2, 30, locked("order:1", 2, "user:b", "granted")),
        seen(2, 39, What::Leaving { how: Leave::Reset }),
    ];
    let footprint = Footprint { clients: 1, files: 30, threads: 5, rss_kib: 20_000 };
    Evidence {
        ledger: Ledger {
            nodes: vec![node],
            locks: vec![one, two],
            holds: Vec::new(),
            events,
            heads: vec![HeadRow { shard: 0, last_position: 4, first_position: 1 }],
            consumers: vec![consumer],
            parked: Vec::new(),
        },
        running: 1,
        entries,
        plain: [9].into(),
        logs: vec![(0, vec![r#"{"level":"INFO","message":"Listening"}"#.to_owned()])],
        processes: vec![Process { broker: 0, before: footprint, after: footprint }],
        disturbances: Vec::new(),
        view: Some(view(4)),
        allowed: Allowed::default(),
    }
}

/// What is found once the evidence is changed so; only this invariant may complain.
#[track_caller]
fn breaks(invariant: &str, change: impl FnOnce(&mut Evidence)) {
    let mut evidence = good();
    change(&mut evidence);
    let found = violations(&evidence);
    let prefix = format!("{invariant}: ");
    assert!(!found.is_empty() && found.iter().all(|one| one.starts_with(&prefix)), "{invariant} should break: {found:#?}");
}

#[track_caller]
fn holds(change: impl FnOnce(&mut Evidence)) {
    let mut evidence = good();
    change(&mut evidence);
    assert_eq!(violations(&evidence), Vec::<String>::new());
}

/// The same without a listener: what is wrong with the log is wrong with what one makes of it, too.
#[track_caller]
fn log_breaks(invariant: &str, change: impl FnOnce(&mut Evidence)) {
    breaks(invariant, |evidence| {
        evidence.view = None;
        change(evidence);
    });
}

/// Makes an entry of the log another one, keeping the log dense.
fn replace(evidence: &mut Evidence, position: usize, change: impl FnOnce(&mut EventRow)) {
    change(&mut evidence.ledger.events[position - 1]);
}

#[test]
fn good_evidence_is_good() {
    holds(|_| {});
}

#[test]
fn i1_a_lock_without_or_with_too_many_entries() {
    let plain = |event: &mut EventRow| (event.kind, event.fence, event.cause) = ("event".to_owned(), None, None);
    log_breaks("I1", |evidence| replace(evidence, 4, plain));
    log_breaks("I1", |evidence| replace(evidence, 4, |event| event.fence = Some(1)));
    log_breaks("I1", |evidence| replace(evidence, 4, |event| event.resource = "order:2".to_owned()));
    log_breaks("I1", |evidence| {
        replace(evidence, 3, |event| event.kind = "unlocked".to_owned());
        replace(evidence, 4, |event| event.kind = "locked".to_owned());
    });
    log_breaks("I1", |evidence| {
        evidence.ledger.locks.remove(1);
    });
}

#[test]
fn i2_a_hole_or_a_head_that_is_elsewhere() {
    log_breaks("I2", |evidence| {
        evidence.ledger.events[3].position = 5;
        evidence.ledger.heads[0].last_position = 5;
        evidence.ledger.consumers[0].position = 5;
    });
    log_breaks("I2", |evidence| {
        evidence.ledger.heads[0].last_position = 5;
        evidence.ledger.consumers[0].position = 5;
    });
    log_breaks("I2", |evidence| evidence.ledger.heads[0].first_position = 2);
}

#[test]
fn i3_two_at_once_or_fences_that_fall() {
    let swap = |evidence: &mut Evidence| {
        evidence.ledger.events.swap(1, 2);
        evidence.ledger.events[1].position = 2;
        evidence.ledger.events[2].position = 3;
        evidence.view = None;
    };
    log_breaks("I3", swap);
    holds(|evidence| {
        swap(evidence);
        evidence.ledger.locks.iter_mut().for_each(|lock| lock.mode = "shared".to_owned());
    });
    log_breaks("I3", |evidence| {
        swap(evidence);
        evidence.ledger.locks[0].mode = "shared".to_owned();
    });
    log_breaks("I3", |evidence| {
        for fenced in &mut evidence.ledger.events {
            fenced.fence = fenced.fence.map(|fence| 3 - fence);
        }
        let principals = ["user:b", "user:b", "user:a", "user:a"];
        evidence.ledger.events.iter_mut().zip(principals).for_each(|(event, of)| event.principal = Some(of.to_owned()));
        evidence.entries.retain(|entry| entry.client == 9);
    });
}

#[test]
fn i4_a_grant_that_is_not_in_the_log() {
    breaks("I4", |evidence| evidence.entries[2].what = locked("order:1", 7, "user:a", "granted"));
    breaks("I4", |evidence| evidence.entries[2].what = locked("order:2", 1, "user:a", "granted"));
    breaks("I4", |evidence| evidence.entries[2].what = locked("order:1", 1, "user:z", "granted"));
    breaks("I4", |evidence| evidence.entries.insert(5, seen(2, 29, locked("order:1", 1, "user:a", "granted"))));
    breaks("I4", |evidence| evidence.entries.push(seen(9, 50, What::Nonsense { text: "{".to_owned() })));
}

#[test]
fn i5_a_listener_that_lags_parks_or_shows_what_is_over() {
    breaks("I5", |evidence| evidence.ledger.consumers[0].position = 3);
    breaks("I5", |evidence| evidence.ledger.parked = evidence.ledger.consumers.clone());
    let with_view = |change: fn(&mut View)| move |evidence: &mut Evidence| change(evidence.view.as_mut().unwrap());
    breaks("I5", with_view(|view| view.shown = [1].into()));
    // Twice, not at all, in another transaction than the offset's, or of a lock that nobody knows.
    breaks("I5", with_view(|view| view.changes.push(view.changes[0].clone())));
    breaks("I5", with_view(|view| drop(view.changes.pop())));
    breaks("I5", with_view(|view| view.changes[3].transaction = 72));
    breaks("I5", with_view(|view| view.changes[3].transaction = 99));
    breaks("I5", with_view(|view| view.changes.push(Change { fence: 7, ..view.changes[0].clone() })));
    // An entry that is passed twice, or left out.
    breaks("I5", with_view(|view| view.moves[2].after = 2));
    breaks("I5", with_view(|view| view.moves[1].upto = 2));
    // What was parked is applied when it comes back, not with the offset.
    holds(with_view(|view| {
        view.changes[2].transaction = 88;
        view.changes[3].transaction = 89;
        let back = |upto, transaction| Move { after: upto - 1, upto, aside: true, transaction, ..view.moves[0].clone() };
        let back = [back(3, 88), back(4, 89)];
        view.moves.extend(back);
    }));
}

#[test]
fn i6_something_is_left_behind() {
    let hold = HoldRow { fence: 2, incarnation: 1, socket_id: "2.2".to_owned() };
    breaks("I6", |evidence| evidence.ledger.holds.push(hold));
    breaks("I6", |evidence| {
        evidence.ledger.locks[1].state = "grace".to_owned();
        evidence.ledger.events.pop();
        evidence.ledger.heads[0].last_position = 3;
        evidence.ledger.consumers[0].position = 3;
        evidence.view = Some(view(3));
    });
    breaks("I6", |evidence| evidence.ledger.nodes[0].state = "fenced".to_owned());
    breaks("I6", |evidence| evidence.running = 0);
}

#[test]
fn i7_unlocked_under_a_connection_that_is_open() {
    let early = |evidence: &mut Evidence| evidence.ledger.events[1].at = 15 * SECOND;
    breaks("I7", early);
    let with_cause = |cause: &'static str| {
        move |evidence: &mut Evidence| {
            early(evidence);
            evidence.ledger.events[1].cause = Some(cause.to_owned());
        }
    };
    holds(with_cause("taken_over"));
    breaks("I7", with_cause("node_death"));
    let frozen =
        |broker, from, to: Option<i64>| Disturbance { broker, kind: Disturbed::Stopped, from: from * SECOND, to: to.map(|to| to * SECOND) };
    holds(|evidence| {
        with_cause("node_death")(evidence);
        evidence.disturbances.push(frozen(0, 12, Some(16)));
    });
    breaks("I7", |evidence| {
        with_cause("node_death")(evidence);
        evidence.disturbances.push(frozen(1, 12, None));
    });
    breaks("I7", |evidence| {
        with_cause("node_death")(evidence);
        evidence.disturbances.push(frozen(0, 2, Some(3)));
    });
    let hidden = |evidence: &mut Evidence| {
        evidence.disturbances.push(Disturbance { kind: Disturbed::Unreachable, ..frozen(0, 12, Some(16)) });
    };
    holds(|evidence| {
        with_cause("idle")(evidence);
        hidden(evidence);
    });
    breaks("I7", |evidence| {
        with_cause("node_death")(evidence);
        hidden(evidence);
    });
    // The second connection of a client that came back within the grace.
    breaks("I7", |evidence| {
        evidence.entries.insert(4, seen(1, 19, opened(0, "1.2")));
        evidence.entries.insert(5, seen(1, 19, locked("order:1", 1, "user:a", "resumed")));
    });
}

#[test]
fn i8_a_broker_that_holds_on() {
    breaks("I8", |evidence| evidence.processes[0].after.clients = 2);
    breaks("I8", |evidence| evidence.processes[0].after.files = 60);
    breaks("I8", |evidence| evidence.processes[0].after.threads = 20);
    breaks("I8", |evidence| {
        evidence.allowed.rss_kib = Some(1_000);
        evidence.processes[0].after.rss_kib = 24_000;
    });
}

/// The kernel tells its table in pieces: what others open and close between two of them moves lines from one to the next.
#[test]
fn i8_a_connection_that_the_kernel_names_twice_is_one() {
    const TABLE: &str = "\
        sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:1770 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 10 1 0 100 0 0 10 0\n\
        1: 0100007F:1770 0100007F:D4F2 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 20 4 30 10 -1\n\
        2: 0100007F:D4F2 0100007F:1770 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1\n\
        3: 0100007F:1770 0100007F:D4F4 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 20 4 30 10 -1\n\
        4: 0100007F:1770 0100007F:D4F2 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 20 4 30 10 -1\n";
    let sockets = |inodes: &[&str]| inodes.iter().map(ToString::to_string).collect();
    assert_eq!(clients_of(6000, &sockets(&["10", "11"]), TABLE), 1, "one that is named twice, and the listener");
    assert_eq!(clients_of(6000, &sockets(&["10", "11", "13"]), TABLE), 2);
    assert_eq!(clients_of(6000, &sockets(&["10", "12"]), TABLE), 0, "what it opened itself");
}

#[test]
fn i9_a_plain_client_is_cut_off() {
    let cut = |evidence: &mut Evidence| evidence.entries.push(seen(9, 50, What::Ended { code: Some(4201) }));
    breaks("I9", cut);
    let disturbance = |kind| Disturbance { broker: 0, kind, from: 50 * SECOND, to: None };
    breaks("I9", |evidence| {
        cut(evidence);
        evidence.disturbances.push(disturbance(Disturbed::CutOff));
    });
    holds(|evidence| {
        cut(evidence);
        evidence.disturbances.push(disturbance(Disturbed::Killed));
    });
}

#[test]
fn i10_a_panic_or_an_error_in_the_log() {
    let error = r#"{"level":"ERROR","message":"Incarnation 1 was declared dead"}"#;
    breaks("I10", |evidence| evidence.logs[0].1.push(error.to_owned()));
    breaks("I10", |evidence| evidence.logs[0].1.push("thread 'main' panicked at src/lib.rs".to_owned()));
    holds(|evidence| {
        evidence.logs[0].1.push(error.to_owned());
        evidence.allowed.errors.push("was declared dead");
    });
}

/// The lock is named in a frame of its own: who has let go before that never believed in it.
#[test]
fn what_was_taken_back_before_its_lock_was_named_is_not_believed_in() {
    let channel = || "private-x".to_owned();
    let mut entries = vec![
        seen(1, 1, opened(0, "1.1")),
        seen(1, 2, What::Subscribing { channel: channel() }),
        seen(1, 3, What::Subscribed { channel: channel() }),
        seen(1, 4, What::Unsubscribing { channel: channel() }),
        seen(1, 5, locked("order:1", 1, "user:a", "granted")),
    ];
    let until = |entries: &[Entry]| beliefs(entries).into_iter().map(|belief| belief.until).collect::<Vec<_>>();
    assert_eq!(until(&entries), [Some(5 * SECOND)]);
    entries.swap(3, 4);
    assert_eq!(until(&entries), [Some(4 * SECOND)], "in the other order it did, until it let go");
    entries.truncate(4);
    assert_eq!(until(&entries), [None]);
}
