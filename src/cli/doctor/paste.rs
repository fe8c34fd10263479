//! What clients need to connect to this broker, ready to paste.

use reqwest::Url;

use crate::{
    cli::{error::CliError, target::reachable},
    config::{AppSettings, Loaded, Settings},
    server::tls::Seen,
};

/// Where clients reach the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Public {
    tls: bool,
    host: String,
    port: u16,
    /// Such as `/realtime`; empty for none.
    path: String,
    /// What has still to be filled in.
    note: Option<&'static str>,
}

impl Public {
    /// Reads `https://shop.example/realtime`.
    ///
    /// # Errors
    /// [`CliError::Url`].
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let wrong = |reason| CliError::Url { url: text.to_owned(), reason };
        let url = Url::parse(text).map_err(|_| wrong("not a URL"))?;
        let tls = match url.scheme() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it must have nothing but a host, a port and a path"));
        }
        let host = url.host_str().ok_or_else(|| wrong("not a URL"))?.to_owned();
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, path: url.path().trim_end_matches('/').to_owned(), note: None })
    }

    /// Where it listens; with TLS by a name that its certificate is for.
    pub(super) fn of(settings: &Settings, seen: Option<&Seen>) -> Self {
        let server = &settings.server;
        let named = seen.and_then(|seen| seen.names.iter().find(|name| !name.contains(['*', '=', ' '])));
        let is_everywhere = matches!(server.host.as_str(), "0.0.0.0" | "::");
        let note = if !server.trusted_proxies.is_empty() {
            Some("Clients come through a proxy: give its address with --public-url, such as https://shop.example/realtime")
        } else if is_everywhere && named.is_none() {
            Some("This broker listens everywhere: give the name that clients know with --public-url, such as https://shop.example")
        } else {
            None
        };
        let host = named.cloned().unwrap_or_else(|| reachable(&server.host));
        Self { tls: settings.tls.is_on(), host, port: server.port, path: server.path_prefix.clone(), note }
    }
}

/// The lines.
#[derive(Debug)]
pub(super) struct Paste {
    /// Laravel's `.env`.
    pub(super) env: String,
    pub(super) echo: String,
    pub(super) pusher_js: String,
    note: Option<&'static str>,
}

impl Paste {
    pub(super) fn new(loaded: &Loaded, app: &AppSettings, public: Public, show_secret: bool) -> Self {
        let Public { tls, host, port, path, note } = &public;
        let (id, key, scheme) = (quoted(&app.id), quoted(&app.key), if *tls { "https" } else { "http" });
        // Everybody knows the one for development.
        let secret = if show_secret || app.is_development() { quoted(app.secret.expose()) } else { quoted(&place(loaded, app)) };
        let mut env = format!(
            "BROADCAST_CONNECTION=pusher\nPUSHER_APP_ID={id}\nPUSHER_APP_KEY={key}\nPUSHER_APP_SECRET={secret}\nPUSHER_HOST={host}\n\
             PUSHER_PORT={port}\nPUSHER_SCHEME={scheme}\n"
        );
        if !path.is_empty() {
            env.push_str(&format!("# config/broadcasting.php, connections.pusher.options: 'path' => {}\n", js(path)));
        }
        env.push_str(
            "VITE_PUSHER_APP_KEY=\"${PUSHER_APP_KEY}\"\nVITE_PUSHER_HOST=\"${PUSHER_HOST}\"\nVITE_PUSHER_PORT=\"${PUSHER_PORT}\"\n\
             VITE_PUSHER_SCHEME=\"${PUSHER_SCHEME}\"\n",
        );
        let options = options(&public);
        let key = js(&app.key);
        let echo = format!(
            "import Echo from 'laravel-echo';\nimport Pusher from 'pusher-js';\nwindow.Pusher = Pusher;\n\nwindow.Echo = new Echo({{\n  \
             broadcaster: 'pusher',\n  key: {key},\n{options}}});\n"
        );
        let pusher_js = format!("import Pusher from 'pusher-js';\n\nconst pusher = new Pusher({key}, {{\n{options}}});\n");
        Self { env, echo, pusher_js, note: *note }
    }

    pub(super) fn text(&self) -> String {
        let note = self.note.map(|note| format!("# {note}\n")).unwrap_or_default();
        let Self { env, echo, pusher_js, .. } = self;
        format!("\n{note}# Laravel: .env\n{env}\n// Laravel Echo\n{echo}\n// pusher-js\n{pusher_js}")
    }
}

/// The options that pusher-js and Echo have in common.
fn options(public: &Public) -> String {
    let Public { tls, host, port, path, .. } = public;
    let mut options = format!("  wsHost: {}, wsPort: {port}, wssPort: {port}, forceTLS: {tls},\n", js(host));
    if !path.is_empty() {
        options.push_str(&format!("  wsPath: {},\n", js(path)));
    }
    // Without the list pusher-js falls back to servers of pusher.com.
    options.push_str("  enabledTransports: ['ws', 'wss'], cluster: '',\n");
    options
}

/// Where the secret is, in its place.
fn place(loaded: &Loaded, app: &AppSettings) -> String {
    match loaded.settings.apps.iter().position(|other| other.id == app.id) {
        Some(at) => {
            let key = format!("apps[{at}].secret");
            format!("<{key} in {}; --show-secret shows it>", loaded.origins.of(&key))
        }
        None => "<in the table of applications; --show-secret shows it>".to_owned(),
    }
}

/// A value of a `.env` file.
fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte)) {
        return text.to_owned();
    }
    let mut value = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$') {
            value.push('\\');
        }
        value.push(character);
    }
    value + "\""
}

/// A string of JavaScript.
fn js(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_taken_apart() {
        let public = |tls, host: &str, port, path: &str| Public { tls, host: host.to_owned(), port, path: path.to_owned(), note: None };
        assert_eq!(Public::parse("https://shop.example/realtime/").unwrap(), public(true, "shop.example", 443, "/realtime"));
        assert_eq!(Public::parse("ws://[::1]:6001").unwrap(), public(false, "[::1]", 6001, ""));
        for url in ["shop.example", "ftp://a", "https://", "https://a?b", "https://u@a", "https://a#b"] {
            assert!(matches!(Public::parse(url), Err(CliError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn values_survive_their_files() {
        assert_eq!((quoted("a-b_1"), quoted("a b"), quoted("$a\"\\")), ("a-b_1".into(), "\"a b\"".into(), "\"\\$a\\\"\\\\\"".into()));
        assert_eq!(js("it's \\"), r"'it\'s \\'");
    }
}
