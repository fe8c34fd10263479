//! What is served on each socket: the same application, over TCP, TLS or a unix socket.
//!
//! This is what actix-web's `HttpServer` does, with one difference: TLS offers HTTP/1.1 alone. `HttpServer` offers HTTP/2 as well and
//! prefers it, and there a WebSocket cannot be opened.

use std::{
    fmt,
    future::ready,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    time::Duration,
};

use actix_http::{ConnectionType, HttpServiceBuilder, Request, Response, StatusCode, body::MessageBody};
use actix_server::{Server, ServerBuilder};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config};
use actix_tls::accept::{
    TlsError, max_concurrent_tls_connect,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    body::BoxBody,
    dev::AppConfig,
    rt::net::{TcpStream, UnixStream},
};
use rustls::ServerConfig;

use super::{
    patience::{Patient, Served, Visit},
    sockets::Sockets,
};
use crate::{
    config::ServerSettings,
    connection::{Socket, TlsPeer, UnixPeer},
};

/// actix-http gives a write buffer that a burst has grown back only in part: keep it small (design, section 5.2).
const WRITE_BUFFER: usize = 16 * 1024;
/// How long an idle HTTP client may keep its connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes of one worker at a time. More wait in the backlog: those that have begun should be done before their time is over.
const MAX_HANDSHAKES: usize = 4_096;

/// The address of ours that a peer has connected to, if it is one without TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached(pub(super) Option<SocketAddr>);

/// Serves the application that `factory` makes for each worker.
pub(super) fn serve<F, I, S, B>(settings: &ServerSettings, sockets: Sockets, tls: Option<&ServerConfig>, factory: F) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error>,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>>,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    max_concurrent_tls_connect(MAX_HANDSHAKES);
    let app = move || {
        let app = factory().into_factory().map_err(|error| error.into().error_response());
        apply_fn_factory(map_config(app, |()| AppConfig::default()), |request: Request, app: &_| {
            let serving = request.conn_data::<Rc<Visit>>().map(Visit::serve);
            let upgrades = request.head().upgrade();
            let answer = Service::call(app, request);
            async move {
                let mut answer: Response<B> = answer.await?.into();
                // Whoever offers another protocol is not listened to behind its answer: actix-http hangs up, and only this says so.
                if upgrades && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    answer.head_mut().set_connection_type(ConnectionType::Close);
                }
                Ok(answer.map_body(|_, body| Served::new(body, serving)))
            }
        })
    };
    let plain = |bound: Option<SocketAddr>| {
        let app = app.clone();
        move || {
            let service = http(move |stream: &TcpStream, data| {
                data.insert(Reached(bound.or_else(|| stream.local_addr().ok())));
            });
            let with_address = |stream: TcpStream| {
                let address = stream.peer_addr().ok();
                ready(Ok((Patient::new(stream, KEEP_ALIVE), address)))
            };
            fn_service(with_address).and_then(service.h1(app()))
        }
    };
    let mut server = ServerBuilder::new()
        .disable_signals()
        // The limit is the broker's, which can say so; actix-server would just stop accepting, at 25,600 a worker.
        .max_concurrent_connections(usize::MAX >> 1);
    if settings.workers > 0 {
        server = server.workers(settings.workers);
    }
    for socket in sockets.main {
        server = match tls {
            None => {
                let plain = plain(own_address(&socket));
                server.listen("plain", socket, plain)?
            }
            Some(config) => {
                let (app, config) = (app.clone(), config.clone());
                server.listen("tls", socket, move || {
                    let service = http(|_: &TlsStream<TcpStream>, data| {
                        data.insert(TlsPeer);
                    });
                    let mut acceptor = Acceptor::new(config.clone());
                    acceptor.set_handshake_timeout(HANDSHAKE_TIMEOUT);
                    let with_address = |stream: TlsStream<TcpStream>| {
                        let address = stream.get_ref().0.peer_addr().ok();
                        (Patient::new(stream, KEEP_ALIVE), address)
                    };
                    let accepted = acceptor.map_err(TlsError::into_service_error).map(with_address);
                    accepted.and_then(service.h1(app()).map_err(TlsError::Service))
                })?
            }
        };
    }
    if let Some(socket) = sockets.plain {
        let plain = plain(own_address(&socket));
        server = server.listen("plain", socket, plain)?;
    }
    if let Some(socket) = sockets.unix {
        server = server.listen_uds("unix", socket, move || {
            let service = http(|_: &UnixStream, data| {
                data.insert(UnixPeer);
            });
            fn_service(|stream: UnixStream| ready(Ok((Patient::new(stream, KEEP_ALIVE), None)))).and_then(service.h1(app()))
        })?;
    }
    Ok(server.run())
}

/// Where peers of a listener reach us, unless that is to be asked of each connection.
fn own_address(listener: &TcpListener) -> Option<SocketAddr> {
    listener.local_addr().ok().filter(|address| !address.ip().is_unspecified())
}

/// HTTP/1.1 as we want it on every socket.
fn http<T, S>(on_connect: impl Fn(&T, &mut actix_http::Extensions) + 'static) -> HttpServiceBuilder<Patient<T>, S>
where
    T: Socket + 'static,
    S: ServiceFactory<Request, Config = ()>,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::InitError: fmt::Debug,
    <S::Service as Service<Request>>::Future: 'static,
{
    HttpServiceBuilder::default()
        .keep_alive(KEEP_ALIVE)
        // Our own sockets say goodbye before their body ends: nothing is left to linger for.
        .client_disconnect_timeout(Duration::ZERO)
        // A half-closed peer would keep its socket (actix-web #3748).
        .h1_allow_half_closed(false)
        .h1_write_buffer_size(WRITE_BUFFER)
        .on_connect_ext(move |connection: &Patient<T>, data| {
            data.insert(connection.visit());
            data.insert(connection.handoff());
            if let Some(stream) = connection.get_ref() {
                on_connect(stream, data);
            }
        })
}
