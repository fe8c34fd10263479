//! What is set on every accepted TCP connection, and how many there may be.

use std::time::Duration;

use actix_web::rt::net::TcpStream;
use socket2::SockRef;

/// The kernel takes no more than this ahead of the peer, so that the outbox limit is the real limit of what waits.
const UNSENT_LOW_WATER: u32 = 16 * 1024;
/// Descriptors that are not for connections: listeners, logs, epoll, HTTP clients, and those who are being refused. At least
/// this many, and a sixteenth of all.
const RESERVED_FILES: u64 = 64;

/// Small frames leave at once, a peer that acknowledges nothing is given up after `user_timeout`, even one that a blocked write
/// waits for.
pub(super) fn set_options(stream: &TcpStream, user_timeout: Duration) {
    let socket = SockRef::from(stream);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(user_timeout)))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_LOW_WATER));
    if let Err(error) = set {
        // A peer that is gone already is the usual reason.
        tracing::debug!(%error, "Cannot set the options of a connection");
    }
}

/// Raises the limit of open files as far as it goes; gives how many connections it leaves room for.
pub(super) fn raise_open_files() -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            tracing::info!(open_files = limit, "The limit of open files is {limit}");
            limit
        }
        Err(error) => {
            tracing::warn!(%error, "Cannot raise the limit of open files: {error}");
            rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX)
        }
    };
    let reserved = RESERVED_FILES.max(limit / 16);
    usize::try_from(limit.saturating_sub(reserved)).unwrap_or(usize::MAX)
}
