//! The page that shows what is going on.

use crate::config::{
    rules::{Flag, TextList, TokenText, origin},
    secret::Secret,
    section::section,
};

section! {
    /// `[dashboard]`: the page at `/dashboard`. Without a token it is there for the development application only, and for this machine only.
    DashboardSettings {
        /// `false`: never.
        enabled: bool = true, Flag;
        /// What whoever opens it has to know; empty is nobody but this machine, in development.
        token: Secret = Secret::default(), TokenText;
        /// Pages elsewhere that may use its API, and its own addresses where a proxy hides them.
        allowed_origins: Vec<String> = Vec::new(), TextList(origin);
    }
}
