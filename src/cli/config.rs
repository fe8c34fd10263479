//! `holdline config check` and `holdline config print`

use std::io::{self, Write};

use clap::Subcommand;

use super::{FileArgs, error::CliError};
use crate::server::tls;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check file and environment; say whether the broker would start with them
    Check(FileArgs),
    /// Print every effective value as TOML, with where it came from; secrets are redacted
    Print(FileArgs),
}

pub(super) fn run(command: ConfigCommand) -> Result<(), CliError> {
    let (ConfigCommand::Check(file) | ConfigCommand::Print(file)) = &command;
    let loaded = file.load()?;
    for warning in loaded.settings.warnings() {
        eprintln!("holdline: warning: {warning}");
    }
    if let ConfigCommand::Check(_) = &command
        && let Some(doubt) = tls::check(&loaded.settings.tls)?
    {
        eprintln!("holdline: warning: {doubt}");
    }
    let text = match (&command, &loaded.file) {
        (ConfigCommand::Print(_), _) => loaded.to_toml(),
        (ConfigCommand::Check(_), Some(path)) => format!("{} is valid\n", path.display()),
        (ConfigCommand::Check(_), None) => "The configuration without a file is valid\n".to_owned(),
    };
    io::stdout().write_all(text.as_bytes()).map_err(CliError::Output)
}
