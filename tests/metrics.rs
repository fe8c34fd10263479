//! GET /metrics: where it is, what it says, and that it says the truth.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    APP, Broker, Http, Launch, Ws, eventually, one_app, postgres,
    proxy::{Proxy, Weather, runtime},
    run_to_end,
    scrape::{Scrape, get, metrics_address},
    server_with, until,
};

/// With metrics on a free port, and client events.
fn watched(server: &str, app: &str) -> String {
    format!("[metrics]\nbind = \"127.0.0.1:0\"\n{}", server_with(server, &format!("client_events = true\n{app}")))
}

fn app() -> [(&'static str, &'static str); 1] {
    [("app_id", "app-id")]
}

#[test]
fn nothing_is_served_unless_it_is_configured() {
    let broker = Broker::start();
    assert_eq!(broker.http().plain("/metrics").status, 404, "never on the port of the clients");
    assert!(!broker.log_text().contains("Metrics:"));
    let watched = Broker::with(watched("", ""));
    assert_eq!(watched.http().plain("/metrics").status, 404);
}

#[test]
fn the_page_is_in_the_form_that_the_scraper_asks_for() {
    let broker = Broker::with(watched("", ""));
    let address = metrics_address(&broker);
    let plain = get(address, "*/*");
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(plain.text().contains("# TYPE holdline_new_connections_total counter\n"));
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let open = get(address, prometheus);
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.text().contains("# TYPE holdline_new_connections counter\n") && open.text().ends_with("# EOF\n"));
    let names = |text: String| Scrape::parse(&text).names();
    // What is read from the store comes a little later than the first page.
    until("both have the same names", || names(get(address, "*/*").text()) == names(get(address, prometheus).text()));
}

#[test]
fn only_get_and_head_of_one_path_are_answered() {
    let broker = Broker::with(watched("", ""));
    let address = metrics_address(&broker);
    let mut http = Http::connect(address);
    for path in ["/", "/metrics/", "/metric", "/up", "/apps/app-id/events"] {
        assert_eq!(http.plain(path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = http.request(method, "/metrics", &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let length = answer.to_lowercase().split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse::<usize>().ok());
    assert!(length.is_some_and(|length| length > 1_000), "{answer}");
}

#[test]
fn an_address_that_is_taken_stops_the_start_and_one_for_everybody_is_warned_of() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let place = tempfile::tempdir().unwrap();
    let ended = run_to_end(place.path(), &["serve", "--port", "0"], &[("HOLDLINE_METRICS__BIND", &bind)]);
    assert!(ended.code != 0 && ended.said().contains("metrics.bind") && ended.said().contains(&bind), "{}", ended.said());
    let exposed = Launch::config(one_app("")).env("HOLDLINE_METRICS__BIND", "0.0.0.0:0").start();
    assert!(exposed.log_text().contains("metrics.bind: everybody who reaches 0.0.0.0:0 can read"), "{}", exposed.log_text());
    for wrong in ["9601", "localhost:9601", "127.0.0.1"] {
        let ended = run_to_end(place.path(), &["config", "check"], &[("HOLDLINE_METRICS__BIND", wrong)]);
        assert!(ended.code != 0 && ended.said().contains("IP address and a port"), "{wrong}: {}", ended.said());
    }
}

#[test]
fn opens_less_closes_is_who_is_connected_and_every_close_has_a_cause() {
    let broker = Broker::with(watched("", "max_connections = 30"));
    let mut sockets: Vec<Ws> = (0..30).map(|_| broker.ws()).collect();
    let now = Scrape::of(&broker);
    assert_eq!(now.value("holdline_connected", &app()), 30.0);
    assert_eq!(now.value("holdline_new_connections_total", &app()), 30.0);
    for key in ["app-key", "nobody"] {
        let mut refused = Ws::upgrade(broker.address(), &format!("/app/{key}?protocol=7"), &[]);
        refused.expect("pusher:error");
    }
    assert_eq!(broker.http().plain("/app/app-key").status, 426);
    for ws in sockets.drain(..10) {
        drop(ws);
    }
    for mut ws in sockets.drain(..5) {
        ws.send_close(1000);
    }
    sockets[0].send_bytes(b"\xff\xff");
    let settled = || {
        let now = Scrape::of(&broker);
        (now.value("holdline_new_disconnections_total", &app()) == 16.0).then_some(now)
    };
    let now = eventually("all of them are gone", settled);
    assert_eq!(now.value("holdline_connected", &app()), 14.0);
    assert_eq!(now.value("holdline_connections", &[("state", "active")]), 14.0);
    let closed = |cause: &str| now.value("holdline_closes_total", &[("cause", cause)]);
    assert_eq!((closed("gone"), closed("client_closed"), closed("protocol_error")), (10.0, 5.0, 1.0));
    assert_eq!(now.value("holdline_closes_total", &app()), 16.0, "each has one cause");
    let refused = |app_id: &str, cause: &str| now.value("holdline_handshakes_refused_total", &[("app_id", app_id), ("cause", cause)]);
    assert_eq!(refused("app-id", "over_quota"), 1.0);
    assert_eq!(refused("", "unknown_app"), 1.0);
    assert_eq!(refused("app-id", "not_websocket"), 1.0);
    assert_eq!(now.value("holdline_handshakes_refused_total", &[]), 3.0, "what was never opened is nothing that was closed");
    until("the refused sockets are gone", || Scrape::of(&broker).value("holdline_sockets", &[]) == 14.0);
}

#[test]
fn what_is_published_delivered_and_refused_is_counted() {
    let broker = Broker::with(watched("", "[apps.limits]\nmax_client_event_bytes = 1024"));
    let mut sockets: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
    for ws in &mut sockets {
        ws.enter("news");
        ws.enter("private-room");
    }
    let mut http = broker.http();
    (0..5).for_each(|n| http.publish("news", "e", &n.to_string()));
    sockets[0].send(&json!({ "event": "client-typing", "channel": "private-room", "data": "1" }));
    sockets[0].send(&json!({ "event": "client-typing", "channel": "news", "data": "1" }));
    sockets[0].send(&json!({ "event": "client-typing", "channel": "private-other", "data": "1" }));
    sockets[0].send(&json!({ "event": "client-typing", "channel": "private-room", "data": "x".repeat(1025) }));
    for ws in &mut sockets[1..] {
        (0..5).for_each(|n| drop(ws.expect_data("e", "news", &n.to_string())));
        ws.expect_data("client-typing", "private-room", "1");
    }
    (0..5).for_each(|n| drop(sockets[0].expect_data("e", "news", &n.to_string())));
    (0..3).for_each(|_| drop(sockets[0].expect("pusher:error")));
    let now = Scrape::of(&broker);
    let count = |name: &str, label: (&str, &str)| now.value(name, &[label]);
    assert_eq!(count("holdline_messages_published_total", ("source", "server")), 5.0);
    assert_eq!(count("holdline_messages_published_total", ("source", "client")), 1.0);
    assert_eq!(now.value("holdline_messages_delivered_total", &app()), 17.0, "three times five, and one to the two others");
    for reason in ["channel", "not_subscribed", "size"] {
        assert_eq!(count("holdline_client_events_refused_total", ("reason", reason)), 1.0, "{reason}");
    }
    assert_eq!(now.value("holdline_ws_messages_received_total", &app()), 10.0, "two subscriptions of each, four events of one");
    let sent = now.value("holdline_ws_messages_sent_total", &app());
    assert_eq!(sent, 3.0 * 3.0 + 17.0 + 3.0, "three to everybody at first, the events, the errors");
    assert!(now.value("holdline_socket_transmitted_bytes", &app()) > sent * 20.0);
    assert!(now.value("holdline_socket_received_bytes", &app()) > 1_400.0);
    assert_eq!(count("holdline_channels", ("kind", "public")), 1.0);
    assert_eq!(count("holdline_subscriptions", ("kind", "private")), 3.0);
    assert_eq!(count("holdline_hook_duration_seconds_count", ("hook", "on_subscribe")), 6.0);
    assert_eq!(count("holdline_hook_duration_seconds_count", ("hook", "on_message")), 1.0);
}

#[test]
fn requests_are_counted_by_route_and_for_their_application() {
    let broker = Broker::with(watched("path_prefix = \"/ws\"", ""));
    let mut http = broker.http();
    (0..3).for_each(|n| http.publish("news", "e", &n.to_string()));
    assert_eq!(http.get("/channels/news", &[]).status, 200);
    assert_eq!(http.get("/channels/x!", &[]).status, 400);
    assert_eq!(http.request("POST", "/apps/app-id/events", &[], b"{}").status, 401, "unsigned");
    for path in ["/up", "/ws/up", "/secret/path?token=x", "/apps/app-id/secret"] {
        http.plain(path);
    }
    let _open = broker.ws();
    let now = Scrape::of(&broker);
    let requests = |route: &str, method: &str, status: &str| {
        now.value("holdline_http_requests_total", &[("route", route), ("method", method), ("status", status)])
    };
    assert_eq!(requests("/apps/{app_id}/events", "POST", "200"), 3.0);
    assert_eq!(requests("/apps/{app_id}/events", "POST", "401"), 1.0);
    assert_eq!(requests("/apps/{app_id}/channels/{channel}", "GET", "200"), 1.0);
    assert_eq!(requests("/apps/{app_id}/channels/{channel}", "GET", "400"), 1.0);
    assert_eq!(requests("/up", "GET", "200"), 2.0, "with the prefix and without it");
    assert_eq!(requests("none", "GET", "404"), 2.0);
    assert_eq!(requests("/app/{key}", "GET", "101"), 1.0);
    assert_eq!(now.value("holdline_http_request_duration_seconds_count", &[]), 11.0);
    assert!(now.named("holdline_http_requests_total").all(|sample| !format!("{:?}", sample.labels).contains("secret")));
    assert_eq!(now.value("holdline_http_calls_received_total", &app()), 5.0, "those that were signed");
    assert!(now.value("holdline_http_received_bytes", &app()) > 3.0 * 30.0);
    assert!(now.value("holdline_http_transmitted_bytes", &app()) > 3.0 * 2.0);
}

/// Scrapes until the store was read.
fn sampled(broker: &Broker) -> Scrape {
    let sampled = || Some(Scrape::of(broker)).filter(|now| now.named("holdline_locks").next().is_some());
    eventually("the store was read for the metrics", sampled)
}

const HOLDS: &str = "[[apps.holds]]\nchannel = \"private-order.{order_id}\"\nresource = \"order:{order_id}\"\nevent = \"Order\"\n\
                     principal = \"socket\"\ngrace = \"30s\"\n";

#[test]
fn locks_the_log_and_the_store_are_seen() {
    let broker = Broker::with(watched("", HOLDS));
    let (mut holder, mut other) = (broker.ws(), broker.ws());
    for channel in ["private-order.7", "private-order.8"] {
        holder.enter(channel);
        holder.expect("holdline:locked");
    }
    let auth = APP.auth(&format!("{}:private-order.7", other.socket_id));
    other.send_subscribe("private-order.7", Some(&auth), None);
    other.expect("pusher:subscription_error");
    let now = sampled(&broker);
    let count = |name: &str, label: (&str, &str)| now.value(name, &[label]);
    assert_eq!((now.value("holdline_holds", &[]), now.value("holdline_lock_waiters", &[])), (2.0, 1.0));
    assert_eq!((count("holdline_locks", ("state", "held")), count("holdline_locks", ("state", "grace"))), (2.0, 0.0));
    assert_eq!(count("holdline_lock_acquire_duration_seconds_count", ("result", "granted")), 2.0);
    assert_eq!(count("holdline_lock_acquire_duration_seconds_count", ("result", "conflict")), 1.0);
    assert_eq!(count("holdline_lane_batch_size_sum", ("kind", "commit")), 3.0);
    assert_eq!(now.value("holdline_log_head", &[("shard", "0")]), 2.0);
    assert_eq!((count("holdline_nodes", ("state", "alive")), now.value("holdline_lease_in_doubt", &[])), (1.0, 0.0));
    assert_eq!(now.value("holdline_locks_available", &[]), 1.0);
    assert!(now.value("holdline_store_call_duration_seconds_count", &[("call", "commit"), ("outcome", "ok")]) >= 1.0);
    assert!(now.value("holdline_store_sample_age_seconds", &[]) < 5.0);
    assert!(now.names().iter().all(|name| name.starts_with("holdline_") || name.starts_with("process_")), "{:?}", now.names());
    let text = get(metrics_address(&broker), "").text();
    assert!(!text.contains("order") && !text.contains("app-secret") && !text.contains(&holder.socket_id), "only what has few values");
    drop(holder);
    until("the holds are over", || Scrape::of(&broker).value("holdline_holds", &[]) == 0.0);
}

#[test]
fn without_a_store_there_is_nothing_to_say_of_one() {
    let broker = Broker::with(format!("[store]\nurl = \"none\"\n{}", watched("", "")));
    let names = Scrape::of(&broker).names();
    assert!(names.contains("holdline_connected") && !names.contains("holdline_holds"), "{names:?}");
}

#[test]
fn a_database_that_is_away_does_not_take_the_metrics_with_it() {
    let proxy = Proxy::to(postgres::Postgres::shared().address());
    let database = postgres::Postgres::shared();
    let name = runtime().block_on(database.create_database());
    let config = format!("[store]\nheartbeat_interval = \"500ms\"\nlease = \"6s\"\n{}", watched("", HOLDS));
    let broker = Launch::config(config).env("DATABASE_URL", &database.url_through(proxy.address(), &name)).start();
    let before = sampled(&broker);
    assert_eq!((before.value("holdline_locks_available", &[]), before.value("holdline_log_head", &[("shard", "3")])), (1.0, 0.0));
    assert_eq!(before.named("holdline_log_head").count(), 16);
    proxy.set(Weather::black_hole());
    let scrape = || {
        let began = Instant::now();
        let now = Scrape::of(&broker);
        // Whoever waited for the database would wait for all of it.
        assert!(began.elapsed() < Duration::from_secs(8), "a scrape took {:?}", began.elapsed());
        now
    };
    until("the lease is in doubt", || scrape().value("holdline_lease_in_doubt", &[]) == 1.0);
    let old = scrape();
    assert!(old.value("holdline_store_sample_age_seconds", &[]) > 1.0, "what is shown is old, and says so");
    assert_eq!(old.named("holdline_log_head").count(), 16);
    assert_eq!(old.value("holdline_locks_available", &[]), 0.0);
    proxy.heal();
    let is_young = |now: &Scrape| now.value("holdline_store_sample_age_seconds", &[]) < 1.0;
    until("the store is read again", || is_young(&scrape()) && scrape().value("holdline_locks_available", &[]) == 1.0);
}
