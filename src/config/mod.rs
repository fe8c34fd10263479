//! What can be configured, and where each value came from.
//!
//! Knows names, ranges, TOML and variables; may not know any other layer: `server` maps [`Settings`] to what the layers take.
//! Every key is declared once, in `settings.rs`, with its type, default and rule; reading, the environment, printing, checking
//! and the detection of unknown keys all follow from that declaration.
//! Order: flags, then `HOLDLINE_…` variables, then the file, then the aliases of other brokers' variables, then the defaults.
//!
//! Start reading at [`load()`], then `settings.rs`.

mod aliases;
mod apply;
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

pub use error::{ConfigError, Place, Reason, Violation};
pub use load::{Loaded, Options, Override, load};
pub use origin::{Origin, Origins};
pub use secret::Secret;
pub use settings::{
    AppLimitSettings, AppSettings, DrainSettings, HandshakeAuth, HeartbeatSettings, LogFormat, LogSettings, ServerSettings, Settings,
};
pub use warning::Warning;
