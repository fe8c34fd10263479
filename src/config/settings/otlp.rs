//! Traces for an OpenTelemetry collector.

use crate::config::{
    error::{Reason, Violation},
    rules::{HeaderMap, Ratio, Share, Text, UrlText, no_url_or_http, service_name},
    secret::{Secret, SecretUrl},
    section::section,
};

/// Whether this program was built with the feature `otlp`.
pub const HAS_OTLP: bool = cfg!(feature = "otlp");

section! {
    /// `[otlp]`: traces for an OpenTelemetry collector. Needs a program that was built with the feature `otlp`.
    OtlpSettings {
        /// Where spans are sent to, by HTTP: such as `http://127.0.0.1:4318/v1/traces`; empty is nowhere.
        endpoint: SecretUrl = SecretUrl::default(), UrlText(no_url_or_http);
        /// What the service is called in the traces.
        service_name: String = "holdline".to_owned(), Text(service_name);
        /// The share of traces that are sent, unless the caller of the HTTP API has decided.
        sample_ratio: Share = Share::ALL, Ratio;
        /// Headers of every request to the collector.
        headers: Vec<(String, Secret)> = Vec::new(), HeaderMap;
    }
}

impl OtlpSettings {
    /// Nothing may be asked for that this program cannot do.
    pub(in crate::config) fn check_built(&self) -> Result<(), Violation> {
        if HAS_OTLP || *self == Self::default() {
            return Ok(());
        }
        let what = "the feature otlp: cargo build --release --features otlp";
        Err(Violation::at("otlp", Reason::NotBuilt { what }))
    }
}
