//! The query of a signed request: decoded once, and in the order in which it is signed (protocol.md 6.1).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::ApiError;

/// The parameter that is not part of what is signed: the signature.
pub(super) const SIGNATURE: &str = "auth_signature";
/// Parameters that there is room for at once: the five of the authentication, and what a question adds to them.
const USUAL: usize = 8;

/// Decoded parameters, names in lower case, sorted by name; no name stands there twice.
#[derive(Debug)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads the text behind the `?`.
    ///
    /// # Errors
    /// [`ApiError::DuplicateParameter`].
    pub(super) fn parse(text: &'a str) -> Result<Self, ApiError> {
        let mut params = Vec::with_capacity(USUAL);
        // Seldom is anything escaped; one look at the whole of it is cheaper than one at each piece.
        let decode = if is_plain(text) { Cow::Borrowed } else { decode };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            params.push((lower_case(decode(name)), decode(value)));
        }
        params.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        match params.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(ApiError::DuplicateParameter(pair[0].0.clone().into_owned())),
            None => Ok(Self(params)),
        }
    }

    /// The decoded value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// Every parameter, sorted by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The text that is signed: `METHOD\npath\nk=v&k=v…`.
    pub(super) fn canonical(&self, method: &str, path: &str) -> String {
        let signed = || self.iter().filter(|(name, _)| *name != SIGNATURE);
        let length: usize = signed().map(|(name, value)| name.len() + value.len() + 2).sum();
        let mut text = String::with_capacity(method.len() + path.len() + length + 2);
        text.extend([method, "\n", path, "\n"]);
        for (at, (name, value)) in signed().enumerate() {
            text.extend([if at == 0 { "" } else { "&" }, name, "=", value]);
        }
        text
    }
}

/// Whether form decoding leaves the text as it is. A character at a time, each of which is looked for many bytes at once.
fn is_plain(text: &str) -> bool {
    !text.contains('%') && !text.contains('+')
}

/// Ordinary form decoding: `+` is a blank. Bytes that are no UTF-8 become the replacement character; nobody signs those.
fn decode(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let blanks = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&blanks).decode_utf8_lossy().into_owned())
}

fn lower_case(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(name.to_ascii_lowercase()) } else { name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::canonical_request;

    #[test]
    fn values_are_decoded_and_names_are_lower_cased() {
        let query = Query::parse("Info=a%2Cb+c&&x&y=1=2&%41=%FF&Z=Q").unwrap();
        assert_eq!(query.get("info"), Some("a,b c"));
        assert_eq!((query.get("x"), query.get("y"), query.get("z"), query.get("none")), (Some(""), Some("1=2"), Some("Q"), None));
        assert_eq!(query.canonical("GET", "/p"), "GET\n/p\na=\u{fffd}&info=a,b c&x=&y=1=2&z=Q");
        assert_eq!(Query::parse("").unwrap().canonical("GET", "/p"), "GET\n/p\n");
    }

    #[test]
    fn a_name_may_stand_there_once() {
        for text in ["a=1&a=1", "a=1&b=2&A=3", "a&%61", "auth_signature=1&auth_signature=1", "=1&=2"] {
            assert!(matches!(Query::parse(text), Err(ApiError::DuplicateParameter(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_text_is_the_one_that_clients_sign(params in proptest::collection::btree_map("[a-z_]{1,6}", "\\PC{0,8}", 0..6)) {
            let params: Vec<(String, String)> = params.into_iter().collect();
            let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
            let wire: Vec<String> = params.iter().rev().map(|(name, value)| format!("{name}={}", encode(value))).collect();
            let wire = format!("{}&auth_signature=x", wire.join("&"));
            let query = Query::parse(&wire).unwrap();
            prop_assert_eq!(query.canonical("POST", "/p"), canonical_request("POST", "/p", &params));
        }

        #[test]
        fn parsing_never_panics(text in "[a-z%+=&0-9\\PC]{0,60}") {
            let _ = Query::parse(&text);
        }
    }
}
