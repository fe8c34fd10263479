//! A hub of its own and its subscribers, without sockets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdline::{
    domain::{App, AppLimits, Conn, HandshakeAuth, Hub, Join, NewConn, OriginPolicy},
    protocol::{ChannelName, CloseCode, SigningKey, SocketId},
};

pub(crate) fn app() -> Arc<App> {
    Arc::new(App {
        id: "app".into(),
        key: "key".into(),
        signing_key: SigningKey::new("secret"),
        former_key: None,
        enabled: true,
        client_events: true,
        receipts: false,
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

/// One more connection on the channel; `n` tells them apart.
pub(crate) fn subscriber(hub: &Hub, channel: &ChannelName, n: u128) -> Conn {
    let now = Instant::now();
    let new = NewConn {
        socket_id: SocketId::from_random(n + 1),
        app: hub.app(),
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
