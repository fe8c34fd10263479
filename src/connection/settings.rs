//! What a transport needs to know.

use std::time::Duration;

use crate::domain::TrustedProxies;

/// The settings of every connection of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionSettings {
    /// What clients are told: ask after this much silence.
    pub(crate) activity_timeout: Duration,
    /// Ping a client after this much silence.
    pub(crate) ping_interval: Duration,
    /// Give a pinged client up after this much more.
    pub(crate) pong_timeout: Duration,
    /// Largest inbound message, in bytes, fragments added up.
    pub(crate) max_message_bytes: usize,
    /// Most bytes that may wait for one connection.
    pub(crate) max_outbox_bytes: usize,
    /// Time limit of one handler call.
    pub(crate) hook_timeout: Duration,
    /// Refuse clients that name no protocol version.
    pub(crate) strict_protocol: bool,
    /// Text frames that are answered with other text frames before anything is parsed.
    pub(crate) raw_heartbeats: Vec<(String, String)>,
    /// Whose word counts about who is behind them.
    pub(crate) trusted_proxies: TrustedProxies,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            activity_timeout: Duration::from_secs(120),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            max_message_bytes: 64 * 1024,
            max_outbox_bytes: 1024 * 1024,
            hook_timeout: Duration::from_secs(5),
            strict_protocol: false,
            raw_heartbeats: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
        }
    }
}
