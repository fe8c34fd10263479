//! `holdline publish`

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::{
    error::CliError,
    request::{Ask, Method},
    target::{Target, TargetArgs, escape, missing},
};

/// What to publish, and where.
#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The connection that does not get the event
    #[arg(long, value_name = "SOCKET_ID")]
    socket_id: Option<String>,
    /// The channel
    channel: String,
    /// The name of the event
    event: String,
    /// The data, usually JSON; sent as it is
    #[arg(allow_negative_numbers = true)]
    data: String,
}

#[derive(Serialize)]
struct Body<'a> {
    name: &'a str,
    channels: [&'a str; 1],
    data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_id: Option<&'a str>,
}

pub(super) fn run(args: PublishArgs) -> Result<(), CliError> {
    let target = args.target.resolve()?;
    let (path, body) = request(&target, &args)?;
    post(&path, &body).send(&target)?;
    let done = format!("Published {} to {} on {}\n", args.event, args.channel, target.broker());
    io::stdout().write_all(done.as_bytes()).map_err(CliError::Output)
}

fn post<'a>(path: &'a str, body: &'a str) -> Ask<'a> {
    Ask { method: Method::Post, purpose: "publishing", what: "event", path, params: &[], body }
}

/// Path and body.
fn request(target: &Target, args: &PublishArgs) -> Result<(String, String), CliError> {
    let app_id = target.app_id.as_ref().ok_or_else(|| missing("publishing", "--app-id"))?;
    let body = Body { name: &args.event, channels: [&args.channel], data: &args.data, socket_id: args.socket_id.as_deref() };
    // A struct of texts always has a JSON form.
    let body = serde_json::to_string(&body).unwrap_or_default();
    Ok((format!("/apps/{}/events", escape(app_id)), body))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PublishArgs,
    }

    /// Url and body.
    fn signed(flags: &[&str], words: [&str; 3]) -> (String, String) {
        let identity = ["holdline", "--url", "http://h:1/ws", "--app-id", "app-id", "--key", "app-key", "--secret", "app-secret"];
        let args = Line::parse_from(identity.iter().chain(flags).chain(&words)).args;
        let target = args.target.resolve().unwrap();
        let (path, body) = request(&target, &args).unwrap();
        (post(&path, &body).url(&target, 1_700_000_000).unwrap(), body)
    }

    #[test]
    fn vector_h1_is_what_we_send() {
        let (url, body) = signed(&[], ["project-3", "foo", r#"{"some":"data"}"#]);
        assert_eq!(body, r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#);
        assert_eq!(
            url,
            "http://h:1/ws/apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0\
             &body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=878d0f5603295d625f99381d725fa6b23826b4956b836dc0e7db7a3aeb6df9c9"
        );
    }

    #[test]
    fn a_connection_can_be_left_out() {
        let (_, body) = signed(&["--socket-id", "1.2"], ["c", "e", "-1"]);
        assert_eq!(body, r#"{"name":"e","channels":["c"],"data":"-1","socket_id":"1.2"}"#);
    }
}
