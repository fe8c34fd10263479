//! The signed token of a handshake: a JSON Web Token (RFC 7519), HS256 with the application's secret, `exp` required.
//!
//! Any JWT library of any language makes one. Only this one algorithm is accepted, so the header cannot choose a weaker one.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::signature::SigningKey;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 4_096;

/// What a verified token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

/// Why a token does not admit anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A token is required and none was sent.
    #[error("Handshake token missing")]
    Missing,
    /// Not a JWT, not HS256, a wrong signature, no `exp`, or not valid yet.
    #[error("Handshake token invalid")]
    Invalid,
    /// `exp` lies in the past.
    #[error("Handshake token expired")]
    Expired,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

impl Claims {
    /// Verifies a token against the secret and the clock (`now`: Unix seconds).
    ///
    /// # Errors
    /// [`TokenError::Expired`] when all is well but the time, [`TokenError::Invalid`] otherwise.
    pub fn verify(token: &str, key: &SigningKey, now: u64) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Invalid)?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Invalid)?;
        if header.alg != "HS256" || !key.verify_bytes(&[signed], &decode(signature)?) {
            return Err(TokenError::Invalid);
        }
        let claims: Map<String, Value> = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Invalid)?;
        let time = |name: &str| claims.get(name).and_then(Value::as_f64);
        let now = now as f64;
        if claims.contains_key("nbf") && time("nbf").is_none_or(|nbf| nbf > now) {
            return Err(TokenError::Invalid);
        }
        if time("exp").ok_or(TokenError::Invalid)? <= now {
            return Err(TokenError::Expired);
        }
        Ok(Self(claims))
    }

    /// The user the token was made for (`sub`), a text or a number.
    pub fn subject(&self) -> Option<String> {
        match self.0.get("sub")? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// One claim by name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

#[cfg(test)]
impl Claims {
    /// The claims of a token that somebody has verified, for tests of the layers above.
    pub(crate) fn for_tests(claims: Value) -> Self {
        Self(claims.as_object().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str, secret: &str) -> String {
        let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload));
        let hex = SigningKey::new(secret).sign(&[&signed]);
        let digest: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(digest))
    }

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    #[test]
    fn a_good_token_gives_its_claims() {
        let key = SigningKey::new("s");
        let claims = Claims::verify(&token(HS256, r#"{"sub":"42","exp":1700000001,"order":7}"#, "s"), &key, 1_700_000_000).unwrap();
        assert_eq!(claims.subject().as_deref(), Some("42"));
        assert_eq!(claims.get("order"), Some(&Value::from(7)));
    }

    #[test]
    fn the_example_of_the_jwt_world_verifies() {
        // jwt.io's well-known token, secret "your-256-bit-secret": right signature, but it never expires, so it is refused.
        let known = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";
        let (signed, signature) = known.rsplit_once('.').unwrap();
        let digest = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(SigningKey::new("your-256-bit-secret").verify_bytes(&[signed], &digest));
        assert_eq!(Claims::verify(known, &SigningKey::new("your-256-bit-secret"), 0), Err(TokenError::Invalid));
    }

    #[test]
    fn every_way_to_be_wrong() {
        let key = SigningKey::new("s");
        let verify = |token: &str| Claims::verify(token, &key, 1_700_000_000).unwrap_err();
        let good = r#"{"exp":1700000001}"#;
        assert_eq!(verify(&token(HS256, r#"{"exp":1700000000}"#, "s")), TokenError::Expired);
        for bad in [
            token(HS256, good, "other"),
            token(r#"{"alg":"none"}"#, good, "s"),
            token(r#"{"alg":"HS512"}"#, good, "s"),
            token(HS256, r#"{"sub":"1"}"#, "s"),
            token(HS256, r#"{"exp":"soon"}"#, "s"),
            token(HS256, r#"{"exp":1700000001,"nbf":1700000001}"#, "s"),
            token(HS256, "[]", "s"),
            format!("{}x", token(HS256, good, "s")),
            token(HS256, good, "s").rsplit_once('.').unwrap().0.to_owned() + ".",
            "a.b.c".to_owned(),
            String::new(),
            "x".repeat(5_000),
        ] {
            assert_eq!(verify(&bad), TokenError::Invalid, "{bad}");
        }
    }
}
