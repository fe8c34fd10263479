//! How one kind of value is read, limited and printed.

mod list;
mod locks;
mod net;
mod number;
mod quantity;
mod ratio;
mod table;
mod text;
mod url;
mod word;

use super::error::Reason;

pub(super) use list::{RawPairs, TextList, structured};
pub(super) use locks::{
    broadcast_channel_if_any, broadcast_event, channel_part, channel_pattern_if_any, context_field, endpoint_name, event_topic, event_type,
    identifier_if_any, listener_name, template,
};
pub(super) use net::{no_bind_or_address, no_path_or_socket, trusted_proxy};
pub(super) use number::{Choice, Flag, Number};
pub(super) use quantity::{KIB, MIB, Size, Time, size_text, time_text};
pub(super) use ratio::Ratio;
pub use ratio::Share;
pub(super) use table::{HeaderMap, TextMap};
pub(super) use text::{
    SecretText, Text, TokenText, address_if_any, directory, file_if_any, host, identifier, log_filter, origin, path_prefix, service_name,
};
pub(super) use url::{UrlText, http_url, no_url_or_http, no_url_or_postgres, store_url};
pub(super) use word::{Keyword, Word, Words, keywords};

/// A value as somebody gave it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    /// A typed value, from a file.
    Value(&'a toml::Value),
    /// A text, from a variable or a flag.
    Text(&'a str),
}

/// The rule of one key.
pub(super) trait Rule {
    /// The type of the value.
    type Value;

    /// Reads a typed value.
    fn decode(&self, value: &toml::Value) -> Result<Self::Value, Reason>;

    /// Reads a text. Numbers, truth values and lists have their own way; for all others the text is the value.
    fn parse(&self, text: &str) -> Result<Self::Value, Reason> {
        self.decode(&toml::Value::String(text.to_owned()))
    }

    /// Whether a value keeps the limits.
    fn check(&self, value: &Self::Value) -> Result<(), Reason>;

    /// The value as it stands in a file; a secret as `<redacted>`.
    fn encode(&self, value: &Self::Value) -> toml::Value;

    /// Reads and checks.
    fn read(&self, given: Given<'_>) -> Result<Self::Value, Reason> {
        let value = match given {
            Given::Value(value) => self.decode(value)?,
            Given::Text(text) => self.parse(text)?,
        };
        self.check(&value)?;
        Ok(value)
    }
}

/// The name of a TOML type, with its article.
pub(super) fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "a whole number",
        toml::Value::Float(_) => "a fraction",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}

/// The text of a string value.
fn string<'a>(value: &'a toml::Value, expected: &'static str) -> Result<&'a str, Reason> {
    value.as_str().ok_or(Reason::WrongType { expected, found: kind(value) })
}
