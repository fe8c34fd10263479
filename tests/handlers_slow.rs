//! Hooks that take their time: what waits for them, what does not, and what becomes of a connection that ends meanwhile.

use std::sync::Arc;

use holdline::{
    Server,
    cluster::NewPublication,
    domain::{CloseCause, Outcome},
    protocol::CloseCode,
};
use serde_json::json;

use crate::{
    handlers::{Live, channel, close_frame, settings, told_off},
    handlers_script::{Answer, Gate, Heard, Journal, Scripted, accept},
    support::{APP, Frame, Ws, member, until},
};

/// Holds every hook about something called `slow` until the gate is opened.
fn gated() -> (Arc<Journal>, Gate, Live) {
    let (journal, gate) = (Journal::new(), Gate::shut());
    let held = gate.clone();
    let script = Scripted::new(&journal, move |call| match &call.heard {
        Heard::Handshake(_) if call.who == "slow" => held.wait_then_accept(),
        Heard::Subscribe(sub) if sub.channel.as_str().ends_with("slow") => held.wait_then_accept(),
        Heard::Message(msg) if msg.event == "client-slow" => {
            Answer::Wait(held.clone(), Box::new(Answer::Accept(Outcome::accept().push("done", 1))))
        }
        Heard::Unsubscribe(channel) if channel.as_str().ends_with("slowly-left") => held.wait_then_accept(),
        Heard::Signin(_) => held.wait_then_accept(),
        _ => accept(),
    });
    let settings = settings(|settings| settings.apps[0].limits.client_events_per_second = 0);
    let live = Live::start(&journal, Server::new(settings).handler(script));
    (journal, gate, live)
}

fn say(ws: &mut Ws, event: &str, data: &str) {
    ws.send(&json!({ "event": event, "channel": "private-a", "data": data }));
}

fn publish(live: &Live, channel: &str, data: &str) {
    let news = NewPublication { channels: vec![channel], event: "e".into(), data: data.into(), socket_id: None };
    live.broker.publish(APP.id, news).unwrap();
}

#[test]
fn frames_sent_while_a_hook_runs_are_handled_after_it_in_their_order() {
    let (journal, gate, live) = gated();
    let mut ws = live.ws();
    ws.subscribe("private-a");
    say(&mut ws, "client-slow", "1");
    journal.wait_for("message private-a client-slow 1");
    for n in 0..5 {
        say(&mut ws, "client-fast", &n.to_string());
    }
    ws.send_subscribe("news", None, None);
    ws.unsubscribe("private-a");
    say(&mut ws, "client-late", "1");
    ws.send_text(r#"{"event":"pusher:ping"}"#);
    // A round trip of another client on the same worker: whatever was to overtake would have.
    live.ws_as("other").quiet();
    assert_eq!(journal.of("").last().unwrap(), "message private-a client-slow 1");
    gate.let_through(1);
    ws.expect("done");
    ws.acknowledged("news");
    assert!(ws.error(4009).contains("not subscribed"));
    ws.expect("pusher:pong");
    let mut expected = vec!["message private-a client-slow 1".to_owned()];
    expected.extend((0..5).map(|n| format!("message private-a client-fast {n}")));
    expected.extend(["subscribe news", "unsubscribe private-a", "error 4009"].map(str::to_owned));
    assert_eq!(journal.of("")[3..], expected);
}

#[test]
fn a_client_may_send_much_more_than_is_read_ahead_while_its_hook_waits() {
    let (journal, gate, live) = gated();
    let (mut ws, mut other) = (live.ws(), live.ws());
    for ws in [&mut ws, &mut other] {
        ws.subscribe("private-a");
    }
    say(&mut ws, "client-slow", "1");
    let data = |n: usize| format!("{n} {}", "x".repeat(5_000));
    for n in 0..100 {
        say(&mut ws, "client-fast", &data(n));
    }
    journal.wait_for("message private-a client-slow 1");
    gate.let_through(1);
    other.expect_data("client-slow", "private-a", "1");
    for n in 0..100 {
        other.expect_data("client-fast", "private-a", &data(n));
    }
}

#[test]
fn broadcasts_reach_a_client_while_its_own_hook_waits() {
    let (journal, gate, live) = gated();
    let (mut ws, mut other) = (live.ws(), live.ws());
    for ws in [&mut ws, &mut other] {
        ws.subscribe("private-a");
    }
    say(&mut ws, "client-slow", "1");
    journal.wait_for("message private-a client-slow 1");
    publish(&live, "private-a", "2");
    ws.expect_data("e", "private-a", "2");
    say(&mut other, "client-fast", "3");
    ws.expect_data("client-fast", "private-a", "3");
    other.expect_data("e", "private-a", "2");
    gate.let_through(1);
    ws.expect("done");
    other.expect_data("client-slow", "private-a", "1");
}

#[test]
fn other_connections_of_the_same_worker_do_not_wait() {
    let (journal, gate, live) = gated();
    let mut ws = live.ws();
    ws.send_subscribe("slow", None, None);
    journal.wait_for("subscribe slow");
    let mut others: Vec<Ws> = (0..10).map(|_| live.ws()).collect();
    others.iter_mut().for_each(|other| {
        other.subscribe("private-a");
    });
    gate.let_through(1);
    ws.acknowledged("slow");
}

#[test]
fn a_channel_is_joined_only_after_its_hook_has_agreed() {
    let (journal, gate, live) = gated();
    let mut ws = live.ws();
    ws.send_subscribe("slow", None, None);
    journal.wait_for("subscribe slow");
    publish(&live, "slow", "too early");
    assert_eq!(live.broker.channels(APP.id, ""), []);
    gate.let_through(1);
    ws.acknowledged("slow");
    publish(&live, "slow", "in time");
    ws.expect_data("e", "slow", "in time");
}

#[test]
fn a_client_that_is_gone_before_its_hook_agrees_leaves_no_subscription_behind() {
    let (journal, gate, live) = gated();
    let mut watcher = live.ws();
    for name in ["presence-slow", "private-a"] {
        gate.let_through(usize::from(name.ends_with("slow")));
        if name.starts_with("presence") { drop(watcher.join(name, &member("watcher", None))) } else { drop(watcher.subscribe(name)) }
    }
    for round in 0..20 {
        let mut ws = live.ws_as(&format!("leaver{round}"));
        ws.send_join("presence-slow", &member("leaver", None));
        until("the hook is asked", || journal.of(&format!("leaver{round}")).len() == 3);
        drop(ws);
        gate.let_through(1);
        let closing = journal.closed(&format!("leaver{round}")).closing;
        assert_eq!((closing.cause, closing.code), (CloseCause::Gone, None));
        assert_eq!(live.broker.channel_users(APP.id, &channel("presence-slow")), ["watcher".into()], "round {round}");
    }
    until("every place is free", || live.broker.connection_count() == 1);
    // Whether it was there for a moment or not: who is told of a coming is told of the going.
    watcher.send_text(r#"{"event":"pusher:ping"}"#);
    let names: Vec<_> = std::iter::from_fn(|| Some(watcher.event().name().to_owned()).filter(|name| name != "pusher:pong")).collect();
    assert!(names.chunks(2).all(|pair| pair == ["pusher_internal:member_added", "pusher_internal:member_removed"]), "{names:?}");
}

#[test]
fn a_connection_that_is_closed_while_its_hook_waits_gets_nothing_of_what_the_hook_agrees_to() {
    let (journal, gate, live) = gated();
    let mut watcher = live.ws();
    gate.let_through(1);
    watcher.join("presence-slow", &member("watcher", None));
    watcher.subscribe("private-a");
    type Slowly = fn(&mut Ws);
    let cases: [(&str, Slowly); 3] = [
        ("subscribe presence-slow", |ws| ws.send_join("presence-slow", &member("kicked", None))),
        ("message private-a client-slow 1", |ws| say(ws, "client-slow", "1")),
        ("signin 42", |ws| ws.send_signin(r#"{"id":"42"}"#)),
    ];
    for (who, (line, slowly)) in ["a", "b", "c"].into_iter().zip(cases) {
        let mut ws = live.ws_as(who);
        ws.subscribe("private-a");
        slowly(&mut ws);
        until("the hook is asked", || journal.of(who).last().is_some_and(|last| last == line));
        let socket_id = holdline::protocol::SocketId::parse(&ws.socket_id).unwrap().unwrap();
        assert!(live.broker.close_socket(APP.id, socket_id, CloseCode::UNAUTHORIZED, "Out"));
        assert_eq!(told_off(&mut ws, 4009), "Out", "it is told at once, not after the hook");
        assert_eq!(journal.of(who).last().unwrap(), line, "on_close waits for the hook: it gets the context");
        gate.let_through(1);
        assert_eq!(journal.closed(who).closing.cause, CloseCause::Kicked);
        assert_eq!(live.broker.terminate_user(APP.id, "42"), 0);
        watcher.quiet();
    }
}

#[test]
fn members_are_told_at_once_of_one_that_is_closed_while_its_hook_waits() {
    let (journal, gate, live) = gated();
    let (mut watcher, mut leaver) = (live.ws(), live.ws_as("leaver"));
    watcher.join("presence-room", &member("watcher", None));
    leaver.join("presence-room", &member("leaver", None));
    watcher.expect("pusher_internal:member_added");
    leaver.send_signin(r#"{"id":"42"}"#);
    until("the hook is asked", || journal.of("leaver").last().is_some_and(|last| last == "signin 42"));
    let socket_id = holdline::protocol::SocketId::parse(&leaver.socket_id).unwrap().unwrap();
    live.broker.close_socket(APP.id, socket_id, CloseCode::UNAUTHORIZED, "Out");
    watcher.expect("pusher_internal:member_removed");
    assert_eq!(live.broker.connections(APP.id, None, 10).len(), 1, "and its place is free");
    assert_eq!(journal.of("leaver").last().unwrap(), "signin 42", "on_close waits for the hook: it gets the context");
    gate.let_through(1);
    let closed = journal.closed("leaver").closing;
    assert_eq!((closed.cause, closed.channels.len()), (CloseCause::Kicked, 1));
}

#[test]
fn a_connection_that_is_closed_while_its_handshake_waits_is_told_and_has_its_end() {
    let (journal, gate, live) = gated();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| told_off(&mut Ws::upgrade(live.address, "/app/app-key?as=slow", &[]), 4009));
        until("it has its place", || journal.count("handshake") == 1);
        let socket_id = live.broker.connections(APP.id, None, 1)[0].socket_id();
        assert!(live.broker.close_socket(APP.id, socket_id, CloseCode::UNAUTHORIZED, "Out"));
        gate.let_through(1);
        assert_eq!(client.join().unwrap(), "Out", "and it never was established");
    });
    assert_eq!(journal.closed("slow").closing.cause, CloseCause::Kicked);
}

#[test]
fn a_close_frame_waits_for_the_hook_and_is_then_answered() {
    let (journal, gate, live) = gated();
    let mut ws = live.ws_as("anna");
    ws.subscribe("private-slowly-left");
    ws.unsubscribe("private-slowly-left");
    until("the hook is asked", || journal.of("anna").len() == 4);
    assert_eq!(live.broker.channels(APP.id, ""), [], "it was left before the hook was asked");
    ws.send_close(1000);
    gate.let_through(1);
    assert_eq!(close_frame(&mut ws), Frame::Close(Some(1000), String::new()));
    assert_eq!(journal.closed("anna").closing.cause, CloseCause::ClientClosed);
}
