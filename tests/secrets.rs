//! No secret gets out: not into the log at any level and in any format, not into answers, commands, metrics or rows.
//!
//! Everything that is secret has a mark in it that occurs nowhere else. Brokers are started with all of them, everything is used, rightly
//! and wrongly, and then all that they have written is searched.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::support::{
    App, Broker, Ended, Launch, Ws, eventually, hmac_hex, jwt, now_seconds,
    postgres::{Postgres, ServerOptions, Stop, run},
    run_to_end, scrape,
    stored::wait,
    until,
};

/// The application, with a secret of its own.
pub(crate) const SHOP: App = App { id: "app-id", key: "app-key", secret: "appsecret-q7Zx1" };
const STORE_PASSWORD: &str = "storepw-q7Zx2";
pub(crate) const URL_PASSWORD: &str = "urlpw-q7Zx3";
const URL_TOKEN: &str = "urltoken-q7Zx4";
const HEADER: &str = "headervalue-q7Zx5";
/// What all of the above have in common, and every secret that clients send.
pub(crate) const MARK: &str = "q7Zx";
/// In what is signed about people: for other clients, not for a log.
const PERSONAL: &str = "personal-q7Zx7";
/// In what is published and sent by clients.
const PAYLOAD: &str = "payload-q7Zx8";
const COOKIE: &str = "cookie-q7Zx9";

/// Every secret that is made at run time: signatures and tokens. Those have no mark.
#[derive(Default)]
pub(crate) struct Made(Vec<(&'static str, String)>);

impl Made {
    fn add(&mut self, what: &'static str, secret: impl Into<String>) {
        self.0.push((what, secret.into()));
    }

    /// Nothing of all this stands there. `where_` names the text in the failure.
    pub(crate) fn assert_none(&self, where_: &str, text: &str) {
        for (what, secret) in self.0.iter().map(|(what, secret)| (*what, secret.as_str())).chain([("a mark", MARK)]) {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(secret)).take(3).collect();
            assert!(lines.is_empty(), "{what} is in {where_}: {lines:#?}");
        }
    }
}

/// An endpoint that takes nothing: it answers 500, or closes, by turns.
fn refusing_endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().flatten().enumerate() {
            let mut stream = stream;
            let mut head = [0; 4096];
            if turn % 3 < 2 && stream.read(&mut head).is_ok() {
                let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let failure = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                // Whether it hears that is its own affair.
                let _ = stream.write_all([failure, redirect][turn % 3].as_bytes());
            }
        }
    });
    address
}

fn config(store: &str, endpoint: SocketAddr) -> String {
    let App { id, key, secret } = SHOP;
    let url = format!("http://ada:{URL_PASSWORD}@{endpoint}/hook?token={URL_TOKEN}");
    let unreachable = format!("http://ada:{URL_PASSWORD}@127.0.0.1:1/hook?sig={URL_TOKEN}");
    let headers = format!("{{ \"X-Env\" = \"{HEADER}\", Authorization = \"Bearer {HEADER}\" }}");
    format!(
        r#"
[server]
trusted_proxies = ["127.0.0.1"]
[metrics]
bind = "127.0.0.1:0"
[store]
url = "{store}"
heartbeat_interval = "250ms"
lease = "12s"
[webhooks]
delay = "0s"
[[apps]]
id = "{id}"
key = "{key}"
secret = "{secret}"
client_events = true
handshake_auth = "optional"
user_events = true
allowed_origins = ["good.example"]
[apps.limits]
publishes_per_second = 2
[[apps.holds]]
channel = "private-order.{{order_id}}"
resource = "order:{{order_id}}"
event = "Order"
grace = "1s"
[[apps.webhooks]]
name = "refusing"
url = "{url}"
headers = {headers}
[[apps.webhooks]]
name = "unreachable"
url = "{unreachable}"
[[listeners]]
name = "refusing"
kind = "http"
url = "{url}"
headers = {headers}
timeout = "1s"
[[listeners]]
name = "unreachable"
kind = "http"
url = "{unreachable}"
"#
    )
}

/// Uses all of the protocol and of the HTTP API, rightly and wrongly.
fn use_everything(broker: &Broker, made: &mut Made) {
    let claims = json!({ "sub": "42", "exp": now_seconds() + 300 });
    let (token, forged) = (jwt(SHOP.secret, "HS256", &claims), jwt("guess", "HS256", &claims));
    let secrets = [("a token", &token), ("a forged token", &forged)];
    for (what, token) in secrets {
        made.add(what, token.clone());
        made.add(what, token.rsplit('.').next().expect("a signature"));
    }
    let address = broker.address();
    let cookie = format!("session={COOKIE}");
    let common = [("Origin", "https://good.example"), ("Cookie", &*cookie), ("X-Forwarded-For", "198.51.100.7")];
    let upgraded = |target: &str, more: &[(&str, &str)]| Ws::upgrade(address, target, &[&common[..], more].concat());
    let query = format!("protocol=7&client=js&secret={COOKIE}");

    let bearer = format!("Bearer {token}");
    let mut ws = upgraded(&format!("/ctx/{token}/app/app-key?{query}"), &[]);
    ws.established();
    upgraded(&format!("/app/app-key?{query}"), &[("Authorization", &bearer)]).established();
    for target in [format!("/ctx/{forged}/app/app-key?{query}"), format!("/ctx/{token}/app/nobody?{query}")] {
        let error = upgraded(&target, &[]).event();
        assert_eq!(error.name(), "pusher:error");
        made.assert_none("an error frame", &error.raw);
    }
    let mut evil = Ws::upgrade(address, &format!("/ctx/{token}/app/app-key?{query}"), &[("Origin", "https://evil.example")]);
    made.assert_none("an error frame", &evil.event().raw);

    // Subscriptions and sign-ins, good and bad. What was signed right is a secret in the log, what was signed wrong no less.
    let socket_id = ws.socket_id.clone();
    let channel_data = format!(r#"{{"user_id":"42","user_info":{{"note":"{PERSONAL}"}}}}"#);
    let user_data = format!(r#"{{"id":"42","user_info":{{"note":"{PERSONAL}"}},"watchlist":["7"]}}"#);
    let mut sign = |text: &str| {
        made.add("a signature", hmac_hex(SHOP.secret, text));
        SHOP.auth(text)
    };
    let auth = sign(&format!("{socket_id}:private-order.1"));
    ws.send_subscribe("private-order.1", Some(&auth), None);
    ws.expect("pusher_internal:subscription_succeeded");
    ws.expect("holdline:locked");
    let auth = sign(&format!("{socket_id}:presence-room:{channel_data}"));
    ws.send_subscribe("presence-room", Some(&auth), Some(&channel_data));
    ws.expect("pusher_internal:subscription_succeeded");
    let auth = sign(&format!("{socket_id}::user::{user_data}"));
    ws.send(&json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user_data } }));
    ws.expect("pusher:signin_success");
    ws.expect("pusher_internal:watchlist_events");
    let right = sign(&format!("{socket_id}:private-other"));
    let wrong = format!("{}0", &right[..right.len() - 1]);
    let wrong = if wrong == right { format!("{}1", &right[..right.len() - 1]) } else { wrong };
    made.add("a wrong signature", wrong.rsplit(':').next().expect("a signature"));
    for (channel, auth, data) in [
        ("private-other", &*wrong, None),
        ("presence-other", &*wrong, Some(channel_data.as_str())),
        ("private-order.2", SHOP.secret, None),
        ("not a channel", &*right, Some(&*channel_data)),
    ] {
        ws.send_subscribe(channel, Some(auth), data);
        let error = ws.expect("pusher:subscription_error");
        made.assert_none("an error frame", &error.raw);
    }
    ws.send(&json!({ "event": "pusher:signin", "data": { "auth": wrong, "user_data": user_data } }));
    made.assert_none("an error frame", &ws.expect("pusher:error").raw);
    ws.send_text(&format!("{{\"event\":\"pusher:subscribe\",\"data\":{{\"auth\":\"{right}\",\"channel_data\":\"{PERSONAL}\""));
    made.assert_none("an error frame", &ws.expect("pusher:error").raw);
    ws.send(&json!({ "event": "client-x", "channel": "private-order.1", "data": PAYLOAD }));
    ws.send(&json!({ "event": "client-x", "channel": "private-nowhere", "data": PAYLOAD }));
    made.assert_none("an error frame", &ws.expect("pusher:error").raw);

    // The HTTP API.
    let mut http = broker.http().signing_as(SHOP);
    http.publish("private-order.1", "e", PAYLOAD);
    ws.expect("e");
    for path in ["/channels", "/channels/presence-room/users", "/sockets", "/connections", "/locks", "/events", "/locks/order:1"] {
        // A client event that some webhook wants stands in the log until it is read.
        made.assert_none(path, &http.get(path, &[]).text().replace(PAYLOAD, ""));
    }
    made.assert_none("/sockets/…", &http.get(&format!("/sockets/{socket_id}"), &[]).text());
    let good = http.signed_target("POST", "/events", &[], b"{}");
    let (before, signature) = good.split_once("auth_signature=").expect("a signature");
    made.add("a request's signature", signature);
    for (target, body) in [
        (good.clone(), "{}"),
        (good.clone(), "other"),
        (format!("{before}auth_signature={:0>64}", "1"), "{}"),
        (format!("{before}auth_signature={}", SHOP.secret.repeat(4)), "{}"),
        (good.replace("app-key", "app-kez"), "{}"),
        (format!("{good}&auth_signature={signature}"), "{}"),
        (good.replace("/apps/app-id", "/apps/nobody"), "{}"),
        (format!("/nowhere?token={token}&secret={}", SHOP.secret), "{}"),
    ] {
        let answer = broker.http().request("POST", &target, &[("Cookie", &cookie), ("Authorization", &bearer)], body.as_bytes());
        let text = answer.text();
        // What somebody has sent comes back to him, shortened: 16 characters are no secret of 64.
        made.assert_none("an HTTP error", &text.replace(&SHOP.secret.repeat(4)[..16], ""));
        assert!(answer.status >= 400, "{text}");
    }
    let too_much: Vec<u16> = (0..60).map(|_| http.trigger(&json!({ "name": "e", "channel": "c", "data": PAYLOAD })).status).collect();
    assert!(too_much.contains(&429), "{too_much:?}");
    for garbage in
        [format!("GET /{token} HTTP/9\r\n\r\n"), format!("{} {token}\r\n\r\n", SHOP.secret), format!("GET / HTTP/1.1\r\n{token}\r\n\r\n")]
    {
        let mut http = broker.http();
        http.send_bytes(garbage.as_bytes());
    }
    made.assert_none("the metrics", &scrape::get(scrape::metrics_address(broker), "text/plain").text());
    ws.send_close(1000);
    ws.closed(1000);
}

/// Every table of the schemas that are ours, as text.
fn rows_of_postgres(url: &str) -> String {
    wait(async {
        let mut db = PgConnection::connect(url).await.expect("the database answers");
        let tables =
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.expect("tables");
        assert!(tables.len() > 5, "{tables:?}");
        let mut all = String::new();
        for table in tables {
            let rows = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"))).fetch_all(&mut db).await.expect("rows");
            rows.iter().for_each(|row| all.push_str(&format!("{table}: {}\n", row.get::<String, _>(0))));
        }
        all
    })
}

/// Every file in a directory, as text: of a database also what was deleted.
fn files_in(directory: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let bytes = fs::read(entry.path()).expect("a file");
        all.push_str(&format!("{}: {}\n", entry.path().display(), String::from_utf8_lossy(&bytes)));
    }
    all
}

/// A log that says something, of everything.
fn assert_log_is_clean(made: &Made, broker: &Broker) {
    let log = broker.log_text();
    assert!(log.lines().count() > 30 && log.contains("TRACE") && log.contains("DEBUG"), "{log}");
    made.assert_none("the log", &log);
}

#[test]
fn with_the_embedded_database_nothing_secret_is_written_anywhere() {
    let place = tempfile::tempdir().unwrap();
    for format in ["json", "pretty"] {
        let data_dir = place.path().join(format);
        let text = config("sqlite", refusing_endpoint());
        let launch = Launch { errors_expected: true, ..Launch::config(&text) };
        let launch = launch.arg("--log-level").arg("trace").arg("--log-format").arg(format);
        let mut broker = launch.env("HOLDLINE_STORE__DATA_DIR", &data_dir.display().to_string()).start();
        let mut made = Made::default();
        use_everything(&broker, &mut made);
        until("a delivery has failed", || {
            broker.log_text().contains("Listener refusing puts") && broker.log_text().contains("Listener unreachable waits")
        });
        until("the lock is over", || broker.http().signing_as(SHOP).get("/events", &[]).text().contains("OrderUnlocked"));
        commands(&made, &text, &data_dir, &broker);
        broker.signal("TERM");
        assert!(broker.exited(Duration::from_secs(25)).success());
        assert_log_is_clean(&made, &broker);
        let files = files_in(&data_dir);
        assert!(files.contains("OrderLocked") && files.contains("OrderUnlocked"), "the database is there");
        // As above: for a webhook that wants it.
        made.assert_none("the database", &files.replace(PAYLOAD, ""));
    }
}

/// What the commands say, with the same configuration.
fn commands(made: &Made, config: &str, data_dir: &Path, broker: &Broker) {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("holdline.toml"), config).unwrap();
    let (data_dir, url) = (data_dir.display().to_string(), format!("http://{}", broker.address()));
    let env = [("HOLDLINE_STORE__DATA_DIR", data_dir.as_str()), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")];
    let mut said = String::new();
    for args in [
        &["config", "print"][..],
        &["config", "check"],
        &["config", "print", "--config", "nowhere.toml"],
        &["locks", "list"],
        &["events", "list"],
        &["consumers", "list"],
        &["nodes", "list"],
        &["migrate"],
        &["publish", "private-order.1", "e", "{}", "--url", &url],
        &["publish", "private-order.1", "e", "{}", "--url", &url, "--secret", HEADER],
        &["publish", "private-order.1", "e", "{}", "--url", "http://127.0.0.1:1"],
        &["publish", "private-order.1", "e", "{}", "--url", "127.0.0.1:x"],
        &["publish"],
        &["serve", "--port", "99999"],
    ] {
        let Ended { code, stdout, stderr } = run_to_end(place.path(), args, &env);
        said.push_str(&format!("{args:?} {code}\n{stdout}{stderr}\n").replace(HEADER, "the argument itself"));
    }
    for word in ["OrderLocked", "<redacted>", "is valid", "401", "refusing"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    // Nor do they repeat what stood in their own arguments.
    let refused = run_to_end(place.path(), &["publish", "c", "e", "{}", "--url", &url, "--secret", HEADER], &env);
    made.assert_none("a command", &refused.said());
    made.assert_none("a command", &said);
}

/// A server that asks for a password, and a role that has one.
fn guarded_postgres() -> (Postgres, String) {
    let rules = tempfile::Builder::new().prefix("holdline-hba-").tempfile().unwrap();
    fs::write(rules.path(), "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    fs::set_permissions(rules.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let settings = vec![format!("hba_file={}", rules.path().display())];
    let server = Postgres::start(ServerOptions { settings, ..ServerOptions::default() });
    // It is read again at every start.
    rules.keep().unwrap();
    let database = wait(server.create_database());
    wait(run(&server.url("postgres", "postgres"), format!("CREATE ROLE shop LOGIN SUPERUSER PASSWORD '{STORE_PASSWORD}'")));
    (server, database)
}

#[test]
fn with_postgresql_that_goes_and_comes_and_refuses_nothing_secret_is_written_anywhere() {
    let (server, database) = guarded_postgres();
    let url = |password: &str| format!("postgres://shop:{password}@{}/{database}?sslmode=prefer", server.address());
    let launch = |store: &str, format: &str| {
        let launch = Launch { errors_expected: true, ..Launch::config(config(store, refusing_endpoint())) };
        launch.arg("--log-level").arg("trace").arg("--log-format").arg(format)
    };
    let mut made = Made::default();
    for format in ["json", "pretty"] {
        let refused = launch(&url(&format!("wrong-{MARK}")), format).try_start();
        let log = refused.err().expect("a wrong password stops the start");
        assert!(log.contains("password authentication failed"), "{log}");
        made.assert_none("the log of a start that was refused", &log);

        // The database has two seconds for each answer; on a slow machine it may need more, which stops a start.
        let broker = eventually("it starts", || {
            let started = launch(&url(STORE_PASSWORD), format).try_start();
            started.map_err(|log| made.assert_none("the log of a start that failed", &log)).ok()
        });
        use_everything(&broker, &mut made);
        until("a delivery has failed", || broker.log_text().contains("Listener unreachable waits"));
        server.stop(Stop::Immediate);
        until("the store is missed", || broker.log_text().contains("No answer to a heartbeat"));
        let answer = broker.http().signing_as(SHOP).get("/locks", &[]);
        assert_eq!(answer.status, 503);
        made.assert_none("an HTTP error", &answer.text());
        server.launch();
        wait(run(&server.url("postgres", "postgres"), format!("ALTER ROLE shop PASSWORD 'other-{MARK}'")));
        // Sessions that came back before that are ended, also those that were just about to: new ones are refused.
        let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'";
        until("the password is refused", || {
            wait(run(&server.url("postgres", "postgres"), sessions.to_owned()));
            broker.http().signing_as(SHOP).get("/locks", &[]).status == 503
        });
        made.assert_none("the metrics", &scrape::get(scrape::metrics_address(&broker), "text/plain").text());
        wait(run(&server.url("postgres", "postgres"), format!("ALTER ROLE shop PASSWORD '{STORE_PASSWORD}'")));
        until("the store is back", || broker.log_text().contains("The store answers again"));
        assert_log_is_clean(&made, &broker);
        let rows = rows_of_postgres(&server.url(&database, "postgres"));
        assert!(rows.contains("OrderLocked") && rows.contains("listener") || rows.contains("refusing"), "{rows}");
        made.assert_none("a row", &rows.replace(PAYLOAD, ""));
    }
}
