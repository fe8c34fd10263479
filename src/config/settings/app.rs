//! One application.

use std::time::Duration;

use super::{DAY, DAYS_30, HOUR, HoldSettings, MANY, MILLIS_100, MINUTES_10, SECOND, WebhookEndpointSettings};
use crate::{
    config::{
        error::Violation,
        rules::{Choice, Flag, KIB, MIB, Number, SecretText, Size, Text, TextList, Time, Word, identifier, keywords, origin},
        secret::Secret,
        section::section,
    },
    domain::{HoldRule, words},
};

section! {
    /// `[[apps]]`: one application. The default has no identity and is refused: an id, a key and a secret are required.
    AppSettings requires id, key, secret {
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
        /// Whether a `client-*` event with an `id` is acknowledged, and delivered once.
        receipts: bool = false, Flag;
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
        /// Whether rules of `holds` may use the query, headers and cookies of the handshake, where anybody can write anything.
        trust_query: bool = false, Flag;
        /// Whether the log has `UserOnline` and `UserOffline` for the first and last connection of a signed-in user.
        user_events: bool = false, Flag;
    }
    sections {
        /// The limits of this application.
        limits: AppLimitSettings;
    }
    lists {
        /// What its connections are to hold.
        holds: HoldSettings = Vec::new();
        /// Who is told what happens on its channels.
        webhooks: WebhookEndpointSettings = Vec::new();
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
        max_subscriptions: usize = 10_000, Number(0..=MANY);
        /// Bytes of the `data` of one client event.
        max_client_event_bytes: usize = 10 * KIB, Size(1..=16 * MIB);
        /// Client events that one connection may send per second; 0 is unlimited.
        client_events_per_second: u32 = 10, Number(0..=1_000_000);
        /// How long the id of a client event that was delivered is remembered, where `receipts` is on.
        receipt_window: Duration = Duration::from_secs(5), Time::within(MILLIS_100..=MINUTES_10);
        /// How long an `Idempotency-Key` of the HTTP API is remembered.
        idempotency_window: Duration = DAY, Time::within(SECOND..=DAYS_30);
        /// Events that may be published over HTTP per second, each of a batch counted; 0 is unlimited.
        publishes_per_second: u32 = 0, Number(0..=1_000_000);
        /// Requests over HTTP per second that only ask; 0 is unlimited.
        reads_per_second: u32 = 0, Number(0..=1_000_000);
        /// How long a cache channel keeps its last event.
        cache_ttl: Duration = Duration::from_secs(1_800), Time::within(MILLIS_100..=DAYS_30);
        /// How far the timestamp of a signed request may lie from this clock.
        timestamp_tolerance: Duration = Duration::from_secs(600), Time::within(SECOND..=DAY);
    }
}

words! {
    /// Whether the handshake carries a token that the application signed.
    HandshakeAuth {
        /// Tokens are not looked at.
        Off = "off",
        /// A token is checked when there is one.
        Optional = "optional",
        /// Without a valid token the connection is refused with 4009.
        Required = "required",
    }
}
keywords!(HandshakeAuth);

impl AppSettings {
    /// An application with the defaults of an `[[apps]]` entry.
    pub fn new(id: impl Into<String>, key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), key: key.into(), secret: Secret::new(secret), ..Self::default() }
    }

    /// The application of a broker without configuration. Everybody knows its secret.
    pub fn development() -> Self {
        Self { client_events: true, holds: vec![HoldSettings::development()], ..Self::new("app-id", "app-key", "app-secret") }
    }

    /// The rules of `holds` as values.
    ///
    /// # Errors
    /// What is wrong with the first one that cannot be read, as `holds[0].channel`.
    pub(crate) fn hold_rules(&self) -> Result<Vec<HoldRule>, Violation> {
        let rules = self.holds.iter().enumerate();
        rules.map(|(i, hold)| hold.rule().map_err(|violation| violation.below(&format!("holds[{i}]")))).collect()
    }

    /// Whether this is the well-known identity, whoever configured it.
    pub fn is_development(&self) -> bool {
        let Self { id, key, secret, .. } = Self::development();
        self.id == id && self.key == key && self.secret == secret
    }
}
