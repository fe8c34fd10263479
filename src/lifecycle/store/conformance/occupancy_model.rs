//! Random sightings of three nodes that die now and then, against a model that is too simple to be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    batches::Dice,
    harness::Case,
    occupancy::{DELAY, NO_DELAY, batch, word},
};
use crate::lifecycle::store::*;

/// What a reader of the contract would do, one sighting after the other.
#[derive(Default)]
struct Model {
    /// Who sees a key, and whether it is told.
    keys: BTreeMap<String, (BTreeSet<Incarnation>, bool)>,
    told: BTreeMap<String, Vec<char>>,
}

impl Model {
    fn tell(&mut self, key: &str, sign: char) {
        self.told.entry(key.to_owned()).or_default().push(sign);
    }

    fn see(&mut self, node: Incarnation, word: &str, delay: Duration) {
        let (sign, key) = word.split_at(1);
        let (nodes, occupied) = self.keys.entry(key.to_owned()).or_default();
        if sign == "+" {
            nodes.insert(node);
            if !std::mem::replace(occupied, true) {
                self.tell(key, '+');
            }
        } else if nodes.remove(&node) && nodes.is_empty() && delay.is_zero() {
            *occupied = false;
            self.tell(key, '-');
        }
    }

    /// A sweep after the delays of what nobody sees.
    fn settle(&mut self, dead: &BTreeSet<Incarnation>) {
        let mut gone = Vec::new();
        for (key, (nodes, occupied)) in &mut self.keys {
            nodes.retain(|node| !dead.contains(node));
            if nodes.is_empty() && std::mem::take(occupied) {
                gone.push(key.clone());
            }
        }
        gone.iter().for_each(|key| self.tell(key, '-'));
    }
}

/// What a node may see next: of a channel that has members, the members come later and go earlier.
fn move_of(dice: &mut Dice, sees: &mut BTreeSet<String>) -> String {
    let channel = dice.one_of(&["a", "b", "c"]).to_owned();
    let member = format!("{channel}/{}", dice.one_of(&["x", "y", "z"]));
    let has_members = sees.iter().any(|key| key.starts_with(&format!("{channel}/")));
    let key = if sees.contains(&channel) && (has_members || dice.below(2) == 0) { member } else { channel };
    // Now and then what is known already.
    let repeats = dice.below(8) == 0;
    match (sees.contains(&key), repeats) {
        (true, true) => format!("+{key}"),
        (false, true) if key.contains('/') => format!("-{key}"),
        (true, _) => {
            sees.remove(&key);
            format!("-{key}")
        }
        (false, _) => {
            sees.insert(key.clone());
            format!("+{key}")
        }
    }
}

pub(super) async fn the_log_of_any_sightings_is_that_of_a_simple_model(case: Case) {
    for seed in 0..12u64 {
        let mut dice = Dice(seed);
        let delay = if seed % 3 == 0 { NO_DELAY } else { DELAY };
        let app = format!("app-{seed}");
        let mut model = Model::default();
        let mut born = Vec::new();
        for name in 0..8 {
            born.push(case.another_node(&format!("node-{name}")).await);
        }
        let mut nodes: Vec<_> = born.drain(..3).map(|node| (node, BTreeSet::new(), None::<Sightings>)).collect();
        let (mut number, mut dead) = (0, BTreeSet::new());
        for _ in 0..30 {
            let (node, sees, last) = &mut nodes[dice.below(3) as usize];
            match dice.below(10) {
                0 if !born.is_empty() => {
                    assert!(case.store.deregister(*node).await.unwrap());
                    dead.insert(*node);
                    let late = case.store.record(*node, &batch(i64::MAX, delay, &["+late"])).await;
                    assert!(matches!(late, Err(StoreError::Fenced)));
                    (*node, *sees, *last) = (born.remove(0), BTreeSet::new(), None);
                }
                1 => {
                    case.end_delays().await;
                    let limit = dice.one_of(&[1, 2, 3, 100]);
                    case.sweep_by(case.node, limit).await;
                    // The delays of what the dead left begin with the sweep.
                    case.end_delays().await;
                    case.sweep_by(case.node, limit).await;
                    model.settle(&dead);
                }
                2 => {
                    if let Some(last) = last {
                        case.record(*node, last).await;
                    }
                }
                _ => {
                    let words: Vec<_> = (0..1 + dice.below(12)).map(|_| move_of(&mut dice, sees)).collect();
                    number += 1;
                    let words: Vec<_> = words.iter().map(String::as_str).collect();
                    let sightings = Sightings { app: app.clone(), ..batch(number, delay, &words) };
                    case.record(*node, &sightings).await;
                    words.iter().for_each(|word| model.see(*node, word, delay));
                    *last = Some(sightings);
                }
            }
        }
        for (node, ..) in &nodes {
            case.store.deregister(*node).await.unwrap();
            dead.insert(*node);
        }
        case.sweep_by(case.node, 3).await;
        case.end_delays().await;
        case.sweep_by(case.node, 3).await;
        model.settle(&dead);

        let log: Vec<_> = case.log().await.iter().filter(|event| event.app == app).map(word).collect();
        let mut told: BTreeMap<String, Vec<char>> = BTreeMap::new();
        let mut open: BTreeSet<&str> = BTreeSet::new();
        for word in &log {
            let (sign, key) = word.split_at(1);
            told.entry(key.to_owned()).or_default().extend(sign.chars());
            match sign {
                "+" => assert!(open.insert(key), "seed {seed}: {word} twice in {log:?}"),
                _ => assert!(open.remove(key), "seed {seed}: {word} of nothing in {log:?}"),
            }
            if let Some((channel, _)) = key.split_once('/') {
                assert!(open.contains(channel), "seed {seed}: {word} outside of its channel in {log:?}");
            } else {
                assert!(!open.iter().any(|open| open.starts_with(&format!("{key}/"))), "seed {seed}: {word} before its members in {log:?}");
            }
        }
        assert!(open.is_empty(), "seed {seed}: all are dead, and {open:?} are left");
        assert_eq!(told, model.told, "seed {seed}: {log:?}");
    }
    case.check().await;
}
