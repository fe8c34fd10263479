//! The floor: a bare loop on epoll that does what the kernel has to do for a scenario, and next to nothing else. It speaks just enough of
//! the protocol that the same generator can drive it: no signatures, no JSON, no limits, answers made beforehand.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
    net::{SocketFlags, accept_with},
};

use crate::frames::{CLOSE, TEXT, unmasked};

const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const LISTENER: u64 = u64::MAX;

struct Peer {
    stream: TcpStream,
    rest: Vec<u8>,
    out: Vec<u8>,
    open: bool,
    channel: Option<Vec<u8>>,
    /// On a presence channel.
    user: Vec<u8>,
}

struct Loop {
    epoll: OwnedFd,
    coalesce: bool,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Those that have something in `out`.
    waiting: Vec<usize>,
    channels: HashMap<Vec<u8>, Vec<usize>>,
    established: Vec<u8>,
    succeeded: Vec<u8>,
}

/// Serves until it is killed.
pub(crate) fn serve(mode: &str, port: u16) -> ! {
    crate::proc::raise_file_limit();
    // Whatever happens to the bench, this process does not outlive it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    // A backlog as the broker's: std's 128 loses connects of a burst, which then wait a second.
    rustix::net::listen(&listener, 4096).expect("a larger backlog");
    listener.set_nonblocking(true).expect("non-blocking");
    // Those that it accepts have it from it.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true).expect("no delay");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN).expect("epoll takes the listener");
    let hello = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1234.5678\",\"activity_timeout\":120}"}"#;
    let mut bare = Loop {
        epoll,
        coalesce: mode == "coalesce",
        peers: Vec::new(),
        free: Vec::new(),
        waiting: Vec::new(),
        channels: HashMap::new(),
        established: [UPGRADED.as_bytes(), &unmasked(TEXT, hello.as_bytes())].concat(),
        succeeded: unmasked(TEXT, br#"{"event":"pusher_internal:subscription_succeeded","channel":"bench","data":"{}"}"#),
    };
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        events.clear();
        let soon = Timespec { tv_sec: 0, tv_nsec: 200_000 };
        let timeout = (!bare.waiting.is_empty()).then_some(&soon);
        let _ = epoll::wait(&bare.epoll, rustix::buffer::spare_capacity(&mut events), timeout);
        for event in &events {
            match event.data.u64() {
                LISTENER => bare.accept(&listener),
                at => bare.read(at as usize, &mut buffer),
            }
        }
        bare.flush();
    }
}

impl Loop {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let stream = TcpStream::from(socket);
            let at = self.free.pop().unwrap_or(self.peers.len());
            let _ = epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN);
            let peer = Some(Peer { stream, rest: Vec::new(), out: Vec::new(), open: false, channel: None, user: Vec::new() });
            if at == self.peers.len() {
                self.peers.push(peer);
            } else {
                self.peers[at] = peer;
            }
        }
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        let Some(peer) = &mut self.peers[at] else { return };
        let count = match peer.stream.read(buffer) {
            Ok(count) if count > 0 => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            _ => return self.gone(at),
        };
        let mut bytes = std::mem::take(&mut peer.rest);
        bytes.extend_from_slice(&buffer[..count]);
        let mut done = 0;
        while let Some(length) = self.one(at, &mut bytes[done..]) {
            done += length;
        }
        if let Some(peer) = &mut self.peers[at] {
            bytes.drain(..done);
            peer.rest = bytes;
        }
    }

    /// Handles one request or frame; gives its length, or `None` if it is not complete or the peer is gone.
    fn one(&mut self, at: usize, bytes: &mut [u8]) -> Option<usize> {
        if self.peers[at].as_ref()?.open {
            return self.frame(at, bytes);
        }
        let end = find(bytes, b"\r\n\r\n")? + 4;
        if bytes.starts_with(b"GET /app/") {
            self.peers[at].as_mut()?.open = true;
            let hello = self.established.clone();
            self.write(at, &hello);
            return Some(end);
        }
        let length = match find(&bytes[..end], b"Content-Length: ") {
            Some(start) => {
                bytes[start + 16..end].iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |n, d| n * 10 + usize::from(d & 15))
            }
            None => 0,
        };
        let body = bytes.get(end..end + length)?;
        let mut rest = body;
        while let Some((channel, data, behind)) = event(rest) {
            let text = [br#"{"event":"e","channel":""#, channel, br#"","data":""#, data, br#""}"#].concat();
            self.broadcast(channel, &unmasked(TEXT, &text), None);
            rest = behind;
        }
        self.write(at, ANSWER);
        Some(end + length)
    }

    fn frame(&mut self, at: usize, bytes: &mut [u8]) -> Option<usize> {
        let (opcode, short) = (*bytes.first()? & 15, usize::from(*bytes.get(1)? & 0x7f));
        let (head, length) = match short {
            126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
            _ => (2, short),
        };
        let key: [u8; 4] = bytes.get(head..head + 4)?.try_into().ok()?;
        let whole = head + 4 + length;
        let payload = bytes.get_mut(head + 4..whole)?;
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        if opcode == CLOSE {
            let answer = unmasked(CLOSE, payload);
            self.write(at, &answer);
            self.flush();
            self.gone(at);
            return None;
        }
        let message: &[u8] = payload;
        let channel = behind(message, br#""channel":""#).map(until_quote)?.to_vec();
        if message.starts_with(br#"{"event":"pusher:subscribe"#) {
            self.channels.entry(channel.clone()).or_default().push(at);
            let succeeded = self.succeeded.clone();
            self.write(at, &succeeded);
            if channel.starts_with(b"presence-") {
                let user = behind(message, br#"user_id\":\""#).map_or(&b""[..], |rest| until(rest, b'\\'));
                self.peers[at].as_mut()?.user = user.to_vec();
                self.broadcast(&channel, &member("member_added", user, ADDED), Some(at));
            }
            self.peers[at].as_mut()?.channel = Some(channel);
        } else if message.starts_with(br#"{"event":"pusher:unsubscribe"#) {
            self.leave(at);
        } else if message.starts_with(br#"{"event":"client-"#) {
            let frame = unmasked(TEXT, message);
            self.broadcast(&channel, &frame, Some(at));
        }
        Some(whole)
    }

    fn broadcast(&mut self, channel: &[u8], frame: &[u8], except: Option<usize>) {
        let Some(subscribers) = self.channels.get_mut(channel).map(std::mem::take) else { return };
        subscribers.iter().filter(|at| Some(**at) != except).for_each(|at| self.write(*at, frame));
        if let Some(place) = self.channels.get_mut(channel) {
            *place = subscribers;
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let Some(peer) = &mut self.peers[at] else { return };
        if !self.coalesce && peer.out.is_empty() {
            let written = peer.stream.write(bytes).unwrap_or(0);
            if written < bytes.len() {
                peer.out.extend_from_slice(&bytes[written..]);
                self.waiting.push(at);
            }
            return;
        }
        if peer.out.is_empty() {
            self.waiting.push(at);
        }
        peer.out.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        for at in std::mem::take(&mut self.waiting) {
            let Some(peer) = &mut self.peers[at] else { continue };
            let written = peer.stream.write(&peer.out).unwrap_or(0);
            peer.out.drain(..written);
            if !peer.out.is_empty() {
                // Tried again soon: the generator reads, so there will be room.
                self.waiting.push(at);
            }
        }
    }

    fn leave(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        let (Some(channel), user) = (peer.channel.take(), std::mem::take(&mut peer.user)) else { return };
        if let Some(subscribers) = self.channels.get_mut(&channel) {
            subscribers.retain(|other| *other != at);
            if subscribers.is_empty() {
                self.channels.remove(&channel);
            }
        }
        if channel.starts_with(b"presence-") {
            self.broadcast(&channel, &member("member_removed", &user, ""), None);
        }
    }

    fn gone(&mut self, at: usize) {
        self.leave(at);
        if self.peers[at].take().is_some() {
            self.free.push(at);
        }
    }
}

/// As long as what the generator's members say of themselves.
const ADDED: &str = r#",\"user_info\":{\"name\":\"user u-000\"}"#;

fn member(event: &str, user: &[u8], more: &str) -> Vec<u8> {
    let head = format!(r#"{{"event":"pusher_internal:{event}","channel":"presence-bench","data":"{{\"user_id\":\""#);
    unmasked(TEXT, &[head.as_bytes(), user, br#"\""#, more.as_bytes(), br#"}"}"#].concat())
}

/// The next event of a body: channel, data, and what follows.
fn event(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let rest = behind(body, br#""channel":""#)?;
    let channel = until_quote(rest);
    let rest = behind(&rest[channel.len()..], br#""data":""#)?;
    let data = until_quote(rest);
    Some((channel, data, &rest[data.len()..]))
}

fn behind<'a>(bytes: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    Some(&bytes[find(bytes, text)? + text.len()..])
}

fn until_quote(bytes: &[u8]) -> &[u8] {
    until(bytes, b'"')
}

fn until(bytes: &[u8], end: u8) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == end).unwrap_or(bytes.len())]
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let first = text.first()?;
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| byte == first) {
        at += next;
        if bytes[at..].starts_with(text) {
            return Some(at);
        }
        at += 1;
    }
    None
}
