//! Where to listen, and who is in between.

use std::net::SocketAddr;

use super::text::{PRINTABLE, at_most, only};
use crate::{config::error::Reason, domain::TrustedProxy};

/// Longest path of a unix socket, in bytes: the system takes 107, a few of which are for the name that it is made under.
const MAX_SOCKET_PATH: usize = 100;

/// Somebody whose word about his clients counts.
pub(crate) fn trusted_proxy(text: &str) -> Result<(), Reason> {
    let expected = r#"an address, a network such as "10.0.0.0/8" with nothing behind its prefix, or "unix""#;
    text.parse::<TrustedProxy>().map(drop).map_err(|_| Reason::Malformed { expected, found: text.to_owned() })
}

/// Nothing, or an address with a port.
pub(crate) fn no_bind_or_address(text: &str) -> Result<(), Reason> {
    let expected = r#"nothing, or an address with a port such as "127.0.0.1:6080" or "[::1]:6080""#;
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    Err(Reason::Malformed { expected, found: text.to_owned() })
}

/// Nothing, or the path of a unix socket.
pub(crate) fn no_path_or_socket(text: &str) -> Result<(), Reason> {
    at_most(text, MAX_SOCKET_PATH)?;
    only(text, |c| !c.is_control(), PRINTABLE)?;
    if text.ends_with('/') {
        return Err(Reason::Malformed { expected: "the path of a socket, not of a directory", found: text.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_addresses_and_sockets() {
        for (shape, good, bad) in [
            (
                trusted_proxy as fn(&str) -> Result<(), Reason>,
                ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8", "unix"].as_slice(),
                ["", "10.0.0.1/8", "nginx", "10.0.0.1:80", "*"].as_slice(),
            ),
            (
                no_bind_or_address,
                &["", "127.0.0.1:6080", "0.0.0.0:0", "[::1]:1"],
                &["6080", "127.0.0.1", ":6080", "localhost:6080", "::1:1"],
            ),
            (no_path_or_socket, &["", "/run/holdline/holdline.sock", "holdline.sock"], &["/run/holdline/", "a\nb"]),
        ] {
            good.iter().for_each(|text| assert_eq!(shape(text), Ok(()), "{text}"));
            bad.iter().for_each(|text| assert!(shape(text).is_err(), "{text}"));
        }
        assert_eq!(no_path_or_socket(&"x".repeat(101)), Err(Reason::TooLong { length: 101, at_most: 100 }));
    }
}
