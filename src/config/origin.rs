//! Where a value came from.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// The source of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
    /// A command-line flag, by name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The origin of every key, by its dotted name: `server.port`, `apps[0].limits.max_batch`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of a key came from.
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }

    /// Whether somebody gave this key a value.
    pub fn is_given(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Drops what is known of all keys that begin so.
    pub(super) fn forget(&mut self, beginning: &str) {
        self.0.retain(|key, _| !key.starts_with(beginning));
    }

    pub(super) fn record(&mut self, key: String, origin: Origin) {
        self.0.insert(key, origin);
    }
}
