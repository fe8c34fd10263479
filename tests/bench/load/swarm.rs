//! The generator's sockets: one epoll, one thread, one read per readiness, one buffer for all. WebSocket connections and keep-alive HTTP
//! connections ("lanes") side by side.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    ops::Range,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    app::App,
    frames::{CLOSE, Frame, PONG, masked, take},
    lane::Lane,
    sink::Sink,
};

/// What is rare, to be looked at between two polls.
#[derive(Debug)]
pub(crate) enum Signal {
    Open {
        socket: usize,
        id: String,
    },
    Text {
        socket: usize,
        text: String,
    },
    /// Its close frame.
    Closed {
        socket: usize,
    },
    Gone {
        socket: usize,
    },
}

#[derive(PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Opening,
    Open,
    Closing,
}

struct Client {
    stream: TcpStream,
    stage: Stage,
    /// The beginning of a frame whose rest has not come yet.
    rest: Vec<u8>,
}

const LANE: u64 = 1 << 32;
/// Each connection has a port of its own at a source address of ours, in turn: what lingers in TIME_WAIT must not run out of ports, and
/// looking for a free one among so many that linger is work.
const PORTS: Range<usize> = 10_000..60_000;
const SOURCES: usize = 240;

pub(crate) struct Swarm {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    pub(crate) lanes: Vec<Lane>,
    buffer: Vec<u8>,
    signals: Vec<Signal>,
    started: Instant,
    /// Which source address and port is the next.
    place: usize,
    ws: SocketAddr,
    http: SocketAddr,
    upgrade: String,
}

impl Swarm {
    pub(crate) fn new(ws: SocketAddr, http: SocketAddr, app: &App) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
            clients: Vec::new(),
            free: Vec::new(),
            lanes: Vec::new(),
            buffer: vec![0; 256 * 1024],
            signals: Vec::new(),
            started: Instant::now(),
            // Another one, or this program a minute ago, was elsewhere.
            place: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as usize * 97),
            ws,
            http,
            upgrade: app.upgrade(),
        })
    }

    /// Nanoseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Begins a connection; [`Signal::Open`] follows. `receive_buffer` makes it one that can be stuck quickly.
    pub(crate) fn open(&mut self, receive_buffer: Option<usize>) -> io::Result<usize> {
        let socket = Socket::new(Domain::for_address(self.ws), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        socket.set_tcp_nodelay(true)?;
        if self.ws.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            self.bind(&socket)?;
        }
        let connected = match socket.connect(&self.ws.into()) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => false,
            Err(error) => return Err(error),
        };
        let mut client = Client { stream: socket.into(), stage: Stage::Connecting, rest: Vec::new() };
        let index = self.free.pop().unwrap_or(self.clients.len());
        let mut flags = epoll::EventFlags::IN;
        if connected {
            client.stream.write_all(self.upgrade.as_bytes())?;
            client.stage = Stage::Upgrading;
        } else {
            flags |= epoll::EventFlags::OUT;
        }
        epoll::add(&self.epoll, &client.stream, epoll::EventData::new_u64(index as u64), flags)?;
        if index == self.clients.len() {
            self.clients.push(Some(client));
        } else {
            self.clients[index] = Some(client);
        }
        Ok(index)
    }

    /// The next place that nobody has.
    fn bind(&mut self, socket: &Socket) -> io::Result<()> {
        for _ in 0..PORTS.len() {
            self.place += 1;
            let source = Ipv4Addr::new(127, 0, 1, 1 + (self.place / PORTS.len() % SOURCES) as u8);
            let port = PORTS.start + self.place % PORTS.len();
            match socket.bind(&SocketAddr::from((source, port as u16)).into()) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                done => return done,
            }
        }
        Err(io::Error::new(ErrorKind::AddrInUse, "there is no free port for another connection"))
    }

    /// Opens `count` keep-alive connections to the HTTP API.
    pub(crate) fn open_lanes(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let lane = Lane::open(self.http)?;
            let data = epoll::EventData::new_u64(LANE | self.lanes.len() as u64);
            epoll::add(&self.epoll, &lane.stream, data, epoll::EventFlags::IN)?;
            self.lanes.push(lane);
        }
        Ok(())
    }

    /// Writes a whole frame. A client writes little: if the kernel takes no more, the server has stopped reading, and we wait.
    pub(crate) fn send(&mut self, socket: usize, frame: &[u8]) {
        let Some(client) = &mut self.clients[socket] else { return };
        write_all(&mut client.stream, frame);
    }

    /// Says goodbye: [`Signal::Closed`] and [`Signal::Gone`] follow.
    pub(crate) fn close(&mut self, socket: usize) {
        self.send(socket, &masked(CLOSE, &1000_u16.to_be_bytes()));
        if let Some(client) = &mut self.clients[socket] {
            client.stage = Stage::Closing;
        }
    }

    /// Ends the TCP connection, without a word.
    pub(crate) fn drop(&mut self, socket: usize) {
        if self.clients[socket].take().is_some() {
            self.free.push(socket);
        }
    }

    /// Stops reading from it.
    pub(crate) fn ignore(&self, socket: usize) -> io::Result<()> {
        let Some(client) = &self.clients[socket] else { return Ok(()) };
        epoll::delete(&self.epoll, &client.stream)?;
        Ok(())
    }

    pub(crate) fn local_address(&self, socket: usize) -> Option<SocketAddr> {
        self.clients[socket].as_ref()?.stream.local_addr().ok()
    }

    pub(crate) fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }

    /// Waits for readiness at most so long, and reads what there is.
    pub(crate) fn poll(&mut self, timeout: Duration, sink: &mut impl Sink) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let token = event.data.u64();
            if token & LANE == 0 {
                self.read(token as usize, sink)?;
            } else {
                let lane = (token & !LANE) as usize;
                let status = self.lanes[lane].read(&mut self.buffer);
                if self.lanes[lane].is_over(&status) {
                    self.lanes[lane] = Lane::open(self.http)?;
                    epoll::add(&self.epoll, &self.lanes[lane].stream, event.data, epoll::EventFlags::IN)?;
                } else if let Some(status) = status? {
                    if !(200..300).contains(&status) {
                        let body = &self.lanes[lane].body;
                        return Err(io::Error::other(format!("the server refused a request with {status}: {}", body.trim())));
                    }
                    sink.response(lane, self.now());
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn read(&mut self, index: usize, sink: &mut impl Sink) -> io::Result<()> {
        let Some(client) = &mut self.clients[index] else { return Ok(()) };
        if client.stage == Stage::Connecting {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &client.stream, data, epoll::EventFlags::IN)?;
            client.stage = Stage::Upgrading;
            return client.stream.write_all(self.upgrade.as_bytes());
        }
        let count = match client.stream.read(&mut self.buffer) {
            Ok(0) => return self.gone(index),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(_) => return self.gone(index),
        };
        let now = self.started.elapsed().as_nanos() as u64;
        let joined;
        let mut bytes = if client.rest.is_empty() {
            &self.buffer[..count]
        } else {
            client.rest.extend_from_slice(&self.buffer[..count]);
            joined = std::mem::take(&mut client.rest);
            &joined
        };
        if client.stage == Stage::Upgrading {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                client.rest = bytes.to_vec();
                return Ok(());
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let answer = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
                return Err(io::Error::other(format!("the server does not upgrade to WebSocket: {}", answer.trim())));
            }
            bytes = &bytes[end + 4..];
            client.stage = Stage::Opening;
        }
        while let Some((frame, length)) = take(bytes) {
            match frame {
                Frame::Text(text) if client.stage == Stage::Opening => {
                    let text = String::from_utf8_lossy(text);
                    let Some(id) = socket_id(&text) else {
                        return Err(io::Error::other(format!("the server refused a connection: {text}")));
                    };
                    client.stage = Stage::Open;
                    self.signals.push(Signal::Open { socket: index, id });
                }
                Frame::Text(text) => {
                    if !sink.text(index, text, now) {
                        self.signals.push(Signal::Text { socket: index, text: String::from_utf8_lossy(text).into_owned() });
                    }
                }
                Frame::Ping(payload) => write_all(&mut client.stream, &masked(PONG, payload)),
                Frame::Close(code) => {
                    if client.stage != Stage::Closing {
                        // It was the server that began: it may have gone already.
                        let _ = client.stream.write(&masked(CLOSE, &code.to_be_bytes()));
                    }
                    self.signals.push(Signal::Closed { socket: index });
                }
                Frame::Other => {}
            }
            bytes = &bytes[length..];
        }
        if !bytes.is_empty() {
            client.rest = bytes.to_vec();
        }
        Ok(())
    }

    fn gone(&mut self, index: usize) -> io::Result<()> {
        self.drop(index);
        self.signals.push(Signal::Gone { socket: index });
        Ok(())
    }
}

/// Of `pusher:connection_established`, however it is spaced and quoted.
fn socket_id(text: &str) -> Option<String> {
    let rest = text.contains("pusher:connection_established").then(|| text.split_once("socket_id"))??.1;
    let id: String = rest.trim_start_matches(['\\', '"', ':', ' ']).chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (!id.is_empty()).then_some(id)
}

/// Waits when the kernel takes no more: the server has stopped reading.
pub(crate) fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "the server does not read");
                std::thread::yield_now();
            }
            // Whoever polls it next learns that it is gone.
            Err(_) => return,
        }
    }
}
