//! What a callback asks for: values, compared in tests, carried out by the broker.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Conflict, DomainEvent, Hold, hold::Side};
use crate::protocol::{CloseCode, SubscriptionError};

/// What a callback wants done, if it agrees. Nothing of it happens before the callback has returned, and nothing at all when
/// it returns a [`Reject`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an outcome does nothing by itself: return it"]
pub struct Outcome {
    pushes: Vec<Push>,
    holds: Vec<Hold>,
    events: Vec<DomainEvent>,
    releases: Vec<String>,
}

/// An event for the connection the callback was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The event's name.
    pub event: String,
    /// Its data: a JSON text.
    pub data: String,
}

impl Outcome {
    /// Agrees, and asks for nothing more.
    pub fn accept() -> Self {
        Self::default()
    }

    /// Sends an event to this connection: on the channel, when the callback is about one, right after the answer the protocol
    /// gives. A channel that was just unsubscribed is no address any more: pushes of `on_unsubscribe` carry none. A value that
    /// cannot be written as JSON is sent as `null`. Pushes of `on_close` go nowhere.
    pub fn push(mut self, event: impl Into<String>, data: impl Serialize) -> Self {
        let data = serde_json::to_string(&data).unwrap_or_else(|_| "null".to_owned());
        self.pushes.push(Push { event: event.into(), data });
        self
    }

    /// Takes hold of a resource. All holds and events of an outcome are committed together, or none; the client hears of success
    /// only after that. Of `on_subscribe` it ends with the subscription, of other callbacks with the connection. `on_unsubscribe` and
    /// `on_close` cannot take one.
    pub fn hold(mut self, hold: Hold) -> Self {
        self.holds.push(hold);
        self
    }

    /// Writes an event to the durable log, where listeners find it.
    pub fn emit(mut self, event: DomainEvent) -> Self {
        self.events.push(event);
        self
    }

    /// Lets go of a resource that this connection holds, with cause `released` and without grace; after the holds were taken. What it
    /// does not hold is passed over.
    pub fn release(mut self, resource: impl Into<String>) -> Self {
        self.releases.push(resource.into());
        self
    }

    /// This outcome and then another one.
    pub fn and(mut self, other: Self) -> Self {
        self.pushes.extend(other.pushes);
        self.holds.extend(other.holds);
        self.events.extend(other.events);
        self.releases.extend(other.releases);
        self
    }

    /// The same, asked for by one of two combined handlers.
    pub(super) fn by(mut self, side: Side) -> Self {
        for hold in &mut self.holds {
            hold.route = hold.route.through(side);
        }
        self
    }

    /// The events to send.
    pub fn pushes(&self) -> &[Push] {
        &self.pushes
    }

    /// The holds to take.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// The events for the log.
    pub fn events(&self) -> &[DomainEvent] {
        &self.events
    }

    /// The resources to let go.
    pub fn releases(&self) -> &[String] {
        &self.releases
    }

    pub(crate) fn without_holds(self) -> Self {
        Self { holds: Vec::new(), ..self }
    }

    pub(crate) fn without_quiet_holds(mut self) -> Self {
        self.holds.retain(|hold| !hold.quiet);
        self
    }

    pub(crate) fn into_events(self) -> Vec<DomainEvent> {
        self.events
    }

    /// Whether anything of it is to be written down before it counts.
    pub(crate) fn is_durable(&self) -> bool {
        !self.holds.is_empty() || !self.events.is_empty()
    }
}

/// A callback's refusal, in the words of the protocol.
///
/// At the handshake and on open it becomes `pusher:error` and a close with [`Reject::close_code`], because clients obey close
/// codes and cannot read a refused upgrade; on subscribe `pusher:subscription_error`; on sign-in and on a message an in-band
/// `pusher:error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Reject {
    kind: Cow<'static, str>,
    status: u16,
    close_code: CloseCode,
    message: Cow<'static, str>,
    details: Map<String, Value>,
}

impl Reject {
    /// A refusal of your own: the `type` and `status` of a `subscription_error`, and one stable sentence.
    pub fn new(kind: impl Into<Cow<'static, str>>, status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: kind.into(), status, close_code: CloseCode::UNAUTHORIZED, message: message.into(), details: Map::new() }
    }

    /// Nobody we know: 401, close code 4009.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("AuthError", 401, message)
    }

    /// Known, but not allowed: 403, close code 4009.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("AuthError", 403, message)
    }

    /// No such thing: 404, close code 4009.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("NotFound", 404, message)
    }

    /// A message that cannot be understood: 400, close code 4009.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("BadRequest", 400, message)
    }

    /// Not now: 503, close code 4100, so that clients come back after a while.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self { close_code: CloseCode::OVER_CAPACITY, ..Self::new("Unavailable", 503, message) }
    }

    /// Somebody else holds it: `LockConflict`, 409, with `resource`, and with `holder` if the hold shows it. Close code 4100, so that
    /// clients whose connection needs the lock come back and try again.
    pub fn conflict(conflict: &Conflict) -> Self {
        let (resource, holder) = (&conflict.hold.resource, conflict.holders.first());
        let holder = holder.filter(|_| conflict.hold.show_holder).map(|holder| &holder.principal);
        let message = match holder {
            Some(holder) => format!("{resource} is held by {holder}"),
            None => format!("{resource} is held by somebody else"),
        };
        let reject = Self { close_code: CloseCode::OVER_CAPACITY, ..Self::new("LockConflict", 409, message) };
        let reject = reject.detail("resource", resource.as_str());
        match holder {
            Some(holder) => reject.detail("holder", holder.as_str()),
            None => reject,
        }
    }

    /// The store of locks does not answer, and a lock is needed: `LockUnavailable`, 503, close code 4100.
    pub fn lock_unavailable() -> Self {
        let message = "Locks are not available at the moment";
        Self { close_code: CloseCode::OVER_CAPACITY, ..Self::new("LockUnavailable", 503, message) }
    }

    /// One more field for the `data` of a `subscription_error`; `type`, `error` and `status` are its own and stay.
    pub fn detail(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        if !matches!(name.as_str(), "type" | "error" | "status") {
            self.details.insert(name, value.into());
        }
        self
    }

    /// Another close code, for the callbacks that end the connection.
    pub fn with_close_code(mut self, code: CloseCode) -> Self {
        self.close_code = code;
        self
    }

    /// What the connection is closed with, when it is.
    pub fn close_code(&self) -> CloseCode {
        self.close_code
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The refusal as a `subscription_error`.
    pub fn as_subscription_error(&self) -> SubscriptionError {
        SubscriptionError { details: self.details.clone(), ..SubscriptionError::new(self.kind.clone(), self.status, self.message.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_values_that_add_up() {
        let outcome = Outcome::accept().push("a", serde_json::json!({ "n": 1 })).and(Outcome::accept().push("b", "text"));
        let pushes: Vec<_> = outcome.pushes().iter().map(|push| (push.event.as_str(), push.data.as_str())).collect();
        assert_eq!(pushes, [("a", r#"{"n":1}"#), ("b", r#""text""#)]);
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        use crate::protocol::Reconnect;
        assert_eq!(Reject::unauthorized("no").close_code().reconnect(), Reconnect::Never);
        assert_eq!(Reject::unavailable("later").close_code().reconnect(), Reconnect::AfterBackoff);
    }
}
