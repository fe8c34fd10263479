//! Who gets in: whoever shows the token, or, without one, this machine alone; and what every answer tells the browser.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};
use parking_lot::Mutex;

use super::DashboardError;
use crate::{
    config::{AppSettings, Secret, Settings},
    connection::{Peer, household},
    domain::{OriginPolicy, TrustedProxies, TrustedProxy},
    protocol::constant_time_eq,
    server::desk::host_of_this_machine,
};

/// Wrong tokens of one address at once.
const MOST_FAILURES: f64 = 10.0;
/// After so long one more is allowed.
const FORGIVEN_AFTER: Duration = Duration::from_secs(6);
/// Addresses whose failures are remembered.
const MOST_ADDRESSES: usize = 4_096;

/// Looks at every request before anything else does.
#[derive(Debug)]
pub(super) struct Guard {
    /// `None`: development, and this machine alone.
    token: Option<Secret>,
    /// Pages elsewhere; `None` if there are none.
    origins: Option<OriginPolicy>,
    proxies: TrustedProxies,
    failures: Failures,
}

impl Guard {
    /// `None` if nobody is to get in.
    pub(super) fn try_new(settings: &Settings) -> Option<Self> {
        let dashboard = &settings.dashboard;
        let token = Some(&dashboard.token).filter(|token| !token.expose().is_empty()).cloned();
        let is_at_home = settings.apps.iter().any(AppSettings::is_development) && settings.server.is_loopback();
        let origins = &dashboard.allowed_origins;
        (dashboard.enabled && (token.is_some() || is_at_home)).then(|| Self {
            token,
            origins: (!origins.is_empty()).then(|| OriginPolicy::new(origins.iter().cloned(), false)),
            proxies: settings.server.trusted_proxies.iter().filter_map(|proxy| proxy.parse::<TrustedProxy>().ok()).collect(),
            failures: Failures::default(),
        })
    }

    /// Lets a request pass or answers it. The page itself is no secret; what it asks for is.
    pub(super) async fn pass(&self, is_api: bool, request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
        let policy = content_policy(request.headers());
        let foreign = if is_api { self.foreign_origin(request.headers()) } else { None };
        let mut response = match self.check(is_api, &request) {
            Err(refusal) => request.into_response(refusal.response()),
            Ok(Passed::Preflight) => request.into_response(HttpResponse::NoContent().finish()),
            Ok(Passed::Request) => next.call(request).await?,
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        ] {
            headers.insert(name, value);
        }
        if let Some(origin) = foreign {
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
        }
        Ok(response)
    }

    fn check(&self, is_api: bool, request: &ServiceRequest) -> Result<Passed, DashboardError> {
        let headers = request.headers();
        let Some(token) = &self.token else {
            // Where the broker listens for others as well, anybody can write any Host.
            let is_near = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
            return host_of_this_machine(headers).filter(|_| is_near).map(|_| Passed::Request).ok_or(DashboardError::Foreign);
        };
        if !is_api {
            return Ok(Passed::Request);
        }
        let is_own = own_origin(headers);
        if is_own == Some(false) && self.foreign_origin(headers).is_none() {
            return Err(DashboardError::Origin);
        }
        if request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return Ok(Passed::Preflight);
        }
        let peer = Peer::of(request.request(), &self.proxies).address;
        // Those who have no address share one.
        let address = household(peer.ip().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let now = Instant::now();
        if let Some(wait) = self.failures.wait(address, now) {
            return Err(DashboardError::TooManyTries { seconds: wait.as_secs() + 1 });
        }
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        let shown = shown.ok_or(DashboardError::NoToken)?;
        if constant_time_eq(shown, token.expose()) {
            return Ok(Passed::Request);
        }
        self.failures.note(address, now);
        tracing::warn!(remote.ip = %peer, "Refused a wrong dashboard token from {peer}");
        Err(DashboardError::WrongToken)
    }

    /// The origin of a request, if it is another page's that is allowed.
    fn foreign_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN).filter(|_| own_origin(headers) == Some(false))?;
        let allowed = self.origins.as_ref().is_some_and(|origins| origins.allows(origin.to_str().ok()));
        (allowed && origin.to_str().is_ok()).then(|| origin.clone())
    }
}

enum Passed {
    Request,
    Preflight,
}

/// Whether a request comes from the page that is served under the name it asks for; `None` if it names no origin.
fn own_origin(headers: &HeaderMap) -> Option<bool> {
    let origin = headers.get(header::ORIGIN)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| host.is_some_and(|host| from.eq_ignore_ascii_case(host)));
    Some(origin.to_str().is_ok_and(is_own))
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' ')).filter(|token| !token.is_empty())
}

/// Of what the page may load, run and reach, nothing is elsewhere. `'self'` is not ws:// for every browser.
fn content_policy(headers: &HeaderMap) -> HeaderValue {
    const REST: &str = "form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
    let is_name = |host: &&str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(is_name);
    let sockets = host.map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    let policy = format!("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sockets}; {REST}");
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The wrong tokens of each address: so many at once, and one more now and then.
#[derive(Debug, Default)]
struct Failures(Mutex<HashMap<IpAddr, Debt>>);

#[derive(Clone, Copy, Debug)]
struct Debt {
    failures: f64,
    at: Instant,
}

impl Debt {
    fn left(self, now: Instant) -> f64 {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() / FORGIVEN_AFTER.as_secs_f64();
        (self.failures - forgiven).max(0.0)
    }
}

impl Failures {
    /// How long an address has to wait before the next try; a right token waits, too, or guessing would go on.
    fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let over = self.0.lock().get(&address)?.left(now) - (MOST_FAILURES - 1.0);
        (over > 0.0).then(|| FORGIVEN_AFTER.mul_f64(over))
    }

    fn note(&self, address: IpAddr, now: Instant) {
        let mut debts = self.0.lock();
        if debts.len() >= MOST_ADDRESSES && !debts.contains_key(&address) {
            debts.retain(|_, debt| debt.left(now) > 0.0);
            let oldest = debts.iter().min_by_key(|(_, debt)| debt.at).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| debts.len() >= MOST_ADDRESSES) {
                debts.remove(&oldest);
            }
        }
        let debt = debts.entry(address).or_insert(Debt { failures: 0.0, at: now });
        *debt = Debt { failures: debt.left(now) + 1.0, at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_tokens_and_then_one_in_six_seconds() {
        let (failures, now, me) = (Failures::default(), Instant::now(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        for _ in 0..10 {
            assert_eq!(failures.wait(me, now), None);
            failures.note(me, now);
        }
        assert_eq!(failures.wait(me, now), Some(FORGIVEN_AFTER));
        assert_eq!(failures.wait(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), now), None, "each address has its own");
        let later = now + FORGIVEN_AFTER;
        assert_eq!(failures.wait(me, later), None);
        failures.note(me, later);
        assert!(failures.wait(me, later).is_some());
        assert_eq!(failures.wait(me, later + 20 * FORGIVEN_AFTER), None);
    }

    #[test]
    fn not_more_addresses_are_remembered_than_there_is_room_for() {
        let (failures, now) = (Failures::default(), Instant::now());
        for n in 0..2 * u32::try_from(MOST_ADDRESSES).unwrap() {
            failures.note(IpAddr::V4(n.into()), now + Duration::from_micros(n.into()));
        }
        assert_eq!(failures.0.lock().len(), MOST_ADDRESSES);
    }

    #[test]
    fn a_token_comes_behind_the_word_bearer() {
        for (value, token) in
            [("Bearer abc", Some("abc")), ("bearer  abc ", Some("abc")), ("Basic abc", None), ("Bearer", None), ("Bearer ", None)]
        {
            assert_eq!(bearer(value), token, "{value}");
        }
    }

    #[test]
    fn a_host_that_is_none_is_no_part_of_the_policy() {
        let policy = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            content_policy(&headers).to_str().unwrap().to_owned()
        };
        assert!(policy("shop.example:6001").contains("connect-src 'self' ws://shop.example:6001 wss://shop.example:6001;"));
        assert!(policy("x; script-src *").contains("connect-src 'self';"));
        assert!(!policy("x; script-src *").contains('*'));
    }
}
