//! Endpoints of the table's applications: they start, change and stop while the broker runs.

use std::{collections::HashMap, sync::Arc};

use crate::{
    config::{AppSettings, WebhookEndpointSettings},
    domain::ChannelWatch,
    lifecycle::{
        BoxedListener, Deliveries, Dispatcher, PostStats, Recorder, WatchedApp,
        store::{AppRow, Timestamp},
    },
    server::{endpoints::infos_of, metrics::PostedTo},
};

/// Whom changes of endpoints concern.
pub(in crate::server) struct Webhooks {
    recorder: Arc<Recorder>,
    dispatcher: Arc<Dispatcher>,
    deliveries: Deliveries,
    posted: PostedTo,
    /// What is at work, by application.
    made: HashMap<String, Made>,
}

/// The endpoints of an application that are at work.
struct Made {
    from: Basis,
    /// The names of their places in the log.
    consumers: Vec<String>,
}

/// What endpoints are made from.
#[derive(PartialEq)]
struct Basis {
    webhooks: Vec<WebhookEndpointSettings>,
    key: String,
    secret: String,
    previous_secret: Option<(String, Timestamp)>,
}

impl Webhooks {
    pub(in crate::server) fn new(recorder: Arc<Recorder>, dispatcher: Arc<Dispatcher>, deliveries: Deliveries, posted: PostedTo) -> Self {
        Self { recorder, dispatcher, deliveries, posted, made: HashMap::new() }
    }

    /// Who is told what happens on the channels of an application, of which its endpoints hear what they want from here on.
    pub(super) fn watch(&self, app: &AppSettings) -> Arc<dyn ChannelWatch> {
        let filters = app.webhooks.iter().map(WebhookEndpointSettings::filter).collect();
        self.recorder.watch(WatchedApp { id: app.id.clone(), filters })
    }

    /// Puts these endpoints in the place of those that an application has. True if they hear of something else than those did.
    pub(super) fn serve(
        &mut self,
        app: &AppSettings,
        row: &AppRow,
        endpoints: impl Iterator<Item = (BoxedListener, Arc<PostStats>)>,
    ) -> bool {
        let (webhooks, previous_secret) = (app.webhooks.clone(), row.previous_secret.clone());
        let from = Basis { webhooks, key: row.key.clone(), secret: row.secret.clone(), previous_secret };
        if self.made.get(&app.id).is_some_and(|made| made.from == from) {
            return false;
        }
        let former = self.made.remove(&app.id);
        let news = former.as_ref().map_or(!app.webhooks.is_empty(), |former| former.from.webhooks != app.webhooks);
        let mut consumers = Vec::new();
        let former = former.map(|former| former.consumers).unwrap_or_default();
        self.posted.write().retain(|(name, _)| !former.contains(name));
        for (endpoint, stats) in endpoints {
            consumers.push(endpoint.name().to_owned());
            self.posted.write().push((endpoint.name().to_owned(), stats));
            self.dispatcher.add(endpoint);
        }
        former.iter().filter(|name| !consumers.contains(name)).for_each(|name| self.dispatcher.remove(name));
        self.deliveries.set_endpoints_of(&app.id, infos_of(app));
        self.made.insert(app.id.clone(), Made { from, consumers });
        news
    }

    /// Stops the endpoints of an application that is gone.
    pub(super) fn drop_app(&mut self, id: &str) {
        // Its connections are leaving: that is recorded, and nobody hears of it.
        self.recorder.watch(WatchedApp { id: id.to_owned(), filters: Vec::new() });
        let Some(made) = self.made.remove(id) else { return };
        made.consumers.iter().for_each(|name| self.dispatcher.remove(name));
        self.posted.write().retain(|(name, _)| !made.consumers.contains(name));
        self.deliveries.set_endpoints_of(id, Vec::new());
    }
}
