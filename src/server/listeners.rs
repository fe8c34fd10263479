//! Who hears of the log, from `[[listeners]]` and from the embedding program.

use std::sync::Arc;

use super::ServerError;
use crate::{
    cluster::{Broker, NewPublication},
    config::{AppSettings, ListenerKind, ListenerSettings, Settings},
    lifecycle::{
        BoxedListener, Broadcast, EventFilter, HttpDelivery, HttpDeliverySettings, OrdersListener, PostStats, Reader, TemplateError,
    },
    protocol::SigningKey,
};

/// Those of the configuration.
#[derive(Debug, Default)]
pub(super) struct Configured {
    /// With an offset of their own.
    pub(super) listeners: Vec<BoxedListener>,
    /// Without: they publish what happens to whoever is connected here.
    pub(super) readers: Vec<Reader>,
    /// Whom requests are posted to, by the names their places in the log are kept under.
    pub(super) endpoints: Vec<(String, Arc<PostStats>)>,
}

/// Makes them.
///
/// # Errors
/// [`ServerError::Listener`] when one cannot work as it is configured.
pub(super) fn configured(settings: &Settings, broker: &Broker) -> Result<Configured, ServerError> {
    let mut made = Configured::default();
    for listener in &settings.listeners {
        let broken = |reason: String| ServerError::Listener { name: listener.name.clone(), reason };
        let app = || app(settings, listener).ok_or_else(|| broken(format!("there is no application {:?}", listener.app)));
        match listener.kind {
            ListenerKind::Orders => {
                made.listeners.push(BoxedListener::transactional(OrdersListener::new(&listener.name, filter(listener, None))));
            }
            ListenerKind::Http => {
                let delivery = HttpDelivery::try_new(delivery(listener, app()?)).map_err(|error| broken(error.to_string()))?;
                made.endpoints.push((listener.name.clone(), Arc::clone(delivery.stats())));
                made.listeners.push(BoxedListener::plain(delivery));
            }
            ListenerKind::Broadcast => {
                let (app, template) =
                    (app()?, |text: &str| text.parse().map_err(|error: TemplateError| broken(format!("{text:?}: {error}"))));
                let broadcast = Broadcast {
                    filter: filter(listener, Some(app)),
                    channel: template(&listener.channel)?,
                    event: template(&listener.event)?,
                };
                made.readers.push(publisher(broadcast, app.id.clone(), broker));
            }
        }
    }
    Ok(made)
}

/// The application that a listener is about: the only one, unless it names one.
fn app<'a>(settings: &'a Settings, listener: &ListenerSettings) -> Option<&'a AppSettings> {
    match (listener.app.as_str(), settings.apps.as_slice()) {
        ("", [only]) => Some(only),
        (id, apps) => apps.iter().find(|app| app.id == id),
    }
}

fn filter(listener: &ListenerSettings, app: Option<&AppSettings>) -> EventFilter {
    let filter = EventFilter::default().events(&listener.events);
    match app.map_or(listener.app.as_str(), |app| &app.id) {
        "" => filter,
        id => filter.app(id),
    }
}

fn delivery(listener: &ListenerSettings, app: &AppSettings) -> HttpDeliverySettings {
    HttpDeliverySettings {
        name: listener.name.clone(),
        url: listener.url.expose().to_owned(),
        app_key: app.key.clone(),
        signing_key: SigningKey::new(app.secret.expose()),
        headers: listener.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
        retry_for: listener.retry_for,
        timeout: listener.timeout,
        filter: filter(listener, Some(app)),
    }
}

/// Publishes what a broadcast makes of each entry, to the subscribers of this node: each node follows the log by itself.
fn publisher(broadcast: Broadcast, app_id: String, broker: &Broker) -> Reader {
    let broker = broker.clone();
    Reader(Box::new(move |event| {
        let Some(rendered) = broadcast.render(event) else { return };
        let publication = NewPublication { channels: vec![&rendered.channel], event: rendered.event, data: rendered.data, socket_id: None };
        if let Err(error) = broker.publish(&app_id, publication) {
            tracing::warn!(app.id = app_id, error = %error, "An entry of the log cannot be published on {}: {error}", rendered.channel);
        }
    }))
}
