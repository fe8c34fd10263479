//! Who may connect: everything the broker itself decides before the handler is asked (protocol.md 1.1, 1.5, 1.7).

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{HttpRequest, http::header};
use percent_encoding::percent_decode_str;

use super::{peer::Peer, settings::ConnectionSettings};
use crate::{
    cluster::NotAdmitted,
    domain::{App, FormerKey, HandshakeAuth, HandshakeRefusal, Pairs, Reject, TrustedProxies},
    protocol::{Claims, CloseCode, TokenError, cut},
};

/// How much of an unknown key is repeated to the client, and to the log, in bytes.
const MAX_ECHOED_KEY: usize = 100;

/// Why a client is turned away: what it is told, before the close with the same code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: CloseCode,
    pub(super) message: String,
    /// What it counts as.
    pub(super) why: HandshakeRefusal,
}

impl Refusal {
    pub(super) fn new(code: CloseCode, message: impl Into<String>) -> Self {
        let why = match code {
            CloseCode::TLS_ONLY => HandshakeRefusal::TlsOnly,
            CloseCode::UNKNOWN_APP => HandshakeRefusal::UnknownApp,
            CloseCode::APP_DISABLED => HandshakeRefusal::AppDisabled,
            CloseCode::NO_PROTOCOL | CloseCode::UNSUPPORTED_PROTOCOL => HandshakeRefusal::Protocol,
            CloseCode::UNAUTHORIZED => HandshakeRefusal::Unauthorized,
            _ => HandshakeRefusal::OverCapacity,
        };
        Self { code, message: message.into(), why }
    }

    /// The same, where the code does not say what it counts as.
    pub(super) fn because(self, why: HandshakeRefusal) -> Self {
        Self { why, ..self }
    }

    pub(super) fn unknown_app(key: &str) -> Self {
        let key = cut(key, MAX_ECHOED_KEY);
        Self::new(CloseCode::UNKNOWN_APP, format!("App key {key} does not exist"))
    }

    pub(super) fn not_admitted(error: NotAdmitted, app: &App) -> Self {
        let (code, why) = match error {
            NotAdmitted::OverQuota(_) => (app.quota_close_code, HandshakeRefusal::OverQuota),
            NotAdmitted::Disabled => (CloseCode::APP_DISABLED, HandshakeRefusal::AppDisabled),
            NotAdmitted::Draining => (CloseCode::OVER_CAPACITY, HandshakeRefusal::Draining),
            NotAdmitted::OverCapacity => (CloseCode::OVER_CAPACITY, HandshakeRefusal::OverCapacity),
        };
        Self::new(code, error.to_string()).because(why)
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self::new(reject.close_code(), reject.message()).because(HandshakeRefusal::Handler)
    }
}

/// A client's request, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) key: String,
    pub(super) path_token: Option<String>,
    pub(super) query: Pairs,
    pub(super) origin: Option<String>,
    pub(super) bearer: Option<String>,
    pub(super) peer: Peer,
}

impl Request {
    pub(super) fn read(request: &HttpRequest, proxies: &TrustedProxies) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let header = |name| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
        let authorization: Option<String> = header(header::AUTHORIZATION);
        Self {
            key: decode(request.path().rsplit('/').next().unwrap_or_default()),
            path_token: request.match_info().get("token").map(decode),
            query: parse_query(request.query_string()),
            origin: header(header::ORIGIN),
            bearer: authorization.and_then(|value| Some(value.strip_prefix("Bearer ")?.trim().to_owned())),
            peer: Peer::of(request, proxies),
        }
    }

    fn protocol(&self) -> Option<&str> {
        self.query.find(|name| name == "protocol")
    }

    /// Everything that needs no place yet.
    pub(super) fn check(&self, app: &App, settings: &ConnectionSettings) -> Result<Option<Claims>, Refusal> {
        if !app.enabled {
            return Err(Refusal::new(CloseCode::APP_DISABLED, "Application disabled"));
        }
        if app.force_tls && !self.peer.secure {
            return Err(Refusal::new(CloseCode::TLS_ONLY, "Application only accepts SSL connections, reconnect using wss://"));
        }
        match self.protocol() {
            None if settings.strict_protocol => return Err(Refusal::new(CloseCode::NO_PROTOCOL, "No protocol version supplied")),
            None => {}
            Some(version) if matches!(version.parse(), Ok(4_u8..=7)) => {}
            Some(_) => return Err(Refusal::new(CloseCode::UNSUPPORTED_PROTOCOL, "Unsupported protocol version")),
        }
        if !app.origins.allows(self.origin.as_deref()) {
            return Err(Refusal::new(CloseCode::UNAUTHORIZED, "Origin not allowed"));
        }
        self.claims(app).map_err(|error| Refusal::new(CloseCode::UNAUTHORIZED, error.to_string()))
    }

    fn claims(&self, app: &App) -> Result<Option<Claims>, TokenError> {
        let shown = self.path_token.as_deref().or(self.bearer.as_deref());
        match (app.handshake_auth, shown) {
            (HandshakeAuth::Off, _) | (HandshakeAuth::Optional, None) => Ok(None),
            (HandshakeAuth::Required, None) => Err(TokenError::Missing),
            (_, Some(token)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let claims = Claims::verify(token, &app.signing_key, now);
                match (claims, app.former_key.as_ref().and_then(FormerKey::valid)) {
                    (Err(refused), Some(former)) => Claims::verify(token, former, now).map_err(|_| refused).map(Some),
                    (claims, _) => claims.map(Some),
                }
            }
        }
    }
}

/// The query as pairs. A second `?` counts as `&`: a client library that lets its user choose the key can so carry parameters
/// (`key: 'KEY?order_id=42&x='`).
fn parse_query(query: &str) -> Pairs {
    let pairs = query.split(['&', '?']).filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (form_decoded(name), form_decoded(value))).collect()
}

fn form_decoded(text: &str) -> Cow<'_, str> {
    // As a rule there is nothing to decode.
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use actix_web::web;
    use proptest::prelude::*;

    use super::*;
    use crate::{connection::peer::Address, domain::OriginPolicy};

    fn request(query: &str) -> Request {
        let peer = Peer { address: Address::Unknown, secure: false };
        Request { key: "app-key".into(), path_token: None, query: parse_query(query), origin: None, bearer: None, peer }
    }

    fn code(request: &Request, app: &App, settings: &ConnectionSettings) -> Option<u16> {
        request.check(app, settings).err().map(|refusal| refusal.code.as_u16())
    }

    #[test]
    fn a_key_that_nobody_has_is_repeated_in_short() {
        assert_eq!(Refusal::unknown_app("app-kex").message, "App key app-kex does not exist");
        assert_eq!(Refusal::unknown_app(&"é".repeat(60_000)).message, format!("App key {} does not exist", "é".repeat(50)));
    }

    #[test]
    fn protocol_versions() {
        let (app, settings) = (App::for_tests(), ConnectionSettings::default());
        let strict = ConnectionSettings { strict_protocol: true, ..ConnectionSettings::default() };
        for good in ["protocol=7&client=js&version=8.6.0&flash=false", "client=swift&protocol=4", "protocol=5", "protocol=6", ""] {
            assert_eq!(code(&request(good), &app, &settings), None, "{good}");
        }
        for bad in ["protocol=3", "protocol=8", "protocol=abc", "protocol=", "protocol=-7", "protocol=7.0"] {
            assert_eq!(code(&request(bad), &app, &settings), Some(4007), "{bad}");
        }
        assert_eq!(code(&request(""), &app, &strict), Some(4008));
    }

    #[test]
    fn the_switches_of_an_application() {
        let settings = ConnectionSettings::default();
        let app = |change: fn(&mut App)| {
            let mut app = App::for_tests();
            change(&mut app);
            app
        };
        assert_eq!(code(&request(""), &app(|app| app.enabled = false), &settings), Some(4003));
        let tls = app(|app| app.force_tls = true);
        assert_eq!(code(&request(""), &tls, &settings), Some(4000));
        assert_eq!(code(&Request { peer: Peer { address: Address::Unix, secure: true }, ..request("") }, &tls, &settings), None);
        let origins = app(|app| app.origins = OriginPolicy::new(["shop.example".to_owned()], false));
        let from = |origin: &str| Request { origin: Some(origin.into()), ..request("") };
        assert_eq!(code(&from("https://evil.example"), &origins, &settings), Some(4009));
        assert_eq!(code(&from("https://shop.example"), &origins, &settings), None);
        assert_eq!(code(&request(""), &app(|app| app.handshake_auth = HandshakeAuth::Required), &settings), Some(4009));
        assert_eq!(code(&request(""), &app(|app| app.handshake_auth = HandshakeAuth::Optional), &settings), None);
    }

    #[test]
    fn the_key_suffix_trick_reads_as_parameters() {
        let query = parse_query("user_id=7&order_id=42&x=?protocol=7&client=js");
        let get = |name: &str| query.find(|key| key == name);
        assert_eq!((get("order_id"), get("x"), get("protocol")), (Some("42"), Some(""), Some("7")));
    }

    proptest! {
        #[test]
        fn a_query_reads_as_a_form_does(query in "([a-z&=?+%é]|%[0-9A-Fa-f]{2}){0,60}") {
            let expected = web::Query::<Vec<(String, String)>>::from_query(&query.replace('?', "&")).unwrap().into_inner();
            let expected: Vec<_> = expected.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let read = parse_query(&query);
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), expected);
        }
    }
}
