//! One rule, and everything that makes a rule impossible: said when the configuration is read, not when a client comes.

use std::time::Duration;

use crate::{
    domain::{Carrier, Hold, IfTaken, Mode, Placeholder, Template, words},
    protocol::ChannelPattern,
};

words! {
    /// Who a configured lock belongs to.
    PrincipalFrom {
        /// The user, as far as the application has signed who it is; else the connection itself.
        User = "user",
        /// The connection itself, whoever is behind it.
        Socket = "socket",
    }
}

words! {
    /// What to do when a connection asks for one resource and has held another of the same event since it opened.
    OnMismatch {
        /// Hold both, and say so in the log.
        Warn = "warn",
        /// Refuse.
        Reject = "reject",
        /// Hold the new one, and let go of the other when it is granted.
        Switch = "switch",
        /// Hold both.
        HoldBoth = "hold_both",
    }
}

/// When a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// When a channel of this pattern is subscribed to. The hold ends with the subscription.
    Subscribe(ChannelPattern),
    /// When the connection opens. The hold ends with the connection.
    Open,
    /// When the connection signs in. The hold ends with the connection.
    Signin,
}

/// What connections of an application are to hold, without a line of code: one `[[apps.holds]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRule {
    /// When.
    pub occasion: Occasion,
    /// What.
    pub resource: Template,
    /// `Order` makes `OrderLocked` and `OrderUnlocked`.
    pub event: String,
    /// How many principals the resource takes.
    pub mode: Mode,
    /// What to do if somebody else has it.
    pub if_taken: IfTaken,
    /// Who the lock belongs to.
    pub principal: PrincipalFrom,
    /// How long a user may be away after an unclean end.
    pub grace: Duration,
    /// Whether whoever is refused is told who holds it.
    pub show_holder: bool,
    /// Whether whoever is refused is told once when it is free.
    pub notify_when_free: bool,
    /// Whether to go on without the lock when the store does not answer.
    pub fail_open: bool,
    /// What to do about another resource that was held since the connection opened.
    pub on_mismatch: OnMismatch,
    /// What the events carry besides the captures of the channel and `user_id`.
    pub context: Vec<(String, Template)>,
}

impl HoldRule {
    /// A rule with the defaults of the configuration.
    pub fn new(occasion: Occasion, resource: Template, event: impl Into<String>) -> Self {
        Self {
            occasion,
            resource,
            event: event.into(),
            mode: Mode::Exclusive,
            if_taken: IfTaken::Deny,
            principal: PrincipalFrom::User,
            grace: Hold::GRACE,
            show_holder: false,
            notify_when_free: true,
            fail_open: false,
            on_mismatch: OnMismatch::Warn,
            context: Vec::new(),
        }
    }

    /// Whether the rule can work for an application whose clients have these means.
    ///
    /// # Errors
    /// The first thing that cannot be, with the key of the rule it is about.
    pub fn check(&self, means: Means) -> Result<(), Misfit> {
        fn at(key: &str) -> impl FnOnce(HoldRuleError) -> Misfit {
            let key = key.to_owned();
            |error| Misfit { key, error }
        }
        match &self.occasion {
            Occasion::Subscribe(pattern) => check_pattern(pattern).map_err(at("channel"))?,
            Occasion::Signin if !means.sign_in => return Err(Misfit { key: "at".to_owned(), error: HoldRuleError::NoSignIn }),
            Occasion::Open | Occasion::Signin => {}
        }
        self.resource.placeholders().try_for_each(|placeholder| self.check_value(placeholder, means)).map_err(at("resource"))?;
        for (field, template) in &self.context {
            let key = format!("context.{field}");
            if field == USER_ID || self.captures().any(|capture| capture == field) {
                return Err(Misfit { key, error: HoldRuleError::GivenAnyway { field: field.clone() } });
            }
            template.placeholders().try_for_each(|placeholder| self.check_value(placeholder, means)).map_err(at(&key))?;
        }
        Ok(())
    }

    /// A channel of which this rule and another one would both ask for a lock.
    pub fn common_channel(&self, other: &Self) -> Option<String> {
        match (&self.occasion, &other.occasion) {
            (Occasion::Subscribe(own), Occasion::Subscribe(other)) => own.common_name(other),
            _ => None,
        }
    }

    /// Every placeholder of the rule.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        let context = self.context.iter().flat_map(|(_, template)| template.placeholders());
        self.resource.placeholders().chain(context)
    }

    fn captures(&self) -> impl Iterator<Item = &str> {
        let pattern = match &self.occasion {
            Occasion::Subscribe(pattern) => Some(pattern),
            Occasion::Open | Occasion::Signin => None,
        };
        pattern.into_iter().flat_map(ChannelPattern::capture_names)
    }

    /// Whether anything can ever give this value.
    fn check_value(&self, placeholder: &Placeholder, means: Means) -> Result<(), HoldRuleError> {
        let nothing = |why: String| Err(HoldRuleError::NothingGives { placeholder: placeholder.to_string(), why });
        let no_token = || "handshake_auth is off, so no token is verified".to_owned();
        match (placeholder, &self.occasion) {
            (Placeholder::Name(name), Occasion::Open) if **name == *USER_ID && !means.token => nothing(no_token()),
            (Placeholder::Name(name), _) if **name == *USER_ID || self.captures().any(|capture| capture == &**name) => Ok(()),
            (Placeholder::Name(name), Occasion::Subscribe(pattern)) => nothing(match pattern.capture_names().next() {
                None => format!("the channel pattern `{}` captures nothing, as private-order.{{{name}}} would", pattern.as_str()),
                Some(_) => format!("the channel pattern `{}` has no such capture", pattern.as_str()),
            }),
            (Placeholder::Name(_), _) => nothing("only a subscription has a channel to capture from".to_owned()),
            (Placeholder::Field(carrier, _), _) if !carrier.is_signed() => {
                let untrusted = || HoldRuleError::Untrusted { placeholder: placeholder.to_string(), carrier: *carrier };
                if means.untrusted { Ok(()) } else { Err(untrusted()) }
            }
            (Placeholder::Field(Carrier::Token, _), _) if !means.token => nothing(no_token()),
            (Placeholder::Field(Carrier::Signin, _), _) if !means.sign_in => nothing("user_authentication is off".to_owned()),
            (Placeholder::Field(Carrier::Signin, _), Occasion::Open) => nothing("a connection opens before it signs in".to_owned()),
            (Placeholder::Field(Carrier::ChannelData, _), Occasion::Open | Occasion::Signin) => {
                nothing("only a subscription has channel_data".to_owned())
            }
            (Placeholder::Field(..), _) => Ok(()),
        }
    }
}

/// The name of the placeholder, and of the context field, of the user who is known.
pub(super) const USER_ID: &str = "user_id";

/// Which values clients of an application can carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Tokens are verified.
    pub token: bool,
    /// Clients may sign in.
    pub sign_in: bool,
    /// Query, headers and cookies may be used, although anybody can write anything there.
    pub untrusted: bool,
}

/// A rule that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {error}")]
pub struct Misfit {
    /// The key of the rule: `channel`, `resource`, `context.team`.
    pub key: String,
    /// What is wrong with it.
    pub error: HoldRuleError,
}

/// Why a rule cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldRuleError {
    /// A character that no channel name has.
    #[error("`{pattern}` matches no channel: a channel name cannot have {character:?}")]
    NoChannel {
        /// The pattern.
        pattern: String,
        /// The first such character.
        character: char,
    },
    /// A channel that anybody may subscribe to.
    #[error("`{pattern}` matches channels that need no signature, where anybody could lock anything: begin it with private- or presence-")]
    Unsigned {
        /// The pattern.
        pattern: String,
    },
    /// A channel on which the broker cannot say anything.
    #[error("`{pattern}` matches {example}, and clients try to decrypt what they hear on an encrypted channel: write more after private-")]
    Encrypted {
        /// The pattern.
        pattern: String,
        /// A name that it matches.
        example: String,
    },
    /// A capture with the name of the user.
    #[error("`{{user_id}}` stands for the user who is known: give the capture of `{pattern}` another name")]
    CapturesUser {
        /// The pattern.
        pattern: String,
    },
    /// A value that no client can ever have.
    #[error("nothing gives {placeholder}: {why}")]
    NothingGives {
        /// The placeholder.
        placeholder: String,
        /// Why not.
        why: String,
    },
    /// A value that anybody can write, used without saying that this is meant.
    #[error(
        "{placeholder} is whatever a client writes into its {carrier}: set trust_query = true for the application if that may decide what is locked"
    )]
    Untrusted {
        /// The placeholder.
        placeholder: String,
        /// Where it comes from.
        carrier: Carrier,
    },
    /// A context field that is there without being asked for.
    #[error("{field} is part of the context anyway")]
    GivenAnyway {
        /// The field.
        field: String,
    },
    /// A rule for sign-ins of an application without them.
    #[error("clients of this application cannot sign in: user_authentication is off")]
    NoSignIn,
}

fn check_pattern(pattern: &ChannelPattern) -> Result<(), HoldRuleError> {
    let text = || pattern.as_str().to_owned();
    // As much of the name as is certain decides who may subscribe.
    if !["private-", "presence-"].iter().any(|prefix| pattern.prefix().starts_with(prefix)) {
        return Err(HoldRuleError::Unsigned { pattern: text() });
    }
    if let Some(character) = pattern.illegal_character() {
        return Err(HoldRuleError::NoChannel { pattern: text(), character });
    }
    let encrypted = ChannelPattern::parse("private-encrypted-*").ok();
    if let Some(example) = encrypted.and_then(|encrypted| pattern.common_name(&encrypted)) {
        return Err(HoldRuleError::Encrypted { pattern: text(), example });
    }
    if pattern.capture_names().any(|name| name == USER_ID) {
        return Err(HoldRuleError::CapturesUser { pattern: text() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Means = Means { token: true, sign_in: true, untrusted: true };

    fn at(occasion: Occasion, resource: &str) -> HoldRule {
        HoldRule::new(occasion, Template::parse(resource).unwrap(), "Order")
    }

    fn on(pattern: &str, resource: &str) -> HoldRule {
        at(Occasion::Subscribe(ChannelPattern::parse(pattern).unwrap()), resource)
    }

    fn misfit(rule: &HoldRule, means: Means) -> String {
        rule.check(means).map_err(|misfit| misfit.to_string()).expect_err(rule.resource.as_str())
    }

    #[test]
    fn only_signed_channels_that_can_be_spoken_on_are_locked() {
        for good in
            ["private-order.{id}", "presence-{id}", "private-cache-{id}", "private-x*", "presence-encrypted-{id}", "private-kitchen"]
        {
            assert_eq!(on(good, "x").check(ALL), Ok(()), "{good}");
        }
        for bad in ["order.{id}", "*", "{x}", "private{x}", "privat*", "#server-to-user-{id}", "cache-{id}", "presence"] {
            assert!(misfit(&on(bad, "x"), ALL).starts_with(&format!("channel: `{bad}` matches channels that need no signature")), "{bad}");
        }
        for (bad, example) in [
            ("private-encrypted-{id}", "private-encrypted-1"),
            ("private-{id}", "private-encrypted-"),
            ("private-*", "private-encrypted-"),
            ("private-e{x}.{id}", "private-encrypted-.1"),
            ("private-encrypted-cache-x", "private-encrypted-cache-x"),
        ] {
            assert!(misfit(&on(bad, "x"), ALL).starts_with(&format!("channel: `{bad}` matches {example}, and clients")), "{bad}");
        }
        assert_eq!(
            misfit(&on("private-order:{id}", "x"), ALL),
            "channel: `private-order:{id}` matches no channel: a channel name cannot have ':'"
        );
        assert!(misfit(&on("private-user.{user_id}", "x"), ALL).starts_with("channel: `{user_id}` stands for the user"));
    }

    #[test]
    fn every_placeholder_can_be_given_by_something() {
        let pattern = "private-order.{order_id}";
        for resource in
            ["order:{order_id}", "order", "{user_id}", "{token.a}", "{signin.a}", "{channel_data.a}", "{query.a}{header.b}{cookie.c}"]
        {
            assert_eq!(on(pattern, resource).check(ALL), Ok(()), "{resource}");
        }
        assert_eq!(
            misfit(&on("private-orders", "order:{order_id}"), ALL),
            "resource: nothing gives {order_id}: the channel pattern `private-orders` captures nothing, as private-order.{order_id} would"
        );
        assert_eq!(
            misfit(&on(pattern, "order:{id}"), ALL),
            "resource: nothing gives {id}: the channel pattern `private-order.{order_id}` has no such capture"
        );
        for (occasion, resource) in [
            (Occasion::Open, "{order_id}"),
            (Occasion::Open, "{signin.id}"),
            (Occasion::Open, "{channel_data.id}"),
            (Occasion::Signin, "{order_id}"),
            (Occasion::Signin, "{channel_data.id}"),
        ] {
            assert!(misfit(&at(occasion.clone(), resource), ALL).contains("nothing gives"), "{occasion:?} {resource}");
        }
        for (occasion, resource) in
            [(Occasion::Open, "{token.id}{user_id}{query.x}"), (Occasion::Signin, "{token.id}{signin.id}{user_id}{cookie.x}")]
        {
            assert_eq!(at(occasion.clone(), resource).check(ALL), Ok(()), "{occasion:?} {resource}");
        }
    }

    #[test]
    fn what_the_application_does_not_take_gives_nothing() {
        let pattern = "private-order.{order_id}";
        let without = |change: fn(&mut Means)| {
            let mut means = ALL;
            change(&mut means);
            means
        };
        let (no_token, no_sign_in, signed) =
            (without(|means| means.token = false), without(|means| means.sign_in = false), without(|means| means.untrusted = false));
        assert!(misfit(&on(pattern, "{token.a}"), no_token).contains("handshake_auth is off"));
        assert!(misfit(&at(Occasion::Open, "{user_id}"), no_token).contains("handshake_auth is off"));
        assert_eq!(on(pattern, "{user_id}").check(no_token), Ok(()), "a sign-in or channel_data gives it");
        assert!(misfit(&on(pattern, "{signin.a}"), no_sign_in).contains("user_authentication is off"));
        assert!(misfit(&at(Occasion::Signin, "x"), no_sign_in).starts_with("at: clients of this application cannot sign in"));
        for resource in ["{query.a}", "{header.a}", "{cookie.a}"] {
            let said = misfit(&at(Occasion::Open, resource), signed);
            assert!(
                said.starts_with(&format!("resource: {resource} is whatever a client writes")) && said.contains("trust_query"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_context_is_checked_like_a_resource_and_repeats_nothing() {
        let with = |field: &str, value: &str| {
            let context = vec![(field.to_owned(), Template::parse(value).unwrap())];
            HoldRule { context, ..on("private-order.{order_id}", "order:{order_id}") }
        };
        assert_eq!(with("team", "{token.team}").check(ALL), Ok(()));
        assert!(misfit(&with("team", "{team}"), ALL).starts_with("context.team: nothing gives {team}"));
        assert_eq!(misfit(&with("user_id", "x"), ALL), "context.user_id: user_id is part of the context anyway");
        assert_eq!(misfit(&with("order_id", "x"), ALL), "context.order_id: order_id is part of the context anyway");
    }

    #[test]
    fn two_rules_share_a_channel_only_when_both_are_about_channels() {
        let order = on("private-order.{id}", "x");
        assert_eq!(order.common_channel(&on("private-{kind}.7", "y")).as_deref(), Some("private-order.7"));
        assert_eq!(order.common_channel(&on("presence-order.{id}", "y")), None);
        assert_eq!(order.common_channel(&at(Occasion::Open, "y")), None);
    }
}
