//! Every key with its type, its default and its rule. Nothing else lists them: `config/holdline.toml` is compared with this file.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    error::{Reason, Violation},
    rules::{
        Flag, KIB, MIB, Number, RawPairs, Size, Text, TextList, Time, Word, host, keywords, log_filter, no_path_or_socket, path_prefix,
        size_text, trusted_proxy,
    },
    section::section,
};
use crate::domain::words;

mod app;
mod app_store;
mod dashboard;
mod hold;
mod listener;
mod metrics;
mod otlp;
mod store;
mod tls;
mod webhook;

pub use app::{AppLimitSettings, AppSettings, HandshakeAuth};
pub use app_store::AppStoreSettings;
pub use dashboard::DashboardSettings;
pub use hold::{HoldPoint, HoldSettings};
pub use listener::{ListenerKind, ListenerSettings};
pub use metrics::MetricsSettings;
pub use otlp::{HAS_OTLP, OtlpSettings};
pub use store::{OnDoubt, StoreKind, StoreSettings};
pub use tls::TlsSettings;
pub use webhook::{WebhookEndpointSettings, WebhooksSettings};

/// Most connections, subscriptions and the like that a setting may ask for; far above what one node carries.
const MANY: usize = 10_000_000;
const MILLIS_10: Duration = Duration::from_millis(10);
const MILLIS_100: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MINUTES_10: Duration = Duration::from_secs(10 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DAYS_30: Duration = Duration::from_secs(30 * 24 * 60 * 60);

section! {
    /// Everything that can be configured. The default is a broker for development: one well-known application on 127.0.0.1:6001.
    Settings {}
    sections {
        /// The listener and the limits of the whole node.
        server: ServerSettings;
        /// TLS on `server.port`.
        tls: TlsSettings;
        /// How the node stops.
        drain: DrainSettings;
        /// What is logged, and how.
        log: LogSettings;
        /// Heartbeats of clients that speak something else than Pusher's.
        heartbeat: HeartbeatSettings;
        /// Where locks and the log are kept.
        store: StoreSettings;
        /// What all webhooks have in common.
        webhooks: WebhooksSettings;
        /// Applications that are kept in a table.
        app_store: AppStoreSettings;
        /// What the broker says of itself.
        metrics: MetricsSettings;
        /// Traces for a collector.
        otlp: OtlpSettings;
        /// The page that shows what is going on.
        dashboard: DashboardSettings;
    }
    lists {
        /// The applications. Each id and each key occurs once.
        apps: AppSettings = vec![AppSettings::development()];
        /// Who hears what is in the log. Each name occurs once.
        listeners: ListenerSettings = Vec::new();
    }
}

section! {
    /// `[server]`: the listener and the limits of the whole node.
    ServerSettings {
        /// The address to listen on.
        host: String = Ipv4Addr::LOCALHOST.to_string(), Text(host);
        /// The port to listen on; 0 picks a free one.
        port: u16 = 6001, Number(0..=u16::MAX);
        /// Where everything is served besides the plain paths; REST signatures are over the path without it.
        path_prefix: String = String::new(), Text(path_prefix);
        /// A unix socket to listen on as well.
        unix_socket: String = String::new(), Text(no_path_or_socket);
        /// Peers whose word counts about who is behind them.
        trusted_proxies: Vec<String> = Vec::new(), TextList(trusted_proxy);
        /// Worker threads; 0 is one per core.
        workers: usize = 0, Number(0..=1_024);
        /// Connections that wait to be accepted.
        backlog: u32 = 4_096, Number(1..=65_535);
        /// Connections of the whole node; 0 leaves it to the open-file limit. One more is closed with 4100.
        max_connections: usize = 0, Number(0..=MANY);
        /// What clients are told: after so long without a frame they ask whether we live.
        activity_timeout: Duration = Duration::from_secs(120), Time::within(SECOND..=HOUR).in_whole_seconds();
        /// After so long without an inbound frame the server sends a PING.
        ping_interval: Duration = Duration::from_secs(25), Time::within(MILLIS_100..=HOUR);
        /// After so much longer without an inbound frame the connection is closed with 4201.
        pong_timeout: Duration = Duration::from_secs(10), Time::within(MILLIS_100..=MINUTES_10);
        /// Bytes of one inbound WebSocket message; a larger one is closed with 1009.
        max_message_size: usize = 64 * KIB, Size(KIB..=16 * MIB);
        /// Bytes of one HTTP request body; a larger one is answered 413.
        max_request_size: usize = MIB, Size(KIB..=64 * MIB);
        /// Bytes that may wait for one connection before it is closed with 4100 as a slow consumer.
        outbox_size: usize = MIB, Size(KIB..=1_024 * MIB);
        /// Bytes that may wait for all connections together. Near it, new work is turned away; 0 is unlimited.
        max_outbox_memory: usize = 256 * MIB, Size(0..=1 << 40);
        /// Handshakes that one address may begin per second, as many again at once; 0 is unlimited.
        connects_per_second: u32 = 0, Number(0..=1_000_000);
        /// How long the kernel may wait for a peer that acknowledges nothing.
        tcp_user_timeout: Duration = Duration::from_secs(20), Time::within(MILLIS_100..=HOUR);
        /// Time limit of one call of a handler.
        hook_timeout: Duration = Duration::from_secs(5), Time::within(MILLIS_10..=MINUTES_10);
        /// Whether a missing `protocol` parameter is refused with 4008.
        strict_protocol: bool = false, Flag;
    }
}

section! {
    /// `[drain]`: how the node stops.
    DrainSettings {
        /// Longest time a stop may take.
        grace: Duration = Duration::from_secs(30), Time::within(Duration::ZERO..=HOUR);
        /// The closes of live connections are spread over at most this time, and never over more than `grace`.
        spread: Duration = Duration::from_secs(2), Time::within(Duration::ZERO..=HOUR);
    }
}

section! {
    /// `[log]`: what is logged, and how.
    LogSettings {
        /// A level, or filter directives.
        level: String = "info".to_owned(), Text(log_filter);
        /// The form of a line.
        format: LogFormat = LogFormat::Auto, Word::new();
    }
}

section! {
    /// `[heartbeat]`: heartbeats of clients that speak something else than Pusher's.
    HeartbeatSettings {
        /// Raw text frames and the raw text frame each is answered with.
        raw_pairs: Vec<(String, String)> = Vec::new(), RawPairs;
    }
}

words! {
    /// The form of a log line.
    LogFormat {
        /// Pretty on a terminal, JSON otherwise.
        Auto = "auto",
        /// For people.
        Pretty = "pretty",
        /// One object per line.
        Json = "json",
    }
}
keywords!(LogFormat);

impl ServerSettings {
    /// Keys that have to fit each other.
    pub(in crate::config) fn check_together(&self) -> Result<(), Violation> {
        let least = self.outbox_size;
        if (1..least).contains(&self.max_outbox_memory) {
            let (found, at_least) = (size_text(self.max_outbox_memory), format!("{} (server.outbox_size)", size_text(least)));
            let reason = Reason::OutOfRange { found, at_least, at_most: size_text(1 << 40), or: ", or 0" };
            return Err(Violation::at("max_outbox_memory", reason));
        }
        Ok(())
    }

    /// Whether only this machine can reach the listener.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl Settings {
    /// Whether an application with the well-known secret is served: nobody configured one, or somebody copied it.
    pub fn is_development(&self) -> bool {
        self.apps.iter().any(AppSettings::is_development)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{rules::Given, section::Section};

    #[test]
    fn the_default_is_a_broker_for_development() {
        let settings = Settings::default();
        assert_eq!(settings.validate(), Ok(()));
        assert!(settings.is_development() && settings.server.is_loopback());
        let app = &settings.apps[0];
        assert!(app.client_events && app.user_authentication && app.watchlist && app.enabled);
        assert!(!AppSettings::new("a", "b", "c").client_events);
    }

    #[test]
    fn settings_made_in_code_are_checked_the_same_way() {
        let mut settings = Settings::default();
        settings.server.ping_interval = Duration::ZERO;
        assert_eq!(
            settings.validate().map_err(|violation| violation.to_string()),
            Err("server.ping_interval: 0s is out of range: at least 100ms, at most 3600s".to_owned())
        );
        let without_identity = Settings { apps: vec![AppSettings::default()], ..Settings::default() };
        assert_eq!(without_identity.validate().map_err(|violation| violation.key), Err("apps[0].id".to_owned()));
    }

    #[test]
    fn an_id_or_a_key_occurs_once() {
        let apps = |second| Settings { apps: vec![AppSettings::new("a", "k", "s"), second], ..Settings::default() }.validate();
        assert_eq!(apps(AppSettings::new("b", "l", "s")), Ok(()));
        assert_eq!(
            apps(AppSettings::new("b", "k", "s")).map_err(|violation| violation.to_string()),
            Err(r#"apps[1].key: "k" is already taken by apps[0].key"#.to_owned())
        );
        assert!(apps(AppSettings::new("a", "l", "s")).is_err());
    }

    #[test]
    fn every_key_can_be_read_back_as_it_is_printed() {
        fn round_trip<S: Section>(section: &S, copy: &mut S) {
            let values = section.values();
            assert_eq!(values.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), S::keys());
            for (key, value) in values.iter().filter(|(key, _)| key != "secret") {
                assert_eq!(copy.set(key, Given::Value(value)), Some(Ok(())), "{key} = {value}");
            }
        }
        let settings = Settings::default();
        let mut copy = settings.clone();
        round_trip(&settings, &mut copy);
        assert_eq!(settings, copy);
        let app = AppSettings::development();
        let mut copy = app.clone();
        round_trip(&app, &mut copy);
        assert_eq!(app, copy);
        let rule = HoldSettings { context: vec![("team".to_owned(), "{token.team}".to_owned())], ..HoldSettings::development() };
        let mut copy = rule.clone();
        round_trip(&rule, &mut copy);
        assert_eq!(rule, copy);
    }
}
