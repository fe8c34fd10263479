//! Connections, messages and channels of each application.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::page::{Labels, Page, labels};
use crate::{
    cluster::Broker,
    domain::{Census, CloseCause, ConnState, EventSource, Hub, HubStats},
};

/// Reads the live state of a broker.
#[derive(Debug)]
pub(super) struct Connections(pub(super) Broker);

/// One application at the moment of the scrape.
struct App<'a> {
    id: &'a str,
    stats: &'a HubStats,
    hub: &'a Hub,
    census: Census,
}

impl App<'_> {
    fn labels(&self) -> Labels<'_> {
        labels!["app_id" => self.id]
    }

    fn opened(&self) -> u64 {
        self.hub.totals().0
    }

    fn closed(&self, cause: CloseCause) -> u64 {
        self.hub.totals().1.find(|(found, _)| *found == cause).map_or(0, |(_, count)| count)
    }
}

impl Collector for Connections {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page::new(encoder);
        let hubs = self.0.apps();
        let mut apps: Vec<_> = hubs.iter().map(|hub| App { id: hub.id(), stats: hub.stats(), hub, census: hub.census() }).collect();
        apps.sort_by_key(|app| app.id);
        self.connections(page, &apps)?;
        self.handshakes(page, &apps)?;
        messages(page, &apps)?;
        channels(page, &apps)
    }
}

impl Connections {
    fn connections(&self, page: &mut Page<'_>, apps: &[App<'_>]) -> fmt::Result {
        let active = |app: &App<'_>| app.census.connections(ConnState::Active);
        page.gauge("holdline_connected", "Connections that are open.", apps.iter().map(|app| (app.labels(), active(app) as u64)))?;
        let states = apps.iter().flat_map(|app| {
            let of = |state: &ConnState| (labels!["app_id" => app.id, "state" => state.as_str()], app.census.connections(*state) as u64);
            ConnState::ALL.iter().map(of).collect::<Vec<_>>()
        });
        page.gauge("holdline_connections", "Connections by where they are in their life.", states)?;
        let (here, sockets) = (self.0.connection_count() as u64, self.0.socket_count() as u64);
        page.plain_gauge("holdline_node_connections", "Connections of all applications, those that shake hands included.", here)?;
        let most = u64::try_from(self.0.max_connections()).unwrap_or(u64::MAX).min(i64::MAX as u64);
        page.plain_gauge("holdline_max_connections", "Most connections that this node takes.", most)?;
        let help = "Upgraded sockets that are not written to their end, those of refused clients included.";
        page.plain_gauge("holdline_sockets", help, sockets)?;
        let memory = self.0.outbox_memory();
        let help = "What all outboxes hold together, a frame that many wait for counted once.";
        page.plain_gauge("holdline_outbox_memory_bytes", help, memory.used() as u64)?;
        let help = "1 if the node is so short of memory for outboxes that it turns new work away, else 0.";
        page.plain_gauge("holdline_outbox_memory_short", help, u64::from(self.0.is_short_of_memory()))?;
        let opened = apps.iter().map(|app| (app.labels(), app.opened()));
        page.counter("holdline_new_connections", "Connections that were opened.", opened)?;
        let closed = apps.iter().map(|app| (app.labels(), app.hub.totals().1.map(|(_, count)| count).sum()));
        page.counter("holdline_new_disconnections", "Connections that have ended.", closed)?;
        let causes = apps
            .iter()
            .flat_map(|app| app.hub.totals().1.map(|(cause, count)| (labels!["app_id" => app.id, "cause" => cause.as_str()], count)));
        page.counter("holdline_closes", "Connections that have ended, by cause.", causes)?;
        let slow = apps.iter().map(|app| (app.labels(), app.closed(CloseCause::SlowConsumer)));
        page.counter("holdline_slow_consumers", "Connections that were closed because they did not read what they were owed.", slow)
    }

    fn handshakes(&self, page: &mut Page<'_>, apps: &[App<'_>]) -> fmt::Result {
        let of_apps = apps.iter().flat_map(|app| {
            app.stats.refused_handshakes().map(|(why, count)| (labels!["app_id" => app.id, "cause" => why.as_str()], count))
        });
        let strangers = self.0.refused_strangers().map(|(why, count)| (labels!["app_id" => "", "cause" => why.as_str()], count));
        let help = "Handshakes that never became a connection, by cause; app_id is empty where they name no application.";
        page.counter("holdline_handshakes_refused", help, of_apps.chain(strangers))
    }
}

fn messages(page: &mut Page<'_>, apps: &[App<'_>]) -> fmt::Result {
    let count = |of: fn(&HubStats) -> u64| apps.iter().map(move |app| (app.labels(), of(app.stats))).collect::<Vec<_>>();
    page.old_counter("holdline_socket_received_bytes", "Bytes of the messages of clients.", count(|stats| stats.traffic().bytes_in))?;
    let help = "Bytes handed to the sockets of clients, frame headers included.";
    page.old_counter("holdline_socket_transmitted_bytes", help, count(|stats| stats.traffic().bytes_out))?;
    page.counter("holdline_ws_messages_received", "Messages of clients.", count(|stats| stats.traffic().frames_in))?;
    page.counter("holdline_ws_messages_sent", "Frames handed to the sockets of clients.", count(|stats| stats.traffic().frames_out))?;
    let published = apps.iter().flat_map(|app| {
        [("server", EventSource::Server), ("client", EventSource::Client)]
            .map(|(name, source)| (labels!["app_id" => app.id, "source" => name], app.stats.events(source)))
    });
    let help = "Events that were published, one for each channel: by servers over HTTP, or by clients (client-* events that were relayed).";
    page.counter("holdline_messages_published", help, published)?;
    let help = "Copies of published events that outboxes of connections took.";
    page.counter("holdline_messages_delivered", help, count(HubStats::deliveries))?;
    let refused = apps
        .iter()
        .flat_map(|app| app.stats.refused_events().map(|(why, count)| (labels!["app_id" => app.id, "reason" => why.as_str()], count)));
    page.counter("holdline_client_events_refused", "Client events that were not relayed, by reason.", refused)?;
    let receipts = apps
        .iter()
        .flat_map(|app| app.stats.receipts().map(|(status, count)| (labels!["app_id" => app.id, "status" => status.as_str()], count)));
    page.counter("holdline_receipts", "Client events with an id that were answered, by answer.", receipts)?;
    let forgotten = apps.iter().map(|app| (app.labels(), app.hub.receipts().forgotten()));
    page.counter(
        "holdline_receipts_forgotten",
        "Ids of client events that were forgotten before their time: there were too many.",
        forgotten,
    )?;
    let known = apps.iter().map(|app| (app.labels(), app.hub.receipts().remembered() as u64));
    page.gauge("holdline_receipt_ids", "Ids of client events that are remembered.", known)?;
    let keyed = apps
        .iter()
        .flat_map(|app| app.stats.keyed_publishes().map(|(what, count)| (labels!["app_id" => app.id, "outcome" => what.as_str()], count)));
    page.counter("holdline_idempotent_publishes", "Publishes with an Idempotency-Key, by what became of them.", keyed)?;
    let gauge = |of: fn(&Census) -> usize| apps.iter().map(move |app| (app.labels(), of(&app.census) as u64)).collect::<Vec<_>>();
    page.gauge("holdline_outbox_bytes", "Bytes that wait to be written to connections.", gauge(|census| census.outbox_bytes))?;
    page.gauge("holdline_outbox_frames", "Frames that wait to be written to connections.", gauge(|census| census.outbox_frames))?;
    page.gauge("holdline_outbox_fullest_bytes", "Bytes that wait for the slowest connection.", gauge(|census| census.fullest_outbox))?;
    page.gauge("holdline_users_signed_in", "Users who are signed in, each once.", gauge(|census| census.users))?;
    page.counter("holdline_http_calls_received", "Requests to the HTTP API that name the application.", count(|stats| stats.http().calls))?;
    page.old_counter("holdline_http_received_bytes", "Bytes of their bodies.", count(|stats| stats.http().bytes_in))?;
    page.old_counter("holdline_http_transmitted_bytes", "Bytes of the bodies of the answers.", count(|stats| stats.http().bytes_out))
}

fn channels(page: &mut Page<'_>, apps: &[App<'_>]) -> fmt::Result {
    let by_kind = |of: fn(&crate::domain::ChannelCensus) -> usize| {
        let of_app = move |app: &App<'_>| {
            app.census
                .channels()
                .map(|(kind, census)| (labels!["app_id" => app.id.to_owned(), "kind" => kind], of(&census) as u64))
                .collect::<Vec<_>>()
        };
        apps.iter().flat_map(of_app).collect::<Vec<_>>()
    };
    page.gauge("holdline_channels", "Channels that somebody is on, by kind.", by_kind(|census| census.occupied))?;
    page.gauge("holdline_subscriptions", "Subscriptions, by kind of channel.", by_kind(|census| census.subscriptions))?;
    let members = apps.iter().map(|app| (app.labels(), app.census.channels().map(|(_, census)| census.members as u64).sum::<u64>()));
    page.gauge("holdline_presence_members", "Members of presence channels, each once per channel.", members)
}
