//! TLS on our own port.

use std::{net::SocketAddr, time::Duration};

use super::{HOUR, MILLIS_100};
use crate::config::{
    error::{Reason, Violation},
    rules::{Text, Time, file_if_any, no_bind_or_address},
    section::section,
};

section! {
    /// `[tls]`: TLS on `server.port`. Without a certificate there is none.
    TlsSettings {
        /// The file with the certificate and those between it and its root, as PEM.
        certificate: String = String::new(), Text(file_if_any);
        /// The file with its private key, as PEM.
        key: String = String::new(), Text(file_if_any);
        /// An address to listen on without TLS as well.
        plain_bind: String = String::new(), Text(no_bind_or_address);
        /// How often the files are looked at; zero leaves it to SIGHUP.
        reload_interval: Duration = Duration::from_secs(10), Time::within(MILLIS_100..=HOUR).or_off();
    }
}

impl TlsSettings {
    /// Whether `server.port` speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate.is_empty()
    }

    /// Where to listen without TLS as well.
    pub fn plain_address(&self) -> Option<SocketAddr> {
        self.plain_bind.parse().ok()
    }

    /// Keys that have to fit each other.
    pub(in crate::config) fn check_together(&self) -> Result<(), Violation> {
        let missing = |key: &str, whose: &str| Err(Violation::at(key, Reason::RequiredFor { whose: whose.to_owned() }));
        match (self.certificate.is_empty(), self.key.is_empty()) {
            (false, true) => missing("tls.key", "tls.certificate"),
            (true, false) => missing("tls.certificate", "tls.key"),
            (true, true) if !self.plain_bind.is_empty() => missing("tls.certificate", "tls.plain_bind"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_and_key_come_together_and_a_second_listener_only_with_them() {
        let check = |certificate: &str, key: &str, plain_bind: &str| {
            let [certificate, key, plain_bind] = [certificate, key, plain_bind].map(str::to_owned);
            let settings = TlsSettings { certificate, key, plain_bind, ..TlsSettings::default() };
            settings.check_together().map_err(|violation| violation.to_string())
        };
        assert_eq!((check("", "", ""), check("c", "k", ""), check("c", "k", "127.0.0.1:0")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(check("c", "", ""), Err("tls.key: is required for tls.certificate".to_owned()));
        assert_eq!(check("", "k", ""), Err("tls.certificate: is required for tls.key".to_owned()));
        assert_eq!(check("", "", "127.0.0.1:0"), Err("tls.certificate: is required for tls.plain_bind".to_owned()));
    }
}
