//! The pieces that need no socket, each in a function of its own that callgrind looks at alone: encoding an event, and pushing one to the
//! outboxes of 1,000. What becomes of it then is counted in the broker.

use std::{
    collections::BTreeMap,
    hint::black_box,
    io,
    process::{Command, Stdio},
    time::Instant,
};

use holdline::{
    domain::{Delivery, Hub},
    protocol::{ChannelName, ServerFrame},
};

use crate::{
    callgrind::{OPTIONS, Profile},
    hub,
};

pub(crate) const WORK: [&str; 2] = ["encode", "push"];
const EVENTS: usize = 1_000;
const SUBSCRIBERS: usize = 1_000;
/// So few that no outbox is full at the end: nobody empties them.
const PUBLISHES: usize = 20;
const PAYLOAD: usize = 200;

/// Runs one piece under callgrind, in a process of its own.
pub(crate) fn count(work: &str) -> io::Result<BTreeMap<String, f64>> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(OPTIONS)
        .arg(format!("--toggle-collect=*counted_{work}*"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["--driver", work])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("the driver of {work} failed: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let profile = Profile::read(&out)?;
    let (unit, units) = if work == "encode" { ("event", EVENTS) } else { ("delivery", SUBSCRIBERS * PUBLISHES) };
    Ok(BTreeMap::from([
        (format!("instructions_per_{unit}"), profile.instructions / units as f64),
        (format!("allocations_per_{unit}"), profile.allocations / units as f64),
    ]))
}

/// The work itself.
pub(crate) fn run(work: &str) {
    let data = "x".repeat(PAYLOAD);
    match work {
        "encode" => counted_encode(&ServerFrame::Event { event: "e", channel: Some("news"), data: &data, user_id: None }),
        "push" => {
            let hub = Hub::new(hub::app());
            let channel = ChannelName::parse("news", 200).expect("a legal name");
            let conns: Vec<_> = (0..SUBSCRIBERS).map(|n| hub::subscriber(&hub, &channel, n as u128)).collect();
            let delivery = Delivery { event: "e", data: &data, user_id: None, except: None, sender: None, keep_for: None };
            counted_push(&hub, &channel, &delivery, conns.len());
        }
        other => panic!("no work is called {other}"),
    }
}

#[inline(never)]
fn counted_encode(event: &ServerFrame<'_>) {
    for _ in 0..EVENTS {
        black_box(black_box(event).encode());
    }
}

#[inline(never)]
fn counted_push(hub: &Hub, channel: &ChannelName, delivery: &Delivery<'_>, subscribers: usize) {
    for _ in 0..PUBLISHES {
        assert_eq!(hub.deliver(channel, delivery, Instant::now()), subscribers, "every subscriber takes every frame");
    }
}
