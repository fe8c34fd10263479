//! What a connection holds through an embedded handler: every hook that can ask for a lock or an event, every way it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use holdline::{
    Handler, Server, Settings,
    config::SecretUrl,
    domain::{Conflict, DomainEvent, Handshake, Hold, IfTaken, Outcome, Reject, Subscribe},
    protocol::CloseCode,
    store::{Cursor, EventRow},
};
use serde_json::json;

use crate::{
    handlers::{Live, settings},
    handlers_script::{Answer, Call, Gate, Heard, Journal, Scripted, accept},
    support::{APP, Event, WAIT, Ws, member, until},
};

/// A resource that no other test, and no earlier run, has had.
fn fresh() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("order:{now}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn in_memory(change: impl FnOnce(&mut Settings)) -> Settings {
    settings(|settings| {
        settings.store.url = SecretUrl::new("memory");
        change(settings);
    })
}

fn live(journal: &Arc<Journal>, script: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static) -> Live {
    Live::start(journal, Server::new(in_memory(|_| {})).handler(Scripted::new(journal, script)))
}

/// Asks for a hold in this hook, for the user that the client names in its URL.
fn holding(hook: &'static str, resource: &str) -> impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static {
    let resource = resource.to_owned();
    move |call| match call.heard.hook() == hook {
        true => Answer::Accept(Outcome::accept().hold(hold(&resource, call.who))),
        false => accept(),
    }
}

fn hold(resource: &str, user: &str) -> Hold {
    Hold::new(resource, user).event("Order").grace(Duration::ZERO)
}

fn log(live: &Live) -> Vec<EventRow> {
    let locks = live.broker.locks().expect("there is a store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (log, _) = runtime.block_on(locks.store().events_after(&Cursor::start(1), 10_000)).unwrap();
    log
}

/// What the log has about a resource, or an event's key.
fn entries(live: &Live, about: &str) -> Vec<EventRow> {
    log(live).into_iter().filter(|event| event.resource == about).collect()
}

/// The same, as `type cause`.
fn story(live: &Live, about: &str) -> Vec<String> {
    let line = |event: EventRow| match event.cause {
        Some(cause) => format!("{} {cause}", event.event_type),
        None => event.event_type,
    };
    entries(live, about).into_iter().map(line).collect()
}

fn told(live: &Live, about: &str, expected: &[&str]) {
    until(&format!("the log has {expected:?}"), || story(live, about).len() >= expected.len());
    assert_eq!(story(live, about), expected);
}

fn locked(ws: &mut Ws, channel: Option<&str>, resource: &str) -> Event {
    let event = ws.expect("holdline:locked");
    assert_eq!((event.channel(), event.payload()["resource"].as_str()), (channel, Some(resource)), "{}", event.raw);
    event
}

/// Ends the only connection from the outside, whatever its handler is at.
fn kick(live: &Live) {
    let hub = live.broker.app(APP.id).unwrap();
    assert!(hub.connections(None, 1)[0].close_with(None, CloseCode::UNAUTHORIZED, "out"));
    until("it has left", || hub.connection_count() == 0);
}

fn send_subscribe(ws: &mut Ws, channel: &str) {
    let auth = APP.auth(&format!("{}:{channel}", ws.socket_id));
    ws.send_subscribe(channel, Some(&auth), None);
}

fn message(ws: &mut Ws, channel: &str) {
    ws.send(&json!({ "event": "client-e", "channel": channel, "data": "1" }));
}

#[test]
fn a_hold_of_on_open_lasts_as_long_as_the_connection() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, holding("open", &order));
    let mut ws = live.ws_as("7");
    let event = locked(&mut ws, None, &order);
    assert_eq!((&event.payload()["principal"], &event.payload()["outcome"]), (&json!("user:7"), &json!("granted")));
    ws.subscribe("private-a");
    ws.unsubscribe("private-a");
    ws.quiet();
    ws.send_close(1000);
    told(&live, &order, &["OrderLocked", "OrderUnlocked client_closed"]);
}

#[test]
fn a_connection_whose_hold_of_on_open_is_taken_is_refused_and_may_come_back() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, holding("open", &order));
    let mut first = live.ws_as("7");
    locked(&mut first, None, &order);
    let mut second = live.ws_as("8");
    assert_eq!(second.refused(4100), format!("{order} is held by somebody else"));
    drop(first);
    told(&live, &order, &["OrderLocked", "OrderUnlocked gone"]);
}

#[test]
fn a_hold_of_on_signin_lasts_as_long_as_the_connection_and_a_refused_one_is_told_when_it_is_free() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, holding("signin", &order));
    let (mut first, mut second) = (live.ws_as("7"), live.ws_as("8"));
    first.signin(r#"{"id":"7"}"#);
    locked(&mut first, None, &order);
    second.send_signin(r#"{"id":"8"}"#);
    second.error(4009);
    second.quiet();
    drop(first);
    let free = second.expect("holdline:lock_free");
    assert_eq!((free.channel(), free.payload()["resource"].as_str()), (None, Some(order.as_str())));
    second.signin(r#"{"id":"8"}"#);
    locked(&mut second, None, &order);
    second.quiet();
}

#[test]
fn a_hold_of_on_message_belongs_to_the_connection_and_all_news_of_it_come_the_same_way() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, {
        let order = order.clone();
        move |call| match &call.heard {
            Heard::Message(_) => Answer::Accept(Outcome::accept().hold(hold(&order, call.who).if_taken(IfTaken::Take)).push("pushed", 1)),
            _ => accept(),
        }
    });
    let (mut first, mut second) = (live.ws_as("7"), live.ws_as("8"));
    for ws in [&mut first, &mut second] {
        ws.subscribe("private-a");
    }
    message(&mut first, "private-a");
    locked(&mut first, None, &order);
    assert_eq!(first.expect("pushed").channel(), Some("private-a"));
    second.expect("client-e");
    first.unsubscribe("private-a");
    first.quiet();
    message(&mut second, "private-a");
    locked(&mut second, None, &order);
    let lost = first.expect("holdline:lock_lost");
    assert_eq!((lost.channel(), &lost.payload()["cause"]), (None, &json!("taken_over")));
    told(&live, &order, &["OrderLocked", "OrderUnlocked taken_over", "OrderLocked"]);
}

#[test]
fn a_message_whose_hold_is_taken_is_not_relayed_and_its_sender_hears_when_it_is_free() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, holding("message", &order));
    let (mut first, mut second) = (live.ws_as("7"), live.ws_as("8"));
    for ws in [&mut first, &mut second] {
        ws.subscribe("private-a");
    }
    message(&mut first, "private-a");
    locked(&mut first, None, &order);
    second.expect("client-e");
    message(&mut second, "private-a");
    assert_eq!(second.expect("pusher:error").json["data"]["message"], json!(format!("{order} is held by somebody else")));
    first.quiet();
    drop(first);
    second.expect("holdline:lock_free");
    second.quiet();
}

#[test]
fn what_is_left_and_entered_again_at_once_is_released_and_taken_again_in_this_order() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, holding("subscribe", &order));
    let mut ws = live.ws_as("7");
    ws.subscribe("private-a");
    locked(&mut ws, Some("private-a"), &order);
    for _ in 0..20 {
        ws.unsubscribe("private-a");
        send_subscribe(&mut ws, "private-a");
    }
    for _ in 0..20 {
        ws.acknowledged("private-a");
        assert_eq!(locked(&mut ws, Some("private-a"), &order).payload()["outcome"], json!("granted"));
    }
    ws.unsubscribe("private-a");
    ws.quiet();
    let pairs = ["OrderLocked", "OrderUnlocked unsubscribed"].repeat(21);
    told(&live, &order, &pairs);
}

#[test]
fn a_refused_subscription_is_told_once_that_it_is_free_and_after_its_refusal() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, holding("subscribe", &order));
    let (mut first, mut second) = (live.ws_as("7"), live.ws_as("8"));
    for _ in 0..10 {
        first.subscribe("private-a");
        locked(&mut first, Some("private-a"), &order);
        // The end may be written before the refusal is known here.
        send_subscribe(&mut second, "private-a");
        first.unsubscribe("private-a");
        let event = second.event();
        if event.name() == "pusher:subscription_error" {
            assert_eq!((event.payload()["type"].as_str(), event.payload()["status"].as_u64()), (Some("LockConflict"), Some(409)));
            assert_eq!(second.expect("holdline:lock_free").channel(), Some("private-a"));
        } else {
            locked(&mut second, Some("private-a"), &order);
            second.unsubscribe("private-a");
        }
        second.quiet();
        first.quiet();
        let len = story(&live, &order).len();
        until("all is released", || story(&live, &order).len().is_multiple_of(2) && story(&live, &order).len() >= len);
    }
    std::thread::sleep(Duration::from_millis(100));
    second.quiet();
}

#[test]
fn a_handler_lets_go_of_what_the_connection_holds() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, {
        let order = order.clone();
        move |call| match &call.heard {
            Heard::Open => Answer::Accept(Outcome::accept().hold(hold(&order, call.who))),
            Heard::Message(_) => Answer::Accept(Outcome::accept().release(&order).release("order:nobody-has-it")),
            _ => accept(),
        }
    });
    let mut ws = live.ws_as("7");
    locked(&mut ws, None, &order);
    ws.subscribe("private-a");
    message(&mut ws, "private-a");
    told(&live, &order, &["OrderLocked", "OrderUnlocked released"]);
    ws.quiet();
    message(&mut ws, "private-a");
    ws.quiet();
    drop(ws);
    journal.wait_for("close gone");
    told(&live, &order, &["OrderLocked", "OrderUnlocked released"]);
}

#[test]
fn every_hook_emits_and_the_last_events_stand_before_the_end_of_the_locks() {
    let (journal, order) = (Journal::new(), fresh());
    let live = live(&journal, {
        let order = order.clone();
        move |call| {
            let event = DomainEvent::new(format!("on_{}", call.heard.hook()), &order).principal("7").payload(json!({ "n": 1 }));
            let outcome = Outcome::accept().emit(event);
            match &call.heard {
                Heard::Handshake(_) => accept(),
                Heard::Open => Answer::Accept(outcome.hold(hold(&order, "7"))),
                _ => Answer::Accept(outcome),
            }
        }
    });
    let mut ws = live.ws_as("7");
    locked(&mut ws, None, &order);
    ws.signin(r#"{"id":"7"}"#);
    ws.subscribe("private-a");
    message(&mut ws, "private-a");
    ws.unsubscribe("private-a");
    ws.quiet();
    ws.send_close(1000);
    let hooks = ["on_signin", "on_subscribe", "on_message", "on_unsubscribe", "on_close"];
    let expected = [&["OrderLocked", "on_open"], &hooks[..], &["OrderUnlocked client_closed"]].concat();
    told(&live, &order, &expected);
}

#[test]
fn a_handler_that_fails_at_the_end_keeps_nothing_locked() {
    for hangs in [false, true] {
        let (journal, order) = (Journal::new(), fresh());
        let script = {
            let order = order.clone();
            move |call: &Call<'_>| match &call.heard {
                Heard::Open => Answer::Accept(Outcome::accept().hold(hold(&order, call.who))),
                Heard::Close(_) if hangs => Answer::Hang,
                Heard::Close(_) => panic!("{}", crate::handlers_script::ON_PURPOSE),
                _ => accept(),
            }
        };
        let settings = in_memory(|settings| settings.server.hook_timeout = Duration::from_millis(200));
        let live = Live::start(&journal, Server::new(settings).handler(Scripted::new(&journal, script)));
        let mut ws = live.ws_as("7");
        locked(&mut ws, None, &order);
        drop(ws);
        told(&live, &order, &["OrderLocked", "OrderUnlocked gone"]);
    }
}

#[test]
fn a_connection_that_has_ended_takes_nothing_any_more() {
    let (journal, order, gate) = (Journal::new(), fresh(), Gate::shut());
    let live = live(&journal, {
        let (order, gate) = (order.clone(), gate.clone());
        move |call| match &call.heard {
            Heard::Subscribe(_) => {
                let outcome = Outcome::accept().hold(hold(&order, call.who)).emit(DomainEvent::new("Opened", &order));
                Answer::Wait(gate.clone(), Box::new(Answer::Accept(outcome)))
            }
            _ => accept(),
        }
    });
    let mut ws = live.ws_as("7");
    send_subscribe(&mut ws, "private-a");
    journal.wait_for("subscribe private-a");
    kick(&live);
    gate.let_through(1);
    journal.wait_for("close kicked");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(story(&live, &order), Vec::<String>::new());
}

#[test]
fn the_log_says_how_long_ago_the_end_was_noticed_also_when_a_hook_was_at_work() {
    let (journal, order, gate) = (Journal::new(), fresh(), Gate::shut());
    let live = live(&journal, {
        let (order, gate) = (order.clone(), gate.clone());
        move |call| match &call.heard {
            Heard::Open => Answer::Accept(Outcome::accept().hold(hold(&order, call.who))),
            Heard::Subscribe(_) => gate.wait_then_accept(),
            _ => accept(),
        }
    });
    let mut ws = live.ws_as("7");
    locked(&mut ws, None, &order);
    send_subscribe(&mut ws, "private-a");
    journal.wait_for("subscribe private-a");
    kick(&live);
    std::thread::sleep(Duration::from_millis(400));
    gate.let_through(1);
    told(&live, &order, &["OrderLocked", "OrderUnlocked kicked"]);
    let noticed = entries(&live, &order)[1].detected_ms_before_commit.unwrap();
    assert!((400..20_000).contains(&noticed), "{noticed} ms");
}

#[test]
fn a_subscription_that_finds_its_channel_full_gives_its_lock_back() {
    let (journal, order) = (Journal::new(), fresh());
    let script = {
        let order = order.clone();
        move |call: &Call<'_>| match &call.heard {
            Heard::Subscribe(_) if call.who == "8" => Answer::Accept(Outcome::accept().hold(hold(&order, call.who)).release("order:other")),
            _ => accept(),
        }
    };
    let settings = in_memory(|settings| settings.apps[0].limits.max_presence_members = 1);
    let live = Live::start(&journal, Server::new(settings).handler(Scripted::new(&journal, script)));
    let (mut first, mut second) = (live.ws_as("7"), live.ws_as("8"));
    first.join("presence-a", &member("7", None));
    second.send_join("presence-a", &member("8", None));
    assert_eq!(second.subscription_error("presence-a").0, "LimitReached");
    told(&live, &order, &["OrderLocked", "OrderUnlocked refused"]);
    second.quiet();
    first.quiet();
}

/// Holds what it is told, and says its name in a conflict.
struct Named {
    name: &'static str,
    channel: &'static str,
    resource: String,
}

impl Handler for Named {
    type Conn = String;

    async fn on_handshake(&self, request: &Handshake) -> Result<String, Reject> {
        Ok(request.query("as").unwrap_or_default().to_owned())
    }

    async fn on_subscribe(&self, who: &mut String, sub: &Subscribe) -> Result<Outcome, Reject> {
        let outcome = Outcome::accept();
        Ok(if sub.channel.as_str() == self.channel { outcome.hold(hold(&self.resource, who.as_str())) } else { outcome })
    }

    async fn on_conflict(&self, who: &mut String, conflict: &Conflict) -> Reject {
        Reject::conflict(conflict).detail("by", format!("{} for {who}: {}", self.name, conflict.holders[0].principal))
    }
}

#[test]
fn of_combined_handlers_the_one_that_asked_is_asked_about_the_conflict() {
    let (journal, order) = (Journal::new(), fresh());
    let named = |name, channel| Named { name, channel, resource: order.clone() };
    let handler = named("a", "private-a").and(named("b", "private-b").and(named("c", "private-c"))).and(named("d", "private-d"));
    let live = Live::start(&journal, Server::new(in_memory(|_| {})).handler(handler.and(Scripted::agreeing(&journal))));
    let (mut first, mut second) = (live.ws_as("7"), live.ws_as("8"));
    first.subscribe("private-a");
    locked(&mut first, Some("private-a"), &order);
    for name in ["a", "b", "c", "d"] {
        let channel = format!("private-{name}");
        send_subscribe(&mut second, &channel);
        let refusal = second.expect("pusher:subscription_error").payload();
        assert_eq!(refusal["by"], json!(format!("{name} for 8: user:7")));
        assert_eq!((&refusal["type"], &refusal["holder"]), (&json!("LockConflict"), &json!(null)));
    }
    drop(first);
    for _ in 0..4 {
        second.expect("holdline:lock_free");
    }
    second.quiet();
}

#[test]
fn a_user_is_online_from_the_first_connection_to_the_last() {
    let journal = Journal::new();
    let user = fresh().replace(':', "-");
    let settings = in_memory(|settings| settings.apps[0].user_events = true);
    let live = Live::start(&journal, Server::new(settings).handler(Scripted::agreeing(&journal)));
    let user_data = json!({ "id": user }).to_string();
    let key = format!("user-online:{user}");
    let (mut first, mut second) = (live.ws(), live.ws());
    for ws in [&mut first, &mut second] {
        ws.signin(&user_data);
        ws.quiet();
    }
    drop(first);
    until("the first is gone", || live.broker.app(APP.id).unwrap().connection_count() == 1);
    second.quiet();
    told(&live, &key, &["UserOnline"]);
    drop(second);
    told(&live, &key, &["UserOnline", "UserOffline gone"]);
    assert!(entries(&live, &key)[1].after_grace);
}

#[test]
fn a_user_whose_presence_cannot_be_noted_signs_in_all_the_same() {
    let journal = Journal::new();
    let script = |call: &Call<'_>| match &call.heard {
        Heard::Open => Answer::Accept((0..100).fold(Outcome::accept(), |outcome, _| outcome.hold(hold(&fresh(), call.who)))),
        _ => accept(),
    };
    let settings = in_memory(|settings| {
        settings.apps[0].user_events = true;
        settings.apps[0].limits.max_user_id = 300;
    });
    let live = Live::start(&journal, Server::new(settings).handler(Scripted::new(&journal, script)));
    // It has all the holds it may have.
    let mut full = live.ws_as("7");
    (0..100).for_each(|_| drop(full.expect("holdline:locked")));
    full.signin(r#"{"id":"7"}"#);
    full.quiet();
    // Its id is longer than a resource may be.
    let mut long = live.ws_as("8");
    (0..100).for_each(|_| drop(long.expect("holdline:locked")));
    long.signin(&json!({ "id": "a".repeat(250) }).to_string());
    long.quiet();
}

#[test]
fn without_a_store_who_may_go_on_goes_on_and_who_may_not_is_refused() {
    let (journal, order) = (Journal::new(), fresh());
    let script = {
        let order = order.clone();
        move |call: &Call<'_>| match &call.heard {
            Heard::Subscribe(sub) => {
                let open = sub.channel.as_str() == "private-open";
                Answer::Accept(Outcome::accept().hold(hold(&order, call.who).fail_open(open)))
            }
            _ => accept(),
        }
    };
    let settings = settings(|settings| settings.store.url = SecretUrl::new("none"));
    let live = Live::start(&journal, Server::new(settings).handler(Scripted::new(&journal, script)));
    let mut ws = live.ws_as("7");
    ws.subscribe("private-open");
    let state = ws.expect("holdline:lock_state");
    assert_eq!(state.channel(), Some("private-open"));
    assert_eq!(state.payload(), json!({ "resource": order, "fence": null, "state": "degraded" }));
    send_subscribe(&mut ws, "private-shut");
    let (kind, status, _) = ws.subscription_error("private-shut");
    assert_eq!((kind.as_str(), status), ("LockUnavailable", 503));
    ws.quiet();
}

#[test]
fn a_thousand_ends_at_once_are_all_in_the_log() {
    let (journal, prefix) = (Journal::new(), fresh());
    let live = live(&journal, {
        let prefix = prefix.clone();
        move |call| match &call.heard {
            Heard::Subscribe(sub) => Answer::Accept(Outcome::accept().hold(hold(&format!("{prefix}{}", sub.channel.as_str()), call.who))),
            _ => accept(),
        }
    });
    let mut all: Vec<Ws> = (0..20).map(|n| live.ws_as(&n.to_string())).collect();
    for (n, ws) in all.iter_mut().enumerate() {
        (0..50).for_each(|m| send_subscribe(ws, &format!("private-{n}-{m}")));
    }
    for ws in &mut all {
        (0..50).for_each(|_| {
            ws.expect("pusher_internal:subscription_succeeded");
            ws.expect("holdline:locked");
        });
    }
    drop(all);
    let ended = || log(&live).into_iter().filter(|event| event.resource.starts_with(&prefix) && event.cause.is_some()).count();
    until("all are released", || ended() == 1_000);
}

/// A directory that is removed at the end.
struct Place(std::path::PathBuf);

impl Place {
    fn new() -> Place {
        let place = std::env::temp_dir().join(format!("holdline-{}-{}", std::process::id(), fresh().replace(':', "-")));
        std::fs::create_dir_all(&place).unwrap();
        Place(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_server_that_was_stopped_or_just_dropped_gives_its_data_directory_back_to_the_program() {
    let place = Place::new();
    let settings = settings(|settings| settings.store.data_dir = place.0.to_str().unwrap().to_owned());
    actix::System::new().block_on(async {
        for _ in 0..2 {
            let application = Server::new(settings.clone()).build().await.expect("the directory is free");
            application.stop_handle().stop();
            application.run_until_stopped().await.unwrap();
        }
        let address = {
            let application = Server::new(settings.clone()).build().await.unwrap();
            application.addrs()[0]
        };
        let deadline = Instant::now() + WAIT;
        while Server::new(settings.clone()).build().await.is_err() {
            assert!(Instant::now() < deadline, "the directory stays locked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens there any more");
    });
}
