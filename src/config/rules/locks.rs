//! Texts of hold rules and of listeners: patterns, templates, names.

use std::{borrow::Cow, convert::Infallible};

use super::text::{PRINTABLE, at_most, identifier, not_empty, only};
use crate::{
    config::error::Reason,
    domain::{Placeholder, Template},
    protocol::{ChannelName, ChannelPattern},
};

/// Longest name that somebody makes up, in bytes.
const MAX_NAME: usize = 200;
/// Longest name of a webhook's endpoint, in bytes: with the longest id of an application it makes the longest name of a consumer.
const MAX_ENDPOINT_NAME: usize = 63;
/// Longest template of a context field, in bytes.
const MAX_FIELD: usize = 1_024;

/// Nothing, or a pattern of channel names.
pub(crate) fn channel_pattern_if_any(text: &str) -> Result<(), Reason> {
    if !text.is_empty() {
        ChannelPattern::parse(text)?;
    }
    Ok(())
}

/// What a rule holds.
pub(crate) fn template(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_NAME)?;
    only(text, |c| !c.is_control(), PRINTABLE)?;
    Template::parse(text)?;
    Ok(())
}

/// What a field of a context is made of.
pub(crate) fn context_field(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_FIELD)?;
    only(text, |c| !c.is_control(), PRINTABLE)?;
    Template::parse(text)?;
    Ok(())
}

/// `Order`, of which `OrderLocked` is made.
pub(crate) fn event_topic(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_NAME)?;
    event_name(text)
}

/// `OrderLocked`, or `Order*`, or `*`.
pub(crate) fn event_type(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_NAME)?;
    event_name(text.strip_suffix('*').unwrap_or(text))
}

fn event_name(text: &str) -> Result<(), Reason> {
    only(text, |c| c.is_alphanumeric() || "_-.:".contains(c), "letters, digits and _ - . : only, and `*` at the end where many are meant")
}

/// The name of a listener, which stands in tables, commands and logs.
pub(crate) fn listener_name(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    at_most(text, MAX_NAME)?;
    only(text, |c| c.is_ascii_alphanumeric() || "-._~@:".contains(c), "letters, digits and - . _ ~ @ : only")?;
    if text.starts_with("webhook:") {
        return Err(Reason::Malformed { expected: "a name that does not begin as those of webhooks do", found: text.to_owned() });
    }
    Ok(())
}

/// Nothing, or the name of a webhook's endpoint. It stands behind the application's id in the name of its place in the log.
pub(crate) fn endpoint_name(text: &str) -> Result<(), Reason> {
    at_most(text, MAX_ENDPOINT_NAME)?;
    only(text, |c| c.is_ascii_alphanumeric() || "-._~@".contains(c), "letters, digits and - . _ ~ @ only")
}

/// Nothing, or how the name of a channel begins or ends.
pub(crate) fn channel_part(text: &str) -> Result<(), Reason> {
    at_most(text, MAX_NAME)?;
    only(
        text,
        |c| c.is_ascii_alphanumeric() || "_-=@,.;".contains(c),
        "the characters of channel names only: letters, digits and _ - = @ , . ;",
    )
}

/// Nothing, or an application's id.
pub(crate) fn identifier_if_any(text: &str) -> Result<(), Reason> {
    if text.is_empty() { Ok(()) } else { identifier(text) }
}

/// Nothing, or a channel to publish on, with placeholders.
pub(crate) fn broadcast_channel_if_any(text: &str) -> Result<(), Reason> {
    if text.is_empty() {
        return Ok(());
    }
    // Whether what is filled in can stand in a channel name is seen when there is an event.
    let name = filled(text)?;
    match ChannelName::parse(&name, MAX_NAME) {
        Ok(name) if name.kind().encrypted => {
            Err(Reason::Malformed { expected: "a channel whose events are not encrypted by the application", found: text.to_owned() })
        }
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Reason::Malformed { expected: "a channel name such as \"orders\" or \"private-order.{order_id}\"", found: text.to_owned() })
        }
    }
}

/// The name of a Pusher event, with placeholders.
pub(crate) fn broadcast_event(text: &str) -> Result<(), Reason> {
    not_empty(text)?;
    only(text, |c| !c.is_control(), PRINTABLE)?;
    let name = filled(text)?;
    if name.starts_with("pusher:") || name.starts_with("pusher_internal:") {
        return Err(Reason::Malformed { expected: "a name that is not one of the protocol's own", found: text.to_owned() });
    }
    Ok(())
}

/// The template with an `x` for each value: a shortest text that it can become.
fn filled(text: &str) -> Result<String, Reason> {
    at_most(text, MAX_NAME)?;
    let template = Template::parse(text)?;
    if let Some(field) = template.placeholders().find(|placeholder| matches!(placeholder, Placeholder::Field(..))) {
        return Err(Reason::Malformed { expected: "{resource}, {event}, {principal} or a field of the context", found: field.to_string() });
    }
    Ok(template.fill(|_| Ok::<_, Infallible>(Cow::Borrowed("x"))).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(shape: fn(&str) -> Result<(), Reason>, good: &[&str], bad: &[&str]) {
        good.iter().for_each(|text| assert_eq!(shape(text), Ok(()), "{text}"));
        bad.iter().for_each(|text| assert!(shape(text).is_err(), "{text}"));
    }

    fn longest() -> (String, String) {
        ("x".repeat(MAX_NAME), "x".repeat(MAX_NAME + 1))
    }

    #[test]
    fn patterns_and_templates() {
        let (fits, longer) = longest();
        accepts(channel_pattern_if_any, &["", "private-order.{id}", &fits], &["a{", "{a}{a}", &longer]);
        accepts(template, &["order:{id}", "kitchen", "{token.x}", &fits], &["", "a{", "{}", "a\0", "a\n{id}", &longer]);
        accepts(context_field, &["{token.x}", &longer], &["", "a}", "\u{7f}", &"x".repeat(MAX_FIELD + 1)]);
    }

    #[test]
    fn names() {
        let (fits, longer) = longest();
        accepts(event_topic, &["Order", "shop.order", "Bestellung_ä", &fits], &["", "a b", "Order*", "a\n", &longer]);
        accepts(event_type, &["OrderLocked", "Order*", "*", &fits], &["", "*Locked", "a*b", "a b", "**", &longer]);
        accepts(listener_name, &["orders", "shop:orders@eu-1", &fits], &["", "a b", "ä", "a/b", "webhook:a", &longer]);
        accepts(endpoint_name, &["", "shop", "mail.eu-1", &fits[..63]], &["a b", "a:b", "a/b", &fits[..64]]);
        accepts(channel_part, &["", "presence-", ".eu", &fits], &["#server-to-user-", "a b", "a/b", "ä", &longer]);
        accepts(identifier_if_any, &["", "shop"], &["a b"]);
    }

    #[test]
    fn what_is_broadcast_can_be_published() {
        let (fits, longer) = longest();
        accepts(
            broadcast_channel_if_any,
            &["", "orders", "private-order.{order_id}", "presence-{event}", &fits],
            &["a:b", "a b", "{", "{token.x}", "private-encrypted-{resource}", "#orders", &longer],
        );
        accepts(
            broadcast_event,
            &["{event}", "locks", "{event}.{resource}", &fits],
            &["", "pusher:x", "pusher_internal:{event}", "a\n", "}", &longer],
        );
    }
}
