//! The pieces that need no socket, each in a function of its own that callgrind looks at alone: encode; fan-out to 1,000, with the drain of
//! every outbox into a write buffer, as the dispatcher does it.

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    process::{Command, Stdio},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use holdline::{
    domain::{App, AppLimits, Conn, Delivery, HandshakeAuth, Hub, Join, NewConn, OriginPolicy},
    protocol::{ChannelName, CloseCode, ServerFrame, SigningKey, SocketId},
};

use crate::callgrind::{OPTIONS, Profile};

pub(crate) const WORK: [&str; 2] = ["encode", "fanout"];
const EVENTS: usize = 1_000;
const SUBSCRIBERS: usize = 1_000;
const PUBLISHES: usize = 20;
const PAYLOAD: usize = 200;

/// Runs one piece under callgrind, in a process of its own.
pub(crate) fn count(work: &str) -> BTreeMap<String, f64> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("callgrind.out");
    let status = Command::new("valgrind")
        .args(OPTIONS)
        .arg(format!("--toggle-collect=*counted_{work}*"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .args(["--driver", work])
        .stderr(Stdio::null())
        .status()
        .expect("valgrind is installed");
    assert!(status.success(), "the driver of {work} failed");
    let profile = Profile::read(&out);
    let units = if work == "encode" { EVENTS } else { SUBSCRIBERS * PUBLISHES } as f64;
    let unit = if work == "encode" { "event" } else { "delivery" };
    BTreeMap::from([
        (format!("instructions_per_{unit}"), profile.instructions / units),
        (format!("allocations_per_{unit}"), profile.allocations() / units),
    ])
}

/// The work itself.
pub(crate) fn run(work: &str) {
    let data = "x".repeat(PAYLOAD);
    match work {
        "encode" => {
            let event = ServerFrame::Event { event: "e", channel: Some("news"), data: &data, user_id: None };
            counted_encode(&event);
        }
        "fanout" => {
            let hub = Hub::new(app());
            let channel = ChannelName::parse("news", 200).expect("a legal name");
            let conns: Vec<_> = (0..SUBSCRIBERS).map(|n| subscriber(&hub, &channel, n as u128)).collect();
            let mut buffers: Vec<_> = conns.iter().map(|_| BytesMut::with_capacity(8 * 1024)).collect();
            drain(&conns, &mut buffers);
            let delivery = Delivery { event: "e", data: &data, user_id: None, except: None, sender: None, keep_for: None };
            counted_fanout(&hub, &channel, &delivery, &conns, &mut buffers);
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
fn counted_fanout(hub: &Hub, channel: &ChannelName, delivery: &Delivery<'_>, conns: &[Conn], buffers: &mut [BytesMut]) {
    for _ in 0..PUBLISHES {
        assert_eq!(hub.deliver(channel, delivery, Instant::now()), conns.len(), "every subscriber takes every frame");
        drain(conns, buffers);
    }
}

/// Empties every outbox into its connection's write buffer, and the buffer as a write would.
fn drain(conns: &[Conn], buffers: &mut [BytesMut]) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut batch = VecDeque::new();
    for (conn, buffer) in conns.iter().zip(buffers) {
        while let Poll::Ready(true) = conn.outbox().poll_drain(&mut cx, &mut batch) {
            batch.drain(..).for_each(|frame| buffer.extend_from_slice(&frame));
        }
        black_box(&mut *buffer).clear();
    }
}

fn subscriber(hub: &Hub, channel: &ChannelName, n: u128) -> Conn {
    let now = Instant::now();
    let new = NewConn {
        socket_id: SocketId::from_random(n + 1),
        app: Arc::clone(hub.app()),
        remote_ip: None,
        worker: 0,
        max_outbox_bytes: 1 << 20,
        memory: Arc::default(),
        now,
    };
    let conn = Conn::new(new);
    hub.join(channel, &Join { conn: &conn, member: None, greeting: &[], now }).expect("no limit on a public channel");
    conn
}

fn app() -> Arc<App> {
    Arc::new(App {
        id: "app".into(),
        key: "key".into(),
        signing_key: SigningKey::new("secret"),
        enabled: true,
        client_events: true,
        user_authentication: true,
        watchlist: true,
        user_events: false,
        subscription_count: false,
        max_connections: 0,
        quota_close_code: CloseCode::OVER_QUOTA,
        origins: OriginPolicy::default(),
        force_tls: false,
        handshake_auth: HandshakeAuth::Off,
        authorization_timeout: Duration::ZERO,
        limits: AppLimits::default(),
    })
}
