//! What is allowed, but should be said aloud at the start.

use std::fmt;

use super::settings::Settings;
use crate::domain::TrustedProxy;

/// Something about the settings that whoever starts the broker should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The well-known application is served, on this machine only.
    DevelopmentApp,
    /// The well-known application is served to everybody who can reach this address.
    DevelopmentAppExposed {
        /// The address.
        host: String,
    },
    /// Counts and gauges are shown to everybody who can reach this address.
    MetricsExposed {
        /// The address.
        bind: String,
    },
    /// An application takes TLS connections only, and there are none.
    ForceTls {
        /// The application's id.
        app: String,
    },
    /// Every peer may claim to be anybody.
    EverybodyIsProxy {
        /// The network that is everybody.
        network: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DevelopmentApp => f.write_str(
                "Serving the development application app-id, whose secret everybody knows: configure [[apps]] before others use this broker",
            ),
            Self::MetricsExposed { bind } => write!(
                f,
                "metrics.bind: everybody who reaches {bind} can read the metrics, there is no password: bind a loopback address, or see that \
                 only your Prometheus gets there"
            ),
            Self::ForceTls { app } => write!(
                f,
                "apps[].force_tls of {app} refuses every connection: there is no tls.certificate, and no proxy in server.trusted_proxies to \
                 vouch for TLS in front"
            ),
            Self::EverybodyIsProxy { network } => write!(
                f,
                "INSECURE: {network} in server.trusted_proxies lets every peer choose the address that logs and limits see; name the proxies"
            ),
            Self::DevelopmentAppExposed { host } => write!(
                f,
                "INSECURE: serving the development application app-id on {host}: its secret is public knowledge, so everybody who \
                 reaches this address can publish, subscribe and disconnect users; configure [[apps]], or bind 127.0.0.1"
            ),
        }
    }
}

impl Settings {
    /// What should be said aloud at the start.
    pub fn warnings(&self) -> Vec<Warning> {
        let is_loopback = self.server.is_loopback() && self.tls.plain_address().is_none_or(|address| address.ip().is_loopback());
        let mut warnings = match (self.is_development(), is_loopback) {
            (false, _) => Vec::new(),
            (true, true) => vec![Warning::DevelopmentApp],
            (true, false) if self.server.is_loopback() => vec![Warning::DevelopmentAppExposed { host: self.tls.plain_bind.clone() }],
            (true, false) => vec![Warning::DevelopmentAppExposed { host: self.server.host.clone() }],
        };
        let has_tls = self.tls.is_on() || !self.server.trusted_proxies.is_empty();
        let unreachable = self.apps.iter().filter(|app| app.force_tls && !has_tls);
        warnings.extend(unreachable.map(|app| Warning::ForceTls { app: app.id.clone() }));
        let is_everybody = |proxy: &&String| proxy.parse::<TrustedProxy>().is_ok_and(|proxy| proxy.is_everybody());
        let everybody = self.server.trusted_proxies.iter().filter(is_everybody);
        warnings.extend(everybody.map(|network| Warning::EverybodyIsProxy { network: network.clone() }));
        let exposed = self.metrics.address().is_some_and(|address| !address.ip().to_canonical().is_loopback());
        warnings.extend(exposed.then(|| Warning::MetricsExposed { bind: self.metrics.bind.clone() }));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;

    #[test]
    fn the_development_application_is_announced_and_off_loopback_loudly() {
        let mut settings = Settings::default();
        assert_eq!(settings.warnings(), [Warning::DevelopmentApp]);
        settings.server.host = "0.0.0.0".to_owned();
        assert!(settings.warnings()[0].to_string().starts_with("INSECURE"));
        settings.apps = vec![AppSettings::new("shop", "key", "long-secret")];
        assert_eq!(settings.warnings(), []);
        settings.apps[0].force_tls = true;
        assert_eq!(settings.warnings(), [Warning::ForceTls { app: "shop".to_owned() }]);
        settings.server.trusted_proxies = vec!["10.0.0.0/8".to_owned()];
        assert_eq!(settings.warnings(), []);
        settings.server.trusted_proxies.push("::/0".to_owned());
        assert!(settings.warnings()[0].to_string().starts_with("INSECURE: ::/0"));
    }

    #[test]
    fn metrics_are_nothing_to_warn_about_on_loopback() {
        let warned = |bind: &str| {
            let mut settings = Settings::default();
            settings.metrics.bind = bind.to_owned();
            settings.warnings().iter().any(|warning| matches!(warning, Warning::MetricsExposed { .. }))
        };
        assert_eq!(["", "127.0.0.1:9601", "[::1]:9601", "0.0.0.0:9601", "10.0.0.7:9601"].map(warned), [false, false, false, true, true]);
    }
}
