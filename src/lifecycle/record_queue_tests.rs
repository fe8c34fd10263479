use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const LIMITS: RecordLimits = RecordLimits { batch: 4, batch_bytes: 1_000, changes: 8, event_bytes: 10_000 };

fn queue(limits: RecordLimits) -> RecordQueue {
    RecordQueue::new(["a".to_owned(), "b".to_owned()], Duration::from_secs(3), limits)
}

fn key(name: &str) -> Key {
    let (channel, member) = name.split_once('/').map_or((name, None), |(channel, member)| (channel, Some(member)));
    (ChannelName::parse(channel, 200).unwrap(), member.map(Arc::from))
}

/// `+x` is present, `-x` is absent.
fn change(queue: &mut RecordQueue, app: usize, changes: &[&str]) {
    for change in changes {
        queue.change(app, key(&change[1..]), change.starts_with('+'));
    }
}

fn happen(queue: &mut RecordQueue, name: &'static str, bytes: usize) {
    queue.happened(0, Happening { name, channel: key("news").0, payload: json!({}), bytes });
}

fn texts(sent: &Sightings) -> Vec<String> {
    let name = |channel: &str, member: &Option<String>| match member {
        Some(member) => format!("{channel}/{member}"),
        None => channel.to_owned(),
    };
    let text = |sighting: &Sighting| match sighting {
        Sighting::Present { channel, member } => format!("+{}", name(channel, member)),
        Sighting::Absent { channel, member } => format!("-{}", name(channel, member)),
        Sighting::Event { name, .. } => name.clone(),
    };
    sent.seen.iter().map(text).collect()
}

/// All that waits, recorded batch by batch.
fn all(queue: &mut RecordQueue) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(sent) = queue.next_batch() {
        seen.extend(texts(&sent));
        queue.recorded();
    }
    assert!(queue.is_idle() && queue.len() == 0);
    seen
}

#[test]
fn a_batch_stays_as_it_is_until_it_is_answered() {
    let mut queue = queue(LIMITS);
    assert!(queue.next_batch().is_none() && queue.is_idle());
    change(&mut queue, 0, &["+news", "+presence-x", "+presence-x/7"]);
    let first = queue.next_batch().unwrap();
    assert_eq!((first.app.as_str(), first.number, first.delay), ("a", 1, Duration::from_secs(3)));
    assert_eq!(texts(&first), ["+news", "+presence-x", "+presence-x/7"]);
    change(&mut queue, 0, &["-news", "+c1", "+c2", "+c3", "+c4"]);
    assert_eq!(queue.next_batch().unwrap(), first, "the same, with the same number");
    assert!(queue.len() == 8 && !queue.is_idle());
    queue.recorded();
    let second = queue.next_batch().unwrap();
    assert_eq!((second.number, texts(&second).len()), (2, 4));
    queue.recorded();
    assert_eq!(all(&mut queue), ["+c4"]);
}

#[test]
fn applications_take_turns_and_never_share_a_batch() {
    let mut queue = queue(LIMITS);
    for n in 0..6 {
        change(&mut queue, 0, &[&format!("+a{n}")]);
    }
    change(&mut queue, 1, &["+b"]);
    let mut apps = Vec::new();
    while let Some(sent) = queue.next_batch() {
        apps.push((sent.app.clone(), sent.number, sent.seen.len()));
        queue.recorded();
    }
    assert_eq!(apps, [("a".to_owned(), 1, 4), ("b".to_owned(), 2, 1), ("a".to_owned(), 3, 2)]);
}

#[test]
fn a_long_wait_collapses_to_what_differs_from_what_is_recorded() {
    let mut queue = queue(LIMITS);
    change(&mut queue, 0, &["+old", "+stays", "+presence-x", "+presence-x/1"]);
    all(&mut queue);
    let flapping = ["+new", "-new", "-stays", "+stays"].repeat(10);
    change(&mut queue, 0, &["-old", "+presence-x/2", "-presence-x/1"]);
    happen(&mut queue, "one", 1);
    change(&mut queue, 0, &flapping);
    change(&mut queue, 0, &["-presence-x/2", "-presence-x", "+presence-y", "+presence-y/1", "-new"]);
    happen(&mut queue, "two", 1);
    assert!(queue.len() <= 2 * LIMITS.changes + 2, "{}", queue.len());
    change(&mut queue, 0, &flapping);
    queue.apps[0].collapse(None);
    let kept = all(&mut queue);
    assert_eq!(kept, ["-old", "-presence-x/1", "one", "-presence-x", "+presence-y", "+presence-y/1", "two"]);
}

#[test]
fn what_is_under_way_counts_as_recorded_when_the_rest_collapses() {
    let mut queue = queue(LIMITS);
    change(&mut queue, 0, &["+news"]);
    queue.next_batch().unwrap();
    change(&mut queue, 0, &["-news", "+news", "-news"].repeat(5));
    let sent = queue.under_way.take();
    queue.apps[0].collapse(sent.as_ref());
    queue.under_way = sent;
    queue.recorded();
    assert_eq!(all(&mut queue), ["-news"]);
}

#[test]
fn events_are_bounded_in_bytes_and_the_newest_are_dropped() {
    let mut queue = queue(RecordLimits { event_bytes: 100, ..LIMITS });
    for name in ["one", "two", "three"] {
        happen(&mut queue, name, 40);
    }
    change(&mut queue, 0, &["+news"]);
    assert_eq!((queue.take_dropped(), queue.take_dropped()), (1, 0));
    let sent = queue.next_batch().unwrap();
    assert_eq!(texts(&sent), ["one", "two", "+news"]);
    happen(&mut queue, "while it is under way", 40);
    assert_eq!(queue.take_dropped(), 1);
    queue.recorded();
    happen(&mut queue, "four", 100);
    assert_eq!(all(&mut queue), ["four"]);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_takes_one_of_any_size() {
    let mut queue = queue(LIMITS);
    for (name, bytes) in [("a", 600), ("b", 400), ("c", 1), ("big", 5_000), ("d", 1)] {
        happen(&mut queue, name, bytes);
    }
    let mut batches = Vec::new();
    while let Some(sent) = queue.next_batch() {
        batches.push(texts(&sent));
        queue.recorded();
    }
    assert_eq!(batches, [vec!["a", "b"], vec!["c"], vec!["big"], vec!["d"]]);
}

#[test]
fn what_the_store_refuses_is_found_and_given_up_alone() {
    let mut queue = queue(LIMITS);
    change(&mut queue, 0, &["+good", "+bad", "+fine"]);
    happen(&mut queue, "event", 7);
    let mut recorded = Vec::new();
    let mut lost = 0;
    while let Some(sent) = queue.next_batch() {
        if texts(&sent).contains(&"+bad".to_owned()) {
            lost += queue.refused();
        } else {
            recorded.extend(texts(&sent));
            queue.recorded();
        }
    }
    assert_eq!((recorded, lost), (vec!["+good".to_owned(), "+fine".to_owned(), "event".to_owned()], 1));
    assert_eq!(queue.event_bytes, 0);
    change(&mut queue, 0, &["-good", "-fine"]);
    assert_eq!(queue.next_batch().unwrap().seen.len(), 2, "and then they go together again");
}

#[test]
fn a_new_incarnation_hears_first_of_all_that_is_present() {
    let mut queue = queue(LIMITS);
    change(&mut queue, 0, &["+presence-x", "+presence-x/1", "+presence-x/2", "+gone", "+back"]);
    change(&mut queue, 1, &["+news"]);
    all(&mut queue);
    change(&mut queue, 0, &["-gone", "-back", "+back", "+new"]);
    let cut_short = queue.next_batch().unwrap();
    happen(&mut queue, "event", 1);
    queue.fenced();
    let first = queue.next_batch().unwrap();
    assert!(first.number > cut_short.number);
    assert_eq!((first.app.as_str(), texts(&first)), ("b", vec!["+news".to_owned()]));
    queue.recorded();
    let declared = ["+presence-x", "+presence-x/1", "+presence-x/2", "+back", "+new", "event"];
    assert_eq!(all(&mut queue), declared, "who has left is gone with the incarnation, who came back meanwhile is declared as it came");
    queue.fenced();
    let second = queue.next_batch().unwrap();
    assert_eq!(texts(&second), ["+news"]);
    queue.fenced();
    let again: BTreeSet<String> = all(&mut queue).into_iter().collect();
    let present = ["+back", "+new", "+news", "+presence-x", "+presence-x/1", "+presence-x/2"];
    assert_eq!(again.iter().collect::<Vec<_>>(), present.iter().collect::<Vec<_>>(), "as often as it takes");
}

#[test]
fn a_channel_is_declared_for_members_that_came_and_went_before_it_was_vacated() {
    let mut queue = queue(LIMITS);
    change(&mut queue, 0, &["+presence-x", "+presence-x/1"]);
    all(&mut queue);
    change(&mut queue, 0, &["-presence-x/1", "+presence-x/2", "-presence-x/2", "-presence-x"]);
    queue.fenced();
    assert_eq!(all(&mut queue), ["+presence-x", "+presence-x/2", "-presence-x/2", "-presence-x"]);
}

/// What a store keeps: who is present, for the living incarnation, and the last number.
#[derive(Default)]
struct Model {
    present: BTreeSet<String>,
    last: i64,
    events: Vec<String>,
}

impl Model {
    fn record(&mut self, sent: &Sightings) {
        if sent.number <= self.last {
            return;
        }
        self.last = sent.number;
        for text in texts(sent) {
            match text.split_at(1) {
                ("+", key) => {
                    if let Some((channel, _)) = key.split_once('/') {
                        assert!(self.present.contains(channel), "a member before its channel: {key}");
                    }
                    self.present.insert(key.to_owned());
                }
                ("-", key) => {
                    self.present.remove(key);
                    let left = self.present.iter().any(|other| other.starts_with(&format!("{key}/")));
                    assert!(!left, "{key} is vacated before its members are removed");
                }
                _ => self.events.push(text),
            }
        }
    }
}

proptest! {
    /// Whatever gets lost, and whoever is fenced: in the end the store knows exactly who is present, and each event once.
    #[test]
    fn the_store_ends_up_with_the_truth(steps in proptest::collection::vec((0_usize..3, 0_usize..3, 0_u8..10), 0..300)) {
        let mut queue = queue(RecordLimits { event_bytes: usize::MAX, ..LIMITS });
        let (mut model, mut truth, mut events) = (Model::default(), BTreeSet::new(), 0);
        for (channel, member, what) in steps {
            let (channel, member) = (format!("presence-{channel}"), format!("presence-{channel}/{member}"));
            match what {
                0..=3 if !truth.contains(&member) => {
                    if truth.insert(channel.clone()) {
                        change(&mut queue, 0, &[&format!("+{channel}")]);
                    }
                    change(&mut queue, 0, &[&format!("+{member}")]);
                    truth.insert(member);
                }
                0..=5 if truth.contains(&member) => {
                    truth.remove(&member);
                    change(&mut queue, 0, &[&format!("-{member}")]);
                    if !truth.iter().any(|other| other.starts_with(&format!("{channel}/"))) {
                        truth.remove(&channel);
                        change(&mut queue, 0, &[&format!("-{channel}")]);
                    }
                }
                6 => {
                    happen(&mut queue, "event", 10);
                    events += 1;
                }
                // Answered; lost on its way back; lost on its way there.
                7 | 8 => if let Some(sent) = queue.next_batch() {
                    model.record(&sent);
                    if what == 7 {
                        queue.recorded();
                    }
                },
                9 => {
                    // An answer that was lost with a fencing may double an event: then it is answered first.
                    if let Some(sent) = queue.next_batch() {
                        model.record(&sent);
                        queue.recorded();
                    }
                    queue.next_batch();
                    queue.fenced();
                    (model.present, model.last) = (BTreeSet::new(), 0);
                }
                _ => {}
            }
        }
        while let Some(sent) = queue.next_batch() {
            model.record(&sent);
            queue.recorded();
        }
        prop_assert_eq!(model.present, truth);
        prop_assert_eq!(model.events.len(), events);
    }
}
