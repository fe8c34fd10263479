//! What no single key can know: ids that occur once, rules that fit their application, listeners that fit the store.

use super::{
    error::{Reason, Violation},
    rules::{KIB, size_text},
    section::Section,
    settings::{AppSettings, HandshakeAuth, ListenerKind, ListenerSettings, Settings, StoreKind, StoreSettings, WebhookEndpointSettings},
};
use crate::domain::{Means, WebhookKind};

/// Largest client event that webhooks tell of.
const MAX_TOLD_BYTES: usize = 128 * KIB;
/// Most rules of one application, each of which is compared with each.
const MAX_HOLDS: usize = 200;
/// Most endpoints of one application: each reads what its application records.
const MAX_WEBHOOKS: usize = 50;
/// Most listeners: each reads the whole log.
const MAX_LISTENERS: usize = 100;

impl Settings {
    /// Checks every limit, and everything that two keys decide together. [`load`](super::load()) has done it; settings made in code have
    /// not been through it.
    ///
    /// # Errors
    /// The first key that breaks its rule.
    pub fn validate(&self) -> Result<(), Violation> {
        self.check()?;
        self.tls.check_together()?;
        self.store.check_together()?;
        self.otlp.check_built()?;
        self.server.check_together().map_err(|violation| violation.below("server"))?;
        if self.app_store.enabled && matches!(self.store.kind(), StoreKind::Memory | StoreKind::Nothing) {
            return Err(Violation::at("app_store.enabled", self.store.needs("a store that outlives the process")));
        }
        for (i, app) in self.apps.iter().enumerate() {
            let earlier = &self.apps[..i];
            let taken = |key: &str, of: fn(&AppSettings) -> &str| once("apps", key, of(app), earlier.iter().map(of));
            taken("id", |app| &app.id)
                .and_then(|()| taken("key", |app| &app.key))
                .map_err(|violation| violation.below(&format!("apps[{i}]")))?;
            let checked = app.check_holds(&self.store).and_then(|()| app.check_webhooks());
            checked.map_err(|violation| violation.below(&format!("apps[{i}]")))?;
        }
        if self.listeners.len() > MAX_LISTENERS {
            return Err(Violation::at("listeners", Reason::TooMany { count: self.listeners.len(), at_most: MAX_LISTENERS }));
        }
        for (i, listener) in self.listeners.iter().enumerate() {
            let earlier = self.listeners[..i].iter().map(|listener| listener.name.as_str());
            let checked = once("listeners", "name", &listener.name, earlier).and_then(|()| self.check_listener(listener));
            checked.map_err(|violation| violation.below(&format!("listeners[{i}]")))?;
        }
        Ok(())
    }

    fn check_listener(&self, listener: &ListenerSettings) -> Result<(), Violation> {
        listener.check_together()?;
        // Whoever is not in the file may be in the table, now or later.
        let is_closed = !self.app_store.enabled;
        if is_closed && listener.app.is_empty() && listener.kind != ListenerKind::Orders && self.apps.len() > 1 {
            let whose = format!("kind = \"{}\" when there are several applications", listener.kind);
            return Err(Violation::at("app", Reason::RequiredFor { whose }));
        }
        if is_closed && !listener.app.is_empty() && self.apps.iter().all(|app| app.id != listener.app) {
            return Err(Violation::at("app", Reason::UnknownApp { id: listener.app.clone() }));
        }
        match (listener.kind, self.store.kind()) {
            (ListenerKind::Orders, kind) if kind != StoreKind::Postgres => Err(Violation::at("kind", self.store.needs("PostgreSQL"))),
            (_, StoreKind::Nothing) => Err(Violation::at("kind", self.store.needs("a log"))),
            _ => Ok(()),
        }
    }
}

/// Whether nobody earlier in the list has this value.
fn once<'a>(list: &str, key: &str, value: &str, mut earlier: impl Iterator<Item = &'a str>) -> Result<(), Violation> {
    earlier
        .position(|earlier| earlier == value)
        .map_or(Ok(()), |first| Err(Violation::at(key, Reason::Taken { value: value.to_owned(), by: format!("{list}[{first}].{key}") })))
}

impl AppSettings {
    /// What can be said of an application without the others.
    pub(super) fn check_alone(&self, store: &StoreSettings) -> Result<(), Violation> {
        self.check()?;
        self.check_holds(store)?;
        self.check_webhooks()
    }

    fn check_holds(&self, store: &StoreSettings) -> Result<(), Violation> {
        if self.holds.len() > MAX_HOLDS {
            return Err(Violation::at("holds", Reason::TooMany { count: self.holds.len(), at_most: MAX_HOLDS }));
        }
        // The one rule that nobody asked for is left out where there is no store.
        if store.kind() == StoreKind::Nothing && !self.holds.is_empty() && self.holds != Self::development().holds {
            return Err(Violation::at("holds", store.needs("a store")));
        }
        let rules = self.hold_rules()?;
        for (i, rule) in rules.iter().enumerate() {
            let refused = |key: &str, reason| Err(Violation::at(key, reason).below(&format!("holds[{i}]")));
            if let Err(misfit) = rule.check(self.means()) {
                return refused(&misfit.key, misfit.error.into());
            }
            if let Some((first, channel)) = rules[..i].iter().enumerate().find_map(|(j, earlier)| Some((j, rule.common_channel(earlier)?)))
            {
                return refused("channel", Reason::Overlaps { other: format!("holds[{first}]"), channel });
            }
        }
        Ok(())
    }

    fn check_webhooks(&self) -> Result<(), Violation> {
        if self.webhooks.len() > MAX_WEBHOOKS {
            return Err(Violation::at("webhooks", Reason::TooMany { count: self.webhooks.len(), at_most: MAX_WEBHOOKS }));
        }
        // An entry of the log has to hold one, escaped.
        let (largest, found) = (MAX_TOLD_BYTES, self.limits.max_client_event_bytes);
        if found > largest && self.webhooks.iter().any(|endpoint| endpoint.filter().has_kind(WebhookKind::ClientEvent)) {
            let at_most = format!("{} where an endpoint of webhooks wants client_event", size_text(largest));
            let reason = Reason::OutOfRange { found: size_text(found), at_least: size_text(1), at_most, or: "" };
            return Err(Violation::at("limits.max_client_event_bytes", reason));
        }
        // A name that was given may be the one that another endpoint's URL makes.
        let names = WebhookEndpointSettings::names(&self.webhooks);
        for (i, endpoint) in self.webhooks.iter().enumerate() {
            let earlier = names[..i].iter().map(String::as_str);
            let checked = once("webhooks", "name", &names[i], earlier).and_then(|()| endpoint.check_together());
            checked.map_err(|violation| violation.below(&format!("webhooks[{i}]")))?;
        }
        Ok(())
    }

    /// What clients of this application can carry.
    fn means(&self) -> Means {
        Means { token: self.handshake_auth != HandshakeAuth::Off, sign_in: self.user_authentication, untrusted: self.trust_query }
    }
}
