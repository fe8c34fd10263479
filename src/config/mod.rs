//! What can be configured, and where each value came from.
//!
//! Knows names, ranges, TOML and variables, and of other layers only the values that a key can be: the words, patterns and templates of
//! `protocol` and `domain`. `server` maps [`Settings`] to what the layers take. Every key is declared once, in `settings.rs` and below
//! it, with its type, default and rule; reading, the environment, printing, checking and the detection of unknown keys all follow
//! from that declaration. What several keys decide together is in `check.rs`.
//! Order: flags, then `HOLDLINE_…` variables, then the file, then the aliases of other brokers' variables, then the defaults.
//!
//! Start reading at [`load()`], then `settings.rs`.

mod aliases;
mod app_draft;
mod apply;
mod check;
mod environment;
mod error;
mod file;
mod load;
mod nearest;
mod origin;
mod print;
mod rules;
mod secret;
mod section;
mod settings;
mod warning;

pub(crate) use app_draft::{AppDraft, Identity, shown as shown_app};
pub use error::{ConfigError, Place, Reason, Violation};
pub use load::{Loaded, Options, Override, load};
pub use origin::{Origin, Origins};
pub use rules::Share;
pub use secret::{Secret, SecretUrl};
pub use settings::HAS_OTLP;
pub use settings::{
    AppLimitSettings, AppSettings, AppStoreSettings, DashboardSettings, DrainSettings, HandshakeAuth, HeartbeatSettings, HoldPoint,
    HoldSettings, ListenerKind, ListenerSettings, LogFormat, LogSettings, MetricsSettings, OnDoubt, OtlpSettings, ServerSettings, Settings,
    StoreKind, StoreSettings, TlsSettings, WebhookEndpointSettings, WebhooksSettings,
};
pub use warning::Warning;
