//! What is held for as long as the connection lives: taken at the opening and at the sign-in.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn a_rule_of_the_opening_applies_when_its_values_are_there() {
    let rules = || [rule(Occasion::Open, "order:{token.order_id}"), rule(Occasion::Open, "table:{token.table}")];
    assert_eq!(Seat::plain(rules()).open(), Ok(Outcome::accept()));
    let mut seat = Seat::with_token(rules(), json!({ "order_id": 42, "sub": "7" }));
    let hold = only_hold(&seat.open().unwrap());
    assert_eq!((hold.resource(), hold.principal()), ("order:42", &Principal::from("7")));
    assert_eq!(hold.context, json!({ "user_id": "7" }));
    let mut both = Seat::with_token(rules(), json!({ "order_id": 42, "table": 3 }));
    assert_eq!(resources(&both.open().unwrap()), ["order:42", "table:3"]);
    assert!(Seat::with_token(rules(), json!({ "order_id": "x".repeat(200) })).open().is_err());
}

#[test]
fn two_rules_that_agree_take_a_resource_once() {
    let rules = [rule(Occasion::Open, "order:{token.order_id}"), rule(Occasion::Open, "order:{token.same}")];
    let mut seat = Seat::with_token(rules, json!({ "order_id": 42, "same": 42 }));
    assert_eq!(resources(&seat.open().unwrap()), ["order:42"]);
}

#[test]
fn a_rule_of_the_sign_in_knows_the_user_and_the_handshake() {
    let mut seat = Seat::with_token([rule(Occasion::Signin, "desk:{signin.desk}:{token.room}:{user_id}")], json!({ "room": "r" }));
    assert_eq!(seat.open(), Ok(Outcome::accept()));
    assert_eq!(seat.sign_in(r#"{"id":"42"}"#), Ok(Outcome::accept()), "no desk, no lock");
    let hold = only_hold(&seat.sign_in(r#"{"id":"42","user_info":{"desk":"d"}}"#).unwrap());
    assert_eq!((hold.resource(), hold.principal()), ("desk:d:r:42", &Principal::from("42")));
}

/// A seat that has held order 1 since it opened, and a rule about other orders.
fn since_open(on_mismatch: OnMismatch) -> Seat {
    let rules = [rule(Occasion::Open, "order:{token.order_id}"), HoldRule { on_mismatch, ..orders() }];
    let mut seat = Seat::with_token(rules, json!({ "order_id": 1, "sub": "7" }));
    assert_eq!(resources(&seat.open().unwrap()), ["order:1"]);
    seat
}

#[test]
fn another_resource_than_at_the_opening_is_held_too_unless_the_rule_refuses_or_switches() {
    for both in [OnMismatch::Warn, OnMismatch::HoldBoth] {
        assert_eq!(since_open(both).take("private-order.2").resource(), "order:2", "{both}");
    }
    let mut switching = since_open(OnMismatch::Switch);
    let outcome = switching.subscribe(to("private-order.2")).unwrap();
    assert_eq!((resources(&outcome), outcome.releases()), (vec!["order:2"], &["order:1".to_owned()][..]));
    let mut refusing = since_open(OnMismatch::Reject);
    let reject = refusing.subscribe(to("private-order.2")).unwrap_err();
    let error = reject.as_subscription_error();
    assert_eq!((&*error.kind, error.status), ("LockMismatch", 409));
    assert_eq!(error.error, "This connection has held order:1 since it opened, and order:2 is not the same");
    assert_eq!((&error.details["resource"], &error.details["held"]), (&json!("order:2"), &json!("order:1")));
}

#[test]
fn the_same_resource_or_another_event_is_no_mismatch() {
    assert_eq!(since_open(OnMismatch::Reject).take("private-order.1").resource(), "order:1");
    let rules = [
        rule(Occasion::Open, "table:{token.table}"),
        HoldRule { on_mismatch: OnMismatch::Reject, event: "Page".to_owned(), ..on("private-page.{page}", "page:{page}") },
    ];
    let mut seat = Seat::with_token(rules, json!({ "table": 3 }));
    assert_eq!(seat.open().unwrap().holds().len(), 1);
    assert_eq!(seat.take("private-page.1").resource(), "page:1");
}

#[test]
fn a_sign_in_is_compared_with_the_opening_too() {
    let rules = [
        rule(Occasion::Open, "order:{token.order_id}"),
        HoldRule { on_mismatch: OnMismatch::Reject, ..rule(Occasion::Signin, "order:{signin.order_id}") },
    ];
    let mut seat = Seat::with_token(rules, json!({ "order_id": 1 }));
    assert_eq!(seat.open().unwrap().holds().len(), 1);
    assert_eq!(said(&seat.sign_in(r#"{"id":"7","order_id":"2"}"#).unwrap_err()).0, "LockMismatch");
    assert_eq!(resources(&seat.sign_in(r#"{"id":"7","order_id":"1"}"#).unwrap()), ["order:1"]);
}

#[test]
fn a_connection_does_not_compete_with_itself() {
    let rules = [rule(Occasion::Open, "order:{query.order_id}"), orders()];
    let mut seat = Seat::new(rules, |handshake| handshake.query = [("order_id".to_owned(), "1".to_owned())].into_iter().collect());
    assert_eq!(only_hold(&seat.open().unwrap()).principal(), &own_socket());
    let signed_in = |channel: &str| Subscribe { user_id: Some("7".into()), ..to(channel) };
    let again = only_hold(&seat.subscribe(signed_in("private-order.1")).unwrap());
    assert_eq!(again.principal(), &own_socket(), "user:7 would be refused what socket:1.1 holds");
    let other = only_hold(&seat.subscribe(signed_in("private-order.2")).unwrap());
    assert_eq!(other.principal(), &Principal::from("7"));
}

#[test]
fn what_was_not_granted_at_the_sign_in_is_not_held() {
    let rules = [rule(Occasion::Signin, "order:{signin.order_id}"), HoldRule { on_mismatch: OnMismatch::Reject, ..orders() }];
    let mut seat = Seat::plain(rules);
    let hold = only_hold(&seat.sign_in(r#"{"id":"7","order_id":"1"}"#).unwrap());
    assert_eq!(seat.refusal(to("private-order.2")).0, "LockMismatch");
    let holder = Holder { fence: Fence(9), principal: "user:8".to_owned(), mode: Mode::Exclusive, state: LockState::Held, since_ms: 0 };
    let mut conflict = Conflict { hold, channel: Some(to("private-order.2").channel), holders: vec![holder] };
    let answer = |seat: &mut Seat, conflict: &Conflict| seat.holds.on_conflict(&mut seat.conn, conflict).now_or_never().unwrap();
    assert_eq!(answer(&mut seat, &conflict), Reject::conflict(&conflict));
    assert_eq!(seat.refusal(to("private-order.2")).0, "LockMismatch", "a subscription's conflict says nothing of the sign-in's hold");
    conflict.channel = None;
    assert_eq!(said(&answer(&mut seat, &conflict)).0, "LockConflict");
    assert_eq!(seat.take("private-order.2").resource(), "order:2");
}

#[test]
fn what_was_lost_since_is_no_mismatch_and_is_nobodys_any_more() {
    let lost = Arc::new(AtomicBool::new(false));
    let is_lost = Arc::clone(&lost);
    let holds = since_open(OnMismatch::Reject).holds.still_held_by(move |socket_id, resource| {
        assert_eq!((socket_id.to_string().as_str(), resource), ("1.1", "order:1"));
        !is_lost.load(Ordering::Relaxed)
    });
    let claims = json!({ "order_id": 1, "sub": "7" });
    let mut seat = Seat::at(holds, |handshake| handshake.claims = Some(Claims::for_tests(claims)));
    assert_eq!(resources(&seat.open().unwrap()), ["order:1"]);
    assert_eq!(seat.refusal(to("private-order.2")).0, "LockMismatch");
    lost.store(true, Ordering::Relaxed);
    assert_eq!(seat.take("private-order.2").resource(), "order:2");
}
