use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::*;
use crate::{
    domain::{App, Conn, Delivery, Hub, Join, conn::tests::conn},
    protocol::Member,
};

/// Keeps what it is told, as text.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl ChannelWatch for Notes {
    fn saw(&self, channel: &ChannelName, seen: Seen<'_>) {
        let what = match seen {
            Seen::Occupied => "occupied".to_owned(),
            Seen::Vacated => "vacated".to_owned(),
            Seen::MemberAdded(user) => format!("+{user}"),
            Seen::MemberRemoved(user) => format!("-{user}"),
            Seen::ClientEvent { event, data, sender, user_id } => format!("{event} {data} {sender} {user_id:?}"),
            Seen::CacheMiss => "miss".to_owned(),
            Seen::SubscriptionCount(count) => format!("count {count}"),
        };
        self.0.lock().push(format!("{channel}: {what}"));
    }
}

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

fn watched(change: impl FnOnce(&mut App)) -> (Hub, Arc<Notes>) {
    let mut app = App::for_tests();
    change(&mut app);
    let (hub, notes) = (Hub::new(Arc::new(app)), Arc::<Notes>::default());
    hub.watch(Arc::clone(&notes) as Arc<dyn ChannelWatch>);
    (hub, notes)
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text, 200).unwrap()
}

fn join(hub: &Hub, channel: &str, conn: &Conn, user: Option<&str>, now: Instant) {
    let member = user.map(|user| Member { user_id: user.into(), user_info: None });
    // A refused join is part of some tests.
    let _ = hub.join(&name(channel), &Join { conn, member: member.as_ref(), greeting: &[], now });
}

#[test]
fn a_channel_is_occupied_before_its_first_member_and_vacated_after_its_last() {
    let (hub, notes) = watched(|_| {});
    let (one, two, now) = (conn(1), conn(2), Instant::now());
    join(&hub, "presence-x", &one, Some("7"), now);
    join(&hub, "presence-x", &two, Some("7"), now);
    join(&hub, "presence-x", &two, Some("7"), now);
    assert_eq!(notes.take(), ["presence-x: occupied", "presence-x: +7"], "neither a second tab nor a second subscribe");
    hub.leave(&name("presence-x"), &one, now);
    assert_eq!(notes.take(), Vec::<String>::new());
    hub.leave(&name("presence-x"), &two, now);
    hub.leave(&name("presence-x"), &two, now);
    assert_eq!(notes.take(), ["presence-x: -7", "presence-x: vacated"]);
    join(&hub, "news", &one, None, now);
    hub.leave(&name("news"), &one, now);
    assert_eq!(notes.take(), ["news: occupied", "news: vacated"], "no members, no members told");
}

#[test]
fn a_refused_join_and_a_user_channel_are_not_told_of() {
    let (hub, notes) = watched(|app| app.limits.max_presence_members = 0);
    let now = Instant::now();
    join(&hub, "presence-x", &conn(1), Some("7"), now);
    join(&hub, "#server-to-user-7", &conn(1), None, now);
    hub.leave(&name("#server-to-user-7"), &conn(1), now);
    assert_eq!(notes.take(), Vec::<String>::new());
}

#[test]
fn a_client_event_is_told_of_and_a_publication_is_not() {
    let (hub, notes) = watched(|_| {});
    let (one, now) = (conn(1), Instant::now());
    join(&hub, "private-x", &one, None, now);
    notes.take();
    let publication = Delivery { event: "client-a", data: "1", user_id: None, except: Some(one.socket_id()), sender: None, keep_for: None };
    hub.deliver(&name("private-x"), &publication, now);
    assert_eq!(notes.take(), Vec::<String>::new());
    hub.deliver(&name("private-x"), &Delivery { sender: Some(one.socket_id()), user_id: Some("7"), ..publication }, now);
    assert_eq!(notes.take(), [format!("private-x: client-a 1 {} Some(\"7\")", one.socket_id())]);
}

#[test]
fn a_cache_miss_is_told_of_once_in_ten_seconds_whoever_came_and_went() {
    let (hub, notes) = watched(|_| {});
    let now = Instant::now();
    for (after, who) in [(0, 1), (9, 2)] {
        let (one, now) = (conn(who), now + Duration::from_secs(after));
        join(&hub, "cache-x", &one, None, now);
        hub.leave(&name("cache-x"), &one, now);
    }
    assert_eq!(notes.take().iter().filter(|note| note.ends_with("miss")).count(), 1);
    join(&hub, "cache-x", &conn(3), None, now + Duration::from_secs(10));
    assert_eq!(notes.take(), ["cache-x: occupied", "cache-x: miss"]);
    hub.leave(&name("cache-x"), &conn(3), now + Duration::from_secs(10));
    assert_eq!(hub.channels_in_memory(), 1);
    hub.tick(now + Duration::from_secs(20));
    assert_eq!(hub.channels_in_memory(), 0);
    join(&hub, "presence-cache-x", &conn(1), Some("7"), now);
    hub.deliver(
        &name("cache-y"),
        &Delivery { event: "e", data: "", user_id: None, except: None, sender: None, keep_for: Some(Duration::from_secs(1)) },
        now,
    );
    notes.take();
    join(&hub, "cache-y", &conn(1), None, now);
    assert_eq!(notes.take(), ["cache-y: occupied"], "a cache that has something is not missed");
}

#[test]
fn a_count_is_told_of_whenever_subscribers_are_told() {
    let (hub, notes) = watched(|app| app.subscription_count = true);
    let now = Instant::now();
    let conns: Vec<_> = (0..102).map(conn).collect();
    for one in &conns {
        join(&hub, "news", one, None, now);
    }
    let counts = notes.take().into_iter().filter(|note| note.contains("count")).count();
    assert_eq!(counts, 100, "as eager as 2.9 says, then not");
    hub.tick(now + Duration::from_secs(5));
    assert_eq!(notes.take(), ["news: count 102"]);
    join(&hub, "presence-x", &conns[0], Some("7"), now);
    assert_eq!(notes.take(), ["presence-x: occupied", "presence-x: +7"], "never on presence channels");
    join(&hub, "one", &conns[0], None, now);
    hub.leave(&name("one"), &conns[0], now);
    assert_eq!(notes.take(), ["one: occupied", "one: count 1", "one: count 0", "one: vacated"]);
}

#[test]
fn what_many_threads_do_is_told_in_the_order_in_which_it_happened() {
    let (hub, notes) = watched(|_| {});
    std::thread::scope(|scope| {
        for t in 0..4_u64 {
            let hub = &hub;
            scope.spawn(move || {
                for round in 0..300 {
                    let (one, user) = (conn(t * 1_000 + round), (t % 2).to_string());
                    join(hub, "presence-x", &one, Some(&user), Instant::now());
                    hub.leave(&name("presence-x"), &one, Instant::now());
                }
            });
        }
    });
    let (mut occupied, mut members) = (false, std::collections::HashSet::new());
    for note in notes.take() {
        let note = note.strip_prefix("presence-x: ").unwrap().to_owned();
        match note.split_at(1) {
            ("o", _) => assert!(!std::mem::replace(&mut occupied, true)),
            ("v", _) => assert!(std::mem::replace(&mut occupied, false) && members.is_empty()),
            ("+", user) => assert!(occupied && members.insert(user.to_owned())),
            (_, user) => assert!(members.remove(user)),
        }
    }
    assert!(!occupied && members.is_empty());
}
