//! The database restarts, is away, loses sessions, is in the hands of a psql, and is another time. F34–F36, F43, F45, F49.

use std::time::{Duration, Instant};

use super::{
    asking::{ask, hears, warm_lanes},
    cluster::{Cluster, SLACK, after},
    fleet::Order,
    journal::{Leave, What, now},
    ledger::Sql,
    plan::{Base, G, H, L, Plan, W},
};
use crate::support::{
    postgres::{ServerOptions, Stop},
    proxy::runtime,
    run_to_end, unique, until,
};

/// The shard of a resource: FNV-1a over app, a zero byte and resource.
fn shard_of(resource: &str) -> i64 {
    let bytes = crate::support::APP.id.bytes().chain([0]).chain(resource.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % 16) as i64
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
    let (mut granted, mut refused, mut killed, mut unlocked) = (0, 0, 0, None);
    let mut number = 0;
    while started.elapsed() < Duration::from_secs(16) {
        let terminate = "SELECT CAST(count(pg_terminate_backend(pid)) AS text) FROM pg_stat_activity
                          WHERE datname = current_database() AND application_name LIKE 'holdline%'";
        cluster.sql.text(terminate);
        if number == 1 {
            cluster.kill(2);
            killed = now();
        }
        for broker in [0, 1, 0, 1] {
            match ask(&cluster, broker, "c", &format!("private-quick.{}", unique("go"))).1 {
                Ok(_) => granted += 1,
                Err(_) => refused += 1,
            }
        }
        number += 1;
        unlocked = unlocked.or_else(|| cluster.ledger().unlocked(dead.fence).map(|event| after(event, killed)));
        std::thread::sleep(Duration::from_secs(2 * number).saturating_sub(started.elapsed()));
    }
    println!("{granted} granted, {refused} refused; the dead node's lock ended {unlocked:?} after its death");
    assert!(granted > 3 * refused, "{granted} granted, {refused} refused");
    assert!(unlocked.is_some_and(|took| took < L + H * 2 + W + SLACK), "the dead node was noticed after {unlocked:?}");
    assert!(cluster.ledger().unlocked(keep.fence).is_none());
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
