//! Signatures of protocol.md sections 5 and 6.1, written again from the document and sharing no code with the product.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// One application as its customers know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct App {
    pub(crate) id: &'static str,
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
}

/// The fixed test identity of protocol.md.
pub(crate) const APP: App = App { id: "app-id", key: "app-key", secret: "app-secret" };

/// A second tenant.
pub(crate) const OTHER: App = App { id: "other-id", key: "other-key", secret: "other-secret" };

/// Query parameters, decoded, in the order in which they go on the wire.
pub(crate) type Query = Vec<(String, String)>;

impl App {
    /// The channel authorisation `key:signature` over already joined text.
    pub(crate) fn auth(&self, text: &str) -> String {
        format!("{}:{}", self.key, hmac_hex(self.secret, text))
    }

    /// The query of a signed request, signature last.
    pub(crate) fn signed_query(&self, method: &str, path: &str, extra: &[(&str, &str)], body: &[u8]) -> Query {
        let mut query = self.unsigned_query(extra, body, now_seconds());
        self.sign(method, path, &mut query);
        query
    }

    /// All parameters of 6.1 but the signature.
    pub(crate) fn unsigned_query(&self, extra: &[(&str, &str)], body: &[u8], timestamp: u64) -> Query {
        let mut query: Query = extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        query.push(("auth_key".to_owned(), self.key.to_owned()));
        query.push(("auth_timestamp".to_owned(), timestamp.to_string()));
        query.push(("auth_version".to_owned(), "1.0".to_owned()));
        if !body.is_empty() {
            query.push(("body_md5".to_owned(), md5_hex(body)));
        }
        query
    }

    /// Appends `auth_signature` over what is there.
    pub(crate) fn sign(&self, method: &str, path: &str, query: &mut Query) {
        let mut sorted: Vec<String> = query.iter().map(|(name, value)| format!("{}={value}", name.to_lowercase())).collect();
        sorted.sort();
        let text = format!("{method}\n{path}\n{}", sorted.join("&"));
        query.push(("auth_signature".to_owned(), hmac_hex(self.secret, &text)));
    }
}

/// `data.auth` of a `pusher:signin`.
pub(crate) fn user_auth(app: App, socket_id: &str, user_data: &str) -> String {
    app.auth(&format!("{socket_id}::user::{user_data}"))
}

/// Lower-case hex HMAC-SHA256.
pub(crate) fn hmac_hex(secret: &str, text: &str) -> String {
    hex(&hmac(secret, text))
}

/// Lower-case hex MD5.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// A compact JWT. `alg` other than `HS256` gets an empty signature, as forgers do it.
pub(crate) fn jwt(secret: &str, alg: &str, claims: &serde_json::Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = if alg == "HS256" { URL_SAFE_NO_PAD.encode(hmac(secret, &signed)) } else { String::new() };
    format!("{signed}.{signature}")
}

/// `a=b&c=d`, every value percent-encoded where a URL needs it.
pub(crate) fn query_string(query: &[(String, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    pairs.join("&")
}

pub(crate) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs()
}

fn hmac(secret: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length is legal");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[test]
fn our_signatures_agree_with_the_vectors_of_the_protocol() {
    let text = r#"123456.7890123:presence-room:{"user_id":"7","user_info":{"name":"Zo\u00eb \/ x"}}"#;
    assert_eq!(hmac_hex("app-secret", text), "f5cdd0d3f73e6c057b8b0d2e1cf0e68e0a1ce41f030a146a23b5e79c65faa4e3");
    assert_eq!(
        user_auth(APP, "123456.7890123", r#"{"id":"42"}"#),
        "app-key:ec70c7691cdae7af8f9ac2b6299a9ff9cc336fd242a1f61165abe0a63d791a84"
    );

    let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    let mut query = APP.unsigned_query(&[], body, 1_700_000_000);
    APP.sign("POST", "/apps/app-id/events", &mut query);
    assert_eq!(query[3].1, "ec365a775a4cd0599faeb73354201b6f");
    assert_eq!(query[4].1, "878d0f5603295d625f99381d725fa6b23826b4956b836dc0e7db7a3aeb6df9c9");
}
