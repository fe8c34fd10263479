//! Whose word counts about who is behind them.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// The word for peers on the unix socket.
const UNIX: &str = "unix";

/// Peers that may say who their client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Whoever has an address of this network.
    Network(IpNet),
    /// Whoever comes through the unix socket.
    Unix,
}

/// A text that names no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address, a network such as 10.0.0.0/8, or \"unix\"")]
pub struct NoProxy;

impl TrustedProxy {
    /// Whether it is everybody.
    pub fn is_everybody(&self) -> bool {
        matches!(self, Self::Network(network) if network.prefix_len() == 0)
    }
}

impl FromStr for TrustedProxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Network(ip.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| NoProxy)?;
        // 10.0.0.7/8 is more likely a slip than a wish for all of 10.0.0.0/8.
        if network == network.trunc() { Ok(Self::Network(network)) } else { Err(NoProxy) }
    }
}

/// Every peer that may say who its client is. Nobody, unless configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Whether this address is one of theirs. An IPv4 address in its IPv6 form is the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Whether whoever comes through the unix socket is.
    pub fn contains_unix(&self) -> bool {
        self.unix
    }
}

impl FromIterator<TrustedProxy> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = TrustedProxy>>(proxies: I) -> Self {
        let mut all = Self::default();
        for proxy in proxies {
            match proxy {
                TrustedProxy::Network(network) => all.networks.push(network),
                TrustedProxy::Unix => all.unix = true,
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusting(proxies: &[&str]) -> TrustedProxies {
        proxies.iter().map(|text| text.parse::<TrustedProxy>().unwrap()).collect()
    }

    #[test]
    fn a_proxy_is_an_address_a_network_or_the_unix_socket() {
        let proxies = trusting(&["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"]);
        for (ip, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::7", true),
            ("2001:db9::7", false),
            ("::1", true),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.1.2.3", false),
        ] {
            assert_eq!(proxies.contains(ip.parse().unwrap()), expected, "{ip}");
        }
        assert!(!proxies.contains_unix() && trusting(&["unix"]).contains_unix());
        assert!(trusting(&["::ffff:10.0.0.1"]).contains("10.0.0.1".parse().unwrap()));
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()) && !TrustedProxies::default().contains_unix());
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "proxy", "10.0.0.0/33", "10.0.0.7/8", "10.0.0.0/", "10.0.0.0:80", "[::1]", "Unix", "unix:/run/x", " 10.0.0.1", "*"]
        {
            assert_eq!(text.parse::<TrustedProxy>(), Err(NoProxy), "{text:?}");
        }
        let everybody: TrustedProxy = "0.0.0.0/0".parse().unwrap();
        assert!(everybody.is_everybody() && !"10.0.0.0/8".parse::<TrustedProxy>().unwrap().is_everybody());
    }
}
