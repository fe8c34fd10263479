use super::*;

fn place(n: u128) -> Place {
    Place { app_id: "app".into(), socket_id: SocketId::from_random(n), channel: None }
}

fn held(table: &mut HoldTable, n: u128, resource: &str, fence: i64) -> HoldId {
    let id = HoldId::random();
    table.asked(id, place(n), resource.to_owned(), false);
    assert!(table.granted(id, Fence(fence)));
    assert_eq!(table.told(id), None);
    id
}

fn lost(n: u128, resource: &str, fence: i64, cause: CloseCause) -> Notice {
    Notice { place: place(n), news: News::Lost { resource: resource.to_owned(), fence: Fence(fence), cause } }
}

#[test]
fn whoever_loses_a_lock_is_told_and_whoever_let_go_is_not() {
    let mut table = HoldTable::default();
    held(&mut table, 1, "order:1", 7);
    let second = held(&mut table, 2, "order:1", 7);
    assert_eq!(table.take(SocketId::from_random(2), |_, _, _| true), [(second, "order:1".to_owned())]);
    assert_eq!(table.lock_ended(Fence(7), CloseCause::TakenOver), [lost(1, "order:1", 7, CloseCause::TakenOver)]);
    assert_eq!(table.lock_ended(Fence(7), CloseCause::TakenOver), []);
    assert_eq!((table.len(), table.count(SocketId::from_random(1))), (0, 0));
}

#[test]
fn a_loss_is_never_told_before_the_grant() {
    let mut table = HoldTable::default();
    let id = HoldId::random();
    table.asked(id, place(1), "order:1".to_owned(), false);
    table.granted(id, Fence(7));
    assert_eq!(table.lock_ended(Fence(7), CloseCause::TakenOver), []);
    assert_eq!(table.told(id), Some(lost(1, "order:1", 7, CloseCause::TakenOver)));
    assert!(!table.knows(id));
}

#[test]
fn a_loss_that_overtakes_the_answer_is_not_forgotten() {
    let mut table = HoldTable::default();
    let id = HoldId::random();
    table.asked(id, place(1), "order:1".to_owned(), false);
    assert_eq!(table.lock_ended(Fence(7), CloseCause::ForceReleased), []);
    assert!(table.granted(id, Fence(7)));
    assert_eq!(table.told(id), Some(lost(1, "order:1", 7, CloseCause::ForceReleased)));
}

#[test]
fn a_grant_for_a_connection_that_has_gone_is_refused() {
    let mut table = HoldTable::default();
    let id = HoldId::random();
    table.asked(id, place(1), "order:1".to_owned(), false);
    assert_eq!(table.take(SocketId::from_random(1), |_, _, _| true).len(), 1);
    assert!(!table.granted(id, Fence(7)));
    assert_eq!(table.told(id), None);
}

#[test]
fn waiters_are_told_once_and_only_while_they_wait() {
    let mut table = HoldTable::default();
    let channel = ChannelName::parse("private-order.1", 200).unwrap();
    let on = |n| Place { channel: Some(channel.clone()), ..place(n) };
    for n in [1, 1, 2, 3] {
        table.wait(on(n), "order:1");
    }
    table.wait(place(4), "order:2");
    table.stop_waiting(SocketId::from_random(2), None);
    let other = ChannelName::parse("private-order.9", 200).unwrap();
    table.stop_waiting(SocketId::from_random(3), Some(&other));
    assert!(table.is_awaited("app", "order:1") && !table.is_awaited("other", "order:1"));
    let free = |n| Notice { place: on(n), news: News::Free { resource: "order:1".to_owned() } };
    assert_eq!(table.freed("app", "order:1"), [free(1), free(3)]);
    assert_eq!(table.freed("app", "order:1"), []);
    table.stop_waiting(SocketId::from_random(4), None);
    assert!(!table.is_awaited("app", "order:2"));
    assert!(table.waiters.is_empty() && table.waiting.is_empty());
}

#[test]
fn a_connection_waits_for_so_much_and_no_more() {
    let mut table = HoldTable::default();
    for n in 0..=WAITING {
        table.wait(place(1), &format!("order:{n}"));
    }
    assert_eq!(table.waiters.len(), WAITING);
    table.wait(place(2), "order:1");
    table.is_unclear("app", "order:1");
    table.is_unclear("app", "nobody waits for it");
    assert_eq!(table.next_unclear(), Some(("app".into(), "order:1".into())));
    assert_eq!(table.next_unclear(), None);
    assert_eq!(table.freed("app", "order:1").len(), 2);
    table.wait(place(1), &format!("order:{WAITING}"));
    assert_eq!(table.waiters.len(), WAITING, "there is room for one again");
}

#[test]
fn many_waiters_and_many_tabs_of_one_user_end_one_by_one_without_a_look_at_all_the_others() {
    let ends = |many| {
        let mut table = HoldTable::default();
        for n in 0..many {
            held(&mut table, n, "user-online:7", 7);
            table.wait(place(n), "order:1");
        }
        let began = std::time::Instant::now();
        for n in 0..many {
            table.stop_waiting(SocketId::from_random(n), None);
            assert_eq!(table.take(SocketId::from_random(n), |_, _, _| true).len(), 1);
        }
        let took = began.elapsed();
        assert!(table.by_fence.is_empty() && table.waiters.is_empty() && table.waiting.is_empty());
        took
    };
    // However fast the machine is: eight times as many take eight times as long, and would take 64 times as long. It may stand still in
    // the midst of it, but not each time.
    let mut times: Vec<[std::time::Duration; 2]> = Vec::new();
    while times.last().is_none_or(|[few, many]| *many >= *few * 24) {
        assert!(times.len() < 5, "{times:?}");
        times.push([ends(2_000), ends(16_000)]);
    }
}

#[test]
fn a_loss_that_overtakes_the_answer_is_not_forgotten_where_another_connection_has_the_lock() {
    let mut table = HoldTable::default();
    held(&mut table, 1, "order:1", 7);
    let second = HoldId::random();
    table.asked(second, place(2), "order:1".to_owned(), false);
    assert_eq!(table.lock_ended(Fence(7), CloseCause::TakenOver), [lost(1, "order:1", 7, CloseCause::TakenOver)]);
    assert!(table.granted(second, Fence(7)), "attached, says the store's answer");
    assert_eq!(table.told(second), Some(lost(2, "order:1", 7, CloseCause::TakenOver)));
}

#[test]
fn answers_under_way_are_compared_with_what_ended_lately() {
    let mut table = HoldTable::default();
    for n in 0..10_000 {
        table.lock_ended(Fence(n), CloseCause::TakenOver);
    }
    assert_eq!((table.ended.len(), table.ended_order.len()), (ENDED, ENDED));
    let id = HoldId::random();
    table.asked(id, place(1), "order:1".to_owned(), false);
    table.granted(id, Fence(9_000));
    assert_eq!(table.told(id), Some(lost(1, "order:1", 9_000, CloseCause::TakenOver)));
}

#[test]
fn a_node_that_was_declared_dead_tells_everybody_and_closes_each_connection_once() {
    let mut table = HoldTable::default();
    held(&mut table, 1, "order:1", 7);
    held(&mut table, 1, "order:2", 8);
    let quiet = HoldId::random();
    table.asked(quiet, place(2), "user-online:2".to_owned(), true);
    table.granted(quiet, Fence(9));
    table.told(quiet);
    assert_eq!(table.state(false).len(), 2);
    let notices = table.clear(CloseCause::NodeDeath);
    let closed: Vec<_> = notices.iter().filter(|notice| notice.news == News::Close).map(|notice| notice.place.socket_id).collect();
    assert_eq!((closed.len(), notices.len(), table.len()), (2, 4, 0));
}
