//! A value that must not reach a log.

use std::fmt;

/// What stands in place of a secret wherever it is printed.
pub(super) const REDACTED: &str = "<redacted>";

/// An application's secret. `Debug` and `Display` show `<redacted>`; [`expose`](Self::expose) gives the secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for signing. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

/// A URL that may have a password in it, or nothing. `Debug` and `Display` show it without; [`expose`](Self::expose) gives all of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretUrl(String);

/// Parts of the names of query parameters that are secrets.
const SECRET_PARAMETERS: [&str; 8] = ["pass", "pwd", "secret", "token", "key", "sig", "auth", "cred"];

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL itself, to connect with. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for SecretUrl {
    /// `postgres://user:<redacted>@host/db`. A password may have any character, escaped or not: all between the first colon and the last
    /// `@` is taken for one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(&self.0) };
        write!(f, "{scheme}://")?;
        let is_web = scheme.starts_with("http");
        // In the address of a web page an @ may stand behind its host, too.
        let login = rest.rsplit_once('@').filter(|(login, _)| !is_web || !login.contains(['/', '?']));
        let rest = match login.map(|(login, host)| (login.split_once(':'), host)) {
            Some((Some((user, _)), host)) => {
                write!(f, "{user}:{REDACTED}@")?;
                host
            }
            // A name alone is who a database knows, but to a web server it may be the whole key.
            Some((None, host)) if is_web => {
                write!(f, "{REDACTED}@")?;
                host
            }
            _ => rest,
        };
        let Some((path, query)) = rest.split_once('?') else { return f.write_str(rest) };
        f.write_str(path)?;
        for (i, parameter) in query.split('&').enumerate() {
            f.write_str(if i == 0 { "?" } else { "&" })?;
            match parameter.split_once('=') {
                Some((name, _)) if SECRET_PARAMETERS.iter().any(|part| name.to_ascii_lowercase().contains(part)) => {
                    write!(f, "{name}={REDACTED}")?;
                }
                _ => f.write_str(parameter)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&str> for SecretUrl {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_printed_without_its_password() {
        for (url, shown) in [
            ("sqlite", "sqlite"),
            ("", ""),
            ("postgres://host/db", "postgres://host/db"),
            ("postgres://host:5432/db", "postgres://host:5432/db"),
            ("postgres://ada@host:5432/db", "postgres://ada@host:5432/db"),
            ("postgres://ada:pw@host:5432/db", "postgres://ada:<redacted>@host:5432/db"),
            ("postgres://ada:p@w:/?x@host/db?sslmode=require", "postgres://ada:<redacted>@host/db?sslmode=require"),
            ("postgres://:pw@host/db", "postgres://:<redacted>@host/db"),
            ("postgres://host/db?user=ada&password=pw&x=1", "postgres://host/db?user=ada&password=<redacted>&x=1"),
            ("https://pw@shop.example/hook?Authorization=pw&x=1", "https://<redacted>@shop.example/hook?Authorization=<redacted>&x=1"),
            ("https://shop.example:80/hook?to=a@b.example", "https://shop.example:80/hook?to=a@b.example"),
            ("https://u:pw@shop.example/hook?access_token=pw&v", "https://u:<redacted>@shop.example/hook?access_token=<redacted>&v"),
        ] {
            let secret = SecretUrl::new(url);
            assert_eq!((secret.to_string(), format!("{secret:?}")), (shown.to_owned(), shown.to_owned()));
            assert_eq!(secret.expose(), url);
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "<redacted> <redacted>");
        assert_eq!(secret.expose(), "hunter2");
    }
}
