//! `holdline events tail`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::support::{
    APP, OTHER, WAIT, eventually, holdline,
    place::Place,
    postgres::{self, Postgres},
    proxy::{Cut, Proxy},
    stored::{Stored, wait},
};

/// A `tail` that runs; killed when the test ends.
struct Tail {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Tail {
    fn start(place: &Place, args: &[&str]) -> Tail {
        let mut command = holdline(place.directory.path());
        command.args(["events", "tail"]).args(args).envs(place.env.iter().cloned());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Tail { child, stdout, stderr }
    }

    fn line(&self) -> String {
        self.stdout.recv_timeout(WAIT).expect("a line")
    }

    fn event(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// As Ctrl-C would; its exit code and the last cursor.
    fn interrupt(mut self) -> (Option<i32>, String) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
        let status = self.ended();
        let last = self.stderr.iter().last().unwrap();
        (status, last.strip_prefix("cursor: ").unwrap_or_else(|| panic!("{last}")).to_owned())
    }

    fn ended(&mut self) -> Option<i32> {
        eventually("`tail` has ended", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

#[test]
fn entries_are_printed_as_they_are_written_until_an_interruption_says_where_it_was() {
    for place in Place::both() {
        place.stored.emit(APP.id, "Before", "doc:1", json!({}));
        let tail = Tail::start(&place, &[]);
        assert!(tail.line().starts_with("AT "), "it begins now");
        let lock = place.stored.hold(APP.id, "order:42", 7);
        let line = tail.line();
        assert!(line.contains("OrderLocked") && line.contains("order:42") && line.contains("user:7"), "{line}");
        place.stored.release(&lock);
        assert!(tail.line().ends_with("unsubscribed"));
        let (code, cursor) = tail.interrupt();
        assert_eq!((code, cursor.as_str()), (Some(0), place.end().as_str()));
        place.stored.emit(APP.id, "Meanwhile", "doc:1", json!({}));
        let tail = Tail::start(&place, &["--json", "--after", &cursor]);
        assert_eq!(tail.event()["type"], "Meanwhile", "nothing is lost between two tails");
    }
}

#[test]
fn only_what_is_asked_for_is_printed() {
    let place = Place::sqlite();
    let start = place.end();
    let tail = Tail::start(&place, &["--json", "--app", APP.id, "--type", "Order*", "--after", &start]);
    place.stored.emit(APP.id, "Saved", "order:1", json!({}));
    place.stored.hold(OTHER.id, "order:1", 1);
    place.stored.hold(APP.id, "order:1", 1);
    let event = tail.event();
    assert_eq!((&event["app"], &event["type"]), (&json!(APP.id), &json!("OrderLocked")));
    assert_eq!(tail.interrupt().1, place.end(), "what was passed over is passed");
}

#[test]
fn a_reader_that_leaves_ends_it_without_a_failure() {
    for place in Place::both() {
        let mut command = holdline(place.directory.path());
        command.args(["events", "tail"]).envs(place.env.iter().cloned());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut head = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut head).unwrap();
        place.stored.emit(APP.id, "Saved", "doc:1", json!({}));
        let status = eventually("`tail | head -1` has ended", || child.try_wait().unwrap());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(status.success() && stderr.is_empty(), "{stderr}");
    }
}

#[test]
fn a_database_that_goes_away_for_a_while_is_waited_for_and_nothing_is_lost_or_told_twice() {
    let name = wait(Postgres::shared().create_database());
    let stored = Stored::postgres_at(&postgres::url(&name, "postgres"));
    let proxy = Proxy::to(Postgres::shared().address());
    let url = Postgres::shared().url_through(proxy.address(), &name);
    let place = Place { directory: tempfile::tempdir().unwrap(), env: vec![("DATABASE_URL".to_owned(), url)], stored };
    let tail = Tail::start(&place, &["--json", "--after", &place.end()]);
    let emit = |n: u64| place.stored.emit(APP.id, "Saved", "doc:1", json!({ "n": n }));
    emit(0);
    assert_eq!(tail.event()["context"]["n"], 0);
    for n in 1..=2 {
        proxy.refuse(true);
        proxy.cut(if n == 1 { Cut::Reset } else { Cut::Fin });
        let said = tail.stderr.recv_timeout(WAIT).unwrap();
        assert!(said.starts_with("holdline: the store does not answer") && said.ends_with("waiting for it"), "{said}");
        emit(2 * n - 1);
        emit(2 * n);
        proxy.heal();
        assert_eq!(tail.stderr.recv_timeout(WAIT).unwrap(), "holdline: the store answers again");
        assert_eq!((&tail.event()["context"]["n"], &tail.event()["context"]["n"]), (&json!(2 * n - 1), &json!(2 * n)));
    }
    let (code, cursor) = tail.interrupt();
    assert_eq!((code, cursor), (Some(0), place.end()));
}
