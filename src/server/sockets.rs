//! Everything that is listened on: the port, the second one without TLS, the unix socket.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::unix::net::UnixListener,
    path::Path,
};

use socket2::SockRef;

use super::{
    ServerError, socket,
    unix_socket::{self, SocketFile},
};
use crate::config::{ServerSettings, Settings};

/// Sockets that are bound, and not served yet.
pub(super) struct Sockets {
    /// On `server.port`: more than one when the host name has several addresses.
    pub(super) main: Vec<TcpListener>,
    /// On `tls.plain_bind`.
    pub(super) plain: Option<TcpListener>,
    /// On `server.unix_socket`.
    pub(super) unix: Option<UnixListener>,
    /// Its path, which goes with this value.
    pub(super) socket_file: Option<SocketFile>,
}

impl Sockets {
    /// Binds what is configured.
    ///
    /// # Errors
    /// [`ServerError::Bind`] or [`ServerError::UnixSocket`], with the address.
    pub(super) fn bind(settings: &Settings) -> Result<Self, ServerError> {
        let server = &settings.server;
        let refused = |host: &str, port, source| ServerError::Bind { host: host.to_owned(), port, source };
        let main = bind_all(&server.host, server.port, server).map_err(|source| refused(&server.host, server.port, source))?;
        let plain = settings
            .tls
            .plain_address()
            .map(|address| listen(address, server).map_err(|source| refused(&address.ip().to_string(), address.port(), source)));
        let unix = (!server.unix_socket.is_empty()).then(|| {
            let refused = |source| ServerError::UnixSocket { path: server.unix_socket.clone(), source };
            unix_socket::listen(Path::new(&server.unix_socket), server.backlog).map_err(refused)
        });
        let (unix, socket_file) = unix.transpose()?.unzip();
        Ok(Self { main, plain: plain.transpose()?, unix, socket_file })
    }

    /// The addresses of `server.port`.
    pub(super) fn addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.main.iter().map(TcpListener::local_addr).collect()
    }

    /// Says where clients can connect.
    pub(super) fn say(&self, tls: bool) -> io::Result<()> {
        for addr in self.addrs()? {
            tracing::info!(server.host = %addr.ip(), server.port = addr.port(), server.tls = tls, "Listening on {addr}");
        }
        if let Some(plain) = &self.plain {
            let addr = plain.local_addr()?;
            tracing::info!(server.host = %addr.ip(), server.port = addr.port(), server.tls = false, "Listening on {addr} without TLS");
        }
        if let Some(file) = &self.socket_file {
            let path = file.path();
            tracing::info!(server.unix_socket = %path.display(), "Listening on unix:{}", path.display());
        }
        Ok(())
    }
}

/// Every address of a host; one that can be bound is enough, as on a machine without IPv6.
fn bind_all(host: &str, port: u16, settings: &ServerSettings) -> io::Result<Vec<TcpListener>> {
    let (mut bound, mut failed) = (Vec::new(), None);
    for address in (host, port).to_socket_addrs()? {
        match listen(address, settings) {
            Ok(listener) => bound.push(listener),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if bound.is_empty() => Err(error),
        None if bound.is_empty() => Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address")),
        _ => Ok(bound),
    }
}

fn listen(address: SocketAddr, settings: &ServerSettings) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    socket::set_options(&listener, settings.tcp_user_timeout)?;
    // The standard library's own is too short for everybody who comes back at once.
    SockRef::from(&listener).listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    Ok(listener)
}
