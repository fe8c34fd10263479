//! What a request has to prove (protocol.md 6.1). Pure: the clock is an argument.

use percent_encoding::percent_decode_str;

use super::{
    error::ApiError,
    query::{Query, SIGNATURE},
};
use crate::{domain::App, protocol::is_body_md5};

/// The parameter that names the application.
pub(super) const KEY: &str = "auth_key";
const VERSION: &str = "auth_version";
const TIMESTAMP: &str = "auth_timestamp";
const MD5: &str = "body_md5";

/// The parameters that belong to the authentication, not to the question.
pub(super) const AUTHENTICATION: [&str; 5] = [KEY, VERSION, TIMESTAMP, MD5, SIGNATURE];

/// What a request says of itself, before any of it is believed.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// The method, in upper case.
    pub(super) method: &'a str,
    /// The path as it came, without the prefix of the deployment.
    pub(super) path: &'a str,
    /// The query.
    pub(super) query: &'a Query<'a>,
}

impl Claim<'_> {
    /// Everything that can be said without the body: key, version, time, signature. What is signed holds `body_md5`, so a
    /// stranger is known before a byte of the body is kept. `now` is in Unix seconds.
    ///
    /// # Errors
    /// The first check that fails, in the order of the contract (6.1) but for one: `body_md5` is part of the signed text, so the
    /// signature is checked before a stranger's body is kept in memory, and the body against `body_md5` afterwards.
    pub(super) fn check_head(&self, app: &App, now: u64) -> Result<(), ApiError> {
        if param(self.query, KEY)? != &*app.key {
            return Err(ApiError::UnknownKey);
        }
        if param(self.query, VERSION)? != "1.0" {
            return Err(ApiError::Version);
        }
        let given = unix_seconds(param(self.query, TIMESTAMP)?).ok_or(ApiError::Timestamp)?;
        let tolerance = app.limits.timestamp_tolerance.as_secs();
        if now.abs_diff(given) > tolerance {
            return Err(ApiError::TimestampExpired { given, tolerance, now });
        }
        self.check_signature(app)
    }

    /// Over the path as it came and, for clients that sign what they escape afterwards, over its decoded form.
    fn check_signature(&self, app: &App) -> Result<(), ApiError> {
        let sent = param(self.query, SIGNATURE)?;
        let canonical = self.query.canonical(self.method, self.path);
        let verifies = |text: &str| app.is_signed(|key| key.verify(&[text], sent));
        let decoded = || percent_decode_str(self.path).decode_utf8().ok();
        if verifies(&canonical)
            || (self.path.contains('%') && decoded().is_some_and(|path| verifies(&self.query.canonical(self.method, &path))))
        {
            return Ok(());
        }
        Err(ApiError::Signature { canonical, sent: sent.to_owned() })
    }
}

/// Whether the body is the one that was signed. Without a body the parameter may be missing; given, it must be right.
///
/// # Errors
/// [`ApiError::MissingParameter`] or [`ApiError::BodyMd5`].
pub(super) fn check_body(query: &Query<'_>, body: &[u8]) -> Result<(), ApiError> {
    match query.get(MD5) {
        None if body.is_empty() => Ok(()),
        None => Err(ApiError::MissingParameter(MD5)),
        Some(claimed) if is_body_md5(claimed, body) => Ok(()),
        Some(_) => Err(ApiError::BodyMd5),
    }
}

/// A parameter that must be there.
///
/// # Errors
/// [`ApiError::MissingParameter`].
pub(super) fn param<'q>(query: &'q Query<'_>, name: &'static str) -> Result<&'q str, ApiError> {
    query.get(name).ok_or(ApiError::MissingParameter(name))
}

/// Digits only: no sign, no fraction, no blank.
fn unix_seconds(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::canonical_request;

    const NOW: u64 = 1_700_000_000;
    const EVENT: &[u8] = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    const BATCH: &[u8] = br#"{"batch":[{"channel":"a","name":"e1","data":"1"},{"channel":"presence-b","name":"e2","data":"{\"x\":true}","socket_id":"123456.7890123","info":"user_count"}]}"#;
    const H1: &str = "auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f&auth_signature=878d0f5603295d625f99381d725fa6b23826b4956b836dc0e7db7a3aeb6df9c9";

    fn check_at(now: u64, method: &str, target: &str, body: &[u8]) -> Result<(), ApiError> {
        let (path, query) = target.split_once('?').unwrap();
        let query = Query::parse(query)?;
        let claim = Claim { method, path, query: &query };
        claim.check_head(&App::for_tests(), now)?;
        check_body(&query, body)
    }

    fn check(method: &str, target: &str, body: &[u8]) -> Result<(), ApiError> {
        check_at(NOW, method, target, body)
    }

    fn h1(query: &str) -> Result<(), ApiError> {
        check("POST", &format!("/apps/app-id/events?{query}"), EVENT)
    }

    /// A query for `path` that is well signed.
    fn signed(method: &str, path: &str, params: &[(&str, &str)]) -> String {
        let params: Vec<_> = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let signature = App::for_tests().signing_key.sign(&[&canonical_request(method, path, &params)]);
        let pairs: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}&auth_signature={signature}", pairs.join("&"))
    }

    #[test]
    fn vectors_h1_to_h6() {
        let auth = "auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0";
        h1(H1).unwrap();
        for (method, path, extra, body, signature) in [
            (
                "GET",
                "channels",
                "filter_by_prefix=presence-&info=user_count",
                &b""[..],
                "fd5a1b38d92aee2b7913a8cf43136cffab888ee5a097536910d6239f08eb68a2",
            ),
            (
                "GET",
                "channels/presence-room",
                "info=user_count%2Csubscription_count",
                b"",
                "63a12586312655a389c2cd2456ef12ce123cb22ece45add17de2273aaea20235",
            ),
            (
                "GET",
                "channels/presence-room",
                "info=user_count,subscription_count",
                b"",
                "63a12586312655a389c2cd2456ef12ce123cb22ece45add17de2273aaea20235",
            ),
            (
                "GET",
                "channels/presence-room/users",
                "body_md5=d41d8cd98f00b204e9800998ecf8427e",
                b"",
                "035c27339826b71a7c70ae809fda1c4e58aafdb1cac94896623a58b475cdd65b",
            ),
            (
                "POST",
                "users/42/terminate_connections",
                "body_md5=99914b932bd37a50b983c5e7c90ae93b",
                b"{}",
                "5c90601b7ede27346da725838a3837f982e9712e07d793968f91dbc6d56670ac",
            ),
            (
                "POST",
                "batch_events",
                "body_md5=8af807d805ddc6276752c0ee75d9fded",
                BATCH,
                "974cd03f92d1c5387c0c459d6b72aeb807af2ea4bc5c4af555212c032693261b",
            ),
        ] {
            let target = format!("/apps/app-id/{path}?{extra}&{auth}&auth_signature={signature}");
            check(method, &target, body).unwrap_or_else(|error| panic!("{target}: {error:?}"));
        }
    }

    #[test]
    fn the_order_on_the_wire_does_not_matter() {
        let swapped: Vec<&str> = H1.split('&').rev().collect();
        h1(&swapped.join("&")).unwrap();
    }

    #[test]
    fn a_clock_may_be_off_by_600_seconds() {
        let target = format!("/apps/app-id/events?{H1}");
        for now in [NOW - 600, NOW + 600] {
            check_at(now, "POST", &target, EVENT).unwrap();
        }
        for now in [NOW - 601, NOW + 601, 0, u64::MAX] {
            let error = check_at(now, "POST", &target, EVENT).unwrap_err();
            assert!(matches!(error, ApiError::TimestampExpired { tolerance: 600, .. }), "{error:?}");
        }
        let text = check_at(NOW + 601, "POST", &target, EVENT).unwrap_err().to_string();
        assert_eq!(text, "Timestamp expired: Given timestamp (1700000000) not within 600s of server time (1700000601)");
    }

    #[test]
    fn a_changed_body_is_refused_by_its_md5() {
        let target = format!("/apps/app-id/events?{H1}");
        for body in [&EVENT[1..], b"", &[EVENT, b" "].concat()] {
            assert!(matches!(check("POST", &target, body), Err(ApiError::BodyMd5)));
        }
    }

    #[test]
    fn a_body_needs_its_md5_in_lower_case() {
        let auth = [("auth_key", "app-key"), ("auth_timestamp", "1700000000"), ("auth_version", "1.0")];
        let path = "/apps/app-id/events";
        assert!(matches!(h1(&signed("POST", path, &auth)), Err(ApiError::MissingParameter("body_md5"))));
        let with = |md5| signed("POST", path, &[auth[0], auth[1], auth[2], ("body_md5", md5)]);
        h1(&with("ec365a775a4cd0599faeb73354201b6f")).unwrap();
        for md5 in ["EC365A775A4CD0599FAEB73354201B6F", "", "d41d8cd98f00b204e9800998ecf8427e"] {
            assert!(matches!(h1(&with(md5)), Err(ApiError::BodyMd5)), "{md5}");
        }
        let target = format!("{path}?{}", with("99914b932bd37a50b983c5e7c90ae93b"));
        assert!(matches!(check("POST", &target, b""), Err(ApiError::BodyMd5)), "given, it must be right even without a body");
        check("POST", &format!("{path}?{}", signed("POST", path, &auth)), b"").unwrap();
    }

    #[test]
    fn other_versions_and_times_are_refused_even_if_they_are_signed() {
        let path = "/apps/app-id/channels";
        let with = |version, timestamp| {
            let query = signed("GET", path, &[("auth_key", "app-key"), ("auth_timestamp", timestamp), ("auth_version", version)]);
            check("GET", &format!("{path}?{query}"), b"")
        };
        with("1.0", "1700000000").unwrap();
        for version in ["2.0", "1", "", "1.00"] {
            assert!(matches!(with(version, "1700000000"), Err(ApiError::Version)), "{version}");
        }
        for timestamp in ["", "soon", "1.7e9", "-1700000000", "%2B1700000000", "99999999999999999999999"] {
            assert!(matches!(with("1.0", timestamp), Err(ApiError::Timestamp)), "{timestamp}");
        }
    }

    #[test]
    fn a_wrong_signature_is_refused_with_the_text_that_counts() {
        let (rest, good) = H1.rsplit_once('=').unwrap();
        for bad in [good.to_uppercase(), good[1..].to_owned(), format!("{good}0"), String::new(), "0".repeat(64), "é".repeat(32)] {
            let Err(ApiError::Signature { canonical, sent }) = h1(&format!("{rest}={bad}")) else { panic!("{bad}") };
            assert_eq!(sent, bad);
            assert!(canonical.starts_with("POST\n/apps/app-id/events\nauth_key=app-key&") && !canonical.contains(good), "{canonical}");
        }
        for (method, path) in [("GET", "/apps/app-id/events"), ("POST", "/apps/app-id/batch_events")] {
            assert!(matches!(check(method, &format!("{path}?{H1}"), EVENT), Err(ApiError::Signature { .. })));
        }
        assert!(matches!(h1(&format!("{H1}&info=user_count")), Err(ApiError::Signature { .. })), "every parameter is signed");
    }

    #[test]
    fn every_parameter_of_the_authentication_is_needed_once() {
        for name in ["auth_key", "auth_timestamp", "auth_version", "auth_signature"] {
            let without: Vec<&str> = H1.split('&').filter(|pair| !pair.starts_with(name)).collect();
            let error = h1(&without.join("&")).unwrap_err();
            assert!(matches!(error, ApiError::MissingParameter(missing) if missing == name), "{error:?}");
        }
        assert!(matches!(h1(&format!("{H1}&Auth_Key=app-key")), Err(ApiError::DuplicateParameter(name)) if name == "auth_key"));
        assert!(matches!(h1(&H1.replace("app-key", "other")), Err(ApiError::UnknownKey)));
    }

    #[test]
    fn the_path_is_signed_as_it_comes_or_decoded() {
        let auth = [("auth_key", "app-key"), ("auth_timestamp", "1700000000"), ("auth_version", "1.0")];
        let raw = "/apps/app-id/channels/a%3Bb";
        for path in [raw, "/apps/app-id/channels/a;b"] {
            check("GET", &format!("{raw}?{}", signed("GET", path, &auth)), b"").unwrap();
        }
        let other = signed("GET", "/apps/app-id/channels/a:b", &auth);
        assert!(matches!(check("GET", &format!("{raw}?{other}"), b""), Err(ApiError::Signature { .. })));
    }
}
