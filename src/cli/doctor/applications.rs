//! The applications of the table: whether a broker would serve them, and whether their secrets are any.

use super::{
    report::{Report, chain},
    safety,
};
use crate::{
    cli::{apps::servable, store::in_time},
    config::{AppSettings, Settings},
    server::store::{self, Access, StoreTarget},
};

/// Those that a broker with this configuration would serve.
pub(super) async fn examine(report: &mut Report, settings: &Settings) -> Vec<AppSettings> {
    let mut served = Vec::new();
    if !settings.app_store.enabled {
        return served;
    }
    // Why there is none, or not yet, is said where the store is looked at.
    let Ok(store) = in_time(store::beside(&StoreTarget::from(&settings.store), Access::Read)).await else { return served };
    let rows = match store.apps().await {
        Ok(table) => table.rows,
        Err(error) => {
            report.fail("apps", chain(&error));
            return served;
        }
    };
    for row in &rows {
        match servable(settings, row) {
            Ok(app) => {
                safety::secret(report, settings, &app);
                served.push(app);
            }
            Err(error) => report.warn("apps", format!("{}; it is not served", chain(&error))),
        }
    }
    let is_known = |id: &str| settings.apps.iter().any(|app| app.id == id) || rows.iter().any(|row| row.id == id);
    for listener in settings.listeners.iter().filter(|listener| !listener.app.is_empty() && !is_known(&listener.app)) {
        report.warn(
            "apps",
            format!("listener {} is about app {:?}, which is neither in the configuration nor in the table", listener.name, listener.app),
        );
    }
    report.ok("apps", format!("{} of the {} applications in the table can be served", served.len(), rows.len()));
    served
}
