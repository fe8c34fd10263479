//! The hooks of the application's handler.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::page::{Page, labels};
use crate::lifecycle::HookStats;

/// Reads what was counted of the calls of a handler.
#[derive(Debug)]
pub(super) struct Hooks(pub(super) Arc<HookStats>);

impl Collector for Hooks {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page::new(encoder);
        let times = self.0.times().map(|(hook, view)| (labels!["hook" => hook.as_str()], view));
        page.histogram("holdline_hook_duration_seconds", "How long the calls of the handler took, by hook.", times)?;
        let failures =
            self.0.failures().map(|(hook, failure, count)| (labels!["hook" => hook.as_str(), "failure" => failure.as_str()], count));
        page.counter("holdline_hook_failures", "Calls of the handler that panicked or took too long, by hook.", failures)
    }
}
