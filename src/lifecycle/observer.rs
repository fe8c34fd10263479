//! Who is dead, by observation alone: a node is, if its counter was seen standing still for its ttl by somebody who looked all the
//! time. No wall clock is read, and time in which nobody could look counts for nothing: an outage of the database, which stops
//! every counter, ages nobody.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::store::{Incarnation, NodeState, NodeView};

/// What one node knows about the others, and about its own lease.
#[derive(Debug)]
pub(crate) struct Observer {
    own: Incarnation,
    lease: Duration,
    last_sample: Option<Instant>,
    seen: HashMap<Incarnation, Sighting>,
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    heartbeat: i64,
    since: Instant,
}

/// A node that ought to be declared dead, and the counter it was seen at: the store compares it once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// Who.
    pub(crate) incarnation: Incarnation,
    /// Its counter, all the time.
    pub(crate) seen: i64,
}

/// What a node may assume about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Nobody can have declared it dead.
    Held,
    /// Somebody may be about to: tell the holders, take no new holds.
    Doubtful,
}

impl Observer {
    /// For a node that has just registered with this ttl.
    pub(crate) fn new(own: Incarnation, lease: Duration, now: Instant) -> Self {
        Self { own, lease, last_sample: Some(now), seen: HashMap::new() }
    }

    /// Takes what a successful heartbeat returned. The time is that of the call's begin.
    pub(crate) fn sample(&mut self, now: Instant, nodes: &[NodeView]) -> Vec<Suspect> {
        let gap = self.last_sample.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        if gap > self.lease / 3 {
            self.seen.clear();
        }
        self.last_sample = Some(now);
        let alive = |node: &&NodeView| matches!(node.state, NodeState::Alive | NodeState::Draining) && node.incarnation != self.own;
        let mut seen = HashMap::with_capacity(nodes.len());
        let mut suspects = Vec::new();
        for node in nodes.iter().filter(alive) {
            let since = match self.seen.get(&node.incarnation) {
                Some(sighting) if sighting.heartbeat == node.heartbeat => sighting.since,
                _ => now,
            };
            if now.saturating_duration_since(since) >= node.ttl.max(self.lease) {
                suspects.push(Suspect { incarnation: node.incarnation, seen: node.heartbeat });
            }
            seen.insert(node.incarnation, Sighting { heartbeat: node.heartbeat, since });
        }
        self.seen = seen;
        suspects
    }

    /// Three quarters of a lease without a successful heartbeat are doubt.
    pub(crate) fn lease(&self, now: Instant) -> Lease {
        let silent = self.last_sample.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        if silent >= self.lease * 3 / 4 { Lease::Doubtful } else { Lease::Held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(12);

    fn node(incarnation: i64, heartbeat: i64) -> NodeView {
        NodeView { incarnation: Incarnation(incarnation), name: "node".to_owned(), heartbeat, state: NodeState::Alive, ttl: LEASE }
    }

    /// Samples every 3 s from `from` to `to`; whoever was suspected, with the second.
    fn watch(observer: &mut Observer, start: Instant, from: u64, to: u64, view: impl Fn(u64) -> Vec<NodeView>) -> Vec<(u64, i64)> {
        (from..=to)
            .step_by(3)
            .flat_map(|second| {
                let suspects = observer.sample(start + Duration::from_secs(second), &view(second));
                suspects.into_iter().map(move |suspect| (second, suspect.incarnation.0))
            })
            .collect()
    }

    #[test]
    fn a_counter_that_stands_still_for_a_lease_is_suspected_and_one_that_moves_is_not() {
        let start = Instant::now();
        let mut observer = Observer::new(Incarnation(1), LEASE, start);
        let suspects = watch(&mut observer, start, 0, 18, |second| vec![node(1, 7), node(2, 5), node(3, second as i64)]);
        assert_eq!(suspects, [(12, 2), (15, 2), (18, 2)]);
    }

    #[test]
    fn time_in_which_nobody_looked_ages_nobody() {
        let start = Instant::now();
        let mut observer = Observer::new(Incarnation(1), LEASE, start);
        assert!(watch(&mut observer, start, 0, 9, |_| vec![node(2, 5)]).is_empty());
        // The database is away for a minute; everybody's counter stands.
        let suspects = watch(&mut observer, start, 69, 84, |_| vec![node(2, 5)]);
        assert_eq!(suspects, [(81, 2), (84, 2)], "a whole lease from the return on");
    }

    #[test]
    fn fenced_nodes_and_those_that_left_are_forgotten() {
        let start = Instant::now();
        let mut observer = Observer::new(Incarnation(1), LEASE, start);
        let fenced = NodeView { state: NodeState::Fenced, ..node(2, 5) };
        assert!(watch(&mut observer, start, 0, 30, |_| vec![fenced.clone()]).is_empty());
        assert!(observer.seen.is_empty());
    }

    #[test]
    fn a_longer_ttl_of_the_other_is_respected() {
        let start = Instant::now();
        let mut observer = Observer::new(Incarnation(1), LEASE, start);
        let patient = NodeView { ttl: LEASE * 2, ..node(2, 5) };
        assert_eq!(watch(&mut observer, start, 0, 24, |_| vec![patient.clone()]), [(24, 2)]);
    }

    #[test]
    fn the_own_lease_is_doubtful_after_three_quarters() {
        let start = Instant::now();
        let mut observer = Observer::new(Incarnation(1), LEASE, start);
        assert_eq!(observer.lease(start + Duration::from_secs(8)), Lease::Held);
        assert_eq!(observer.lease(start + Duration::from_secs(9)), Lease::Doubtful);
        observer.sample(start + Duration::from_secs(10), &[]);
        assert_eq!(observer.lease(start + Duration::from_secs(18)), Lease::Held);
    }
}
