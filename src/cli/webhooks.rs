//! `holdline webhooks list`, `dead`, `replay` and `drop`

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    FileArgs,
    error::CliError,
    event::printable,
    output::{Table, age, json_line, list, print, text},
    request::{Ask, Method},
    store::with_store,
    target::{Target, TargetArgs, escape, missing},
};
use crate::{
    lifecycle::{Among, DeadLetter, EndpointState, dead_letters, endpoint_states},
    server::{apps::settings_of, endpoints, store::Access},
};

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub(super) enum WebhooksCommand {
    /// List the endpoints, and how far each is
    List(ListArgs),
    /// List the events that endpoints did not take in time
    Dead(DeadArgs),
    /// Send dead letters again, through the running broker
    Replay(ChangeArgs),
    /// Forget dead letters, through the running broker
    Drop(ChangeArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only of this application
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DeadArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only of this application
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Only of the endpoint of this name
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// A dead letter, as `webhooks dead` shows it, such as shop:3-71
    id: Option<String>,
    /// All of the application
    #[arg(long)]
    all: bool,
    /// All of the endpoint of this name
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
}

pub(super) fn run(command: WebhooksCommand) -> Result<(), CliError> {
    match command {
        WebhooksCommand::List(args) => {
            let settings = args.file.load()?.settings;
            with_store(&args.file, Access::Read, async |store| {
                let mut infos = endpoints::infos(&settings);
                if settings.app_store.enabled {
                    // Those that cannot be read are not served either.
                    let rows = store.apps().await?.rows;
                    let served = rows.iter().filter_map(|row| settings_of(row, &settings.store).ok());
                    infos.extend(served.flat_map(|app| endpoints::infos_of(&app)));
                }
                list(&endpoint_states(&*store, &infos, args.app.as_deref()).await?, args.json, table)
            })
        }
        WebhooksCommand::Dead(args) => with_store(&args.file, Access::Read, async |store| {
            let among = Among { app: args.app, endpoint: args.endpoint };
            list(&dead_letters(&*store, &among, None, u32::MAX).await?, args.json, dead_table)
        }),
        WebhooksCommand::Replay(args) => change(&args, &REPLAY),
        WebhooksCommand::Drop(args) => change(&args, &DROP),
    }
}

fn table(endpoints: &[EndpointState]) -> Table {
    let mut table = Table::new(&["APP", "ENDPOINT", "URL", "EVENTS", "LAG", "OLDEST", "ATTEMPTS", "ASIDE", "DEAD", "LAST ERROR"]);
    for endpoint in endpoints {
        let shown = |name: &str| endpoint.info[name].as_str().unwrap_or_default().to_owned();
        let kinds: Vec<&str> = endpoint.info["events"].as_array().into_iter().flatten().filter_map(|kind| kind.as_str()).collect();
        let url = if endpoint.configured { shown("url") } else { "not configured here".to_owned() };
        table.row([
            endpoint.app.clone(),
            endpoint.endpoint.clone(),
            url,
            kinds.join(" "),
            endpoint.lag.to_string(),
            endpoint.oldest_owed.map(age).unwrap_or_default(),
            endpoint.attempts.to_string(),
            endpoint.aside.to_string(),
            endpoint.dead.to_string(),
            text(endpoint.last_error.as_ref()),
        ]);
    }
    table
}

fn dead_table(letters: &[DeadLetter]) -> Table {
    let mut table = Table::new(&["ID", "APP", "EVENT", "CHANNEL", "AGE", "DEAD FOR", "ATTEMPTS", "LAST ERROR"]);
    for letter in letters {
        let row = letter.row();
        table.row([
            letter.id().to_string(),
            row.event.app.clone(),
            row.event.event_type.clone(),
            row.event.resource.clone(),
            age(row.event.at),
            age(row.parked_at),
            row.attempts.to_string(),
            text(row.last_error.as_ref()),
        ]);
    }
    table
}

/// What is done, and how it is said.
struct Change {
    purpose: &'static str,
    what: &'static str,
    method: Method,
    /// Behind the address of what it is done with.
    path: &'static str,
    /// The name of the number in the answer.
    word: &'static str,
    done: &'static str,
}

const REPLAY: Change = Change {
    purpose: "replaying dead letters",
    what: "replay",
    method: Method::Post,
    path: "/replay",
    word: "replayed",
    done: "Replaying",
};
const DROP: Change =
    Change { purpose: "dropping dead letters", what: "drop", method: Method::Delete, path: "", word: "dropped", done: "Dropped" };

/// Some of many.
#[derive(Deserialize)]
struct Part {
    #[serde(alias = "replayed", alias = "dropped")]
    count: u64,
    more: bool,
}

fn change(args: &ChangeArgs, change: &Change) -> Result<(), CliError> {
    let target = args.target.resolve()?;
    let app_id = target.app_id.clone().ok_or_else(|| missing(change.purpose, "--app-id"))?;
    let dead = format!("/apps/{}/webhooks/dead", escape(&app_id));
    let (count, sentence) = match &args.which.id {
        Some(id) => {
            ask(change, &target, &format!("{dead}/{}{}", escape(id), change.path), &[]).map_err(|error| match error {
                // It may be another application's, which the broker does not say.
                CliError::Refused { what, status: 404, text } => {
                    CliError::Refused { what, status: 404, text: format!("{text} of app {}; --app-id names another", printable(&app_id)) }
                }
                other => other,
            })?;
            (1, format!("{} {} of app {}", change.done, printable(id), printable(&app_id)))
        }
        None => {
            let count = all(change, &target, &format!("{dead}{}", change.path), args.which.endpoint.as_deref())?;
            (count, format!("{} {count} dead letters of app {}", change.done, printable(&app_id)))
        }
    };
    print(&if args.json { json_line(&json!({ "app": app_id, change.word: count }))? } else { sentence + "\n" }).map(drop)
}

/// As many requests as it takes.
fn all(change: &Change, target: &Target, path: &str, endpoint: Option<&str>) -> Result<u64, CliError> {
    let params: Vec<(&str, &str)> = endpoint.map(|name| ("endpoint", name)).into_iter().collect();
    let mut total = 0;
    loop {
        let answer = ask(change, target, path, &params)?;
        let not_ours = |_| CliError::Refused { what: change.what, status: 200, text: "its answer is not that of a broker".to_owned() };
        let part: Part = serde_json::from_slice(&answer).map_err(not_ours)?;
        total += part.count;
        // Nothing done and more to do: somebody else is at it.
        if !part.more || part.count == 0 {
            return Ok(total);
        }
    }
}

fn ask(change: &Change, target: &Target, path: &str, params: &[(&str, &str)]) -> Result<Vec<u8>, CliError> {
    let Change { purpose, what, method, .. } = *change;
    Ask { method, purpose, what, path, params, body: "{}" }.send(target)
}
