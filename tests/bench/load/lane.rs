//! One keep-alive connection to the HTTP API: one request at a time.

use std::{
    io::{self, ErrorKind, Read},
    net::{SocketAddr, TcpStream},
};

use crate::swarm::write_all;

pub(crate) struct Lane {
    pub(crate) stream: TcpStream,
    rest: Vec<u8>,
    pub(crate) busy: bool,
    /// The text of the last answer.
    pub(crate) body: String,
    /// Whether a request was sent that had no answer before the last look.
    waited: bool,
    /// Whether anybody wants it.
    pub(crate) keep: bool,
}

impl Lane {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, rest: Vec::new(), busy: false, body: String::new(), waited: false, keep: false })
    }

    pub(crate) fn send(&mut self, request: &[u8]) {
        (self.busy, self.waited) = (true, true);
        write_all(&mut self.stream, request);
    }

    /// Whether the server has ended it for want of work, or said so: another one has to be opened.
    pub(crate) fn is_over(&self, status: &io::Result<Option<u16>>) -> bool {
        !self.waited && !matches!(status, Ok(None))
    }

    /// The status of an answer that is complete now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<u16>> {
        self.waited = self.busy;
        match self.stream.read(buffer) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server ended a keep-alive connection")),
            Ok(count) if self.rest.is_empty() => {
                let done = self.complete(&buffer[..count]);
                if done.is_none() {
                    self.rest = buffer[..count].to_vec();
                }
                Ok(done)
            }
            Ok(count) => {
                self.rest.extend_from_slice(&buffer[..count]);
                let bytes = std::mem::take(&mut self.rest);
                let done = self.complete(&bytes);
                if done.is_none() {
                    self.rest = bytes;
                }
                Ok(done)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn complete(&mut self, bytes: &[u8]) -> Option<u16> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.get(9..12)?.parse().ok()?;
        if head.contains("transfer-encoding: chunked") {
            if !bytes.ends_with(b"0\r\n\r\n") {
                return None;
            }
        } else {
            let length: usize = head.split("content-length: ").nth(1)?.split('\r').next()?.trim().parse().ok()?;
            if bytes.len() < end + length {
                return None;
            }
        }
        if self.keep || !(200..300).contains(&status) {
            self.body = String::from_utf8_lossy(&bytes[end..]).into_owned();
        }
        self.busy = false;
        Some(status)
    }
}
