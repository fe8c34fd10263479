//! What is allowed, but should be said aloud at the start.

use std::fmt;

use super::settings::Settings;

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
    /// An application takes TLS connections only, and this release has none to offer.
    ForceTls {
        /// The application's id.
        app: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DevelopmentApp => f.write_str(
                "Serving the development application app-id, whose secret everybody knows: configure [[apps]] before others use this broker",
            ),
            Self::ForceTls { app } => write!(
                f,
                "apps[].force_tls of {app} refuses every connection: this release speaks no TLS itself and takes no proxy's word for it"
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
        let mut warnings = match (self.is_development(), self.server.is_loopback()) {
            (false, _) => Vec::new(),
            (true, true) => vec![Warning::DevelopmentApp],
            (true, false) => vec![Warning::DevelopmentAppExposed { host: self.server.host.clone() }],
        };
        let unreachable = self.apps.iter().filter(|app| app.force_tls);
        warnings.extend(unreachable.map(|app| Warning::ForceTls { app: app.id.clone() }));
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
    }
}
