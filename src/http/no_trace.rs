//! No span of a published event: this program was built without the feature `otlp`.

use actix_web::http::header::HeaderMap;
use tracing::Span;

/// No span.
pub(super) fn publishing(_: &str, _: &HeaderMap, _: usize) -> Span {
    Span::none()
}

/// Nowhere to write a name.
pub(super) fn names(_: &Span, _: &str) {}
