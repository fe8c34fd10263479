//! `holdline events list` and `show`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{APP, OTHER, holdline, place::Place};

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// The cursor that a command has printed last.
fn cursor(stderr: &str) -> &str {
    stderr.lines().last().and_then(|line| line.strip_prefix("cursor: ")).unwrap_or_else(|| panic!("no cursor: {stderr}"))
}

#[test]
fn the_log_is_listed_from_the_oldest_entry_and_goes_on_after_a_cursor() {
    for place in Place::both() {
        let lock = place.stored.hold(APP.id, "order:42", 7);
        place.stored.emit(APP.id, "Saved", "order:42", json!({ "n": 1 }));
        place.stored.release(&lock);
        let ended = place.run(&["events", "list", "--json"]);
        let events: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(types(&events), ["OrderLocked", "Saved", "OrderUnlocked"]);
        assert_eq!(cursor(&ended.stderr), place.end());
        let names = [
            "position",
            "shard",
            "kind",
            "type",
            "app",
            "resource",
            "principal",
            "socket_id",
            "fence",
            "cause",
            "after_grace",
            "at",
            "context",
        ];
        for event in &events {
            let mut found: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
            let mut expected = names.to_vec();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
        assert_eq!((&events[2]["cause"], &events[2]["fence"]), (&json!("unsubscribed"), &json!(lock.fence)));

        // One by one, by the cursor of each.
        let (mut found, mut after) = (Vec::new(), Vec::new());
        loop {
            let ended = place.run(&[&["events", "list", "--json", "--limit", "1"], after.as_slice()].concat());
            let Some(line) = ended.stdout.lines().next() else { break };
            found.push(serde_json::from_str::<Value>(line).unwrap());
            after = vec!["--after", Box::leak(cursor(&ended.stderr).to_owned().into_boxed_str())];
        }
        assert_eq!(found, events);

        let table = place.ok(&["events", "list"]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[0].starts_with("AT ") && lines[3].contains("OrderUnlocked") && lines[3].ends_with("unsubscribed"), "{table}");
    }
}

#[test]
fn columns_are_as_wide_as_what_stands_in_them() {
    for place in Place::both() {
        place.stored.hold(APP.id, "order:1", 1);
        place.stored.hold(APP.id, &format!("order:{}", "9".repeat(60)), 2);
        let table = place.ok(&["events", "list"]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        for head in ["PRINCIPAL", "FENCE"] {
            let at = lines[0].find(head).unwrap();
            assert!(lines.iter().all(|line| line[..at].ends_with("  ") && !line[at..].starts_with(' ')), "{table}");
        }
    }
}

#[test]
fn entries_are_found_by_app_resource_and_type() {
    for place in Place::both() {
        place.stored.hold(APP.id, "order:1", 1);
        place.stored.hold(OTHER.id, "order:1", 1);
        let lost = place.stored.hold(APP.id, "order:2", 1);
        place.stored.release(&lost);
        place.stored.emit(APP.id, "OrderSaved", "order:2", json!({}));
        for (filter, count) in [
            (&[][..], 5),
            (&["--app", OTHER.id], 1),
            (&["--resource", "order:2"], 3),
            (&["--type", "OrderLocked"], 3),
            (&["--type", "Order*", "--app", APP.id], 4),
            (&["--type", "*Locked"], 0),
            (&["--type", "*"], 5),
            (&["--type", "Order"], 0),
            (&["--resource", "order:1", "--limit", "1"], 1),
        ] {
            assert_eq!(place.json(&[&["events", "list"], filter].concat()).len(), count, "{filter:?}");
        }
    }
}

#[test]
fn more_entries_than_are_read_at_once_come_once_each_and_a_reader_may_leave() {
    for place in Place::both() {
        for n in 0..1_100 {
            place.stored.emit(APP.id, "Saved", &format!("doc:{n}"), json!({ "n": n, "much": "x".repeat(200) }));
        }
        let mut numbers: Vec<u64> = place.json(&["events", "list"]).iter().map(|event| event["context"]["n"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1_100).collect::<Vec<_>>());

        let mut command = holdline(place.directory.path());
        let envs = place.env.iter().cloned();
        let mut child = command.args(["events", "list"]).envs(envs).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "`events list | head -1` is no failure: {stderr}");
    }
}

#[test]
fn a_cursor_of_another_log_is_a_usage_error() {
    for place in Place::both() {
        place.stored.emit(APP.id, "Saved", "doc:1", json!({}));
        for command in [&["events", "list"][..], &["events", "tail"]] {
            for wrong in ["", "x", "7", "h1-1.1", &place.end().replace("h1-", "h1-ffff")] {
                let said = place.refused(2, &[command, &["--after", wrong]].concat());
                assert!(said.contains("is not a cursor of this log"), "{said}");
            }
        }
        assert_eq!(place.run(&["events", "list", "--limit", "0"]).code, 2);
    }
}

#[test]
fn one_entry_is_shown_whole() {
    for place in Place::both() {
        let lock = place.stored.hold(APP.id, "order:42", 7);
        place.stored.lose(&lock);
        let listed = &place.json(&["events", "list"])[0];
        let shard = listed["shard"].to_string();
        assert_eq!(place.json(&["events", "show", &shard, "1"]), std::slice::from_ref(listed));
        let shown = place.ok(&["events", "show", &shard, "1"]);
        for part in ["type       OrderLocked", "fence      ", "socket     7.7", r#"context    {"resource":"order:42"}"#] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert_eq!(place.refused(1, &["events", "show", &shard, "2"]), format!("holdline: shard {shard} has no entry at position 2\n"));
        assert!(place.refused(1, &["events", "show", "999", "1"]).contains("shard 999 has no entry"));
        assert_eq!(place.run(&["events", "show", "0", "0"]).code, 2);
    }
}
