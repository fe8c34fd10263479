//! The headers in which proxies say where a request has come from: lists of addresses (`X-Forwarded-For`, `X-Real-IP`), and RFC 7239
//! (`Forwarded`).
//!
//! A list is cut at every comma, quoted or not, because the client may have written its left part: an open quotation mark there must
//! not swallow what the proxies have added. What such a cut leaves is no address, and the walk ends there.

use std::{
    net::{IpAddr, SocketAddr},
    str::from_utf8,
};

/// One hop of the way of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    /// Who sent it, if that is an address.
    pub(super) ip: Option<IpAddr>,
    /// Whether it was sent over TLS, if that is known.
    pub(super) secure: Option<bool>,
}

/// Every address of a list, oldest first. An empty entry is none (RFC 9110, 5.6.1).
pub(super) fn addresses(line: &[u8]) -> Vec<Hop> {
    entries(line).map(|entry| Hop { ip: from_utf8(entry).ok().and_then(address), secure: None }).collect()
}

/// Every element of a `Forwarded` header, oldest first.
pub(super) fn elements(line: &[u8]) -> Vec<Hop> {
    entries(line).map(|entry| from_utf8(entry).ok().and_then(element).unwrap_or_default()).collect()
}

/// Whether this is the name of a protocol over TLS.
pub(super) fn is_secure(proto: &[u8]) -> bool {
    proto.eq_ignore_ascii_case(b"https") || proto.eq_ignore_ascii_case(b"wss")
}

fn entries(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let ip = match text.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse().ok()?),
            None => text.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(ip.to_canonical())
}

/// A node of RFC 7239: an address, which may have a port, even an obfuscated one. `unknown` and obfuscated names are none.
fn node(text: &str) -> Option<IpAddr> {
    let without_hidden_port = text.rsplit_once(":_").filter(|(_, port)| port.bytes().all(is_obfuscated)).map(|(node, _)| node);
    address(without_hidden_port.unwrap_or(text))
}

fn is_obfuscated(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// `for=192.0.2.1;proto=https`. `None` when it is malformed.
fn element(text: &str) -> Option<Hop> {
    let (mut hop, mut seen, mut rest) = (Hop::default(), Vec::new(), text);
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_ascii().to_ascii_lowercase();
        let (value, after) = value(after.trim_ascii_start())?;
        // Each parameter once (RFC 7239, 4): a second `for` may be somebody else's.
        if !is_token(&name) || seen.contains(&name) {
            return None;
        }
        match name.as_str() {
            "for" => hop.ip = node(&value),
            "proto" => hop.secure = Some(is_secure(value.as_bytes())),
            _ => {}
        }
        seen.push(name);
        match after.trim_ascii_start() {
            "" => return Some(hop),
            more => rest = more.strip_prefix(';')?,
        }
        if rest.trim_ascii().is_empty() {
            return Some(hop);
        }
    }
}

/// A token or a quoted text, and what stands behind it. Unquoted, an address with colons is no token, but proxies write it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let value = value.trim_ascii_end();
        let is_plain = |byte: u8| is_token_byte(byte) || matches!(byte, b':' | b'[' | b']');
        return (!value.is_empty() && value.bytes().all(is_plain)).then(|| (value.to_owned(), rest));
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn ips(hops: &[Hop]) -> Vec<Option<IpAddr>> {
        hops.iter().map(|hop| hop.ip).collect()
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets() {
        for (text, expected) in [
            ("192.0.2.1", ip("192.0.2.1")),
            ("192.0.2.1:8080", ip("192.0.2.1")),
            ("2001:db8::1", ip("2001:db8::1")),
            ("[2001:db8::1]", ip("2001:db8::1")),
            ("[2001:db8::1]:443", ip("2001:db8::1")),
            ("::ffff:192.0.2.1", ip("192.0.2.1")),
            ("[::ffff:192.0.2.1]:1", ip("192.0.2.1")),
            ("unknown", None),
            ("_hidden", None),
            ("192.0.2.256", None),
            ("192.0.2", None),
            ("0300.0.2.1", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:70000", None),
            ("192.0.2.1:80:80", None),
            ("[192.0.2.1]", None),
            ("[2001:db8::1", None),
            ("2001:db8::1]", None),
            ("fe80::1%eth0", None),
            ("client.example", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected, "{text}");
        }
    }

    #[test]
    fn a_list_keeps_what_is_no_address_in_its_place() {
        let hops = addresses(b" 192.0.2.1 ,, nobody,\t192.0.2.2:80,\xff,");
        assert_eq!(ips(&hops), [ip("192.0.2.1"), None, ip("192.0.2.2"), None]);
        assert!(addresses(b"").is_empty() && addresses(b" , ,").is_empty());
    }

    #[test]
    fn elements_of_rfc_7239() {
        let line = br#"for="_gazonk", For="[2001:db8:cafe::17]:4711", for=192.0.2.60;proto=https;by=203.0.113.43, for="192.0.2.61:_x-1""#;
        let hops = elements(line);
        assert_eq!(ips(&hops), [None, ip("2001:db8:cafe::17"), ip("192.0.2.60"), ip("192.0.2.61")]);
        assert_eq!(hops.iter().map(|hop| hop.secure).collect::<Vec<_>>(), [None, None, Some(true), None]);
        for (text, expected) in [
            ("for=192.0.2.1", ip("192.0.2.1")),
            ("for = 192.0.2.1 ; proto = http", ip("192.0.2.1")),
            ("FOR=\"192.0.2.1\"", ip("192.0.2.1")),
            (r#"for="192\.0.2.1""#, ip("192.0.2.1")),
            ("for=192.0.2.1:80", ip("192.0.2.1")),
            ("for=[2001:db8::1]:80", ip("2001:db8::1")),
            ("for=192.0.2.1;", ip("192.0.2.1")),
            (r#"host="a;for=203.0.113.9";for=192.0.2.1"#, ip("192.0.2.1")),
            (r#"host="\";for=203.0.113.9";for=192.0.2.1"#, ip("192.0.2.1")),
            ("for=192.0.2.1;for=203.0.113.9", None),
            ("proto=https", None),
            ("for=unknown", None),
            ("for=_SEVKISEK", None),
            ("for=\"192.0.2.1", None),
            ("for=192.0.2.1\"", None),
            ("for=\"192.0.2.1\"x", None),
            ("for=", None),
            ("for", None),
            ("=192.0.2.1", None),
            ("192.0.2.1", None),
            ("for=192.0.2.1;;proto=https", None),
            ("for=192.0.2.1 203.0.113.9", None),
        ] {
            assert_eq!(ips(&elements(text.as_bytes())), [expected], "{text}");
        }
        let proto = |text: &str| elements(text.as_bytes())[0].secure;
        assert_eq!((proto("for=_x;proto=WSS"), proto("for=_x;proto=\"http\""), proto("for=_x")), (Some(true), Some(false), None));
    }

    #[test]
    fn what_a_client_leaves_open_does_not_swallow_what_a_proxy_adds() {
        let hops = elements(br#"for="192.0.2.66, for=198.51.100.7"#);
        assert_eq!(ips(&hops), [None, ip("198.51.100.7")]);
        // A host that the proxy quotes, and the client has chosen: nothing of it is ever the last address.
        let hops = elements(br#"for=198.51.100.7;host="a,for=192.0.2.66,b""#);
        assert_eq!(hops.last().unwrap().ip, None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_entry_hides_another(line in "[a-zA-Z0-9.:;,=\"\\[\\]_ \\\\\\PC]{0,80}") {
            let _ = addresses(line.as_bytes());
            let _ = elements(line.as_bytes());
            let added = format!("{line}, for=198.51.100.7");
            prop_assert_eq!(elements(added.as_bytes()).last().unwrap().ip, ip("198.51.100.7"));
        }

        #[test]
        fn bytes_that_are_no_text_are_no_address(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = addresses(&line);
            let _ = elements(&line);
        }
    }
}
