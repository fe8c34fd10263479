//! The machine against the tables of the protocol: frames in, actions out, no clock but the one given.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    machine::{Action, Machine},
    settings::ConnectionSettings,
};
use crate::{
    domain::{App, ConnectionError},
    protocol::{CloseCode, ServerFrame, SignedUser, SocketId, WireFrame},
};

const A1: &str = "app-key:5c9f17e1509a58a80a4f52ec397b2f197843284ecb63add4272a207ab0a44bce";
const A2: &str = "app-key:b1a49e2a439a2c79c26fb7c52b0637adc4d0a095fdb47763d0e95e038488502c";
const A2_DATA: &str = r#"{"user_id":"42","user_info":{"name":"Ada"}}"#;
const A4: &str = "app-key:057eee758a254e326fd9694b76b91001d66791eae9db2b098b9b0222da9e9823";
const A9: &str = "app-key:13ac7690b3f04055d96bc03060e467caefacd4f44d2c8d6d6a5b191c3f524c0b";
const A9_DATA: &str = r#"{"id":"42","user_info":{"name":"Ada"},"watchlist":["7","9"]}"#;

struct Rig {
    machine: Machine,
    now: Instant,
}

fn rig(change: impl FnOnce(&mut App)) -> Rig {
    let mut app = App::for_tests();
    change(&mut app);
    let now = Instant::now();
    let settings = ConnectionSettings { raw_heartbeats: vec![("~H#C~".into(), "~H#S~".into())], ..ConnectionSettings::default() };
    let socket_id = SocketId::parse("123456.7890123").unwrap().unwrap();
    Rig { machine: Machine::new(Arc::new(app), Arc::new(settings), socket_id, now), now }
}

impl Rig {
    fn say(&mut self, text: &str) -> Action {
        self.machine.on_text(text, self.now).expect("an action")
    }

    fn send(&mut self, event: &str, data: serde_json::Value) -> Action {
        self.say(&serde_json::json!({ "event": event, "data": data }).to_string())
    }

    fn subscribe(&mut self, channel: &str, auth: &str, channel_data: Option<&str>) -> Action {
        self.send("pusher:subscribe", serde_json::json!({ "channel": channel, "auth": auth, "channel_data": channel_data }))
    }

    /// Subscribes, and is told that it worked.
    fn joined(&mut self, channel: &str, auth: &str, channel_data: Option<&str>) {
        let Action::Subscribe(subscribe) = self.subscribe(channel, auth, channel_data) else { panic!("no subscription to {channel}") };
        self.machine.joined(&subscribe);
    }

    fn refused(&mut self, channel: &str, auth: &str, channel_data: Option<&str>) -> (String, u16, String) {
        match self.subscribe(channel, auth, channel_data) {
            Action::RefuseSubscription { channel: named, error } => {
                assert_eq!(named, channel);
                (error.kind, error.status, error.error)
            }
            other => panic!("{other:?}"),
        }
    }

    fn client_event(&mut self, event: &str, channel: &str, data: &str) -> Result<String, (u16, String)> {
        match self.say(&format!(r#"{{"event":"{event}","channel":"{channel}","data":{data}}}"#)) {
            Action::Relay(event) => Ok(event.data),
            Action::RefuseEvent { error: ConnectionError { code, message }, .. } => Err((code.as_u16(), message)),
            other => panic!("{other:?}"),
        }
    }
}

fn auth_error() -> (String, u16, String) {
    ("AuthError".into(), 401, "The connection is unauthorized.".into())
}

#[test]
fn t9_a_signature_counts_for_its_socket_and_channel_only() {
    let mut rig = rig(|_| {});
    rig.joined("private-foobar", A1, None);
    assert!(matches!(rig.subscribe("private-foobar", A1, None), Action::Reacknowledge(_)));
    assert_eq!(rig.refused("private-other", A1, None), auth_error());
    assert_eq!(rig.refused("private-foobar2", &A1.replace("5c9f", "5c9e"), None), auth_error());
    assert_eq!(rig.refused("private-x", "", None), auth_error());
    assert_eq!(rig.refused("private-foobar", &A1.replace("app-key", "key"), None), auth_error());
}

#[test]
fn channel_data_on_a_private_channel_is_part_of_the_signed_text() {
    let mut rig = rig(|_| {});
    assert_eq!(rig.refused("private-foobar", A1, Some("{}")), auth_error());
    let odd = r#"{"event":"pusher:subscribe","data":{"channel":"private-foobar","auth":"x","channel_data":{}}}"#;
    assert!(matches!(rig.say(odd), Action::RefuseSubscription { .. }));
}

#[test]
fn names_are_checked_before_signatures() {
    let mut rig = rig(|_| {});
    assert_eq!(rig.refused("a b", "", None), ("InvalidChannel".into(), 4009, "Invalid channel name.".into()));
    let long = "x".repeat(201);
    assert_eq!(rig.refused(&long, "", None).0, "LimitReached");
    assert_eq!(rig.refused(&long, "", None).2, "The channel name is longer than the allowed 200 characters.");
}

#[test]
fn t10_a_member_is_who_the_application_signed() {
    let mut rig = rig(|_| {});
    let Action::Subscribe(subscribe) = rig.subscribe("presence-room", A2, Some(A2_DATA)) else { panic!("a subscription") };
    assert_eq!(&*subscribe.member.unwrap().user_id, "42");
    assert_eq!(rig.refused("presence-room", A2, Some(&A2_DATA.replace("42", "43"))), auth_error());
    assert_eq!(rig.refused("presence-room", A4, None), auth_error(), "nobody is signed in");
}

#[test]
fn a_signed_in_connection_may_leave_channel_data_out() {
    let mut rig = rig(|_| {});
    rig.machine.signed_in(SignedUser { id: "42".into(), user_info: Some("{}".into()), watchlist: None, user_data: "{}".into() });
    let Action::Subscribe(subscribe) = rig.subscribe("presence-room", A4, None) else { panic!("a subscription") };
    let member = subscribe.member.unwrap();
    assert_eq!((&*member.user_id, member.user_info.as_deref()), ("42", Some("{}")));
}

#[test]
fn t19_sign_in_and_the_own_user_channel() {
    let mut rig = rig(|_| {});
    assert_eq!(rig.refused("#server-to-user-42", "", None), auth_error());
    let action = rig.send("pusher:signin", serde_json::json!({ "auth": A9, "user_data": A9_DATA }));
    let Action::SignIn { user, user_data, cut: false } = action else { panic!("{action:?}") };
    assert_eq!(user_data, A9_DATA);
    rig.machine.signed_in(user);
    assert!(matches!(rig.subscribe("#server-to-user-42", "", None), Action::Subscribe(_)));
    assert_eq!(rig.refused("#server-to-user-7", "", None), auth_error());
    let wrong = rig.send("pusher:signin", serde_json::json!({ "auth": A1, "user_data": A9_DATA }));
    assert!(matches!(wrong, Action::Refuse { error, .. } if error.code == CloseCode::UNAUTHORIZED));
}

#[test]
fn a_watchlist_is_cut_at_its_limit() {
    let mut rig = rig(|app| app.limits.max_watchlist = 1);
    let action = rig.send("pusher:signin", serde_json::json!({ "auth": A9, "user_data": A9_DATA }));
    assert!(matches!(&action, Action::SignIn { user, cut: true, .. } if user.watchlist.as_ref().unwrap().len() == 1), "{action:?}");
}

#[test]
fn the_seven_checks_of_a_client_event_in_their_order() {
    let mut rig = rig(|app| app.limits.client_events_per_second = 1);
    rig.joined("private-foobar", A1, None);
    let not_allowed = || Err((4009, "Client events are not allowed on this channel.".to_owned()));
    assert_eq!(rig.client_event("client-x", "news", "1"), not_allowed());
    assert_eq!(rig.client_event("client-x", "private-encrypted-x", "1"), not_allowed());
    let message = "Cannot broadcast client event (connection not subscribed to channel private-y)";
    assert_eq!(rig.client_event("client-x", "private-y", "1"), Err((4009, message.into())));
    let name = format!("client-{}", "x".repeat(194));
    assert_eq!(rig.client_event(&name, "private-foobar", "1").unwrap_err().1, "Event name is too long. Maximum allowed size is 200.");
    let data = format!(r#""{}""#, "x".repeat(10_241));
    assert_eq!(rig.client_event("client-x", "private-foobar", &data).unwrap_err().1, "The event data should be less than 10 KB.");
    assert_eq!(rig.client_event("client-x", "private-foobar", r#"{"on": true}"#), Ok(r#"{"on":true}"#.into()));
    let quota = (4301, "The rate limit for sending client events exceeded the quota.".to_owned());
    assert_eq!(rig.client_event("client-x", "private-foobar", "1"), Err(quota));
}

#[test]
fn client_events_are_off_unless_the_application_wants_them() {
    let mut rig = rig(|app| app.client_events = false);
    let refused = rig.client_event("client-x", "private-foobar", "1");
    assert_eq!(refused, Err((4301, "The app does not have client messaging enabled.".into())));
}

#[test]
fn a_client_event_on_a_presence_channel_names_the_member() {
    let mut rig = rig(|_| {});
    rig.joined("presence-room", A2, Some(A2_DATA));
    let action = rig.say(r#"{"event":"client-x","channel":"presence-room","user_id":"admin","data":"1"}"#);
    assert!(matches!(&action, Action::Relay(event) if event.user_id.as_deref() == Some("42")), "{action:?}");
}

#[test]
fn unsubscribing_from_what_is_not_subscribed_says_nothing() {
    let mut rig = rig(|_| {});
    let text = r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#;
    assert!(rig.machine.on_text(text, rig.now).is_none());
    rig.joined("news", "", None);
    assert!(matches!(rig.say(text), Action::Unsubscribe(_)));
    assert!(rig.machine.on_text(text, rig.now).is_none());
}

#[test]
fn a_limit_of_subscriptions_counts_each_channel_once() {
    let mut rig = rig(|app| app.limits.max_subscriptions = 1);
    rig.joined("news", "", None);
    assert!(matches!(rig.subscribe("news", "", None), Action::Reacknowledge(_)));
    assert_eq!(rig.refused("other", "", None).1, 4100);
}

#[test]
fn raw_heartbeats_are_answered_before_anything_is_parsed() {
    let mut rig = rig(|_| {});
    assert_eq!(rig.say("~H#C~"), Action::Send(WireFrame::text("~H#S~")));
    assert_eq!(rig.say(r#"{"event":"pusher:ping"}"#), Action::Send(ServerFrame::Pong.encode()));
}

#[test]
fn a_connection_that_never_authorises_itself_is_closed_in_time() {
    let timeout = Duration::from_secs(3);
    let mut silent = rig(|app| app.authorization_timeout = timeout);
    silent.joined("news", "", None);
    assert_eq!(silent.machine.on_tick(silent.now), (None, silent.now + timeout));
    let (action, _) = silent.machine.on_tick(silent.now + timeout);
    assert!(matches!(action, Some(Action::Fail { idle: false, code: CloseCode::UNAUTHORIZED, .. })));
    let mut signed = rig(|app| app.authorization_timeout = timeout);
    signed.joined("private-foobar", A1, None);
    assert_eq!(signed.machine.on_tick(signed.now + timeout).0, None);
}

#[test]
fn t6_silence_is_a_ping_and_then_4201() {
    let mut rig = rig(|_| {});
    let (ping, next) = rig.machine.on_tick(rig.now + Duration::from_secs(25));
    assert_eq!((ping, next), (Some(Action::Send(WireFrame::ping(b""))), rig.now + Duration::from_secs(35)));
    let (fail, _) = rig.machine.on_tick(next);
    assert!(matches!(fail, Some(Action::Fail { idle: true, code: CloseCode::PONG_TIMEOUT, .. })));
}
