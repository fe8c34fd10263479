//! `holdline publish`

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::rt::System;
use awc::{Client, http::header::CONTENT_TYPE};
use clap::Args;
use serde::Serialize;

use super::{
    error::CliError,
    target::{Target, TargetArgs, escape, missing},
};
use crate::protocol::{SigningKey, body_md5, canonical_request};

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

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

/// A signed request.
struct Request {
    url: String,
    body: String,
}

pub(super) fn run(args: PublishArgs) -> Result<(), CliError> {
    let target = args.target.resolve()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| CliError::Clock)?.as_secs();
    let request = sign(&target, &args, now)?;
    System::new().block_on(send(&target, request))?;
    let done = format!("Published {} to {} on {}\n", args.event, args.channel, target.broker());
    io::stdout().write_all(done.as_bytes()).map_err(CliError::Output)
}

fn sign(target: &Target, args: &PublishArgs, now: u64) -> Result<Request, CliError> {
    let app_id = target.app_id.as_ref().ok_or_else(|| missing("publishing", "--app-id"))?;
    let secret = target.secret.as_ref().ok_or_else(|| missing("publishing", "--secret"))?;
    let body = Body { name: &args.event, channels: [&args.channel], data: &args.data, socket_id: args.socket_id.as_deref() };
    // A struct of texts always has a JSON form.
    let body = serde_json::to_string(&body).unwrap_or_default();
    let path = format!("/apps/{}/events", escape(app_id));
    let mut params = [
        ("auth_key", target.key.clone()),
        ("auth_timestamp", now.to_string()),
        ("auth_version", "1.0".to_owned()),
        ("body_md5", body_md5(body.as_bytes())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let signature = SigningKey::new(secret.expose()).sign(&[&canonical_request("POST", &path, &params)]);
    params.push(("auth_signature".to_owned(), signature));
    let query: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    Ok(Request { url: target.http_url(&path, &query.join("&")), body })
}

async fn send(target: &Target, request: Request) -> Result<(), CliError> {
    let unreachable = |source| CliError::Unreachable { url: target.broker(), source };
    let mut response = Client::default()
        .post(request.url)
        .insert_header((CONTENT_TYPE, "application/json"))
        .send_body(request.body)
        .await
        .map_err(|error| unreachable(Box::new(error)))?;
    let answer = response.body().limit(MAX_ANSWER).await.map_err(|error| unreachable(Box::new(error)))?;
    if response.status().is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer).trim().chars().filter(|c| !c.is_control()).collect();
    Err(CliError::PublishRefused { status: response.status().as_u16(), text })
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

    fn request(flags: &[&str], words: [&str; 3]) -> Request {
        let identity = ["holdline", "--url", "http://h:1/ws", "--app-id", "app-id", "--key", "app-key", "--secret", "app-secret"];
        let args = Line::parse_from(identity.iter().chain(flags).chain(&words)).args;
        sign(&args.target.resolve().unwrap(), &args, 1_700_000_000).unwrap()
    }

    #[test]
    fn vector_h1_is_what_we_send() {
        let request = request(&[], ["project-3", "foo", r#"{"some":"data"}"#]);
        assert_eq!(request.body, r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#);
        assert_eq!(
            request.url,
            "http://h:1/ws/apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0\
             &body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=878d0f5603295d625f99381d725fa6b23826b4956b836dc0e7db7a3aeb6df9c9"
        );
    }

    #[test]
    fn a_connection_can_be_left_out() {
        let body = request(&["--socket-id", "1.2"], ["c", "e", "-1"]).body;
        assert_eq!(body, r#"{"name":"e","channels":["c"],"data":"-1","socket_id":"1.2"}"#);
    }
}
