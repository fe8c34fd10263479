//! Endpoints of webhooks that come and go while the node is at work.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::watch;

use super::{Dispatcher, Node, delivery::Route, effect::Effect, log_failed, reader::Reader};
use crate::lifecycle::listener::BoxedListener;

/// The endpoints that were added, by the names of their places in the log.
#[derive(Debug, Default)]
pub(super) struct Added(HashMap<String, OnTheWay>);

/// One of them, at work.
#[derive(Debug)]
struct OnTheWay {
    stop: watch::Sender<bool>,
    /// Closed when its reader has ended.
    ended: watch::Receiver<()>,
}

impl Added {
    /// The names of their places.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.0.keys().cloned()
    }

    /// Whether one of them has this place.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Tells all of them to finish.
    pub(super) fn stop_all(&self) {
        for endpoint in self.0.values() {
            endpoint.stop.send_replace(true);
        }
    }
}

impl Dispatcher {
    /// Serves an endpoint from here on; one of the same name finishes first. Anything but an endpoint is passed over.
    pub(crate) fn add(&self, endpoint: BoxedListener) {
        let (name, options) = (endpoint.name().to_owned(), endpoint.options());
        let BoxedListener::Endpoint(endpoint) = endpoint else { return };
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = watch::channel(());
        let former = self.added.lock().0.insert(name.clone(), OnTheWay { stop, ended });
        let node = Node { stop: stopped, ..self.node.clone() };
        let route = Arc::new(Route::new(endpoint, node.settings.webhook_pace));
        let reader = Reader::new(node, name, options, Effect::Endpoint(route));
        let held = reader.held();
        self.held.lock().push(Arc::clone(&held));
        let all = Arc::clone(&self.held);
        let mut readers = self.readers.lock();
        // Or those that have ended would be kept until the stop.
        while let Some(ended) = readers.try_join_next() {
            log_failed(ended);
        }
        readers.spawn(async move {
            if let Some(former) = former {
                finished(former).await;
            }
            reader.run().await;
            all.lock().retain(|other| !Arc::ptr_eq(other, &held));
            drop(alive);
        });
    }

    /// All that were there to be added at the start have been: from here on places that nobody needs may be dropped.
    pub(crate) fn all_added(&self) {
        self.complete.send_replace(true);
    }

    /// Serves an endpoint no more. Its place in the log stays for a while, as that of one that was taken out of the configuration: nobody
    /// keeps it alive, and when it has been idle for long it is dropped.
    pub(crate) fn remove(&self, name: &str) {
        let Some(former) = self.added.lock().0.remove(name) else { return };
        let (node, name) = (self.node.clone(), name.to_owned());
        self.readers.lock().spawn(async move {
            finished(former).await;
            if let Err(error) = node.store.give_up_leases(&node.owner, Some(&name)).await {
                tracing::debug!(listener.name = name, error = %error, "The claim of {name} was not given back: {error}");
            }
        });
    }
}

async fn finished(mut endpoint: OnTheWay) {
    endpoint.stop.send_replace(true);
    // An error says that the other end is gone, which is what is waited for.
    while endpoint.ended.changed().await.is_ok() {}
}
