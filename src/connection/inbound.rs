//! What one client says, message by message: read from its socket, checked by the scanner, unmasked and put together.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::dev;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::{
    link::Link,
    scanner::{CLOSE, CONTINUATION, PING, PONG, Scanned, Scanner, Violation},
};
use crate::protocol::CloseCode;

/// A WebSocket message of a client. There are no binary ones: the scanner refuses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Text, its fragments put together.
    Text(String),
    /// A piece of a text whose end has not come: nothing to act on, but whoever sends it lives.
    Fragment,
    /// With what the pong is to carry.
    Ping(Vec<u8>),
    Pong,
    /// With its code, if there was one.
    Close(Option<u16>),
}

/// More than this must not come before the handshake is answered: actix-http would begin to hold it back, where we do not see it.
const EARLY: usize = 32 * 1024;

/// The messages of one client. The stream ends where the client broke the rules ([`Link::violation`] says how), or where it is gone.
pub(super) struct Inbound {
    link: Rc<Link>,
    /// What HTTP has read already; `None` when the socket is here and all of it was taken.
    early: Option<dev::Payload>,
    early_bytes: usize,
    /// Read, but not looked at yet.
    unseen: Bytes,
    frames: Frames,
}

impl Inbound {
    pub(super) fn new(early: dev::Payload, max_message_bytes: usize, link: Rc<Link>) -> Self {
        Self { link, early: Some(early), early_bytes: 0, unseen: Bytes::new(), frames: Frames::new(max_message_bytes) }
    }

    /// The next bytes that HTTP has read; `Ready(None)`: there are none any more, ask the socket.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(early) = &mut self.early else { return Poll::Ready(None) };
        // Asked before the payload is: what comes in between is seen at the next look.
        let with_http = self.link.is_with_http();
        match Pin::new(early).poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.early_bytes += bytes.len();
                if self.early_bytes > EARLY {
                    let reason = "Too much was sent before the handshake was answered";
                    self.link.violated(Violation { code: CloseCode::PROTOCOL_ERROR, reason });
                }
                return Poll::Ready(Some(bytes));
            }
            Poll::Pending if with_http => {
                self.link.register_reader(cx);
                return Poll::Pending;
            }
            Poll::Ready(None | Some(Err(_))) if with_http => self.link.close(),
            Poll::Pending | Poll::Ready(_) => {}
        }
        self.early = None;
        Poll::Ready(None)
    }
}

impl Stream for Inbound {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let this = &mut *self;
        loop {
            if this.link.violation().is_some() {
                return Poll::Ready(None);
            }
            let looked = if !this.unseen.is_empty() {
                let unseen = std::mem::take(&mut this.unseen);
                let (looked, seen) = this.frames.look(&unseen);
                this.unseen = unseen.slice(seen..);
                looked
            } else if let Some(early) = ready!(this.poll_early(cx)) {
                this.unseen = early;
                continue;
            } else if this.link.has_ahead() {
                this.unseen = this.link.take_ahead();
                continue;
            } else {
                let Self { link, frames, unseen, .. } = this;
                let read = link.poll_read(cx, |bytes| {
                    let (looked, seen) = frames.look(bytes);
                    // As a rule nothing is behind it.
                    *unseen = Bytes::copy_from_slice(&bytes[seen..]);
                    looked
                });
                match ready!(read) {
                    Some(looked) => looked,
                    None => return Poll::Ready(None),
                }
            };
            match looked {
                Looked::Nothing => {}
                Looked::Message(message) => return Poll::Ready(Some(message)),
                Looked::Broken(violation) => this.link.violated(violation),
            }
        }
    }
}

/// Frames, and the message that they make.
struct Frames {
    scanner: Scanner,
    /// The beginning of a frame whose rest has not come.
    begun: BytesMut,
    /// The beginning of a message whose rest has not come.
    fragments: Vec<u8>,
}

/// What some bytes were.
enum Looked {
    /// All of them, and no message yet.
    Nothing,
    Message(Message),
    Broken(Violation),
}

impl Frames {
    fn new(max_message_bytes: usize) -> Self {
        Self { scanner: Scanner::new(max_message_bytes), begun: BytesMut::new(), fragments: Vec::new() }
    }

    /// Looks at the next bytes, up to the end of a message. Gives how many it has seen.
    fn look(&mut self, bytes: &[u8]) -> (Looked, usize) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.scanner.scan(rest) {
                Scanned::Partial => {
                    self.begun.extend_from_slice(rest);
                    at = bytes.len();
                }
                Scanned::Frame(length) => {
                    at += length;
                    let looked = if self.begun.is_empty() {
                        self.take(&rest[..length])
                    } else {
                        let mut whole = std::mem::take(&mut self.begun);
                        whole.extend_from_slice(&rest[..length]);
                        self.take(&whole)
                    };
                    if !matches!(looked, Looked::Nothing) {
                        return (looked, at);
                    }
                }
                Scanned::Broken(violation) => return (Looked::Broken(violation), bytes.len()),
            }
        }
        (Looked::Nothing, at)
    }

    /// What a whole frame is, which the scanner has let pass.
    fn take(&mut self, frame: &[u8]) -> Looked {
        let (finished, opcode) = (frame[0] & 0x80 != 0, frame[0] & 0x0F);
        let payload = unmasked(frame);
        Looked::Message(match opcode {
            PING => Message::Ping(payload),
            PONG => Message::Pong,
            CLOSE => Message::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            _ => {
                let whole = if opcode == CONTINUATION || !finished {
                    self.fragments.extend_from_slice(&payload);
                    if !finished {
                        return Looked::Message(Message::Fragment);
                    }
                    std::mem::take(&mut self.fragments)
                } else {
                    payload
                };
                match String::from_utf8(whole) {
                    Ok(text) => Message::Text(text),
                    Err(_) => return Looked::Broken(Violation { code: CloseCode::INVALID_UTF8, reason: "Text must be UTF-8" }),
                }
            }
        })
    }
}

/// The payload of a whole masked frame.
fn unmasked(frame: &[u8]) -> Vec<u8> {
    let mask_at = match frame[1] & 0x7F {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let (header, payload) = frame.split_at(mask_at + 4);
    let mut payload = payload.to_vec();
    let mask = &header[mask_at..];
    let wide = u64::from_ne_bytes(std::array::from_fn(|at| mask[at % 4]));
    // Eight at a time, which the compiler makes sixteen or more of.
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    payload
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
