//! Peers that never became a connection: `on_disconnect` hears of them, once, and `on_close` never (design 3.1).

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

use holdline::{
    Server, Settings,
    config::HandshakeAuth,
    domain::{ConnState, Reject, Stage},
};

use crate::{
    handlers::{Live, settings, told_off},
    handlers_script::{Answer, Gate, Heard, Journal, Scripted, accept},
    support::{APP, Ws, until},
};

fn agreeing(change: impl FnOnce(&mut Settings)) -> (Arc<Journal>, Live) {
    let journal = Journal::new();
    let live = Live::start(&journal, Server::new(settings(change)).handler(Scripted::agreeing(&journal)));
    (journal, live)
}

/// Asks for an upgrade and does not wait for the answer.
fn knock(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    let request = "GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

/// The one peer that was told of, in the parts that differ.
fn the_peer(journal: &Journal) -> (Stage, Option<String>, String, String) {
    let peers = journal.peers();
    assert_eq!(peers.len(), 1, "{peers:?}");
    let peer = peers[0].clone();
    assert_eq!(peer.remote_ip.map(|ip| ip.to_string()).as_deref(), Some("127.0.0.1"));
    (peer.stage, peer.app_id.map(|id| id.to_string()), peer.path, peer.cause)
}

/// What `the_peer` is for a peer that asked for the usual application.
fn ours(stage: Stage, cause: &str) -> (Stage, Option<String>, String, String) {
    (stage, Some(APP.id.to_owned()), "/app/app-key".to_owned(), cause.to_owned())
}

#[test]
fn a_browser_that_opens_the_address_as_a_page_is_no_connection() {
    let (journal, live) = agreeing(|_| {});
    let answer = live.http().plain("/app/app-key?protocol=7");
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket")));
    let (stage, app, path, cause) = the_peer(&journal);
    assert_eq!((stage, app.as_deref(), path.as_str()), (Stage::Request, Some(APP.id), "/app/app-key"));
    assert!(cause.to_lowercase().contains("upgrade"), "{cause}");
    assert_eq!(journal.lines(), Vec::<String>::new());
    assert_eq!(live.totals(), (0, 0));
}

#[test]
fn a_broken_upgrade_is_no_connection() {
    let (journal, live) = agreeing(|_| {});
    let ws = Ws::try_upgrade(live.address, "/app/app-key?protocol=7", &[("Sec-WebSocket-Version", "13")]);
    assert_eq!(ws.head.status, 400);
    assert_eq!(the_peer(&journal).0, Stage::Request);
    assert_eq!(journal.lines(), Vec::<String>::new());
}

#[test]
fn whoever_the_broker_refuses_is_told_of_with_the_reason() {
    type Change = fn(&mut Settings);
    let cases: [(Change, &str, u16, &str); 4] = [
        (|settings| settings.apps[0].enabled = false, "/app/app-key?protocol=7", 4003, "Application disabled"),
        (|_| {}, "/app/app-key?protocol=3", 4007, "Unsupported protocol version"),
        (|settings| settings.apps[0].handshake_auth = HandshakeAuth::Required, "/app/app-key", 4009, "Handshake token missing"),
        (|settings| settings.apps[0].allowed_origins = vec!["shop.example".into()], "/app/app-key?protocol=7", 4009, "Origin not allowed"),
    ];
    for (change, target, code, message) in cases {
        let (journal, live) = agreeing(change);
        let mut ws = Ws::upgrade(live.address, target, &[("Origin", "https://evil.example")]);
        assert_eq!(told_off(&mut ws, code), message);
        assert_eq!(the_peer(&journal), ours(Stage::Admission, message));
        assert_eq!(journal.lines(), Vec::<String>::new(), "the handler is not asked");
    }
}

#[test]
fn an_unknown_key_belongs_to_no_application() {
    let (journal, live) = agreeing(|_| {});
    told_off(&mut Ws::upgrade(live.address, "/app/nobody?protocol=7", &[]), 4001);
    let expected = (Stage::Admission, None, "/app/nobody".to_owned(), "App key nobody does not exist".to_owned());
    assert_eq!(the_peer(&journal), expected);
}

#[test]
fn one_connection_too_many_is_told_of() {
    let (journal, live) = agreeing(|settings| settings.apps[0].max_connections = 1);
    let _first = live.ws();
    told_off(&mut Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]), 4004);
    assert_eq!(the_peer(&journal), ours(Stage::Admission, "Application is over connection quota"));
    assert_eq!(journal.lines(), ["handshake", "open"], "of the first one alone");
}

#[test]
fn whoever_the_handler_refuses_is_told_of_and_gives_the_place_back() {
    let journal = Journal::new();
    let live = Live::following(&journal, |call| match call.heard {
        Heard::Handshake(_) => Answer::Refuse(Reject::forbidden("Members only")),
        _ => accept(),
    });
    told_off(&mut Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]), 4009);
    assert_eq!(the_peer(&journal), ours(Stage::Handshake, "Members only"));
    assert_eq!(journal.lines(), ["handshake"]);
    until("the place is free", || live.broker.connection_count() == 0);
}

#[test]
fn a_client_that_leaves_while_the_handshake_waits_is_told_of_at_once() {
    let journal = Journal::new();
    let gate = Gate::shut();
    let held = gate.clone();
    let live = Live::following(&journal, move |call| match call.heard {
        Heard::Handshake(_) => held.wait_then_accept(),
        _ => accept(),
    });
    let socket = knock(live.address);
    journal.wait_for("handshake");
    assert_eq!((live.broker.connection_count(), journal.peers().len()), (1, 0), "it has its place while it waits");
    drop(socket);
    until("the handler hears of it", || !journal.peers().is_empty());
    assert_eq!(the_peer(&journal), ours(Stage::Handshake, "the peer left"));
    until("the place is free", || live.broker.connection_count() == 0);
    gate.let_through(2);
    let mut ws = live.ws();
    ws.quiet();
    assert_eq!(journal.lines(), ["handshake", "handshake", "open"], "the abandoned one went no further");
    assert_eq!(journal.peers().len(), 1);
}

#[test]
fn a_kept_handle_of_a_connection_that_never_was_says_so() {
    let journal = Journal::new();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let live = Live::following(&journal, move |call| {
        keep.lock().unwrap().push(call.conn.clone());
        match call.who {
            "refused" => Answer::Refuse(Reject::forbidden("No")),
            _ => Answer::Hang,
        }
    });
    told_off(&mut Ws::upgrade(live.address, "/app/app-key?as=refused", &[]), 4009);
    let abandoned = knock(live.address);
    until("both were asked", || journal.count("handshake") == 2);
    drop(abandoned);
    until("both are told of", || journal.peers().len() == 2);
    for conn in kept.lock().unwrap().iter() {
        assert!(!conn.send_event("anybody", "there"), "an event to {conn:?} would wait for ever");
        assert_eq!(conn.state(), ConnState::Closing);
    }
}

#[test]
fn ordinary_requests_are_nobodys_end() {
    let (journal, live) = agreeing(|_| {});
    let mut http = live.http();
    http.publish("news", "e", "1");
    assert_eq!(http.plain("/").status, 200);
    assert_eq!(http.plain("/ready").status, 200);
    assert_eq!(http.plain("/apps/app-id/channels").status, 401);
    assert_eq!(http.plain("/nowhere").status, 404);
    drop(http);
    drop(TcpStream::connect(live.address).unwrap());
    let mut ws = live.ws();
    ws.quiet();
    assert_eq!((journal.peers().len(), journal.lines()), (0, vec!["handshake".to_owned(), "open".to_owned()]));
}
