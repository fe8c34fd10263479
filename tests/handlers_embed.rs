//! The broker as a part of another program: middleware, routes, a path prefix, a stop (design 2.6, 3.4).

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::{DefaultHeaders, Next, from_fn},
    web,
};
use holdline::{
    Server,
    domain::CloseCause,
    protocol::{ChannelName, CloseCode},
};

use crate::{
    handlers::{Live, close_frame, settings, told_off},
    handlers_script::{Gate, Heard, Journal, Scripted, accept},
    support::{APP, Frame, Http, Ws, example, until},
};

type Seen = Arc<Mutex<Vec<String>>>;

/// Writes down the path of every request, before it is served.
async fn watch(
    seen: web::Data<Seen>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    seen.lock().unwrap().push(request.path().to_owned());
    next.call(request).await
}

/// Turns away whoever has no `X-Door` header, before the broker sees the request.
async fn door(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if request.headers().contains_key("x-door") {
        Ok(next.call(request).await?.map_into_left_body())
    } else {
        Ok(request.into_response(HttpResponse::Forbidden().body("Closed")).map_into_right_body())
    }
}

#[test]
fn middleware_sees_upgrades_and_requests_and_changes_their_answers() {
    let (journal, seen) = (Journal::new(), Seen::default());
    let data = web::Data::new(Arc::clone(&seen));
    let server = Server::new(settings(|settings| settings.server.path_prefix = "/ws".into()))
        .handler(Scripted::agreeing(&journal))
        .wrap(move |scope| scope.app_data(data.clone()).wrap(DefaultHeaders::new().add(("X-Shop", "tea"))).wrap(from_fn(watch)));
    let live = Live::start(&journal, server);
    for target in ["/app/app-key", "/ws/app/app-key", "/ctx/token/app/app-key", "/ws/ctx/token/app/app-key"] {
        let mut ws = Ws::open_at(live.address, target, &[]);
        assert_eq!(ws.head.header("x-shop"), Some("tea"), "{target}");
        ws.subscribe("news");
        live.http().publish("news", "e", target);
        ws.expect_data("e", "news", target);
    }
    let mut http = live.http();
    for (target, status) in
        [("/up", 200), ("/ws/up", 200), ("/apps/app-id/channels", 401), ("/nowhere", 404), ("/ws/nowhere", 404), ("/app/app-key", 426)]
    {
        let answer = http.plain(target);
        assert_eq!((answer.status, answer.header("x-shop")), (status, Some("tea")), "{target}");
    }
    let seen = seen.lock().unwrap();
    let upgrades = seen.iter().filter(|path| path.contains("/app/")).count();
    let publishes = seen.iter().filter(|path| *path == "/apps/app-id/events").count();
    assert_eq!((upgrades, publishes, seen.len()), (5, 4, 4 + 4 + 6), "each request once: {seen:?}");
}

#[test]
fn middleware_can_turn_an_upgrade_away_before_anybody_is_asked() {
    let journal = Journal::new();
    let server = Server::new(settings(|_| {})).handler(Scripted::agreeing(&journal)).wrap(|scope| scope.wrap(from_fn(door)));
    let live = Live::start(&journal, server);
    let key = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")];
    assert_eq!(Ws::try_upgrade(live.address, "/app/app-key", &key).head.status, 403);
    assert_eq!((journal.lines().len(), journal.peers().len()), (0, 0));
    Ws::open_at(live.address, "/app/app-key", &[("X-Door", "open")]).quiet();
}

#[test]
fn several_middlewares_all_apply_and_the_last_one_is_outermost() {
    let journal = Journal::new();
    let seen = Seen::default();
    let data = web::Data::new(Arc::clone(&seen));
    let server = Server::new(settings(|_| {}))
        .handler(Scripted::agreeing(&journal))
        .wrap(move |scope| scope.app_data(data.clone()).wrap(from_fn(watch)))
        .wrap(|scope| scope.wrap(from_fn(door)))
        .wrap(|scope| scope.wrap(DefaultHeaders::new().add(("X-Shop", "tea"))));
    let live = Live::start(&journal, server);
    let mut http = live.http();
    let refused = http.plain("/up");
    assert_eq!((refused.status, refused.header("x-shop")), (403, Some("tea")));
    assert_eq!(*seen.lock().unwrap(), Vec::<String>::new(), "the door is outside of the watch");
    let served = http.request("GET", "/up", &[("X-Door", "open")], b"");
    assert_eq!((served.status, served.header("x-shop")), (200, Some("tea")));
    assert_eq!(*seen.lock().unwrap(), ["/up"]);
    let ws = Ws::open_at(live.address, "/app/app-key", &[("X-Door", "open")]);
    assert_eq!(ws.head.header("x-shop"), Some("tea"));
}

#[test]
fn routes_of_the_program_stand_beside_the_brokers_which_win() {
    for (prefix, wrapped) in [("", false), ("/ws", false), ("/ws", true)] {
        let journal = Journal::new();
        let visits = Arc::new(AtomicUsize::new(0));
        let count = web::Data::from(Arc::clone(&visits));
        let server = Server::new(settings(|settings| settings.server.path_prefix = prefix.into())).handler(Scripted::agreeing(&journal));
        let server = if wrapped { server.wrap(|scope| scope.wrap(DefaultHeaders::new().add(("X-Shop", "tea")))) } else { server };
        let broker = server.broker();
        let broker = web::Data::new(broker);
        let server = server.routes(move |routes| {
            routes.app_data(count.clone()).app_data(broker.clone());
            routes.route("/connections", web::get().to(connections)).route("/up", web::get().to(|| async { "never" }));
        });
        let server = server.routes(|routes| {
            routes.route("/more/{name}", web::get().to(|name: web::Path<String>| async move { format!("Hello {name}") }));
        });
        let live = Live::start(&journal, server);
        let _ws = live.ws();
        let mut http = live.http();
        let answer = http.plain("/connections");
        assert_eq!((answer.status, answer.text().as_str()), (200, "1"), "prefix {prefix:?}");
        assert_eq!(answer.header("x-shop"), wrapped.then_some("tea"));
        assert_eq!(http.plain("/more/Ada").text(), "Hello Ada");
        assert_eq!(http.plain("/up").text(), r#"{"health":"OK"}"#);
        assert_eq!(http.plain("/nowhere").status, 404);
        if !prefix.is_empty() {
            assert_eq!(http.plain("/ws/up").status, 200);
            Ws::open_at(live.address, "/ws/app/app-key", &[]).quiet();
        }
        assert_eq!(visits.load(Ordering::SeqCst), 1);
    }
}

async fn connections(visits: web::Data<AtomicUsize>, broker: web::Data<holdline::Broker>) -> String {
    visits.fetch_add(1, Ordering::SeqCst);
    broker.connections(APP.id, None, 100).len().to_string()
}

#[test]
fn five_hundred_connections_closed_by_a_stop_each_get_their_on_close_before_it_returns() {
    const CLIENTS: usize = 500;
    let (journal, gate) = (Journal::new(), Gate::shut());
    let held = gate.clone();
    let settings = settings(|settings| {
        settings.server.workers = 2;
        settings.drain.spread = Duration::from_millis(100);
    });
    let script = Scripted::new(&journal, move |call| match call.heard {
        Heard::Close(_) => held.wait_then_accept(),
        _ => accept(),
    });
    let mut live = Live::start(&journal, Server::new(settings).handler(script));
    let mut clients: Vec<Ws> = (0..CLIENTS).map(|_| live.ws()).collect();
    live.stop_handle().stop();
    for ws in &mut clients {
        told_off(ws, 4200);
    }
    drop(clients);
    until("every on_close has begun", || journal.closes().len() == CLIENTS);
    assert_eq!(journal.contexts(), (CLIENTS, 0), "and none has ended");
    assert!(live.running(), "the stop waits for them");
    gate.let_through(CLIENTS);
    live.stopped();
    assert_eq!(journal.contexts(), (CLIENTS, CLIENTS));
    let expected = (CloseCause::Shutdown, Some(CloseCode::RECONNECT));
    assert!(journal.closes().iter().all(|closed| (closed.closing.cause, closed.closing.code) == expected));
    assert_eq!(live.totals(), (CLIENTS as u64, CLIENTS as u64));
}

#[test]
fn a_stop_lets_a_running_hook_finish_and_then_runs_on_close() {
    let (journal, gate) = (Journal::new(), Gate::shut());
    let held = gate.clone();
    let mut live = Live::following(&journal, move |call| match call.heard {
        Heard::Subscribe(_) => held.wait_then_accept(),
        _ => accept(),
    });
    let mut ws = live.ws();
    ws.send_subscribe("news", None, None);
    journal.wait_for("subscribe news");
    live.stop_handle().stop();
    told_off(&mut ws, 4200);
    let mut late = Ws::upgrade(live.address, "/app/app-key?protocol=7", &[]);
    assert_eq!(told_off(&mut late, 4100), "The server is shutting down");
    drop((ws, late));
    until("the sockets are gone", || live.broker.socket_count() == 0);
    // The drain looks every 20 ms and gives the last bytes 50 ms: longer than it would need to stop too early.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(live.running() && journal.closes().is_empty());
    gate.let_through(1);
    live.stopped();
    assert_eq!(journal.lines(), ["handshake", "open", "subscribe news", "close shutdown"]);
    assert_eq!(journal.peers().len(), 1);
}

#[test]
fn a_client_that_goes_while_its_hook_is_at_work_is_seen_nowhere_any_more() {
    let (journal, gate) = (Journal::new(), Gate::shut());
    let held = gate.clone();
    let live = Live::following(&journal, move |call| match call.heard {
        Heard::Subscribe(subscribe) if subscribe.channel.as_str() == "slow" => held.wait_then_accept(),
        _ => accept(),
    });
    let mut ws = live.ws();
    ws.subscribe("news");
    ws.send_subscribe("slow", None, None);
    journal.wait_for("subscribe slow");
    let news = ChannelName::parse("news", 200).unwrap();
    let hub = live.broker.app("app-id").expect("the development application");
    let subscribers = || hub.channel(&news, std::time::Instant::now()).subscription_count;
    assert_eq!(subscribers(), 1);
    drop(ws);
    until("it has left its channel", || subscribers() == 0);
    assert!(live.running() && journal.closes().is_empty(), "its hook is still at work");
    gate.let_through(1);
    journal.wait_for("close gone");
    drop(live);
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_hello_example_greets_with_the_order_id() {
    let mut hello = Running(example("hello").arg("0").stdout(Stdio::piped()).spawn().expect("the example starts"));
    let mut line = String::new();
    BufReader::new(hello.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("Listening on [").and_then(|rest| rest.strip_suffix(']')).expect(&line).parse().expect(&line);
    let mut ws = Ws::open(address);
    ws.subscribe("private-order.42");
    // Without any configuration there is the rule of the development application, too.
    ws.expect("holdline:locked");
    ws.expect_data("hello", "private-order.42", r#""This is order 42""#);
    ws.subscribe("private-other.42");
    ws.quiet();
    Http::connect(address).publish("private-order.42", "changed", "1");
    ws.expect_data("changed", "private-order.42", "1");
    let status = Command::new("kill").args(["-TERM", &hello.0.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
    ws.error(4200);
    assert!(matches!(close_frame(&mut ws), Frame::Close(Some(4200), _)));
    drop(ws);
    until("the example has ended", || hello.0.try_wait().expect("wait works").is_some_and(|status| status.success()));
}
