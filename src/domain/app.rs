//! An application: its keys, its switches and its limits. Plain values, made once by whoever read the configuration.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::protocol::{CloseCode, MemberLimits, SigningKey, limits};

const RECEIPT_WINDOW: Duration = Duration::from_secs(5);
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// One application. Its live state, connections and channels, is in [`super::Hub`].
#[derive(Clone, Debug)]
pub struct App {
    /// The id in HTTP paths.
    pub id: Arc<str>,
    /// The public key that clients connect with.
    pub key: Arc<str>,
    /// The secret, ready to sign.
    pub signing_key: SigningKey,
    /// The secret before that one, which counts, too, for a while.
    pub former_key: Option<FormerKey>,
    /// `false`: every connection is refused with 4003 and every HTTP request with 403.
    pub enabled: bool,
    /// Whether clients may send `client-*` events.
    pub client_events: bool,
    /// Whether a client event with an `id` is acknowledged, and delivered once.
    pub receipts: bool,
    /// Whether clients may sign in.
    pub user_authentication: bool,
    /// Whether signed-in clients hear of the users they watch.
    pub watchlist: bool,
    /// Whether the first and the last connection of a signed-in user stand in the log.
    pub user_events: bool,
    /// Whether subscribers hear how many they are.
    pub subscription_count: bool,
    /// Most connections at a time; 0 is no limit.
    pub max_connections: usize,
    /// What a connection above the limit is closed with: 4004 (stay away) or 4100 (come back).
    pub quota_close_code: CloseCode,
    /// Which pages may connect.
    pub origins: super::OriginPolicy,
    /// Refuse connections that did not come through TLS.
    pub force_tls: bool,
    /// Whether a connection has to show a signed token at the handshake.
    pub handshake_auth: HandshakeAuth,
    /// How long a connection may stay without a sign-in or a signed subscription; zero is for ever.
    pub authorization_timeout: Duration,
    /// The numbers.
    pub limits: AppLimits,
}

/// A secret that is being replaced.
#[derive(Clone, Debug)]
pub struct FormerKey {
    /// The secret, ready to sign.
    pub key: SigningKey,
    /// Until when it counts.
    pub until: SystemTime,
}

impl FormerKey {
    /// The secret, as long as it counts.
    pub fn valid(&self) -> Option<&SigningKey> {
        (SystemTime::now() < self.until).then_some(&self.key)
    }
}

impl App {
    /// Whether something was signed with the secret, or with the one before it while that counts.
    pub fn is_signed(&self, verifies: impl Fn(&SigningKey) -> bool) -> bool {
        verifies(&self.signing_key) || self.former_key.as_ref().and_then(FormerKey::valid).is_some_and(verifies)
    }
}

/// Whether the token of a handshake is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeAuth {
    /// Never: a token is left to the handler.
    #[default]
    Off,
    /// A token that is shown must be valid.
    Optional,
    /// A valid token must be shown.
    Required,
}

/// The limits of one application. Every one is tested by crossing it (tests/limits.rs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppLimits {
    /// Bytes of `data` of one published event, decoded.
    pub max_event_bytes: usize,
    /// Channels one publish may name.
    pub max_channels_per_event: usize,
    /// Events in one batch.
    pub max_batch: usize,
    /// Bytes of a channel name.
    pub max_channel_name: usize,
    /// Characters of an event name.
    pub max_event_name: usize,
    /// Distinct users on one presence channel.
    pub max_presence_members: usize,
    /// Who may be a member or a user.
    pub member: MemberLimits,
    /// User ids in one watchlist.
    pub max_watchlist: usize,
    /// Subscriptions of one connection; 0 is no limit.
    pub max_subscriptions: usize,
    /// Bytes of `data` of one client event, in its outgoing form.
    pub max_client_event_bytes: usize,
    /// Client events of one connection per second; 0 is no limit.
    pub client_events_per_second: u32,
    /// How long the id of a client event that was delivered is remembered.
    pub receipt_window: Duration,
    /// How long the key of a publish that was accepted is remembered.
    pub idempotency_window: Duration,
    /// Events published over HTTP per second; 0 is no limit.
    pub publishes_per_second: u32,
    /// Questions over HTTP per second; 0 is no limit.
    pub reads_per_second: u32,
    /// How long a cache channel keeps its last event.
    pub cache_ttl: Duration,
    /// How far the clock of an HTTP request may be off.
    pub timestamp_tolerance: Duration,
}

impl AppLimits {
    /// Whether what may be asked over HTTP is the same.
    pub(super) fn has_rates_of(&self, other: &Self) -> bool {
        let rates = |limits: &Self| (limits.publishes_per_second, limits.reads_per_second, limits.max_batch);
        rates(self) == rates(other)
    }
}

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            max_event_bytes: limits::MAX_EVENT_BYTES,
            max_channels_per_event: limits::MAX_CHANNELS_PER_EVENT,
            max_batch: limits::MAX_BATCH,
            max_channel_name: limits::MAX_CHANNEL_NAME,
            max_event_name: limits::MAX_EVENT_NAME,
            max_presence_members: limits::MAX_PRESENCE_MEMBERS,
            member: MemberLimits { max_user_id: limits::MAX_USER_ID, max_user_info_bytes: limits::MAX_USER_INFO_BYTES },
            max_watchlist: limits::MAX_WATCHLIST,
            max_subscriptions: 10_000,
            max_client_event_bytes: limits::MAX_EVENT_BYTES,
            client_events_per_second: limits::CLIENT_EVENTS_PER_SECOND,
            receipt_window: RECEIPT_WINDOW,
            idempotency_window: IDEMPOTENCY_WINDOW,
            publishes_per_second: 0,
            reads_per_second: 0,
            cache_ttl: limits::CACHE_TTL,
            timestamp_tolerance: limits::TIMESTAMP_TOLERANCE,
        }
    }
}

#[cfg(test)]
impl App {
    /// The application of the protocol's vectors, for tests of the layers above.
    pub(crate) fn for_tests() -> Self {
        Self {
            id: "app-id".into(),
            key: "app-key".into(),
            signing_key: SigningKey::new("app-secret"),
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
            origins: super::OriginPolicy::default(),
            force_tls: false,
            handshake_auth: HandshakeAuth::Off,
            authorization_timeout: Duration::ZERO,
            limits: AppLimits::default(),
        }
    }
}
