//! Flags over variables over file over aliases over defaults.

use std::{env, path::PathBuf};

use super::{
    aliases::{self, IDENTITIES, IDENTITY},
    apply::{Reading, Source, Target},
    environment::{APPS, Environment, app_variable},
    error::{ConfigError, Reason},
    file::File,
    origin::{Origin, Origins},
    rules::{Given, structured},
    settings::{AppSettings, Settings},
};

/// The file that is used when nobody names one.
const DEFAULT_FILE: &str = "holdline.toml";

/// A key set on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The flag, as the user writes it: `--port`.
    pub flag: &'static str,
    /// The dotted key.
    pub key: &'static str,
    /// The value, as in a variable.
    pub value: String,
}

/// Where to look for values.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The file of `--config`; it wins over `HOLDLINE_CONFIG`.
    pub file: Option<PathBuf>,
    /// The file that is read if it exists and nobody named another.
    pub default_file: Option<PathBuf>,
    /// The environment variables.
    pub env: Vec<(String, String)>,
    /// What the command line sets.
    pub flags: Vec<Override>,
}

impl Options {
    /// The environment of this process, and `holdline.toml` of its directory.
    ///
    /// # Errors
    /// A variable of ours that is not Unicode.
    pub fn from_process() -> Result<Self, ConfigError> {
        let mut variables = Vec::new();
        for (name, value) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => variables.push((name, value)),
                Err(_) if name.starts_with("HOLDLINE_") => return Err(ConfigError::NotUnicode { name }),
                Err(_) => {}
            }
        }
        Ok(Self { default_file: Some(PathBuf::from(DEFAULT_FILE)), env: variables, ..Self::default() })
    }
}

/// Settings, and where each of them came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// The origin of every key.
    pub origins: Origins,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// Reads and checks the whole configuration.
///
/// # Errors
/// The first thing that is wrong: an unknown key or variable, a value that breaks its rule, a file that cannot be read.
pub fn load(options: Options) -> Result<Loaded, ConfigError> {
    let environment = Environment::parse(options.env)?;
    let file = match (options.file.or(environment.config.clone()), options.default_file) {
        (Some(path), _) => Some(File::read(&path)?),
        (None, Some(path)) => File::read_if_present(&path)?,
        (None, None) => None,
    };

    let mut settings = Settings::default();
    let mut origins = Origins::default();
    let mut target = Target::new(&mut settings, String::new(), &mut origins);
    if let Some(file) = &file {
        let mut table = file.table.clone();
        table.remove("apps");
        target.set_table("", &table, file)?;
    }
    for variable in &environment.settings {
        target.set(&variable.key, Given::Text(&variable.value), &Origin::Variable(variable.name.clone()))?;
    }
    for flag in &options.flags {
        target.set(flag.key, Given::Text(&flag.value), &Origin::Flag(flag.flag.to_owned()))?;
    }
    set_aliases(&mut target, &aliases::SERVER, &environment)?;

    settings.apps = read_apps(file.as_ref(), &environment, settings.app_store.enabled, &mut origins)?;
    settings.validate().map_err(|violation| {
        let origin = origins.around(&violation.key);
        let place = match &file {
            Some(file) if file.origin() == *origin => file.place(&violation.key),
            _ => origin.place(&violation.key),
        };
        ConfigError::Invalid { place, violation: Box::new(violation) }
    })?;
    Ok(Loaded { settings, origins, file: file.map(|file| file.path) })
}

/// The applications: those of `HOLDLINE_APPS`, else those of the file, else the one default application.
fn read_apps(
    file: Option<&File>,
    environment: &Environment,
    from_table: bool,
    origins: &mut Origins,
) -> Result<Vec<AppSettings>, ConfigError> {
    let in_file = file.and_then(|file| Some((file, file.table.get("apps")?)));
    let apps = if let Some(text) = &environment.apps {
        if let Some((file, value)) = in_file {
            // Not used, but a mistake in it is still a mistake.
            list_apps(value, file, &mut Origins::default())?;
        }
        let source = Origin::Variable(APPS.to_owned());
        // Not echoed: it holds secrets.
        let unreadable = Reason::Unreadable { expected: r#"a TOML or JSON list such as [{"id": "…", "key": "…", "secret": "…"}]"# };
        let value = structured(text).ok_or_else(|| ConfigError::invalid(source.place(""), "apps", unreadable))?;
        list_apps(&value, &source, origins)?
    } else if let Some((file, value)) = in_file {
        list_apps(value, file, origins)?
    } else {
        Vec::new()
    };
    if apps.is_empty() {
        let app = default_app(environment, origins)?;
        // Whoever keeps applications in the table does not want one whose secret everybody knows beside them.
        let is_nobodys = from_table && environment.app.is_empty() && app.is_development();
        return Ok(if is_nobodys { Vec::new() } else { vec![app] });
    }
    match environment.app.first() {
        Some(variable) => Err(ConfigError::AppsNamedElsewhere { name: variable.name.clone(), named_by: origins.of("apps[0].id").clone() }),
        None => Ok(apps),
    }
}

fn list_apps(value: &toml::Value, source: &dyn Source, origins: &mut Origins) -> Result<Vec<AppSettings>, ConfigError> {
    Reading { prefix: "", source, origins }.list("apps", value)
}

/// The application that variables describe, or the one for development.
fn default_app(environment: &Environment, origins: &mut Origins) -> Result<AppSettings, ConfigError> {
    let alias_row = IDENTITIES.iter().find(|row| row.iter().any(|name| environment.others.contains_key(*name)));
    let ours = environment.app.iter().find(|variable| IDENTITY.contains(&variable.key.as_str())).map(|variable| variable.name.clone());
    let given = ours.or_else(|| alias_row?.iter().find(|name| environment.others.contains_key(**name)).map(|name| (*name).to_owned()));

    let mut app = if given.is_some() { AppSettings::default() } else { AppSettings::development() };
    let mut target = Target::new(&mut app, "apps[0].".to_owned(), origins);
    for variable in &environment.app {
        target.set(&variable.key, Given::Text(&variable.value), &Origin::Variable(variable.name.clone()))?;
    }
    set_aliases(&mut target, &aliases::APP, environment)?;
    let Some(given) = given else { return Ok(app) };
    for (i, key) in IDENTITY.into_iter().enumerate() {
        if target.is_given(key) {
            continue;
        }
        let name = alias_row.map(|row| row[i]);
        let Some((name, value)) = name.and_then(|name| Some((name, environment.others.get(name)?))) else {
            let missing = name.map_or_else(|| app_variable(key), str::to_owned);
            return Err(ConfigError::IncompleteIdentity { given, missing });
        };
        target.set(key, Given::Text(value), &Origin::Variable(name.to_owned()))?;
    }
    Ok(app)
}

fn set_aliases<S: super::section::Section>(
    target: &mut Target<'_, S>,
    aliases: &[aliases::Alias],
    environment: &Environment,
) -> Result<(), ConfigError> {
    for alias in aliases {
        let Some(value) = environment.others.get(alias.variable) else { continue };
        if target.is_given(alias.key) {
            continue;
        }
        let origin = Origin::Variable(alias.variable.to_owned());
        let text = (alias.convert)(value).map_err(|reason| ConfigError::invalid(origin.place(alias.key), alias.key, reason))?;
        target.set(alias.key, Given::Text(&text), &origin)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
