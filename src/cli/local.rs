//! Questions to the configured broker on this machine, with or without TLS.

use std::time::Duration;

use reqwest::{Client, redirect};

use super::{error::CliError, target::reachable};
use crate::config::Settings;

/// How long it may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// The broker on `server.port`.
pub(super) struct Local {
    client: Client,
    /// `https://127.0.0.1:6001`
    pub(super) address: String,
}

impl Local {
    /// Where it would be.
    ///
    /// # Errors
    /// [`CliError::Url`] when the configuration does not say its port.
    pub(super) fn of(settings: &Settings) -> Result<Self, CliError> {
        let server = &settings.server;
        if server.port == 0 {
            return Err(CliError::Url { url: "port 0".to_owned(), reason: "the configured port is chosen at the start" });
        }
        // An error only says that the program has chosen one already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(PATIENCE).tls_certs_only([]);
        // It is asked by its address, and its certificate is for its name. What is asked is no secret.
        let client = client.tls_danger_accept_invalid_certs(true);
        let address = format!("{}://{}:{}", if settings.tls.is_on() { "https" } else { "http" }, reachable(&server.host), server.port);
        let client = client.build().map_err(|error| CliError::Unreachable { url: address.clone(), source: Box::new(error) })?;
        Ok(Self { client, address })
    }

    /// Status and body of what it answers.
    ///
    /// # Errors
    /// [`CliError::Unreachable`].
    pub(super) async fn get(&self, path: &str) -> Result<(u16, String), CliError> {
        let unreachable =
            |error: reqwest::Error| CliError::Unreachable { url: self.address.clone(), source: Box::new(error.without_url()) };
        let response = self.client.get(format!("{}{path}", self.address)).send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.map_err(unreachable)?))
    }
}
