//! Who hears what is in the log.

use std::time::Duration;

use super::{DAYS_30, MILLIS_100, MINUTES_10, SECOND};
use crate::{
    config::{
        error::{Reason, Violation},
        rules::{
            HeaderMap, Text, TextList, Time, UrlText, Word, broadcast_channel_if_any, broadcast_event, event_type, identifier_if_any,
            keywords, listener_name, no_url_or_http,
        },
        secret::{Secret, SecretUrl},
        section::section,
    },
    domain::words,
};

section! {
    /// `[[listeners]]`: somebody who hears every entry of the log, in order. The name and the kind are required.
    ListenerSettings requires name, kind {
        /// Under this name its offset is stored.
        name: String = String::new(), Text(listener_name);
        /// What it does.
        kind: ListenerKind = ListenerKind::Orders, Word::new();
        /// The id of the application whose entries it hears; empty is the only one, or all of them: those of `orders`, and of the table.
        app: String = String::new(), Text(identifier_if_any);
        /// The types it hears, whole or as their beginning and `*`.
        events: Vec<String> = vec!["*".to_owned()], TextList(event_type);
        /// `http`: where to.
        url: SecretUrl = SecretUrl::default(), UrlText(no_url_or_http);
        /// `http`: headers of every request.
        headers: Vec<(String, Secret)> = Vec::new(), HeaderMap;
        /// `http`: how long an entry is retried that is no `Unlocked`.
        retry_for: Duration = Duration::from_secs(24 * 60 * 60), Time::within(SECOND..=DAYS_30);
        /// `http`: how long one request may take.
        timeout: Duration = Duration::from_secs(5), Time::within(MILLIS_100..=MINUTES_10);
        /// `broadcast`: the channel, with placeholders.
        channel: String = String::new(), Text(broadcast_channel_if_any);
        /// `broadcast`: the name of the event, with placeholders.
        event: String = "{event}".to_owned(), Text(broadcast_event);
    }
}

words! {
    /// What a listener does.
    ListenerKind {
        /// Keeps a table of who holds what in the same PostgreSQL.
        Orders = "orders",
        /// Delivers to a URL, signed.
        Http = "http",
        /// Publishes on a channel.
        Broadcast = "broadcast",
    }
}
keywords!(ListenerKind);

impl ListenerSettings {
    /// Keys that have to fit each other.
    pub(in crate::config) fn check_together(&self) -> Result<(), Violation> {
        let whose = || format!("kind = \"{}\"", self.kind);
        let standard = Self::default();
        let (http, broadcast) = (self.kind == ListenerKind::Http, self.kind == ListenerKind::Broadcast);
        let foreign = [
            ("url", !http && !self.url.is_empty()),
            ("headers", !http && !self.headers.is_empty()),
            ("retry_for", !http && self.retry_for != standard.retry_for),
            ("timeout", !http && self.timeout != standard.timeout),
            ("channel", !broadcast && !self.channel.is_empty()),
            ("event", !broadcast && self.event != standard.event),
        ];
        if let Some((key, _)) = foreign.iter().find(|(_, is_foreign)| *is_foreign) {
            return Err(Violation::at(key, Reason::ForeignTo { whose: whose() }));
        }
        let missing = [("url", http && self.url.is_empty()), ("channel", broadcast && self.channel.is_empty())];
        if let Some((key, _)) = missing.iter().find(|(_, is_missing)| *is_missing) {
            return Err(Violation::at(key, Reason::RequiredFor { whose: whose() }));
        }
        if self.events.is_empty() { Err(Violation::at("events", Reason::Empty)) } else { Ok(()) }
    }
}
