//! An endpoint of webhooks, as the dispatcher serves it: several entries in one request, order by channel, time limits by age.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;

use super::Retry;
use crate::lifecycle::store::EventRow;

/// What the names of the consumers of endpoints begin with.
pub(crate) const ENDPOINT_PREFIX: &str = "webhook:";

/// Under which an endpoint's place in the log is kept. No name of an endpoint has a colon in it.
pub(crate) fn consumer_name(app: &str, name: &str) -> String {
    format!("{ENDPOINT_PREFIX}{app}:{name}")
}

/// The application and the name of an endpoint, from the name of its consumer.
pub(crate) fn endpoint_of(consumer: &str) -> Option<(&str, &str)> {
    consumer.strip_prefix(ENDPOINT_PREFIX)?.rsplit_once(':')
}

/// How an endpoint is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointOptions {
    /// Whose events it gets.
    pub(crate) app: String,
    /// How several events become one request; `None`: each is one.
    pub(crate) batch: Option<Batching>,
    /// For so long since it happened an event is tried.
    pub(crate) retry_for: Duration,
    /// So long the later events of a channel wait for one that is not taken.
    pub(crate) order_for: Duration,
    /// How long one request may take.
    pub(crate) timeout: Duration,
}

/// How several events become one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batching {
    /// How long the first may wait for others.
    pub(crate) window: Duration,
    /// Most events of one request.
    pub(crate) most: usize,
}

/// Somebody who is told of the webhooks of one application.
pub(crate) trait Endpoint: Send + Sync {
    /// The name of its consumer.
    fn consumer(&self) -> &str;

    /// How it wants to be served.
    fn options(&self) -> &EndpointOptions;

    /// Whether an entry is for it.
    fn wants(&self, event: &EventRow) -> bool;

    /// One request with these entries, in this order; never none.
    fn deliver<'a>(&'a self, events: &'a [EventRow]) -> BoxFuture<'a, Result<(), Retry>>;
}

impl fmt::Debug for dyn Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.consumer()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_s_name_says_whose_it_is_also_if_the_application_has_a_colon() {
        for (app, name) in [("1", "shop"), ("a:b", "shop-2"), ("1", "0a1b2c3d")] {
            assert_eq!(endpoint_of(&consumer_name(app, name)), Some((app, name)));
        }
        assert_eq!(endpoint_of("orders"), None);
    }
}
