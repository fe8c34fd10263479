//! [`ConfiguredHolds`]: locks from configuration, for applications that write no Rust.
//!
//! An ordinary [`Handler`], made of nothing that an embedding program could not use as well: [`HoldRule`]s and values of the hooks go
//! in, [`Outcome`]s come out. Start with `rule.rs` (what can be asked for), then `guest.rs` (one connection, and what is known of it).

mod guest;
mod rule;

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;

pub use guest::Guest;
pub use rule::{HoldRule, HoldRuleError, Means, Misfit, Occasion, OnMismatch, PrincipalFrom};

use super::{Carrier, Conflict, Handler, Handshake, Outcome, Placeholder, Reject, Subscribe};
use crate::protocol::{ChannelPattern, SignedUser, SocketId};

/// Takes the holds that rules ask for. Clones have the same rules, also those that are set later. Costs a connection of an application
/// without rules one look into a map, and nothing after that.
///
/// ```
/// use holdline::domain::{ConfiguredHolds, HoldLimits, HoldRule, Occasion, Template};
/// use holdline::protocol::ChannelPattern;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let orders = Occasion::Subscribe(ChannelPattern::parse("private-order.{order_id}")?);
/// let rule = HoldRule::new(orders, Template::parse("order:{order_id}")?, "Order");
/// let holds = ConfiguredHolds::new(HoldLimits::default()).app("shop", [rule]);
/// # let _ = holds;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ConfiguredHolds {
    limits: HoldLimits,
    still_held: StillHeld,
    apps: Arc<RwLock<HashMap<String, Arc<AppRules>>>>,
}

/// Whether a connection still holds a resource: locks may be lost while their connection lives.
#[derive(Clone, Default)]
struct StillHeld(Option<Arc<AskHeld>>);

type AskHeld = dyn Fn(SocketId, &str) -> bool + Send + Sync;

impl fmt::Debug for StillHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Asked" } else { "Believed" })
    }
}

/// How long the texts of a configured hold may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// Of a resource, bytes.
    pub max_resource_bytes: usize,
    /// Of a principal, bytes.
    pub max_principal_bytes: usize,
    /// Of a context as JSON, bytes.
    pub max_context_bytes: usize,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { max_resource_bytes: 200, max_principal_bytes: 200, max_context_bytes: 4_096 }
    }
}

/// The rules of one application, sorted by when they apply.
#[derive(Debug)]
struct AppRules {
    limits: HoldLimits,
    subscribe: Vec<(ChannelPattern, HoldRule)>,
    open: Vec<HoldRule>,
    signin: Vec<HoldRule>,
    /// What has to be kept of a handshake, and of a sign-in, for the rules that apply later.
    carried: Vec<Placeholder>,
}

impl ConfiguredHolds {
    /// No rules for anybody.
    pub fn new(limits: HoldLimits) -> Self {
        Self { limits, still_held: StillHeld::default(), apps: Arc::default() }
    }

    /// Whom to ask whether a connection still holds what it took when it opened or signed in. Without an answer it is believed to.
    pub fn still_held_by(self, ask: impl Fn(SocketId, &str) -> bool + Send + Sync + 'static) -> Self {
        Self { still_held: StillHeld(Some(Arc::new(ask))), ..self }
    }

    /// The rules of one application; [`HoldRule::check`] says whether they can work. At most one rule applies to a subscription: the
    /// first whose pattern matches.
    pub fn app(self, app_id: impl AsRef<str>, rules: impl IntoIterator<Item = HoldRule>) -> Self {
        self.set_app(app_id.as_ref(), rules);
        self
    }

    /// Gives an application these rules instead of those that it has, or none. They are for whoever connects from here on; what is held
    /// stays held, and a connection keeps the rules that it came with.
    pub fn set_app(&self, app_id: &str, rules: impl IntoIterator<Item = HoldRule>) {
        let rules = AppRules::new(self.limits, rules);
        let mut apps = self.apps.write();
        if rules.is_empty() {
            apps.remove(app_id);
        } else {
            apps.insert(app_id.to_owned(), Arc::new(rules));
        }
    }

    /// Whether a subscription to this channel, from here on, asks for a lock.
    pub fn ask_at(&self, app_id: &str, channel: &str) -> bool {
        let rules = self.apps.read().get(app_id).cloned();
        rules.is_some_and(|rules| rules.subscribe.iter().any(|(pattern, _)| pattern.matches(channel)))
    }
}

impl AppRules {
    fn new(limits: HoldLimits, rules: impl IntoIterator<Item = HoldRule>) -> Self {
        let mut sorted = Self { limits, subscribe: Vec::new(), open: Vec::new(), signin: Vec::new(), carried: Vec::new() };
        for rule in rules {
            for placeholder in rule.placeholders() {
                let is_kept = matches!(placeholder, Placeholder::Field(carrier, _) if *carrier != Carrier::ChannelData);
                if is_kept && !sorted.carried.contains(placeholder) {
                    sorted.carried.push(placeholder.clone());
                }
            }
            match &rule.occasion {
                Occasion::Subscribe(pattern) => sorted.subscribe.push((pattern.clone(), rule)),
                Occasion::Open => sorted.open.push(rule),
                Occasion::Signin => sorted.signin.push(rule),
            }
        }
        sorted
    }

    fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.open.is_empty() && self.signin.is_empty()
    }
}

impl Handler for ConfiguredHolds {
    /// Nothing for an application without rules.
    type Conn = Option<Box<Guest>>;

    async fn on_handshake(&self, request: &Handshake) -> Result<Self::Conn, Reject> {
        let rules = self.apps.read().get(request.app_id()).cloned();
        Ok(rules.map(|rules| Box::new(Guest::new(&rules, self.still_held.clone(), request))))
    }

    async fn on_open(&self, conn: &mut Self::Conn) -> Result<Outcome, Reject> {
        conn.as_mut().map_or_else(|| Ok(Outcome::accept()), |guest| guest.open())
    }

    async fn on_signin(&self, conn: &mut Self::Conn, user: &SignedUser) -> Result<Outcome, Reject> {
        conn.as_mut().map_or_else(|| Ok(Outcome::accept()), |guest| guest.sign_in(user))
    }

    async fn on_subscribe(&self, conn: &mut Self::Conn, sub: &Subscribe) -> Result<Outcome, Reject> {
        conn.as_mut().map_or_else(|| Ok(Outcome::accept()), |guest| guest.subscribe(sub))
    }

    async fn on_conflict(&self, conn: &mut Self::Conn, conflict: &Conflict) -> Reject {
        if let (Some(guest), None) = (conn, &conflict.channel) {
            guest.did_not_get(&conflict.hold);
        }
        Reject::conflict(conflict)
    }

    fn hears_close(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
