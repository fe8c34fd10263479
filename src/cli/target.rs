//! Which broker and which application `publish` and `listen` talk to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use awc::http::Uri;
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{FileArgs, error::CliError};
use crate::config::{AppSettings, Secret, Settings};

/// What may stand in a path segment or a query value as it is.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes a text for a path segment or a query value.
pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, &UNRESERVED).to_string()
}

/// Where to connect, and as which application. What is not given comes from the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TargetArgs {
    /// The broker, such as http://127.0.0.1:6001/prefix [default: the configured host, port and path prefix]
    #[arg(long)]
    url: Option<String>,
    /// The application's id [default: the first configured application]
    #[arg(long)]
    app_id: Option<String>,
    /// The application's key
    #[arg(long)]
    key: Option<String>,
    /// The application's secret
    #[arg(long)]
    secret: Option<String>,
    #[command(flatten)]
    file: FileArgs,
}

/// A broker and an application.
#[derive(Debug)]
pub(super) struct Target {
    base: Base,
    pub(super) app_id: Option<String>,
    pub(super) key: String,
    pub(super) secret: Option<Secret>,
}

impl TargetArgs {
    /// Reads the configuration where the arguments leave something open.
    pub(super) fn resolve(&self) -> Result<Target, CliError> {
        let complete = self.url.is_some() && self.key.is_some() && self.secret.is_some() && self.app_id.is_some();
        let settings = if complete && self.file.config.is_none() { Settings::default() } else { self.file.load()?.settings };
        self.with(&settings)
    }

    pub(super) fn with(&self, settings: &Settings) -> Result<Target, CliError> {
        let base = match &self.url {
            Some(url) => Base::parse(url)?,
            None => Base::of(settings)?,
        };
        let is_meant =
            |app: &&AppSettings| self.app_id.as_ref().is_none_or(|id| *id == app.id) && self.key.as_ref().is_none_or(|key| *key == app.key);
        let app = settings.apps.iter().find(is_meant);
        let key = self.key.clone().or_else(|| app.map(|app| app.key.clone()));
        Ok(Target {
            base,
            app_id: self.app_id.clone().or_else(|| app.map(|app| app.id.clone())),
            key: key.ok_or_else(|| missing("this application", "--key"))?,
            secret: self.secret.as_deref().map(Secret::new).or_else(|| app.map(|app| app.secret.clone())),
        })
    }
}

/// A credential that neither the arguments nor the configuration give.
pub(super) fn missing(purpose: &str, flag: &'static str) -> CliError {
    CliError::MissingCredential { purpose: purpose.to_owned(), flag }
}

impl Target {
    /// The address of an HTTP endpoint; `path` is the part that is signed, without the prefix.
    pub(super) fn http_url(&self, path: &str, query: &str) -> String {
        format!("http://{}{}{path}?{query}", self.base.authority, self.base.prefix)
    }

    /// The address of the WebSocket.
    pub(super) fn websocket_url(&self) -> String {
        let Base { authority, prefix } = &self.base;
        format!("ws://{authority}{prefix}/app/{}?protocol=7&client=holdline-cli&version={}", escape(&self.key), env!("CARGO_PKG_VERSION"))
    }

    /// The broker, for messages.
    pub(super) fn broker(&self) -> String {
        format!("{}{}", self.base.authority, self.base.prefix)
    }
}

/// Host, port and path prefix of a broker.
#[derive(Debug, PartialEq, Eq)]
struct Base {
    authority: String,
    prefix: String,
}

impl Base {
    fn parse(url: &str) -> Result<Self, CliError> {
        let wrong = |reason| CliError::Url { url: url.to_owned(), reason };
        let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = with_scheme.parse().map_err(|_| wrong("not a URL"))?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some("https" | "wss") => return Err(wrong("this command does not speak TLS; use the broker's plain address")),
            _ => return Err(wrong("it must begin with http:// or ws://")),
        }
        if uri.query().is_some() {
            return Err(wrong("it must not have a query"));
        }
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| wrong("not a URL"))?;
        Ok(Self { authority: authority.to_string(), prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// The configured broker, as this machine reaches it.
    fn of(settings: &Settings) -> Result<Self, CliError> {
        let server = &settings.server;
        let (host, port) = match settings.tls.plain_address() {
            Some(plain) => (plain.ip().to_string(), plain.port()),
            None if settings.tls.is_on() => {
                let reason = "the configured broker speaks TLS, which this command does not: configure tls.plain_bind, or give --url";
                return Err(CliError::Url { url: format!("{}:{}", server.host, server.port), reason });
            }
            None => (server.host.clone(), server.port),
        };
        if port == 0 {
            return Err(CliError::Url { url: "port 0".to_owned(), reason: "the configured port is chosen at the start; give --url" });
        }
        Ok(Self { authority: format!("{}:{port}", reachable(&host)), prefix: server.path_prefix.clone() })
    }
}

/// A host that is listened on, as this machine reaches it, in the form that stands in URLs.
pub(super) fn reachable(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => format!("[{}]", Ipv6Addr::LOCALHOST),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ServerSettings, TlsSettings};

    fn base(authority: &str, prefix: &str) -> Base {
        Base { authority: authority.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn an_address_is_http_or_ws_with_an_optional_prefix() {
        for (url, expected) in [
            ("http://127.0.0.1:6001", base("127.0.0.1:6001", "")),
            ("ws://broker/ws/", base("broker", "/ws")),
            ("localhost:7001", base("localhost:7001", "")),
            ("http://[::1]:6001/a/b", base("[::1]:6001", "/a/b")),
        ] {
            assert_eq!(Base::parse(url).unwrap(), expected, "{url}");
        }
        for url in ["https://broker", "wss://broker", "ftp://broker", "http://", "http://a?b=c", "http://user@host", ""] {
            assert!(matches!(Base::parse(url), Err(CliError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn the_configured_broker_is_reached_from_this_machine() {
        let of = |host: &str| {
            let server = ServerSettings { host: host.to_owned(), path_prefix: "/ws".to_owned(), ..ServerSettings::default() };
            Base::of(&Settings { server, ..Settings::default() }).unwrap().authority
        };
        assert_eq!(of("0.0.0.0"), "127.0.0.1:6001");
        assert_eq!(of("::"), "[::1]:6001");
        assert_eq!(of("10.0.0.7"), "10.0.0.7:6001");
        let chosen = ServerSettings { port: 0, ..ServerSettings::default() };
        assert!(Base::of(&Settings { server: chosen, ..Settings::default() }).is_err());
        let with_tls = |plain_bind: &str| {
            let tls = TlsSettings { certificate: "c".to_owned(), plain_bind: plain_bind.to_owned(), ..TlsSettings::default() };
            Base::of(&Settings { tls, ..Settings::default() })
        };
        assert!(with_tls("").is_err(), "these commands speak no TLS");
        assert_eq!(with_tls("0.0.0.0:6080").unwrap().authority, "127.0.0.1:6080");
    }

    #[test]
    fn what_the_arguments_leave_open_comes_from_the_configuration() {
        let settings =
            Settings { apps: vec![AppSettings::new("1", "one", "s1"), AppSettings::new("2", "two", "s2")], ..Settings::default() };
        let resolve = |args: TargetArgs| args.with(&settings);
        let first = resolve(TargetArgs::default()).unwrap();
        assert_eq!((first.app_id.as_deref(), first.key.as_str()), (Some("1"), "one"));
        let second = resolve(TargetArgs { key: Some("two".to_owned()), ..TargetArgs::default() }).unwrap();
        assert_eq!(second.app_id.as_deref(), Some("2"));
        assert_eq!(second.secret.unwrap().expose(), "s2");
        let foreign = resolve(TargetArgs { key: Some("three".to_owned()), ..TargetArgs::default() }).unwrap();
        assert!(foreign.secret.is_none() && foreign.app_id.is_none(), "never the secret of another application");
        assert!(resolve(TargetArgs { app_id: Some("3".to_owned()), ..TargetArgs::default() }).is_err());
    }

    #[test]
    fn a_key_is_escaped_in_the_path() {
        let args = TargetArgs { key: Some("a/b".to_owned()), ..TargetArgs::default() };
        let url = args.with(&Settings::default()).unwrap().websocket_url();
        assert!(url.starts_with("ws://127.0.0.1:6001/app/a%2Fb?protocol=7&client=holdline-cli&version="), "{url}");
    }
}
