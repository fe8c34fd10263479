//! `holdline apps list`, `show`, `create`, `update`, `rotate-secret`, `enable`, `disable`, `delete` and `import`: the applications that
//! the store keeps. They work beside any broker; one that runs takes up what they write.

mod soketi;
mod table;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use self::table::servable;
use self::table::{AppsTable, with_apps};
use super::{
    FileArgs,
    error::CliError,
    event::printable,
    output::{Table, age, json_line, left, list, print},
};
use crate::{
    config::{AppDraft, Identity, shown_app},
    lifecycle::store::{AppRow, StoreError, Timestamp},
    server::{
        apps::settings_of,
        store::{Access, OpenError},
    },
};

/// How long a secret that was replaced counts, unless somebody says so.
const KEEP_OLD: &str = "24h";
/// The longest that it may.
const LONGEST_KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What to do with applications.
#[derive(Debug, Subcommand)]
pub(super) enum AppsCommand {
    /// List the applications in the table, by id
    List(ListArgs),
    /// Show one with all its settings; secrets are redacted
    Show(NamedArgs),
    /// Create one, and print its id, key and secret, once
    Create(CreateArgs),
    /// Change settings; live connections are judged by them at once
    Update(UpdateArgs),
    /// Give one a new secret, and print it, once; the old one counts for a while, too
    RotateSecret(RotateArgs),
    /// Serve one again
    Enable(NamedArgs),
    /// Serve one no more: its connections are closed with 4003, new ones are refused
    Disable(NamedArgs),
    /// Delete one: its connections are closed with 4001
    Delete(DeleteArgs),
    /// Take over the applications of another broker's table
    #[command(subcommand)]
    Import(soketi::ImportCommand),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct NamedArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The application's id
    id: String,
}

/// Settings, as keys of an `[[apps]]` table.
#[derive(Debug, Args)]
struct SettingsArgs {
    /// Set a key of an `[[apps]]` table, such as client_events=true or limits.max_batch=20; may be repeated, and wins over --file
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Take the keys of this TOML file: those of an `[[apps]]` table, bare or under one `[[apps]]`
    #[arg(long = "file", value_name = "FILE")]
    from: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// The public key [default: a random one]
    #[arg(long)]
    key: Option<String>,
    /// Read the secret from a file, or from the standard input with - [default: a random one]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Do not serve it yet
    #[arg(long)]
    disabled: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The id [default: a random number]
    id: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    named: NamedArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Give a key its default again; may be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// How long the old secret counts, too, such as 24h; 0s ends it now. At most 30d
    #[arg(long, value_name = "TIME", default_value = KEEP_OLD, value_parser = keep)]
    keep_old: Duration,
    /// Read the new secret from a file, or from the standard input with - [default: a random one]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Also one that is not disabled
    #[arg(long)]
    force: bool,
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("it must be key=value, such as client_events=true")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn keep(text: &str) -> Result<Duration, &'static str> {
    let time = humantime::parse_duration(text).map_err(|_| "it must be a time such as 24h, 30m or 0s")?;
    if time > LONGEST_KEEP { Err("it must be at most 30d") } else { Ok(time) }
}

pub(super) fn run(command: AppsCommand) -> Result<(), CliError> {
    match command {
        AppsCommand::List(args) => {
            let listed = with_apps(&args.file, Access::Read, async |apps| {
                let rows = apps.rows().await?;
                let shown: Vec<Value> = rows.iter().map(|row| brief(row, &apps)).collect();
                list(&shown, args.json, table)
            });
            match listed {
                // Where no broker has ever been there is no application either.
                Err(CliError::Store(OpenError::NoDatabase { .. } | OpenError::Store(StoreError::SchemaMissing))) => {
                    list(&[], args.json, table)
                }
                listed => listed,
            }
        }
        AppsCommand::Show(args) => with_apps(&args.file, Access::Read, async |apps| show(&apps.get(&args.id).await?, &apps, args.json)),
        AppsCommand::Create(args) => with_apps(&args.file, Access::Operate, async |apps| create(&args, &apps).await),
        AppsCommand::Update(args) => with_apps(&args.named.file, Access::Operate, async |apps| update(&args, &apps).await),
        AppsCommand::RotateSecret(args) => with_apps(&args.named.file, Access::Operate, async |apps| rotate(&args, &apps).await),
        AppsCommand::Enable(args) => switch(&args, true),
        AppsCommand::Disable(args) => switch(&args, false),
        AppsCommand::Delete(args) => with_apps(&args.named.file, Access::Operate, async |apps| delete(&args, &apps).await),
        AppsCommand::Import(command) => soketi::run(command),
    }
}

/// What of an application is shown in a list: nothing that is secret.
fn brief(row: &AppRow, apps: &AppsTable) -> Value {
    json!({
        "id": row.id, "key": row.key, "enabled": row.enabled, "version": row.version, "updated_at": row.updated_at.to_rfc3339(),
        "previous_secret_until": until(row).map(Timestamp::to_rfc3339),
        "error": apps.error_of(row),
    })
}

/// Until when the secret before counts, if it does.
fn until(row: &AppRow) -> Option<Timestamp> {
    row.previous_secret.as_ref().map(|(_, until)| *until).filter(|until| until.0 > Timestamp::now().0)
}

fn table(apps: &[Value]) -> Table {
    let mut table = Table::new(&["ID", "KEY", "STATE", "VERSION", "UPDATED", "OLD SECRET UNTIL", "ERROR"]);
    for app in apps {
        let shown = |name: &str| app[name].as_str().unwrap_or_default().to_owned();
        let state = if app["enabled"] == json!(true) { "enabled" } else { "disabled" }.to_owned();
        let version = app["version"].to_string();
        table.row([shown("id"), shown("key"), state, version, shown("updated_at"), shown("previous_secret_until"), shown("error")]);
    }
    table
}

fn show(row: &AppRow, apps: &AppsTable, json: bool) -> Result<(), CliError> {
    let settings = match settings_of(row, &apps.settings.store) {
        Ok(settings) => shown_app(&settings),
        // It may hold anything: nothing of it is shown.
        Err(_) => Value::Null,
    };
    if json {
        let mut shown = brief(row, apps);
        shown["settings"] = settings;
        return print(&json_line(&shown)?).map(drop);
    }
    let mut table = Table::new(&["id", &printable(&row.id)]);
    let mut field = |name: &str, value: String| table.row([name.to_owned(), value]);
    field("key", row.key.clone());
    field("state", if row.enabled { "enabled" } else { "disabled" }.to_owned());
    field("version", row.version.to_string());
    field("updated", format!("{} ({} ago)", row.updated_at.to_rfc3339(), age(row.updated_at)));
    if let Some(until) = until(row) {
        field("old secret", format!("counts until {} ({} left)", until.to_rfc3339(), left(until)));
    }
    if let Some(error) = apps.error_of(row) {
        field("error", error);
    }
    for (key, value) in settings.as_object().into_iter().flatten().filter(|(key, _)| !["id", "key", "secret", "enabled"].contains(&&***key))
    {
        match value {
            Value::Object(group) => group.iter().for_each(|(name, value)| field(&format!("{key}.{name}"), shown(value))),
            Value::Array(entries) if entries.iter().any(Value::is_object) => {
                entries.iter().enumerate().for_each(|(i, entry)| field(&format!("{key}[{i}]"), entry.to_string()));
            }
            value => field(key, shown(value)),
        }
    }
    print(&table.to_string()).map(drop)
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the arguments give, put into a draft.
fn take(draft: &mut AppDraft, settings: &SettingsArgs) -> Result<Identity, CliError> {
    let identity = settings.from.as_deref().map(|path| draft.take_file(path)).transpose()?.unwrap_or_default();
    for (key, value) in &settings.set {
        draft.take(key, value)?;
    }
    Ok(identity)
}

async fn create(args: &CreateArgs, apps: &AppsTable) -> Result<(), CliError> {
    let mut draft = AppDraft::default();
    let given = take(&mut draft, &args.settings)?;
    let id = args.id.clone().or(given.id).map_or_else(random_id, Ok)?;
    let key = args.key.clone().or(given.key).map_or_else(|| random_hex(10), Ok)?;
    let secret = match &args.secret_file {
        Some(path) => table::read_secret(path)?,
        None => given.secret.map_or_else(|| random_hex(20), Ok)?,
    };
    let enabled = !args.disabled && given.enabled.unwrap_or(true);
    let row =
        AppRow { id, key, secret, previous_secret: None, enabled, settings: draft.to_json(), version: 1, updated_at: Timestamp::now() };
    apps.insert(&row).await?;
    let told = json!({ "id": row.id, "key": row.key, "secret": row.secret });
    let text = format!("id      {}\nkey     {}\nsecret  {}\n", printable(&row.id), printable(&row.key), printable(&row.secret));
    print(&if args.json { json_line(&told)? } else { text })?;
    eprintln!("holdline: note the secret: it is not shown again");
    Ok(())
}

async fn update(args: &UpdateArgs, apps: &AppsTable) -> Result<(), CliError> {
    let row = apps
        .change(&args.named.id, |row| {
            let mut draft = AppDraft::from_json(&row.id, &row.settings)?;
            for key in &args.unset {
                draft.forget(key)?;
            }
            let given = take(&mut draft, &args.settings)?;
            let differs = |given: &Option<String>, is: &str| given.as_ref().is_some_and(|given| given != is);
            if differs(&given.id, &row.id) || differs(&given.key, &row.key) || differs(&given.secret, &row.secret) {
                let text = "the file names another id, key or secret, which update does not change (see rotate-secret)".to_owned();
                return Err(CliError::NotThere(text));
            }
            row.enabled = given.enabled.unwrap_or(row.enabled);
            row.settings = draft.to_json();
            Ok(())
        })
        .await?;
    done(&args.named, &row, "updated", "Updated")
}

async fn rotate(args: &RotateArgs, apps: &AppsTable) -> Result<(), CliError> {
    let secret = args.secret_file.as_deref().map_or_else(|| random_hex(20), table::read_secret)?;
    let mut cut_short = false;
    let row = apps
        .change(&args.named.id, |row| {
            cut_short = until(row).is_some();
            let until = Timestamp::now().0.saturating_add(i64::try_from(args.keep_old.as_millis()).unwrap_or(i64::MAX));
            let old = std::mem::replace(&mut row.secret, secret.clone());
            row.previous_secret = (!args.keep_old.is_zero() && old != secret).then_some((old, Timestamp(until)));
            Ok(())
        })
        .await?;
    if cut_short {
        eprintln!("holdline: warning: the secret before the one that was replaced does not count any more: there are never more than two");
    }
    let until = until(&row);
    let told = json!({ "id": row.id, "key": row.key, "secret": row.secret, "previous_secret_until": until.map(Timestamp::to_rfc3339) });
    let old = until.map_or_else(|| "does not count any more".to_owned(), |until| format!("counts until {}", until.to_rfc3339()));
    let text =
        format!("id      {}\nkey     {}\nsecret  {}\nold     {old}\n", printable(&row.id), printable(&row.key), printable(&row.secret));
    print(&if args.named.json { json_line(&told)? } else { text })?;
    eprintln!("holdline: note the secret: it is not shown again");
    Ok(())
}

fn switch(args: &NamedArgs, on: bool) -> Result<(), CliError> {
    with_apps(&args.file, Access::Operate, async |apps| {
        let row = apps
            .change(&args.id, |row| {
                row.enabled = on;
                Ok(())
            })
            .await?;
        if on { done(args, &row, "enabled", "Enabled") } else { done(args, &row, "disabled", "Disabled") }
    })
}

async fn delete(args: &DeleteArgs, apps: &AppsTable) -> Result<(), CliError> {
    let row = apps.get(&args.named.id).await?;
    if row.enabled && !args.force {
        return Err(CliError::NeedsForce(format!("application {} is enabled, and in use perhaps: disable it first", printable(&row.id))));
    }
    apps.delete(&row.id).await?;
    done(&args.named, &row, "deleted", "Deleted")
}

fn done(args: &NamedArgs, row: &AppRow, word: &str, sentence: &str) -> Result<(), CliError> {
    let text = match args.json {
        true => json_line(&json!({ "id": row.id, word: true }))?,
        false => format!("{sentence} application {}\n", printable(&row.id)),
    };
    print(&text).map(drop)
}

fn random_hex(bytes: usize) -> Result<String, CliError> {
    let mut random = vec![0_u8; bytes];
    getrandom::fill(&mut random).map_err(|_| CliError::Random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Eight digits, as ids of applications usually are.
fn random_id() -> Result<String, CliError> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|_| CliError::Random)?;
    Ok((10_000_000 + u64::from_ne_bytes(random) % 90_000_000).to_string())
}
