//! What the broker says of itself to those who watch over it.

use std::net::SocketAddr;

use crate::config::{
    rules::{Text, address_if_any},
    section::section,
};

section! {
    /// `[metrics]`: counts and gauges for Prometheus.
    MetricsSettings {
        /// Where `GET /metrics` is served, an address with its port; empty is nowhere.
        bind: String = String::new(), Text(address_if_any);
    }
}

impl MetricsSettings {
    /// Where to listen, if anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.bind.parse().ok()
    }
}
