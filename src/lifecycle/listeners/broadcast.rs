//! What an entry of the log becomes when it is published on a channel, so that everybody sees who is editing.

use std::str::FromStr;

use serde_json::Value;

use crate::{
    lifecycle::{listener::EventFilter, store::EventRow},
    protocol::has_legal_characters,
};

/// A text with placeholders: `{resource}`, `{event}` (its type), `{principal}`, `{app}`, and fields of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

/// A template that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// A brace without its other half.
    #[error("a brace has no other half; a placeholder is written {{resource}}")]
    Brace,
    /// `{}`, or something that is no name.
    #[error("{{{0}}} is no placeholder: a name has letters, digits, _ and -")]
    Name(String),
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(open);
            let (name, tail) = after.strip_prefix('{').and_then(|after| after.split_once('}')).ok_or(TemplateError::Brace)?;
            if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')) {
                return Err(TemplateError::Name(name.to_owned()));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Field(name.to_owned()));
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.is_empty() { Err(TemplateError::Empty) } else { Ok(Self(pieces)) }
    }
}

impl Template {
    /// The text for an entry; `None` if it lacks a field that is named.
    fn fill(&self, event: &EventRow) -> Option<String> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.clone()),
                Piece::Field(name) => field(event, name),
            })
            .collect()
    }
}

fn field(event: &EventRow, name: &str) -> Option<String> {
    match name {
        "resource" => Some(event.resource.clone()),
        "event" => Some(event.event_type.clone()),
        "app" => Some(event.app.clone()),
        "principal" => event.principal.clone(),
        name => match event.payload.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        },
    }
}

/// How entries become Pusher events.
#[derive(Clone, Debug)]
pub(crate) struct Broadcast {
    /// Which entries.
    pub(crate) filter: EventFilter,
    /// Where they are published.
    pub(crate) channel: Template,
    /// What they are called.
    pub(crate) event: Template,
}

/// A Pusher event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The channel's name. Characters that a channel cannot have are `-`: `order:42` is `order-42`.
    pub(crate) channel: String,
    /// The event's name.
    pub(crate) event: String,
    /// The entry as JSON, as everywhere.
    pub(crate) data: String,
}

impl Broadcast {
    /// The event to publish; `None` if the entry is not wanted, or lacks a field that a template names.
    pub(crate) fn render(&self, event: &EventRow) -> Option<Rendered> {
        if !self.filter.matches(event) {
            return None;
        }
        let legal = |letter: char| if has_legal_characters(letter.encode_utf8(&mut [0; 4])) { letter } else { '-' };
        Some(Rendered {
            channel: self.channel.fill(event)?.chars().map(legal).collect(),
            event: self.event.fill(event)?,
            data: event.to_json().to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::listeners::tests::event;

    fn broadcast(channel: &str, name: &str) -> Broadcast {
        Broadcast { filter: EventFilter::default(), channel: channel.parse().unwrap(), event: name.parse().unwrap() }
    }

    #[test]
    fn placeholders_are_filled_from_the_entry_and_its_context() {
        let locked = event("OrderLocked", "order:42");
        let rendered = broadcast("orders", "{event}").render(&locked).unwrap();
        assert_eq!((rendered.channel.as_str(), rendered.event.as_str()), ("orders", "OrderLocked"));
        assert_eq!(serde_json::from_str::<Value>(&rendered.data).unwrap(), locked.to_json());
        let rendered = broadcast("private-{app}.{order_id}", "holds.{principal}").render(&locked).unwrap();
        assert_eq!((rendered.channel.as_str(), rendered.event.as_str()), ("private-app.42", "holds.user:1"));
        assert_eq!(broadcast("about-{resource}", "x").render(&locked).unwrap().channel, "about-order-42");
    }

    #[test]
    fn what_is_missing_or_unwanted_is_not_published() {
        let locked = event("OrderLocked", "order:42");
        assert_eq!(broadcast("team-{team}", "x").render(&locked), None);
        assert_eq!(broadcast("x", "{principal}").render(&EventRow { principal: None, ..locked.clone() }), None);
        let filter = EventFilter::default().events(["User*"]);
        assert_eq!(Broadcast { filter, ..broadcast("x", "y") }.render(&locked), None);
    }

    #[test]
    fn a_template_that_cannot_be_meant_is_refused() {
        for (text, error) in [
            ("", TemplateError::Empty),
            ("orders-{order_id", TemplateError::Brace),
            ("orders}", TemplateError::Brace),
            ("{}", TemplateError::Name(String::new())),
            ("{a b}", TemplateError::Name("a b".to_owned())),
        ] {
            assert_eq!(text.parse::<Template>(), Err(error), "{text}");
        }
    }
}
