//! `holdline channels`

use std::collections::BTreeMap;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    error::CliError,
    output::{Table, list, text},
    request::{Ask, Method},
    target::{TargetArgs, escape, missing},
};

const PRESENCE: &str = "presence-";

/// Which channels to list.
#[derive(Debug, Args)]
pub(super) struct ChannelsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Only channels whose names begin so
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Answer {
    channels: BTreeMap<String, Attributes>,
}

#[derive(Deserialize)]
struct Attributes {
    subscription_count: Option<u64>,
    user_count: Option<u64>,
}

#[derive(Serialize)]
struct Row {
    channel: String,
    subscription_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_count: Option<u64>,
}

/// Lists the channels that somebody is subscribed to, on the broker that is asked.
pub(super) fn run(args: ChannelsArgs) -> Result<(), CliError> {
    let target = args.target.resolve()?;
    let app_id = target.app_id.as_ref().ok_or_else(|| missing("listing channels", "--app-id"))?;
    let path = format!("/apps/{}/channels", escape(app_id));
    let ask = |prefix: &str, info: &str| -> Result<BTreeMap<String, Attributes>, CliError> {
        let params = [("filter_by_prefix", prefix), ("info", info)];
        let ask = Ask { method: Method::Get, purpose: "listing channels", what: "question", path: &path, params: &params, body: "" };
        Ok(ask.read::<Answer>(&target)?.channels)
    };
    let mut channels = ask(&args.prefix, "subscription_count")?;
    // Members are counted on presence channels alone: a list that may have others must not be asked for them.
    if args.prefix.starts_with(PRESENCE) || PRESENCE.starts_with(&args.prefix) {
        let prefix = if args.prefix.len() > PRESENCE.len() { &args.prefix } else { PRESENCE };
        channels.extend(ask(prefix, "subscription_count,user_count")?);
    }
    let rows: Vec<Row> = channels.into_iter().map(|(channel, found)| row(channel, &found)).collect();
    list(&rows, args.json, |rows| {
        let mut table = Table::new(&["CHANNEL", "SUBSCRIPTIONS", "MEMBERS"]);
        for Row { channel, subscription_count, user_count } in rows {
            table.row([channel.clone(), text(*subscription_count), text(*user_count)]);
        }
        table
    })
}

fn row(channel: String, found: &Attributes) -> Row {
    Row { channel, subscription_count: found.subscription_count, user_count: found.user_count }
}
