//! The database restarts, is away, loses sessions, is cut off from one node, answers late or not at all. F34–F41, F43, F45, F49.

use std::time::{Duration, Instant};

use super::{
    cluster::{Cluster, SLACK, after},
    fleet::{Order, Spec},
    journal::{ClientId, Leave, What, now},
    ledger::Sql,
    plan::{Base, G, H, L, Plan, W},
};
use crate::support::{
    postgres::{ServerOptions, Stop},
    proxy::{Cut, Trap, Way, Weather, runtime},
    run_to_end, unique, until,
};

/// Asks for a hold; whether it was granted, and why not.
fn ask(cluster: &Cluster, broker: usize, user: &str, channel: &str) -> (ClientId, Result<i64, String>, Duration) {
    let client = cluster.client(cluster.spec(broker, Some(user)));
    let started = Instant::now();
    cluster.driver.tell(Order::Subscribe(client, channel.to_owned()));
    let answer = cluster.journal.await_for(client, "an answer", |seen| {
        seen.iter().find_map(|entry| match &entry.what {
            What::Locked { fence: Some(fence), .. } => Some(Ok(*fence)),
            What::Refused { kind, status, .. } => Some(Err(format!("{kind} {status}"))),
            What::LockState { fence: None, state } => Some(Err(state.clone())),
            _ => None,
        })
    });
    (client, answer, started.elapsed())
}

/// Takes and lets go as many holds as it takes for every lane to have a connection and its statements.
fn warm_lanes(cluster: &Cluster) {
    for number in 0..12 {
        let held = cluster.hold(0, &format!("warm-{number}"), &format!("private-quick.lane-{number}"));
        cluster.driver.leave(held.client, Leave::Fin);
        cluster.unlocked(held.fence);
    }
}

/// The shard of a resource: FNV-1a over app, a zero byte and resource.
fn shard_of(resource: &str) -> i64 {
    let bytes = crate::support::APP.id.bytes().chain([0]).chain(resource.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % 16) as i64
}

/// Waits until a client has heard this state of its lock.
fn hears(cluster: &Cluster, client: ClientId, state: &str) {
    cluster.journal.await_for(client, state, |seen| {
        seen.iter().any(|entry| matches!(&entry.what, What::LockState { state: heard, .. } if heard == state)).then_some(())
    });
}

/// Nobody was declared dead.
fn nobody_died(cluster: &Cluster) {
    let nodes = cluster.ledger().nodes;
    assert!(nodes.iter().all(|node| node.end_cause.as_deref() != Some("node_death")), "{nodes:?}");
}

#[test]
#[ignore = "fault suite"]
fn f34_the_database_crashes_and_restarts() {
    let cluster = Cluster::start(Plan::nodes(2).private());
    let keep = cluster.hold(0, "a", "private-order.keep");
    let from = Instant::now();
    cluster.postgres().restart(Stop::Immediate);
    let up = Instant::now();
    until("holds are granted again", || ask(&cluster, 1, "b", &format!("private-order.{}", unique("again"))).1.is_ok());
    println!("granted again {:?} after the restart, {:?} after the crash", up.elapsed(), from.elapsed());
    assert!(up.elapsed() < Duration::from_secs(5), "{:?}", up.elapsed());
    std::thread::sleep(L + H);
    nobody_died(&cluster);
    assert!(cluster.ledger().unlocked(keep.fence).is_none());
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f35_the_database_is_away() {
    let cluster = Cluster::start(Plan::nodes(2).private());
    let keep = cluster.hold(0, "a", "private-order.keep");
    let lost = cluster.hold(0, "b", "private-order.lost");
    let quick = cluster.hold(1, "c", "private-quick.left");
    let mut http = cluster.nodes[0].http();
    assert_eq!((http.plain("/ready").status, http.plain("/ready/holds").status), (200, 200));
    let ledger = cluster.ledger();
    cluster.postgres().stop(Stop::Immediate);
    let gone = Instant::now();
    // At first nobody knows how long it will be: whoever asks waits, and is refused in time.
    let (_, answer, took) = ask(&cluster, 0, "d", "private-order.new");
    assert_eq!(answer, Err("LockUnavailable 503".to_owned()));
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    hears(&cluster, keep.client, "uncertain");
    assert!(gone.elapsed() > L / 2, "uncertain after {:?}", gone.elapsed());
    let (_, answer, took) = ask(&cluster, 0, "e", "private-order.new");
    assert_eq!(answer, Err("LockUnavailable 503".to_owned()));
    assert!(took < Duration::from_millis(500) + SLACK, "in doubt it need not wait: {took:?}");
    let (open, answer, _) = ask(&cluster, 0, "f", "private-open.1");
    assert_eq!(answer, Err("degraded".to_owned()), "and whose rule says so, goes on without");
    cluster
        .journal
        .await_for(open, "its subscription", |seen| seen.iter().any(|entry| matches!(entry.what, What::Subscribed { .. })).then_some(()));
    assert_eq!((http.plain("/ready").status, http.plain("/ready/holds").status), (200, 503));
    // Ends are remembered: an unclean and a clean one.
    cluster.driver.leave(lost.client, Leave::Reset);
    cluster.driver.tell(Order::Unsubscribe(quick.client, "private-quick.left".to_owned()));
    std::thread::sleep((L * 3).saturating_sub(gone.elapsed()));
    cluster.postgres().launch();
    let back = now();
    for (held, cause) in [(&quick, "unsubscribed"), (&lost, "gone")] {
        let event = cluster.unlocked(held.fence);
        assert_eq!(event.cause.as_deref(), Some(cause));
        assert!(after(&event, back) < Duration::from_secs(5) + SLACK, "{:?}", after(&event, back));
    }
    hears(&cluster, keep.client, "held");
    until("holds are granted again", || ask(&cluster, 0, "g", &format!("private-order.{}", unique("again"))).1.is_ok());
    std::thread::sleep(L + H);
    nobody_died(&cluster);
    let now = cluster.ledger();
    assert!(now.unlocked(keep.fence).is_none(), "a false unlock");
    assert!(now.fences("open:1").is_empty() && now.fences("order:new").is_empty(), "nothing is made up for");
    assert_eq!(now.nodes.len(), ledger.nodes.len());
    drop(http);
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f36_all_sessions_are_terminated_again_and_again() {
    let cluster = Cluster::start(Plan::nodes(3));
    let keep = cluster.hold(0, "a", "private-order.keep");
    let dead = cluster.hold(2, "b", "private-quick.dead");
    let started = Instant::now();
    let (mut granted, mut refused, mut unlocked) = (0, 0, None);
    let mut number = 0;
    while started.elapsed() < Duration::from_secs(16) {
        let terminate = "SELECT CAST(count(pg_terminate_backend(pid)) AS text) FROM pg_stat_activity
                          WHERE datname = current_database() AND application_name LIKE 'holdline%'";
        cluster.sql.text(terminate);
        if number == 1 {
            cluster.kill(2);
        }
        for broker in [0, 1, 0, 1] {
            match ask(&cluster, broker, "c", &format!("private-quick.{}", unique("go"))).1 {
                Ok(_) => granted += 1,
                Err(_) => refused += 1,
            }
        }
        number += 1;
        unlocked = unlocked.or_else(|| cluster.ledger().unlocked(dead.fence).map(|_| started.elapsed()));
        std::thread::sleep(Duration::from_secs(2 * number).saturating_sub(started.elapsed()));
    }
    println!("{granted} granted, {refused} refused; the dead node's lock ended after {unlocked:?}");
    assert!(granted > 3 * refused, "{granted} granted, {refused} refused");
    assert!(unlocked.is_some(), "the dead node was not noticed in {:?}", started.elapsed());
    assert!(cluster.ledger().unlocked(keep.fence).is_none());
    cluster.settle();
    cluster.finish();
}

/// One node cannot reach the database, the others can: its holders are warned, then it is dead, then it learns of it.
fn one_node_cut_off(how: impl Fn(&Cluster), limit: Duration) {
    let cluster = Cluster::start(Plan::nodes(2).behind());
    cluster.allow(|allowed| allowed.errors.push("was declared dead"));
    let held = cluster.hold(0, "a", "private-order.1");
    let other = cluster.hold(1, "b", "private-order.2");
    let from = now();
    how(&cluster);
    hears(&cluster, held.client, "uncertain");
    let warned = now() - from;
    assert!(warned > (L / 2).as_micros() as i64 && warned < (L * 3 / 4 + H + SLACK).as_micros() as i64, "warned after {warned} µs");
    let event = cluster.unlocked(held.fence);
    assert_eq!((event.cause.as_deref(), event.after_grace), (Some("node_death"), true));
    assert!(after(&event, from) < limit + G, "{:?}", after(&event, from));
    let heir = cluster.hold(1, "c", "private-order.1");
    // A new subscription at the lonely node gets nothing.
    assert_eq!(ask(&cluster, 0, "d", "private-order.3").1, Err("LockUnavailable 503".to_owned()));
    cluster.heal(0);
    assert_eq!(cluster.ended(held.client), Some(4200), "{}", cluster.journal.story(held.client));
    let told = |what: &What| matches!(what, What::LockLost { fence, .. } if *fence == held.fence);
    assert!(cluster.journal.entries().iter().any(|entry| entry.client == held.client && told(&entry.what)));
    until("it grants again", || ask(&cluster, 0, "e", &format!("private-order.{}", unique("again"))).1.is_ok());
    let ledger = cluster.ledger();
    assert!(ledger.unlocked(other.fence).is_none() && ledger.unlocked(heir.fence).is_none());
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f37_one_node_in_a_black_hole() {
    one_node_cut_off(|cluster| cluster.cut_off(0, Weather::black_hole()), L + H * 2 + W + SLACK);
}

#[test]
#[ignore = "fault suite"]
fn f38_one_node_is_reset() {
    let reset = |cluster: &Cluster| {
        cluster.cut_off(0, Weather::default());
        cluster.nodes[0].behind().refuse(true);
        cluster.nodes[0].behind().cut(Cut::Reset);
    };
    one_node_cut_off(reset, L + H * 2 + W + SLACK);
}

/// Requests arrive and are carried out; their answers are late, or lost.
#[test]
#[ignore = "fault suite"]
fn f39_answers_do_not_arrive() {
    let cluster = Cluster::start(Plan::nodes(1).behind());
    let proxy = cluster.nodes[0].behind();
    warm_lanes(&cluster);
    // Late: the answer is still good.
    proxy.set(Weather::held(Way::Down));
    let early = cluster.client(Spec { channels: vec!["private-order.late".to_owned()], ..cluster.spec(0, Some("a")) });
    until("the database has it", || !cluster.ledger().fences("order:late").is_empty());
    std::thread::sleep(Duration::from_millis(300));
    proxy.heal();
    let held = cluster.held(early, 1);
    assert_eq!(cluster.ledger().fences("order:late"), [held.fence]);
    // Lost: the client is refused in time, and what was granted without its knowing is given back.
    proxy.set(Weather::held(Way::Down));
    let (_, answer, took) = ask(&cluster, 0, "b", "private-order.lost");
    assert_eq!(answer, Err("LockUnavailable 503".to_owned()));
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    assert_eq!(cluster.ledger().fences("order:lost").len(), 1, "the database did it all the same");
    proxy.cut(Cut::Reset);
    proxy.heal();
    let fences = cluster.ledger().fences("order:lost");
    cluster.unlocked(fences[0]);
    assert_eq!(cluster.ledger().fences("order:lost"), fences, "and only once");
    until("holds are granted again", || ask(&cluster, 0, "c", &format!("private-order.{}", unique("again"))).1.is_ok());
    cluster.settle();
    cluster.finish();
}

/// A commit whose bytes are still on their way when its connection has ended and its release is done.
#[test]
#[ignore = "fault suite"]
fn f40_a_commit_arrives_after_its_release() {
    let cluster = Cluster::start(Plan::nodes(1).behind());
    let proxy = cluster.nodes[0].behind();
    warm_lanes(&cluster);
    proxy.trap("quick:late", Trap::HoldUp);
    let (client, answer, _) = ask(&cluster, 0, "a", "private-quick.late");
    assert_eq!((answer, proxy.sprung()), (Err("LockUnavailable 503".to_owned()), 1));
    cluster.driver.leave(client, Leave::Fin);
    // The lane gives its connection up and writes the release on a new one: the hold is buried before it is born.
    until("there is a tombstone", || cluster.sql.number("SELECT count(*) FROM holdline.tombstone") >= 1);
    assert!(cluster.ledger().fences("quick:late").is_empty(), "it has not arrived");
    proxy.heal();
    until("what was held has arrived", || proxy.connections() > 0 && arrived(&cluster));
    assert!(cluster.ledger().fences("quick:late").is_empty(), "it came too late to take anything");
    cluster.settle();
    cluster.finish();
}

/// No statement is running any more; a moment for those on their way.
fn arrived(cluster: &Cluster) -> bool {
    std::thread::sleep(Duration::from_millis(300));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
                      AND pid <> pg_backend_pid() AND query LIKE '%holdline.commit%'";
    cluster.sql.number(running) == 0
}

#[test]
#[ignore = "fault suite"]
fn f41_the_answer_to_a_commit_is_cut() {
    let cluster = Cluster::start(Plan::nodes(1).behind());
    let proxy = cluster.nodes[0].behind();
    warm_lanes(&cluster);
    for number in 0..5 {
        proxy.trap(&format!("order:cut-{number}"), Trap::CutAnswer);
        // It is asked again with the same ids, so it is the same lock.
        let held = cluster.hold(0, &format!("cut-{number}"), &format!("private-order.cut-{number}"));
        assert_eq!((held.outcome.as_str(), proxy.sprung()), ("granted", number + 1));
        assert_eq!(cluster.ledger().fences(&format!("order:cut-{number}")), [held.fence]);
    }
    // An end whose answer is cut is an end, once.
    let held = cluster.hold(0, "x", "private-quick.x");
    proxy.trap("unsubscribed", Trap::CutAnswer);
    cluster.driver.tell(Order::Unsubscribe(held.client, "private-quick.x".to_owned()));
    cluster.unlocked(held.fence);
    until("the answer was cut", || proxy.sprung() == 6);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(cluster.ledger().story("quick:x"), ["locked", "unlocked unsubscribed"]);
    cluster.settle();
    cluster.finish();
}

/// Somebody with psql keeps a shard to himself.
#[test]
#[ignore = "fault suite"]
fn f43_a_session_holds_a_shard() {
    let cluster = Cluster::start(Plan::nodes(2));
    warm_lanes(&cluster);
    let shard = shard_of("quick:probe");
    let ledger = cluster.ledger();
    assert!(ledger.locks.iter().all(|lock| lock.shard == shard_of(&lock.resource)), "we know where resources are");
    let Sql::Postgres { url, .. } = &cluster.sql else { unreachable!() };
    let mut session = runtime().block_on(async {
        use sqlx::Connection;
        let mut session = sqlx::PgConnection::connect(url).await.unwrap();
        let lock = format!("BEGIN; SELECT * FROM holdline.shard_head WHERE shard = {shard} FOR UPDATE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut session).await.unwrap();
        session
    });
    let held_since = Instant::now();
    let (_, answer, took) = ask(&cluster, 0, "a", "private-quick.probe");
    assert_eq!(answer, Err("LockUnavailable 503".to_owned()));
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    // What is in other shards goes on, on the other node and on this one.
    let refused: Vec<_> = (0..30)
        .map(|number| (number, format!("rest-{number}")))
        .filter(|(_, name)| shard_of(&format!("quick:{name}")) != shard)
        .filter_map(|(number, name)| {
            let (_, answer, took) = ask(&cluster, number % 2, "b", &format!("private-quick.{name}"));
            answer.err().map(|why| (name, why, took))
        })
        .collect();
    println!("while shard {shard} was held {:?}, these were refused in other shards: {refused:?}", held_since.elapsed());
    assert!(refused.is_empty(), "{refused:?}");
    std::thread::sleep((L + H).saturating_sub(held_since.elapsed()));
    nobody_died(&cluster);
    runtime().block_on(sqlx::raw_sql("COMMIT").execute(&mut session)).unwrap();
    drop(session);
    until("the shard is back", || ask(&cluster, 0, "c", "private-quick.probe").1.is_ok());
    cluster.settle();
    cluster.finish();
}

/// The library that gives a process another time.
fn faketime() -> String {
    let found = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .map(|place| format!("{place}/faketime/libfaketime.so.1"))
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    found.expect("this test sets the database's clock: apt-get install faketime")
}

/// The clock of the database jumps; nobody dies of it, and no grace becomes longer.
#[test]
#[ignore = "fault suite"]
fn f45_the_clock_of_the_database_is_set() {
    let place = tempfile::tempdir().unwrap();
    let clock = place.path().join("clock");
    let set = |offset: &str| {
        // In one go: the server reads it all the time.
        let new = place.path().join("new");
        std::fs::write(&new, format!("{offset}\n")).unwrap();
        std::fs::rename(new, &clock).unwrap();
    };
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    set("+0");
    let environment = [
        ("LD_PRELOAD", faketime()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let base = Base::Private(ServerOptions { environment, ..ServerOptions::default() });
    let cluster = Cluster::start(Plan { base, ..Plan::nodes(3) });
    cluster.allow(|allowed| allowed.clock_was_set = true);
    let time = || cluster.sql.number("SELECT extract(epoch FROM clock_timestamp())::bigint");
    let real = now() / 1_000_000;
    let keep = cluster.hold(0, "keep", "private-order.keep");
    for (number, offset) in ["+3600", "-3600", "+259200", "+0", "-600"].into_iter().enumerate() {
        let before = cluster.hold(1, "before", &format!("private-order.before-{number}"));
        cluster.driver.leave(before.client, Leave::Reset);
        until("it is in grace", || cluster.ledger().locks.iter().any(|lock| lock.fence == before.fence && lock.state == "grace"));
        set(offset);
        let seconds: i64 = offset.parse().unwrap();
        assert!((time() - real - seconds).abs() < 60, "the clock does not show {offset}");
        let from = Instant::now();
        cluster.unlocked(before.fence);
        assert!(from.elapsed() < G + W * 2 + SLACK, "a grace of {:?} after {offset}", from.elapsed());
        let after = cluster.hold(2, "after", &format!("private-order.after-{number}"));
        let from = Instant::now();
        cluster.driver.leave(after.client, Leave::Reset);
        cluster.unlocked(after.fence);
        assert!(from.elapsed() < G + W * 2 + SLACK, "a grace of {:?} at {offset}", from.elapsed());
        nobody_died(&cluster);
    }
    std::thread::sleep(L + H);
    nobody_died(&cluster);
    assert!(cluster.ledger().unlocked(keep.fence).is_none());
    // And who does die is noticed, whatever the clock says.
    let dead = cluster.hold(2, "dead", "private-quick.dead");
    cluster.kill(2);
    set("-3600");
    let from = Instant::now();
    cluster.unlocked(dead.fence);
    assert!(from.elapsed() < L + H * 2 + W + SLACK, "{:?}", from.elapsed());
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f49_a_role_in_repeatable_read() {
    let cluster = Cluster::start(Plan::nodes(1));
    let database = cluster.sql.text("SELECT current_database()").unwrap();
    let role = format!("role_{database}");
    cluster
        .sql
        .run(&format!("CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'"));
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("strict.toml");
    let plain = cluster.nodes[0].launch().config;
    let other = plain.replace("postgres://postgres@", &format!("postgres://{role}@"));
    assert_ne!(plain, other);
    let own = cluster.nodes[0].data_dir().display().to_string();
    std::fs::write(&config, other.replace(&own, &directory.path().join("data").display().to_string())).unwrap();
    let ended = run_to_end(directory.path(), &["serve", "--config", config.to_str().unwrap(), "--port", "0"], &[]);
    let said = ended.said();
    assert_ne!(ended.code, 0, "{said}");
    assert!(said.contains("READ COMMITTED") && said.contains("default_transaction_isolation"), "{said}");
    assert!(!said.contains("Listening") && !said.contains("panicked"), "{said}");
    assert_eq!(cluster.ledger().nodes.len(), 1, "it did not even become a node");
    cluster.finish();
}
