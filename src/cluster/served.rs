//! Which applications are served: they come, change and go while the node is at work.

use std::{collections::HashMap, sync::Arc};

use super::Broker;
use crate::{
    domain::{App, Hub},
    protocol::CloseCode,
};

/// The applications that are served now.
#[derive(Debug, Default)]
pub(super) struct Apps {
    pub(super) by_id: HashMap<Arc<str>, Arc<Hub>>,
    pub(super) by_key: HashMap<Arc<str>, Arc<Hub>>,
}

impl Apps {
    pub(super) fn insert(&mut self, hub: Arc<Hub>) {
        self.by_id.insert(Arc::clone(hub.id()), Arc::clone(&hub));
        self.by_key.insert(Arc::clone(&hub.app().key), hub);
    }

    /// Nobody finds it by its key any more, unless the key is another's.
    fn forget_key(&mut self, hub: &Arc<Hub>) {
        let key = &hub.app().key;
        if self.by_key.get(key).is_some_and(|found| Arc::ptr_eq(found, hub)) {
            self.by_key.remove(key);
        }
    }
}

impl Broker {
    /// Serves an application from here on: a new one, or a changed one in the place of the one with its id. Those who are connected stay,
    /// and what they do next is judged by what it is now; only a disabled application closes them, with 4003.
    pub fn serve(&self, app: App) -> Arc<Hub> {
        self.serve_watched(app, |_| {})
    }

    /// The same; one that is new is shown around before anybody can connect to it.
    pub(crate) fn serve_watched(&self, app: App, prepare: impl FnOnce(&Hub)) -> Arc<Hub> {
        let app = Arc::new(app);
        let mut apps = self.0.apps.write();
        let hub = match apps.by_id.get(&app.id).cloned() {
            Some(hub) => {
                apps.forget_key(&hub);
                hub.replace(Arc::clone(&app));
                hub
            }
            None => {
                let hub = Arc::new(Hub::new(Arc::clone(&app)));
                prepare(&hub);
                hub
            }
        };
        apps.insert(Arc::clone(&hub));
        drop(apps);
        if !app.enabled {
            hub.close_all(CloseCode::APP_DISABLED, "Application disabled");
        }
        hub
    }

    /// Serves an application no more: those who are connected are closed with 4001. `false`: there is none of the id.
    pub fn retire(&self, app_id: &str) -> bool {
        let mut apps = self.0.apps.write();
        let Some(hub) = apps.by_id.remove(app_id) else { return false };
        apps.forget_key(&hub);
        drop(apps);
        // Whoever has found it already is not to be left behind in it.
        hub.replace(Arc::new(App { enabled: false, ..App::clone(&hub.app()) }));
        hub.close_all(CloseCode::UNKNOWN_APP, "The application does not exist any more");
        true
    }
}
