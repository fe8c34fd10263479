//! From settings to what each layer takes.

use std::sync::Arc;

use crate::{
    config::{AppSettings, HandshakeAuth as Auth, Settings},
    connection::ConnectionSettings,
    domain::{App, AppLimits, HandshakeAuth, OriginPolicy, TrustedProxy},
    http::HttpSettings,
    protocol::{CloseCode, MemberLimits, SigningKey},
};

pub(super) fn connection_settings(settings: &Settings) -> ConnectionSettings {
    let server = &settings.server;
    ConnectionSettings {
        activity_timeout: server.activity_timeout,
        ping_interval: server.ping_interval,
        pong_timeout: server.pong_timeout,
        max_message_bytes: server.max_message_size,
        max_outbox_bytes: server.outbox_size,
        hook_timeout: server.hook_timeout,
        strict_protocol: server.strict_protocol,
        raw_heartbeats: settings.heartbeat.raw_pairs.clone(),
        // What is none has been refused with the settings.
        trusted_proxies: server.trusted_proxies.iter().filter_map(|proxy| proxy.parse::<TrustedProxy>().ok()).collect(),
    }
}

pub(super) fn http_settings(settings: &Settings) -> HttpSettings {
    HttpSettings { max_request_bytes: settings.server.max_request_size, path_prefix: settings.server.path_prefix.clone() }
}

pub(super) fn app(app: &AppSettings) -> App {
    let limits = &app.limits;
    App {
        id: Arc::from(app.id.as_str()),
        key: Arc::from(app.key.as_str()),
        signing_key: SigningKey::new(app.secret.expose()),
        former_key: None,
        enabled: app.enabled,
        client_events: app.client_events,
        receipts: app.receipts,
        user_authentication: app.user_authentication,
        watchlist: app.watchlist,
        user_events: app.user_events,
        subscription_count: app.subscription_count,
        max_connections: app.max_connections,
        quota_close_code: CloseCode::new(app.quota_close_code).unwrap_or(CloseCode::OVER_QUOTA),
        origins: OriginPolicy::new(app.allowed_origins.iter().cloned(), app.strict_origin),
        force_tls: app.force_tls,
        handshake_auth: match app.handshake_auth {
            Auth::Off => HandshakeAuth::Off,
            Auth::Optional => HandshakeAuth::Optional,
            Auth::Required => HandshakeAuth::Required,
        },
        authorization_timeout: app.authorization_timeout,
        limits: AppLimits {
            max_event_bytes: limits.max_event_bytes,
            max_channels_per_event: limits.max_channels_per_event,
            max_batch: limits.max_batch,
            max_channel_name: limits.max_channel_name,
            max_event_name: limits.max_event_name,
            max_presence_members: limits.max_presence_members,
            member: MemberLimits { max_user_id: limits.max_user_id, max_user_info_bytes: limits.max_user_info_bytes },
            max_watchlist: limits.max_watchlist,
            max_subscriptions: limits.max_subscriptions,
            max_client_event_bytes: limits.max_client_event_bytes,
            client_events_per_second: limits.client_events_per_second,
            receipt_window: limits.receipt_window,
            idempotency_window: limits.idempotency_window,
            publishes_per_second: limits.publishes_per_second,
            reads_per_second: limits.reads_per_second,
            cache_ttl: limits.cache_ttl,
            timestamp_tolerance: limits.timestamp_tolerance,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_the_defaults_of_the_layers() {
        assert_eq!(connection_settings(&Settings::default()), ConnectionSettings::default());
        assert_eq!(app(&AppSettings::development()).limits, AppLimits::default());
    }
}
