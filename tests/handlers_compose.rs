//! Handlers made of handlers: `and`, `only`, `MessageRouter`, `PerApp` (design 3.1).

use std::{sync::Arc, time::Duration};

use holdline::{
    Handler, MessageRouter, PerApp, Server,
    domain::{Outcome, Reject},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    handlers::{Live, pattern, settings, told_off},
    handlers_script::{Answer, Heard, Journal, ON_PURPOSE, Scripted, accept},
    support::{APP, Frame, OTHER, Ws, until, wire},
};

/// A handler that agrees, and pushes its label in every hook that can.
fn pushing(journal: &Arc<Journal>, label: &'static str) -> Scripted {
    Scripted::new(journal, move |_| Answer::Accept(Outcome::accept().push(label, 1))).labelled(label)
}

/// A handler that refuses in one hook.
fn refusing(journal: &Arc<Journal>, label: &'static str, hook: &'static str) -> Scripted {
    let script = move |call: &crate::handlers_script::Call<'_>| match call.heard.hook() == hook {
        true => Answer::Refuse(Reject::forbidden(label)),
        false => accept(),
    };
    Scripted::new(journal, script).labelled(label)
}

fn serve(journal: &Arc<Journal>, handler: impl Handler) -> Live {
    Live::start(journal, Server::new(settings(|_| {})).handler(handler))
}

/// Signs a subscription of a private channel; the answer is left to read.
fn ask(ws: &mut Ws, channel: &str) {
    let auth = APP.auth(&format!("{}:{channel}", ws.socket_id));
    ws.send_subscribe(channel, Some(&auth), None);
}

#[test]
fn they_enter_left_to_right_and_leave_right_to_left() {
    let journal = Journal::new();
    let live = serve(&journal, pushing(&journal, "a").and(pushing(&journal, "b")).and(pushing(&journal, "c")));
    let mut ws = live.ws();
    let pushed = |ws: &mut Ws, order: [&str; 3]| order.map(|label| ws.expect(label));
    pushed(&mut ws, ["a", "b", "c"]);
    ws.subscribe("private-x");
    pushed(&mut ws, ["a", "b", "c"]);
    ws.signin(r#"{"id":"42"}"#);
    pushed(&mut ws, ["a", "b", "c"]);
    ws.send(&json!({ "event": "client-e", "channel": "private-x", "data": "1" }));
    pushed(&mut ws, ["a", "b", "c"]);
    ws.send_text("nonsense");
    ws.error(4300);
    ws.unsubscribe("private-x");
    pushed(&mut ws, ["c", "b", "a"]);
    drop(ws);
    journal.wait_for("a close gone");
    live.http().plain("/app/app-key");
    let entering = ["handshake", "open", "subscribe private-x", "signin 42", "message private-x client-e 1", "error 4300"];
    let leaving = ["unsubscribe private-x", "close gone"];
    let expected = entering.iter().flat_map(|line| ["a", "b", "c"].map(|label| format!("{label} {line}")));
    let expected = expected.chain(leaving.iter().flat_map(|line| ["c", "b", "a"].map(|label| format!("{label} {line}"))));
    assert_eq!(journal.lines(), expected.collect::<Vec<_>>());
    assert_eq!(journal.peers().len(), 3, "each hears of a peer that never became a connection");
}

#[test]
fn the_first_refusal_wins_and_nobody_behind_it_is_asked() {
    for hook in ["handshake", "open", "signin", "subscribe", "message"] {
        let journal = Journal::new();
        let handlers = Scripted::agreeing(&journal).labelled("a").and(refusing(&journal, "b", hook)).and(refusing(&journal, "c", hook));
        let live = serve(&journal, handlers);
        let mut ws = Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]);
        if hook != "handshake" {
            ws.established();
        }
        match hook {
            "handshake" | "open" => assert_eq!(told_off(&mut ws, 4009), "b"),
            "signin" => {
                ws.send_signin(r#"{"id":"42"}"#);
                assert_eq!(ws.error(4009), "b");
            }
            "subscribe" => {
                ask(&mut ws, "private-x");
                assert_eq!(ws.subscription_error("private-x").2, "b");
            }
            _ => {
                ws.subscribe("private-x");
                ws.send(&json!({ "event": "client-e", "channel": "private-x", "data": "1" }));
                assert_eq!(ws.error(4301), "b");
            }
        }
        let asked = |label: &str| journal.lines().iter().filter(|line| line.starts_with(&format!("{label} {hook}"))).count();
        assert_eq!((asked("a"), asked("b"), asked("c")), (1, 1, 0), "{hook}: {:?}", journal.lines());
        drop(ws);
        if hook == "handshake" {
            until("the first one's context is dropped", || journal.contexts() == (1, 1));
            assert_eq!(journal.closes().len(), 0, "nothing was opened, so nothing closes");
        } else {
            until("every context has its end", || journal.closes().len() == 3);
        }
    }
}

#[test]
fn one_that_panics_in_on_close_does_not_take_the_end_from_the_others() {
    let journal = Journal::new();
    let rude = Scripted::new(&journal, |call| match call.heard {
        Heard::Close(_) => panic!("{ON_PURPOSE}"),
        _ => accept(),
    });
    let handlers = Scripted::agreeing(&journal).labelled("a").and(rude.labelled("b")).and(Scripted::agreeing(&journal).labelled("c"));
    let live = serve(&journal, handlers);
    drop(live.ws());
    journal.wait_for("a close gone");
    assert_eq!(journal.lines()[6..], ["c close gone", "b close gone", "a close gone"]);
    until("every context is dropped", || journal.contexts() == (3, 3));
}

#[test]
fn only_hears_of_its_own_channels_and_of_the_connection() {
    let journal = Journal::new();
    let only = refusing(&journal, "orders", "message").only(pattern("private-order.{id}"));
    let live = serve(&journal, only);
    let mut ws = live.ws();
    for channel in ["private-order.7", "private-chat.7"] {
        ws.subscribe(channel);
        ws.send(&json!({ "event": "client-e", "channel": channel, "data": "1" }));
        if channel == "private-order.7" {
            assert_eq!(ws.error(4301), "orders");
        }
        ws.unsubscribe(channel);
    }
    ws.signin(r#"{"id":"42"}"#);
    drop(ws);
    journal.wait_for("orders close gone");
    let heard = [
        "orders handshake",
        "orders open",
        "orders subscribe private-order.7",
        "orders message private-order.7 client-e 1",
        "orders error 4301",
        "orders unsubscribe private-order.7",
        "orders signin 42",
        "orders close gone",
    ];
    assert_eq!(journal.lines(), heard);
}

#[derive(Deserialize)]
struct Line {
    product: String,
    amount: u32,
}

/// The lines of one connection's order.
type Order = Vec<String>;

fn orders() -> MessageRouter<Order> {
    MessageRouter::<Order>::new()
        .on_json(pattern("client-order.add"), |order: &mut Order, msg, line: Line| {
            Box::pin(async move {
                order.push(format!("{} {}", line.amount, line.product));
                Ok(Outcome::accept().push("added", json!({ "on": msg.channel.as_str(), "order": order })))
            })
        })
        .on(pattern("client-order.*"), |_, msg| {
            let name = msg.event.clone();
            Box::pin(async move { Err(Reject::not_found(format!("{name} is no command"))) })
        })
}

#[test]
fn a_message_router_sends_each_event_to_its_route_with_typed_data() {
    let journal = Journal::new();
    let live = serve(&journal, orders());
    let (mut ws, mut other) = (live.ws(), live.ws());
    for ws in [&mut ws, &mut other] {
        ws.subscribe("private-shop");
    }
    let say = |ws: &mut Ws, event: &str, data: serde_json::Value| {
        ws.send(&json!({ "event": event, "channel": "private-shop", "data": data }));
    };
    say(&mut ws, "client-order.add", json!({ "product": "tea", "amount": 2 }));
    assert_eq!(ws.expect("added").payload(), json!({ "on": "private-shop", "order": ["2 tea"] }));
    say(&mut ws, "client-order.add", json!({ "product": "milk", "amount": 1 }));
    assert_eq!(ws.expect("added").payload()["order"], json!(["2 tea", "1 milk"]), "one context per connection");
    say(&mut ws, "client-order.add", json!({ "product": "tea", "amount": "many" }));
    assert_eq!(ws.error(4301), "The data of client-order.add is not what it should be.");
    say(&mut ws, "client-order.drop", json!({}));
    assert_eq!(ws.error(4301), "client-order.drop is no command");
    say(&mut ws, "client-typing", json!({}));
    ws.quiet();
    let relayed: Vec<_> = (0..3).map(|_| other.event().name().to_owned()).collect();
    assert_eq!(relayed, ["client-order.add", "client-order.add", "client-typing"], "what was refused is not relayed");
    say(&mut other, "client-order.add", json!({ "product": "salt", "amount": 1 }));
    assert_eq!(other.expect("added").payload()["order"], json!(["1 salt"]));
}

#[test]
fn each_application_has_its_own_handler() {
    let journal = Journal::new();
    let others = Scripted::agreeing(&journal).labelled("others");
    let handler = PerApp::new(others).app(OTHER.id, pushing(&journal, "second")).app("nobody", refusing(&journal, "nobody", "open"));
    let live = serve(&journal, handler);
    let mut first = live.ws();
    first.subscribe("news");
    first.quiet();
    let mut second = Ws::open_at(live.address, "/app/other-key?protocol=7", &[]);
    second.expect("second");
    second.subscribe("news");
    second.expect("second");
    drop(second);
    journal.wait_for("second close gone");
    drop(first);
    journal.wait_for("others close gone");
    let of = |label: &str| journal.lines().iter().filter_map(|line| line.strip_prefix(label)).map(str::to_owned).collect::<Vec<_>>();
    for label in ["others", "second"] {
        assert_eq!(of(label), [" handshake", " open", " subscribe news", " close gone"], "{label}");
    }
    assert_eq!(of("nobody"), Vec::<String>::new());
}

#[test]
fn a_handler_inside_of_others_hears_everything() {
    let journal = Journal::new();
    let inner = Scripted::agreeing(&journal).only(pattern("*")).and(());
    let handler = PerApp::new(()).app(APP.id, ().and(inner));
    let settings = settings(|settings| settings.server.ping_interval = Duration::from_millis(100));
    let live = Live::start(&journal, Server::new(settings).handler(handler));
    let mut ws = live.ws();
    ws.signin(r#"{"id":"42"}"#);
    ws.subscribe("private-x");
    ws.send(&json!({ "event": "client-e", "channel": "private-x", "data": "1" }));
    ws.unsubscribe("private-x");
    ws.send_text("nonsense");
    ws.error(4300);
    let Frame::Ping(payload) = ws.frame() else { panic!("expected a ping") };
    ws.send_bytes(&wire(10, &payload));
    journal.wait_for("pong");
    drop(ws);
    journal.wait_for("close gone");
    let heard: Vec<_> = journal.lines().into_iter().filter(|line| line != "pong").collect();
    let all = [
        "handshake",
        "open",
        "signin 42",
        "subscribe private-x",
        "message private-x client-e 1",
        "unsubscribe private-x",
        "error 4300",
        "close gone",
    ];
    assert_eq!(heard, all);
}

#[test]
fn an_applications_handler_hears_of_the_peers_it_turned_away() {
    let (ours, theirs) = (Journal::new(), Journal::new());
    let handler = PerApp::new(refusing(&ours, "ours", "handshake")).app(OTHER.id, refusing(&theirs, "theirs", "handshake"));
    let live = serve(&ours, handler);
    told_off(&mut Ws::upgrade(live.address, "/app/other-key?protocol=7", &[]), 4009);
    assert_eq!((ours.peers().len(), theirs.peers().len()), (0, 1));
    told_off(&mut Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]), 4009);
    assert_eq!((ours.peers().len(), theirs.peers().len()), (1, 1));
    assert_eq!(theirs.peers()[0].cause, "theirs");
    told_off(&mut Ws::upgrade(live.address, "/app/nobody?protocol=7", &[]), 4001);
    assert_eq!((ours.peers().len(), theirs.peers().len()), (2, 1), "what belongs to no application goes to the common handler");
}
