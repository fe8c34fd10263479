//! `[[listeners]]` of a running broker: deliveries, the table of held locks, broadcasts; over kills and restarts.

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::support::{
    APP, Broker, Launch, Receiver, eventually, hmac_hex, one_app, postgres::fresh_database, run_to_end, stored::wait, until,
};

const RULE: &str = "[[apps.holds]]\nchannel = \"private-order.{order_id}\"\nresource = \"order:{order_id}\"\nevent = \"Order\"\n";

/// A broker with a rule and a listener, in a data directory that outlives it.
fn launch(place: &std::path::Path, store: &str, listener: &str) -> Launch {
    let data_dir = place.join("data").display().to_string();
    Launch::config(format!("[store]\nurl = {store:?}\ndata_dir = {data_dir:?}\n{}[[listeners]]\n{listener}", one_app(RULE)))
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// The listener that delivers to a receiver.
fn shop(receiver: &Receiver) -> String {
    format!("name = \"shop\"\nkind = \"http\"\nurl = \"{}\"\nheaders = {{ \"X-Token\" = \"open-sesame\" }}", receiver.url("/holdline"))
}

fn types(receiver: &Receiver) -> Vec<String> {
    receiver.got().iter().map(|request| request.json()["type"].as_str().expect("a type").to_owned()).collect()
}

#[test]
fn an_endpoint_gets_each_lock_and_its_end_signed_also_of_a_broker_that_was_killed() {
    let (place, endpoint) = (place(), Receiver::start());
    let broker = launch(place.path(), "sqlite", &shop(&endpoint)).arg("--log-level").arg("trace").start();
    let mut ws = broker.ws();
    ws.subscribe("private-order.42");
    until("the lock is delivered", || types(&endpoint) == ["OrderLocked"]);
    drop(ws);
    until("its end, too", || types(&endpoint) == ["OrderLocked", "OrderUnlocked"]);
    for request in endpoint.got() {
        assert!(request.head.starts_with("POST /holdline HTTP/1.1\r\n"), "{}", request.head);
        let body = request.json();
        assert_eq!(request.header("X-Pusher-Key"), APP.key);
        assert_eq!(request.header("X-Pusher-Signature"), hmac_hex(APP.secret, &request.body));
        assert_eq!(request.header("X-Holdline-Event-Id"), body["id"].as_str().expect("an id"));
        assert_eq!(request.header("X-Holdline-Fence"), body["fence"].to_string());
        assert_eq!(request.header("X-Holdline-Position"), body["position"].to_string());
        assert_eq!(request.header("X-Token"), "open-sesame");
        assert_eq!((body["resource"].as_str(), body["app"].as_str()), (Some("order:42"), Some(APP.id)));
        assert!(body["time_ms"].as_i64().is_some_and(|time| time > 1_700_000_000_000), "{body}");
    }
    let cause = endpoint.got()[1].json()["cause"].clone();
    assert!(cause == "gone" || cause == "client_closed", "{cause}");
    for secret in [APP.secret, "open-sesame"] {
        assert!(!broker.log_text().contains(secret), "the log tells {secret}");
    }

    let mut ws = broker.ws();
    ws.subscribe("private-order.43");
    until("the lock is delivered", || endpoint.got().len() == 3);
    endpoint.answer(500);
    broker.signal("KILL");
    drop((ws, broker));
    let broker = launch(place.path(), "sqlite", &shop(&endpoint)).start();
    until("the end is tried, and again", || endpoint.got().len() >= 6);
    assert!(types(&endpoint)[3..].iter().all(|name| name == "OrderUnlocked"));
    endpoint.answer(200);
    let consumers = || {
        let ended = run_to_end(place.path(), &["consumers", "list", "--json"], &[("HOLDLINE_STORE__DATA_DIR", "data")]);
        ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>()
    };
    until("nothing is owed", || consumers().iter().all(|row| row["lag"] == 0 && row["parked"] == 0));
    let count = endpoint.got().len();
    assert_eq!(endpoint.got()[count - 1].json()["cause"], "superseded");
    drop(broker);
    let broker = launch(place.path(), "sqlite", &shop(&endpoint)).start();
    let mut ws = broker.ws();
    ws.subscribe("private-order.44");
    until("it goes on where it was", || endpoint.got().len() == count + 1);
    assert_eq!(endpoint.got()[count].json()["resource"], "order:44");
}

#[test]
fn a_table_in_postgresql_shows_who_holds_what_also_after_a_kill() {
    let (place, (url, _)) = (place(), wait(fresh_database()));
    let held = || -> Vec<(String, String)> {
        wait(async {
            let mut connection = PgConnection::connect(&url).await.expect("the database answers");
            sqlx::query_as("SELECT resource, event FROM holdline.held ORDER BY fence").fetch_all(&mut connection).await.expect("rows")
        })
    };
    let row = |order: &str| (format!("order:{order}"), "OrderLocked".to_owned());
    let orders = "name = \"orders\"\nkind = \"orders\"\nevents = [\"Order*\"]";
    let broker = launch(place.path(), &url, orders).start();
    let mut first = broker.ws();
    first.subscribe("private-order.1");
    let mut second = broker.ws();
    second.subscribe("private-order.2");
    until("both are there", || held() == [row("1"), row("2")]);
    drop(first);
    until("one is left", || held() == [row("2")]);
    broker.signal("KILL");
    drop((second, broker));
    assert_eq!(held(), [row("2")], "nobody is there to say that it is over");
    let broker = launch(place.path(), &url, orders).start();
    until("the next start says so", || held().is_empty());
    drop(broker);
}

#[test]
fn everybody_on_a_channel_sees_who_is_editing() {
    let place = place();
    let broadcast = "name = \"editors\"\nkind = \"broadcast\"\nchannel = \"orders\"\nevent = \"{event}\"\nevents = [\"Order*\"]";
    let broker = launch(place.path(), "memory", broadcast).start();
    let mut watcher = broker.ws();
    watcher.subscribe("orders");
    let mut editor = broker.ws();
    editor.subscribe("private-order.42");
    let locked = watcher.expect("OrderLocked");
    assert_eq!((locked.channel(), &locked.payload()["resource"]), (Some("orders"), &Value::from("order:42")));
    drop(editor);
    let unlocked = watcher.expect("OrderUnlocked");
    assert_eq!(unlocked.payload()["fence"], locked.payload()["fence"]);
}

#[test]
fn a_listener_that_cannot_work_stops_the_start_with_a_reason() {
    for (store, listener, reason) in [
        ("memory", "name = \"orders\"\nkind = \"orders\"", "needs PostgreSQL, and store.url is memory"),
        ("none", "name = \"shop\"\nkind = \"http\"\nurl = \"http://127.0.0.1:9/\"", "needs a log"),
        (
            "memory",
            "name = \"shop\"\nkind = \"http\"\nurl = \"http://127.0.0.1:9/\"\nheaders = { \"X-Pusher-Key\" = \"mine\" }",
            "X-Pusher-Key: ",
        ),
    ] {
        let place = place();
        // Without a log there are no locks either.
        let rule = if store == "none" { "" } else { RULE };
        let config = format!("[store]\nurl = {store:?}\n{}[[listeners]]\n{listener}", one_app(rule));
        std::fs::write(place.path().join("holdline.toml"), config).expect("the file is written");
        let ended = run_to_end(place.path(), &["serve", "--port", "0"], &[]);
        assert!(ended.code != 0 && ended.stderr.contains(reason), "{}", ended.said());
    }
}

/// Killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that speaks TLS with a certificate that only `ca.pem` vouches for, and answers 200 to everything.
const TLS_SERVER: &str = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open('got', 'ab') as got: got.write(self.rfile.read(int(self.headers['content-length'])) + b'\\n')
        self.send_response(200); self.send_header('content-length', '0'); self.end_headers()
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
server.socket = context.wrap_socket(server.socket, server_side=True)
open('port', 'w').write(str(server.server_address[1]))
server.serve_forever()
";

fn openssl(place: &std::path::Path, arguments: &str) {
    let ended = Command::new("openssl").args(arguments.split(' ')).current_dir(place).output().expect("openssl is needed");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn https_is_spoken_and_the_system_s_authorities_are_trusted_and_nobody_else() {
    let place = place();
    openssl(place.path(), "req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -days 2 -keyout ca.key -out ca.pem");
    openssl(
        place.path(),
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout server.key -out server.csr",
    );
    openssl(place.path(), "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -copy_extensions copy -days 2 -out server.pem");
    let python = Command::new("/usr/bin/python3").args(["-c", TLS_SERVER]).current_dir(place.path()).stderr(Stdio::null()).spawn();
    let _server = Running(python.expect("python3 starts"));
    let port = eventually("the server listens", || std::fs::read_to_string(place.path().join("port")).ok()?.parse::<u16>().ok());
    let got = || std::fs::read_to_string(place.path().join("got")).unwrap_or_default();
    let listener = format!("name = \"shop\"\nkind = \"http\"\nurl = \"https://localhost:{port}/\"");
    let lock = |broker: &Broker| broker.ws().subscribe("private-order.42");

    let stranger = launch(place.path(), "sqlite", &listener).start();
    lock(&stranger);
    until("it is refused", || stranger.log_text().contains("waits at"));
    assert!(got().is_empty(), "a certificate of nobody we know is not trusted");
    drop(stranger);
    let ca = place.path().join("ca.pem").display().to_string();
    let friend = launch(place.path(), "sqlite", &listener).env("SSL_CERT_FILE", &ca).start();
    until("what was waiting is delivered", || got().contains("OrderLocked") && got().contains("OrderUnlocked"));
    drop(friend);
}
