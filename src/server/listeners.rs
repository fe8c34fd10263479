//! Who hears of the log, from `[[listeners]]` and from the embedding program.

use std::sync::Arc;

use super::ServerError;
use crate::{
    cluster::{Broker, NewPublication, PublishError},
    config::{AppSettings, ListenerKind, ListenerSettings, Settings},
    lifecycle::{
        BoxedListener, Broadcast, EventFilter, HttpDelivery, HttpDeliverySettings, OrdersListener, PostStats, Reader, Signer, Signers,
        TemplateError,
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
pub(super) fn configured(settings: &Settings, broker: &Broker, signers: &Signers) -> Result<Configured, ServerError> {
    let mut made = Configured::default();
    for listener in &settings.listeners {
        let broken = |reason: String| ServerError::Listener { name: listener.name.clone(), reason };
        let filter = || {
            let app = app(settings, listener).map_err(|id| broken(format!("there is no application {id:?}")))?;
            let filter = EventFilter::default().events(&listener.events);
            Ok::<_, ServerError>(app.map_or(filter.clone(), |id| filter.app(id)))
        };
        match listener.kind {
            ListenerKind::Orders => {
                made.listeners.push(BoxedListener::transactional(OrdersListener::new(&listener.name, filter()?)));
            }
            ListenerKind::Http => {
                let delivery =
                    HttpDelivery::try_new(delivery(listener, filter()?, signers.clone())).map_err(|error| broken(error.to_string()))?;
                made.endpoints.push((listener.name.clone(), Arc::clone(delivery.stats())));
                made.listeners.push(BoxedListener::plain(delivery));
            }
            ListenerKind::Broadcast => {
                let template = |text: &str| text.parse().map_err(|error: TemplateError| broken(format!("{text:?}: {error}")));
                let broadcast = Broadcast { filter: filter()?, channel: template(&listener.channel)?, event: template(&listener.event)? };
                made.readers.push(publisher(broadcast, broker));
            }
        }
    }
    Ok(made)
}

/// The application that a listener is about, if it is about one: the only one, unless it names one or there may be others in the table.
fn app<'a>(settings: &'a Settings, listener: &'a ListenerSettings) -> Result<Option<&'a str>, &'a str> {
    let id = listener.app.as_str();
    match (id, settings.apps.as_slice()) {
        ("", [only]) if !settings.app_store.enabled && listener.kind != ListenerKind::Orders => Ok(Some(&only.id)),
        ("", _) if settings.app_store.enabled || listener.kind == ListenerKind::Orders => Ok(None),
        (id, apps) if settings.app_store.enabled || apps.iter().any(|app| app.id == id) => Ok(Some(id)),
        (id, _) => Err(id),
    }
}

/// In whose names listeners send: those of the configuration's applications, to begin with.
pub(super) fn signers(settings: &Settings) -> Signers {
    let signers = if settings.app_store.enabled { Signers::growing() } else { Signers::default() };
    for app in &settings.apps {
        signers.set(&app.id, signer(app));
    }
    signers
}

fn signer(app: &AppSettings) -> Signer {
    Signer { app_key: app.key.clone(), signing_key: SigningKey::new(app.secret.expose()), former_key: None }
}

fn delivery(listener: &ListenerSettings, filter: EventFilter, signers: Signers) -> HttpDeliverySettings {
    HttpDeliverySettings {
        name: listener.name.clone(),
        url: listener.url.expose().to_owned(),
        signers,
        headers: listener.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
        retry_for: listener.retry_for,
        timeout: listener.timeout,
        filter,
    }
}

/// Publishes what a broadcast makes of each entry, to the subscribers of this node: each node follows the log by itself.
fn publisher(broadcast: Broadcast, broker: &Broker) -> Reader {
    let broker = broker.clone();
    Reader(Box::new(move |event| {
        let Some(rendered) = broadcast.render(event) else { return };
        let publication = NewPublication { channels: vec![&rendered.channel], event: rendered.event, data: rendered.data, socket_id: None };
        match broker.publish(&event.app, publication) {
            // Of an application that is not served here nobody is connected here.
            Ok(_) | Err(PublishError::UnknownApp) => {}
            Err(error) => {
                tracing::warn!(app.id = event.app, error = %error, "An entry of the log cannot be published on {}: {error}", rendered.channel)
            }
        }
    }))
}
