//! A configuration that cannot be right stops the start with an error that names file, key and reason.

use std::path::Path;

use crate::support::{one_app, run_to_end};

/// Writes `text` as bad.toml and demands that both `config check` and `serve` refuse it, naming the file and each of `named`.
pub(crate) fn refused(text: &str, named: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), text).unwrap();
    for args in [["config", "check", "--config", "bad.toml"].as_slice(), &["serve", "--config", "bad.toml", "--port", "0"]] {
        let ended = run_to_end(directory.path(), args, &[]);
        let (code, said) = (ended.code, ended.said());
        assert!(matches!(code, 1 | 2), "{args:?} ended with {code} for:\n{text}\nand said: {said}");
        assert!(said.contains("bad.toml"), "the file is named: {said}");
        for word in named {
            assert!(said.contains(word), "`{word}` is named for:\n{text}\nsaid: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        assert!(!said.contains("Listening on"), "{said}");
        assert!(!said.contains("app-secret"), "the secret is repeated: {said}");
    }
}

pub(crate) fn accepted(text: &str) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("good.toml"), text).unwrap();
    let ended = run_to_end(directory.path(), &["config", "check", "--config", "good.toml"], &[]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0, "{said}");
    let line = ended.stdout.trim_end();
    assert!(line.lines().count() == 1 && line.contains("is valid"), "{said}");
}

#[test]
fn a_valid_file_is_one_line_and_exit_0() {
    accepted(&one_app("client_events = true"));
    accepted("");
    accepted("[server]\nport = 0\n[log]\nlevel = \"holdline=debug\"\nformat = \"json\"\n");
    accepted("[server]\nmax_message_size = 65536\nmax_request_size = \"2 MiB\"\nactivity_timeout = \"2m\"\n");
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    refused("[server]\nprot = 1\n", &["prot"]);
    refused("[sever]\nport = 1\n", &["sever"]);
    refused("port = 6001\n", &["port"]);
    refused("[drain]\ngraze = \"1s\"\n", &["graze"]);
    refused("[log]\nlvl = \"info\"\n", &["lvl"]);
    refused("[heartbeat]\npairs = []\n", &["pairs"]);
    refused(&one_app("client_event = true"), &["client_event"]);
    refused(&one_app("[apps.limits]\nmax_batches = 1"), &["max_batches"]);
    refused("[redis]\nurl = \"redis://127.0.0.1\"\n", &["redis"]);
}

#[test]
fn a_bad_value_is_an_error_that_names_its_key() {
    for (section, key, values) in [
        ("server", "port", ["70000", "-1", "\"http\"", "1.5"].as_slice()),
        ("server", "activity_timeout", &["\"soon\"", "\"0s\"", "-5", "true"]),
        ("server", "ping_interval", &["\"25 parsecs\"", "\"-1s\"", "[]"]),
        ("server", "max_message_size", &["\"64 Kilograms\"", "-1", "\"\""]),
        ("server", "strict_protocol", &["\"yes\"", "1"]),
        ("server", "max_connections", &["\"many\"", "-1"]),
        ("server", "host", &["7"]),
        ("drain", "grace", &["\"forever\""]),
        ("log", "format", &["\"xml\"", "1"]),
        ("heartbeat", "raw_pairs", &["[\"a\"]", "[[\"a\"]]", "[[\"a\", \"b\", \"c\"]]", "\"a\""]),
    ] {
        for value in values {
            refused(&format!("[{section}]\n{key} = {value}\n"), &[key]);
        }
    }
}

#[test]
fn a_bad_value_of_an_app_is_an_error_that_names_its_key() {
    for (key, values) in [
        ("handshake_auth", ["\"maybe\"", "true"].as_slice()),
        ("quota_close_code", &["4001", "4200", "\"4004\""]),
        ("allowed_origins", &["\"https://shop.example\"", "[7]"]),
        ("client_events", &["\"yes\""]),
        ("authorization_timeout", &["\"later\"", "5.5"]),
        ("max_connections", &["-1"]),
    ] {
        for value in values {
            refused(&one_app(&format!("{key} = {value}")), &[key]);
        }
    }
    for (key, value) in
        [("max_batch", "-1"), ("cache_ttl", "\"x\""), ("max_event_bytes", "\"10 stones\""), ("client_events_per_second", "\"fast\"")]
    {
        refused(&one_app(&format!("[apps.limits]\n{key} = {value}")), &[key]);
    }
}

#[test]
fn an_app_needs_id_key_and_secret_and_they_must_be_its_own() {
    refused("[[apps]]\nkey = \"k\"\nsecret = \"s\"\n", &["id"]);
    refused("[[apps]]\nid = \"i\"\nsecret = \"s\"\n", &["key"]);
    refused("[[apps]]\nid = \"i\"\nkey = \"k\"\n", &["secret"]);
    refused("[[apps]]\nid = \"i\"\nkey = \"k\"\nsecret = \"\"\n", &["secret"]);
    refused(&(one_app("") + "[[apps]]\nid = \"app-id\"\nkey = \"k2\"\nsecret = \"s\"\n"), &["app-id"]);
    refused(&(one_app("") + "[[apps]]\nid = \"i2\"\nkey = \"app-key\"\nsecret = \"s\"\n"), &["app-key"]);
}

#[test]
fn text_that_is_not_toml_is_an_error_that_names_the_line() {
    refused("[server\nport = 1\n", &["1"]);
    refused("[server]\nport = 1\nport = 2\n", &["3"]);
    refused("{\"server\": {}}", &[]);
}

#[test]
fn an_unreadable_file_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("a-directory")).unwrap();
    std::fs::write(directory.path().join("latin1.toml"), b"[log]\nlevel = \"\xe9\"\n").unwrap();
    for file in ["missing.toml", "a-directory", "latin1.toml"] {
        for args in [
            ["config", "check", "--config", file].as_slice(),
            &["config", "print", "--config", file],
            &["serve", "--config", file],
            &["--config", file],
        ] {
            refused_with(directory.path(), args, &[], file);
        }
        refused_with(directory.path(), &["serve"], &[("HOLDLINE_CONFIG", file)], file);
    }
}

fn refused_with(directory: &Path, args: &[&str], env: &[(&str, &str)], named: &str) {
    let ended = run_to_end(directory, args, env);
    let (code, said) = (ended.code, ended.said());
    assert!(matches!(code, 1 | 2), "{args:?} {env:?} ended with {code}: {said}");
    assert!(said.contains(named) && !said.contains("panicked"), "`{named}` is named by {args:?} {env:?}: {said}");
}

#[test]
fn an_unknown_or_bad_environment_variable_stops_the_start_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("HOLDLINE_SERVER__PROT", "7001"),
        ("HOLDLINE_SEVER__PORT", "7001"),
        ("HOLDLINE_PORT", "7001"),
        ("HOLDLINE_NONSENSE", "1"),
        ("HOLDLINE_SERVER__PORT", "http"),
        ("HOLDLINE_SERVER__PING_INTERVAL", "soon"),
        ("HOLDLINE_SERVER__STRICT_PROTOCOL", "perhaps"),
        ("HOLDLINE_HEARTBEAT__RAW_PAIRS", "~H#C~"),
        ("PORT", "http"),
    ] {
        for args in [["serve"].as_slice(), &["config", "check"]] {
            refused_with(directory.path(), args, &[(name, value)], name);
        }
    }
}

#[test]
fn a_flag_that_does_not_exist_or_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for args in [
        ["serve", "--prot", "1"].as_slice(),
        &["serve", "--port", "http"],
        &["serve", "--log-format", "xml"],
        &["nonsense"],
        &["config"],
        &["config", "nonsense"],
    ] {
        let ended = run_to_end(directory.path(), args, &[]);
        let (code, said) = (ended.code, ended.said());
        assert!(code != 0 && !said.contains("panicked"), "{args:?}: {code} {said}");
    }
}

#[test]
fn a_taken_port_or_an_impossible_host_is_reported_and_not_retried_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused_with(directory.path(), &["serve", "--port", &port], &[], &port);
    refused_with(directory.path(), &["serve", "--port", "0", "--host", "not an address"], &[], "host");
}

#[test]
fn the_shipped_configuration_file_is_valid() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/holdline.toml");
    let directory = tempfile::tempdir().unwrap();
    let ended = run_to_end(directory.path(), &["config", "check", "--config", file], &[]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0, "{said}");
}
