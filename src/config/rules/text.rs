//! Texts of a certain shape.

use std::net::{IpAddr, SocketAddr};

use tracing_subscriber::EnvFilter;

use super::{Rule, string};
use crate::config::{
    error::Reason,
    secret::{REDACTED, Secret},
};

/// Longest host, path prefix or origin, in bytes.
const MAX_ADDRESS: usize = 253;
/// Longest path of a directory, in bytes: what the system takes.
const MAX_PATH: usize = 4_095;
/// Longest application id or key, in bytes.
const MAX_IDENTIFIER: usize = 128;
/// What a text without control characters is called.
pub(super) const PRINTABLE: &str = "printable characters only";
/// Longest secret, in bytes.
const MAX_SECRET: usize = 512;
/// Shortest token, in bytes.
const MIN_TOKEN: usize = 16;

/// A text of one shape.
pub(crate) struct Text(pub(crate) fn(&str) -> Result<(), Reason>);

impl Rule for Text {
    type Value = String;

    fn decode(&self, value: &toml::Value) -> Result<String, Reason> {
        string(value, "a string").map(str::to_owned)
    }

    fn check(&self, value: &String) -> Result<(), Reason> {
        (self.0)(value)
    }

    fn encode(&self, value: &String) -> toml::Value {
        toml::Value::String(value.clone())
    }
}

/// A secret. No reason of this rule contains the value.
pub(crate) struct SecretText;

impl Rule for SecretText {
    type Value = Secret;

    fn decode(&self, value: &toml::Value) -> Result<Secret, Reason> {
        string(value, "a string").map(Secret::new)
    }

    fn check(&self, value: &Secret) -> Result<(), Reason> {
        let secret = value.expose();
        not_empty(secret)?;
        at_most(secret, MAX_SECRET)?;
        // The output of `config print`, used as a file, would start and refuse every signature.
        if secret == REDACTED {
            return Err(Reason::Unreadable { expected: "the secret itself, not its redacted form" });
        }
        // The newline at the end of a secret that was read from a file signs everything wrongly, and cannot be seen.
        only(secret, |c| !c.is_control(), PRINTABLE)
    }

    fn encode(&self, _: &Secret) -> toml::Value {
        toml::Value::String(REDACTED.to_owned())
    }
}

/// Nothing, or a secret that nobody guesses. No reason of this rule contains the value.
pub(crate) struct TokenText;

impl Rule for TokenText {
    type Value = Secret;

    fn decode(&self, value: &toml::Value) -> Result<Secret, Reason> {
        SecretText.decode(value)
    }

    fn check(&self, value: &Secret) -> Result<(), Reason> {
        let token = value.expose();
        if token.is_empty() {
            return Ok(());
        }
        SecretText.check(value)?;
        // It stands in a header, where other characters mean something else to some.
        only(token, |c| c.is_ascii_graphic(), "visible ASCII characters only, without spaces")?;
        if token.len() < MIN_TOKEN {
            return Err(Reason::TooShort { length: token.len(), at_least: MIN_TOKEN });
        }
        Ok(())
    }

    fn encode(&self, value: &Secret) -> toml::Value {
        if value.expose().is_empty() { toml::Value::String(String::new()) } else { SecretText.encode(value) }
    }
}

/// An IP address or a host name, without scheme and port.
pub(crate) fn host(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_ADDRESS)?;
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    only(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'), "an IP address or a host name, without scheme and port")
}

/// Nothing, or an IP address with its port.
pub(crate) fn address_if_any(text: &str) -> Result<(), Reason> {
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    Err(Reason::Malformed { expected: r#"nothing, or an IP address and a port such as "127.0.0.1:9601""#, found: text.to_owned() })
}

/// Nothing, or `/ws` or `/a/b`.
pub(crate) fn path_prefix(text: &str) -> Result<(), Reason> {
    at_most(text, MAX_ADDRESS)?;
    if text.is_empty() {
        return Ok(());
    }
    only(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '/'), "letters, digits, - . _ ~ and / only")?;
    if !text.starts_with('/') || text.ends_with('/') || text.contains("//") {
        return Err(Reason::Malformed {
            expected: r#"nothing, or a path such as "/ws" without a slash at its end"#,
            found: text.to_owned(),
        });
    }
    Ok(())
}

/// What a service is called.
pub(crate) fn service_name(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_IDENTIFIER)?;
    only(text, |c| !c.is_control(), PRINTABLE)
}

/// A directory, which need not exist.
pub(crate) fn directory(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_PATH)?;
    only(text, |c| !c.is_control(), PRINTABLE)
}

/// Nothing, or a file.
pub(crate) fn file_if_any(text: &str) -> Result<(), Reason> {
    if text.is_empty() { Ok(()) } else { directory(text) }
}

/// An application's id or key: it stands in a path, in a query and before the colon of a signature.
pub(crate) fn identifier(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_IDENTIFIER)?;
    only(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '@'), "letters, digits and - . _ ~ @ only")
}

/// `*`, `https://shop.example[:8443]`, `shop.example` or `*.shop.example`.
pub(crate) fn origin(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_ADDRESS)?;
    if text == "*" {
        return Ok(());
    }
    let (scheme, host) = text.split_once("://").map_or((None, text), |(scheme, host)| (Some(scheme), host));
    let host = host.strip_prefix("*.").unwrap_or(host);
    let name_like = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "-._:[]".contains(c));
    if scheme.is_none_or(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) && !scheme.is_empty())
        && name_like(host)
    {
        return Ok(());
    }
    Err(Reason::Malformed {
        expected: r#""*", or an origin such as "https://shop.example", "shop.example" or "*.shop.example", without a path"#,
        found: text.to_owned(),
    })
}

/// A level, or filter directives such as `info,holdline=debug`.
pub(crate) fn log_filter(text: &str) -> Result<(), Reason> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.contains(&word.trim().to_ascii_lowercase().as_str());
    // A lone word that is no level would be taken for the name of a target and silence everything else.
    let directives_end_in_levels =
        text.split(',').all(|directive| is_level(directive.rsplit_once('=').map_or(directive, |(_, level)| level)));
    if directives_end_in_levels && EnvFilter::builder().parse(text).is_ok() {
        return Ok(());
    }
    Err(Reason::Malformed {
        expected: r#"off, error, warn, info, debug, trace, or a filter such as "info,holdline=debug""#,
        found: text.to_owned(),
    })
}

pub(super) fn not_empty(text: &str) -> Result<(), Reason> {
    if text.is_empty() { Err(Reason::Empty) } else { Ok(()) }
}

pub(super) fn at_most(text: &str, limit: usize) -> Result<(), Reason> {
    if text.len() > limit { Err(Reason::TooLong { length: text.len(), at_most: limit }) } else { Ok(()) }
}

pub(super) fn only(text: &str, is_allowed: fn(char) -> bool, allowed: &'static str) -> Result<(), Reason> {
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(character) => Err(Reason::ForbiddenCharacter { character, allowed }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::Given;

    fn accepts(shape: fn(&str) -> Result<(), Reason>, good: &[&str], bad: &[&str]) {
        good.iter().for_each(|text| assert_eq!(shape(text), Ok(()), "{text}"));
        bad.iter().for_each(|text| assert!(shape(text).is_err(), "{text}"));
    }

    #[test]
    fn hosts() {
        accepts(
            host,
            &["127.0.0.1", "0.0.0.0", "::", "::1", "localhost", "broker.internal"],
            &["", "127.0.0.1:6001", "http://localhost", "a b", "[::1]"],
        );
    }

    #[test]
    fn addresses() {
        accepts(
            address_if_any,
            &["", "127.0.0.1:9601", "0.0.0.0:0", "[::1]:9601"],
            &["9601", "127.0.0.1", ":9601", "localhost:9601", "127.0.0.1:70000", "http://127.0.0.1:9601"],
        );
    }

    #[test]
    fn path_prefixes() {
        accepts(path_prefix, &["", "/ws", "/a/b"], &["ws", "/", "/ws/", "//ws", "/{x}", "/a b", "/?"]);
    }

    #[test]
    fn identifiers() {
        let longest = "x".repeat(MAX_IDENTIFIER);
        let longer = "x".repeat(MAX_IDENTIFIER + 1);
        accepts(identifier, &["app-id", "278d425bdf160c739803", "1", &longest], &["", "a/b", "a:b", "a?b", "ä", "a b", &longer]);
    }

    #[test]
    fn allowed_origins() {
        accepts(
            origin,
            &["*", "https://shop.example", "http://localhost:5173", "shop.example", "*.shop.example", "https://*.shop.example"],
            &["", "https://", "https://shop.example/", "shop.example/x", "://x", "a b", "*."],
        );
    }

    #[test]
    fn log_filters() {
        accepts(
            log_filter,
            &["info", "DEBUG", "off", "holdline=debug", "info,holdline::connection=trace"],
            &["", "inof", "holdline", "holdline=loud", "info,", "2000"],
        );
    }

    #[test]
    fn a_secret_is_never_part_of_a_reason() {
        let long = "x".repeat(MAX_SECRET + 1);
        for (secret, reason) in [
            ("", "must not be empty"),
            ("s3cret\n", "must not contain '\\n': printable characters only"),
            ("<redacted>", "expected the secret itself, not its redacted form"),
            (long.as_str(), "has 513 bytes, at most 512 are allowed"),
        ] {
            assert_eq!(SecretText.read(Given::Text(secret)).map_err(|reason| reason.to_string()), Err(reason.to_owned()));
        }
        assert!(SecretText.read(Given::Value(&toml::Value::Integer(5))).is_err());
        assert_eq!(SecretText.encode(&Secret::new("s3cret")), toml::Value::String("<redacted>".to_owned()));
    }
}
