//! Who a request is from: whoever is at the other end of the socket, or, if that is a trusted proxy, whoever it says.
//!
//! A header can be written by anybody. What counts is what a trusted proxy has added at its right end: the walk goes from there to
//! the left, and stops at the first address that is no trusted proxy (the client), or at anything that is no address.

use std::{fmt, net::IpAddr};

use actix_web::{
    HttpRequest,
    http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR, X_FORWARDED_PROTO},
};

use super::forwarded::{self, Hop};
use crate::domain::TrustedProxies;

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Marks a connection that came through the unix socket: its peer has no address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnixPeer;

/// Marks a connection that came through TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsPeer;

/// The far end of a connection, as the log and the limits know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// An address, IPv4 never in its IPv6 form.
    Ip(IpAddr),
    /// Somebody on this machine, through the unix socket.
    Unix,
    /// The peer was gone before anybody asked.
    Unknown,
}

impl Address {
    /// The address, if it is one.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        if let Self::Ip(ip) = self { Some(ip) } else { None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Who a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where the client is.
    pub(crate) address: Address,
    /// Whether the client speaks TLS: with us, or with the trusted proxy in between.
    pub(crate) secure: bool,
}

impl Peer {
    /// Reads it from a request.
    pub(crate) fn of(request: &HttpRequest, trusted: &TrustedProxies) -> Self {
        let address = match request.peer_addr() {
            Some(addr) => Address::Ip(addr.ip().to_canonical()),
            None if request.conn_data::<UnixPeer>().is_some() => Address::Unix,
            None => Address::Unknown,
        };
        Self { address, secure: request.conn_data::<TlsPeer>().is_some() }.behind(request.headers(), trusted)
    }

    /// The same, if it is a trusted proxy, as what it says about its client.
    fn behind(self, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let is_trusted = match self.address {
            Address::Ip(ip) => trusted.contains(ip),
            Address::Unix => trusted.contains_unix(),
            Address::Unknown => false,
        };
        if !is_trusted {
            return self;
        }
        let walked = walk(said(headers), trusted);
        Self {
            address: walked.ip.map_or(self.address, Address::Ip),
            secure: self.secure || proto(headers).or(walked.secure).unwrap_or(false),
        }
    }
}

/// What trusted proxies say, oldest hop first. The header that nearly every proxy writes comes first: one that a proxy does not write
/// is passed on as the client sent it.
fn said(headers: &HeaderMap) -> Vec<Hop> {
    let hops = |name, read: fn(&[u8]) -> Vec<Hop>| -> Vec<Hop> { lines(headers, name).flat_map(read).collect() };
    if headers.contains_key(&X_FORWARDED_FOR) {
        hops(&X_FORWARDED_FOR, forwarded::addresses)
    } else if headers.contains_key(&FORWARDED) {
        hops(&FORWARDED, forwarded::elements)
    } else {
        hops(&X_REAL_IP, forwarded::addresses)
    }
}

fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).map(|value| value.as_bytes())
}

/// The client as the nearest proxies say: from the right, through trusted proxies, to the first hop that is none.
fn walk(hops: Vec<Hop>, trusted: &TrustedProxies) -> Hop {
    let mut client = Hop::default();
    for hop in hops.into_iter().rev() {
        let Some(ip) = hop.ip else { break };
        client = hop;
        if !trusted.contains(ip) {
            break;
        }
    }
    client
}

/// What the nearest proxy says its client speaks: the last word is its own.
fn proto(headers: &HeaderMap) -> Option<bool> {
    let last = lines(headers, &X_FORWARDED_PROTO).last()?;
    Some(forwarded::is_secure(last.rsplit(|byte| *byte == b',').next()?.trim_ascii()))
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
