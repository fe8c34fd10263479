//! `holdline locks list`, `show` and `release`

use std::sync::Arc;

use clap::{Args, Subcommand, value_parser};
use serde_json::json;

use super::{
    FileArgs,
    error::CliError,
    event::printable,
    output::{Table, age, json_line, left, list, print, text},
    request::{Ask, Method},
    store::with_store,
    target::{TargetArgs, escape, missing},
};
use crate::{
    domain::LockState,
    lifecycle::store::{LifecycleStore, LockQuery, LockRow},
    server::store::Access,
};

/// Locks that are read at once.
const BATCH: u32 = 500;

/// What to do with locks.
#[derive(Debug, Subcommand)]
pub(super) enum LocksCommand {
    /// List the locks that are alive, by fence
    List(ListArgs),
    /// Show the locks of one resource, with all that hold them
    Show(ShowArgs),
    /// End a lock, whoever holds it, through the running broker
    Release(ReleaseArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only of this application
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Only on exactly this resource
    #[arg(long)]
    resource: Option<String>,
    /// Only of this principal, such as user:42
    #[arg(long)]
    principal: Option<String>,
    /// Only in this state: held, grace, or released (as long as those are remembered)
    #[arg(long, value_parser = |word: &str| LockState::parse(word).map_err(|_| "it must be held, grace or released"))]
    state: Option<LockState>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only of this application
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Print one JSON object per line; nothing if the resource is free
    #[arg(long)]
    json: bool,
    /// The resource, such as order:42
    resource: String,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The lock's fence, as `locks list` shows it
    #[arg(value_parser = value_parser!(i64).range(1..))]
    fence: i64,
}

pub(super) fn run(command: LocksCommand) -> Result<(), CliError> {
    match command {
        LocksCommand::List(args) => {
            let query =
                LockQuery { app: args.app, resource: args.resource, principal: args.principal, state: args.state, ..LockQuery::default() };
            with_store(&args.file, Access::Read, async |store| {
                let locks = collect(&store, query, args.limit.unwrap_or(u32::MAX)).await?;
                list(&locks, args.json, table)
            })
        }
        LocksCommand::Show(args) => {
            let query = LockQuery { app: args.app, resource: Some(args.resource.clone()), ..LockQuery::default() };
            with_store(&args.file, Access::Read, async |store| {
                let locks = collect(&store, query, u32::MAX).await?;
                let text = match locks.as_slice() {
                    locks if args.json => locks.iter().map(json_line).collect::<Result<String, _>>()?,
                    [] => format!("{} is free\n", printable(&args.resource)),
                    locks => locks.iter().map(describe).collect::<Vec<_>>().join("\n"),
                };
                print(&text).map(drop)
            })
        }
        LocksCommand::Release(args) => release(&args),
    }
}

async fn collect(store: &Arc<dyn LifecycleStore>, mut query: LockQuery, limit: u32) -> Result<Vec<LockRow>, CliError> {
    let mut locks: Vec<LockRow> = Vec::new();
    loop {
        let still = limit.saturating_sub(u32::try_from(locks.len()).unwrap_or(u32::MAX));
        query.limit = still.min(BATCH);
        query.after = locks.last().map(|lock| lock.fence).or(query.after);
        let batch = if still == 0 { Vec::new() } else { store.locks(&query).await? };
        let more = u32::try_from(batch.len()).is_ok_and(|found| found >= query.limit);
        locks.extend(batch);
        if !more || still == 0 {
            return Ok(locks);
        }
    }
}

fn state(lock: &LockRow) -> String {
    match lock.grace_until {
        Some(until) => format!("{} ({} left)", lock.state, left(until)),
        None => lock.state.to_string(),
    }
}

fn table(locks: &[LockRow]) -> Table {
    let mut table = Table::new(&["FENCE", "STATE", "APP", "RESOURCE", "PRINCIPAL", "MODE", "AGE", "HOLDERS"]);
    for lock in locks {
        let (app, resource, principal) = (lock.app.clone(), lock.resource.clone(), lock.principal.clone());
        let holders: Vec<&str> = lock.holders.iter().map(|holder| holder.socket_id.as_str()).collect();
        let (mode, holders) = (lock.mode.to_string(), holders.join(" "));
        table.row([lock.fence.to_string(), state(lock), app, resource, principal, mode, age(lock.acquired_at), holders]);
    }
    table
}

fn describe(lock: &LockRow) -> String {
    let mut table = Table::new(&["resource", &printable(&lock.resource)]);
    let mut field = |name: &str, value: String| table.row([name.to_owned(), value]);
    field("app", lock.app.clone());
    field("fence", lock.fence.to_string());
    field("state", state(lock));
    field("principal", lock.principal.clone());
    field("mode", lock.mode.to_string());
    field("event", lock.topic.clone());
    field("acquired", format!("{} ({} ago)", lock.acquired_at.to_rfc3339(), age(lock.acquired_at)));
    field("grace", if lock.grace.is_zero() { "none".to_owned() } else { humantime::format_duration(lock.grace).to_string() });
    if lock.cause.is_some() {
        field("cause", text(lock.cause));
    }
    field("context", lock.context.to_string());
    for holder in &lock.holders {
        field("holder", format!("{} on node {}, for {}", holder.socket_id, holder.incarnation, age(holder.since)));
    }
    table.to_string()
}

fn release(args: &ReleaseArgs) -> Result<(), CliError> {
    let (target, fence) = (args.target.resolve()?, args.fence);
    let app_id = target.app_id.clone().ok_or_else(|| missing("releasing a lock", "--app-id"))?;
    let path = format!("/apps/{}/locks/{fence}/release", escape(&app_id));
    let release = Ask { method: Method::Post, purpose: "releasing a lock", what: "release", path: &path, params: &[], body: "{}" };
    let released = release.send(&target);
    released.map_err(|error| match error {
        // It may be another application's, which the broker does not say.
        CliError::Refused { what, status: 404, text } => {
            CliError::Refused { what, status: 404, text: format!("{text} of app {}; --app-id names another", printable(&app_id)) }
        }
        other => other,
    })?;
    let done = match args.json {
        true => json_line(&json!({ "fence": fence, "app": app_id, "released": true }))?,
        false => format!("Released lock {fence} of app {}\n", printable(&app_id)),
    };
    print(&done).map(drop)
}
