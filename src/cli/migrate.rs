//! `holdline migrate`

use clap::Args;
use serde_json::json;

use super::{
    FileArgs,
    error::CliError,
    output::{json_line, print},
    store,
};
use crate::lifecycle::store::Migrated;

/// Which store to migrate.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print one JSON object: {"from": …, "to": …}; from 0 if there was no schema
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &MigrateArgs) -> Result<(), CliError> {
    let Migrated { from, to } = store::migrate(&args.file)?;
    let text = match (from, to) {
        _ if args.json => json_line(&json!({ "from": from, "to": to }))?,
        (0, _) => format!("Created the schema at version {to}\n"),
        (from, to) if from == to => format!("The schema is at version {to} already\n"),
        _ => format!("Migrated the schema from version {from} to {to}\n"),
    };
    print(&text).map(drop)
}
