//! Applications from the table of the store: commands beside real brokers, and what becomes of clients that are connected.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    APP, App, Broker, Ended, Launch, Ws, eventually,
    postgres::{self, Postgres, ServerOptions, Stop},
    run_to_end,
    stored::wait,
    until,
};

const UPGRADE: &str = "/app/app-key?protocol=7";

/// A store with a table of applications, and the configuration of brokers and commands.
pub(crate) struct Tenants {
    directory: TempDir,
    store: String,
    /// More of the configuration.
    pub(crate) more: String,
}

impl Tenants {
    pub(crate) fn both() -> [Tenants; 2] {
        [Tenants::on("sqlite"), Tenants::postgres()]
    }

    pub(crate) fn postgres() -> Tenants {
        Tenants::on(&wait(postgres::fresh_database()).0)
    }

    pub(crate) fn on(store: &str) -> Tenants {
        Tenants { directory: tempfile::tempdir().unwrap(), store: store.to_owned(), more: String::new() }
    }

    /// The configuration of a node.
    fn config(&self, node: usize) -> String {
        let (store, more, data_dir) = (&self.store, &self.more, self.directory.path().join(format!("data-{node}")).display().to_string());
        format!("[store]\nurl = {store:?}\ndata_dir = {data_dir:?}\n[app_store]\nenabled = true\n{more}\n")
    }

    pub(crate) fn launch(&self, node: usize) -> Launch {
        Launch::config(self.config(node))
    }

    pub(crate) fn start(&self) -> Broker {
        self.launch(0).start()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        std::fs::write(self.directory.path().join("holdline.toml"), self.config(0)).unwrap();
        run_to_end(self.directory.path(), &[&["apps"], args].concat(), &[])
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.said());
        ended.stdout
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        self.ok(&[args, &["--json"]].concat()).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn refused(&self, code: i32, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{args:?}: {}", ended.stderr);
        ended.stderr
    }

    /// Creates the application that all clients of the tests are of.
    pub(crate) fn create(&self, settings: &[&str]) {
        self.create_as(APP, settings);
    }

    fn create_as(&self, app: App, settings: &[&str]) {
        let secret = self.directory.path().join("secret");
        std::fs::write(&secret, format!("{}\n", app.secret)).unwrap();
        let mut args = vec!["create", app.id, "--key", app.key, "--secret-file", secret.to_str().unwrap()];
        settings.iter().for_each(|setting| args.extend(["--set", setting]));
        self.ok(&args);
    }
}

/// A connection, as soon as the application is served.
pub(crate) fn connected(broker: &Broker) -> Ws {
    until("the application is served", || Ws::upgrade(broker.address(), UPGRADE, &[]).event().name() == "pusher:connection_established");
    broker.ws()
}

/// What a connection that is refused is told.
fn refusal(broker: &Broker) -> Option<u64> {
    let event = Ws::upgrade(broker.address(), UPGRADE, &[]).event();
    (event.name() == "pusher:error").then(|| event.json["data"]["code"].as_u64().unwrap())
}

/// Sends a client event; why it is refused, if it is.
fn whisper(ws: &mut Ws, event: &str) -> Option<String> {
    ws.send(&json!({ "event": event, "channel": "private-room", "data": "x" }));
    ws.send_text(r#"{"event":"pusher:ping"}"#);
    let mut refused = None;
    loop {
        let event = ws.event();
        match event.name() {
            "pusher:pong" => return refused,
            "pusher:error" => refused = Some(event.json["data"]["message"].as_str().unwrap().to_owned()),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn an_application_is_created_changed_disabled_and_deleted_under_live_connections() {
    for tenants in Tenants::both() {
        assert!(tenants.json(&["list"]).is_empty(), "where no broker has ever been");
        let broker = tenants.start();
        assert_eq!(refusal(&broker), Some(4001), "there is no development application");
        tenants.create(&["limits.client_events_per_second=1000"]);
        let mut ws = connected(&broker);
        ws.subscribe("private-room");
        broker.http().publish("private-room", "greeting", "hi");
        ws.expect_data("greeting", "private-room", "hi");
        assert_eq!(whisper(&mut ws, "client-x").as_deref(), Some("The app does not have client messaging enabled."));

        tenants.ok(&["update", APP.id, "--set", "client_events=true"]);
        until("client events are on", || whisper(&mut ws, "client-x").is_none());
        tenants.ok(&["update", APP.id, "--set", "limits.max_event_name=10"]);
        until("names are short", || whisper(&mut ws, "client-long-name").is_some_and(|why| why.contains("Maximum allowed size is 10")));
        assert_eq!(whisper(&mut ws, "client-x"), None);
        tenants.ok(&["update", APP.id, "--set", "limits.client_events_per_second=1"]);
        until("the rate is low", || whisper(&mut ws, "client-x").is_some_and(|why| why.contains("rate limit")));
        tenants.ok(&["update", APP.id, "--unset", "limits.client_events_per_second", "--set", "max_connections=1"]);
        until("there is room for one", || refusal(&broker) == Some(4004));
        tenants.ok(&["update", APP.id, "--set", "limits.max_event_bytes=3"]);
        until("events are small", || broker.http().trigger(&json!({ "name": "e", "channel": "a", "data": "four" })).status == 413);
        tenants.ok(&["update", APP.id, "--unset", "max_connections", "--set", "allowed_origins=[\"https://shop.example\"]"]);
        until("strangers are refused", || {
            let origin = [("Origin", "https://evil.example")];
            Ws::upgrade(broker.address(), UPGRADE, &origin).event().json["data"]["code"] == 4009
        });
        ws.quiet();

        tenants.ok(&["disable", APP.id]);
        assert_eq!(ws.refused(4003), "Application disabled");
        assert_eq!(refusal(&broker), Some(4003));
        assert_eq!(broker.http().get("/channels", &[]).status, 403);
        tenants.ok(&["enable", APP.id]);
        let mut ws = connected(&broker);
        let why = tenants.refused(1, &["delete", APP.id]);
        assert!(why.contains("is enabled") && why.contains("--force"), "{why}");
        tenants.ok(&["delete", APP.id, "--force"]);
        ws.refused(4001);
        assert_eq!(refusal(&broker), Some(4001));
        assert_eq!(broker.http().get("/channels", &[]).status, 404);
        assert!(!broker.log_text().contains(APP.secret), "a secret is in no log");
    }
}

#[test]
fn two_secrets_count_during_a_rotation_and_one_afterwards() {
    for tenants in Tenants::both() {
        let broker = tenants.start();
        tenants.create(&["handshake_auth=optional"]);
        let mut ws = connected(&broker);
        let told = tenants.json(&["rotate-secret", APP.id, "--keep-old", "1h"]).remove(0);
        let secret = told["secret"].as_str().unwrap().to_owned();
        assert!(secret.len() == 40 && told["previous_secret_until"].is_string(), "{told}");
        let new = App { secret: Box::leak(secret.clone().into_boxed_str()), ..APP };
        let asks = |app: App| broker.http().signing_as(app).get("/channels", &[]).status;
        until("the new secret counts", || asks(new) == 200);
        assert_eq!(asks(APP), 200, "the old one counts, too");
        let join = |ws: &mut Ws, app: App, channel: &str| {
            let auth = app.auth(&format!("{}:{channel}", ws.socket_id));
            ws.send_subscribe(channel, Some(&auth), None);
            ws.event().name() == "pusher_internal:subscription_succeeded"
        };
        assert!(join(&mut ws, new, "private-new") && join(&mut ws, APP, "private-old"));
        assert!(!join(&mut ws, App { secret: "wrong", ..APP }, "private-wrong"));
        ws.signin(r#"{"id":"7"}"#);
        let token = |app: App| {
            let claims = json!({ "exp": crate::support::now_seconds() + 60 });
            let token = crate::support::jwt(app.secret, "HS256", &claims);
            let target = format!("/ctx/{token}/app/app-key?protocol=7");
            Ws::upgrade(broker.address(), &target, &[]).event().name().to_owned()
        };
        assert_eq!((token(new), token(APP)), ("pusher:connection_established".to_owned(), "pusher:connection_established".to_owned()));

        let told = tenants.json(&["rotate-secret", APP.id, "--keep-old", "0s"]).remove(0);
        assert_eq!(told["previous_secret_until"], Value::Null);
        let newest = App { secret: Box::leak(told["secret"].as_str().unwrap().to_owned().into_boxed_str()), ..APP };
        until("only the newest counts", || asks(newest) == 200);
        assert_eq!((asks(new), asks(APP)), (401, 401));
        assert!(!join(&mut ws, new, "private-a") && join(&mut ws, newest, "private-b"));
        assert_eq!(token(new), "pusher:error");

        tenants.ok(&["rotate-secret", APP.id, "--keep-old", "1s"]);
        until("the time of the old one is over", || asks(newest) == 401);
        let log = broker.log_text();
        assert!(!log.contains(&secret) && !log.contains(newest.secret) && !log.contains(APP.secret), "no secret is in the log");
        let shown = tenants.ok(&["list"]) + &tenants.ok(&["show", APP.id]) + &tenants.ok(&["show", APP.id, "--json"]);
        assert!(!shown.contains(&secret) && !shown.contains(newest.secret), "{shown}");
    }
}

#[test]
fn every_broker_of_a_database_takes_a_change_up_whether_it_is_rung_for_or_not() {
    let tenants = Tenants::postgres();
    let [one, two] = [0, 1].map(|node| tenants.launch(node).start());
    let deaf = Launch::config(tenants.config(2).replace("[app_store]", "notify = false\n[app_store]")).start();
    tenants.create(&[]);
    let mut clients: Vec<Ws> = [&one, &two, &deaf].map(connected).into();
    let hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'";
    wait(postgres::run(&tenants.store, hang_up.to_owned()));
    // By hand, as somebody with psql would.
    let by_hand = "UPDATE holdline.app SET settings = '{\"client_events\": true}' WHERE id = 'app-id'";
    wait(postgres::run(&tenants.store, by_hand.to_owned()));
    for ws in &mut clients {
        ws.subscribe("private-room");
        until("client events are on", || whisper(ws, "client-x").is_none());
    }
    tenants.ok(&["disable", APP.id]);
    clients.iter_mut().for_each(|ws| drop(ws.refused(4003)));
    let mut broken = two.http();
    wait(postgres::run(&tenants.store, "UPDATE holdline.app SET enabled = true, settings = '{\"nonsense\": 1}'".to_owned()));
    let bad = eventually("it is said what is wrong", || two.log_lines().into_iter().find(|line| line.contains("nonsense")));
    assert!(bad.contains("unknown key") && bad.contains("served as it was before"), "{bad}");
    assert_eq!(broken.get("/channels", &[]).status, 403, "as it was before");
    assert!(tenants.ok(&["list"]).contains("unknown key"));
    wait(postgres::run(&tenants.store, "TRUNCATE holdline.app".to_owned()));
    until("it is served nowhere", || [&one, &two, &deaf].iter().all(|broker| refusal(broker) == Some(4001)));
    [one, two, deaf].into_iter().for_each(forgive);
}

/// A broker that said an error on purpose.
fn forgive(broker: Broker) {
    let mut broker = broker;
    broker.expect_errors();
}

#[test]
fn known_applications_are_served_while_the_database_is_away() {
    let server = Postgres::start(ServerOptions::default());
    let database = wait(server.create_database());
    let tenants = Tenants::on(&server.url(&database, "postgres"));
    let mut broker = tenants.start();
    broker.expect_errors();
    tenants.create(&[]);
    let mut ws = connected(&broker);
    ws.subscribe("news");
    server.stop(Stop::Immediate);
    broker.http().publish("news", "e", "1");
    ws.expect_data("e", "news", "1");
    broker.ws().quiet();
    assert_eq!(Ws::upgrade(broker.address(), "/app/nobody?protocol=7", &[]).event().json["data"]["code"], 4001);
    server.launch();
    tenants.ok(&["disable", APP.id]);
    ws.refused(4003);
}

#[test]
fn applications_of_the_file_live_beside_those_of_the_table_and_win() {
    let mut tenants = Tenants::on("sqlite");
    tenants.create(&["limits.max_batch=1"]);
    tenants.more = crate::support::one_app("client_events = true");
    let why = tenants.refused(1, &["create", APP.id]);
    assert!(why.contains("the id of application app-id is that of an application in the configuration"), "{why}");
    let why = tenants.refused(1, &["create", "--key", APP.key]);
    assert!(why.contains("the key of application"), "{why}");
    tenants.ok(&["create", "shop", "--key", "shop-key"]);
    let mut broker = tenants.start();
    broker.expect_errors();
    assert!(broker.log_text().contains("has the same id, and wins"));
    let mut ws = broker.ws();
    ws.subscribe("private-room");
    assert_eq!(whisper(&mut ws, "client-x"), None);
    Ws::open_at(broker.address(), "/app/shop-key?protocol=7", &[]).quiet();
    assert!(tenants.ok(&["list"]).contains("in the configuration, which wins"));
    tenants.ok(&["delete", APP.id, "--force"]);
    tenants.ok(&["delete", "shop", "--force"]);
    until("the table's is gone", || Ws::upgrade(broker.address(), "/app/shop-key?protocol=7", &[]).event().json["data"]["code"] == 4001);
    assert_eq!(whisper(&mut ws, "client-x"), None, "the file's stays");
}

#[test]
fn what_the_commands_refuse_they_name() {
    for tenants in Tenants::both() {
        let made = tenants.json(&["create"]).remove(0);
        assert!(made["id"].as_str().unwrap().len() == 8 && made["key"].as_str().unwrap().len() == 20, "{made}");
        assert_eq!(made["secret"].as_str().unwrap().len(), 40);
        for (args, expected) in [
            (
                &["create", "shop", "--set", "limits.max_batch=0"][..],
                "--set: limits.max_batch: 0 is out of range: at least 1, at most 10000",
            ),
            (&["create", "shop", "--set", "client_event=true"], r#"--set: unknown key "client_event"; did you mean "client_events"?"#),
            (&["create", "shop", "--set", "secret=x"], "a command or a flag of its own"),
            (&["create", "a/b"], r#"apps[a/b].id: must not contain '/'"#),
            (&["update", made["id"].as_str().unwrap(), "--unset", "watchlists"], r#"unknown key "watchlists""#),
        ] {
            let why = tenants.refused(2, args);
            assert!(why.contains(expected), "{args:?}: {why}");
        }
        let file = tenants.directory.path().join("app.toml");
        std::fs::write(&file, "client_events = true\n\n[limits]\nmax_batch = 99999\n").unwrap();
        let why = tenants.refused(2, &["create", "shop", "--file", file.to_str().unwrap()]);
        assert!(why.contains("app.toml:4: limits.max_batch: 99999 is out of range"), "{why}");
        std::fs::write(&file, "id = \"shop\"\nkey = \"k\"\nclient_events = true\n[limits]\nmax_batch = 9\n").unwrap();
        tenants.ok(&["create", "--file", file.to_str().unwrap(), "--set", "watchlist=false", "--disabled"]);
        let shown = tenants.json(&["show", "shop"]).remove(0);
        assert_eq!((&shown["enabled"], &shown["key"]), (&json!(false), &json!("k")));
        let settings = &shown["settings"];
        assert_eq!(
            (&settings["client_events"], &settings["limits"]["max_batch"], &settings["watchlist"]),
            (&json!(true), &json!(9), &json!(false))
        );
        assert!(tenants.refused(1, &["create", "shop"]).contains("there is an application shop already"));
        assert!(tenants.refused(1, &["create", "blog", "--key", "k"]).contains("the key k is that of another application"));
        for args in
            [&["show", "nobody"][..], &["update", "nobody"], &["disable", "nobody"], &["delete", "nobody"], &["rotate-secret", "nobody"]]
        {
            assert!(tenants.refused(1, args).contains("there is no application nobody in the table"), "{args:?}");
        }
        assert_eq!(tenants.run(&["rotate-secret", "shop", "--keep-old", "31d"]).code, 2);
        assert!(tenants.refused(2, &["update", "shop", "--set", "max_connections=-1"]).contains("max_connections"));
        assert_eq!(tenants.json(&["list"]).len(), 2);
    }
}

#[test]
fn the_applications_of_soketi_are_taken_over() {
    let tenants = Tenants::postgres();
    let (theirs, _) = wait(postgres::fresh_database());
    wait(postgres::run(&theirs, SOKETI.to_owned()));
    let dry = ["import", "soketi", "--dry-run", &theirs];
    let before = tenants.run(&dry);
    assert!(before.stderr.contains("no Holdline schema"), "a dry run makes nothing: {}", before.said());
    let broker = tenants.start();
    let ended = tenants.run(&[&dry[..], &["--json"]].concat());
    let planned: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes = |told: &[Value]| told.iter().map(|app| format!("{} {}", app["id"], app["outcome"])).collect::<Vec<_>>();
    assert_eq!(outcomes(&planned), [r#""app-id" "would be created""#, r#""bad id" "refused""#, r#""old" "would be created""#]);
    assert!(!ended.said().contains(APP.secret) && !ended.said().contains("hook-token"), "{}", ended.said());
    assert!(tenants.json(&["list"]).is_empty());

    let ended = tenants.run(&["import", "soketi", &theirs]);
    assert_eq!(ended.code, 1, "one was refused: {}", ended.said());
    assert!(ended.stdout.contains("max_presence_members_per_channel is no limit: the largest that there is here"), "{}", ended.stdout);
    assert!(ended.stdout.contains("webhooks[1] calls an AWS Lambda function"), "{}", ended.stdout);
    let mut ws = connected(&broker);
    ws.subscribe("private-room");
    assert_eq!(whisper(&mut ws, "client-x"), None);
    until("the other is known, and disabled", || {
        Ws::upgrade(broker.address(), "/app/old-key?protocol=7", &[]).event().json["data"]["code"] == 4003
    });
    let shown = tenants.json(&["show", APP.id]).remove(0);
    let settings = &shown["settings"];
    assert_eq!((&settings["max_connections"], &settings["limits"]["max_batch"]), (&json!(100), &json!(5)));
    assert_eq!(settings["limits"]["max_event_bytes"], "20KiB");
    assert_eq!(settings["webhooks"][0]["url"], "https://hooks.example/in");
    let again = tenants.run(&["import", "soketi", "--json", &theirs]);
    assert!(again.stdout.contains(r#""outcome":"unchanged""#), "{}", again.said());
}

/// As soketi's migration for PostgreSQL makes it.
const SOKETI: &str = r#"
CREATE TABLE IF NOT EXISTS apps (
    id varchar(255) PRIMARY KEY, "key" varchar(255) NOT NULL, secret varchar(255) NOT NULL, max_connections integer NOT NULL,
    enable_client_messages smallint NOT NULL, "enabled" smallint NOT NULL, max_backend_events_per_sec integer NOT NULL,
    max_client_events_per_sec integer NOT NULL, max_read_req_per_sec integer NOT NULL,
    max_presence_members_per_channel integer DEFAULT NULL, max_presence_member_size_in_kb integer DEFAULT NULL,
    max_channel_name_length integer DEFAULT NULL, max_event_channels_at_once integer DEFAULT NULL,
    max_event_name_length integer DEFAULT NULL, max_event_payload_in_kb integer DEFAULT NULL,
    max_event_batch_size integer DEFAULT NULL, webhooks json, enable_user_authentication smallint NOT NULL);
INSERT INTO apps (id, "key", secret, max_connections, enable_client_messages, "enabled", max_backend_events_per_sec,
    max_client_events_per_sec, max_read_req_per_sec, max_presence_members_per_channel, max_event_payload_in_kb, max_event_batch_size,
    webhooks, enable_user_authentication)
VALUES ('app-id', 'app-key', 'app-secret', 100, 1, 1, -1, 100, -1, -1, 20, 5,
        '[{"url": "https://hooks.example/in", "event_types": ["channel_occupied"], "headers": {"X-Token": "hook-token"}},
          {"lambda_function": "f", "event_types": ["channel_occupied"]}]', 1),
       ('old', 'old-key', 's', -1, 0, 0, -1, -1, -1, NULL, NULL, NULL, NULL, 0),
       ('bad id', 'bad-key', 's', -1, 0, 1, -1, -1, -1, NULL, NULL, NULL, NULL, 0);
"#;
