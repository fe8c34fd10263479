//! No secret in what is said of a bad configuration; and no line in the log that a stranger has written.

use std::{fs, io::Read as _, net::SocketAddr, process::Command};

use crate::{
    secrets::{Made, SHOP, URL_PASSWORD},
    support::{Http, Ws, holdline, run_to_end, until},
};

/// In files that only look like a key and a certificate.
const KEY_FILE: &str = "keyfile-q7Zx6";

#[test]
fn a_configuration_that_is_refused_is_refused_without_its_secrets() {
    let place = tempfile::tempdir().unwrap();
    let (key, certificate) = (place.path().join("key.pem"), place.path().join("cert.pem"));
    fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{KEY_FILE}\n-----END PRIVATE KEY-----\n{KEY_FILE}")).unwrap();
    fs::write(&certificate, format!("-----BEGIN CERTIFICATE-----\n{KEY_FILE}\n-----END CERTIFICATE-----\n")).unwrap();
    let tls = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let app = format!("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"{}\"\n", SHOP.secret);
    let password = URL_PASSWORD;
    let made = Made::default();
    for text in [
        tls.clone(),
        format!("[store]\nurl = \"postgres://u:{password}@host:99999/db\"\n"),
        format!("[store]\nurl = \"postgres://u:{password}@[::/db\"\n"),
        format!("[store]\nurl = \"mysql://u:{password}@host/db\"\n"),
        format!("[store]\nurl = \"postgres:u:{password}@host\"\n"),
        format!("[store]\nurl = [\"postgres://u:{password}@host\"]\n"),
        format!("[store]\nurl = \"postgres://u:{password}@host/db\nlease = 1"),
        format!("[store]\ndirect_url = \"http://u:{password}@host/db\"\n"),
        format!("{app}secret = \"{password}\"\n"),
        format!("{app}sekret = \"{password}\"\n"),
        format!("{app}[[apps]]\nid = \"a\"\nkey = \"k2\"\nsecret = \"{password}\"\n"),
        format!("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = [\"{password}\"]\n"),
        format!("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"{password}\\q\"\n"),
        format!("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"\"\"{password}\n"),
        format!("[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = {password}\n"),
        format!("{app}[[apps.webhooks]]\nurl = \"ftp://u:{password}@host/\"\n"),
        format!("{app}[[apps.webhooks]]\nurl = \"https://u:{password}@host/\"\nheaders = {{ \"bad name\" = \"{password}\" }}\n"),
        format!("{app}[[apps.webhooks]]\nurl = \"https://u:{password}@host/\"\nheaders = {{ \"X-A\" = \"{password}\\n\" }}\n"),
        format!("{app}[[apps.webhooks]]\nurl = \"https://u:{password}@host/\"\nheaders = [\"{password}\"]\n"),
        format!("{app}[[apps.webhooks]]\nurl = \"https://u:{password}@host/\"\nevents = [\"nothing\"]\n"),
        format!("{app}[[listeners]]\nname = \"x\"\nkind = \"http\"\nurl = \"http//u:{password}@host/\"\n"),
        format!("{app}[[listeners]]\nname = \"x\"\nkind = \"orders\"\nurl = \"http://u:{password}@host/\"\n"),
    ] {
        fs::write(place.path().join("holdline.toml"), &text).unwrap();
        for args in [&["config", "check"][..], &["config", "print"], &["serve", "--port", "0", "--log-level", "trace"], &["locks", "list"]]
        {
            if text == tls && args[0] != "serve" {
                continue;
            }
            let ended = run_to_end(place.path(), args, &[("RUST_BACKTRACE", "1")]);
            // Whether a database is there is not known before it is looked for.
            assert!(ended.code != 0 || args[0] == "config", "{args:?} {text}: {}", ended.said());
            assert!(!ended.said().contains("panicked"), "{text}: {}", ended.said());
            made.assert_none(&format!("{args:?}"), &ended.said());
        }
    }
    fs::write(place.path().join("holdline.toml"), "").unwrap();
    for (name, value) in [
        ("DATABASE_URL", format!("postgres://u:{password}@host:port/db")),
        ("DATABASE_URL", format!("u:{password}@host")),
        ("HOLDLINE_STORE__URL", format!("oracle://u:{password}@host")),
        ("HOLDLINE_STORE_URL", format!("postgres://u:{password}@host")),
        ("HOLDLINE_APPS", format!("[{{\"id\":\"a\",\"key\":\"k\",\"secret\":\"{password}\"")),
        ("HOLDLINE_APPS", format!("[{{\"id\":\"a\",\"key\":\"k\",\"secret\":\"{password}\",\"x\":1}}]")),
        ("HOLDLINE_APP__SECRET", password.to_owned()),
        ("HOLDLINE_APP__SEKRET", password.to_owned()),
        ("PUSHER_APP_SECRET", password.to_owned()),
        ("SOKETI_DEFAULT_APP_WEBHOOKS", format!("[{{\"url\":\"ftp://u:{password}@host\"}}]")),
        ("HOLDLINE_LISTENERS", format!("[{{\"name\":\"x\",\"kind\":\"http\",\"url\":\"http://u:{password}@host\",\"headers\":[]}}]")),
    ] {
        let ended = run_to_end(place.path(), &["config", "check"], &[(name, &value)]);
        assert!(ended.code != 0 || name == "DATABASE_URL", "{name}={value}: {}", ended.said());
        made.assert_none(name, &ended.said());
    }
}

#[test]
fn a_stranger_cannot_write_lines_into_the_log() {
    let place = tempfile::tempdir().unwrap();
    let port = crate::support::postgres::free_port();
    let mut command = holdline(place.path());
    command.args(["--port", &port.to_string(), "--log-format", "pretty", "--log-level", "debug"]).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until("it listens", || std::net::TcpStream::connect(address).is_ok());
    for text in ["%0AFORGED%20line", "%0D%0AFORGED", "%1B%5B2JFORGED", "%C2%9B2JFORGED", "%E2%80%A8FORGED"] {
        let mut ws = Ws::upgrade(address, &format!("/app/x{text}?protocol=7"), &[]);
        ws.error(4001);
        Http::connect(address).plain(&format!("/apps/{text}/channels?auth_key={text}")).refused(404);
    }
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    child.wait().unwrap();
    assert_eq!(log.matches(": App key x").count(), 5, "{log}");
    for line in log.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        assert!(line.starts_with("20"), "a line that is none of ours: {line:?}");
    }
    assert!(!log.contains(['\u{1b}', '\u{9b}']), "{log:?}");
}
