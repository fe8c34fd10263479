//! The end of every test: clients and tables are compared, everybody leaves, and every invariant is checked.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    audit,
    checker::{Evidence, Process, violations},
    cluster::{Cluster, Held, SLACK},
    fleet::{Order, Spec},
    journal::{ClientId, Leave, What, beliefs, open_sockets},
    ledger::EventRow,
    node::Node,
    plan::{H, L, W},
};
use crate::support::{WAIT, eventually};

/// How long a listener's claim lasts without a sign of life, and how often others look.
const LISTENER_LEASE: Duration = Duration::from_secs(12);

impl Cluster {
    /// Waits until what clients believe and what the tables say is the same: each holder has its hold, each hold has its holder.
    pub(crate) fn settle(&self) {
        let deadline = Instant::now() + WAIT;
        loop {
            let differences = self.differences();
            if differences.is_empty() {
                return;
            }
            if Instant::now() >= deadline {
                // Whether it has the connection at all, and thinks that it holds something, is what one wants to know first.
                let sockets = |node: &Node| node.is_running().then(|| node.http().get("/sockets", &[("limit", "1000")]).text());
                let lines = |node: &Node| {
                    let sockets = sockets(node).unwrap_or_default();
                    format!("broker {}:\n{}\nits sockets: {sockets}", node.index(), node.log().join("\n"))
                };
                let logs: Vec<String> = self.nodes.iter().map(lines).collect();
                panic!("clients and tables disagree:\n{}\n{}", differences.join("\n"), logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn differences(&self) -> Vec<String> {
        let (entries, ledger) = (self.journal.entries(), self.ledger());
        let open = open_sockets(&entries);
        let mut found = Vec::new();
        for belief in beliefs(&entries).into_iter().filter(|belief| belief.until.is_none()) {
            let hold = ledger.holds.iter().any(|hold| hold.fence == belief.fence && hold.socket_id == belief.socket_id);
            let lock = ledger.locks.iter().any(|lock| lock.fence == belief.fence && lock.state == "held");
            if !hold || !lock {
                let entries: Vec<&EventRow> = ledger.events.iter().filter(|event| event.fence == Some(belief.fence)).collect();
                let story = self.journal.story(belief.client);
                found.push(format!(
                    "{belief:?}; there is a hold: {hold}, a held lock: {lock}\n{entries:#?}\nclient {}:\n{story}",
                    belief.client
                ));
            }
        }
        let sockets: HashSet<&String> = open.values().collect();
        found.extend(ledger.holds.iter().filter(|hold| !sockets.contains(&hold.socket_id)).map(|hold| format!("nobody has {hold:?}")));
        found
    }

    /// Makes everything whole, lets all clients leave, waits for the last lock to end, and checks every invariant.
    pub(crate) fn finish(mut self) {
        self.finished = true;
        for (index, node) in self.nodes.iter().enumerate() {
            if node.is_running() {
                self.thaw(index);
                assert!(node.is_alive(), "broker {index} ended by itself:\n{}", node.log().join("\n"));
            }
            if node.has_behind() {
                self.heal(index);
            }
            if node.has_front() {
                self.reach(index);
            }
        }
        if !self.nodes.iter().any(Node::is_running) {
            self.restart(0);
        }
        self.settle();
        self.tell_everybody();
        self.take_over_everywhere();
        let processes = std::mem::take(&mut *self.processes.lock().expect("not poisoned"));
        for driver in processes.iter().map(AsRef::as_ref).chain([&self.driver]) {
            driver.tell(Order::LeaveAll(Leave::Fin));
        }
        self.wait_until_drained();
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.is_running()).collect();
        let processes = running.iter().filter_map(|node| {
            let mut before = node.footprint_before()?;
            // Plain clients of brokers that died have come here.
            before.clients = self.plain_clients_at(node.index()).len();
            let after = eventually("the connections are gone", || Some(node.footprint()).filter(|now| now.clients <= before.clients));
            Some(Process { broker: node.index(), before, after })
        });
        let evidence = Evidence {
            processes: processes.collect(),
            running: running.len(),
            ledger: self.ledger(),
            entries: self.journal.entries(),
            plain: self.plain.clone(),
            logs: self.nodes.iter().map(|node| (node.index(), node.log())).collect(),
            disturbances: self.disturbances.lock().expect("not poisoned").clone(),
            view: self.sql.is_postgres().then(|| audit::view(&self.sql)),
            allowed: self.allowed.lock().expect("not poisoned").clone(),
        };
        let broken = violations(&evidence);
        let disturbances: Vec<String> = evidence.disturbances.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "{} violations:\n{}\n{}", broken.len(), broken.join("\n"), disturbances.join("\n"));
    }

    /// Plain clients of every broker get what is published there, as if nothing had happened.
    fn tell_everybody(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let text = crate::support::unique("still-here");
            let here = self.plain_clients_at(node.index());
            node.http().publish("news", "e", &text);
            for client in here {
                self.journal.await_for(client, "what is published", |seen| {
                    seen.iter().any(|entry| matches!(&entry.what, What::Event { data, .. } if *data == text)).then_some(())
                });
            }
        }
    }

    /// A holder at any broker hears that its lock was taken over at another: each of them still follows the log.
    fn take_over_everywhere(&self) {
        let running: Vec<usize> = self.nodes.iter().filter(|node| node.is_running()).map(Node::index).collect();
        for (number, broker) in running.iter().enumerate() {
            let channel = format!("private-grab.taken-at-{broker}");
            let first = self.granted(*broker, "first", &channel);
            self.granted(running[(number + 1) % running.len()], "second", &channel);
            self.journal.await_for(first.client, "the news that its lock was taken over", |seen| {
                let told = What::LockLost { fence: first.fence, cause: "taken_over".to_owned() };
                seen.iter().any(|entry| entry.what == told).then_some(())
            });
        }
    }

    /// Asks until it is granted: the lease of a broker may have been in doubt until now.
    fn granted(&self, broker: usize, user: &str, channel: &str) -> Held {
        let deadline = Instant::now() + WAIT;
        loop {
            let client = self.driver.connect(Spec { channels: vec![channel.to_owned()], ..self.spec(broker, Some(user)) });
            let answer = self.journal.await_for(client, "an answer", |seen| {
                seen.iter().find(|entry| matches!(entry.what, What::Locked { .. } | What::Refused { .. })).map(|entry| entry.what.clone())
            });
            if matches!(answer, What::Locked { .. }) {
                return self.held(client, 1);
            }
            assert!(Instant::now() < deadline, "broker {broker} grants nothing: {answer:?}");
            self.driver.leave(client, Leave::Fin);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clients without holds that are subscribed at a broker now.
    fn plain_clients_at(&self, broker: usize) -> Vec<ClientId> {
        let mut at = HashMap::new();
        let mut subscribed = HashSet::new();
        for entry in self.journal.entries().into_iter().filter(|entry| self.plain.contains(&entry.client)) {
            match entry.what {
                What::Opened { broker, .. } => drop(at.insert(entry.client, broker)),
                What::Subscribed { .. } => drop(subscribed.insert(entry.client)),
                What::Ended { .. } => {
                    at.remove(&entry.client);
                    subscribed.remove(&entry.client);
                }
                _ => {}
            }
        }
        at.into_iter().filter(|(client, at)| *at == broker && subscribed.contains(client)).map(|(client, _)| client).collect()
    }

    /// I6 has a bound: whoever is dead must be noticed, and whoever is in grace waits it out.
    fn wait_until_drained(&self) {
        let bound = L + H + W * 2 + self.longest_grace + SLACK * 2;
        let deadline = Instant::now() + bound;
        let left = || {
            let ledger = self.ledger();
            let unfinished = ledger.nodes.iter().filter(|node| !matches!(node.state.as_str(), "alive" | "swept")).count();
            let alive = ledger.nodes.iter().filter(|node| node.state == "alive").count();
            let running = self.nodes.iter().filter(|node| node.is_running()).count();
            ledger.holds.len() + ledger.live().count() + unfinished + alive.abs_diff(running)
        };
        while left() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        // A shard whose reader died is somebody else's after the reader's lease.
        let deadline = Instant::now() + LISTENER_LEASE + SLACK * 2;
        let behind = || {
            let ledger = self.ledger();
            let head = |shard| ledger.heads.iter().find(|head| head.shard == shard).map_or(0, |head| head.last_position);
            ledger.consumers.iter().any(|consumer| consumer.position < head(consumer.shard)) || !ledger.parked.is_empty()
        };
        while behind() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
