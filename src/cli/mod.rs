//! The command line: `serve`, `config`, `doctor`, `up`; `publish`, `listen`, `channels`, `connections`, `kick`, `sign`; `apps`, `locks`,
//! `events`, `consumers`, `webhooks`, `nodes` and `migrate`.
//!
//! Reads arguments and configuration, hands over, and turns what happened into an exit code: 0 done, 1 refused or failed, 2 a
//! usage or configuration error. It may not contain rules of the broker: `publish` and those beside it, `locks release` and `webhooks replay`
//! are clients over the wire; the other commands look into the store beside the broker, whether it runs or not. Start reading at [`main`].

mod apps;
mod channels;
mod config;
mod connections;
mod consumers;
mod doctor;
mod error;
mod event;
mod events;
mod listen;
mod local;
mod locks;
mod migrate;
mod nodes;
mod output;
mod publish;
mod request;
mod serve;
mod session;
mod sign;
mod store;
mod tail;
mod target;
mod up;
mod webhooks;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::{Loaded, Options, load};
use error::CliError;

/// A Pusher-compatible realtime broker. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "holdline", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (the default)
    Serve(serve::ServeArgs),
    /// Check or print the effective configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Publish one event over the HTTP API
    Publish(publish::PublishArgs),
    /// Subscribe to channels and print one line per event
    Listen(listen::ListenArgs),
    /// List the channels that somebody is subscribed to
    Channels(channels::ChannelsArgs),
    /// List who is connected
    Connections(connections::ConnectionsArgs),
    /// End all connections of a user
    Kick(connections::KickArgs),
    /// Sign a subscription or a sign-in, as an auth endpoint does
    #[command(subcommand)]
    Sign(sign::SignCommand),
    /// Look at locks, or release one
    #[command(subcommand)]
    Locks(locks::LocksCommand),
    /// Read the durable log
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Look at those who read the log by name, or move them
    #[command(subcommand)]
    Consumers(consumers::ConsumersCommand),
    /// Look at endpoints of webhooks, and at those events that they did not take
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    /// Manage the applications that the store keeps
    #[command(subcommand)]
    Apps(apps::AppsCommand),
    /// Look at the brokers that share the store
    #[command(subcommand)]
    Nodes(nodes::NodesCommand),
    /// Create the store's schema, or bring it up to date
    Migrate(migrate::MigrateArgs),
    /// Look whether a broker runs well here with this configuration; print what clients need to connect
    Doctor(doctor::DoctorArgs),
    /// Ask the configured broker on this machine whether it lives, for containers and scripts
    Up(up::UpArgs),
}

/// `--config`, which every command takes.
#[derive(Debug, Clone, Default, Args)]
struct FileArgs {
    /// The configuration file [default: $HOLDLINE_CONFIG, else ./holdline.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgs {
    fn load(&self) -> Result<Loaded, CliError> {
        Ok(load(Options { file: self.config.clone(), ..Options::from_process()? })?)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done for a closed terminal.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(error::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        None => return serve::run(cli.serve),
        Some(Command::Serve(args)) => return serve::run(args),
        Some(Command::Config(command)) => config::run(command),
        Some(Command::Publish(args)) => publish::run(args),
        Some(Command::Listen(args)) => listen::run(args),
        Some(Command::Channels(args)) => channels::run(args),
        Some(Command::Connections(args)) => connections::run(args),
        Some(Command::Kick(args)) => connections::kick(args),
        Some(Command::Sign(command)) => sign::run(command),
        Some(Command::Locks(command)) => locks::run(command),
        Some(Command::Events(command)) => events::run(command),
        Some(Command::Consumers(command)) => consumers::run(command),
        Some(Command::Webhooks(command)) => webhooks::run(command),
        Some(Command::Apps(command)) => apps::run(command),
        Some(Command::Nodes(command)) => nodes::run(command),
        Some(Command::Migrate(args)) => migrate::run(&args),
        Some(Command::Doctor(args)) => return doctor::run(&args),
        Some(Command::Up(args)) => up::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_command() {
        let cli = Cli::try_parse_from(["holdline", "--port", "0"]).unwrap();
        assert!(cli.command.is_none() && cli.serve.port.as_deref() == Some("0"));
        assert!(matches!(Cli::try_parse_from(["holdline", "serve", "--port", "0"]).unwrap().command, Some(Command::Serve(_))));
        assert!(Cli::try_parse_from(["holdline", "--port", "0", "listen", "x"]).is_err());
        assert!(Cli::try_parse_from(["holdline", "listen"]).is_err(), "a channel is required");
    }
}
