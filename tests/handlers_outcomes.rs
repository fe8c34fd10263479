//! Where the pushes of an outcome arrive, and what a refusal of each hook becomes (design 3.1).

use std::sync::Arc;

use holdline::{
    Handler, Server,
    domain::{Outcome, Reject},
    protocol::CloseCode,
};
use serde_json::json;

use crate::{
    handlers::{Live, settings, told_off},
    handlers_script::{Answer, Heard, Journal, Scripted, accept},
    support::{APP, Ws, member, user_auth},
};

/// Pushes `pushed` from this hook.
fn pushing(hook: &'static str) -> (Arc<Journal>, Live) {
    let journal = Journal::new();
    let live = Live::following(&journal, move |call| match call.heard.hook() == hook {
        true => Answer::Accept(Outcome::accept().push("pushed", json!({ "by": hook })).push("and", "more")),
        false => accept(),
    });
    (journal, live)
}

/// Refuses in this hook as long as `refuse` says so.
fn refusing(hook: &'static str, refusal: impl Fn() -> Reject + Send + Sync + 'static) -> (Arc<Journal>, Live) {
    let journal = Journal::new();
    let live = Live::following(&journal, move |call| if call.heard.hook() == hook { Answer::Refuse(refusal()) } else { accept() });
    (journal, live)
}

#[test]
fn pushes_of_on_subscribe_come_after_its_success_and_before_the_cached_event() {
    let (_, live) = pushing("subscribe");
    let mut ws = live.ws();
    ws.subscribe("private-cache-a");
    assert_eq!(ws.expect("pushed").raw, r#"{"event":"pushed","channel":"private-cache-a","data":"{\"by\":\"subscribe\"}"}"#);
    assert_eq!(ws.expect("and").data(), r#""more""#, "a text is JSON, too");
    ws.expect("pusher:cache_miss");
    live.http().publish("private-cache-a", "cached", "1");
    ws.expect("cached");
    let mut late = live.ws();
    late.subscribe("private-cache-a");
    late.expect("pushed");
    late.expect("and");
    late.expect_data("cached", "private-cache-a", "1");
    ws.quiet();
}

#[test]
fn pushes_of_on_subscribe_come_before_anything_that_happens_on_the_channel_later() {
    let (_, live) = pushing("subscribe");
    let mut first = live.ws();
    let snapshot = first.join("presence-room", &member("1", None));
    assert_eq!(snapshot["count"], 1);
    first.expect("pushed");
    first.expect("and");
    let mut second = live.ws();
    second.join("presence-room", &member("2", None));
    assert_eq!(second.expect("pushed").channel(), Some("presence-room"));
    first.expect("pusher_internal:member_added");
    first.quiet();
}

#[test]
fn pushes_for_ones_own_user_channel_come_after_its_success() {
    let (_, live) = pushing("subscribe");
    let mut ws = live.ws();
    ws.signin(r#"{"id":"42"}"#);
    ws.send_subscribe("#server-to-user-42", Some(""), None);
    ws.acknowledged("#server-to-user-42");
    assert_eq!(ws.expect("pushed").channel(), Some("#server-to-user-42"));
}

#[test]
fn pushes_of_on_signin_come_after_its_success_and_the_state_of_the_watched() {
    let (_, live) = pushing("signin");
    let mut ws = live.ws();
    ws.signin(r#"{"id":"42","watchlist":["7"]}"#);
    ws.expect("pusher_internal:watchlist_events");
    assert_eq!(ws.expect("pushed").raw, r#"{"event":"pushed","data":"{\"by\":\"signin\"}"}"#);
    ws.expect("and");
    ws.quiet();
}

#[test]
fn pushes_of_on_message_go_to_the_sender_alone_and_the_message_to_the_others() {
    let (_, live) = pushing("message");
    let (mut sender, mut other) = (live.ws(), live.ws());
    for ws in [&mut sender, &mut other] {
        ws.subscribe("private-a");
    }
    sender.send(&json!({ "event": "client-a", "channel": "private-a", "data": "1" }));
    assert_eq!(sender.expect("pushed").channel(), Some("private-a"));
    sender.expect("and");
    sender.quiet();
    other.expect_data("client-a", "private-a", "1");
    other.quiet();
}

#[test]
fn pushes_of_on_close_go_nowhere_and_do_no_harm() {
    let (journal, live) = pushing("close");
    let mut ws = live.ws();
    ws.send_close(1000);
    ws.closed(1000);
    journal.wait_for("close client_closed");
}

#[test]
fn a_refused_handshake_is_a_101_with_the_error_and_the_close_code_of_the_refusal() {
    let refusals: [(fn() -> Reject, u16); 5] = [
        (|| Reject::unauthorized("Nobody we know"), 4009),
        (|| Reject::forbidden("Nobody we know"), 4009),
        (|| Reject::unavailable("Nobody we know"), 4100),
        (|| Reject::new("Moved", 301, "Nobody we know").with_close_code(CloseCode::RECONNECT), 4200),
        (|| Reject::forbidden("Nobody we know").with_close_code(CloseCode::new(4042).unwrap()), 4042),
    ];
    for (refusal, code) in refusals {
        let (journal, live) = refusing("handshake", refusal);
        let mut ws = Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]);
        assert_eq!(told_off(&mut ws, code), "Nobody we know");
        assert_eq!(journal.lines(), ["handshake"], "neither opened nor closed");
        assert_eq!((live.totals(), journal.contexts(), live.broker.connection_count()), ((0, 0), (0, 0), 0));
    }
}

#[test]
fn a_long_refusal_is_told_in_full_and_cut_for_the_close_frame() {
    let text = "ë".repeat(200);
    let (_, live) = refusing("handshake", move || Reject::forbidden("ë".repeat(200)));
    assert_eq!(Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]).refused(4009), text);
}

#[test]
fn a_refusal_of_on_open_follows_connection_established_and_is_closed_like_any_other() {
    let (journal, live) = refusing("open", || Reject::unavailable("Later"));
    let mut ws = live.ws();
    ws.send_subscribe("news", None, None);
    assert_eq!(ws.refused(4100), "Later");
    let closed = journal.closed("");
    assert_eq!((closed.closing.cause.as_str(), closed.closing.code), ("refused", Some(CloseCode::OVER_CAPACITY)));
    assert_eq!(journal.lines(), ["handshake", "open", "close refused"], "the frame behind it is not looked at");
}

#[test]
fn a_refused_subscription_is_a_subscription_error_and_leaves_nothing_behind() {
    let (journal, live) = refusing("subscribe", || Reject::new("LockConflict", 409, "Somebody else is editing"));
    let mut ws = live.ws();
    for channel in ["private-order.7", "presence-order.7", "news"] {
        let auth = APP.auth(&format!("{}:{channel}:{}", ws.socket_id, member("1", None)));
        let plain = APP.auth(&format!("{}:{channel}", ws.socket_id));
        match channel.starts_with("presence") {
            true => ws.send_subscribe(channel, Some(&auth), Some(&member("1", None))),
            false => ws.send_subscribe(channel, Some(&plain), None),
        }
        let error = ws.subscription_error(channel);
        assert_eq!(error, ("LockConflict".into(), 409, "Somebody else is editing".into()));
    }
    assert_eq!(live.broker.channels(APP.id, ""), []);
    ws.send(&json!({ "event": "client-a", "channel": "private-order.7", "data": "1" }));
    assert!(ws.error(4009).contains("not subscribed"));
    live.http().publish("private-order.7", "e", "1");
    ws.unsubscribe("private-order.7");
    ws.quiet();
    assert_eq!(journal.lines().iter().filter(|line| line.starts_with("error")).count(), 4, "{:?}", journal.lines());
    assert_eq!(journal.lines().iter().filter(|line| line.starts_with("unsubscribe")).count(), 0);
}

#[test]
fn a_refused_subscription_may_be_asked_for_again() {
    let journal = Journal::new();
    let live = Live::following(&journal, |call| match &call.heard {
        Heard::Subscribe(_) if call.conn.user_id().is_none() => Answer::Refuse(Reject::forbidden("Sign in first")),
        _ => accept(),
    });
    let mut ws = live.ws();
    let auth = APP.auth(&format!("{}:private-a", ws.socket_id));
    ws.send_subscribe("private-a", Some(&auth), None);
    assert_eq!(ws.subscription_error("private-a"), ("AuthError".into(), 403, "Sign in first".into()));
    ws.signin(r#"{"id":"42"}"#);
    ws.subscribe("private-a");
    assert_eq!(journal.count("subscribe private-a"), 2);
}

#[test]
fn a_refused_signin_is_told_in_band_and_nobody_is_signed_in() {
    let (journal, live) = refusing("signin", || Reject::forbidden("Not on Sundays"));
    let mut ws = live.ws();
    ws.send_signin(r#"{"id":"42"}"#);
    assert_eq!(ws.error(4009), "Not on Sundays");
    live.broker.send_to_user(APP.id, "42", "notice", "1").unwrap();
    assert_eq!(live.broker.terminate_user(APP.id, "42"), 0);
    ws.quiet();
    assert_eq!(journal.lines()[2..], ["signin 42", "error 4009"]);
    let other = user_auth(APP, &ws.socket_id, r#"{"id":"43"}"#);
    ws.send(&json!({ "event": "pusher:signin", "data": { "auth": other, "user_data": r#"{"id":"43"}"# } }));
    assert_eq!(ws.error(4009), "Not on Sundays", "not: signed in as another user");
}

#[test]
fn a_refused_message_is_told_in_band_and_not_relayed() {
    let (journal, live) = refusing("message", || Reject::bad_request("Not so loud"));
    let (mut sender, mut other) = (live.ws(), live.ws());
    for ws in [&mut sender, &mut other] {
        ws.subscribe("private-a");
    }
    sender.send(&json!({ "event": "client-a", "channel": "private-a", "data": "1" }));
    let told = sender.expect("pusher:error");
    assert_eq!(told.json, json!({ "event": "pusher:error", "channel": "private-a", "data": { "code": 4301, "message": "Not so loud" } }));
    sender.quiet();
    other.quiet();
    assert_eq!(journal.lines().last().unwrap(), "error 4301");
}

#[test]
fn an_outcome_with_a_refusal_is_no_outcome() {
    let journal = Journal::new();
    let pushes = Scripted::new(&journal, |call| match &call.heard {
        Heard::Subscribe(_) => Answer::Accept(Outcome::accept().push("never", 1)),
        _ => accept(),
    });
    let refuses = Scripted::new(&journal, |call| match &call.heard {
        Heard::Subscribe(_) => Answer::Refuse(Reject::not_found("No such order")),
        _ => accept(),
    });
    let handler = pushes.labelled("a").and(refuses.labelled("b"));
    let live = Live::start(&journal, Server::new(settings(|_| {})).handler(handler));
    let mut ws = live.ws();
    ws.send_subscribe("news", None, None);
    assert_eq!(ws.subscription_error("news"), ("NotFound".into(), 404, "No such order".into()));
    ws.quiet();
}
