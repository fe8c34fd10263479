//! What the log says and what it must never say.

use serde_json::{Value, json};

use crate::support::{Broker, Launch, Ws, jwt, member, now_seconds, one_app};

/// Uses every part of the protocol that carries something confidential.
fn busy(broker: &Broker) -> Vec<String> {
    let token = jwt("app-secret", "HS256", &json!({ "sub": "confidential-subject", "exp": now_seconds() + 300 }));
    let mut ws = Ws::open_at(broker.address(), &format!("/ctx/{token}/app/app-key?protocol=7&confidential=query-value"), &[]);
    ws.subscribe("private-room");
    ws.join("presence-room", &member("1", Some(r#"{"note":"confidential-info"}"#)));
    ws.signin(r#"{"id":"42","user_info":{"note":"confidential-user"}}"#);
    ws.send_subscribe("private-other", Some("app-key:confidential-auth"), None);
    ws.subscription_error("private-other");
    ws.send(&json!({ "event": "client-x", "channel": "private-room", "data": "confidential-client" }));
    ws.send_text("confidential not json");
    ws.error(4300);
    let mut http = broker.http();
    http.publish("private-room", "e", "confidential-data");
    ws.expect("e");
    http.plain("/apps/app-id/channels?auth_key=app-key&auth_signature=confidential-signature").refused(401);
    ws.send_close(1000);
    ws.closed(1000);
    vec![token, "confidential".to_owned(), "app-secret".to_owned()]
}

#[test]
fn every_line_is_one_json_object_with_the_agreed_fields() {
    let broker = Launch::config(one_app("client_events = true")).arg("--log-level").arg("debug").start();
    busy(&broker);
    for line in broker.log_lines() {
        let object: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(object[field].is_string(), "{field} in {line}");
        }
    }
    let listening: Vec<String> = broker.log_lines().into_iter().filter(|line| line.contains("Listening on")).collect();
    assert_eq!(listening.len(), 1);
    let object: Value = serde_json::from_str(&listening[0]).unwrap();
    assert_eq!(object["message"], json!(format!("Listening on {}", broker.address())));
    assert_eq!((&object["server.host"], &object["server.port"]), (&json!("127.0.0.1"), &json!(broker.address().port())));
}

#[test]
fn no_secret_signature_token_payload_or_query_is_ever_logged() {
    for level in ["info", "trace"] {
        let filter = if level == "trace" { "info,holdline=trace" } else { level };
        let broker = Launch::config(one_app("client_events = true\nhandshake_auth = \"optional\"")).arg("--log-level").arg(filter).start();
        for word in busy(&broker) {
            let lines: Vec<String> = broker.log_lines().into_iter().filter(|line| line.contains(&word)).collect();
            assert!(lines.is_empty(), "{word} at {level}: {lines:#?}");
        }
    }
}

#[test]
fn a_subscribe_is_not_worth_a_line_at_the_default_level() {
    let broker = Broker::start();
    let mut ws = broker.ws();
    ws.quiet();
    let before = broker.log_lines().len();
    for at in 0..50 {
        ws.subscribe(&format!("news-{at}"));
        broker.http().publish(&format!("news-{at}"), "e", "1");
        ws.expect("e");
    }
    ws.quiet();
    assert!(broker.log_lines().len() < before + 10, "{:#?}", broker.log_lines());
}

#[test]
fn the_open_file_limit_is_logged_at_start() {
    let broker = Broker::start();
    let found =
        broker.log_lines().iter().any(|line| line.to_lowercase().contains("open file") || line.to_lowercase().contains("open-file"));
    assert!(found, "{:#?}", broker.log_lines());
}

#[test]
fn the_pretty_format_is_not_json() {
    // `Launch` finds the address in JSON lines only. And `serve` is the default command.
    let directory = tempfile::tempdir().unwrap();
    let mut command = crate::support::holdline(directory.path());
    command.args(["--port", "0", "--log-format", "pretty"]).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("Listening on 127.0.0.1:")));
    let _ = child.kill();
    let _ = child.wait();
    assert!(!line.expect("the line comes").unwrap().trim_start().starts_with('{'));
}
