//! What the configuration says: whether it is valid, whether its secrets are any, who can read them, TLS, proxies.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use super::report::{Report, chain};
use crate::{
    config::{AppSettings, Loaded, Settings, Warning},
    server::tls::{self, Seen},
};

/// Before a certificate ends, somebody should hear of it.
const RENEW: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const DAY: u64 = 24 * 60 * 60;
/// Shorter secrets can be tried out by whoever has one signature.
const SHORT: usize = 16;
/// Different characters of a text that somebody has made up.
const PLAIN: usize = 6;
/// What people write who mean to change it later.
const WORDS: [&str; 8] = ["secret", "password", "changeme", "change-me", "example", "app-secret", "test", "holdline"];

/// The one thing that `load` has not checked are warnings.
pub(super) fn configuration(report: &mut Report, loaded: &Loaded) {
    let from = loaded.file.as_ref().map_or_else(|| "the configuration without a file".to_owned(), |path| path.display().to_string());
    report.ok("config", format!("{from} is valid"));
    let warnings = loaded.settings.warnings();
    // Those of the development application are a matter of secrets.
    let others = warnings.iter().filter(|warning| !matches!(warning, Warning::DevelopmentApp | Warning::DevelopmentAppExposed { .. }));
    for warning in others {
        report.warn("config", warning.to_string());
    }
}

/// Whether anybody but this machine can get here.
fn is_exposed(settings: &Settings) -> bool {
    let server = &settings.server;
    let plain = settings.tls.plain_address().is_some_and(|address| !address.ip().is_loopback());
    !server.is_loopback() || plain || !server.trusted_proxies.is_empty() || !server.unix_socket.is_empty()
}

pub(super) fn secrets(report: &mut Report, loaded: &Loaded) {
    let settings = &loaded.settings;
    let mut fine = true;
    for app in &settings.apps {
        fine &= secret(report, settings, app);
    }
    if let Some(path) = loaded.file.as_ref().filter(|path| holds_secrets(loaded) && is_readable_by_all(path)) {
        fine = false;
        report.warn("secrets", format!("{} has secrets in it, and everybody on this machine can read it: chmod o-r", path.display()));
    }
    if fine {
        report.ok("secrets", format!("{} applications in the configuration, none with a weak secret", settings.apps.len()));
    }
}

/// Whether the secret of an application is one; if not, why.
pub(super) fn secret(report: &mut Report, settings: &Settings, app: &AppSettings) -> bool {
    let (id, is_exposed, good) = (&app.id, is_exposed(settings), "take one from: openssl rand -hex 32");
    if app.is_development() {
        let text = format!("app {id} is the one for development");
        if is_exposed {
            report.fail("secrets", format!("{text}, whose secret everybody knows: configure [[apps]], {good}"));
        } else {
            report.warn("secrets", format!("{text}: on this machine that may be; configure [[apps]] before others use it"));
        }
        return false;
    }
    let Some((why, is_known)) = weakness(app) else { return true };
    let text = format!("the secret of app {id} {why}: {good}");
    if is_known && is_exposed {
        report.fail("secrets", text)
    } else {
        report.warn("secrets", text)
    }
    false
}

/// Why a secret is none, and whether anybody would try it first.
fn weakness(app: &AppSettings) -> Option<(&'static str, bool)> {
    let secret = app.secret.expose();
    let mut characters: Vec<char> = secret.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    match secret {
        text if text == app.id || text == app.key => Some(("is its id or key, which clients know", true)),
        text if WORDS.contains(&text.to_lowercase().as_str()) => Some(("is a word that everybody tries first", true)),
        text if text.len() < SHORT => Some(("is shorter than 16 characters", false)),
        _ if characters.len() < PLAIN => Some(("has only a few different characters", false)),
        _ => None,
    }
}

/// Whether the file is where a secret comes from.
fn holds_secrets(loaded: &Loaded) -> bool {
    let Some(path) = &loaded.file else { return false };
    let from_file = |key: &str| loaded.origins.of(key) == &crate::config::Origin::File(path.clone());
    (0..loaded.settings.apps.len()).any(|i| from_file(&format!("apps[{i}].secret")))
}

fn is_readable_by_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// Certificate and key; what the certificate says.
pub(super) fn tls(report: &mut Report, settings: &Settings) -> Option<Seen> {
    let seen = match tls::look(&settings.tls) {
        Ok(seen) => seen?,
        Err(error) => {
            report.fail("tls", chain(&error));
            return None;
        }
    };
    let (ends, date) = &seen.ends;
    let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
    let names = seen.names.join(", ");
    if let Some(doubt) = &seen.doubt {
        report.fail("tls", doubt);
    } else if left < RENEW {
        let days = left.as_secs() / DAY;
        report.warn(
            "tls",
            format!("the certificate for {names} ends in {days} days, at {date}: renew it; the broker takes it without a restart"),
        );
    } else {
        report.ok("tls", format!("the certificate for {names} and its key fit, until {date}"));
    }
    if is_readable_by_all(Path::new(&settings.tls.key)) {
        report.warn(
            "tls",
            format!("tls.key: everybody on this machine can read {}: chmod 600, owned by the broker's user", settings.tls.key),
        );
    }
    Some(seen)
}

/// Who is in front, and who is believed.
pub(super) fn proxies(report: &mut Report, settings: &Settings) {
    let server = &settings.server;
    let (has_tls, is_trusting) = (settings.tls.is_on(), !server.trusted_proxies.is_empty());
    if !server.path_prefix.is_empty() && !is_trusting {
        let what = "server.path_prefix is for a proxy in front, but server.trusted_proxies is empty";
        report.warn("proxies", format!("{what}: every client has the proxy's address in logs and limits; name the proxy"));
    } else if server.connects_per_second > 0 && !is_trusting && server.is_loopback() {
        let what = "server.connects_per_second counts by address, and all that comes here comes from this machine";
        report.warn("proxies", format!("{what}: name the proxy in server.trusted_proxies"));
    } else if !has_tls && !is_trusting && !server.is_loopback() {
        let what = format!("clients reach {} without TLS, and pages that were loaded with https cannot", server.host);
        report.warn("proxies", format!("{what}: configure [tls], or a proxy that ends it and server.trusted_proxies"));
    } else if is_trusting {
        report.ok("proxies", format!("{} say who their client is", server.trusted_proxies.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_nobody_has_thought_of_it() {
        let weak = |secret: &str| weakness(&AppSettings::new("shop", "shop-key", secret)).map(|(_, is_known)| is_known);
        for (secret, expected) in [
            ("shop", Some(true)),
            ("shop-key", Some(true)),
            ("ChangeMe", Some(true)),
            ("0123456789abcde", Some(false)),
            ("aaaaaaaaaabbbbbbbbbb", Some(false)),
            ("0123456789abcdef", None),
        ] {
            assert_eq!(weak(secret), expected, "{secret}");
        }
    }
}
