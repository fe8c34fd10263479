//! How a connection ended: one closed list for handlers, the log and the API.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use crate::protocol::{ChannelName, CloseCode, SocketId};

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseCause {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl CloseCause {
            /// Every cause, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable name, as in logs and APIs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

causes! {
    /// The client sent a close frame.
    ClientClosed = "client_closed",
    /// The TCP connection went away without a word.
    Gone = "gone",
    /// A ping was not answered in time.
    Idle = "idle",
    /// The client did not read what it was owed.
    SlowConsumer = "slow_consumer",
    /// The client broke RFC 6455, sent binary, or sent too much at once.
    ProtocolError = "protocol_error",
    /// A handler refused the connection after it was open, or it did not authorise itself in time.
    Refused = "refused",
    /// The application terminated it.
    Kicked = "kicked",
    /// A handler panicked or took too long.
    HandlerFailed = "handler_failed",
    /// The broker is stopping.
    Shutdown = "shutdown",
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything that is known about a connection at its end; what [`super::Handler::on_close`] gets.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Why.
    pub cause: CloseCause,
    /// The close code: the client's when it closed, ours when we did, `None` when the connection just went away.
    pub code: Option<CloseCode>,
    /// The connection.
    pub socket_id: SocketId,
    /// The application's id.
    pub app_id: Arc<str>,
    /// Where it came from.
    pub remote_ip: Option<IpAddr>,
    /// What it was subscribed to when it ended.
    pub channels: Vec<ChannelName>,
    /// How long it was open.
    pub connected_for: Duration,
    /// Bytes of text messages received.
    pub bytes_in: u64,
    /// Bytes handed to the socket, frame headers included.
    pub bytes_out: u64,
}
