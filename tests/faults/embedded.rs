//! One broker with SQLite: it dies, is started twice, and runs out of disk. F63–F65.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    cluster::Cluster,
    fleet::{Order, Spec},
    journal::{Leave, What, now},
    plan::Plan,
};
use crate::support::{run_to_end, until};

/// The time of the last log line with this beginning of a message, in microseconds since 1970.
fn logged_at(lines: &[String], message: &str) -> i64 {
    let line = lines.iter().rev().find(|line| line.contains(&format!("\"message\":\"{message}"))).expect("such a line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let text = line["timestamp"].as_str().expect("a timestamp");
    // `2026-11-21T15:04:05.123456Z`, by `date`, which every machine has.
    let seconds = Command::new("date").args(["-u", "-d", text, "+%s%6N"]).output().expect("date runs");
    String::from_utf8_lossy(&seconds.stdout).trim().parse().expect("a number")
}

#[test]
#[ignore = "fault suite"]
fn f63_kill_9_and_restart_of_the_only_node() {
    let cluster = Cluster::start(Plan::sqlite());
    let quick: Vec<_> = (0..20).map(|number| cluster.hold(0, &format!("user-{number}"), &format!("private-quick.{number}"))).collect();
    let slow: Vec<_> = (0..20).map(|number| cluster.hold(0, &format!("user-{number}"), &format!("private-order.{number}"))).collect();
    let back = cluster.client(Spec { channels: vec!["private-order.back".to_owned()], comes_back: true, ..cluster.spec(0, Some("back")) });
    let held = cluster.held(back, 1);
    cluster.kill(0);
    // Everybody learns of it at once, and one comes back.
    for held in quick.iter().chain(&slow) {
        assert_eq!(cluster.ended(held.client), None);
    }
    cluster.restart(0);
    let ledger = cluster.ledger();
    let listening = logged_at(&cluster.nodes[0].log(), "Listening on");
    for held in &quick {
        let event = ledger.unlocked(held.fence).expect("released before the listener opened");
        assert_eq!(event.cause.as_deref(), Some("superseded"));
        assert!(event.at <= listening, "{event:?} after {listening}");
    }
    let old: Vec<_> = ledger.nodes.iter().filter(|node| node.state != "alive").map(|node| node.incarnation).collect();
    let left: Vec<_> = ledger.holds.iter().filter(|hold| old.contains(&hold.incarnation)).collect();
    assert!(left.is_empty() && old.len() == 1, "{left:?}, {old:?}");
    for held in &slow {
        let event = cluster.unlocked(held.fence);
        assert_eq!((event.cause.as_deref(), event.after_grace), (Some("superseded"), true));
    }
    let again = cluster.held(back, 2);
    assert!(again.fence == held.fence && again.outcome == "resumed" || again.fence > held.fence && again.outcome == "granted", "{again:?}");
    cluster.settle();
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f64_a_second_process_on_the_same_files() {
    let cluster = Cluster::start(Plan::sqlite());
    let held = cluster.hold(0, "a", "private-quick.1");
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("second.toml");
    std::fs::write(&config, cluster.nodes[0].launch().config).unwrap();
    let ended = run_to_end(directory.path(), &["serve", "--config", config.to_str().unwrap(), "--port", "0"], &[]);
    assert_ne!(ended.code, 0);
    let said = ended.said();
    assert!(said.contains("in use by another broker") && said.contains(cluster.nodes[0].data_dir().to_str().unwrap()), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // The first one did not even blink.
    cluster.settle();
    cluster.driver.leave(held.client, Leave::Fin);
    cluster.unlocked(held.fence);
    cluster.finish();
}

/// A file system of a few megabytes, which is gone with this value.
pub(super) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> SmallDisk {
        let place = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(place.path());
        assert!(mount.status().expect("mount runs").success(), "this test mounts a small file system, and so needs root");
        SmallDisk(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the space there is.
    fn fill(&self) -> PathBuf {
        let filler = self.path().join("filler");
        let mut dd = Command::new("dd");
        dd.arg("if=/dev/zero").arg(format!("of={}", filler.display())).args(["bs=4k", "status=none"]).stderr(std::process::Stdio::null());
        assert!(!dd.status().expect("dd runs").success(), "the disk is not full");
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "fault suite"]
fn f65_the_disk_is_full() {
    let disk = SmallDisk::new("6m");
    let cluster = Cluster::start(Plan { data_dir: Some(disk.path().join("data")), ..Plan::sqlite() });
    cluster.allow(|allowed| allowed.errors.push("full"));
    let held = cluster.hold(0, "a", "private-quick.1");
    let lost = cluster.hold(0, "b", "private-order.2");
    let filler = disk.fill();
    // What is already in the log file's allocated part may still be written: fill that, too.
    let mut refused = None;
    for number in 0..2_000 {
        let client = cluster.client(Spec { channels: vec![format!("private-quick.fill-{number}")], ..cluster.spec(0, Some("filler")) });
        let answer = cluster.journal.await_for(client, "an answer", |seen| {
            seen.iter().find_map(|entry| match &entry.what {
                What::Locked { .. } => Some(None),
                What::Refused { kind, status, .. } => Some(Some((kind.clone(), *status))),
                _ => None,
            })
        });
        cluster.driver.leave(client, Leave::Fin);
        if answer.is_some() {
            refused = answer;
            break;
        }
    }
    assert_eq!(refused, Some(("LockUnavailable".to_owned(), 503)));
    // Ends wait in memory.
    cluster.driver.tell(Order::Unsubscribe(held.client, "private-quick.1".to_owned()));
    cluster.driver.leave(lost.client, Leave::Reset);
    std::thread::sleep(Duration::from_secs(2));
    assert!(cluster.ledger().unlocked(held.fence).is_none());
    assert!(cluster.nodes[0].is_alive());
    std::fs::remove_file(filler).unwrap();
    let from = now();
    let event = cluster.unlocked(held.fence);
    assert_eq!(event.cause.as_deref(), Some("unsubscribed"));
    assert!(event.at - from < 5_000_000, "{} µs after there was space again", event.at - from);
    cluster.unlocked(lost.fence);
    until("holds are granted again", || {
        let client = cluster.client(Spec { channels: vec!["private-quick.after".to_owned()], ..cluster.spec(0, Some("a")) });
        let granted = cluster.journal.find_within(Duration::from_secs(3), |entries| {
            entries.iter().find_map(|entry| match entry.what {
                What::Locked { .. } if entry.client == client => Some(true),
                What::Refused { .. } if entry.client == client => Some(false),
                _ => None,
            })
        });
        granted == Some(true)
    });
    cluster.finish();
}
