//! Every key with its type, its default and its rule. Nothing else lists them: `config/holdline.toml` is compared with this file.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    error::{Reason, Violation},
    rules::{
        Choice, Flag, KIB, Keyword, MIB, Number, RawPairs, SecretText, Size, Text, TextList, Time, Word, host, identifier, log_filter,
        origin, path_prefix,
    },
    secret::Secret,
    section::{Section, section},
};

/// Most connections, subscriptions and the like that a setting may ask for; far above what one node carries.
const MANY: usize = 10_000_000;
const MILLIS_10: Duration = Duration::from_millis(10);
const MILLIS_100: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
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
        /// How the node stops.
        drain: DrainSettings;
        /// What is logged, and how.
        log: LogSettings;
        /// Heartbeats of clients that speak something else than Pusher's.
        heartbeat: HeartbeatSettings;
    }
    lists {
        /// The applications. Each id and each key occurs once.
        apps: Vec<AppSettings> = vec![AppSettings::development()];
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

section! {
    /// `[[apps]]`: one application. The default has no identity and is refused: an id, a key and a secret are required.
    AppSettings {
        /// The id, in the paths of the HTTP API.
        id: String = String::new(), Text(identifier);
        /// The key, which clients know.
        key: String = String::new(), Text(identifier);
        /// The secret, which signs.
        secret: Secret = Secret::default(), SecretText;
        /// A disabled application is refused with 4003.
        enabled: bool = true, Flag;
        /// Whether clients may send `client-*` events.
        client_events: bool = false, Flag;
        /// Whether clients may sign in.
        user_authentication: bool = true, Flag;
        /// Whether signed-in users may watch others.
        watchlist: bool = true, Flag;
        /// Whether subscribers are told how many they are.
        subscription_count: bool = false, Flag;
        /// Connections of this application on this node; 0 is unlimited.
        max_connections: usize = 0, Number(0..=MANY);
        /// The close code of one connection more: 4004 stays away, 4100 comes back.
        quota_close_code: u16 = 4004, Choice(&[4004, 4100]);
        /// Who may connect from a browser; empty is everybody.
        allowed_origins: Vec<String> = Vec::new(), TextList(origin);
        /// Whether a missing `Origin` is refused when `allowed_origins` is set.
        strict_origin: bool = false, Flag;
        /// Whether plain `ws://` is refused with 4000.
        force_tls: bool = false, Flag;
        /// Whether the handshake carries a signed token.
        handshake_auth: HandshakeAuth = HandshakeAuth::Off, Word::new();
        /// The time to sign in or to subscribe with a signature before 4009; 0 is off.
        authorization_timeout: Duration = Duration::ZERO, Time::within(MILLIS_100..=HOUR).or_off();
    }
    sections {
        /// The limits of this application.
        limits: AppLimitSettings;
    }
}

section! {
    /// `[apps.limits]`: the limits of one application.
    AppLimitSettings {
        /// Bytes of the `data` of one published event.
        max_event_bytes: usize = 10 * KIB, Size(1..=16 * MIB);
        /// Channels that one publish may name.
        max_channels_per_event: usize = 100, Number(1..=10_000);
        /// Events in one batch.
        max_batch: usize = 10, Number(1..=10_000);
        /// Bytes of a channel name.
        max_channel_name: usize = 200, Number(1..=1_024);
        /// Characters of an event name.
        max_event_name: usize = 200, Number(1..=1_024);
        /// Distinct users on one presence channel.
        max_presence_members: usize = 100, Number(1..=100_000);
        /// Characters of a user id.
        max_user_id: usize = 128, Number(1..=1_024);
        /// Bytes of the JSON text of a `user_info`.
        max_user_info_bytes: usize = KIB, Size(1..=MIB);
        /// User ids in one watchlist.
        max_watchlist: usize = 100, Number(0..=10_000);
        /// Subscriptions of one connection; 0 is unlimited.
        max_subscriptions: usize = 0, Number(0..=MANY);
        /// Bytes of the `data` of one client event.
        max_client_event_bytes: usize = 10 * KIB, Size(1..=16 * MIB);
        /// Client events that one connection may send per second; 0 is unlimited.
        client_events_per_second: u32 = 10, Number(0..=1_000_000);
        /// How long a cache channel keeps its last event.
        cache_ttl: Duration = Duration::from_secs(1_800), Time::within(MILLIS_100..=DAYS_30);
        /// How far the timestamp of a signed request may lie from this clock.
        timestamp_tolerance: Duration = Duration::from_secs(600), Time::within(SECOND..=DAY);
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One object per line.
    Json,
}

impl Keyword for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("pretty", Self::Pretty), ("json", Self::Json)];
}

/// Whether the handshake carries a token that the application signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeAuth {
    /// Tokens are not looked at.
    Off,
    /// A token is checked when there is one.
    Optional,
    /// Without a valid token the connection is refused with 4009.
    Required,
}

impl Keyword for HandshakeAuth {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("optional", Self::Optional), ("required", Self::Required)];
}

impl AppSettings {
    /// An application with the defaults of an `[[apps]]` entry.
    pub fn new(id: impl Into<String>, key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), key: key.into(), secret: Secret::new(secret), ..Self::default() }
    }

    /// The application of a broker without configuration. Everybody knows its secret.
    pub fn development() -> Self {
        Self { client_events: true, ..Self::new("app-id", "app-key", "app-secret") }
    }

    /// Whether this is the well-known identity, whoever configured it.
    pub fn is_development(&self) -> bool {
        let Self { id, key, secret, .. } = Self::development();
        self.id == id && self.key == key && self.secret == secret
    }
}

impl ServerSettings {
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

    /// Checks every limit, and that ids and keys occur once. [`load`](super::load()) has done it; settings made in code have not
    /// been through it.
    ///
    /// # Errors
    /// The first key that breaks its rule.
    pub fn validate(&self) -> Result<(), Violation> {
        self.check()?;
        for (i, app) in self.apps.iter().enumerate() {
            let violation = |key: &str, reason| Violation { key: format!("apps[{i}].{key}"), reason };
            app.check().map_err(|Violation { key, reason }| violation(&key, reason))?;
            let taken = |field: &str, value: &str, of: fn(&AppSettings) -> &str| {
                let first = self.apps[..i].iter().position(|earlier| of(earlier) == value);
                first.map_or(Ok(()), |first| {
                    Err(violation(field, Reason::Taken { value: value.to_owned(), by: format!("apps[{first}].{field}") }))
                })
            };
            taken("id", &app.id, |app| &app.id)?;
            taken("key", &app.key, |app| &app.key)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            for key in S::keys() {
                let value = section.get(&key).unwrap_or_else(|| panic!("{key} has no value"));
                if key != "secret" {
                    let given = crate::config::rules::Given::Value(&value);
                    assert_eq!(copy.set(&key, given), Some(Ok(())), "{key} = {value}");
                }
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
    }
}
