//! What the tests stand on: a broker process, a raw WebSocket client, a raw HTTP client, signatures. Nothing of the product is linked,
//! but for the store in `stored`.
//!
//! `Broker` starts the real binary, `Ws` can send any bytes, right or wrong, `Http` keeps its connection. All waiting has a deadline.

mod broker;
mod certs;
mod example;
mod feed;
mod frame;
mod http;
pub(crate) mod place;
pub(crate) mod postgres;
pub(crate) mod proxy;
mod receiver;
pub(crate) mod scrape;
mod sign;
pub(crate) mod stored;
mod ws;

pub(crate) use broker::{Broker, Ended, Launch, holdline, one_app, run_to_end, server_with, shared};
pub(crate) use certs::Certs;
pub(crate) use example::example;
pub(crate) use feed::Feed;
pub(crate) use frame::{Event, Frame, decode, frame, member, wire};
pub(crate) use http::{Answer, Http, request_bytes};
pub(crate) use receiver::{Receiver, Reply, Request};
pub(crate) use sign::{APP, App, OTHER, Query, hmac_hex, jwt, md5_hex, now_seconds, query_string, user_auth};
pub(crate) use ws::Ws;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The longest that any single expected thing may take; generous, because the machine may be busy.
///
/// Less than the 35 seconds after which a silent client is closed by default: who waits so long for an end waits for another cause.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// A name that no other test uses, so that tests can share a broker.
pub(crate) fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Polls until `ready` answers with a value; fails with `what` after [`WAIT`].
pub(crate) fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {WAIT:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// For what is about time and cannot wait for a condition: a machine that stands still may spoil an attempt, a defect spoils all.
/// An attempt says what was wrong.
pub(crate) fn in_one_of(attempts: usize, mut attempt: impl FnMut() -> Result<(), String>) {
    let mut wrong = Vec::new();
    while wrong.len() < attempts {
        match attempt() {
            Ok(()) => return,
            Err(why) => wrong.push(why),
        }
    }
    panic!("in none of {attempts} attempts: {wrong:#?}");
}

/// Polls until `ready` is true.
pub(crate) fn until(what: &str, mut ready: impl FnMut() -> bool) {
    eventually(what, || ready().then_some(()));
}
