//! Handlers that panic, and handlers that never come back: one connection is lost, nothing else (design 3.1, 5.3 trap 11).

use std::{sync::Arc, time::Duration};

use holdline::{
    Handler, Server,
    domain::{CloseCause, Handshake, NeverOpened, Reject, Stage},
    protocol::CloseCode,
};
use serde_json::json;

use crate::{
    handlers::{Live, close_frame, settings, told_off},
    handlers_script::{Answer, Call, Journal, ON_PURPOSE, Scripted, accept},
    support::{APP, Frame, Ws, until, wire},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Panic,
    Hang,
}

/// A handler with a fault in one hook, for the client `bad` alone. Pings are frequent, so that pongs are, too.
fn faulty(hook: &'static str, fault: Fault) -> (Arc<Journal>, Live) {
    let journal = Journal::new();
    let script = move |call: &Call<'_>| match fault {
        _ if call.who != "bad" || call.heard.hook() != hook => accept(),
        Fault::Panic => panic!("{ON_PURPOSE}"),
        Fault::Hang => Answer::Hang,
    };
    let settings = settings(|settings| {
        settings.server.hook_timeout = Duration::from_millis(200);
        settings.server.ping_interval = Duration::from_millis(100);
    });
    let live = Live::start(&journal, Server::new(settings).handler(Scripted::new(&journal, script)));
    (journal, live)
}

/// Does what calls this hook; the connection must be able to go on up to it.
fn provoke(ws: &mut Ws, hook: &str) {
    match hook {
        "open" => {}
        "signin" => ws.send_signin(r#"{"id":"42"}"#),
        "subscribe" => {
            let auth = APP.auth(&format!("{}:private-b", ws.socket_id));
            ws.send_subscribe("private-b", Some(&auth), None);
        }
        "unsubscribe" => {
            ws.subscribe("private-a");
            ws.unsubscribe("private-a");
        }
        "message" => {
            ws.subscribe("private-a");
            ws.send(&json!({ "event": "client-a", "channel": "private-a", "data": "1" }));
        }
        "error" => {
            ws.send_text("nonsense");
            ws.error(4300);
        }
        "pong" => {
            let Frame::Ping(payload) = ws.frame() else { panic!("expected a ping") };
            ws.send_bytes(&wire(10, &payload));
        }
        other => panic!("no hook {other}"),
    }
}

/// The broker still serves: a bystander talks, a newcomer comes.
fn others_live_on(live: &Live, bystander: &mut Ws) {
    bystander.subscribe("news");
    live.http().publish("news", "e", "1");
    bystander.expect_data("e", "news", "1");
    bystander.unsubscribe("news");
    live.ws().quiet();
}

#[test]
fn a_fault_in_any_hook_closes_its_connection_with_4100_and_no_other() {
    let waiting = ["open", "signin", "subscribe", "unsubscribe", "message"];
    let panics = waiting.into_iter().chain(["pong", "error"]).map(|hook| (hook, Fault::Panic));
    for (hook, fault) in panics.chain(waiting.map(|hook| (hook, Fault::Hang))) {
        let (journal, live) = faulty(hook, fault);
        let mut bystander = live.ws();
        let mut ws = live.ws_as("bad");
        provoke(&mut ws, hook);
        let text = loop {
            // Only the pong is provoked between pings that may be on their way.
            match ws.frame() {
                Frame::Text(text) => break text,
                other => assert!(matches!(other, Frame::Ping(_)), "{hook} {fault:?}: {other:?}"),
            }
        };
        assert!(text.contains(r#""event":"pusher:error","data":{"code":4100,"#), "{hook} {fault:?}: {text}");
        assert!(matches!(close_frame(&mut ws), Frame::Close(Some(4100), _)), "{hook} {fault:?}");
        let closed = journal.closed("bad");
        assert_eq!(
            (closed.closing.cause, closed.closing.code),
            (CloseCause::HandlerFailed, Some(CloseCode::OVER_CAPACITY)),
            "{hook} {fault:?}"
        );
        assert!(closed.hooks_before >= 1, "{hook} {fault:?}: the context has come back with what the hook did to it");
        assert_eq!(journal.of("bad").last().unwrap(), "close handler_failed");
        others_live_on(&live, &mut bystander);
        until("only the others are left", || live.totals().0 == live.totals().1 + 1);
    }
}

#[test]
fn what_a_failed_hook_was_asked_for_does_not_happen() {
    for fault in [Fault::Panic, Fault::Hang] {
        for hook in ["signin", "subscribe", "message"] {
            let (journal, live) = faulty(hook, fault);
            let mut watcher = live.ws();
            watcher.subscribe("private-a");
            let mut ws = live.ws_as("bad");
            provoke(&mut ws, hook);
            journal.closed("bad");
            assert_eq!(live.broker.terminate_user(APP.id, "42"), 0);
            let names: Vec<_> = live
                .broker
                .channels(APP.id, "")
                .into_iter()
                .map(|(name, info)| (name.as_str().to_owned(), info.subscription_count))
                .collect();
            assert_eq!(names, [("private-a".to_owned(), 1)], "{hook} {fault:?}");
            watcher.quiet();
        }
    }
}

#[test]
fn a_fault_in_the_handshake_is_a_4100_without_a_connection() {
    for fault in [Fault::Panic, Fault::Hang] {
        let (journal, live) = faulty("handshake", fault);
        let mut bystander = live.ws();
        let mut ws = Ws::upgrade(live.address, "/app/app-key?protocol=7&as=bad", &[]);
        told_off(&mut ws, 4100);
        assert_eq!(journal.of("bad"), ["handshake"], "{fault:?}: neither opened nor closed");
        let peers = journal.peers();
        assert!(peers.len() == 1 && peers[0].stage == Stage::Handshake, "{fault:?}: {peers:?}");
        others_live_on(&live, &mut bystander);
        until("its place is free again", || live.broker.connection_count() == 1);
    }
}

#[test]
fn a_fault_in_on_close_is_nobodys_end() {
    for fault in [Fault::Panic, Fault::Hang] {
        let (journal, live) = faulty("close", fault);
        let mut bystander = live.ws();
        let mut ws = live.ws_as("bad");
        ws.send_close(1000);
        assert_eq!(close_frame(&mut ws), Frame::Close(Some(1000), String::new()));
        assert_eq!(journal.closed("bad").closing.cause, CloseCause::ClientClosed);
        until("the context is dropped", || journal.contexts().1 == 1);
        others_live_on(&live, &mut bystander);
        assert_eq!(journal.closes().iter().filter(|closed| closed.who == "bad").count(), 1, "{fault:?}: once");
    }
}

#[test]
fn a_stop_waits_for_an_on_close_that_hangs_no_longer_than_its_limit() {
    let (journal, mut live) = faulty("close", Fault::Hang);
    let mut ws = live.ws_as("bad");
    live.stop_handle().stop();
    ws.refused(4200);
    live.stopped();
    assert_eq!((journal.closes().len(), journal.contexts()), (1, (1, 1)));
}

/// Panics before there is a future to guard.
struct Hasty;

impl Handler for Hasty {
    type Conn = ();

    fn on_handshake(&self, _request: &Handshake) -> impl Future<Output = Result<(), Reject>> + Send {
        assert!(self.is_calm(), "{ON_PURPOSE}");
        std::future::ready(Ok(()))
    }
}

impl Hasty {
    fn is_calm(&self) -> bool {
        false
    }
}

#[test]
fn a_hook_that_panics_before_it_waits_is_no_different() {
    let live = Live::start(&Journal::new(), Server::new(settings(|_| {})).handler(Hasty));
    told_off(&mut Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]), 4100);
}

/// Refuses everybody, and panics when it hears that it did.
struct Rude;

impl Handler for Rude {
    type Conn = ();

    async fn on_handshake(&self, _request: &Handshake) -> Result<(), Reject> {
        Err(Reject::forbidden("No"))
    }

    fn on_disconnect(&self, _peer: &NeverOpened) {
        panic!("{ON_PURPOSE}");
    }
}

#[test]
fn a_panic_in_on_disconnect_does_not_spoil_the_answer() {
    let live = Live::start(&Journal::new(), Server::new(settings(|_| {})).handler(Rude));
    for _ in 0..2 {
        assert_eq!(told_off(&mut Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]), 4009), "No");
        assert_eq!(live.http().plain("/app/app-key").status, 426);
    }
}
