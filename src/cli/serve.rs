//! `holdline serve`

use std::process::ExitCode;

use clap::Args;

use super::{FileArgs, error::report};
use crate::{
    config::{Options, Override, load},
    server,
};

/// The flags of `serve`; they win over variables and file.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// The port to listen on; 0 picks a free one [default: 6001]
    #[arg(long)]
    pub(super) port: Option<String>,
    /// auto, pretty or json [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// off, error, warn, info, debug, trace, or a filter such as "info,holdline=debug" [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl ServeArgs {
    fn overrides(&self) -> Vec<Override> {
        [
            ("--host", "server.host", &self.host),
            ("--port", "server.port", &self.port),
            ("--log-format", "log.format", &self.log_format),
            ("--log-level", "log.level", &self.log_level),
        ]
        .into_iter()
        .filter_map(|(flag, key, value)| Some(Override { flag, key, value: value.clone()? }))
        .collect()
    }
}

/// Runs the broker until it has been told to stop and has drained.
pub(crate) fn run(args: ServeArgs) -> ExitCode {
    let options = Options::from_process().map(|options| Options { file: args.file.config.clone(), flags: args.overrides(), ..options });
    let loaded = match options.and_then(load) {
        Ok(loaded) => loaded,
        Err(error) => return super::CliError::from(error).report(),
    };
    match server::run(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}
