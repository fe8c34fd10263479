//! `/openapi.json` beside the broker that serves it: the same paths as in its sources, the same methods and statuses as it answers, in both
//! directions. What stands in successful answers is compared in `tests/clients/openapi.test.mjs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::postgres::{self, Postgres, ServerOptions, Stop};
use crate::support::{
    APP, App, Broker, Launch, Ws, eventually, in_one_of, one_app, query_string, request_bytes, run_to_end, server_with, stored, until,
};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// An application that is switched off.
const OFF: App = App { id: "off-id", key: "off-key", secret: "off-secret" };
/// A request whose body never comes is given up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a broker says of itself.
fn document(broker: &Broker) -> Value {
    broker.http().plain("/openapi.json").json()
}

/// An operation of the document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Operation {
    method: String,
    path: String,
}

impl Operation {
    /// Its path with something for each parameter.
    fn target(&self, app: &str) -> String {
        let samples = [
            ("{app_id}", app),
            ("{channel}", "presence-room"),
            ("{user_id}", "7"),
            ("{socket_id}", "1.1"),
            ("{fence}", "999"),
            ("{resource}", "order:1"),
            ("{id}", "shop:0-1"),
        ];
        let target = samples.iter().fold(self.path.clone(), |path, (name, sample)| path.replace(name, sample));
        assert!(!target.contains('{'), "{target}: a parameter that this test does not know");
        target
    }

    /// A body that it takes.
    fn body(&self) -> String {
        let event = json!({ "name": "e", "channel": "news", "data": "1" });
        match (self.method.as_str(), self.path.rsplit('/').next()) {
            ("POST", Some("events")) => event.to_string(),
            ("POST", Some("batch_events")) => json!({ "batch": [event] }).to_string(),
            _ => String::new(),
        }
    }

    /// Asks a broker, signed.
    fn ask(&self, address: SocketAddr, app: App, body: &str) -> Reply {
        let path = self.target(app.id);
        let query = app.signed_query(&self.method, &path, &[], body.as_bytes());
        reply(address, &self.method, &format!("{path}?{}", query_string(&query)), body)
    }
}

/// The operations of a document, each with its statuses and, for each, the kinds of content.
fn operations(document: &Value) -> BTreeMap<Operation, BTreeMap<String, BTreeSet<String>>> {
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path").iter().filter(|(name, _)| *name != "parameters") {
            let responses = operation["responses"].as_object().expect("responses").iter().map(|(status, response)| {
                let response = match response["$ref"].as_str() {
                    Some(name) => document.pointer(name.trim_start_matches('#')).expect("a component"),
                    None => response,
                };
                (status.clone(), response["content"].as_object().into_iter().flat_map(|kinds| kinds.keys().cloned()).collect())
            });
            found.insert(Operation { method: method.to_uppercase(), path: path.clone() }, responses.collect());
        }
    }
    found
}

/// An answer; the connection is over.
#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    head: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn reply(address: SocketAddr, method: &str, target: &str, body: &str) -> Reply {
    exchange(address, &request_bytes(method, target, &[("Connection", "close")], body.as_bytes()))
}

fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).expect("the broker accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(request).expect("the socket takes bytes");
    let mut answer = Vec::new();
    // It may be reset over what it did not read; what it said stands.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, _) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{:?}: {text:?}", String::from_utf8_lossy(request)));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Reply { status, head: head.to_owned() }
}

/// Paths in the sources: the constants of the HTTP side, and what `configure` names itself.
fn declared() -> BTreeSet<String> {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut paths = BTreeSet::new();
    let mut literals =
        |text: &str| paths.extend(text.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).map(str::to_owned));
    for file in std::fs::read_dir(&http).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let source = std::fs::read_to_string(&file).unwrap();
        source.lines().filter(|line| line.contains("const ") && line.contains(": &str = \"/")).for_each(&mut literals);
        if file.ends_with("mod.rs") {
            let (_, configure) = source.split_once("fn configure(").unwrap();
            let (configure, _) = configure.split_once("\n}\n").unwrap();
            configure.lines().filter(|line| !line.trim_start().starts_with("//")).for_each(&mut literals);
        }
    }
    paths.into_iter().map(|path| path.replace(":.+}", "}")).collect()
}

#[test]
fn its_paths_are_those_of_the_sources() {
    let document = document(&Broker::start());
    let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(described, declared());
    assert!(described.len() > 20, "{described:?}");
}

#[test]
fn its_methods_are_those_that_a_broker_takes() {
    let broker = Broker::start();
    let operations = operations(&document(&broker));
    let methods = |path: &str| -> BTreeSet<String> {
        operations.keys().filter(|operation| operation.path == path).map(|operation| operation.method.clone()).collect()
    };
    let paths: BTreeSet<&str> = operations.keys().map(|operation| operation.path.as_str()).collect();
    for path in paths {
        for method in METHODS {
            let operation = Operation { method: method.to_owned(), path: path.to_owned() };
            let reply = reply(broker.address(), method, &operation.target(APP.id), "");
            if operations.contains_key(&operation) {
                assert!(![404, 405].contains(&reply.status), "{operation:?} is described, and answered {}", reply.head);
                continue;
            }
            // `…/locks/7/release` may be a resource, too: a resource is any text.
            let path = if path.ends_with("/release") { "/apps/{app_id}/locks/{resource}" } else { path };
            if methods(path).contains(method) {
                continue;
            }
            assert_eq!(reply.status, 405, "{operation:?} is not described");
            let allow = reply.header("allow").map(|allow| allow.split(", ").map(str::to_owned).collect());
            assert_eq!(allow, Some(methods(path)), "{operation:?}");
        }
    }
}

/// What was answered, operation by operation. Each answer has to be described.
struct Seen<'a> {
    described: &'a BTreeMap<Operation, BTreeMap<String, BTreeSet<String>>>,
    statuses: Mutex<BTreeMap<Operation, BTreeSet<String>>>,
}

impl Seen<'_> {
    fn see(&self, operation: &Operation, reply: &Reply) {
        let status = reply.status.to_string();
        let kinds = self.described[operation].get(&status).unwrap_or_else(|| panic!("{operation:?} is answered {}", reply.head));
        let kind = reply.header("content-type").map(|kind| kind.split(';').next().unwrap_or_default().to_owned());
        assert!(operation.method == "HEAD" || kind.is_some_and(|kind| kinds.contains(&kind)), "{operation:?}: {}", reply.head);
        if [429, 503].contains(&reply.status) && operation.path.starts_with("/apps") {
            assert!(reply.header("retry-after").is_some(), "{operation:?}: {}", reply.head);
        }
        self.statuses.lock().unwrap().entry(operation.clone()).or_default().insert(status);
    }

    /// Every operation, signed and as it should be.
    fn ask_all(&self, broker: &Broker, app: App) {
        self.described.keys().for_each(|operation| self.see(operation, &operation.ask(broker.address(), app, &operation.body())));
    }
}

fn usual() -> Broker {
    let off = format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\nenabled = false\n", OFF.id, OFF.key, OFF.secret);
    let hold = "[[apps.holds]]\nchannel = \"private-order.{id}\"\nresource = \"order:{id}\"\nevent = \"Order\"\n";
    Broker::with(server_with("max_request_size = \"1KiB\"", &format!("{hold}{off}")))
}

/// What is wrong with the request.
fn refused_requests(seen: &Seen<'_>, broker: &Broker) {
    let address = broker.address();
    seen.ask_all(broker, APP);
    seen.ask_all(broker, OFF);
    for operation in seen.described.keys() {
        let ask = |target: &str| reply(address, &operation.method, target, "");
        seen.see(operation, &ask(&operation.target(APP.id)));
        seen.see(operation, &ask(&operation.target("nobody")));
        seen.see(operation, &ask(&format!("{}?x=1&x=1", operation.target(APP.id))));
        seen.see(operation, &operation.ask(address, APP, &"x".repeat(2_000)));
    }
    // All at once: each takes ten seconds.
    std::thread::scope(|scope| {
        for operation in seen.described.keys() {
            scope.spawn(move || {
                let (method, target) = (&operation.method, operation.target(APP.id));
                let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\n");
                seen.see(operation, &exchange(address, head.as_bytes()));
            });
        }
    });
}

fn too_often(seen: &Seen<'_>) {
    let broker = Broker::with(one_app("[apps.limits]\npublishes_per_second = 1\nreads_per_second = 1\n"));
    for (operation, responses) in seen.described {
        let ask = || {
            let reply = operation.ask(broker.address(), APP, &operation.body());
            seen.see(operation, &reply);
            reply.status == 429
        };
        if responses.contains_key("429") {
            until("it is too often", ask)
        } else {
            (0..3).for_each(|_| {
                ask();
            })
        }
    }
}

fn over_already(seen: &Seen<'_>, broker: &Broker) {
    let mut ws = broker.ws();
    let channel = "private-order.1";
    let auth = APP.auth(&format!("{}:{channel}", ws.socket_id));
    ws.send(&json!({ "event": "pusher:subscribe", "data": { "channel": channel, "auth": auth } }));
    let fence = eventually("it is held", || broker.http().get("/locks", &[]).json()["locks"][0]["fence"].as_i64());
    let release = seen.described.keys().find(|operation| operation.path.ends_with("/release")).unwrap();
    let this = Operation { path: release.path.replace("{fence}", &fence.to_string()), ..release.clone() };
    for expected in [200, 409] {
        let reply = this.ask(broker.address(), APP, "");
        assert_eq!(reply.status, expected);
        seen.see(release, &reply);
    }
}

/// A key whose publish is at work, and one that another request has.
fn keys(seen: &Seen<'_>) {
    let (url, _) = stored::wait(postgres::fresh_database());
    let place = tempfile::tempdir().unwrap();
    let broker = Broker::with(format!("[store]\nurl = \"{url}\"\ndata_dir = \"{}\"\n{}", place.path().display(), one_app("")));
    for operation in seen.described.keys().filter(|operation| !operation.body().is_empty()) {
        let ask = |body: &str, status: u16| {
            let path = operation.target(APP.id);
            let query = APP.signed_query(&operation.method, &path, &[], body.as_bytes());
            let headers = [("Connection", "close"), ("Idempotency-Key", &operation.path)];
            let request = request_bytes(&operation.method, &format!("{path}?{}", query_string(&query)), &headers, body.as_bytes());
            let reply = exchange(broker.address(), &request);
            seen.see(operation, &reply);
            assert_eq!(reply.status, status, "{operation:?}");
        };
        ask(&operation.body(), 200);
        ask(&format!("{} ", operation.body()), 422);
        // As if its attempt had just begun.
        stored::wait(postgres::run(&url, "UPDATE holdline.idempotency SET answer = NULL, claimed_at = clock_timestamp()".to_owned()));
        ask(&operation.body(), 409);
    }
}

/// What is not there for a while.
fn unavailable(seen: &Seen<'_>) {
    let nothing = Broker::with(format!("[store]\nurl = \"none\"\n{}", one_app("")));
    seen.ask_all(&nothing, APP);

    let server = Postgres::start(ServerOptions::default());
    let database = stored::wait(server.create_database());
    let url = server.url_through(server.address(), &database);
    let broker = Launch { errors_expected: true, ..Launch::config(format!("[store]\nurl = \"{url}\"\n{}", one_app(""))) }.start();
    server.stop(Stop::Fast);
    seen.ask_all(&broker, APP);

    let full = Broker::with(server_with("max_connections = 1\nmax_outbox_memory = \"1MiB\"\noutbox_size = \"1MiB\"", ""));
    let mut http = full.http();
    let flood = json!({ "name": "e", "channel": "flood", "data": "x".repeat(10_000) });
    // Whoever takes nothing is ended after some seconds: on a slow machine perhaps before everything has been asked.
    in_one_of(5, || {
        until("nobody is there", || http.connections() == 0);
        let mut stuck = Ws::open_narrow(full.address());
        stuck.subscribe("flood");
        until("publishes are turned away", || http.trigger(&flood).status == 503);
        seen.ask_all(&full, APP);
        if http.trigger(&flood).status == 503 { Ok(()) } else { Err("it was ended before everything was asked".to_owned()) }
    });

    let draining = Broker::with(format!("[drain]\ngrace = \"30s\"\nspread = \"20s\"\n{}", one_app("")));
    let _connected: Vec<Ws> = (0..20).map(|_| draining.ws()).collect();
    draining.signal("TERM");
    until("it is not ready", || reply(draining.address(), "GET", "/ready", "").status == 503);
    seen.ask_all(&draining, APP);
}

#[test]
fn every_answer_is_described_and_every_refusal_that_is_described_is_given() {
    let broker = usual();
    let described = operations(&document(&broker));
    let seen = Seen { described: &described, statuses: Mutex::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| refused_requests(&seen, &broker));
        scope.spawn(|| too_often(&seen));
        scope.spawn(|| unavailable(&seen));
        scope.spawn(|| over_already(&seen, &broker));
        scope.spawn(|| keys(&seen));
    });
    let seen = seen.statuses.into_inner().unwrap();
    for (operation, responses) in &described {
        // Successes are the business of the other test: some need a dead letter first.
        let given: BTreeSet<&String> = seen[operation].iter().filter(|status| *status != "200").collect();
        let refusals: BTreeSet<&String> = responses.keys().filter(|status| *status != "200" && *status != "default").collect();
        assert_eq!(given, refusals, "{operation:?}: given, and described");
    }
}

#[test]
fn below_a_prefix_it_says_so() {
    let broker = Broker::with(server_with("path_prefix = \"/realtime\"", ""));
    let mut http = broker.http();
    assert_eq!(document(&broker)["servers"], json!([{ "url": "/" }]));
    let below = http.plain("/realtime/openapi.json");
    assert_eq!(below.json()["servers"], json!([{ "url": "/realtime" }]));
    assert_eq!(below.header("access-control-allow-origin"), Some("*"));
    assert_eq!(reply(broker.address(), "HEAD", "/realtime/openapi.json", "").status, 200);
    let version = run_to_end(Path::new("/"), &["--version"], &[]).stdout;
    assert_eq!(version.trim(), format!("holdline {}", below.json()["info"]["version"].as_str().unwrap()));
}
