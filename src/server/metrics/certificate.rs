//! The TLS certificate that new connections get.

use std::{fmt, sync::Arc, time::UNIX_EPOCH};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::page::Page;
use crate::server::tls::InUse;

/// Of the pair in use: one that was renewed on the disk and cannot be read is not.
#[derive(Debug)]
pub(super) struct Certificate(pub(super) Arc<InUse>);

impl Collector for Certificate {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ends = self.0.ends().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let help = "When the TLS certificate in use expires, in seconds since 1970.";
        Page::new(encoder).plain_gauge("holdline_tls_certificate_expiration_timestamp_seconds", help, ends)
    }
}
