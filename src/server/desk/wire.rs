//! A wire that can be cut. A page cannot leave without a word: whatever it does, its browser says goodbye for it. So the sockets of
//! the desk run through here, byte for byte, and the desk can reset one of them, or make it fall silent as a pulled plug does.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    rt, web,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future, stream};
use parking_lot::Mutex;
use serde::Deserialize;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::DeskError;
use crate::server::serving::Reached;

/// What is read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks that may wait for the browser; then the broker is not read, and knows what to do about that.
const CHUNKS: usize = 4;
/// How long the broker, on the same machine, may take to answer a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Largest head of an answer to a handshake.
const MAX_HEAD: usize = 8 * 1024;
/// Longest name of a wire.
const MAX_NAME: usize = 64;

/// How a wire ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cut {
    /// The connection is reset: the broker's kernel hears of it at once.
    Reset,
    /// Nothing passes any more, and nobody is told: the broker has to notice by itself.
    Silence,
}

/// The wires there are, by the names their pages gave them. Cloning is a reference count.
#[derive(Clone, Debug, Default)]
pub(super) struct Wires(Arc<Mutex<HashMap<String, oneshot::Sender<Cut>>>>);

impl Wires {
    /// Cuts a wire. False if there is none of this name.
    pub(super) fn cut(&self, name: &str, how: Cut) -> bool {
        self.0.lock().remove(name).is_some_and(|wire| wire.send(how).is_ok())
    }

    /// A later wire of the same name takes the place of an earlier one, which goes on uncut.
    fn add(&self, name: &str) -> oneshot::Receiver<Cut> {
        let (cut, is_cut) = oneshot::channel();
        let mut wires = self.0.lock();
        wires.retain(|_, wire| !wire.is_closed());
        wires.insert(name.to_owned(), cut);
        is_cut
    }
}

/// `GET /desk/wire/{name}/app/{key}`: the same handshake once more, with the broker.
pub(super) async fn connect(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    wires: web::Data<Wires>,
) -> Result<HttpResponse, DeskError> {
    let (name, key) = path.into_inner();
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if name.len() > MAX_NAME || !is_plain(&key) {
        return Err(DeskError::NoWire);
    }
    let (broker, accept, rest) =
        timeout(HANDSHAKE, shake_hands(&request, &key)).await.map_err(io::Error::from).flatten().map_err(DeskError::Wire)?;

    let (down, browser) = mpsc::channel(CHUNKS);
    if !rest.is_empty() {
        // There is room for one: nobody has sent anything yet.
        let _ = down.try_send(rest);
    }
    let wire = Wire { broker, payload, down };
    rt::spawn(wire.run(wires.add(&name)));
    let body = stream::unfold(browser, async |mut browser: mpsc::Receiver<Bytes>| Some((browser.recv().await?, browser)));
    Ok(HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS)
        .upgrade("websocket")
        .insert_header((header::SEC_WEBSOCKET_ACCEPT, accept))
        .streaming(body.map(Ok::<_, io::Error>)))
}

/// The broker's end, its `Sec-WebSocket-Accept`, and what it has said already.
async fn shake_hands(request: &HttpRequest, key: &str) -> io::Result<(TcpStream, String, Bytes)> {
    let mut broker = TcpStream::connect(own_address(request).ok_or(io::ErrorKind::AddrNotAvailable)?).await?;
    broker.set_nodelay(true)?;
    broker.write_all(&handshake(request, key)).await?;
    let (head, rest) = answer(&mut broker).await?;
    let accept = accepted(&head).ok_or(io::ErrorKind::ConnectionRefused)?;
    Ok((broker, accept, rest))
}

/// Where this server listens, as the browser has reached it.
fn own_address(request: &HttpRequest) -> Option<SocketAddr> {
    request.conn_data::<Reached>().and_then(|reached| reached.0)
}

/// The request as it came, but for its path.
fn handshake(request: &HttpRequest, key: &str) -> Vec<u8> {
    let mut head = format!("GET /app/{key}?{} HTTP/1.1\r\n", request.query_string()).into_bytes();
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The head of the broker's answer, and what came behind it.
async fn answer(broker: &mut TcpStream) -> io::Result<(Bytes, Bytes)> {
    let mut read = BytesMut::with_capacity(CHUNK);
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = read.split_to(end + 4).freeze();
            return Ok((head, read.freeze()));
        }
        if read.len() > MAX_HEAD || broker.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The broker's `Sec-WebSocket-Accept`, if it switched protocols.
fn accepted(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    lines.next().filter(|status| status.split(' ').nth(1) == Some("101"))?;
    let (_, accept) = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"))?;
    Some(accept.trim().to_owned())
}

/// Two ends of a connection that know nothing of one another.
struct Wire {
    broker: TcpStream,
    payload: web::Payload,
    down: mpsc::Sender<Bytes>,
}

impl Wire {
    async fn run(self, is_cut: oneshot::Receiver<Cut>) {
        let Self { mut broker, mut payload, down } = self;
        // A wire that a later one of its name has replaced is never cut.
        let cut = async {
            match is_cut.await {
                Ok(how) => how,
                Err(_) => future::pending().await,
            }
        };
        let (mut from_broker, mut to_broker) = broker.split();
        let upstream = async {
            while let Some(Ok(bytes)) = payload.next().await {
                if to_broker.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        let downstream = async {
            while let Some(bytes) = next_chunk(&mut from_broker).await {
                if down.send(bytes).await.is_err() {
                    return;
                }
            }
        };
        let how = tokio::select! {
            how = cut => Some(how),
            () = upstream => None,
            () = downstream => None,
            () = down.closed() => None,
        };
        // The browser's end goes down here, without a close frame.
        drop((payload, down));
        match how {
            None => {}
            // A socket that does not linger is reset when it is dropped.
            Some(Cut::Reset) => drop(SockRef::from(&broker).set_linger(Some(Duration::ZERO))),
            Some(Cut::Silence) => while next_chunk(&mut broker).await.is_some() {},
        }
    }
}

async fn next_chunk(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Bytes> {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    match from.read_buf(&mut chunk).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(chunk.freeze()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_switches_protocols_is_passed_on() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nSec-WebSocket-Accept: abc=\r\n\r\n";
        assert_eq!(accepted(head), Some("abc=".to_owned()));
        assert_eq!(accepted(b"HTTP/1.1 426 Upgrade Required\r\nsec-websocket-accept: abc=\r\n\r\n"), None);
        assert_eq!(accepted(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), None);
    }

    #[actix_web::test]
    async fn a_wire_is_cut_once_by_its_name() {
        let wires = Wires::default();
        let (first, second) = (wires.add("a"), wires.add("a"));
        assert!(first.await.is_err(), "replaced");
        assert!(wires.cut("a", Cut::Silence));
        assert_eq!(second.await, Ok(Cut::Silence));
        assert!(!wires.cut("a", Cut::Reset));
        drop(wires.add("b"));
        assert!(!wires.cut("b", Cut::Reset), "a wire that has ended");
    }
}
