//! `[[apps.webhooks]]`: who is told of what happens on channels, from settings.

use std::sync::Arc;

use super::ServerError;
use crate::{
    config::{AppSettings, Settings, WebhookEndpointSettings},
    domain::{FormerKey, WebhookKind},
    lifecycle::{self, Batching, BoxedListener, EndpointInfo, EndpointOptions, PostSettings, PostStats, Signer, WebhookEndpoint},
    protocol::SigningKey,
};

/// Makes them, each with what becomes of its requests.
///
/// # Errors
/// [`ServerError::Listener`] when one cannot work as it is configured.
pub(super) fn configured(settings: &Settings) -> Result<Vec<(BoxedListener, Arc<PostStats>)>, ServerError> {
    let mut made = Vec::new();
    for app in &settings.apps {
        made.extend(of_app(app, None)?);
    }
    Ok(made)
}

/// Makes those of one application. `former` is the secret that is being replaced.
///
/// # Errors
/// As [`configured`].
pub(super) fn of_app(app: &AppSettings, former: Option<&FormerKey>) -> Result<Vec<(BoxedListener, Arc<PostStats>)>, ServerError> {
    let mut made = Vec::new();
    for (name, endpoint) in WebhookEndpointSettings::names(&app.webhooks).into_iter().zip(&app.webhooks) {
        let broken = |reason: String| ServerError::Listener { name: format!("{name} (webhooks of app {})", app.id), reason };
        let settings = lifecycle::WebhookEndpointSettings {
            name: name.clone(),
            filter: endpoint.filter(),
            options: EndpointOptions {
                app: app.id.clone(),
                batch: endpoint.batch.then_some(Batching { window: endpoint.batch_window, most: endpoint.max_batch }),
                retry_for: endpoint.retry_for,
                order_for: endpoint.order_for,
                timeout: endpoint.timeout,
            },
            post: PostSettings {
                url: endpoint.url.expose().to_owned(),
                headers: endpoint.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
                timeout: endpoint.timeout,
            },
            signer: Signer { app_key: app.key.clone(), signing_key: SigningKey::new(app.secret.expose()), former_key: former.cloned() },
        };
        let endpoint = WebhookEndpoint::try_new(settings).map_err(|error| broken(error.to_string()))?;
        let stats = Arc::clone(endpoint.stats());
        made.push((BoxedListener::endpoint(endpoint), stats));
    }
    Ok(made)
}

/// What may be shown of them.
pub(crate) fn infos(settings: &Settings) -> Vec<EndpointInfo> {
    settings.apps.iter().flat_map(infos_of).collect()
}

/// What may be shown of those of one application.
pub(crate) fn infos_of(app: &AppSettings) -> Vec<EndpointInfo> {
    let info = |(name, endpoint): (String, &WebhookEndpointSettings)| EndpointInfo {
        app: app.id.clone(),
        endpoint: name,
        url: endpoint.url.to_string(),
        events: WebhookKind::ALL.iter().filter(|kind| endpoint.filter().has_kind(**kind)).map(|kind| kind.as_str()).collect(),
        channel_prefix: endpoint.channel_prefix.clone(),
        channel_suffix: endpoint.channel_suffix.clone(),
        batch: endpoint.batch,
    };
    WebhookEndpointSettings::names(&app.webhooks).into_iter().zip(&app.webhooks).map(info).collect()
}
