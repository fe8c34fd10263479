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
    /// The table of applications in the store.
    Table,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Table => f.write_str("the table of applications"),
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

    /// Where a key came from, or, if nobody gave it, whatever is nearest around it: the entry or the section that it belongs to.
    pub(super) fn around(&self, key: &str) -> &Origin {
        let mut around = key;
        while !self.0.contains_key(around) {
            let Some((parent, _)) = around.rsplit_once('.') else { return self.of(key) };
            let inside = format!("{parent}.");
            if let Some((_, origin)) = self.0.range(inside.clone()..).next().filter(|(found, _)| found.starts_with(&inside)) {
                return origin;
            }
            around = parent;
        }
        self.of(around)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_gave_is_looked_for_where_it_would_stand() {
        let mut origins = Origins::default();
        for (key, name) in [("apps[0].id", "A"), ("apps[0].holds[1].at", "B"), ("apps[0].limits.max_batch", "C"), ("store.lease", "D")] {
            origins.record(key.to_owned(), Origin::Variable(name.to_owned()));
        }
        for (key, name) in [
            ("apps[0].holds[1].at", "B"),
            ("apps[0].holds[1].channel", "B"),
            ("apps[0].holds[1].context.team", "B"),
            ("apps[0].holds[0].channel", "B"),
            ("apps[0].key", "B"),
            ("store.heartbeat_interval", "D"),
            ("server.port", "default"),
            ("apps[1].key", "default"),
        ] {
            assert_eq!(origins.around(key).to_string(), name, "{key}");
        }
    }
}
