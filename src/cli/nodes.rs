//! `holdline nodes list`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    FileArgs,
    error::CliError,
    output::{Table, age, list, text},
    store::with_store,
};
use crate::{
    domain::CloseCause,
    lifecycle::store::{Incarnation, NodeRow, NodeState, Timestamp},
    server::store::Access,
};

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(super) enum NodesCommand {
    /// List the brokers, newest first
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Also those that are gone and have nothing left
    #[arg(long)]
    all: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// A node as a line of JSON.
#[derive(Serialize)]
struct Line {
    incarnation: Incarnation,
    name: String,
    state: NodeState,
    holds: i64,
    heartbeat: i64,
    heartbeat_at: String,
    lease_ms: u64,
    started_at: String,
    fenced_at: Option<String>,
    cause: Option<CloseCause>,
    #[serde(skip)]
    times: (Timestamp, Timestamp),
}

impl From<NodeRow> for Line {
    fn from(node: NodeRow) -> Self {
        Self {
            incarnation: node.view.incarnation,
            name: node.view.name,
            state: node.view.state,
            holds: node.holds,
            heartbeat: node.view.heartbeat,
            heartbeat_at: node.heartbeat_at.to_rfc3339(),
            lease_ms: u64::try_from(node.view.ttl.as_millis()).unwrap_or(u64::MAX),
            started_at: node.started_at.to_rfc3339(),
            fenced_at: node.fenced_at.map(Timestamp::to_rfc3339),
            cause: node.end_cause,
            times: (node.heartbeat_at, node.started_at),
        }
    }
}

pub(super) fn run(command: NodesCommand) -> Result<(), CliError> {
    let NodesCommand::List(args) = command;
    with_store(&args.file, Access::Read, async |store| {
        let nodes = store.nodes().await?.into_iter().filter(|node| args.all || node.view.state != NodeState::Swept);
        let nodes: Vec<Line> = nodes.map(Line::from).collect();
        list(&nodes, args.json, table)
    })
}

fn table(nodes: &[Line]) -> Table {
    let mut table = Table::new(&["NODE", "NAME", "STATE", "HOLDS", "HEARTBEAT", "STARTED", "CAUSE"]);
    for node in nodes {
        let (heartbeat_at, started_at) = node.times;
        let ago = |at| format!("{} ago", age(at));
        table.row([
            node.incarnation.to_string(),
            node.name.clone(),
            node.state.to_string(),
            node.holds.to_string(),
            ago(heartbeat_at),
            ago(started_at),
            text(node.cause),
        ]);
    }
    table
}
