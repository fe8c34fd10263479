//! `holdline up`: `GET /up` of the configured broker, so that a container needs no other program to be watched.

use actix_web::rt::System;
use clap::Args;

use super::{FileArgs, error::CliError, local::Local, output::print};

/// What to ask.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Ask whether it has started and is not stopping, too
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(args: &UpArgs) -> Result<(), CliError> {
    let local = Local::of(&args.file.load()?.settings)?;
    let path = if args.ready { "/ready" } else { "/up" };
    match System::new().block_on(local.get(path))? {
        (200, _) => print(&format!("{} answers {path}\n", local.address)).map(drop),
        (status, _) => Err(CliError::NotHealthy { address: local.address, path, status }),
    }
}
