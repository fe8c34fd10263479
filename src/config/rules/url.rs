//! URLs. They may have passwords in them: no reason of theirs contains more than the scheme.

use super::{Rule, string, text::at_most};
use crate::config::{
    error::Reason,
    secret::{REDACTED, SecretUrl},
};

/// Longest URL, in bytes.
const MAX_URL: usize = 2_048;

/// A URL, or a word in its place.
pub(crate) struct UrlText(pub(crate) fn(&str) -> Result<(), Reason>);

impl Rule for UrlText {
    type Value = SecretUrl;

    fn decode(&self, value: &toml::Value) -> Result<SecretUrl, Reason> {
        string(value, "a string").map(SecretUrl::new)
    }

    fn check(&self, value: &SecretUrl) -> Result<(), Reason> {
        let url = value.expose();
        at_most(url, MAX_URL)?;
        // The output of `config print`, used as a file, would start and be refused by whatever is behind the URL.
        if url.contains(REDACTED) {
            return Err(Reason::Unreadable { expected: "the URL itself, not its redacted form" });
        }
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Reason::Unreadable { expected: "a URL without spaces and line ends" });
        }
        (self.0)(url)
    }

    fn encode(&self, value: &SecretUrl) -> toml::Value {
        toml::Value::String(value.to_string())
    }
}

/// A store: `sqlite`, `memory`, `none`, or a URL of PostgreSQL.
pub(crate) fn store_url(url: &str) -> Result<(), Reason> {
    const ALLOWED: &str = "sqlite, memory, none or postgres://user:password@host/database";
    if matches!(url, "sqlite" | "memory" | "none") {
        return Ok(());
    }
    postgres(url, ALLOWED)
}

/// Nothing, or a URL of PostgreSQL.
pub(crate) fn no_url_or_postgres(url: &str) -> Result<(), Reason> {
    if url.is_empty() { Ok(()) } else { postgres(url, "nothing or postgres://user:password@host/database") }
}

/// Nothing, or a URL that can be posted to.
pub(crate) fn no_url_or_http(url: &str) -> Result<(), Reason> {
    if url.is_empty() { Ok(()) } else { http_url(url) }
}

/// A URL that can be posted to.
pub(crate) fn http_url(url: &str) -> Result<(), Reason> {
    with_host(url, &["https", "http"], "https://… or http://… with a host")
}

fn postgres(url: &str, allowed: &'static str) -> Result<(), Reason> {
    with_host(url, &["postgres", "postgresql"], allowed)
}

fn with_host(url: &str, schemes: &[&str], allowed: &'static str) -> Result<(), Reason> {
    let unknown = |found: String| Err(Reason::UnknownUrl { allowed, found });
    match url.split_once("://") {
        // A word is probably a slip; anything else that is no URL may be a password.
        None if url.bytes().all(|byte| byte.is_ascii_lowercase()) && url.len() <= 20 => unknown(format!("{url:?}")),
        None => unknown("something else".to_owned()),
        Some((scheme, _)) if !schemes.contains(&scheme) => {
            let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            unknown(if is_scheme { format!("a URL that begins with {scheme}://") } else { "something else".to_owned() })
        }
        // PostgreSQL may be reached by a socket, which stands in the query: postgres:///db?host=/run/postgresql.
        Some(("postgres" | "postgresql", rest)) if rest.starts_with('/') && rest.contains("host=") => Ok(()),
        Some((_, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            if host.is_empty() || host.starts_with(':') { unknown("a URL without a host".to_owned()) } else { Ok(()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::Given;

    fn said(rule: fn(&str) -> Result<(), Reason>, url: &str) -> String {
        UrlText(rule).read(Given::Text(url)).map_err(|reason| reason.to_string()).expect_err(url)
    }

    #[test]
    fn a_store_is_a_word_or_postgresql() {
        for url in ["sqlite", "memory", "none", "postgres://h/d", "postgresql://u:p@h:5432/d?sslmode=require", "postgres:///d?host=/run"] {
            assert_eq!(UrlText(store_url).read(Given::Text(url)), Ok(SecretUrl::new(url)), "{url}");
        }
        let allowed = "expected sqlite, memory, none or postgres://user:password@host/database, found";
        for (url, found) in [
            ("mysql://root:s3cret@h/d", "a URL that begins with mysql://"),
            ("sqllite", "\"sqllite\""),
            ("root:s3cret@h", "something else"),
            ("S3CRET", "something else"),
            ("s3 cret://h", ""),
            ("postgres://", "a URL without a host"),
            ("postgres://u:s3cret@/d", "a URL without a host"),
            ("sqlite://file", "a URL that begins with sqlite://"),
            ("", "\"\""),
        ] {
            let said = said(store_url, url);
            assert!(!said.contains("s3cret") && !said.contains("S3CRET"), "{said}");
            assert!(found.is_empty() || said == format!("{allowed} {found}"), "{said}");
        }
    }

    #[test]
    fn a_delivery_goes_to_a_web_address() {
        for url in ["", "http://127.0.0.1:8000/x", "https://u:p@shop.example/hook?a=b"] {
            assert_eq!(UrlText(no_url_or_http).read(Given::Text(url)), Ok(SecretUrl::new(url)), "{url}");
        }
        assert_eq!(said(no_url_or_http, "ftp://h/x"), "expected https://… or http://… with a host, found a URL that begins with ftp://");
        assert_eq!(said(http_url, ""), "expected https://… or http://… with a host, found \"\"");
        assert!(said(no_url_or_http, "https:///x").ends_with("a URL without a host"));
        assert!(said(no_url_or_http, "https://h/a b").contains("without spaces"));
    }

    #[test]
    fn what_is_printed_has_no_password_and_does_not_do_as_a_url() {
        let url = UrlText(store_url).read(Given::Text("postgres://ada:s3cret@h/d")).unwrap();
        let printed = UrlText(store_url).encode(&url);
        assert_eq!(printed, toml::Value::String("postgres://ada:<redacted>@h/d".to_owned()));
        let again = UrlText(store_url).read(Given::Value(&printed)).map_err(|reason| reason.to_string());
        assert_eq!(again, Err("expected the URL itself, not its redacted form".to_owned()));
        assert!(said(store_url, &format!("postgres://{}", "x".repeat(MAX_URL))).contains("at most 2048"));
    }
}
