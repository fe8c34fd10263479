//! What a handler can do from inside a hook: speak to its client, publish, look around, disconnect. Nothing goes through HTTP, and
//! nothing that a hook may call can block on what the hook is about.

use std::sync::Arc;

use holdline::{
    Broker, Handler, Server,
    cluster::{NewPublication, PublishError},
    domain::{CloseCause, ConnState, Outcome, Reject},
    protocol::CloseCode,
};
use serde_json::json;

use crate::{
    handlers::{Live, channel, close_frame, settings, told_off},
    handlers_script::{Answer, Call, Heard, Journal, Scripted, accept},
    support::{APP, Frame, member},
};

/// A handler that holds the broker.
fn with_broker(script: impl Fn(&Broker, &Call<'_>) -> Answer + Send + Sync + 'static) -> (Arc<Journal>, Live) {
    let journal = Journal::new();
    let server = Server::new(settings(|_| {}));
    let broker = server.broker();
    let live = Live::start(&journal, server.handler(Scripted::new(&journal, move |call| script(&broker, call))));
    (journal, live)
}

fn publish(broker: &Broker, channel: &str, event: &str, data: &str) -> Result<(), PublishError> {
    let publication = NewPublication { channels: vec![channel], event: event.into(), data: data.into(), socket_id: None };
    broker.publish(APP.id, publication)
}

#[test]
fn every_hook_may_publish_even_to_the_channel_it_is_about() {
    let (journal, live) = with_broker(|broker, call| {
        publish(broker, "presence-room", "hook", call.heard.hook()).unwrap();
        accept()
    });
    let mut watcher = live.ws_as("watcher");
    watcher.join("presence-room", &member("watcher", None));
    let mut ws = live.ws_as("anna");
    watcher.expect_data("hook", "presence-room", "handshake");
    watcher.expect_data("hook", "presence-room", "open");
    ws.signin(r#"{"id":"42"}"#);
    watcher.expect_data("hook", "presence-room", "signin");
    ws.send_text("nonsense");
    ws.error(4300);
    watcher.expect_data("hook", "presence-room", "error");
    ws.join("presence-room", &member("anna", None));
    watcher.expect_data("hook", "presence-room", "subscribe");
    watcher.expect("pusher_internal:member_added");
    ws.quiet();
    ws.send(&json!({ "event": "client-e", "channel": "presence-room", "data": "1" }));
    ws.expect_data("hook", "presence-room", "message");
    watcher.expect_data("hook", "presence-room", "message");
    assert_eq!(watcher.expect_data("client-e", "presence-room", "1").json["user_id"], "anna", "relayed after the hook");
    ws.unsubscribe("presence-room");
    watcher.expect("pusher_internal:member_removed");
    watcher.expect_data("hook", "presence-room", "unsubscribe");
    drop(ws);
    watcher.expect_data("hook", "presence-room", "close");
    assert_eq!(journal.of("anna").len(), 8);
}

#[test]
fn what_a_hook_publishes_is_checked_like_any_other_event() {
    let (_, live) = with_broker(|broker, call| {
        let Heard::Open = call.heard else { return accept() };
        let answers = json!([
            publish(broker, "no spaces", "e", "1").unwrap_err().to_string(),
            publish(broker, "news", "pusher:e", "1").unwrap_err().to_string(),
            publish(broker, "news", "e", &"x".repeat(10_241)).unwrap_err().to_string(),
            broker.send_to_user("nobody", "42", "e", "1").unwrap_err().to_string(),
            broker.send_to_user(APP.id, "", "e", "1").unwrap_err().to_string(),
        ]);
        Answer::Accept(Outcome::accept().push("answers", answers))
    });
    let answers = live.ws().expect("answers").payload();
    let expected = json!([
        "Invalid channel name",
        "Event names starting with pusher: or pusher_internal: are reserved",
        "The data content of this event exceeds the allowed maximum (10240 bytes): it has 10241.",
        "Unknown app",
        "Invalid channel name"
    ]);
    assert_eq!(answers, expected);
}

#[test]
fn a_publication_can_leave_its_own_connection_out() {
    let (_, live) = with_broker(|broker, call| {
        if let Heard::Message(msg) = &call.heard {
            let own = call.conn.socket_id().to_string();
            let channels = vec![msg.channel.as_str()];
            broker
                .publish(APP.id, NewPublication { channels, event: "echo".into(), data: msg.data.clone(), socket_id: Some(&own) })
                .unwrap();
            return Answer::Refuse(Reject::forbidden("the hook has sent it"));
        }
        accept()
    });
    let (mut ws, mut other) = (live.ws(), live.ws());
    for ws in [&mut ws, &mut other] {
        ws.subscribe("private-a");
    }
    ws.send(&json!({ "event": "client-e", "channel": "private-a", "data": "7" }));
    ws.error(4301);
    ws.quiet();
    other.expect_data("echo", "private-a", "7");
}

#[test]
fn a_user_is_reached_on_every_connection_and_can_be_sent_away() {
    let (journal, live) = with_broker(|broker, call| match &call.heard {
        Heard::Message(msg) if msg.event == "client-tell" => {
            broker.send_to_user(APP.id, "42", "notice", "1").unwrap();
            accept()
        }
        Heard::Message(_) => Answer::Accept(Outcome::accept().push("sent-away", broker.terminate_user(APP.id, "42"))),
        _ => accept(),
    });
    let mut boss = live.ws_as("boss");
    boss.subscribe("private-a");
    let mut tabs = [live.ws_as("tab1"), live.ws_as("tab2")];
    for tab in &mut tabs {
        tab.signin(r#"{"id":"42"}"#);
    }
    boss.send(&json!({ "event": "client-tell", "channel": "private-a", "data": "" }));
    for tab in &mut tabs {
        tab.expect_data("notice", "#server-to-user-42", "1");
    }
    boss.send(&json!({ "event": "client-away", "channel": "private-a", "data": "" }));
    assert_eq!(boss.expect("sent-away").data(), "2");
    for tab in &mut tabs {
        assert_eq!(told_off(tab, 4009), "You got disconnected by the app.");
    }
    for who in ["tab1", "tab2"] {
        assert_eq!(journal.closed(who).closing.cause, CloseCause::Kicked);
    }
    boss.quiet();
}

#[test]
fn a_hook_can_send_its_own_user_away() {
    let (journal, live) = with_broker(|broker, call| match &call.heard {
        Heard::Message(_) => Answer::Accept(Outcome::accept().push("never", broker.terminate_user(APP.id, "42"))),
        _ => accept(),
    });
    let (mut ws, mut other) = (live.ws_as("anna"), live.ws());
    for ws in [&mut ws, &mut other] {
        ws.subscribe("private-a");
    }
    ws.signin(r#"{"id":"42"}"#);
    ws.send(&json!({ "event": "client-e", "channel": "private-a", "data": "1" }));
    told_off(&mut ws, 4009);
    assert_eq!(journal.closed("anna").closing.cause, CloseCause::Kicked);
    other.quiet();
}

#[test]
fn a_socket_can_be_closed_by_its_id_once() {
    let (journal, live) = with_broker(|broker, call| {
        if let Heard::Handshake(request) = &call.heard {
            // A newcomer replaces whoever is there.
            let code = CloseCode::new(4050).unwrap();
            let closed = |conn: &holdline::domain::Conn| broker.close_socket(APP.id, conn.socket_id(), code, "Replaced");
            let others = broker.connections(APP.id, None, 100).into_iter().filter(|conn| conn != request.conn());
            others.for_each(|conn| assert!(closed(&conn) && !closed(&conn)));
        }
        accept()
    });
    let mut first = live.ws_as("first");
    let mut second = live.ws_as("second");
    assert_eq!(told_off(&mut first, 4050), "Replaced");
    let closing = journal.closed("first").closing;
    assert_eq!((closing.cause, closing.code.map(CloseCode::as_u16)), (CloseCause::Kicked, Some(4050)));
    assert!(!live.broker.close_socket(APP.id, closing.socket_id, CloseCode::NORMAL, "again"), "it is gone");
    second.quiet();
}

#[test]
fn a_connection_can_be_closed_with_a_last_event() {
    let (journal, live) = with_broker(|_, call| {
        if let Heard::Subscribe(_) = call.heard {
            assert!(call.conn.close_with(Some(("goodbye", r#"{"see":"you"}"#)), CloseCode::UNAUTHORIZED, "That was it"));
            assert!(!call.conn.send_event("late", "1"), "nothing follows the end");
            assert!(!call.conn.close_with(None, CloseCode::NORMAL, "again"));
            return Answer::Accept(Outcome::accept().push("late", 2));
        }
        accept()
    });
    let mut ws = live.ws_as("anna");
    ws.send_subscribe("news", None, None);
    assert_eq!(ws.expect("goodbye").raw, r#"{"event":"goodbye","data":"{\"see\":\"you\"}"}"#);
    assert_eq!(told_off(&mut ws, 4009), "That was it");
    let closing = journal.closed("anna").closing;
    assert_eq!((closing.cause, closing.code), (CloseCause::Kicked, Some(CloseCode::UNAUTHORIZED)));
    assert_eq!(closing.channels, [], "the subscription was not made");
    assert_eq!(live.broker.channels(APP.id, ""), []);
}

#[test]
fn a_kept_connection_can_be_spoken_to_from_anywhere_and_knows_its_state() {
    let journal = Journal::new();
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&kept);
    let live = Live::following(&journal, move |call| {
        keep.lock().unwrap().get_or_insert(call.conn.clone());
        accept()
    });
    let mut ws = live.ws();
    let conn = kept.lock().unwrap().clone().unwrap();
    assert_eq!((conn.state(), conn.socket_id().to_string()), (ConnState::Active, ws.socket_id.clone()));
    assert!(conn.send_event("outside", "1"));
    assert_eq!(ws.expect("outside").channel(), None);
    ws.signin(r#"{"id":"42"}"#);
    ws.subscribe("news");
    assert_eq!((conn.user_id().as_deref(), conn.channels()), (Some("42"), vec![channel("news")]));
    ws.send_close(1000);
    close_frame(&mut ws);
    journal.wait_for("close client_closed");
    assert!(!conn.send_event("late", "1"));
    assert_eq!((conn.state(), conn.user_id(), conn.channels()), (ConnState::Closing, None, vec![]));
}

#[test]
fn a_hook_sees_channels_members_and_connections() {
    let (_, live) = with_broker(|broker, call| {
        let Heard::Signin(_) = call.heard else { return accept() };
        let channels: Vec<_> =
            broker.channels(APP.id, "presence-").iter().map(|(name, info)| json!([name.as_str(), info.user_count])).collect();
        let seen = json!({
            "channels": channels,
            "members": broker.channel_users(APP.id, &channel("presence-room")).iter().map(|id| &**id).collect::<Vec<_>>(),
            "connections": broker.connections(APP.id, None, 100).len(),
            "first page": broker.connections(APP.id, None, 1).len(),
            "other app": broker.connections("other-id", None, 100).len(),
            "own user": call.conn.user_id().as_deref(),
            "own channels": call.conn.channels().len(),
        });
        Answer::Accept(Outcome::accept().push("seen", seen))
    });
    let (mut one, mut two) = (live.ws(), live.ws());
    one.join("presence-room", &member("1", None));
    two.join("presence-room", &member("2", None));
    two.subscribe("news");
    two.signin(r#"{"id":"42"}"#);
    let expected = json!({
        "channels": [["presence-room", 2]],
        "members": ["1", "2"],
        "connections": 2,
        "first page": 1,
        "other app": 0,
        "own user": null,
        "own channels": 2,
    });
    assert_eq!(two.expect("seen").payload(), expected, "the sign-in itself happens after the hook");
}

#[test]
fn the_last_words_to_a_closed_connection_harm_nobody() {
    let (journal, live) = with_broker(|_, call| {
        if let Heard::Close(_) = call.heard {
            assert!(!call.conn.send_event("late", "1") && !call.conn.close_with(None, CloseCode::NORMAL, "late"));
        }
        accept()
    });
    let mut ws = live.ws();
    ws.send_close(4321);
    assert_eq!(close_frame(&mut ws), Frame::Close(Some(4321), String::new()));
    journal.wait_for("close client_closed");
}

/// A handler of plain async functions, as an application writes it, with a broker inside.
struct Doorbell(Broker);

impl Handler for Doorbell {
    type Conn = ();

    async fn on_handshake(&self, _request: &holdline::domain::Handshake) -> Result<(), Reject> {
        Ok(())
    }

    async fn on_open(&self, _conn: &mut ()) -> Result<Outcome, Reject> {
        publish(&self.0, "doors", "bell", "1").map_err(|error| Reject::unavailable(error.to_string()))?;
        Ok(Outcome::accept())
    }
}

#[test]
fn the_broker_of_a_server_in_the_making_is_the_broker_of_the_running_one() {
    let journal = Journal::new();
    let server = Server::new(settings(|_| {}));
    let broker = server.broker();
    let live = Live::start(&journal, server.handler(Doorbell(broker)));
    let mut ws = live.ws();
    ws.subscribe("doors");
    let _visitor = live.ws();
    ws.expect_data("bell", "doors", "1");
}
