//! Where values come from: flags before environment before file before defaults, the aliases, and what `config print` says of it.

use std::path::Path;

use toml::{Table, Value};

use crate::support::{Broker, Launch, Ws, one_app, run_to_end, until};

/// `config print` as text; it must be TOML.
fn print(directory: &Path, args: &[&str], env: &[(&str, &str)]) -> (String, Table) {
    let ended = run_to_end(directory, &[&["config", "print"], args].concat(), env);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0, "{said}");
    let text = ended.stdout;
    let table = text.parse::<Table>().unwrap_or_else(|error| panic!("{error}\n{text}"));
    (text, table)
}

fn line_of<'a>(text: &'a str, key: &str) -> &'a str {
    let starts = |line: &&str| line.trim_start().split('=').next().is_some_and(|found| found.trim() == key);
    text.lines().find(starts).unwrap_or_else(|| panic!("no line for {key}:\n{text}"))
}

fn file(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("holdline.toml"), text).unwrap();
    directory
}

#[test]
fn without_any_configuration_the_defaults_of_the_contract_hold() {
    let directory = tempfile::tempdir().unwrap();
    let (text, table) = print(directory.path(), &[], &[]);
    let server = table["server"].as_table().unwrap();
    for (key, value) in [
        ("host", Value::from("127.0.0.1")),
        ("port", Value::from(6001)),
        ("path_prefix", Value::from("")),
        ("max_connections", Value::from(0)),
        ("strict_protocol", Value::from(false)),
    ] {
        assert_eq!(server[key], value, "{key}");
        assert!(line_of(&text, key).contains("default") || text.contains("default"), "{text}");
    }
    let app = table["apps"][0].as_table().unwrap();
    assert_eq!((app["id"].as_str(), app["key"].as_str()), (Some("app-id"), Some("app-key")));
    for key in ["client_events", "user_authentication", "watchlist"] {
        assert_eq!(app[key], Value::from(true), "{key} of the development app");
    }
}

#[test]
fn secrets_are_redacted() {
    let directory = file(&one_app("").replace("app-secret", "very-confidential"));
    let (text, table) = print(directory.path(), &[], &[]);
    assert_eq!(table["apps"][0]["secret"].as_str(), Some("<redacted>"));
    assert!(!text.contains("very-confidential"));
    let (text, _) = print(directory.path(), &[], &[("PUSHER_APP_SECRET", "also-confidential")]);
    assert!(!text.contains("confidential"));
}

#[test]
fn each_value_says_where_it_came_from() {
    let directory = file("[server]\nport = 7002\nping_interval = \"20s\"\n[log]\nlevel = \"warn\"\n");
    let (text, table) = print(directory.path(), &[], &[("HOLDLINE_SERVER__PORT", "7003")]);
    assert_eq!(table["server"]["port"], Value::from(7003));
    assert!(line_of(&text, "port").contains("HOLDLINE_SERVER__PORT"), "{}", line_of(&text, "port"));
    assert!(line_of(&text, "ping_interval").contains("holdline.toml"), "{}", line_of(&text, "ping_interval"));
    assert!(line_of(&text, "pong_timeout").contains("default"), "{}", line_of(&text, "pong_timeout"));
    let (text, table) = print(tempfile::tempdir().unwrap().path(), &[], &[("PORT", "7004")]);
    assert_eq!(table["server"]["port"], Value::from(7004), "PORT is honoured");
    assert!(line_of(&text, "port").contains("PORT"));
}

#[test]
fn the_environment_can_set_every_kind_of_value() {
    let directory = tempfile::tempdir().unwrap();
    let env = [
        ("HOLDLINE_SERVER__HOST", "127.0.0.2"),
        ("HOLDLINE_SERVER__STRICT_PROTOCOL", "true"),
        ("HOLDLINE_SERVER__MAX_CONNECTIONS", "17"),
        ("HOLDLINE_SERVER__PONG_TIMEOUT", "3s"),
        ("HOLDLINE_SERVER__MAX_MESSAGE_SIZE", "32KiB"),
        ("HOLDLINE_LOG__LEVEL", "debug"),
        ("HOLDLINE_HEARTBEAT__RAW_PAIRS", r#"[["ping","pong"]]"#),
    ];
    let (_, table) = print(directory.path(), &[], &env);
    let server = table["server"].as_table().unwrap();
    assert_eq!(
        (&server["host"], &server["strict_protocol"], &server["max_connections"]),
        (&Value::from("127.0.0.2"), &Value::from(true), &Value::from(17))
    );
    assert_eq!((server["pong_timeout"].as_str(), table["log"]["level"].as_str()), (Some("3s"), Some("debug")));
    assert_eq!(table["heartbeat"]["raw_pairs"][0][1].as_str(), Some("pong"));
}

#[test]
fn what_is_printed_can_be_read_again() {
    let directory = file(&one_app("client_events = true\nallowed_origins = [\"shop.example\"]\n[apps.limits]\nmax_batch = 7"));
    let (text, table) = print(directory.path(), &[], &[]);
    assert_eq!(table["apps"][0]["limits"]["max_batch"], Value::from(7));
    std::fs::write(directory.path().join("again.toml"), text.replace("<redacted>", "app-secret")).unwrap();
    let (_, again) = print(directory.path(), &["--config", "again.toml"], &[]);
    assert_eq!(table, again);
}

#[test]
fn flags_win_over_the_environment_and_the_file() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = format!("[server]\nport = {port}\n{}", one_app(""));
    let broker = Launch::config(config).env("HOLDLINE_SERVER__PORT", &port.to_string()).arg("--port").arg("0").start();
    assert_ne!(broker.address().port(), port);
    broker.ws().quiet();
}

#[test]
fn the_host_flag_decides_where_it_listens() {
    let broker = Launch::config(one_app("")).arg("--host").arg("127.0.0.2").start();
    assert_eq!(broker.address().ip().to_string(), "127.0.0.2");
    broker.ws().quiet();
}

#[test]
fn the_environment_wins_over_the_file() {
    let broker = Launch::config("[server]\nport = 1\n".to_owned() + &one_app("")).env("HOLDLINE_SERVER__PORT", "0").start();
    broker.ws().quiet();
}

#[test]
fn a_holdline_toml_in_the_working_directory_is_used() {
    let directory = file(&one_app("").replace("app-key", "from-the-file"));
    let (_, table) = print(directory.path(), &[], &[]);
    assert_eq!(table["apps"][0]["key"].as_str(), Some("from-the-file"));
    std::fs::write(directory.path().join("named.toml"), one_app("").replace("app-key", "from-the-variable")).unwrap();
    let (_, table) = print(directory.path(), &[], &[("HOLDLINE_CONFIG", "named.toml")]);
    assert_eq!(table["apps"][0]["key"].as_str(), Some("from-the-variable"));
    let (_, table) = print(directory.path(), &["--config", "holdline.toml"], &[("HOLDLINE_CONFIG", "named.toml")]);
    assert_eq!(table["apps"][0]["key"].as_str(), Some("from-the-file"), "the flag wins");
}

#[test]
fn the_development_app_comes_with_a_warning_and_all_features() {
    let broker = Launch::default().start();
    assert!(broker.address().ip().is_loopback());
    until("it warns", || broker.log_lines().iter().any(|line| line.contains(r#""level":"WARN""#) && line.contains("development")));
    let mut ws = broker.ws();
    ws.signin(r#"{"id":"1","watchlist":["2"]}"#);
    ws.expect("pusher_internal:watchlist_events");
    ws.subscribe("private-x");
    ws.send_text(r#"{"event":"client-x","channel":"private-x"}"#);
    ws.quiet();
}

/// The names that other brokers gave to the same three values.
#[test]
fn the_aliases_of_other_brokers_describe_the_one_default_app() {
    for prefix in ["PUSHER_APP_", "REVERB_APP_", "SOKETI_DEFAULT_APP_"] {
        let names = ["ID", "KEY", "SECRET"].map(|part| format!("{prefix}{part}"));
        let broker = Launch::default().env(&names[0], "7").env(&names[1], "alias-key").env(&names[2], "alias-secret").start();
        Ws::open_at(broker.address(), "/app/alias-key?protocol=7", &[]).quiet();
        Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[]).refused(4001);
        let mut http = broker.http().signing_as(crate::support::App { id: "7", key: "alias-key", secret: "alias-secret" });
        until("the clients have left", || http.connections() == 0);
    }
}

#[test]
fn an_alias_counts_only_when_the_file_names_no_app() {
    let broker: Broker = Launch::config(one_app("")).env("PUSHER_APP_KEY", "alias-key").env("PUSHER_APP_ID", "7").start();
    broker.ws().quiet();
    Ws::upgrade(broker.address(), "/app/alias-key?protocol=7", &[]).refused(4001);
}
