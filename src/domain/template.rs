//! Texts with placeholders: `order:{order_id}`, `orders-{token.team}`.

use std::{borrow::Cow, fmt};

use super::words::words;

words! {
    /// What a client carries values in, besides the name of a channel.
    Carrier {
        /// The verified token of the path or of the bearer header.
        Token = "token",
        /// The signed `user_data` of a sign-in, or its `user_info`.
        Signin = "signin",
        /// The signed `channel_data` of a subscription, or its `user_info`.
        ChannelData = "channel_data",
        /// The query of the handshake: whatever the client writes.
        Query = "query",
        /// The headers of the handshake: whatever the client writes.
        Header = "header",
        /// The cookies of the handshake: whatever the client writes.
        Cookie = "cookie",
    }
}

impl Carrier {
    /// Whether the application has signed what is in it.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Token | Self::Signin | Self::ChannelData)
    }
}

/// A text in which `{name}` and `{carrier.field}` stand for values. Parsed once, filled as often as needed.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Value(Placeholder),
}

/// What stands in braces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `{order_id}`: what whoever fills the template calls so.
    Name(Box<str>),
    /// `{token.team}`: a field of a carrier.
    Field(Carrier, Box<str>),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`, or a `}` without its `{`.
    #[error("`{0}` has an unbalanced brace")]
    Unbalanced(String),
    /// Something in braces that is neither a name nor a field of a carrier.
    #[error("`{{{0}}}` is no placeholder: one is a name of letters, digits and `_`, or a carrier, a dot and a field")]
    BadPlaceholder(String),
    /// A field of something that carries nothing.
    #[error("`{{{placeholder}}}`: nothing is carried in `{carrier}`, only in {}", all_carriers())]
    UnknownCarrier {
        /// What stood between the braces.
        placeholder: String,
        /// What stood before the dot.
        carrier: String,
    },
}

fn all_carriers() -> String {
    Carrier::ALL.iter().map(|carrier| carrier.as_str()).collect::<Vec<_>>().join(", ")
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Unbalanced(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let inside = from.strip_prefix('{').ok_or_else(unbalanced)?;
            let (name, after) = inside.split_once('}').ok_or_else(unbalanced)?;
            if name.contains('{') {
                return Err(unbalanced());
            }
            parts.extend((!before.is_empty()).then(|| Part::Text(before.into())));
            parts.push(Part::Value(Placeholder::parse(name)?));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.into())));
        Ok(Self { text: text.into(), parts })
    }

    /// What is to be filled in, from left to right.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| if let Part::Value(placeholder) = part { Some(placeholder) } else { None })
    }

    /// The text with its values in place. Braces in a value are characters like others.
    ///
    /// # Errors
    /// The first one of `value`.
    pub fn fill<'v, E>(&self, mut value: impl FnMut(&Placeholder) -> Result<Cow<'v, str>, E>) -> Result<String, E> {
        let mut filled = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Value(placeholder) => filled.push_str(&value(placeholder)?),
            }
        }
        Ok(filled)
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Placeholder {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let bad = || TemplateError::BadPlaceholder(text.to_owned());
        let Some((carrier, field)) = text.split_once('.') else {
            let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return if is_name { Ok(Self::Name(text.into())) } else { Err(bad()) };
        };
        let known = Carrier::parse(carrier)
            .map_err(|unknown| TemplateError::UnknownCarrier { placeholder: text.to_owned(), carrier: unknown.word })?;
        if field.is_empty() || field.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad());
        }
        Ok(Self::Field(known, field.into()))
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{{{name}}}"),
            Self::Field(carrier, field) => write!(f, "{{{carrier}.{field}}}"),
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn filled(text: &str, value: &str) -> String {
        template(text).fill(|_| Ok::<_, Infallible>(value.into())).unwrap_or_default()
    }

    #[test]
    fn names_and_fields_are_filled_in_where_they_stand() {
        let read = template("{shop}:order:{token.order-id}{user_id}");
        let shown: Vec<String> = read.placeholders().map(ToString::to_string).collect();
        assert_eq!(shown, ["{shop}", "{token.order-id}", "{user_id}"]);
        let fill = |placeholder: &Placeholder| match placeholder {
            Placeholder::Name(name) => Ok(Cow::Owned(name.to_uppercase())),
            Placeholder::Field(Carrier::Token, field) => Ok::<_, Infallible>(Cow::Owned(format!("<{field}>"))),
            Placeholder::Field(..) => unreachable!(),
        };
        assert_eq!(read.fill(fill), Ok("SHOP:order:<order-id>USER_ID".to_owned()));
        assert_eq!(filled("kitchen", "x"), "kitchen");
    }

    #[test]
    fn the_first_value_that_is_missing_ends_it() {
        let missing = template("{a}{b}").fill(|placeholder| Err::<Cow<'_, str>, _>(placeholder.to_string()));
        assert_eq!(missing, Err("{a}".to_owned()));
    }

    #[test]
    fn what_is_no_template_says_why() {
        for text in ["{", "}", "a{b", "a}b", "{a}}", "{a{b}}", "{{a}}"] {
            assert_eq!(Template::parse(text), Err(TemplateError::Unbalanced(text.to_owned())), "{text}");
        }
        for inside in ["", "4", "a b", "a-b", "token.", "query.a b", "query.a\n"] {
            assert_eq!(Template::parse(&format!("x{{{inside}}}")), Err(TemplateError::BadPlaceholder(inside.to_owned())), "{inside}");
        }
        assert_eq!(
            Template::parse("{tokn.x}").unwrap_err().to_string(),
            "`{tokn.x}`: nothing is carried in `tokn`, only in token, signin, channel_data, query, header, cookie"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z{}. ]{0,20}") {
            if let Ok(read) = Template::parse(&text) {
                prop_assert_eq!(read.as_str(), &text);
                prop_assert_eq!(text.matches('{').count(), read.placeholders().count());
                prop_assert_eq!(text.matches('}').count(), read.placeholders().count());
            } else {
                prop_assert!(text.contains(['{', '}']), "");
            }
        }

        #[test]
        fn filled_with_its_own_placeholders_it_is_what_was_written(
            pieces in proptest::collection::vec(("[^{}]{0,5}", "[a-z_][a-z0-9_]{0,4}|token\\.[A-Za-z.-]{1,5}"), 0..4)
        ) {
            let text: String = pieces.iter().map(|(literal, name)| format!("{literal}{{{name}}}")).collect();
            let again = template(&text).fill(|placeholder| Ok::<_, Infallible>(Cow::Owned(placeholder.to_string())));
            prop_assert_eq!(again, Ok(text));
        }

        #[test]
        fn a_value_is_never_read_as_a_template(value in "\\PC{0,20}") {
            prop_assert_eq!(filled("order:{id}", &value), format!("order:{value}"));
            prop_assert_eq!(filled("order:{id}", "{id}{"), "order:{id}{");
        }
    }
}
