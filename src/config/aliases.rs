//! Variables of other brokers, and of platforms, that mean one of our keys, so that a deployment can switch without being rewritten.
//!
//! An alias wins over nothing but a default. Those of an application describe the one default application and count only when
//! nothing names the applications. An empty variable is no variable.

use super::error::Reason;

mod webhooks;

/// A variable of another broker.
pub(super) struct Alias {
    pub(super) variable: &'static str,
    /// A key of the settings, or of the default application.
    pub(super) key: &'static str,
    /// Its value as ours.
    pub(super) convert: fn(&str) -> Result<String, Reason>,
}

const fn alias(variable: &'static str, key: &'static str, convert: fn(&str) -> Result<String, Reason>) -> Alias {
    Alias { variable, key, convert }
}

/// Aliases of the node's keys; of several for one key the first that is set counts.
pub(super) const SERVER: [Alias; 16] = [
    alias("DATABASE_URL", "store.url", same),
    alias("SOKETI_HOST", "server.host", same),
    alias("REVERB_SERVER_HOST", "server.host", same),
    alias("SOKETI_PORT", "server.port", same),
    alias("REVERB_SERVER_PORT", "server.port", same),
    alias("PORT", "server.port", same),
    alias("SOKETI_PATH_PREFIX", "server.path_prefix", path),
    alias("REVERB_SERVER_PATH", "server.path_prefix", path),
    alias("SOKETI_SSL_CERT", "tls.certificate", same),
    alias("SOKETI_SSL_KEY", "tls.key", same),
    alias("REVERB_APP_ACTIVITY_TIMEOUT", "server.activity_timeout", seconds),
    alias("ACTIVITY_TIMEOUT", "server.activity_timeout", seconds),
    alias("REVERB_APP_PING_INTERVAL", "server.ping_interval", seconds),
    alias("REVERB_APP_MAX_MESSAGE_SIZE", "server.max_message_size", same),
    alias("REVERB_MAX_REQUEST_SIZE", "server.max_request_size", same),
    alias("SOKETI_SHUTDOWN_GRACE_PERIOD", "drain.grace", milliseconds),
];

/// Aliases of the default application's keys, its identity apart.
pub(super) const APP: [Alias; 19] = [
    alias("SOKETI_DEFAULT_APP_ENABLED", "enabled", same),
    alias("SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "client_events", same),
    alias("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "client_events", client_events),
    // soketi's own name, and the one that people write for it.
    alias("SOKETI_DEFAULT_APP_MAX_CONNS", "max_connections", unlimited),
    alias("SOKETI_DEFAULT_APP_MAX_CONNECTIONS", "max_connections", unlimited),
    alias("REVERB_APP_MAX_CONNECTIONS", "max_connections", unlimited),
    alias("SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", "limits.publishes_per_second", unlimited),
    alias("SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "limits.client_events_per_second", unlimited),
    alias("SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", "limits.reads_per_second", unlimited),
    alias("SOKETI_EVENT_MAX_NAME_LENGTH", "limits.max_event_name", same),
    alias("SOKETI_CHANNEL_CACHE_TTL", "limits.cache_ttl", seconds),
    alias("SOKETI_EVENT_MAX_SIZE_IN_KB", "limits.max_event_bytes", kibibytes),
    alias("PAYLOAD_LIMIT", "limits.max_event_bytes", same),
    alias("SOKETI_EVENT_MAX_CHANNELS_AT_ONCE", "limits.max_channels_per_event", same),
    alias("SOKETI_EVENT_MAX_BATCH_SIZE", "limits.max_batch", same),
    alias("SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH", "limits.max_channel_name", same),
    alias("SOKETI_PRESENCE_MAX_MEMBERS", "limits.max_presence_members", same),
    alias("SOKETI_PRESENCE_MAX_MEMBER_SIZE", "limits.max_user_info_bytes", kibibytes),
    alias("SOKETI_DEFAULT_APP_WEBHOOKS", "webhooks", webhooks::from_soketi),
];

/// The keys of an application's identity.
pub(super) const IDENTITY: [&str; 3] = ["id", "key", "secret"];

/// The variables of an identity, one row per broker, in the order of [`IDENTITY`]. The first row with a value counts, alone:
/// an id of one row never meets the secret of another.
pub(super) const IDENTITIES: [[&str; 3]; 4] = [
    ["PUSHER_APP_ID", "PUSHER_APP_KEY", "PUSHER_APP_SECRET"],
    ["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"],
    ["SOKETI_DEFAULT_APP_ID", "SOKETI_DEFAULT_APP_KEY", "SOKETI_DEFAULT_APP_SECRET"],
    ["POXA_APP_ID", "POXA_APP_KEY", "POXA_SECRET"],
];

fn same(value: &str) -> Result<String, Reason> {
    Ok(value.to_owned())
}

fn seconds(value: &str) -> Result<String, Reason> {
    Ok(format!("{value}s"))
}

fn milliseconds(value: &str) -> Result<String, Reason> {
    Ok(format!("{value}ms"))
}

fn kibibytes(value: &str) -> Result<String, Reason> {
    Ok(format!("{value}KiB"))
}

/// Others write `ws`, `/ws` or `/ws/`.
fn path(value: &str) -> Result<String, Reason> {
    let path = value.trim_matches('/');
    Ok(if path.is_empty() { String::new() } else { format!("/{path}") })
}

/// Others write -1 for "unlimited".
fn unlimited(value: &str) -> Result<String, Reason> {
    Ok(if value == "-1" { "0".to_owned() } else { value.to_owned() })
}

/// Ours are always taken from members of the channel only, so `all` is the same as `members`.
fn client_events(value: &str) -> Result<String, Reason> {
    match value {
        "members" | "all" => Ok("true".to_owned()),
        "none" => Ok("false".to_owned()),
        _ => Err(Reason::NotOneOf { allowed: "members, all, none".to_owned(), found: value.to_owned() }),
    }
}
