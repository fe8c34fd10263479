//! Who is told what happens on channels.

use std::{collections::HashMap, time::Duration};

use sha2::{Digest, Sha256};

use super::{DAY, DAYS_30, HOUR, MILLIS_10, MILLIS_100, MINUTE, MINUTES_10, SECOND};
use crate::{
    config::{
        error::{Reason, Violation},
        rules::{Flag, HeaderMap, KIB, MIB, Number, Size, Text, Time, UrlText, Words, channel_part, endpoint_name, http_url, keywords},
        secret::{Secret, SecretUrl},
        section::section,
    },
    domain::{WebhookFilter, WebhookKind},
};

/// Bytes of the hash in the name of an endpoint that has none: enough for the endpoints of one application.
const NAME_HASH_BYTES: usize = 4;

section! {
    /// `[webhooks]`: what all webhooks have in common.
    WebhooksSettings {
        /// How long a vacated channel or a removed member is waited for before anybody is told; zero is at once.
        delay: Duration = Duration::from_secs(3), Time::within(Duration::ZERO..=HOUR);
        /// Bytes of events that wait in memory while the store is away; those beyond are dropped and counted.
        queue_size: usize = 64 * MIB, Size(64 * KIB..=16 * 1_024 * MIB);
    }
}

section! {
    /// `[[apps.webhooks]]`: an endpoint that is told what happens on the application's channels. The URL is required.
    WebhookEndpointSettings requires url {
        /// Under this name its place in the log is kept; empty is one that follows from the URL.
        name: String = String::new(), Text(endpoint_name);
        /// Where to.
        url: SecretUrl = SecretUrl::default(), UrlText(http_url);
        /// The kinds; empty is all of them.
        events: Vec<WebhookKind> = Vec::new(), Words::new();
        /// Only channels whose names begin so.
        channel_prefix: String = String::new(), Text(channel_part);
        /// Only channels whose names end so.
        channel_suffix: String = String::new(), Text(channel_part);
        /// Headers of every request.
        headers: Vec<(String, Secret)> = Vec::new(), HeaderMap;
        /// Whether one request may carry several events.
        batch: bool = false, Flag;
        /// `batch`: how long the first event of a request may wait for others.
        batch_window: Duration = SECOND, Time::within(MILLIS_10..=MINUTE);
        /// `batch`: most events in one request.
        max_batch: usize = 100, Number(1..=1_000);
        /// How long an event is tried again before it is put aside for good.
        retry_for: Duration = Duration::from_secs(24 * 60 * 60), Time::within(SECOND..=DAYS_30);
        /// How long later events of a channel wait for one that is not taken.
        order_for: Duration = Duration::from_secs(5 * 60), Time::within(Duration::ZERO..=DAY);
        /// How long one request may take.
        timeout: Duration = Duration::from_secs(10), Time::within(MILLIS_100..=MINUTES_10);
    }
}
keywords!(WebhookKind);

impl WebhookEndpointSettings {
    /// What it wants to hear.
    pub fn filter(&self) -> WebhookFilter {
        let Self { events, channel_prefix, channel_suffix, .. } = self;
        WebhookFilter { kinds: events.clone(), channel_prefix: channel_prefix.clone(), channel_suffix: channel_suffix.clone() }
    }

    /// The names of an application's endpoints, in their order: those that were given, and for each other one the hash of its URL, with
    /// `-2` and so on where several have the same.
    pub fn names(endpoints: &[Self]) -> Vec<String> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let name = |endpoint: &Self, nth: usize| {
            let hash = Sha256::digest(endpoint.url.expose().as_bytes());
            let hash: String = hash.iter().take(NAME_HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
            if nth > 1 { format!("{hash}-{nth}") } else { hash }
        };
        let names = endpoints.iter().map(|endpoint| {
            if !endpoint.name.is_empty() {
                return endpoint.name.clone();
            }
            let nth = seen.entry(endpoint.url.expose()).or_default();
            *nth += 1;
            name(endpoint, *nth)
        });
        names.collect()
    }

    /// Keys that have to fit each other.
    pub(in crate::config) fn check_together(&self) -> Result<(), Violation> {
        let standard = Self::default();
        let foreign = [("batch_window", self.batch_window != standard.batch_window), ("max_batch", self.max_batch != standard.max_batch)];
        match foreign.iter().find(|(_, is_given)| *is_given && !self.batch) {
            Some((key, _)) => Err(Violation::at(key, Reason::ForeignTo { whose: "batch = false".to_owned() })),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_a_name_is_named_after_its_url() {
        let endpoint = |name: &str, url: &str| WebhookEndpointSettings {
            name: name.to_owned(),
            url: SecretUrl::new(url),
            ..WebhookEndpointSettings::default()
        };
        let endpoints = [
            endpoint("", "http://a"),
            endpoint("mail", "http://a"),
            endpoint("", "http://a"),
            endpoint("", "http://b"),
            endpoint("", "http://a"),
        ];
        let names = WebhookEndpointSettings::names(&endpoints);
        let hash = &names[0];
        assert!(hash.len() == 8 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{names:?}");
        assert_eq!((names[1].as_str(), names[2].clone(), names[4].clone()), ("mail", format!("{hash}-2"), format!("{hash}-3")));
        assert_ne!(names[3], *hash);
    }
}
