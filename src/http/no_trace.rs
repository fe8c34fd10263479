//! No span of a published event: this program was built without the feature `otlp`.

use tracing::Span;

use super::signed::Signed;

/// No span.
pub(super) fn publishing(_: &Signed, _: usize) -> Span {
    Span::none()
}

/// Nowhere to write a name.
pub(super) fn names(_: &Span, _: &str) {}
