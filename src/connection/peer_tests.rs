//! Which address a request is from, case by case.

use actix_web::http::header::HeaderValue;

use super::*;
use crate::domain::TrustedProxy;

const PROXY: &str = "10.0.0.1";

fn trusted() -> TrustedProxies {
    ["10.0.0.0/8", "2001:db8::/32", "unix"].iter().map(|text| text.parse::<TrustedProxy>().unwrap()).collect()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.parse().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn seen_from(address: Address, lines: &[(&str, &str)]) -> Peer {
    Peer { address, secure: false }.behind(&headers(lines), &trusted())
}

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

/// The client's address as the log has it, behind a trusted proxy.
fn client(lines: &[(&str, &str)]) -> String {
    seen_from(ip(PROXY), lines).address.to_string()
}

fn secure(lines: &[(&str, &str)]) -> bool {
    seen_from(ip(PROXY), lines).secure
}

#[test]
fn nobody_else_is_believed() {
    let lines = [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1;proto=https"),
        ("x-real-ip", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
    ];
    for peer in [ip("198.51.100.7"), ip("::1"), Address::Unknown] {
        assert_eq!(seen_from(peer, &lines), Peer { address: peer, secure: false });
    }
    let nobody = TrustedProxies::default();
    let peer = Peer { address: Address::Unix, secure: false };
    assert_eq!(peer.behind(&headers(&lines), &nobody), peer);
    assert_eq!(seen_from(Address::Unix, &lines), Peer { address: ip("192.0.2.1"), secure: true });
    assert_eq!([Address::Unix.to_string(), Address::Unknown.to_string()], ["unix", "unknown"]);
    assert_eq!((Address::Unix.ip(), ip("192.0.2.1").ip()), (None, Some("192.0.2.1".parse().unwrap())));
}

#[test]
fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
    for (list, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("203.0.113.9,192.0.2.1,10.0.0.2,2001:db8::5", "192.0.2.1"),
        ("192.0.2.1:4711, 10.0.0.2:80", "192.0.2.1"),
        ("::ffff:192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
        ("2001:db9::1, [2001:db8::5]:443", "2001:db9::1"),
        // Everybody is ours: the one farthest away.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        // No address: the last that is known.
        ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, nonsense", PROXY),
        ("", PROXY),
        (",", PROXY),
        ("192.0.2.1,", "192.0.2.1"),
    ] {
        assert_eq!(client(&[("x-forwarded-for", list)]), expected, "{list:?}");
    }
    assert_eq!(client(&[]), PROXY);
}

#[test]
fn several_lines_are_one_list() {
    assert_eq!(
        client(&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.2")]),
        "192.0.2.1"
    );
    assert_eq!(client(&[("forwarded", "for=203.0.113.9"), ("forwarded", "for=192.0.2.1, for=10.0.0.2")]), "192.0.2.1");
}

#[test]
fn of_several_headers_one_counts() {
    let (list, forwarded, real) = (("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2"), ("x-real-ip", "192.0.2.3"));
    assert_eq!(client(&[real, forwarded, list]), "192.0.2.1");
    assert_eq!(client(&[real, forwarded]), "192.0.2.2");
    assert_eq!(client(&[real]), "192.0.2.3");
    // One that says nothing is not made up for by one that the proxy may not have written.
    assert_eq!(client(&[("x-forwarded-for", "unknown"), forwarded, real]), PROXY);
}

#[test]
fn the_protocol_is_what_the_nearest_proxy_says() {
    for (proto, expected) in [
        ("https", true),
        ("wss", true),
        ("HTTPS", true),
        ("http", false),
        ("ws", false),
        ("", false),
        ("http, https", true),
        ("https,http", false),
        ("https ", true),
        ("httpss", false),
    ] {
        assert_eq!(secure(&[("x-forwarded-proto", proto)]), expected, "{proto:?}");
    }
    assert!(!secure(&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")]));
    assert!(secure(&[("forwarded", "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http")]), "how the client came, not how our proxy did");
    assert!(!secure(&[("forwarded", "for=192.0.2.1;proto=https, for=203.0.113.9;proto=http")]));
    assert!(!secure(&[("forwarded", "for=192.0.2.1;proto=https"), ("x-forwarded-proto", "http")]));
    assert!(!secure(&[]));
    let here = Peer { address: ip("192.0.2.1"), secure: true };
    assert!(here.behind(&headers(&[("x-forwarded-proto", "http")]), &trusted()).secure, "TLS with us is TLS");
}
