mod locks;
mod webhooks;

use std::{fs, path::Path, time::Duration};

use super::*;
use crate::config::{HoldSettings, ListenerKind, ListenerSettings, StoreKind, WebhookEndpointSettings, section::Section};

const TRIO: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s3cret\"\n";

/// Loads a file with this text and this environment.
fn loaded(text: &str, env: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    fs::write(&path, text).unwrap();
    let options = Options {
        file: Some(path),
        default_file: None,
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags.iter().map(|(flag, key, value)| Override { flag, key, value: (*value).to_owned() }).collect(),
    };
    let directory = format!("{}/", directory.path().display());
    load(options).map_err(|error| error.to_string().replace(&directory, ""))
}

fn refusal(text: &str) -> String {
    loaded(text, &[], &[]).expect_err(text)
}

fn with_env(env: &[(&str, &str)]) -> Result<Loaded, String> {
    loaded("", env, &[])
}

fn origin(loaded: &Loaded, key: &str) -> String {
    loaded.origins.of(key).to_string().rsplit('/').next().unwrap_or_default().to_owned()
}

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap()
}

#[test]
fn nothing_given_is_the_default() {
    let loaded = load(Options::default()).unwrap();
    assert_eq!((loaded.settings, loaded.file), (Settings::default(), None));
}

#[test]
fn the_shipped_file_has_every_key_with_its_default_and_a_comment() {
    let text = shipped("holdline.toml");
    let loaded = loaded(&text, &[], &[]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    let below = |list: &str, keys: Vec<String>| keys.into_iter().map(|key| format!("{list}.{key}")).collect::<Vec<_>>();
    let rule = below("apps[0].holds[0]", HoldSettings::keys());
    for key in Settings::keys().into_iter().chain(below("apps[0]", AppSettings::keys())).chain(rule) {
        assert_eq!(origin(&loaded, &key), "test.toml", "{key} is missing");
    }
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        assert!(!pair[1].contains(" = ") || pair[1].starts_with('#') || pair[0].starts_with('#'), "no comment: {}", pair[1]);
    }
}

#[test]
fn the_shipped_file_has_listeners_and_webhooks_in_comments_with_every_key_and_its_default() {
    let commented = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let text = shipped("holdline.toml");
    let used: String = text.lines().map(|line| if commented(&line) { &line[1..] } else { line }).map(|line| format!("{line}\n")).collect();
    let used = used.replace("url = \"sqlite\"", "url = \"postgres://127.0.0.1/holdline\"");
    let loaded = loaded(&used, &[], &[]).unwrap();
    let listeners = &loaded.settings.listeners;
    assert_eq!(listeners.iter().map(|listener| listener.kind).collect::<Vec<_>>(), ListenerKind::ALL);
    for key in ListenerSettings::keys() {
        let given = (0..listeners.len()).find(|i| origin(&loaded, &format!("listeners[{i}].{key}")) == "test.toml");
        let given = given.unwrap_or_else(|| panic!("{key} is missing"));
        let value = |settings: &ListenerSettings| settings.values().into_iter().find(|(name, _)| *name == key);
        // Those without a usable default show an example.
        let is_example = ["name", "kind", "url", "channel"].contains(&key.as_str());
        assert!(is_example || value(&listeners[given]) == value(&ListenerSettings::default()), "{key} is not its default");
    }
    for key in WebhookEndpointSettings::keys() {
        assert_eq!(origin(&loaded, &format!("apps[0].webhooks[0].{key}")), "test.toml", "{key} is missing");
    }
    let [endpoint] = &loaded.settings.apps[0].webhooks[..] else { panic!("one endpoint") };
    assert_eq!(*endpoint, WebhookEndpointSettings { url: endpoint.url.clone(), ..WebhookEndpointSettings::default() });
}

#[test]
fn the_production_file_starts_only_with_an_identity() {
    let text = shipped("production.toml");
    assert!(refusal(&text).ends_with("apps[0].id: must not be empty"), "{}", refusal(&text));
    let filled = text.replacen("id = \"\"", "id = \"shop\"", 1).replacen("key = \"\"", "key = \"k\"", 1).replacen(
        "secret = \"\"",
        "secret = \"s\"",
        1,
    );
    let settings = loaded(&filled, &[], &[]).unwrap().settings;
    assert!(!settings.is_development());
    assert_eq!((settings.store.kind(), settings.apps[0].holds.len()), (StoreKind::Postgres, 1));
}

#[test]
fn flags_win_over_variables_over_the_file_over_aliases_over_defaults() {
    let port = |text: &str, env: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]| {
        let loaded = loaded(text, env, flags).unwrap();
        (loaded.settings.server.port, origin(&loaded, "server.port"))
    };
    let alias = ("PORT", "1");
    let variable = ("HOLDLINE_SERVER__PORT", "3");
    let file = "[server]\nport = 2\n";
    assert_eq!(port("", &[], &[]), (6001, "default".to_owned()));
    assert_eq!(port("", &[alias], &[]), (1, "PORT".to_owned()));
    assert_eq!(port(file, &[alias], &[]), (2, "test.toml".to_owned()));
    assert_eq!(port(file, &[alias, variable], &[]), (3, "HOLDLINE_SERVER__PORT".to_owned()));
    assert_eq!(port(file, &[alias, variable], &[("--port", "server.port", "4")]), (4, "--port".to_owned()));
}

#[test]
fn an_error_names_file_line_key_and_reason() {
    assert_eq!(
        refusal("[server]\nhost = \"::1\"\nport = 70000\n"),
        "test.toml:3: server.port: 70000 is out of range: at least 0, at most 65535"
    );
    assert_eq!(
        refusal("[server]\nping_interval = \"99ms\"\n"),
        "test.toml:2: server.ping_interval: 99ms is out of range: at least 100ms, at most 3600s"
    );
    assert_eq!(refusal("[server]\nport = \"x\"\n"), "test.toml:2: server.port: expected a whole number, found a string");
    assert_eq!(refusal("server = 5\n"), "test.toml:1: server: expected a table, found a whole number");
    assert_eq!(refusal("[log]\nformat = \"xml\"\n"), "test.toml:2: log.format: expected one of auto, pretty, json, found \"xml\"");
    assert!(refusal("[server\n").starts_with("test.toml:1:8: not valid TOML: "), "{}", refusal("[server\n"));
    assert_eq!(
        with_env(&[("HOLDLINE_DRAIN__GRACE", "long")]).unwrap_err(),
        r#"HOLDLINE_DRAIN__GRACE: drain.grace: expected a time such as "25s" or "500ms", found "long""#
    );
    assert_eq!(
        loaded("", &[], &[("--log-level", "log.level", "inof")]).unwrap_err(),
        r#"--log-level: log.level: expected off, error, warn, info, debug, trace, or a filter such as "info,holdline=debug", found "inof""#
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    assert_eq!(refusal("[server]\nprot = 1\n"), r#"test.toml:2: unknown key "server.prot"; did you mean "server.port"?"#);
    assert_eq!(refusal("port = 1\n"), r#"test.toml:1: unknown key "port"; did you mean "server.port"?"#);
    assert_eq!(refusal("[sever]\nport = 1\n"), r#"test.toml:1: unknown key "sever"; did you mean "server"?"#);
    assert_eq!(refusal("[app]\nid = 1\n"), r#"test.toml:1: unknown key "app"; did you mean "apps"?"#);
    assert_eq!(
        refusal(&format!("{TRIO}max_batch = 1\n")),
        r#"test.toml:5: unknown key "apps[0].max_batch"; did you mean "apps[0].limits.max_batch"?"#
    );
    assert!(refusal("frobnicate = 1\n").ends_with(r#"unknown key "frobnicate""#));
    assert!(refusal("\"server.port\" = 1\n").contains("unknown key"));
    assert!(refusal("[redis]\nurl = \"x\"\n").contains("not built yet"));
}

#[test]
fn applications_need_an_identity_each_and_their_own() {
    assert_eq!(refusal("[[apps]]\nid = \"a\"\nkey = \"k\"\n"), "test.toml:1: apps[0].secret: is required");
    assert_eq!(refusal(&format!("{TRIO}{TRIO}")), r#"test.toml:6: apps[1].id: "a" is already taken by apps[0].id"#);
    assert_eq!(refusal("[apps]\nid = \"a\"\n"), "test.toml:1: apps: expected a list of tables, each under [[apps]], found a table");
    assert!(refusal("[[apps]]\nsecret = 5\n").ends_with("apps[0].secret: expected a string, found a whole number"));
    let settings = loaded(TRIO, &[], &[]).unwrap().settings;
    assert_eq!(settings.apps, [AppSettings::new("a", "k", "s3cret")]);
    assert!(!settings.is_development());
    assert_eq!(loaded("apps = []\n", &[], &[]).unwrap().settings, Settings::default());
}

#[test]
fn one_application_can_stand_in_variables() {
    let trio = [("HOLDLINE_APP__ID", "a"), ("HOLDLINE_APP__KEY", "k"), ("HOLDLINE_APP__SECRET", "s")];
    let app = |more: &[(&str, &str)]| with_env(&[&trio[..], more].concat()).unwrap().settings.apps.remove(0);
    assert_eq!(app(&[]), AppSettings::new("a", "k", "s"));
    assert_eq!(app(&[("HOLDLINE_APP__LIMITS__MAX_BATCH", "3")]).limits.max_batch, 3);
    assert!(app(&[("HOLDLINE_APP__CLIENT_EVENTS", "true")]).client_events);
    let tuned = with_env(&[("HOLDLINE_APP__MAX_CONNECTIONS", "2")]).unwrap().settings;
    assert!(tuned.is_development() && tuned.apps[0].max_connections == 2);
    assert_eq!(
        with_env(&trio[..2]).unwrap_err(),
        "HOLDLINE_APP__ID names the application, but HOLDLINE_APP__SECRET is not set: id, key and secret are needed together"
    );
    assert!(loaded(TRIO, &trio, &[]).unwrap_err().starts_with("HOLDLINE_APP__ID: describes the one default application, but test.toml"));
}

#[test]
fn the_whole_list_can_stand_in_a_variable() {
    let json = r#"[{"id": "x", "key": "y", "secret": "z", "limits": {"max_batch": 2}}]"#;
    let loaded = loaded(TRIO, &[("HOLDLINE_APPS", json)], &[]).unwrap();
    assert_eq!((loaded.settings.apps[0].id.as_str(), loaded.settings.apps[0].limits.max_batch), ("x", 2));
    assert_eq!(origin(&loaded, "apps[0].limits.max_batch"), "HOLDLINE_APPS");
    let unused = self::loaded("[[apps]]\nidd = 1\n", &[("HOLDLINE_APPS", json)], &[]);
    assert!(unused.unwrap_err().contains("unknown key"), "the file is checked all the same");
    let broken = with_env(&[("HOLDLINE_APPS", r#"[{"secret": "s3cret"#)]).unwrap_err();
    assert!(broken.starts_with("HOLDLINE_APPS: apps: expected") && !broken.contains("s3cret"), "{broken}");
}

#[test]
fn the_variables_of_other_brokers_describe_the_one_application() {
    let pusher = [("PUSHER_APP_ID", "1"), ("PUSHER_APP_KEY", "2"), ("PUSHER_APP_SECRET", "3")];
    let reverb = [("REVERB_APP_ID", "4"), ("REVERB_APP_KEY", "5"), ("REVERB_APP_SECRET", "6")];
    let loaded_both = with_env(&[&pusher[..], &reverb[..]].concat()).unwrap();
    assert_eq!(loaded_both.settings.apps, [AppSettings::new("1", "2", "3")]);
    assert_eq!(origin(&loaded_both, "apps[0].secret"), "PUSHER_APP_SECRET");
    assert_eq!(with_env(&[("POXA_APP_ID", "a"), ("POXA_APP_KEY", "b"), ("POXA_SECRET", "c")]).unwrap().settings.apps[0].key, "b");
    assert_eq!(
        with_env(&[&pusher[..2], &reverb[..]].concat()).unwrap_err(),
        "PUSHER_APP_ID names the application, but PUSHER_APP_SECRET is not set: id, key and secret are needed together"
    );
    let ours_first = with_env(&[&pusher[..], &[("HOLDLINE_APP__KEY", "own")]].concat()).unwrap();
    assert_eq!(ours_first.settings.apps[0].key, "own");
    assert_eq!(loaded(TRIO, &pusher, &[]).unwrap().settings.apps[0].id, "a", "the file's applications win");
    let empty = [("PUSHER_APP_ID", ""), ("PUSHER_APP_KEY", "")];
    assert_eq!(with_env(&empty).unwrap().settings, Settings::default());
}

#[test]
fn the_other_aliases_mean_our_keys() {
    let settings = |name: &str, value: &str| with_env(&[(name, value)]).map(|loaded| loaded.settings);
    let app = |name: &str, value: &str| settings(name, value).map(|mut settings| settings.apps.remove(0));
    assert_eq!(settings("SOKETI_PATH_PREFIX", "ws/").unwrap().server.path_prefix, "/ws");
    assert_eq!(settings("REVERB_SERVER_PATH", "/").unwrap().server.path_prefix, "");
    assert_eq!(settings("REVERB_SERVER_HOST", "0.0.0.0").unwrap().server.host, "0.0.0.0");
    assert_eq!(settings("REVERB_APP_PING_INTERVAL", "60").unwrap().server.ping_interval, Duration::from_secs(60));
    assert_eq!(settings("SOKETI_SHUTDOWN_GRACE_PERIOD", "3000").unwrap().drain.grace, Duration::from_secs(3));
    assert_eq!(settings("REVERB_APP_MAX_MESSAGE_SIZE", "10000").unwrap().server.max_message_size, 10_000);
    assert_eq!(app("SOKETI_EVENT_MAX_SIZE_IN_KB", "100").unwrap().limits.max_event_bytes, 102_400);
    assert_eq!(app("SOKETI_PRESENCE_MAX_MEMBER_SIZE", "0.5").unwrap().limits.max_user_info_bytes, 512);
    assert_eq!(app("SOKETI_DEFAULT_APP_MAX_CONNECTIONS", "-1").unwrap().max_connections, 0);
    assert_eq!(app("SOKETI_DEFAULT_APP_MAX_CONNS", "500").unwrap().max_connections, 500);
    assert!(!app("SOKETI_DEFAULT_APP_ENABLED", "false").unwrap().enabled);
    assert_eq!(app("SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", "90").unwrap().limits.publishes_per_second, 90);
    assert_eq!(app("SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "-1").unwrap().limits.client_events_per_second, 0);
    assert_eq!(app("SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", "-1").unwrap().limits.reads_per_second, 0);
    assert_eq!(app("SOKETI_EVENT_MAX_NAME_LENGTH", "50").unwrap().limits.max_event_name, 50);
    assert_eq!(app("SOKETI_CHANNEL_CACHE_TTL", "3600").unwrap().limits.cache_ttl, Duration::from_secs(3600));
    assert!(app("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "all").unwrap().client_events);
    assert!(!app("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "none").unwrap().client_events);
    assert!(settings("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "some").unwrap_err().starts_with("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM: "));
    assert!(settings("PORT", "many").unwrap_err().starts_with("PORT: server.port: expected a whole number"));
    let first_wins = with_env(&[("PORT", "1"), ("SOKETI_PORT", "2")]).unwrap();
    assert_eq!((first_wins.settings.server.port, origin(&first_wins, "server.port")), (2, "SOKETI_PORT".to_owned()));
    for alias in aliases::SERVER {
        assert!(Settings::keys().contains(&alias.key.to_owned()), "{}", alias.variable);
    }
    for alias in aliases::APP {
        let is_list = AppSettings::list_names().contains(&alias.key);
        assert!(is_list || AppSettings::keys().contains(&alias.key.to_owned()), "{}", alias.variable);
    }
}

#[test]
fn an_alias_that_does_not_count_is_not_read() {
    let settings = loaded("[server]\nport = 7\n", &[("PORT", "nonsense")], &[]).unwrap().settings;
    assert_eq!(settings.server.port, 7);
}

#[test]
fn the_variable_for_the_file_loses_to_the_flag_and_a_named_file_must_exist() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, port: u16| {
        let path = directory.path().join(name);
        fs::write(&path, format!("[server]\nport = {port}\n")).unwrap();
        path
    };
    let (flag, variable, default) = (write("flag.toml", 1), write("variable.toml", 2), write("default.toml", 3));
    let env = vec![("HOLDLINE_CONFIG".to_owned(), variable.display().to_string())];
    let port = |file: Option<PathBuf>, env: &[(String, String)]| {
        load(Options { file, default_file: Some(default.clone()), env: env.to_vec(), flags: Vec::new() })
            .map(|loaded| loaded.settings.server.port)
    };
    assert_eq!(port(Some(flag), &env).unwrap(), 1);
    assert_eq!(port(None, &env).unwrap(), 2);
    assert_eq!(port(None, &[]).unwrap(), 3);
    assert!(port(Some(directory.path().join("none.toml")), &[]).is_err());
}

#[test]
fn what_is_printed_is_a_configuration_with_origins_and_without_secrets() {
    let text = format!(
        "{TRIO}allowed_origins = [\"*.shop.example\"]\n[[apps]]\nid = \"b\"\nkey = \"l\"\nsecret = \"other\"\n[apps.limits]\nmax_batch = 3\n"
    );
    let loaded = loaded(&text, &[("HOLDLINE_SERVER__PORT", "7001"), ("SOKETI_HOST", "::1")], &[]).unwrap();
    let printed = loaded.to_toml();
    assert!(!printed.contains("s3cret") && !printed.contains("other"), "{printed}");
    let line = |start: &str| printed.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {printed}"));
    assert!(line("port = 7001").ends_with("# HOLDLINE_SERVER__PORT"));
    assert!(line("host = \"::1\"").ends_with("# SOKETI_HOST"));
    assert!(line("max_batch = 3").ends_with("test.toml"));
    assert!(line("ping_interval = \"25s\"").ends_with("# default"));
    let again = self::loaded(&printed.replace("<redacted>", "x"), &[], &[]).unwrap().settings;
    assert_eq!((again.server, again.apps.len()), (loaded.settings.server, 2));
    assert!(self::loaded(&printed, &[], &[]).unwrap_err().ends_with("expected the secret itself, not its redacted form"));
}
