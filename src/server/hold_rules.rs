//! From `[[apps.holds]]` to the handler that carries them out.

use crate::{
    cluster::Broker,
    config::{Settings, StoreKind, Violation},
    domain::{ConfiguredHolds, HoldLimits},
};

/// The rules of all applications. Without a store there are none: nobody can hold anything.
///
/// # Errors
/// A rule that cannot be read, which settings that were validated do not have.
pub(super) fn configured_holds(settings: &Settings, broker: &Broker) -> Result<ConfiguredHolds, Violation> {
    let store = &settings.store;
    let limits = HoldLimits {
        max_resource_bytes: store.max_resource_bytes,
        max_principal_bytes: store.max_principal_bytes,
        max_context_bytes: store.max_context_bytes,
    };
    let broker = broker.clone();
    let mut holds = ConfiguredHolds::new(limits)
        .still_held_by(move |socket_id, resource| broker.locks().is_none_or(|locks| locks.holds(socket_id, resource)));
    if store.kind() != StoreKind::Nothing {
        for app in &settings.apps {
            holds = holds.app(&app.id, app.hold_rules()?);
        }
    }
    Ok(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppSettings, HoldSettings, StoreSettings};

    /// The ids of the applications that have rules, out of `shop` with one and `news` with none.
    fn with_rules(settings: &Settings) -> Vec<String> {
        let shown = format!("{:?}", configured_holds(settings, &Broker::new([], 0)).unwrap());
        settings.apps.iter().map(|app| app.id.clone()).filter(|id| shown.contains(&format!("{id:?}: "))).collect()
    }

    #[test]
    fn each_application_has_its_own_rules_and_the_limits_of_the_store() {
        let shop = AppSettings { holds: vec![HoldSettings::development()], ..AppSettings::new("shop", "a", "s") };
        let mut settings = Settings { apps: vec![shop, AppSettings::new("news", "b", "s")], ..Settings::default() };
        settings.store.max_resource_bytes = 77;
        assert_eq!(with_rules(&settings), ["shop"]);
        assert!(format!("{:?}", configured_holds(&settings, &Broker::new([], 0))).contains("max_resource_bytes: 77"));
        settings.apps[0].holds[0].channel.clear();
        let violation = configured_holds(&settings, &Broker::new([], 0)).map(|_| ()).unwrap_err();
        assert_eq!(violation.to_string(), "holds[0].channel: is required for at = \"subscribe\"");
    }

    #[test]
    fn without_a_store_there_are_no_rules() {
        let store = StoreSettings { url: "none".into(), ..StoreSettings::default() };
        let settings = Settings { store, ..Settings::default() };
        assert_eq!(settings.validate(), Ok(()));
        assert_eq!((with_rules(&settings), with_rules(&Settings::default())), (vec![], vec!["app-id".to_owned()]));
    }
}
