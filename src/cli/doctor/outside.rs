//! The endpoints of webhooks and listeners: is somebody there? A HEAD request, without signature and without the configured headers, asks
//! for nothing; whatever is answered, the way there works.

use std::{net::IpAddr, time::Duration};

use futures_util::future::join_all;
use reqwest::{Client, Url, redirect};

use super::report::{Report, Verdict, chain};
use crate::config::{AppSettings, ListenerKind, SecretUrl, Settings, WebhookEndpointSettings};

/// How long connection, TLS and answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `kept`: applications that do not stand in the configuration.
pub(super) async fn examine(report: &mut Report, settings: &Settings, kept: &[AppSettings], offline: bool) {
    let webhooks = settings.apps.iter().chain(kept).filter(|app| app.enabled).flat_map(|app| {
        let names = WebhookEndpointSettings::names(&app.webhooks);
        names.into_iter().zip(&app.webhooks).map(|(name, endpoint)| ("webhook", format!("{name} of app {}", app.id), &endpoint.url))
    });
    let listeners = settings.listeners.iter().filter(|listener| listener.kind == ListenerKind::Http);
    let listeners = listeners.map(|listener| ("listener", listener.name.clone(), &listener.url));
    let endpoints: Vec<_> = webhooks.chain(listeners).collect();
    if endpoints.is_empty() {
        return;
    }
    if offline {
        return report.ok("webhook", format!("{} endpoints were not asked (--offline)", endpoints.len()));
    }
    // An error only says that the program has chosen one already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let asked = join_all(endpoints.iter().map(|(_, _, url)| ask(url))).await;
    for ((kind, name, url), (verdict, found)) in endpoints.iter().zip(asked) {
        report.add(kind, verdict, format!("{name}: {url} {found}"));
    }
}

/// As deliveries go: no redirects, no proxy, the system's authorities.
async fn ask(url: &SecretUrl) -> (Verdict, String) {
    let failed = |why: String| (Verdict::Fail, format!("is not reached: {why}"));
    let Ok(url) = Url::parse(url.expose()) else { return failed("it is no URL".to_owned()) };
    let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().timeout(PATIENCE);
    let client = if url.scheme() == "http" { client.tls_certs_only([]) } else { client };
    let client = match client.build() {
        Ok(client) => client,
        Err(error) => return failed(format!("the certificates of this system's authorities (package ca-certificates): {}", chain(&error))),
    };
    let unencrypted = if url.scheme() == "http" && is_far(&url) { "; without TLS, anybody on the way can read it" } else { "" };
    match client.head(url).send().await {
        Ok(answer) if answer.status().is_redirection() => {
            (Verdict::Warn, format!("answers {}: redirects are not followed, name where it leads", answer.status().as_u16()))
        }
        Ok(answer) => {
            let verdict = if unencrypted.is_empty() { Verdict::Ok } else { Verdict::Warn };
            (verdict, format!("is reached (HEAD: {}){unencrypted}", answer.status().as_u16()))
        }
        // The address is shown already, without what is secret in it.
        Err(error) if error.is_timeout() => failed(format!("no answer within {PATIENCE:?}")),
        Err(error) => failed(chain(&error.without_url())),
    }
}

/// Whether others are on the way. A name without a dot is one of this machine or its network, as those of containers are.
fn is_far(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse::<IpAddr>().map_or_else(|_| host.contains('.'), |ip| !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_dot_and_addresses_of_others_are_far() {
        for (host, expected) in [
            ("shop.example", true),
            ("10.0.0.7", true),
            ("[2001:db8::1]", true),
            ("localhost", false),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("web", false),
        ] {
            assert_eq!(is_far(&Url::parse(&format!("http://{host}:8000/hook")).unwrap()), expected, "{host}");
        }
    }
}
