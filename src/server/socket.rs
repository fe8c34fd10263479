//! What is set on every accepted TCP connection, and how many there may be.

use std::{io, net::TcpListener, time::Duration};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::{TcpStream, UnixStream};
use socket2::SockRef;

use crate::connection::Socket;

/// The kernel takes no more than this ahead of the peer, so that the outbox limit is the real limit of what waits.
const UNSENT_LOW_WATER: u32 = 16 * 1024;
/// Descriptors that are not for connections: listeners, logs, epoll, HTTP clients, and those who are being refused. At least
/// this many, and a sixteenth of all.
const RESERVED_FILES: u64 = 64;

/// Small frames leave at once, a peer that acknowledges nothing is given up after `user_timeout`, even one that a blocked write
/// waits for.
///
/// They are set on the listener: what it accepts inherits them, and costs no call of its own.
pub(super) fn set_options(listener: &TcpListener, user_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(user_timeout))?;
    socket.set_tcp_notsent_lowat(UNSENT_LOW_WATER)
}

fn reset_on_close(socket: &SockRef<'_>) {
    if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "Cannot give up what a peer has not taken: {error}");
    }
}

impl Socket for TcpStream {
    fn forget_unsent(&self) {
        reset_on_close(&SockRef::from(self));
    }
}

impl Socket for TlsStream<TcpStream> {
    fn ends_by_itself(&self) -> bool {
        false
    }

    fn forget_unsent(&self) {
        reset_on_close(&SockRef::from(self.get_ref().0));
    }
}

/// The kernel keeps nothing of a unix socket that is closed.
impl Socket for UnixStream {
    fn forget_unsent(&self) {}
}

#[cfg(test)]
impl Socket for tokio::io::DuplexStream {
    fn forget_unsent(&self) {}
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
    room_for_connections(limit)
}

/// How many connections so many open files leave room for.
pub(crate) fn room_for_connections(limit: u64) -> usize {
    let reserved = RESERVED_FILES.max(limit / 16);
    usize::try_from(limit.saturating_sub(reserved)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{self, TcpListener};

    use super::*;

    #[test]
    fn what_is_accepted_has_the_options_of_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_options(&listener, Duration::from_secs(17)).unwrap();
        let _client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(17)));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_LOW_WATER);
    }
}
