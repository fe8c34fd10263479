//! `holdline apps import soketi`: the rows of soketi's table `apps`, as applications of ours.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use sqlx::{Connection, PgConnection, Row};

use super::{
    super::{
        FileArgs,
        error::CliError,
        event::printable,
        output::{Table, list, print},
    },
    table::{AppsTable, with_apps},
};
use crate::{
    config::SecretUrl,
    domain::WebhookKind,
    lifecycle::store::{AppRow, StoreError, Timestamp},
    server::store::Access,
};

/// Which broker's applications.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImportCommand {
    /// Those of soketi's table apps in PostgreSQL
    Soketi(SoketiArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SoketiArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// The table, if it is called otherwise; schema.table is understood
    #[arg(long, value_name = "NAME", default_value = "apps")]
    table: String,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// soketi's database: postgres://user:password@host/database
    url: String,
}

pub(super) fn run(command: ImportCommand) -> Result<(), CliError> {
    let ImportCommand::Soketi(args) = command;
    let access = if args.dry_run { Access::Read } else { Access::Operate };
    with_apps(&args.file, access, async |apps| import(&args, &apps).await)
}

async fn import(args: &SoketiArgs, apps: &AppsTable) -> Result<(), CliError> {
    let known = apps.rows().await?;
    let mut told = Vec::new();
    let mut refused = 0;
    for found in rows(args).await? {
        let Planned { row, mut notes } = match plan(&found) {
            Ok(planned) => planned,
            Err(reason) => {
                refused += 1;
                let id = found.get("id").map(text_of).unwrap_or_default();
                told.push(json!({ "id": id, "outcome": "refused", "notes": [reason] }));
                continue;
            }
        };
        let same =
            |old: &AppRow| (&old.key, &old.secret, old.enabled, &old.settings) == (&row.key, &row.secret, row.enabled, &row.settings);
        let outcome = match known.iter().find(|old| old.id == row.id) {
            Some(old) if same(old) => "unchanged",
            Some(_) => {
                notes.insert(0, "there is an application of this id already, which stays as it is".to_owned());
                refused += 1;
                "refused"
            }
            None => {
                let done = if args.dry_run { apps.check(&row) } else { apps.insert(&row).await };
                match done {
                    Ok(()) if args.dry_run => "would be created",
                    Ok(()) => "created",
                    // What concerns the database concerns all of them.
                    Err(error @ CliError::Store(_)) => return Err(error),
                    Err(error) => {
                        notes.insert(0, error.to_string());
                        refused += 1;
                        "refused"
                    }
                }
            }
        };
        told.push(
            json!({ "id": row.id, "key": row.key, "outcome": outcome, "enabled": row.enabled, "settings": seen(&row), "notes": notes }),
        );
    }
    list(&told, args.json, table)?;
    if !args.json {
        let notes: Vec<String> = told.iter().flat_map(note_lines).collect();
        if !notes.is_empty() {
            print(&format!("\n{}\n", notes.join("\n")))?;
        }
    }
    match refused {
        0 => Ok(()),
        refused => Err(CliError::NotThere(format!("{refused} of {} applications were not taken over", told.len()))),
    }
}

fn table(told: &[Value]) -> Table {
    let mut table = Table::new(&["ID", "KEY", "OUTCOME", "SETTINGS"]);
    for app in told {
        let shown = |name: &str| app[name].as_str().unwrap_or_default().to_owned();
        let settings = app["settings"].as_object().map(|settings| Value::Object(settings.clone()).to_string());
        table.row([shown("id"), shown("key"), shown("outcome"), settings.unwrap_or_default()]);
    }
    table
}

fn note_lines(app: &Value) -> Vec<String> {
    let id = printable(app["id"].as_str().unwrap_or_default());
    app["notes"].as_array().into_iter().flatten().filter_map(|note| Some(format!("{id}: {}", printable(note.as_str()?)))).collect()
}

/// The settings without what may be secret in them.
fn seen(row: &AppRow) -> Value {
    let mut settings = row.settings.clone();
    for endpoint in settings["webhooks"].as_array_mut().into_iter().flatten() {
        if let Some(url) = endpoint["url"].as_str() {
            endpoint["url"] = SecretUrl::new(url).to_string().into();
        }
        for (_, value) in endpoint["headers"].as_object_mut().into_iter().flatten() {
            *value = "<redacted>".into();
        }
    }
    settings
}

async fn rows(args: &SoketiArgs) -> Result<Vec<Map<String, Value>>, CliError> {
    if !args.url.starts_with("postgres://") && !args.url.starts_with("postgresql://") {
        let text = "only postgres://… can be read; a table in MySQL has to be copied into a PostgreSQL database first".to_owned();
        return Err(CliError::NotThere(text));
    }
    let failed = |error: sqlx::Error| match error {
        sqlx::Error::Database(error) => CliError::NotThere(format!("soketi's database says: {}", error.message())),
        error => CliError::NotThere(format!("cannot read soketi's database: {error}")),
    };
    let mut connection = PgConnection::connect(&args.url).await.map_err(failed)?;
    let name: Vec<String> = args.table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    // As JSON, because one installation has booleans where another has numbers.
    let select = format!("SELECT to_jsonb(t) AS app FROM {} t ORDER BY t.id", name.join("."));
    let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&mut connection).await.map_err(failed)?;
    connection.close().await.ok();
    let read = |row: &sqlx::postgres::PgRow| match row.try_get("app") {
        Ok(Value::Object(app)) => Ok(app),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(StoreError::from(error).into()),
    };
    rows.iter().map(read).collect()
}

/// An application that could be made of a row, and what of the row could not be taken over.
#[derive(Debug)]
struct Planned {
    row: AppRow,
    notes: Vec<String>,
}

/// A number of soketi, where it goes, and what it may be there. Without a value soketi takes a default of its own.
struct Limit {
    column: &'static str,
    keys: &'static [&'static str],
    /// soketi counts KB.
    unit: i64,
    most: i64,
    /// soketi's default; 0 is no limit.
    default: i64,
    /// What the key has without being set.
    ours: i64,
}

const KB: i64 = 1_024;
/// The largest client event that a webhook tells of.
const MAX_TOLD: i64 = 128 * KB;

const LIMITS: [Limit; 8] = [
    limit("max_presence_members_per_channel", &["max_presence_members"], 1, 100_000, 100, 100),
    limit("max_presence_member_size_in_kb", &["max_user_info_bytes"], KB, KB * KB, 2, KB),
    limit("max_channel_name_length", &["max_channel_name"], 1, 1_024, 200, 200),
    limit("max_event_channels_at_once", &["max_channels_per_event"], 1, 10_000, 100, 100),
    limit("max_event_name_length", &["max_event_name"], 1, 1_024, 200, 200),
    limit("max_event_payload_in_kb", &["max_event_bytes", "max_client_event_bytes"], KB, 16 * KB * KB, 100, 10 * KB),
    limit("max_event_batch_size", &["max_batch"], 1, 10_000, 10, 10),
    limit("max_client_events_per_sec", &["client_events_per_second"], 1, 1_000_000, 0, 10),
];

const fn limit(column: &'static str, keys: &'static [&'static str], unit: i64, most: i64, default: i64, ours: i64) -> Limit {
    Limit { column, keys, unit, most, default, ours }
}

/// What a row becomes.
fn plan(app: &Map<String, Value>) -> Result<Planned, String> {
    let mut notes = Vec::new();
    let identity = |name: &str| app.get(name).map(text_of).filter(|text| !text.is_empty()).ok_or(format!("it has no {name}"));
    let (id, key, secret) = (identity("id")?, identity("key")?, identity("secret")?);
    let (mut settings, mut limits) = (Map::new(), Map::new());
    let on = |name: &str| app.get(name).is_some_and(is_on);
    if on("enable_client_messages") {
        settings.insert("client_events".to_owned(), true.into());
    }
    if !on("enable_user_authentication") {
        settings.insert("user_authentication".to_owned(), false.into());
    }
    let number = |name: &str, notes: &mut Vec<String>| match app.get(name) {
        None | Some(Value::Null) => None,
        Some(value) => match text_of(value).parse::<f64>() {
            Ok(number) => Some(number),
            Err(_) => {
                notes.push(format!("{name} is {}, no number: soketi's default is taken", text_of(value)));
                None
            }
        },
    };
    // No limit is 0 with us, and every number below 0 with soketi.
    for (column, key, most) in [
        ("max_connections", "max_connections", 10_000_000),
        ("max_backend_events_per_sec", "publishes_per_second", 1_000_000),
        ("max_read_req_per_sec", "reads_per_second", 1_000_000),
    ] {
        let Some(given) = number(column, &mut notes).filter(|given| *given >= 0.0) else { continue };
        let limit = given as i64;
        if limit == 0 {
            notes.push(format!(
                "{column} is 0, which allows nothing, and cannot be said here: there it is no limit; disable the application instead"
            ));
            continue;
        }
        let value = most_of(limit, most, column, &mut notes);
        if key == "max_connections" {
            settings.insert(key.to_owned(), value.into())
        } else {
            limits.insert(key.to_owned(), value.into())
        };
    }
    for Limit { column, keys, unit, most, default, ours } in &LIMITS {
        let given = number(column, &mut notes);
        let unlimited_is_zero = *default == 0;
        let value = match given {
            Some(given) if given < 0.0 && unlimited_is_zero => 0,
            Some(given) if given < 0.0 => {
                notes.push(format!("{column} is no limit: the largest that there is here, {most}, is taken"));
                *most
            }
            Some(given) => {
                let value = (given * *unit as f64) as i64;
                if value < 1 {
                    notes.push(format!("{column} is {given}, which allows nothing: 1 is taken"));
                }
                most_of(value.max(1), *most, column, &mut notes)
            }
            None => default * unit,
        };
        if value != *ours {
            keys.iter().for_each(|key| drop(limits.insert((*key).to_owned(), value.into())));
        }
    }
    let webhooks = webhooks(app.get("webhooks"), &mut notes);
    let told = webhooks.iter().any(|endpoint| endpoint["events"].as_array().is_some_and(|kinds| kinds.contains(&"client_event".into())));
    if told && limits.get("max_client_event_bytes").and_then(Value::as_i64).is_some_and(|bytes| bytes > MAX_TOLD) {
        notes.push(format!("client events are limited to {MAX_TOLD} bytes, because a webhook tells of them"));
        limits.insert("max_client_event_bytes".to_owned(), MAX_TOLD.into());
    }
    if !limits.is_empty() {
        settings.insert("limits".to_owned(), limits.into());
    }
    if !webhooks.is_empty() {
        settings.insert("webhooks".to_owned(), webhooks.into());
    }
    let mapped = ["id", "key", "secret", "enabled", "enable_client_messages", "enable_user_authentication", "webhooks"];
    let counted = ["max_connections", "max_backend_events_per_sec", "max_read_req_per_sec"];
    for (column, value) in app {
        let is_known = mapped.contains(&&**column) || counted.contains(&&**column) || LIMITS.iter().any(|limit| limit.column == column);
        if !is_known && !value.is_null() {
            notes.push(format!("{column} is not known here, and left out"));
        }
    }
    let enabled = app.get("enabled").is_none_or(|value| value.is_null() || is_on(value));
    let row =
        AppRow { id, key, secret, previous_secret: None, enabled, settings: settings.into(), version: 1, updated_at: Timestamp::now() };
    Ok(Planned { row, notes })
}

fn most_of(value: i64, most: i64, column: &str, notes: &mut Vec<String>) -> i64 {
    if value > most {
        notes.push(format!("{column} is more than can be set here: {most} is taken"));
    }
    value.min(most)
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_on(value: &Value) -> bool {
    matches!(text_of(value).as_str(), "1" | "true" | "t")
}

/// Endpoints: `[{"url": …, "event_types": […], "headers": {…}, "filter": {"channel_name_starts_with": …}}]`, as JSON or as its text.
fn webhooks(given: Option<&Value>, notes: &mut Vec<String>) -> Vec<Value> {
    let parsed = match given {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::String(text)) if text.trim().is_empty() => return Vec::new(),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(value) => value.clone(),
    };
    let Value::Array(endpoints) = parsed else {
        notes.push("webhooks is no list, and left out".to_owned());
        return Vec::new();
    };
    let mut made = Vec::new();
    for (i, endpoint) in endpoints.iter().enumerate() {
        let at = format!("webhooks[{i}]");
        let Some(url) = endpoint["url"].as_str().filter(|url| !url.is_empty()) else {
            let lambda = !endpoint["lambda_function"].is_null() || !endpoint["lambda"].is_null();
            notes.push(format!("{at} {}, and is left out", if lambda { "calls an AWS Lambda function" } else { "has no url" }));
            continue;
        };
        let (mut kinds, mut unknown) = (Vec::new(), Vec::new());
        for kind in endpoint["event_types"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if WebhookKind::ALL.iter().any(|known| known.as_str() == kind) { kinds.push(kind) } else { unknown.push(kind) }
        }
        if !unknown.is_empty() {
            notes.push(format!("{at} wants {}, which are not sent here", unknown.join(", ")));
        }
        if kinds.is_empty() {
            notes.push(format!("{at} wants no kind of event that is sent here, and is left out"));
            continue;
        }
        let mut kept = json!({ "url": url, "events": kinds });
        if let Some(headers) = endpoint["headers"].as_object().filter(|headers| !headers.is_empty()) {
            kept["headers"] = headers.iter().map(|(name, value)| (name.clone(), text_of(value).into())).collect::<Map<_, _>>().into();
        }
        for (theirs, ours) in [("channel_name_starts_with", "channel_prefix"), ("channel_name_ends_with", "channel_suffix")] {
            if let Some(text) = endpoint["filter"][theirs].as_str().filter(|text| !text.is_empty()) {
                kept[ours] = text.into();
            }
        }
        made.push(kept);
    }
    made
}

#[cfg(test)]
#[path = "soketi_tests.rs"]
mod tests;
