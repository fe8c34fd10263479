//! An application that stands elsewhere than in the configuration: the same keys, the same rules, the same errors.

use std::path::Path;

use serde_json::Value;

use super::{
    apply::{Source, Target},
    error::{ConfigError, Reason, Violation},
    file::File,
    origin::{Origin, Origins},
    rules::{Given, structured},
    section::Section,
    settings::{AppSettings, StoreSettings},
};

/// What is kept beside the settings of an application.
const IDENTITY: [&str; 4] = ["id", "key", "secret", "enabled"];

/// The keys of an `[[apps]]` entry that somebody gave, without who the application is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AppDraft(toml::Table);

/// Who an application is, as a file of it may say.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// The id.
    pub(crate) id: Option<String>,
    /// The key.
    pub(crate) key: Option<String>,
    /// The secret.
    pub(crate) secret: Option<String>,
    /// Whether it is served.
    pub(crate) enabled: Option<bool>,
}

impl AppDraft {
    /// From how it is kept.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for what cannot be TOML, such as `null`.
    pub(crate) fn from_json(id: &str, kept: &Value) -> Result<Self, ConfigError> {
        let table = toml::Table::try_from(kept).map_err(|_| {
            let reason = Reason::Unreadable { expected: "an object with the keys of an [[apps]] table, none of them null" };
            ConfigError::invalid(Origin::Table.place(""), format!("apps[{id}]"), reason)
        })?;
        Ok(Self(table))
    }

    /// As it is kept.
    pub(crate) fn to_json(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    /// Takes the keys of a file: those of one application, bare or under one `[[apps]]`.
    ///
    /// # Errors
    /// [`ConfigError`], with the line.
    pub(crate) fn take_file(&mut self, path: &Path) -> Result<Identity, ConfigError> {
        let file = File::read(path)?;
        let (prefix, mut table) = match file.table.get("apps") {
            None => ("", file.table.clone()),
            Some(toml::Value::Array(apps)) if apps.len() == 1 && file.table.len() == 1 => {
                ("apps[0].", apps.first().and_then(|app| app.as_table()).cloned().unwrap_or_default())
            }
            Some(_) => {
                let reason = Reason::Unreadable { expected: "the keys of one application, bare or under one [[apps]]" };
                return Err(ConfigError::invalid(file.place("apps"), "apps", reason));
            }
        };
        // Here, where the line is known.
        let (mut app, mut origins) = (AppSettings::default(), Origins::default());
        let mut target = Target::new(&mut app, prefix.to_owned(), &mut origins);
        target.set_table("", &table, &file)?;
        let given = |key: &str| target.is_given(key);
        let (has_id, has_key, has_secret, has_enabled) = (given("id"), given("key"), given("secret"), given("enabled"));
        IDENTITY.iter().for_each(|key| drop(table.remove(*key)));
        self.merge(table);
        Ok(Identity {
            id: has_id.then(|| app.id.clone()),
            key: has_key.then(|| app.key.clone()),
            secret: has_secret.then(|| app.secret.expose().to_owned()),
            enabled: has_enabled.then_some(app.enabled),
        })
    }

    fn merge(&mut self, table: toml::Table) {
        for (key, value) in table {
            match (self.0.get_mut(&key), value) {
                (Some(toml::Value::Table(group)), toml::Value::Table(given)) => group.extend(given),
                (_, value) => drop(self.0.insert(key, value)),
            }
        }
    }

    /// Takes one key from `key=value`, written as in an environment variable.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn take(&mut self, key: &str, text: &str) -> Result<(), ConfigError> {
        let source = Origin::Flag("--set".to_owned());
        let (mut app, mut origins) = (AppSettings::default(), Origins::default());
        let mut target = Target::new(&mut app, String::new(), &mut origins);
        target.set(key, Given::Text(text), &source)?;
        if IDENTITY.contains(&key) {
            let reason = Reason::ForeignTo { whose: "--set: it has a command or a flag of its own".to_owned() };
            return Err(ConfigError::invalid(source.place(key), key, reason));
        }
        let value = match app.values().into_iter().find(|(name, _)| name == key) {
            Some((_, value)) => value,
            // A list of tables; it could be read, or it would have been refused.
            None => structured(text).unwrap_or(toml::Value::Array(Vec::new())),
        };
        let (name, value) = match key.rsplit_once('.') {
            None => (key, value),
            Some((group, name)) => (group, toml::Value::Table(toml::Table::from_iter([(name.to_owned(), value)]))),
        };
        self.merge(toml::Table::from_iter([(name.to_owned(), value)]));
        Ok(())
    }

    /// Gives a key its default again.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`].
    pub(crate) fn forget(&mut self, key: &str) -> Result<(), ConfigError> {
        let known = AppSettings::keys().iter().any(|known| known == key) || AppSettings::list_names().contains(&key);
        if !known || IDENTITY.contains(&key) {
            // What can be set by nobody says so with a suggestion.
            let (mut app, mut origins) = (AppSettings::default(), Origins::default());
            let source = Origin::Flag("--unset".to_owned());
            Target::new(&mut app, String::new(), &mut origins).set(key, Given::Text(""), &source)?;
            let reason = Reason::ForeignTo { whose: "--unset: it has no default".to_owned() };
            return Err(ConfigError::invalid(source.place(key), key, reason));
        }
        match key.rsplit_once('.') {
            None => drop(self.0.remove(key)),
            Some((group, name)) => {
                if let Some(toml::Value::Table(table)) = self.0.get_mut(group) {
                    table.remove(name);
                    if table.is_empty() {
                        self.0.remove(group);
                    }
                }
            }
        }
        Ok(())
    }

    /// The application that this makes, checked as one of the file.
    ///
    /// # Errors
    /// [`ConfigError`]; its keys begin with `apps[id].`.
    pub(crate) fn settings(
        &self,
        (id, key, secret): (&str, &str, &str),
        enabled: bool,
        store: &StoreSettings,
    ) -> Result<AppSettings, ConfigError> {
        let source = Origin::Table;
        let name = format!("apps[{id}]");
        let mut table = self.0.clone();
        for (name, value) in [("id", id), ("key", key), ("secret", secret)] {
            table.insert(name.to_owned(), value.into());
        }
        table.insert("enabled".to_owned(), enabled.into());
        let (mut app, mut origins) = (AppSettings::default(), Origins::default());
        Target::new(&mut app, format!("{name}."), &mut origins).set_table("", &table, &source)?;
        app.check_alone(store).map_err(|violation: Violation| ConfigError::Invalid {
            place: source.place(""),
            violation: Box::new(violation.below(&name)),
        })?;
        Ok(app)
    }
}

/// All keys of an application with their values, secrets redacted.
pub(crate) fn shown(app: &AppSettings) -> Value {
    section_json(app)
}

fn section_json(section: &dyn Section) -> Value {
    let mut shown = serde_json::Map::new();
    for (key, value) in section.values() {
        let value = serde_json::to_value(value).unwrap_or_default();
        match key.rsplit_once('.') {
            None => drop(shown.insert(key, value)),
            Some((group, name)) => {
                let group = shown.entry(group).or_insert_with(|| Value::Object(serde_json::Map::new()));
                if let Value::Object(group) = group {
                    group.insert(name.to_owned(), value);
                }
            }
        }
    }
    for (list, entries) in section.lists() {
        shown.insert(list.to_owned(), entries.into_iter().map(section_json).collect());
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: (&str, &str, &str) = ("shop", "k", "s");

    fn refused(draft: &AppDraft) -> String {
        draft.settings(ID, true, &StoreSettings::default()).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn what_is_set_is_what_is_kept_and_read_again() {
        let mut draft = AppDraft::default();
        draft.take("client_events", "true").unwrap();
        draft.take("limits.max_batch", "5").unwrap();
        draft.take("limits.cache_ttl", "90s").unwrap();
        draft.take("allowed_origins", r#"["https://a.example"]"#).unwrap();
        draft.take("webhooks", r#"[{"url": "https://u:pw@hooks.example/x", "events": ["channel_occupied"]}]"#).unwrap();
        let kept = draft.to_json();
        assert_eq!((&kept["client_events"], &kept["limits"]["max_batch"]), (&json!(true), &json!(5)));
        let again = AppDraft::from_json("shop", &kept).unwrap();
        assert_eq!(again, draft);
        let app = again.settings(ID, true, &StoreSettings::default()).unwrap();
        assert!(app.client_events && app.limits.max_batch == 5 && app.limits.cache_ttl.as_secs() == 90 && app.webhooks.len() == 1);
        let shown = shown(&app).to_string();
        assert!(shown.contains("hooks.example") && !shown.contains("pw@"), "{shown}");
        draft.forget("limits.max_batch").unwrap();
        draft.forget("limits.cache_ttl").unwrap();
        draft.forget("webhooks").unwrap();
        assert_eq!(draft.to_json(), json!({ "client_events": true, "allowed_origins": ["https://a.example"] }));
    }

    #[test]
    fn the_rules_are_those_of_the_file() {
        let mut draft = AppDraft::default();
        assert_eq!(
            draft.take("limits.max_bach", "5").unwrap_err().to_string(),
            r#"--set: unknown key "limits.max_bach"; did you mean "limits.max_batch"?"#
        );
        assert_eq!(
            draft.take("limits.max_batch", "0").unwrap_err().to_string(),
            "--set: limits.max_batch: 0 is out of range: at least 1, at most 10000"
        );
        assert!(draft.take("secret", "x").unwrap_err().to_string().contains("a command or a flag of its own"));
        assert!(draft.forget("id").is_err() && draft.forget("nothing").is_err());
        let kept = |value: Value| AppDraft::from_json("shop", &value).unwrap();
        assert!(refused(&kept(json!({ "client_event": true }))).contains(r#"unknown key "apps[shop].client_event"; did you mean"#));
        assert!(refused(&kept(json!({ "max_connections": -1 }))).contains("apps[shop].max_connections"));
        let hold = json!({ "holds": [{ "channel": "private-a.{b}", "resource": "x:{c}", "event": "X" }] });
        assert!(refused(&kept(hold)).contains("apps[shop].holds[0]"));
        assert!(AppDraft::from_json("shop", &json!({ "limits": null })).is_err());
        assert!(AppDraft::from_json("shop", &json!([])).is_err());
    }

    #[test]
    fn a_file_has_the_keys_of_one_application() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("app.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("id = \"shop\"\nclient_events = true\n[limits]\nmax_batch = 4\n");
        let mut draft = AppDraft::from_json("shop", &json!({ "limits": { "max_batch": 1, "max_watchlist": 2 } })).unwrap();
        assert_eq!(draft.take_file(&path).unwrap().id.as_deref(), Some("shop"));
        assert_eq!(draft.to_json(), json!({ "client_events": true, "limits": { "max_batch": 4, "max_watchlist": 2 } }));
        write("[[apps]]\nkey = \"k\"\nwatchlist = false\n");
        assert_eq!(draft.take_file(&path).unwrap().key.as_deref(), Some("k"));
        assert_eq!(draft.to_json()["watchlist"], json!(false));
        write("client_events = true\n[limits]\nmax_batch = 0\n");
        let error = draft.take_file(&path).map(drop).unwrap_err().to_string();
        assert!(error.contains("app.toml:3: limits.max_batch: 0 is out of range"), "{error}");
        write("[server]\nport = 1\n");
        assert!(draft.take_file(&path).is_err());
    }
}
