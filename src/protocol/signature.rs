//! What is signed, and how a signature is checked (protocol.md 5 and 6.1).

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// An application's secret as an HMAC-SHA256 key whose first block is already computed. Never printed.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Takes the secret as UTF-8 bytes (it is not hex-decoded, protocol.md 5).
    pub fn new(secret: &str) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length: the error type exists for other MACs")]
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length"))
    }

    fn mac(&self, parts: &[&str]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part.as_bytes()));
        mac
    }

    /// The lower-case hex HMAC-SHA256 of the parts, one after the other.
    pub fn sign(&self, parts: &[&str]) -> String {
        to_hex(&self.mac(parts).finalize().into_bytes())
    }

    /// Whether `hex` is the lower-case hex HMAC of the parts; compared in constant time.
    pub fn verify(&self, parts: &[&str], hex: &str) -> bool {
        decode_hex::<32>(hex).is_some_and(|claimed| self.mac(parts).verify_slice(&claimed).is_ok())
    }

    /// Whether `digest` is the raw HMAC of the parts; compared in constant time.
    pub fn verify_bytes(&self, parts: &[&str], digest: &[u8]) -> bool {
        self.mac(parts).verify_slice(digest).is_ok()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

/// The text that is signed for one authorisation of a client, in parts.
#[derive(Clone, Copy, Debug)]
pub enum Signed<'a> {
    /// `{socket_id}:{channel}` or, with channel data, `{socket_id}:{channel}:{channel_data}`.
    Channel {
        /// The connection.
        socket_id: &'a str,
        /// The channel.
        channel: &'a str,
        /// The decoded string value of `channel_data`, byte for byte.
        channel_data: Option<&'a str>,
    },
    /// `{socket_id}::user::{user_data}`.
    User {
        /// The connection.
        socket_id: &'a str,
        /// The decoded string value of `user_data`, byte for byte.
        user_data: &'a str,
    },
}

impl Signed<'_> {
    fn with_parts<T>(self, f: impl FnOnce(&[&str]) -> T) -> T {
        match self {
            Self::Channel { socket_id, channel, channel_data: None } => f(&[socket_id, ":", channel]),
            Self::Channel { socket_id, channel, channel_data: Some(data) } => f(&[socket_id, ":", channel, ":", data]),
            Self::User { socket_id, user_data } => f(&[socket_id, "::user::", user_data]),
        }
    }

    /// The `auth` value a customer's server returns: `key:hex`.
    pub fn auth(self, app_key: &str, signing_key: &SigningKey) -> String {
        format!("{app_key}:{}", self.with_parts(|parts| signing_key.sign(parts)))
    }

    /// Whether `auth` is `{app_key}:{signature}` for this text.
    pub fn verify(self, auth: &str, app_key: &str, signing_key: &SigningKey) -> bool {
        auth.split_once(':')
            .is_some_and(|(key, signature)| constant_time_eq(key, app_key) && self.with_parts(|parts| signing_key.verify(parts, signature)))
    }
}

/// The canonical text of an HTTP API request (protocol.md 6.1): `METHOD\npath\nk=v&k=v…`.
///
/// `params` are the decoded query parameters without `auth_signature`; names are lower-cased here, then sorted.
pub fn canonical_request(method: &str, path: &str, params: &[(String, String)]) -> String {
    let mut sorted: Vec<(String, &str)> = params.iter().map(|(k, v)| (k.to_ascii_lowercase(), v.as_str())).collect();
    sorted.sort();
    let mut text = format!("{}\n{path}\n", method.to_ascii_uppercase());
    for (i, (key, value)) in sorted.iter().enumerate() {
        if i > 0 {
            text.push('&');
        }
        text.push_str(key);
        text.push('=');
        text.push_str(value);
    }
    text
}

/// The lower-case hex MD5 of a request body, as `body_md5` carries it.
pub fn body_md5(body: &[u8]) -> String {
    to_hex(&Md5::digest(body))
}

/// Whether `hex` is the [`body_md5`] of a body; compared in constant time.
pub fn is_body_md5(hex: &str, body: &[u8]) -> bool {
    decode_hex::<16>(hex).is_some_and(|claimed| Md5::digest(body).as_slice().ct_eq(&claimed).into())
}

/// Compares two texts in a time that depends on their lengths only.
pub fn constant_time_eq(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

/// What no digit stands for.
const NO_DIGIT: u8 = 0xff;
/// The value of each lower-case hex digit: an upper-case signature is refused (protocol.md 6.2).
const NIBBLES: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

fn decode_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let (mut out, mut seen) = ([0; N], 0);
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        let (high, low) = (NIBBLES[usize::from(*high)], NIBBLES[usize::from(*low)]);
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    (seen != NO_DIGIT).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: &str = "123456.7890123";

    fn channel<'a>(channel: &'a str, channel_data: Option<&'a str>) -> Signed<'a> {
        Signed::Channel { socket_id: SOCKET, channel, channel_data }
    }

    #[test]
    fn vectors_a1_to_a10() {
        let key = SigningKey::new("app-secret");
        let user = |user_data| Signed::User { socket_id: SOCKET, user_data };
        for (signed, hex) in [
            (channel("private-foobar", None), "5c9f17e1509a58a80a4f52ec397b2f197843284ecb63add4272a207ab0a44bce"),
            (
                channel("presence-room", Some(r#"{"user_id":"42","user_info":{"name":"Ada"}}"#)),
                "b1a49e2a439a2c79c26fb7c52b0637adc4d0a095fdb47763d0e95e038488502c",
            ),
            (channel("presence-room", Some(r#"{"user_id":10}"#)), "4b36ddc5923fd0e15c1e1f43f28740d32d707f7eeaf8f2c90bb5a80277b3ed7b"),
            (channel("presence-room", None), "057eee758a254e326fd9694b76b91001d66791eae9db2b098b9b0222da9e9823"),
            (
                channel("presence-room", Some(r#"{"user_id":"7","user_info":{"name":"Zo\u00eb \/ x"}}"#)),
                "f5cdd0d3f73e6c057b8b0d2e1cf0e68e0a1ce41f030a146a23b5e79c65faa4e3",
            ),
            (
                channel("presence-room", Some(r#"{"user_id":"7","user_info":{"name":"Zoë"}}"#)),
                "0aeffa9ea637699d38c9066cdce48d5ea35b446fe556db0a05444f8577506b23",
            ),
            (channel("private-encrypted-vault", None), "b14dcc87118a40b433ecfd78788ad8fe5ecb5ada880c89808fc352ec38a83623"),
            (channel("private-cache-stock", None), "5f4340f957faa01f4a2e28b7a6f015a1f5f927a0d28e43f8427244fe69012054"),
            (
                user(r#"{"id":"42","user_info":{"name":"Ada"},"watchlist":["7","9"]}"#),
                "13ac7690b3f04055d96bc03060e467caefacd4f44d2c8d6d6a5b191c3f524c0b",
            ),
            (user(r#"{"id":"42"}"#), "ec70c7691cdae7af8f9ac2b6299a9ff9cc336fd242a1f61165abe0a63d791a84"),
        ] {
            let auth = format!("app-key:{hex}");
            assert_eq!(signed.auth("app-key", &key), auth);
            assert!(signed.verify(&auth, "app-key", &key));
            assert!(!signed.verify(&auth, "other-key", &key), "wrong key");
            assert!(!signed.verify(&auth.to_uppercase(), "APP-KEY", &key), "upper-case hex");
            assert!(!signed.verify(hex, "app-key", &key), "no key");
            let flipped = format!("app-key:{}{}", if hex.starts_with('0') { '1' } else { '0' }, &hex[1..]);
            assert!(!signed.verify(&flipped, "app-key", &key), "one digit changed");
        }
    }

    #[test]
    fn hex_is_lower_case_and_of_one_length() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in all.as_chunks::<16>().0 {
            assert_eq!(decode_hex::<16>(&to_hex(bytes)), Some(*bytes));
        }
        let good = "0123456789abcdef0123456789abcdef";
        for at in 0..32 {
            for bad in ["g", "A", "F", "/", ":", "`", " ", "\0", "\u{7f}"] {
                assert_eq!(decode_hex::<16>(&format!("{}{bad}{}", &good[..at], &good[at + 1..])), None, "{bad:?} at {at}");
            }
        }
        for bad in ["", &good[1..], &good[2..], &format!("{good}0"), &format!("{good}00"), &"é".repeat(16)] {
            assert_eq!(decode_hex::<16>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_body_has_one_md5() {
        for body in [&b""[..], b"{}", &[b'x'; 1_000]] {
            let md5 = body_md5(body);
            assert!(is_body_md5(&md5, body));
            assert!(!is_body_md5(&md5, b"another") && !is_body_md5(&md5.to_uppercase(), body) && !is_body_md5("", body));
        }
    }

    #[test]
    fn vectors_of_pushers_documentation() {
        let key = SigningKey::new("7ad3773142a6692b25b8");
        let sign = |text: &str| key.sign(&[text]);
        assert_eq!(sign("1234.1234:private-foobar"), "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4");
        assert_eq!(sign(r#"1234.1234::user::{"id":"12345"}"#), "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba");
        assert_eq!(
            sign(r#"1234.1234:presence-foobar:{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#),
            "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"
        );
    }

    fn canonical(method: &str, path: &str, extra: &[(&str, &str)]) -> String {
        let auth = [("auth_key", "app-key"), ("auth_timestamp", "1700000000"), ("auth_version", "1.0")];
        let params: Vec<_> = extra.iter().chain(&auth).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        canonical_request(method, path, &params)
    }

    #[test]
    fn vectors_h1_to_h6() {
        let key = SigningKey::new("app-secret");
        let empty = body_md5(b"");
        assert_eq!(empty, "d41d8cd98f00b204e9800998ecf8427e");
        let h1 = body_md5(br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#);
        assert_eq!(h1, "ec365a775a4cd0599faeb73354201b6f");
        let batch = br#"{"batch":[{"channel":"a","name":"e1","data":"1"},{"channel":"presence-b","name":"e2","data":"{\"x\":true}","socket_id":"123456.7890123","info":"user_count"}]}"#;
        let h6 = body_md5(batch);
        assert_eq!(h6, "8af807d805ddc6276752c0ee75d9fded");
        for (text, signature) in [
            (
                canonical("POST", "/apps/app-id/events", &[("body_md5", &h1)]),
                "878d0f5603295d625f99381d725fa6b23826b4956b836dc0e7db7a3aeb6df9c9",
            ),
            (
                canonical("GET", "/apps/app-id/channels", &[("filter_by_prefix", "presence-"), ("info", "user_count")]),
                "fd5a1b38d92aee2b7913a8cf43136cffab888ee5a097536910d6239f08eb68a2",
            ),
            (
                canonical("get", "/apps/app-id/channels/presence-room", &[("info", "user_count,subscription_count")]),
                "63a12586312655a389c2cd2456ef12ce123cb22ece45add17de2273aaea20235",
            ),
            (
                canonical("GET", "/apps/app-id/channels/presence-room/users", &[("Body_MD5", &empty)]),
                "035c27339826b71a7c70ae809fda1c4e58aafdb1cac94896623a58b475cdd65b",
            ),
            (
                canonical("POST", "/apps/app-id/users/42/terminate_connections", &[("body_md5", &body_md5(b"{}"))]),
                "5c90601b7ede27346da725838a3837f982e9712e07d793968f91dbc6d56670ac",
            ),
            (
                canonical("POST", "/apps/app-id/batch_events", &[("body_md5", &h6)]),
                "974cd03f92d1c5387c0c459d6b72aeb807af2ea4bc5c4af555212c032693261b",
            ),
        ] {
            assert!(key.verify(&[&text], signature), "{text}");
        }
    }
}
