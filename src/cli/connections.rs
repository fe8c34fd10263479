//! `holdline connections` and `holdline kick`

use clap::{Args, value_parser};
use serde::{Deserialize, Serialize};

use super::{
    error::CliError,
    event::printable,
    output::{Reader, Table, json_line, print, span},
    request::{Ask, Method},
    target::{Target, TargetArgs, escape, missing},
};

/// Connections that are asked for at once.
const PAGE: u32 = 1_000;

/// Which connections to list.
#[derive(Debug, Args)]
pub(super) struct ConnectionsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Whose connections to end.
#[derive(Debug, Args)]
pub(super) struct KickArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The id of a signed-in user
    user_id: String,
}

#[derive(Deserialize)]
struct Page {
    sockets: Vec<Socket>,
    next: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Socket {
    socket_id: String,
    state: String,
    remote_ip: Option<String>,
    connected_for_ms: u64,
    user_id: Option<String>,
    channels: Vec<String>,
    bytes_in: u64,
    bytes_out: u64,
}

/// Lists the connections of the broker that is asked.
pub(super) fn run(args: ConnectionsArgs) -> Result<(), CliError> {
    let target = args.target.resolve()?;
    let app_id = target.app_id.as_ref().ok_or_else(|| missing("listing connections", "--app-id"))?;
    let path = format!("/apps/{}/sockets", escape(app_id));
    let mut rows = Vec::new();
    let mut after = None;
    let wanted =
        |rows: &Vec<Socket>| args.limit.map_or(u32::MAX, |limit| limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX)));
    while wanted(&rows) > 0 {
        let Page { sockets, next } = page(&target, &path, wanted(&rows).min(PAGE), after.as_deref())?;
        rows.extend(sockets);
        after = next;
        if after.is_none() {
            break;
        }
    }
    if args.json {
        for row in &rows {
            if print(&json_line(row)?)? == Reader::Gone {
                break;
            }
        }
        return Ok(());
    }
    let mut table = Table::new(&["SOCKET ID", "STATE", "ADDRESS", "FOR", "USER", "CHANNELS"]);
    for row in rows {
        let connected_for = span(i64::try_from(row.connected_for_ms).unwrap_or(i64::MAX));
        let (ip, user) = (row.remote_ip.unwrap_or_default(), row.user_id.unwrap_or_default());
        table.row([row.socket_id, row.state, ip, connected_for, user, row.channels.join(" ")]);
    }
    print(&table.to_string()).map(drop)
}

fn page(target: &Target, path: &str, limit: u32, after: Option<&str>) -> Result<Page, CliError> {
    let limit = limit.to_string();
    let mut params = vec![("limit", limit.as_str())];
    params.extend(after.map(|after| ("after", after)));
    Ask { method: Method::Get, purpose: "listing connections", what: "question", path, params: &params, body: "" }.read(target)
}

/// Ends every connection of a signed-in user: they are closed with 4009, and do not come back by themselves (protocol.md 6.10).
pub(super) fn kick(args: KickArgs) -> Result<(), CliError> {
    let target = args.target.resolve()?;
    let app_id = target.app_id.as_ref().ok_or_else(|| missing("ending connections", "--app-id"))?;
    let path = format!("/apps/{}/users/{}/terminate_connections", escape(app_id), escape(&args.user_id));
    Ask { method: Method::Post, purpose: "ending connections", what: "request", path: &path, params: &[], body: "{}" }.send(&target)?;
    print(&format!("Ended the connections of user {} on {}\n", printable(&args.user_id), target.broker())).map(drop)
}
