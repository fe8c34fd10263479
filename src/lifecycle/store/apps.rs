//! Applications that the store keeps, beside those of the configuration file.

use std::fmt;

use serde_json::Value;

use super::Timestamp;

/// One application, as it is kept. What its settings mean is not known here.
#[derive(Clone, PartialEq)]
pub struct AppRow {
    /// The id, which never changes.
    pub id: String,
    /// The public key.
    pub key: String,
    /// What the application signs with: readable, for that is how signatures are checked.
    pub secret: String,
    /// The secret before that one, and until when it counts, too.
    pub previous_secret: Option<(String, Timestamp)>,
    /// Whether anybody is served.
    pub enabled: bool,
    /// All that is not the default, as a JSON object.
    pub settings: Value,
    /// Counts the changes.
    pub version: i64,
    /// When it was changed.
    pub updated_at: Timestamp,
}

/// Without the secrets; and the settings may hold passwords of endpoints.
impl fmt::Debug for AppRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, key, enabled, version, .. } = self;
        f.debug_struct("AppRow")
            .field("id", id)
            .field("key", key)
            .field("enabled", enabled)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppWrite {
    /// It was done.
    Done,
    /// The application is not as the caller thought: there is one, or none, or somebody has changed it.
    Changed,
    /// Another application has the key.
    KeyTaken,
}

/// Applications as they were at one moment.
#[derive(Clone, Debug)]
pub struct AppTable {
    /// The version of the table.
    pub version: i64,
    /// All of them, by id.
    pub rows: Vec<AppRow>,
}
