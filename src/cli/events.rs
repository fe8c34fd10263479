//! `holdline events list` and `show`; `tail` is next door.

use std::sync::Arc;

use clap::{Args, Subcommand, value_parser};

use super::{
    FileArgs,
    error::CliError,
    event::printable,
    output::{Reader, Table, json_line, print, text},
    store::with_store,
    tail,
};
use crate::{
    lifecycle::store::{Cursor, EventRow, LifecycleStore, Shard},
    server::store::Access,
};

/// Entries that are read at once.
pub(super) const BATCH: u32 = 500;

/// How to read the log.
#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// Print entries, from the oldest; the last line on the standard error is `cursor: …`, for --after
    List(ListArgs),
    /// Print entries as they are written, until Ctrl-C; then the last line on the standard error is `cursor: …`, for --after
    Tail(TailArgs),
    /// Print one entry whole
    Show(ShowArgs),
}

/// Which entries, and how they are printed.
#[derive(Debug, Args)]
pub(super) struct Selection {
    #[command(flatten)]
    pub(super) file: FileArgs,
    /// Only what comes after this place
    #[arg(long, value_name = "CURSOR")]
    pub(super) after: Option<String>,
    /// Only of this application
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Only about exactly this resource
    #[arg(long)]
    resource: Option<String>,
    /// Only of this type; a * at the end stands for anything: Order*
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    selection: Selection,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    pub(super) selection: Selection,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The part of the log
    #[arg(value_parser = value_parser!(i16).range(0..))]
    shard: i16,
    /// Where in it
    #[arg(value_parser = value_parser!(i64).range(1..))]
    position: i64,
}

pub(super) fn run(command: EventsCommand) -> Result<(), CliError> {
    match command {
        EventsCommand::List(args) => with_store(&args.selection.file, Access::Read, async |store| list(&store, &args).await),
        EventsCommand::Tail(args) => with_store(&args.selection.file, Access::Read, async |store| tail::run(&store, &args.selection).await),
        EventsCommand::Show(args) => with_store(&args.file, Access::Read, async |store| show(&store, &args).await),
    }
}

async fn list(store: &Arc<dyn LifecycleStore>, args: &ListArgs) -> Result<(), CliError> {
    let mut place = start(store, &args.selection).await?.unwrap_or_else(|| Cursor::start(store.shards()));
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut lines = Lines::new(args.selection.json);
    let mut has_head = false;
    'log: loop {
        let (batch, next) = store.events_after(&place, BATCH).await?;
        batch
            .iter()
            .filter(|event| args.selection.takes(event))
            .take(usize::try_from(left).unwrap_or(usize::MAX))
            .for_each(|event| lines.fit(event));
        if !std::mem::replace(&mut has_head, true) && lines.head()? == Reader::Gone {
            return Ok(());
        }
        if batch.is_empty() {
            break;
        }
        for event in batch {
            place.advance(&event);
            if !args.selection.takes(&event) {
                continue;
            }
            if lines.print(&event)? == Reader::Gone {
                return Ok(());
            }
            left -= 1;
            if left == 0 {
                break 'log;
            }
        }
        place = next;
    }
    say_cursor(&place);
    Ok(())
}

/// The place that `--after` names.
pub(super) async fn start(store: &Arc<dyn LifecycleStore>, selection: &Selection) -> Result<Option<Cursor>, CliError> {
    match &selection.after {
        None => Ok(None),
        Some(text) => cursor(store, text).await.map(Some),
    }
}

/// Reads a cursor, and sees whether the log has that place.
pub(super) async fn cursor(store: &Arc<dyn LifecycleStore>, text: &str) -> Result<Cursor, CliError> {
    let wrong = || CliError::Cursor { cursor: text.to_owned() };
    let cursor: Cursor = text.parse().map_err(|_| wrong())?;
    // A place beyond the end is one of another log: it would be waited at for ever.
    if store.head().await?.covers(&cursor) { Ok(cursor) } else { Err(wrong()) }
}

/// On the standard error, so that the standard output has entries only.
pub(super) fn say_cursor(cursor: &Cursor) {
    eprintln!("cursor: {cursor}");
}

impl Selection {
    /// Whether an entry is wanted.
    pub(super) fn takes(&self, event: &EventRow) -> bool {
        let of_type = |wanted: &String| match wanted.strip_suffix('*') {
            Some(stem) => event.event_type.starts_with(stem),
            None => event.event_type == *wanted,
        };
        self.app.as_ref().is_none_or(|app| *app == event.app)
            && self.resource.as_ref().is_none_or(|resource| *resource == event.resource)
            && self.event_type.as_ref().is_none_or(of_type)
    }
}

/// How entries are printed: as JSON, or in columns of usual widths that grow with what comes, since what is still to come is not known.
#[derive(Debug)]
pub(super) struct Lines {
    json: bool,
    widths: [usize; 8],
}

impl Lines {
    pub(super) fn new(json: bool) -> Self {
        Self { json, widths: [24, 7, 16, 8, 16, 16, 5, 0] }
    }

    /// Makes room for an entry that is printed later.
    pub(super) fn fit(&mut self, event: &EventRow) {
        if !self.json {
            self.grow(&cells(event));
        }
    }

    fn grow(&mut self, cells: &[String; 8]) {
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// Prints what the columns are, if there are any.
    pub(super) fn head(&self) -> Result<Reader, CliError> {
        if self.json {
            return Ok(Reader::There);
        }
        print(&self.line(&["AT", "PLACE", "TYPE", "APP", "RESOURCE", "PRINCIPAL", "FENCE", "CAUSE"].map(str::to_owned)))
    }

    /// Prints an entry as a line.
    pub(super) fn print(&mut self, event: &EventRow) -> Result<Reader, CliError> {
        if self.json {
            return print(&json_line(event)?);
        }
        let cells = cells(event);
        self.grow(&cells);
        print(&self.line(&cells))
    }

    fn line(&self, cells: &[String; 8]) -> String {
        let padded: Vec<String> = cells.iter().zip(self.widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    }
}

fn cells(event: &EventRow) -> [String; 8] {
    let cells = [
        event.at.to_rfc3339(),
        format!("{}/{}", event.shard, event.position),
        event.event_type.clone(),
        event.app.clone(),
        event.resource.clone(),
        text(event.principal.as_ref()),
        text(event.fence),
        cause(event),
    ];
    cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell) })
}

fn cause(event: &EventRow) -> String {
    text(event.cause.map(|cause| if event.after_grace { format!("{cause}, after grace") } else { cause.to_string() }))
}

async fn show(store: &Arc<dyn LifecycleStore>, args: &ShowArgs) -> Result<(), CliError> {
    let (shard, position) = (args.shard, args.position);
    let found = store.event(Shard(shard), position).await?;
    let event = found.ok_or_else(|| CliError::NotThere(format!("shard {shard} has no entry at position {position}")))?;
    let text = if args.json { json_line(&event)? } else { describe(&event) };
    print(&text).map(drop)
}

fn describe(event: &EventRow) -> String {
    let mut table = Table::new(&["type", &printable(&event.event_type)]);
    let mut field = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.to_owned(), value]);
        }
    };
    field("kind", event.kind.to_string());
    field("place", format!("position {} of shard {}", event.position, event.shard));
    field("at", event.at.to_rfc3339());
    field("app", event.app.clone());
    field("resource", event.resource.clone());
    field("principal", text(event.principal.as_ref()));
    field("socket", text(event.socket_id.as_ref()));
    field("fence", text(event.fence));
    field("cause", cause(event));
    field("node", text(event.incarnation));
    field("noticed", text(event.detected_ms_before_commit.map(|ms| format!("{ms} ms before it was written"))));
    field("context", event.payload.to_string());
    table.to_string()
}
