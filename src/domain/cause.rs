//! How a connection ended: one closed list for handlers, the log and the API.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::words::words;
use crate::protocol::{ChannelName, CloseCode, SocketId};

words! {
    /// Why a connection, or a lock, ended.
    #[non_exhaustive]
    CloseCause {
        /// The client unsubscribed.
        Unsubscribed = "unsubscribed",
        /// The application's handler released it.
        Released = "released",
        /// An operator released it, by fence.
        ForceReleased = "force_released",
        /// The client sent a close frame.
        ClientClosed = "client_closed",
        /// The TCP connection went away without a word.
        Gone = "gone",
        /// A ping was not answered in time.
        Idle = "idle",
        /// The client did not read what it was owed.
        SlowConsumer = "slow_consumer",
        /// The client broke the protocol.
        ProtocolError = "protocol_error",
        /// A handler refused the connection.
        Refused = "refused",
        /// The application terminated it.
        Kicked = "kicked",
        /// A handler panicked or took too long.
        HandlerFailed = "handler_failed",
        /// Somebody else took it.
        TakenOver = "taken_over",
        /// The broker stopped.
        Shutdown = "shutdown",
        /// The broker started anew before anybody noticed that it had died.
        Superseded = "superseded",
        /// The broker died.
        NodeDeath = "node_death",
        /// The table and the node's memory disagreed.
        Reconciled = "reconciled",
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
