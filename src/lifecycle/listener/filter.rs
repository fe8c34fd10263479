//! Which entries a listener is told of.

use crate::lifecycle::store::{EventKind, EventRow};

/// An app, and names of events. The default lets everything through, but for webhooks: they are their endpoints'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    app: Option<String>,
    names: Vec<String>,
}

impl EventFilter {
    /// Only entries of this app.
    #[must_use]
    pub fn app(mut self, id: impl Into<String>) -> Self {
        self.app = Some(id.into());
        self
    }

    /// Only events of these names; `*` at the end stands for anything: `Order*`. None at all: every event.
    #[must_use]
    pub fn events(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether an entry is let through.
    pub fn matches(&self, event: &EventRow) -> bool {
        event.kind != EventKind::Webhook && self.matches_names(&event.app, &event.event_type)
    }

    pub(in crate::lifecycle) fn matches_names(&self, app: &str, event_type: &str) -> bool {
        let named = |name: &String| match name.strip_suffix('*') {
            Some(beginning) => event_type.starts_with(beginning),
            None => event_type == name,
        };
        self.app.as_ref().is_none_or(|id| id == app) && (self.names.is_empty() || self.names.iter().any(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::listeners::tests::event;

    #[test]
    fn names_may_end_in_a_star_and_the_app_counts() {
        let locked = event("OrderLocked", "order:1");
        let any = EventFilter::default();
        assert!(any.matches(&locked));
        for (names, expected) in [
            (["Order*", "X"], true),
            (["OrderLocked", "X"], true),
            (["OrderLock", "X"], false),
            (["*", "X"], true),
            (["Orders*", "X"], false),
        ] {
            assert_eq!(any.clone().events(names).matches(&locked), expected, "{names:?}");
        }
        assert!(any.clone().app(&locked.app).matches(&locked));
        assert!(!any.clone().app("other").events(["Order*"]).matches(&locked));
        assert!(!any.matches(&EventRow { kind: EventKind::Webhook, ..locked }), "a webhook is for endpoints only");
    }
}
