//! Every way in which a connection can end, and what `on_close` is told of it (design 0.1, 2.5 c, 3.1).

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use holdline::{
    Server, Settings,
    cluster::NewPublication,
    domain::{CloseCause, Closing, Outcome, Reject},
    protocol::CloseCode,
};
use serde_json::json;
use socket2::SockRef;

use crate::{
    handlers::{Live, channel, close_frame, settings, told_off},
    handlers_script::{Answer, Heard, Journal, ON_PURPOSE, Scripted, accept},
    support::{APP, Frame, Ws, until, wire},
};

fn agreeing(change: impl FnOnce(&mut Settings)) -> (Arc<Journal>, Live) {
    let journal = Journal::new();
    let live = Live::start(&journal, Server::new(settings(change)).handler(Scripted::agreeing(&journal)));
    (journal, live)
}

fn cause_and_code(closing: &Closing) -> (CloseCause, Option<u16>) {
    (closing.cause, closing.code.map(CloseCode::as_u16))
}

#[test]
fn a_close_frame_is_client_closed_with_its_code() {
    let (journal, live) = agreeing(|_| {});
    for (who, payload, code) in [
        ("a", &[3, 232][..], Some(1000)),
        ("b", &[0x10, 0xe1], Some(4321)),
        ("c", &[3, 233, b'b', b'y', b'e'], Some(1001)),
        ("d", &[], None),
    ] {
        let mut ws = live.ws_as(who);
        ws.send_bytes(&wire(8, payload));
        assert_eq!(close_frame(&mut ws), Frame::Close(code, String::new()), "{who}: the answer repeats the code");
        assert_eq!(cause_and_code(&journal.closed(who).closing), (CloseCause::ClientClosed, code), "{who}");
    }
}

#[test]
fn a_socket_that_just_ends_is_gone() {
    let (journal, live) = agreeing(|_| {});
    let mut fin = live.ws_as("fin");
    fin.half_close();
    assert_eq!(cause_and_code(&journal.closed("fin").closing), (CloseCause::Gone, None));

    let mut rst = TcpStream::connect(live.address).unwrap();
    let request = "GET /app/app-key?as=rst HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    rst.write_all(request.as_bytes()).unwrap();
    until("it is open", || journal.of("rst").len() == 2);
    SockRef::from(&rst).set_linger(Some(Duration::ZERO)).unwrap();
    drop(rst);
    assert_eq!(cause_and_code(&journal.closed("rst").closing), (CloseCause::Gone, None));

    let mut half = live.ws_as("half");
    half.send_bytes(&wire(1, br#"{"event":"pusher:ping"}"#)[..9]);
    drop(half);
    assert_eq!(cause_and_code(&journal.closed("half").closing), (CloseCause::Gone, None), "half a frame is no breach of the protocol");
}

#[test]
fn a_client_that_answers_no_ping_is_idle() {
    let (journal, live) = agreeing(|settings| {
        settings.server.ping_interval = Duration::from_millis(100);
        settings.server.pong_timeout = Duration::from_millis(100);
    });
    let mut ws = live.ws_as("silent");
    ws.answers_pings = false;
    assert_eq!(told_off(&mut ws, 4201), "Pong reply not received in time");
    assert_eq!(cause_and_code(&journal.closed("silent").closing), (CloseCause::Idle, Some(4201)));
}

#[test]
fn a_client_that_does_not_read_is_a_slow_consumer() {
    let (journal, live) = agreeing(|settings| settings.server.outbox_size = 64 * 1024);
    let mut ws = live.ws_as("slow");
    ws.subscribe("news");
    let data = "x".repeat(10_000);
    until("the bound is crossed", || {
        let news = || NewPublication { channels: vec!["news"], event: "e".into(), data: data.clone(), socket_id: None };
        (0..100).for_each(|_| live.broker.publish(APP.id, news()).unwrap());
        !journal.closes().is_empty()
    });
    let closing = journal.closed("slow").closing;
    assert_eq!(cause_and_code(&closing), (CloseCause::SlowConsumer, Some(4100)));
    assert_eq!(closing.channels, [channel("news")]);
}

#[test]
fn a_breach_of_the_rules_is_a_protocol_error_with_its_code() {
    let (journal, live) = agreeing(|settings| settings.server.max_message_size = 2_000);
    for (who, bytes, code) in [
        ("binary", wire(2, b"x"), 1003),
        ("reserved", wire(0x41, b"x"), 1002),
        ("unmasked", crate::support::frame(0x81, false, b"x"), 1002),
        ("utf8", wire(1, &[0xff]), 1007),
        ("large", wire(1, &[b'x'; 2_001]), 1009),
        ("bad close code", wire(8, &1005_u16.to_be_bytes()), 1002),
    ] {
        let mut ws = live.ws_as(&who.replace(' ', "-"));
        ws.send_bytes(&bytes);
        assert!(matches!(close_frame(&mut ws), Frame::Close(Some(found), _) if found == code), "{who}");
        assert_eq!(cause_and_code(&journal.closed(&who.replace(' ', "-")).closing), (CloseCause::ProtocolError, Some(code)), "{who}");
    }
}

#[test]
fn whoever_is_refused_after_the_handshake_is_refused() {
    let journal = Journal::new();
    let settings = settings(|settings| settings.apps[0].authorization_timeout = Duration::from_millis(100));
    let script = Scripted::new(&journal, |call| match call.heard {
        Heard::Open if call.who == "unwanted" => Answer::Refuse(Reject::unavailable("Full")),
        _ => accept(),
    });
    let live = Live::start(&journal, Server::new(settings).handler(script));
    told_off(&mut live.ws_as("unwanted"), 4100);
    assert_eq!(cause_and_code(&journal.closed("unwanted").closing), (CloseCause::Refused, Some(4100)));
    told_off(&mut live.ws_as("nobody"), 4009);
    assert_eq!(cause_and_code(&journal.closed("nobody").closing), (CloseCause::Refused, Some(4009)));
}

#[test]
fn a_stop_is_a_shutdown() {
    let (journal, mut live) = agreeing(|_| {});
    let mut ws = live.ws_as("anna");
    ws.subscribe("news");
    live.stop_handle().stop();
    ws.refused(4200);
    live.stopped();
    let closing = &journal.closes()[0].closing;
    assert_eq!(cause_and_code(closing), (CloseCause::Shutdown, Some(4200)));
    assert_eq!(closing.channels, [channel("news")]);
}

#[test]
fn the_first_cause_wins() {
    let journal = Journal::new();
    let script = Scripted::new(&journal, |call| {
        if let Heard::Message(_) = call.heard {
            call.conn.close_with(None, CloseCode::UNAUTHORIZED, "Out");
            panic!("{ON_PURPOSE}");
        }
        accept()
    });
    let live = Live::start(&journal, Server::new(settings(|_| {})).handler(script));
    let mut ws = live.ws_as("anna");
    ws.subscribe("private-a");
    ws.send(&json!({ "event": "client-e", "channel": "private-a", "data": "1" }));
    ws.send_bytes(&wire(2, b"binary"));
    assert_eq!(told_off(&mut ws, 4009), "Out");
    assert_eq!(cause_and_code(&journal.closed("anna").closing), (CloseCause::Kicked, Some(4009)));
}

#[test]
fn a_closing_knows_everything_about_its_connection() {
    let journal = Journal::new();
    let script = Scripted::new(&journal, |call| match call.heard {
        Heard::Open => Answer::Accept(Outcome::accept().push("welcome", "x".repeat(1_000))),
        _ => accept(),
    });
    let live = Live::start(&journal, Server::new(settings(|_| {})).handler(script));
    let before = Instant::now();
    let mut ws = Ws::upgrade(live.address, "/app/other-key?protocol=7&as=anna", &[]);
    let mut read = ws.established().raw.len() + ws.expect("welcome").raw.len();
    let mut sent = 0;
    for channel in ["zoo", "news", "left"] {
        let text = json!({ "event": "pusher:subscribe", "data": { "channel": channel } }).to_string();
        ws.send_text(&text);
        (sent, read) = (sent + text.len(), read + ws.acknowledged(channel).raw.len());
    }
    let text = r#"{"event":"pusher:unsubscribe","data":{"channel":"left"}}"#;
    ws.send_text(text);
    let ping = r#"{"event":"pusher:ping","data":{}}"#;
    ws.send_text(ping);
    (sent, read) = (sent + text.len() + ping.len(), read + ws.expect("pusher:pong").raw.len());
    ws.send_close(1000);
    close_frame(&mut ws);
    let lasted = before.elapsed();
    let closing = journal.closed("anna").closing;
    assert_eq!(cause_and_code(&closing), (CloseCause::ClientClosed, Some(1000)));
    assert_eq!((closing.socket_id.to_string(), &*closing.app_id), (ws.socket_id.clone(), "other-id"));
    assert_eq!(closing.remote_ip, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert_eq!(closing.channels, [channel("news"), channel("zoo")], "what it was on when it ended");
    assert!(closing.connected_for > Duration::ZERO && closing.connected_for <= lasted, "{:?} of {lasted:?}", closing.connected_for);
    assert_eq!(closing.bytes_in, sent as u64);
    // Six frames, of which each has a header of two or four bytes; the answer to the close frame may be on its way or not.
    let (least, most) = (read as u64 + 6 * 2, read as u64 + 6 * 4 + 4);
    assert!((least..=most).contains(&closing.bytes_out), "{} is not within {least}..={most}", closing.bytes_out);
}

#[test]
fn opens_and_closes_agree_when_all_sorts_of_ends_come_together() {
    let journal = Journal::new();
    let script = Scripted::new(&journal, |call| match call.heard {
        Heard::Open if call.who == "refused" => Answer::Refuse(Reject::forbidden("No")),
        Heard::Subscribe(_) if call.who == "panics" => panic!("{ON_PURPOSE}"),
        Heard::Subscribe(_) if call.who == "kicked" => {
            call.conn.close_with(None, CloseCode::UNAUTHORIZED, "Out");
            accept()
        }
        _ => accept(),
    });
    let live = Live::start(&journal, Server::new(settings(|settings| settings.server.workers = 2)).handler(script));
    let kinds = [
        ("refused", CloseCause::Refused),
        ("panics", CloseCause::HandlerFailed),
        ("kicked", CloseCause::Kicked),
        ("gone", CloseCause::Gone),
        ("closes", CloseCause::ClientClosed),
        ("breaks", CloseCause::ProtocolError),
    ];
    const EACH: usize = 20;
    std::thread::scope(|scope| {
        for (kind, _) in kinds {
            let live = &live;
            scope.spawn(move || {
                for _ in 0..EACH {
                    let mut ws = live.ws_as(kind);
                    match kind {
                        "closes" => ws.send_close(1000),
                        "breaks" => ws.send_bytes(&wire(2, b"x")),
                        "refused" | "gone" => {}
                        _ => ws.send_subscribe("news", None, None),
                    }
                    if kind == "gone" {
                        continue;
                    }
                    loop {
                        match ws.frame() {
                            Frame::Close(..) => break,
                            frame => assert_ne!(frame, Frame::Gone, "{kind}: a close frame comes first"),
                        }
                    }
                }
            });
        }
    });
    let all = EACH * kinds.len();
    until("every one is closed", || journal.closes().len() == all);
    for (kind, cause) in kinds {
        let found = journal.closes().iter().filter(|closed| closed.who == kind && closed.closing.cause == cause).count();
        assert_eq!(found, EACH, "{kind}");
    }
    assert_eq!(live.totals(), (all as u64, all as u64));
    let hub = live.broker.app(APP.id).unwrap();
    let counted: Vec<_> = hub.totals().1.filter(|(_, count)| *count > 0).collect();
    assert!(kinds.iter().all(|(_, cause)| counted.contains(&(*cause, EACH as u64))) && counted.len() == kinds.len(), "{counted:?}");
    until("every context is dropped", || journal.contexts() == (all, all));
    until("every place is free", || live.broker.connection_count() == 0);
}
