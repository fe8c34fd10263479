//! `holdline consumers list`, `skip`, `rewind` and `drop`

use std::sync::Arc;

use clap::{Args, Subcommand, value_parser};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    FileArgs,
    error::CliError,
    event::printable,
    events::cursor,
    output::{Table, age, list, print, text},
    store::with_store,
};
use crate::{
    lifecycle::store::{ConsumerRow, Cursor, EventKind, EventRow, LifecycleStore, ParkedRow, Shard, StoreError},
    server::store::Access,
};

/// Parked entries of one consumer that are looked at.
const MOST_PARKED: u32 = 100_000;

/// What to do with consumers.
#[derive(Debug, Subcommand)]
pub(super) enum ConsumersCommand {
    /// List who reads the log by name, shard by shard, and how far
    List(ListArgs),
    /// Leave out the entry that a consumer is stuck at, or one that it has parked
    Skip(SkipArgs),
    /// Set a consumer back to a place: it gets everything after it again
    Rewind(RewindArgs),
    /// Forget a consumer, its place and what it has parked
    Drop(DropArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// List the entries that consumers have parked instead
    #[arg(long)]
    parked: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SkipArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The entry's shard
    #[arg(long, value_name = "N", value_parser = value_parser!(i16).range(0..))]
    shard: i16,
    /// The entry's position
    #[arg(long, value_name = "P", value_parser = value_parser!(i64).range(1..))]
    position: i64,
    /// Also an Unlocked, without which the consumer takes a lock for held that is over
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    named: Named,
}

#[derive(Debug, Args)]
pub(super) struct RewindArgs {
    #[command(flatten)]
    file: FileArgs,
    /// A cursor that `holdline events` has printed, or start
    #[arg(long, value_name = "CURSOR|start")]
    to: String,
    /// Also forward, past entries that the consumer then never gets
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    named: Named,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    named: Named,
}

#[derive(Debug, Args)]
struct Named {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The consumer's name
    name: String,
}

pub(super) fn run(command: ConsumersCommand) -> Result<(), CliError> {
    match command {
        ConsumersCommand::List(args) => with_store(&args.file, Access::Read, async |store| match args.parked {
            true => list(&all_parked(&store).await?, args.json, parked_table),
            false => list(&store.consumers().await?.into_iter().map(Line).collect::<Vec<_>>(), args.json, table),
        }),
        ConsumersCommand::Skip(args) => with_store(&args.file, Access::Operate, async |store| skip(&store, &args).await),
        ConsumersCommand::Rewind(args) => with_store(&args.file, Access::Operate, async |store| rewind(&store, &args).await),
        ConsumersCommand::Drop(args) => with_store(&args.file, Access::Operate, async |store| {
            let name = &args.named.name;
            if !store.drop_consumer(name).await? {
                return Err(StoreError::UnknownConsumer { name: printable(name) }.into());
            }
            args.named.done(json!({ "dropped": true }), format!("Dropped consumer {}", printable(name)))
        }),
    }
}

/// A consumer at one shard as a line of JSON.
struct Line(ConsumerRow);

impl Serialize for Line {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = &self.0;
        json!({
            "name": row.name, "shard": row.shard, "position": row.position, "last_position": row.last_position, "lag": row.lag(),
            "owner": row.owner, "attempts": row.attempts, "last_error": row.last_error, "parked": row.parked,
        })
        .serialize(serializer)
    }
}

fn table(consumers: &[Line]) -> Table {
    let mut table = Table::new(&["NAME", "SHARD", "POSITION", "LAG", "PARKED", "ATTEMPTS", "OWNER", "LAST ERROR"]);
    for Line(row) in consumers {
        let (position, lag, parked) = (row.position.to_string(), row.lag().to_string(), row.parked.to_string());
        let (owner, error) = (text(row.owner.as_ref()), text(row.last_error.as_ref()));
        table.row([row.name.clone(), row.shard.to_string(), position, lag, parked, row.attempts.to_string(), owner, error]);
    }
    table
}

/// A parked entry as a line of JSON: the entry, and why it waits.
struct Parked(ParkedRow);

impl Serialize for Parked {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = &self.0;
        json!({
            "name": row.name, "reason": row.reason, "attempts": row.attempts, "last_error": row.last_error,
            "parked_at": row.parked_at.to_rfc3339(), "event": row.event,
        })
        .serialize(serializer)
    }
}

fn parked_table(parked: &[Parked]) -> Table {
    let mut table = Table::new(&["NAME", "SHARD", "POSITION", "TYPE", "RESOURCE", "REASON", "ATTEMPTS", "FOR", "LAST ERROR"]);
    for Parked(row) in parked {
        let event = &row.event;
        table.row([
            row.name.clone(),
            event.shard.to_string(),
            event.position.to_string(),
            event.event_type.clone(),
            event.resource.clone(),
            row.reason.to_string(),
            row.attempts.to_string(),
            age(row.parked_at),
            text(row.last_error.as_ref()),
        ]);
    }
    table
}

async fn all_parked(store: &Arc<dyn LifecycleStore>) -> Result<Vec<Parked>, CliError> {
    let mut names: Vec<String> = store.consumers().await?.into_iter().map(|row| row.name).collect();
    names.dedup();
    let mut parked = Vec::new();
    for name in names {
        parked.extend(store.parked(&name, MOST_PARKED).await?.into_iter().map(Parked));
    }
    Ok(parked)
}

/// A consumer's rows, one per shard.
async fn rows(store: &Arc<dyn LifecycleStore>, name: &str) -> Result<Vec<ConsumerRow>, CliError> {
    let rows: Vec<ConsumerRow> = store.consumers().await?.into_iter().filter(|row| row.name == name).collect();
    if rows.is_empty() { Err(StoreError::UnknownConsumer { name: printable(name) }.into()) } else { Ok(rows) }
}

impl Named {
    fn done(&self, fields: Value, sentence: String) -> Result<(), CliError> {
        let text = match fields {
            Value::Object(fields) if self.json => {
                let mut line = serde_json::Map::from_iter([("name".to_owned(), json!(self.name))]);
                line.extend(fields);
                format!("{}\n", Value::Object(line))
            }
            _ => sentence + "\n",
        };
        print(&text).map(drop)
    }
}

async fn skip(store: &Arc<dyn LifecycleStore>, args: &SkipArgs) -> Result<(), CliError> {
    let (name, shard, position) = (&args.named.name, Shard(args.shard), args.position);
    let not_there = |text: String| CliError::NotThere(text);
    let rows = rows(store, name).await?;
    let row = rows.iter().find(|row| row.shard == shard);
    let row = row.ok_or_else(|| not_there(format!("there is no shard {shard}, the last one is {}", rows.len() - 1)))?;
    let is_parked = store.parked(name, MOST_PARKED).await?.iter().any(|row| (row.event.shard, row.event.position) == (shard, position));
    if !is_parked && position != row.position + 1 {
        let (done, shown) = (row.position, printable(name));
        return Err(not_there(format!("consumer {shown} is at position {done} of shard {shard}: {position} is neither next nor parked")));
    }
    if position > row.last_position {
        return Err(not_there(format!("position {position} of shard {shard} is not written yet")));
    }
    let event = store.event(shard, position).await?;
    if let Some(doubt) = doubt(event.as_ref(), shard, position) {
        if !args.force {
            return Err(CliError::NeedsForce(doubt));
        }
        eprintln!("holdline: warning: {doubt}");
    }
    let skipped = if is_parked { store.unpark(name, shard, position).await? } else { store.skip(name, shard, position).await? };
    if !skipped {
        let reason =
            if is_parked { "an earlier entry about the same resource is parked, and must go first" } else { "it has moved on meanwhile" };
        return Err(not_there(format!("nothing is skipped: {reason}")));
    }
    let what = event.map_or_else(|| "a hole".to_owned(), |event| format!("{} of {}", event.event_type, printable(&event.resource)));
    let sentence = format!("Skipped position {position} of shard {shard} ({what}) for consumer {}", printable(name));
    args.named.done(json!({ "shard": shard, "position": position, "skipped": true }), sentence)
}

/// What is lost with an entry that must not be left out lightly.
fn doubt(event: Option<&EventRow>, shard: Shard, position: i64) -> Option<String> {
    match event {
        None => Some(format!("position {position} of shard {shard} is missing from the log")),
        Some(event) if event.kind == EventKind::Unlocked => {
            let (event_type, resource, fence) = (printable(&event.event_type), printable(&event.resource), text(event.fence));
            Some(format!("{event_type} of {resource} says that lock {fence} is over, and the consumer would take it for held"))
        }
        Some(_) => None,
    }
}

async fn rewind(store: &Arc<dyn LifecycleStore>, args: &RewindArgs) -> Result<(), CliError> {
    let name = &args.named.name;
    let to = match args.to.as_str() {
        "start" => Cursor::start(store.shards()),
        text => cursor(store, text).await?,
    };
    let ahead = |row: &&ConsumerRow| to.positions().get(usize::try_from(row.shard.0).unwrap_or(0)).is_some_and(|to| *to > row.position);
    let skips = rows(store, name).await?.iter().filter(ahead).count();
    if skips > 0 {
        let doubt = format!("in {skips} shards that is ahead of consumer {}, which would never get what lies between", printable(name));
        if !args.force {
            return Err(CliError::NeedsForce(doubt));
        }
        eprintln!("holdline: warning: {doubt}");
    }
    store.rewind(name, &to).await?;
    args.named.done(json!({ "to": to.to_string() }), format!("Consumer {} goes on after {to}", printable(name)))
}
