use std::time::Duration;

use super::{
    super::conn::tests::{conn, conn_in, received},
    *,
};
use crate::protocol::Member;

fn hub(change: impl FnOnce(&mut App)) -> Hub {
    let mut app = App::for_tests();
    change(&mut app);
    Hub::new(Arc::new(app))
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text, 200).unwrap()
}

fn member(id: &str) -> Member {
    Member { user_id: id.into(), user_info: None }
}

fn join(hub: &Hub, channel: &str, conn: &Conn, member: Option<&Member>) -> Result<Joined, ChannelFull> {
    hub.join(&name(channel), &Join { conn, member, greeting: &[], now: Instant::now() })
}

fn event(data: &str) -> Delivery<'_> {
    Delivery { event: "e", data, user_id: None, except: None, sender: None, keep_for: None }
}

#[test]
fn a_second_tab_of_the_same_user_does_not_announce_twice() {
    let hub = hub(|_| {});
    let (watcher, tab1, tab2) = (conn(1), conn(2), conn(3));
    join(&hub, "presence-x", &watcher, Some(&member("w"))).unwrap();
    join(&hub, "presence-x", &tab1, Some(&member("42"))).unwrap();
    join(&hub, "presence-x", &tab2, Some(&member("42"))).unwrap();
    let seen = received(&watcher);
    assert_eq!(seen.len(), 2, "its own success and one member_added: {seen:?}");
    assert!(received(&tab2)[0].contains(r#"\"count\":2"#));
    hub.leave(&name("presence-x"), &tab1, Instant::now());
    assert_eq!(received(&watcher), Vec::<String>::new());
    hub.leave(&name("presence-x"), &tab2, Instant::now());
    assert!(received(&watcher)[0].contains("member_removed"));
}

#[test]
fn a_full_presence_channel_still_takes_a_second_tab() {
    let hub = hub(|app| app.limits.max_presence_members = 2);
    for n in 1..=2 {
        join(&hub, "presence-x", &conn(n), Some(&member(&n.to_string()))).unwrap();
    }
    assert_eq!(join(&hub, "presence-x", &conn(3), Some(&member("3"))), Err(ChannelFull));
    assert_eq!(join(&hub, "presence-x", &conn(4), Some(&member("1"))), Ok(Joined::New));
    assert_eq!(hub.channel(&name("presence-x"), Instant::now()).user_count, 2);
}

#[test]
fn a_failed_join_leaves_no_channel_behind() {
    let hub = hub(|app| app.limits.max_presence_members = 0);
    assert!(join(&hub, "presence-x", &conn(1), Some(&member("1"))).is_err());
    hub.tick(Instant::now());
    assert_eq!(hub.channels_in_memory(), 0);
}

#[test]
fn an_empty_channel_is_gone() {
    let hub = hub(|_| {});
    let one = conn(1);
    join(&hub, "news", &one, None).unwrap();
    assert_eq!(join(&hub, "news", &one, None), Ok(Joined::Again));
    hub.leave(&name("news"), &one, Instant::now());
    assert_eq!(hub.channels_in_memory(), 0);
}

#[test]
fn a_cached_event_is_not_counted_for_each_who_gets_it() {
    let (hub, memory, data) = (hub(|_| {}), Arc::clone(conn(0).outbox().memory()), "x".repeat(100_000));
    hub.deliver(&name("cache-a"), &Delivery { keep_for: Some(Duration::from_secs(60)), ..event(&data) }, Instant::now());
    let crowd: Vec<Conn> = (1..=100).map(|n| conn_in(n, Arc::clone(&memory))).collect();
    assert!(crowd.iter().all(|conn| join(&hub, "cache-a", conn, None).is_ok() && conn.outbox().waiting().1 > data.len()));
    assert!(memory.used() < 2 * data.len(), "{}", memory.used());
}

#[test]
fn a_cached_event_survives_an_empty_channel_until_its_time() {
    let hub = hub(|_| {});
    let ttl = Duration::from_secs(60);
    let now = Instant::now();
    hub.deliver(&name("cache-a"), &Delivery { keep_for: Some(ttl), ..event("1") }, now);
    let late = conn(1);
    join(&hub, "cache-a", &late, None).unwrap();
    assert!(received(&late)[1].contains(r#""data":"1""#));
    hub.leave(&name("cache-a"), &late, now);
    assert_eq!(hub.channel(&name("cache-a"), now).cached, Some(("1".into(), ttl)));
    hub.tick(now + ttl);
    assert_eq!(hub.channels_in_memory(), 0);
    join(&hub, "cache-a", &late, None).unwrap();
    assert!(received(&late)[1].contains("pusher:cache_miss"));
}

#[test]
fn a_large_channel_tells_its_count_every_five_seconds() {
    let hub = hub(|app| app.subscription_count = true);
    let now = Instant::now();
    let conns: Vec<_> = (0..103).map(conn).collect();
    for conn in &conns {
        hub.join(&name("news"), &Join { conn, member: None, greeting: &[], now }).unwrap();
    }
    let counts = |conn: &Conn| received(conn).into_iter().filter(|f| f.contains("subscription_count")).collect::<Vec<_>>();
    let seen = counts(&conns[0]);
    assert_eq!(seen.len(), 100, "one each up to 100, then none");
    hub.tick(now + Duration::from_secs(4));
    assert!(counts(&conns[0]).is_empty());
    hub.tick(now + Duration::from_secs(5));
    let late = counts(&conns[0]);
    assert!(late.len() == 1 && late[0].contains(r#"\"subscription_count\":103"#), "{late:?}");
}

#[test]
fn every_connection_counts_and_gives_its_place_back() {
    let hub = hub(|app| app.max_connections = 1);
    let (one, two) = (conn(1), conn(2));
    hub.admit(&one).unwrap();
    assert_eq!(hub.admit(&two), Err(OverQuota));
    hub.opened(&one);
    hub.closed(&one, None, CloseCause::Gone, Instant::now());
    hub.admit(&two).unwrap();
    let (opened, closed) = hub.totals();
    assert_eq!((opened, closed.map(|(_, n)| n).sum::<u64>()), (1, 1));
}

#[test]
fn subscribers_on_many_threads_see_one_order() {
    let hub = hub(|_| {});
    let watchers: Vec<_> = (0..4).map(conn).collect();
    for watcher in &watchers {
        join(&hub, "news", watcher, None).unwrap();
        received(watcher);
    }
    std::thread::scope(|scope| {
        for publisher in 0..4 {
            let hub = &hub;
            scope.spawn(move || {
                for n in 0..200 {
                    hub.deliver(&name("news"), &event(&format!("{publisher}.{n}")), Instant::now());
                }
            });
        }
    });
    let first = received(&watchers[0]);
    assert_eq!(first.len(), 800);
    assert!(watchers[1..].iter().all(|watcher| received(watcher) == first));
}

#[test]
fn joins_and_leaves_on_many_threads_lose_nobody() {
    let hub = hub(|_| {});
    std::thread::scope(|scope| {
        for t in 0..4 {
            let hub = &hub;
            scope.spawn(move || {
                for round in 0..500 {
                    let one = conn(t * 1_000 + round);
                    join(hub, "presence-x", &one, Some(&member(&t.to_string()))).unwrap();
                    assert!(hub.channel(&name("presence-x"), Instant::now()).subscription_count >= 1);
                    hub.leave(&name("presence-x"), &one, Instant::now());
                }
            });
        }
    });
    assert_eq!(hub.channels_in_memory(), 0);
}
