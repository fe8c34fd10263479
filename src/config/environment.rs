//! The variables that are ours: `HOLDLINE_<SECTION>__<KEY>`, `HOLDLINE_APP__<KEY>`, `HOLDLINE_APPS` and `HOLDLINE_CONFIG`.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    apply::NOT_BUILT,
    error::{ConfigError, Place},
    nearest::nearest,
    section::Section,
    settings::{AppSettings, Settings},
};

const PREFIX: &str = "HOLDLINE_";
const CONFIG: &str = "HOLDLINE_CONFIG";
/// A whole list of applications, in place of the file's.
pub(super) const APPS: &str = "HOLDLINE_APPS";
/// The section of the one default application.
const APP_SECTION: &str = "app.";
/// Variables of our own tests that reach the binary they start, too: which one that is, and which safety rule it lacks.
const FOR_TESTS: [&str; 2] = ["HOLDLINE_BIN", "HOLDLINE_MUTANT"];

/// One variable that sets one key.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// The environment, sorted by what each variable is for.
#[derive(Default)]
pub(super) struct Environment {
    /// `HOLDLINE_CONFIG`.
    pub(super) config: Option<PathBuf>,
    /// `HOLDLINE_APPS`.
    pub(super) apps: Option<String>,
    /// Keys of [`Settings`].
    pub(super) settings: Vec<Variable>,
    /// Keys of the one default application.
    pub(super) app: Vec<Variable>,
    /// Everything without our prefix that is not empty, for the aliases.
    pub(super) others: BTreeMap<String, String>,
}

impl Environment {
    /// Sorts the variables.
    pub(super) fn parse(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let (settings_keys, app_keys) = (all_keys::<Settings>(), all_keys::<AppSettings>());
        let mut environment = Self::default();
        for (name, value) in variables {
            let find = |section: &str, keys: &[String]| {
                keys.iter().find(|key| variable(section, key) == name).map(|key| (name.clone(), key.clone()))
            };
            if !name.starts_with(PREFIX) {
                if !value.is_empty() {
                    environment.others.insert(name, value);
                }
            } else if name == CONFIG {
                environment.config = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from);
            } else if name == APPS {
                environment.apps = Some(value);
            } else if let Some((name, key)) = find("", &settings_keys) {
                environment.settings.push(Variable { name, key, value });
            } else if let Some((name, key)) = find(APP_SECTION, &app_keys) {
                environment.app.push(Variable { name, key, value });
            } else if !FOR_TESTS.contains(&name.as_str()) && !is_service_link(&name, &value) {
                return Err(unknown(name, &settings_keys, &app_keys));
            }
        }
        Ok(environment)
    }
}

/// Every key that one variable sets; a list of tables is one, too.
fn all_keys<S: Section>() -> Vec<String> {
    S::keys().into_iter().chain(S::list_names().iter().map(|list| (*list).to_owned())).collect()
}

/// The variable of a key of the one default application.
pub(super) fn app_variable(key: &str) -> String {
    variable(APP_SECTION, key)
}

fn variable(section: &str, key: &str) -> String {
    format!("{PREFIX}{section}{key}").replace('.', "__").to_ascii_uppercase()
}

fn unknown(name: String, settings_keys: &[String], app_keys: &[String]) -> ConfigError {
    if let Some(part) = NOT_BUILT.iter().find(|part| name.starts_with(&variable("", part))) {
        return ConfigError::NotBuilt { place: Place::variable(&name), key: (*part).to_owned() };
    }
    let known = settings_keys.iter().map(|key| variable("", key));
    let known = known.chain(app_keys.iter().map(|key| app_variable(key))).chain([CONFIG, APPS].map(str::to_owned));
    ConfigError::UnknownVariable { nearest: nearest(&name, known), name }
}

/// What Kubernetes and Docker links put into every container beside a service of our name: `HOLDLINE_SERVICE_HOST`,
/// `HOLDLINE_PORT=tcp://10.0.0.1:6001`, `HOLDLINE_PORT_6001_TCP_ADDR`. Refusing them would refuse to start there.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_port_part = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
    });
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || is_address && name.ends_with("_PORT") || is_port_part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Environment, ConfigError> {
        Environment::parse(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn refusal(name: &str) -> String {
        parse(&[(name, "1")]).err().unwrap().to_string()
    }

    #[test]
    fn our_variables_name_keys() {
        let environment = parse(&[
            ("HOLDLINE_SERVER__TCP_USER_TIMEOUT", "5s"),
            ("HOLDLINE_APP__LIMITS__MAX_BATCH", "3"),
            ("HOLDLINE_CONFIG", "/etc/holdline.toml"),
            ("PATH", "/bin"),
            ("EMPTY", ""),
        ])
        .unwrap();
        assert_eq!(environment.settings[0].key, "server.tcp_user_timeout");
        assert_eq!(environment.app[0].key, "limits.max_batch");
        assert_eq!(environment.config, Some(PathBuf::from("/etc/holdline.toml")));
        assert_eq!(environment.others.keys().collect::<Vec<_>>(), ["PATH"]);
    }

    #[test]
    fn an_unknown_variable_of_ours_is_refused_with_a_suggestion() {
        assert_eq!(
            refusal("HOLDLINE_SERVER_PORT"),
            r#"unknown environment variable HOLDLINE_SERVER_PORT; did you mean "HOLDLINE_SERVER__PORT"?"#
        );
        assert!(refusal("HOLDLINE_APP__CLIENT_EVENT").contains("HOLDLINE_APP__CLIENT_EVENTS"));
        assert!(refusal("HOLDLINE_server__port").starts_with("unknown environment variable"));
        assert!(refusal("HOLDLINE_REDIS__URL").contains("not built yet"));
    }

    #[test]
    fn variables_that_an_orchestrator_makes_from_our_name_are_not_ours() {
        for (name, value) in [
            ("HOLDLINE_SERVICE_HOST", "10.0.0.1"),
            ("HOLDLINE_SERVICE_PORT", "6001"),
            ("HOLDLINE_SERVICE_PORT_WS", "6001"),
            ("HOLDLINE_PORT", "tcp://10.0.0.1:6001"),
            ("HOLDLINE_PORT_6001_TCP", "tcp://10.0.0.1:6001"),
            ("HOLDLINE_PORT_6001_TCP_ADDR", "10.0.0.1"),
            ("HOLDLINE_METRICS_PORT_9100_TCP_PROTO", "tcp"),
            ("HOLDLINE_BIN", "target/debug/holdline"),
        ] {
            assert!(parse(&[(name, value)]).is_ok(), "{name}");
        }
        assert!(parse(&[("HOLDLINE_PORT", "6001")]).is_err());
    }
}
