//! Close codes and what a client does on each (protocol.md 1.5, 1.6).

use std::fmt;

/// A WebSocket close code as this broker sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

/// What pusher-js does after a close with a code of this class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Stays away (4000–4099, and 4300 and above).
    Never,
    /// Comes back after about a second.
    AfterBackoff,
    /// Comes back within milliseconds (4200–4299).
    AtOnce,
}

impl CloseCode {
    /// Normal closure (RFC 6455 7.4.1).
    pub const NORMAL: Self = Self(1000);
    /// A frame broke RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A binary message: only text is spoken here.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// Text that is not UTF-8.
    pub const INVALID_UTF8: Self = Self(1007);
    /// A message above the limit.
    pub const TOO_LARGE: Self = Self(1009);
    /// The application takes TLS connections only.
    pub const TLS_ONLY: Self = Self(4000);
    /// No application has this key.
    pub const UNKNOWN_APP: Self = Self(4001);
    /// The application is switched off.
    pub const APP_DISABLED: Self = Self(4003);
    /// The application has all the connections it may have.
    pub const OVER_QUOTA: Self = Self(4004);
    /// The path is none of ours.
    pub const PATH_NOT_FOUND: Self = Self(4005);
    /// The protocol version is not spoken here.
    pub const UNSUPPORTED_PROTOCOL: Self = Self(4007);
    /// Strict mode: the client named no protocol version.
    pub const NO_PROTOCOL: Self = Self(4008);
    /// Refused: origin, token, or terminated by the application.
    pub const UNAUTHORIZED: Self = Self(4009);
    /// The node is full, is leaving, or a handler failed; come back later.
    pub const OVER_CAPACITY: Self = Self(4100);
    /// The node is leaving: reconnect to another one at once.
    pub const RECONNECT: Self = Self(4200);
    /// A ping was not answered.
    pub const PONG_TIMEOUT: Self = Self(4201);
    /// In-band only: a request that cannot be understood. Never a close code, pusher-js would stay away.
    pub const GENERIC: Self = Self(4300);
    /// In-band only: a client event was refused.
    pub const CLIENT_EVENT_REFUSED: Self = Self(4301);
    /// In-band only: the watchlist was cut.
    pub const WATCHLIST_LIMIT: Self = Self(4302);

    /// A code of an application's own choice. `None` unless it may stand in a close frame (1000–1014 without the reserved
    /// ones, 3000–4999).
    pub fn new(code: u16) -> Option<Self> {
        is_sendable(code).then_some(Self(code))
    }

    /// The number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// What pusher-js does when it is closed with this code.
    pub fn reconnect(self) -> Reconnect {
        match self.0 {
            4000..=4099 | 4300.. => Reconnect::Never,
            4200..=4299 => Reconnect::AtOnce,
            _ => Reconnect::AfterBackoff,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a code may stand in a close frame at all (RFC 6455 7.4, and the registry it founded).
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reaction_of_pusher_js_to_each_class() {
        assert_eq!(CloseCode::UNKNOWN_APP.reconnect(), Reconnect::Never);
        assert_eq!(CloseCode::GENERIC.reconnect(), Reconnect::Never);
        assert_eq!(CloseCode::OVER_CAPACITY.reconnect(), Reconnect::AfterBackoff);
        assert_eq!(CloseCode::TOO_LARGE.reconnect(), Reconnect::AfterBackoff);
        assert_eq!(CloseCode::RECONNECT.reconnect(), Reconnect::AtOnce);
    }

    #[test]
    fn reserved_codes_cannot_be_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1014, 3000, 4999] {
            assert!(CloseCode::new(code).is_some(), "{code}");
        }
    }
}
