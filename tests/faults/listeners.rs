//! Readers of the log: killed in the middle, two at once, poisoned, far behind, and out of hearing. F50–F54.
//!
//! Whether each entry took effect exactly once is I5, which is checked after every test: see `audit`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    audit::LISTENER,
    cluster::{Cluster, SLACK},
    dice::Dice,
    fleet::{Order, Spec},
    journal::{ClientId, Leave, What},
    plan::Plan,
};
use crate::support::{proxy::Cut, until};

/// Takes and lets go one lock after the other at broker 0, until it is over; how many.
fn churn(cluster: &Cluster, who: &str, over: &AtomicBool) -> usize {
    let client = cluster.client(cluster.spec(0, Some(who)));
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let channel = format!("private-quick.{who}-{}", count % 32);
        cluster.driver.tell(Order::Subscribe(client, channel.clone()));
        count += 1;
        cluster.held(client, count);
        cluster.driver.tell(Order::Unsubscribe(client, channel));
    }
    cluster.driver.leave(client, Leave::Fin);
    count
}

/// Sessions that are inside a listener's effect, which has been made slow.
fn inside_effects(cluster: &Cluster) -> i64 {
    cluster.sql.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
}

#[test]
#[ignore = "fault suite"]
fn f50_killed_between_effect_and_commit() {
    const KILLS: usize = 24;
    let cluster = Cluster::start(Plan::nodes(3));
    cluster.sql.run("INSERT INTO audit.pause VALUES (0.03)");
    let over = AtomicBool::new(false);
    let (mut dice, mut hits) = (Dice::new(50), 0);
    let locks: usize = std::thread::scope(|scope| {
        let churning: Vec<_> = ["a", "b"]
            .map(|who| {
                scope.spawn({
                    let (cluster, over) = (&cluster, &over);
                    move || churn(cluster, who, over)
                })
            })
            .into();
        for number in 0..KILLS {
            std::thread::sleep(dice.millis(20, 250));
            // The clients are at broker 0; the others do nothing but apply the log.
            let broker = 1 + number % 2;
            until("somebody is inside an effect", || inside_effects(&cluster) > 0);
            cluster.kill(broker);
            hits += 1;
            cluster.restart(broker);
        }
        over.store(true, Ordering::Relaxed);
        churning.into_iter().map(|one| one.join().unwrap()).sum()
    });
    cluster.sql.run("TRUNCATE audit.pause");
    let rolled_back = cluster.sql.number("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()");
    println!("{hits} kills while an effect was under way, {locks} locks, {rolled_back} transactions rolled back");
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f51_two_workers_on_one_shard() {
    let cluster = Cluster::start(Plan::nodes(2));
    cluster.sql.run("INSERT INTO audit.pause VALUES (0.01)");
    let over = AtomicBool::new(false);
    let started = Instant::now();
    let (locks, thefts) = std::thread::scope(|scope| {
        let churning = scope.spawn(|| churn(&cluster, "a", &over));
        let mut thefts = 0;
        while started.elapsed() < Duration::from_secs(10) {
            // All leases are over at once, and now and then somebody else has claimed: whoever is at work learns it at his commit.
            let epoch = if thefts % 4 == 3 { ", epoch = epoch + 1, owner = 'a thief'" } else { "" };
            let statement =
                format!("UPDATE holdline.consumer SET lease_until = clock_timestamp() - interval '1 s'{epoch} WHERE name = '{LISTENER}'");
            cluster.sql.run(&statement);
            thefts += 1;
            std::thread::sleep(Duration::from_millis(150));
        }
        over.store(true, Ordering::Relaxed);
        (churning.join().unwrap(), thefts)
    });
    cluster.sql.run("TRUNCATE audit.pause");
    let epochs = cluster.sql.number(&format!("SELECT sum(epoch) FROM holdline.consumer WHERE name = '{LISTENER}'"));
    println!("{locks} locks; leases were ended {thefts} times, shards were claimed {epochs} times");
    assert!(epochs > 100, "nobody claimed anything");
    cluster.finish();
}

/// What the listener shows for a resource.
fn shown(cluster: &Cluster, resource: &str) -> i64 {
    cluster.sql.number(&format!("SELECT count(*) FROM holdline.held WHERE resource = '{resource}'"))
}

#[test]
#[ignore = "fault suite"]
fn f52_a_poison_event() {
    let cluster = Cluster::start(Plan::nodes(1));
    cluster.allow(|allowed| allowed.errors.push("poison"));
    cluster.sql.run(
        "CREATE FUNCTION audit.poison() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF coalesce(new.resource, old.resource) = 'quick:poison' THEN RAISE EXCEPTION 'this order is poison'; END IF;
           RETURN coalesce(new, old);
         END $$;
         CREATE TRIGGER poison BEFORE INSERT OR DELETE ON holdline.held FOR EACH ROW EXECUTE FUNCTION audit.poison()",
    );
    let poison = cluster.hold(0, "a", "private-quick.poison");
    until("it is put aside", || !cluster.ledger().parked.is_empty());
    // Others flow, in all shards, with no more delay than ever.
    let started = Instant::now();
    for number in 0..20 {
        let held = cluster.hold(0, "b", &format!("private-quick.fine-{number}"));
        until("it is shown", || shown(&cluster, &format!("quick:fine-{number}")) == 1);
        cluster.driver.leave(held.client, Leave::Fin);
        until("it is not shown", || shown(&cluster, &format!("quick:fine-{number}")) == 0);
    }
    println!("20 locks beside the poison came and went in {:?}", started.elapsed());
    // What comes after it for the same resource waits behind it, in order.
    cluster.driver.leave(poison.client, Leave::Fin);
    cluster.unlocked(poison.fence);
    let again = cluster.hold(0, "c", "private-quick.poison");
    until("three entries wait", || cluster.ledger().parked.len() == 3);
    let waiting = "SELECT string_agg(e.kind || ' ' || p.reason, ', ' ORDER BY p.position) FROM holdline.parked p JOIN holdline.event e USING (shard, position)";
    assert_eq!(cluster.sql.text(waiting).as_deref(), Some("locked poison, unlocked behind-poison, locked behind-poison"));
    assert_eq!(shown(&cluster, "quick:poison"), 0);
    let alarm = |line: &String| line.contains(r#""level":"ERROR""#) || line.contains(r#""level":"WARN""#);
    let log = cluster.nodes[0].log();
    assert!(log.iter().any(|line| alarm(line) && line.contains("poison")), "nobody was told:\n{}", log.join("\n"));
    // The cause is mended: all of it is applied, in order, without anybody's help.
    cluster.sql.run("DROP TRIGGER poison ON holdline.held");
    let started = Instant::now();
    let limit = Duration::from_secs(40);
    // In between the former lock comes and goes.
    while !cluster.ledger().parked.is_empty() && started.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("applied {:?} after the cause was mended", started.elapsed());
    assert!(cluster.ledger().parked.is_empty(), "not applied after {limit:?}");
    assert_eq!(shown(&cluster, "quick:poison"), 1);
    cluster.driver.leave(again.client, Leave::Fin);
    cluster.finish();
}

/// Nobody reads the log while it grows.
#[test]
#[ignore = "fault suite"]
fn f53_far_behind() {
    const LOCKS: i64 = 10_000;
    let cluster = Cluster::start(Plan::nodes(1));
    cluster.terminate(0);
    // So many locks that began and ended, in all shards, as if other nodes had written them.
    cluster.sql.run(&format!(
        "WITH new AS (SELECT n, (n % 16)::smallint AS shard, nextval('holdline.fence') AS fence FROM generate_series(1, {LOCKS}) n),
              lock AS (INSERT INTO holdline.lock (fence, shard, app, resource, mode, principal, state, topic, context, grace_ms, released_at,
                         socket_id, cause)
                       SELECT fence, shard, 'app-id', 'bulk:' || n, 'exclusive', 'user:' || n, 'released', 'Bulk', '{{}}', 0,
                         clock_timestamp() - interval '1 day', '1.1', 'gone' FROM new),
              entry AS (SELECT shard, fence, n, kind, row_number() OVER (PARTITION BY shard ORDER BY n, kind) AS step
                          FROM new, unnest(ARRAY['locked', 'unlocked']) kind)
         INSERT INTO holdline.event (shard, position, kind, type, app, resource, fence, principal, socket_id, cause, payload, at)
         SELECT e.shard, h.last_position + e.step, e.kind, 'Bulk' || initcap(e.kind), 'app-id', 'bulk:' || e.n, e.fence, 'user:' || e.n,
                '1.1', CASE e.kind WHEN 'unlocked' THEN 'gone' END, '{{}}', clock_timestamp() - interval '1 day'
           FROM entry e JOIN holdline.shard_head h USING (shard);
         UPDATE holdline.shard_head h SET last_position = (SELECT max(position) FROM holdline.event e WHERE e.shard = h.shard)"
    ));
    // Retention is told to keep an hour; what is older, and nobody has read, stays all the same.
    let node = cluster.sql.number("SELECT holdline.register('an operator', gen_random_uuid(), 600000, false)");
    let retain = || cluster.sql.number(&format!("SELECT sum(holdline.retain({node}, shard, 3600000, 100000)) FROM holdline.shard_head"));
    let unread = || {
        cluster.sql.number(&format!(
            "SELECT sum(h.last_position - c.position) FROM holdline.shard_head h JOIN holdline.consumer c USING (shard) WHERE c.name = '{LISTENER}'"
        ))
    };
    retain();
    assert_eq!(unread(), 2 * LOCKS);
    assert_eq!(cluster.sql.number("SELECT count(*) FROM holdline.event WHERE resource LIKE 'bulk:%'"), 2 * LOCKS);
    let started = Instant::now();
    cluster.restart(0);
    while unread() > 0 && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (left, took) = (unread(), started.elapsed());
    println!("{} entries in {took:?}: {:.0} a second", 2 * LOCKS - left, (2 * LOCKS - left) as f64 / took.as_secs_f64());
    assert_eq!(left, 0);
    // A build for tests, with triggers in between, on a machine that does other things: the figure is the bench's.
    assert!(took < Duration::from_millis(4 * LOCKS as u64), "{took:?}");
    let ledger = cluster.ledger();
    assert_eq!(super::audit::view(&cluster.sql).faults(&ledger), Vec::<String>::new());
    // What was read may go, but for what stands behind the young entry of the test's own first lock.
    assert!(retain() > LOCKS);
    cluster.sql.run(&format!("SELECT holdline.deregister({node})"));
    cluster.finish();
}

/// A watcher of what the broadcast listener publishes at broker 0.
struct Watcher<'a> {
    cluster: &'a Cluster,
    watcher: ClientId,
}

impl Watcher<'_> {
    /// Takes a lock at broker 1; how long until everybody at broker 0 knows.
    fn latency(&self, number: usize) -> Duration {
        let channel = format!("private-quick.heard-{number}");
        let held = self.cluster.hold(1, "a", &channel);
        let told = Instant::now();
        let resource = format!("quick:heard-{number}");
        self.cluster.journal.await_for(self.watcher, "the news", |seen| {
            let about = |what: &What| matches!(what, What::Event { data, .. } if data.contains(&format!("\"{resource}\"")) && data.contains("\"locked\""));
            seen.iter().any(|entry| about(&entry.what)).then_some(())
        });
        let took = told.elapsed();
        self.cluster.driver.leave(held.client, Leave::Fin);
        self.cluster.unlocked(held.fence);
        took
    }
}

#[test]
#[ignore = "fault suite"]
fn f54_the_listening_connection() {
    let listeners = "[[listeners]]\nname = \"news\"\nkind = \"broadcast\"\nchannel = \"orders\"\n";
    let cluster = Cluster::start(Plan::nodes(2).bells().tail(listeners));
    let watcher = cluster.client(Spec { channels: vec!["orders".to_owned()], ..cluster.spec(0, None) });
    cluster.journal.await_for(watcher, "its subscription", |seen| {
        seen.iter().any(|entry| matches!(entry.what, What::Subscribed { .. })).then_some(())
    });
    let watcher = Watcher { cluster: &cluster, watcher };
    let bell = cluster.nodes[0].bell();
    until("it listens", || bell.connections() == 1);
    let mut number = 0;
    let mut latencies = |count: usize| -> Vec<Duration> {
        let numbers = number..number + count;
        number = numbers.end;
        numbers.map(|number| watcher.latency(number)).collect()
    };
    println!("in good order: {:?}", latencies(5));
    for name in ["FIN", "reset", "black hole"] {
        let (lines, started) = (bell.accepted(), Instant::now());
        match name {
            "FIN" => bell.cut(Cut::Fin),
            "reset" => bell.cut(Cut::Reset),
            _ => bell.strand(),
        }
        let during = latencies(4);
        // Whatever becomes of the bell, the log is looked at every second.
        assert!(during.iter().all(|took| *took < Duration::from_secs(1) + SLACK), "{name}: {during:?}");
        // The line was idle when it fell into the hole: it is asked after 10 s, and given up after 15.
        while bell.accepted() == lines && started.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let again = started.elapsed();
        println!("{name}: {during:?}; it listens again after {again:?}");
        assert!(bell.accepted() > lines && again < Duration::from_secs(15) + SLACK, "{name}: {again:?}");
        // And hears.
        std::thread::sleep(Duration::from_millis(300));
        let mut after = latencies(5);
        after.sort();
        assert!(after[2] < Duration::from_millis(500), "{name}: {after:?}");
    }
    cluster.finish();
}
