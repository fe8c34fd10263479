//! Values put into a section, each with the record of where it came from.

use std::borrow::Cow;

use super::{
    error::{ConfigError, Place, Reason},
    nearest::nearest,
    origin::{Origin, Origins},
    rules::{Given, kind, structured},
    section::Section,
};

/// Parts that would move messages between nodes: refused with a sentence of their own.
pub(super) const NOT_BUILT: [&str; 4] = ["redis", "nats", "bus", "adapter"];

/// Something that gives values: a file, a variable, a flag.
pub(super) trait Source {
    /// What is recorded for a value.
    fn origin(&self) -> Origin;

    /// What an error says about a key.
    fn place(&self, key: &str) -> Place;
}

impl Source for Origin {
    fn origin(&self) -> Origin {
        self.clone()
    }

    fn place(&self, _: &str) -> Place {
        Place::of(self)
    }
}

/// A list of tables that is being read.
pub(super) struct Reading<'a> {
    /// What stands before the list's name: nothing, or `apps[0].`.
    pub(super) prefix: &'a str,
    pub(super) source: &'a dyn Source,
    pub(super) origins: &'a mut Origins,
}

impl Reading<'_> {
    /// The entries of a list.
    pub(super) fn list<S: Section + Default>(&mut self, name: &str, value: &toml::Value) -> Result<Vec<S>, ConfigError> {
        let (list, source) = (format!("{}{name}", self.prefix), self.source);
        let wrong = |key: String, expected, value| {
            ConfigError::invalid(source.place(&key), key, Reason::WrongType { expected, found: kind(value) })
        };
        let entries = value.as_array().ok_or_else(|| wrong(list.clone(), list_of_tables(name), value))?;
        // A variable replaces the whole list of the file.
        self.origins.forget(&format!("{list}["));
        let mut read = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let table = entry.as_table().ok_or_else(|| wrong(format!("{list}[{i}]"), "a table", entry))?;
            let mut section = S::default();
            let mut target = Target::new(&mut section, format!("{list}[{i}]."), self.origins);
            target.set_table("", table, source)?;
            if let Some(missing) = S::required().iter().find(|key| !target.is_given(key)) {
                let key = format!("{list}[{i}].{missing}");
                return Err(ConfigError::invalid(source.place(&key), key, Reason::Required));
            }
            read.push(section);
        }
        Ok(read)
    }
}

fn list_of_tables(name: &str) -> &'static str {
    match name {
        "apps" => "a list of tables, each under [[apps]]",
        "holds" => "a list of tables, each under [[apps.holds]]",
        "webhooks" => "a list of tables, each under [[apps.webhooks]]",
        _ => "a list of tables, each under [[listeners]]",
    }
}

/// A section that takes values.
pub(super) struct Target<'a, S> {
    section: &'a mut S,
    /// What stands before the section's keys: nothing, or `apps[0].`.
    prefix: String,
    origins: &'a mut Origins,
}

impl<'a, S: Section> Target<'a, S> {
    pub(super) fn new(section: &'a mut S, prefix: String, origins: &'a mut Origins) -> Self {
        Self { section, prefix, origins }
    }

    /// Whether somebody gave this key a value.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.origins.is_given(&self.full(key))
    }

    /// Stores one value.
    pub(super) fn set(&mut self, key: &str, given: Given<'_>, source: &dyn Source) -> Result<(), ConfigError> {
        let full = self.full(key);
        if S::list_names().contains(&key) {
            return self.set_list(key, given, source);
        }
        match self.section.set(key, given) {
            None => Err(self.unknown(key, source)),
            Some(Err(reason)) => Err(ConfigError::invalid(source.place(&full), full, reason)),
            Some(Ok(())) => {
                self.origins.record(full, source.origin());
                Ok(())
            }
        }
    }

    /// Stores a whole list of tables.
    fn set_list(&mut self, list: &str, given: Given<'_>, source: &dyn Source) -> Result<(), ConfigError> {
        let value = match given {
            Given::Value(value) => Cow::Borrowed(value),
            // Not echoed: it may hold secrets.
            Given::Text(text) => Cow::Owned(structured(text).ok_or_else(|| {
                let unreadable = Reason::Unreadable { expected: r#"a TOML or JSON list of tables such as [{"name": "…"}]"# };
                ConfigError::invalid(source.place(""), self.full(list), unreadable)
            })?),
        };
        let mut reading = Reading { prefix: &self.prefix, source, origins: self.origins };
        self.section.set_list(list, &value, &mut reading).unwrap_or_else(|| Err(self.unknown(list, source)))?;
        // An empty list has no entry to show that it was given.
        self.origins.record(self.full(list), source.origin());
        Ok(())
    }

    /// Stores the values of a table. `at` is the group the table stands for; empty for the section itself.
    pub(super) fn set_table(&mut self, at: &str, table: &toml::Table, source: &dyn Source) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            // A quoted name with a dot in it is one unknown key, not a path.
            let is_group = !name.contains('.') && groups::<S>().contains(&key);
            match value {
                toml::Value::Table(inner) if is_group => self.set_table(&key, inner, source)?,
                other if is_group => {
                    let full = self.full(&key);
                    let reason = Reason::WrongType { expected: "a table", found: kind(other) };
                    return Err(ConfigError::invalid(source.place(&full), full, reason));
                }
                _ if name.contains('.') => return Err(self.unknown(&key, source)),
                leaf => self.set(&key, Given::Value(leaf), source)?,
            }
        }
        Ok(())
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn unknown(&self, key: &str, source: &dyn Source) -> ConfigError {
        let full = self.full(key);
        let place = source.place(&full);
        if self.prefix.is_empty() && NOT_BUILT.contains(&key.split('.').next().unwrap_or(key)) {
            return ConfigError::NotBuilt { place, key: full };
        }
        let mut known = S::keys();
        known.extend(groups::<S>());
        known.extend(S::list_names().iter().map(|list| (*list).to_owned()));
        ConfigError::UnknownKey { place, key: full, nearest: nearest(key, known).map(|key| self.full(&key)) }
    }
}

/// The names that stand for tables: `server`, `limits`.
fn groups<S: Section>() -> Vec<String> {
    let mut groups: Vec<String> = S::keys().iter().filter_map(|key| key.rsplit_once('.')).map(|(group, _)| group.to_owned()).collect();
    groups.dedup();
    groups
}
