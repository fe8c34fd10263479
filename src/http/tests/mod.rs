//! The API through its routes, and the answers on a real socket.

mod express;
mod operating;
mod routes;
mod wire;

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    cluster::Broker,
    domain::{App, Conn, Join, NewConn},
    protocol::{ChannelName, Member, SocketId, body_md5, canonical_request},
};

const LIMIT: usize = 64 * 1024;
const EVENT: &str = r#"{"name":"e","channel":"news","data":"1"}"#;

/// The application of the vectors, another one, and one that is switched off; their secret is the same.
fn broker() -> Broker {
    let other = App { id: "other".into(), key: "other-key".into(), ..App::for_tests() };
    let disabled = App { id: "disabled".into(), key: "disabled-key".into(), enabled: false, ..App::for_tests() };
    Broker::new([App::for_tests(), other, disabled], 0)
}

fn conn(broker: &Broker, n: u64) -> Conn {
    let hub = broker.app("app-id").unwrap();
    let conn = Conn::new(NewConn {
        socket_id: SocketId::parse(&format!("{n}.{n}")).unwrap().unwrap(),
        app: hub.app(),
        remote_ip: Some([127, 0, 0, 1].into()),
        worker: 0,
        max_outbox_bytes: 1 << 20,
        memory: Arc::default(),
        now: Instant::now(),
    });
    hub.admit(&conn).unwrap();
    conn
}

/// Subscribes connection `n`, as a member named like it where there are members.
fn join(broker: &Broker, n: u64, user_id: &str, channel: &str) {
    let channel = ChannelName::parse(channel, 200).unwrap();
    let member = Member { user_id: user_id.into(), user_info: None };
    let member = channel.kind().is_presence().then_some(&member);
    broker.app("app-id").unwrap().join(&channel, &Join { conn: &conn(broker, n), member, greeting: &[], now: Instant::now() }).unwrap();
}

/// `path` with a query that is signed now, with the key of the vectors.
fn signed(method: &str, path: &str, params: &[(&str, &str)], body: &str) -> String {
    signed_as("app-key", method, path, params, body)
}

fn signed_as(key: &str, method: &str, path: &str, params: &[(&str, &str)], body: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
    let md5 = body_md5(body.as_bytes());
    let auth = [("auth_key", key), ("auth_timestamp", &now), ("auth_version", "1.0"), ("body_md5", &md5)];
    let own = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    let params: Vec<_> = params.iter().map(own).chain(auth.iter().take(if body.is_empty() { 3 } else { 4 }).map(own)).collect();
    let signature = App::for_tests().signing_key.sign(&[&canonical_request(method, path, &params)]);
    let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("{path}?{}&auth_signature={signature}", pairs.join("&"))
}
