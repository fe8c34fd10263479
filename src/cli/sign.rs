//! `holdline sign`: what an application's auth endpoint answers, for trying things out by hand. Asks nobody.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    error::CliError,
    output::{json_line, print},
    target::{TargetArgs, missing},
};
use crate::protocol::{ChannelName, Signed, SigningKey, SocketId, limits};

/// What to sign.
#[derive(Debug, Subcommand)]
pub(super) enum SignCommand {
    /// A subscription to a private or presence channel
    Channel(ChannelArgs),
    /// A sign-in
    User(UserArgs),
}

#[derive(Debug, Args)]
pub(super) struct ChannelArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The connection, as `pusher:connection_established` named it
    socket_id: String,
    /// The channel
    channel: String,
    /// Who it is: a JSON object with user_id, and user_info if you like; presence channels need it
    channel_data: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UserArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The connection, as `pusher:connection_established` named it
    socket_id: String,
    /// Who it is: a JSON object with id
    user_data: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    auth: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<&'a str>,
}

/// Prints the JSON object that a client library expects of an auth endpoint.
pub(super) fn run(command: SignCommand) -> Result<(), CliError> {
    let (target, signed, channel_data, user_data) = match &command {
        SignCommand::Channel(ChannelArgs { target, socket_id, channel, channel_data }) => {
            let broken = |source| CliError::Channel { channel: channel.clone(), source };
            let kind = ChannelName::parse(channel, limits::MAX_CHANNEL_NAME).map_err(broken)?.kind();
            let channel_data = channel_data.as_deref();
            if !kind.needs_signature() {
                return Err(CliError::Sign(format!("{channel} is open to everybody: only private- and presence- channels are signed")));
            }
            match channel_data {
                None if kind.is_presence() => {
                    return Err(CliError::Sign(format!("{channel} needs channel data such as {{\"user_id\":\"42\"}}")));
                }
                Some(data) => named(data, "channel_data", "user_id")?,
                None => {}
            }
            (target, Signed::Channel { socket_id: known(socket_id)?, channel, channel_data }, channel_data, None)
        }
        SignCommand::User(UserArgs { target, socket_id, user_data }) => {
            named(user_data, "user_data", "id")?;
            (target, Signed::User { socket_id: known(socket_id)?, user_data }, None, Some(user_data.as_str()))
        }
    };
    let target = target.resolve()?;
    let secret = target.secret.as_ref().ok_or_else(|| missing("signing", "--secret"))?;
    let auth = signed.auth(&target.key, &SigningKey::new(secret.expose()));
    print(&json_line(&Answer { auth, channel_data, user_data })?).map(drop)
}

fn known(socket_id: &str) -> Result<&str, CliError> {
    match SocketId::parse(socket_id) {
        Ok(_) => Ok(socket_id),
        Err(_) => Err(CliError::Sign(format!("{socket_id:?} is not a socket id such as 123.456"))),
    }
}

/// An object with this field, a text or a number.
fn named(json: &str, what: &str, field: &str) -> Result<(), CliError> {
    let broken = |why: String| CliError::Sign(format!("{what} must be a JSON object with {field:?}: {why}"));
    let value: serde_json::Value = serde_json::from_str(json).map_err(|error| broken(error.to_string()))?;
    match value.get(field) {
        Some(id) if id.is_string() || id.is_number() => Ok(()),
        Some(_) => Err(broken("that is neither a text nor a number".to_owned())),
        None => Err(broken("it is missing".to_owned())),
    }
}
