//! Signed requests to the HTTP API of a running broker.

use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::rt::System;
use awc::{Client, http::header::CONTENT_TYPE};
use serde::de::DeserializeOwned;

use super::{
    error::CliError,
    event::printable,
    target::{Target, escape, missing},
};
use crate::protocol::{SigningKey, body_md5, canonical_request};

/// The longest answer that is read, in bytes: the channels of an application come in one.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What is asked of a path of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request with JSON to a path of the API.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// What is done, for messages: `publishing`.
    pub(super) purpose: &'static str,
    /// What the broker may refuse: `event`.
    pub(super) what: &'static str,
    /// The path that is signed, without the deployment's prefix.
    pub(super) path: &'a str,
    /// More parameters of the query.
    pub(super) params: &'a [(&'a str, &'a str)],
    /// The body.
    pub(super) body: &'a str,
}

impl Ask<'_> {
    /// Sends it; the answer.
    pub(super) fn send(&self, target: &Target) -> Result<Vec<u8>, CliError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| CliError::Clock)?.as_secs();
        let url = self.url(target, now)?;
        System::new().block_on(send(target, self, url))
    }

    /// Sends it; the answer, read as JSON.
    pub(super) fn read<T: DeserializeOwned>(&self, target: &Target) -> Result<T, CliError> {
        let answer = self.send(target)?;
        serde_json::from_slice(&answer).map_err(|source| CliError::Answer { url: target.broker(), source })
    }

    /// Its address, signed for this moment in Unix seconds.
    pub(super) fn url(&self, target: &Target, now: u64) -> Result<String, CliError> {
        let secret = target.secret.as_ref().ok_or_else(|| missing(self.purpose, "--secret"))?;
        let mut params = [
            ("auth_key", target.key.clone()),
            ("auth_timestamp", now.to_string()),
            ("auth_version", "1.0".to_owned()),
            ("body_md5", body_md5(self.body.as_bytes())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        params.extend(self.params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let signature = SigningKey::new(secret.expose()).sign(&[&canonical_request(self.method.as_str(), self.path, &params)]);
        params.push(("auth_signature".to_owned(), signature));
        let query: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        Ok(target.http_url(self.path, &query.join("&")))
    }
}

async fn send(target: &Target, ask: &Ask<'_>, url: String) -> Result<Vec<u8>, CliError> {
    let unreachable = |source| CliError::Unreachable { url: target.broker(), source };
    let client = Client::default();
    let request = match ask.method {
        Method::Get => client.get(url),
        Method::Post => client.post(url),
        Method::Delete => client.delete(url),
    };
    let request = request.insert_header((CONTENT_TYPE, "application/json")).send_body(ask.body.to_owned());
    let mut response = request.await.map_err(|error| unreachable(Box::new(error)))?;
    let answer = response.body().limit(MAX_ANSWER).await.map_err(|error| unreachable(Box::new(error)))?;
    if response.status().is_success() {
        return Ok(answer.to_vec());
    }
    let text = printable(String::from_utf8_lossy(&answer).trim());
    Err(CliError::Refused { what: ask.what, status: response.status().as_u16(), text })
}
