//! `holdline publish` and `holdline listen`: a message passes between two terminals.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use crate::support::{Broker, Ended, Launch, WAIT, holdline, one_app, run_to_end, shared, unique, until};

fn url(broker: &Broker) -> String {
    format!("http://{}", broker.address())
}

/// A listener whose standard output is read line by line; killed when the test ends.
struct Listener {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Listener {
    fn start(broker: &Broker, args: &[&str]) -> Listener {
        let directory = tempfile::tempdir().unwrap();
        let mut command = holdline(directory.path());
        command.args(["listen", "--url", &url(broker), "--app-id", "app-id", "--key", "app-key", "--secret", "app-secret"]).args(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Listener { child, _directory: directory }
    }

    /// Everything it prints until it ends by itself, and its exit code.
    fn finish(mut self) -> (i32, Vec<String>) {
        let deadline = Instant::now() + WAIT;
        let stdout = self.child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).collect());
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "`listen` does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        (self.child.wait().unwrap().code().unwrap(), reader.join().unwrap())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn publish(broker: &Broker, rest: &[&str]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let url = url(broker);
    let args = ["publish", "--url", &url, "--app-id", "app-id", "--key", "app-key", "--secret", "app-secret"];
    run_to_end(directory.path(), &[args.as_slice(), rest].concat(), &[])
}

#[test]
fn what_one_process_publishes_another_prints() {
    let broker = shared();
    let (news, private) = (unique("cli-news"), unique("private-cli"));
    let listener = Listener::start(&broker, &["--count", "2", &news, &private]);
    let mut http = broker.http();
    until("both channels are joined", || http.subscribers(&news) == 1 && http.subscribers(&private) == 1);
    let ended = publish(&broker, &[&news, "greeting", r#"{"hello":"world"}"#]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0, "{said}");
    assert_eq!(publish(&broker, &[&private, "second", "plain text"]).code, 0);
    let (code, lines) = listener.finish();
    assert_eq!(code, 0);
    let events: Vec<&String> = lines.iter().filter(|line| line.contains("greeting") || line.contains("second")).collect();
    assert_eq!(events.len(), 2, "one line per event: {lines:#?}");
    assert!(events[0].contains(&news) && events[0].contains("hello"), "{}", events[0]);
    assert!(events[1].contains(&private) && events[1].contains("plain text"), "{}", events[1]);
}

#[test]
fn with_the_development_app_no_identity_is_needed() {
    let broker = Launch::default().start();
    let directory = tempfile::tempdir().unwrap();
    let url = url(&broker);
    let mut ws = broker.ws();
    ws.subscribe("news");
    let ended = run_to_end(directory.path(), &["publish", "--url", &url, "news", "greeting", "hi"], &[]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0, "{said}");
    ws.expect_data("greeting", "news", "hi");
}

#[test]
fn the_identity_can_come_from_a_configuration_file() {
    let config = one_app("").replace("app-key", "file-key");
    let broker = Broker::with(config.clone());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine.toml"), config).unwrap();
    let url = url(&broker);
    let ended = run_to_end(directory.path(), &["publish", "--url", &url, "--config", "mine.toml", "news", "greeting", "hi"], &[]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_excluded_socket_does_not_get_it() {
    let broker = shared();
    let channel = unique("cli-except");
    let (mut one, mut two) = (broker.ws(), broker.ws());
    one.subscribe(&channel);
    two.subscribe(&channel);
    let ended = publish(&broker, &["--socket-id", &one.socket_id, &channel, "e", "1"]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0, "{said}");
    two.expect_data("e", &channel, "1");
    one.quiet();
}

#[test]
fn a_refused_publish_says_why_and_ends_with_a_failure() {
    let broker = shared();
    let directory = tempfile::tempdir().unwrap();
    let ended = publish(&broker, &["bad name", "e", "1"]);
    let (code, said) = (ended.code, ended.said());
    assert!(code != 0 && said.contains("Invalid channel name"), "{code}: {said}");
    let url = url(&broker);
    let args = ["publish", "--url", &url, "--app-id", "app-id", "--key", "app-key", "--secret", "wrong-secret", "news", "e", "1"];
    let ended = run_to_end(directory.path(), &args, &[]);
    let (code, said) = (ended.code, ended.said());
    assert!(code != 0 && said.contains("401") && !said.contains("wrong-secret"), "{code}: {said}");
}

#[test]
fn an_absent_broker_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for args in [["publish", "--url", &url, "news", "e", "1"].as_slice(), &["listen", "--url", &url, "news"]] {
        let ended = run_to_end(directory.path(), args, &[]);
        let (code, said) = (ended.code, ended.said());
        assert!(code != 0 && said.contains(&port.to_string()) && !said.contains("panicked"), "{code}: {said}");
    }
}

#[test]
fn listening_with_an_unknown_key_ends_with_the_reason() {
    let broker = shared();
    let directory = tempfile::tempdir().unwrap();
    let url = url(&broker);
    let args = ["listen", "--url", &url, "--app-id", "app-id", "--key", "nokey", "--secret", "app-secret", "news"];
    let ended = run_to_end(directory.path(), &args, &[]);
    let (code, said) = (ended.code, ended.said());
    assert!(code != 0 && said.contains("nokey"), "{code}: {said}");
}

#[test]
fn help_and_version_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let ended = run_to_end(directory.path(), &["--help"], &[]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0);
    let commands =
        "serve config doctor up publish listen channels connections kick sign apps locks events consumers webhooks nodes migrate";
    for command in commands.split(' ') {
        assert!(said.contains(command), "{said}");
    }
    let ended = run_to_end(directory.path(), &["--version"], &[]);
    let (code, said) = (ended.code, ended.said());
    assert_eq!(code, 0);
    assert!(said.starts_with("holdline "), "{said}");
}
