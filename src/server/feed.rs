//! What happens on channels, on its way to the log of webhooks: who is watched, and what is written before the node leaves.

use std::{sync::Arc, time::Duration};

use super::store::OpenStore;
use crate::{
    cluster::Broker,
    config::{AppSettings, Settings, WebhookEndpointSettings, WebhooksSettings},
    lifecycle::{Node, Recorder, RecorderSettings, WatchedApp, store::StoreError},
};

/// Whether there is anybody to tell.
pub(super) fn is_wanted(settings: &Settings) -> bool {
    settings.apps.iter().any(|app| !app.webhooks.is_empty())
}

/// Watches the channels of the applications that have endpoints; `None` if none has, and none can come later. To be called before anybody
/// connects.
pub(super) fn start(settings: &Settings, node: &Node, broker: &Broker) -> Option<Arc<Recorder>> {
    let watched = |app: &AppSettings| {
        let filters = app.webhooks.iter().map(WebhookEndpointSettings::filter).collect();
        WatchedApp { id: app.id.clone(), filters }
    };
    let apps: Vec<WatchedApp> = settings.apps.iter().filter(|app| !app.webhooks.is_empty()).map(watched).collect();
    if apps.is_empty() && !settings.app_store.enabled {
        return None;
    }
    let WebhooksSettings { delay, queue_size } = settings.webhooks;
    let recorder = Arc::new(node.record(RecorderSettings { apps, delay, queue_size }));
    for (app, watch) in recorder.watches() {
        if let Some(hub) = broker.app(&app) {
            hub.watch(watch);
        }
    }
    Some(recorder)
}

/// Writes what is owed to the log, at most for `grace`, before the node signs off. Of a store that ends with this process nobody will
/// ever tell: there, whoever is away is gone now. In any other the delay goes on, and the next start, or another node, ends it.
pub(super) async fn finish(recorder: &Recorder, store: &OpenStore, node: &Node, grace: Duration) {
    if tokio::time::timeout(grace, recorder.flushed()).await.is_err() {
        let waiting = recorder.waiting();
        tracing::warn!(waiting, "{waiting} changes of channels are not recorded for webhooks: the store did not take them in time");
    }
    let Some(fleeting) = &store.fleeting else { return };
    let end = async {
        fleeting.end_delays().await?;
        node.sweep().await
    };
    if let Err::<(), StoreError>(error) = end.await {
        tracing::warn!(error = %error, "Channels that were just vacated are not told of: {error}");
    }
}
