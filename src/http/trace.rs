//! The span of a published event, which may belong to a trace of the caller. Only with the feature `otlp`.

use actix_web::http::header::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of what is there for traces alone: no log has it, unless it is asked for at this level.
const TARGET: &str = "holdline::trace";

/// The span around publishing. A `traceparent` counts only here, behind the signature: a stranger cannot have anything traced.
pub(super) fn publishing(app_id: &str, headers: &HeaderMap, events: usize) -> Span {
    let span = tracing::trace_span!(target: TARGET, "publish", app.id = %app_id, events, channel.name = tracing::field::Empty);
    if !span.is_disabled() {
        let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        // It only fails where nobody traces.
        let _ = span.set_parent(caller);
    }
    span
}

/// The first channel of an event, when there is one event.
pub(super) fn names(span: &Span, channel: &str) {
    span.record("channel.name", channel);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}
