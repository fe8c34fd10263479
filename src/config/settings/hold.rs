//! What connections of an application are to hold.

use std::time::Duration;

use super::DAY;
use crate::{
    config::{
        error::{Reason, Violation},
        rules::{Flag, Text, TextMap, Time, Word, channel_pattern_if_any, context_field, event_topic, keywords, template},
        section::section,
    },
    domain::{Hold, HoldRule, IfTaken, Mode, Occasion, OnMismatch, PrincipalFrom, Template, words},
    protocol::ChannelPattern,
};

section! {
    /// `[[apps.holds]]`: what connections are to hold, and when. The resource and the name of the events are required.
    HoldSettings requires resource, event {
        /// The channels of the rule; `{captures}` become context. For `at = "subscribe"` only, and required there.
        channel: String = String::new(), Text(channel_pattern_if_any);
        /// When the rule applies.
        at: HoldPoint = HoldPoint::Subscribe, Word::new();
        /// What is held.
        resource: String = String::new(), Text(template);
        /// `Order` makes `OrderLocked` and `OrderUnlocked`.
        event: String = String::new(), Text(event_topic);
        /// How many principals the resource takes.
        mode: Mode = Mode::Exclusive, Word::new();
        /// What to do if somebody else has it.
        if_taken: IfTaken = IfTaken::Deny, Word::new();
        /// Who the lock belongs to.
        principal: PrincipalFrom = PrincipalFrom::User, Word::new();
        /// How long a user may be away after an unclean end.
        grace: Duration = Hold::GRACE, Time::within(Duration::ZERO..=DAY);
        /// Whether whoever is refused is told who holds it.
        show_holder: bool = false, Flag;
        /// Whether whoever is refused is told once when it is free.
        notify_when_free: bool = true, Flag;
        /// Whether to go on without the lock when the store does not answer.
        fail_open: bool = false, Flag;
        /// What to do about another resource of the same event that was held since the connection opened.
        on_mismatch: OnMismatch = OnMismatch::Warn, Word::new();
        /// What the events carry besides the captures and the user.
        context: Vec<(String, String)> = Vec::new(), TextMap(context_field);
    }
}

words! {
    /// When a rule applies.
    HoldPoint {
        /// When a channel is subscribed to.
        Subscribe = "subscribe",
        /// When the connection opens.
        Open = "open",
        /// When it signs in.
        Signin = "signin",
    }
}
keywords!(HoldPoint, Mode, IfTaken, PrincipalFrom, OnMismatch);

impl HoldSettings {
    /// The rule of the development application: whoever subscribes to `private-order.42` holds order 42.
    pub fn development() -> Self {
        Self {
            channel: "private-order.{order_id}".to_owned(),
            resource: "order:{order_id}".to_owned(),
            event: "Order".to_owned(),
            show_holder: true,
            ..Self::default()
        }
    }

    /// The rule as a value.
    ///
    /// # Errors
    /// What is wrong, by a key of this section.
    pub(in crate::config) fn rule(&self) -> Result<HoldRule, Violation> {
        let whose = || format!("at = \"{}\"", self.at);
        let occasion = match (self.at, self.channel.as_str()) {
            (HoldPoint::Subscribe, "") => return Err(Violation::at("channel", Reason::RequiredFor { whose: whose() })),
            (HoldPoint::Subscribe, channel) => {
                Occasion::Subscribe(ChannelPattern::parse(channel).map_err(|error| Violation::at("channel", error.into()))?)
            }
            (HoldPoint::Open, "") => Occasion::Open,
            (HoldPoint::Signin, "") => Occasion::Signin,
            (HoldPoint::Open | HoldPoint::Signin, _) => return Err(Violation::at("channel", Reason::ForeignTo { whose: whose() })),
        };
        let read = |key: &str, text: &str| Template::parse(text).map_err(|error| Violation::at(key, error.into()));
        let context = self.context.iter().map(|(field, text)| Ok((field.clone(), read(&format!("context.{field}"), text)?)));
        Ok(HoldRule {
            mode: self.mode,
            if_taken: self.if_taken,
            principal: self.principal,
            grace: self.grace,
            show_holder: self.show_holder,
            notify_when_free: self.notify_when_free,
            fail_open: self.fail_open,
            on_mismatch: self.on_mismatch,
            context: context.collect::<Result<_, Violation>>()?,
            ..HoldRule::new(occasion, read("resource", &self.resource)?, &self.event)
        })
    }
}
