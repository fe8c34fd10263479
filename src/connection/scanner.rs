//! The shape of inbound frames (RFC 6455 5), checked header by header as the bytes come in and before any payload is kept.

use smallvec::SmallVec;

use crate::protocol::{CloseCode, is_sendable};

pub(super) const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;
const MAX_CONTROL_PAYLOAD: u64 = 125;

/// Follows the frames of one client.
#[derive(Debug)]
pub(super) struct Scanner {
    max_message_bytes: u64,
    header: SmallVec<[u8; 14]>,
    /// Payload bytes of the current frame that are still to come.
    remaining: u64,
    /// The payload of a close frame, unmasked, with its mask.
    close: Option<(SmallVec<[u8; 125]>, [u8; 4])>,
    /// Bytes of the fragmented message so far; `None` between messages.
    fragmented: Option<u64>,
}

/// What a look at some bytes found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// All bytes belong to a frame that is not complete.
    Partial,
    /// A frame ends after this many bytes.
    Frame(usize),
    /// The frame that has begun may not be.
    Broken(Violation),
}

/// How a client broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: CloseCode,
    pub(super) reason: &'static str,
}

const fn protocol_error(reason: &'static str) -> Violation {
    Violation { code: CloseCode::PROTOCOL_ERROR, reason }
}

impl Scanner {
    pub(super) fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes: max_message_bytes as u64, header: SmallVec::new(), remaining: 0, close: None, fragmented: None }
    }

    /// Looks at the next bytes, up to the end of the current frame.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut at = 0;
        while self.remaining == 0 {
            let Some(byte) = bytes.get(at) else { return Scanned::Partial };
            at += 1;
            self.header.push(*byte);
            let begun = if self.header.len() == 2 { self.check_start() } else { Ok(()) };
            match begun.and_then(|()| self.accept_header()) {
                Err(violation) => return Scanned::Broken(violation),
                Ok(None) => {}
                Ok(Some(0)) => return self.end_of_frame(at),
                Ok(Some(length)) => self.remaining = length,
            }
        }
        let available = (bytes.len() - at) as u64;
        let taken = available.min(self.remaining) as usize;
        if let Some((payload, mask)) = &mut self.close {
            payload.extend(bytes[at..at + taken].iter().copied());
            if taken as u64 == self.remaining {
                payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            }
        }
        self.remaining -= taken as u64;
        if self.remaining > 0 { Scanned::Partial } else { self.end_of_frame(at + taken) }
    }

    fn end_of_frame(&mut self, at: usize) -> Scanned {
        match self.close.take().map_or(Ok(()), |(payload, _)| check_close(&payload)) {
            Ok(()) => Scanned::Frame(at),
            Err(violation) => Scanned::Broken(violation),
        }
    }

    /// What the first two bytes decide, before the rest of the header is waited for.
    fn check_start(&self) -> Result<(), Violation> {
        let (first, second) = (self.header[0], self.header[1]);
        let (finished, opcode, length) = (first & 0x80 != 0, first & 0x0F, u64::from(second & 0x7F));
        if first & 0x70 != 0 {
            return Err(protocol_error("Reserved bits must be zero"));
        }
        if second & 0x80 == 0 {
            return Err(protocol_error("Client frames must be masked"));
        }
        match (opcode, self.fragmented) {
            (CONTINUATION, None) => Err(protocol_error("Continuation without a message to continue")),
            (TEXT | BINARY, Some(_)) => Err(protocol_error("A fragmented message was not finished")),
            (BINARY, None) => Err(Violation { code: CloseCode::UNSUPPORTED_DATA, reason: "Only text messages are supported" }),
            (CLOSE | PING | PONG, _) if !finished => Err(protocol_error("Control frames must not be fragmented")),
            (CLOSE | PING | PONG, _) if length > MAX_CONTROL_PAYLOAD => Err(protocol_error("Control frames hold at most 125 bytes")),
            (CONTINUATION | TEXT | CLOSE | PING | PONG, _) => Ok(()),
            _ => Err(protocol_error("Unknown opcode")),
        }
    }

    /// Takes a header that is complete, or waits: gives the length of the payload.
    fn accept_header(&mut self) -> Result<Option<u64>, Violation> {
        let &[first, second, ..] = &*self.header else { return Ok(None) };
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_at = 2 + extended;
        if self.header.len() < mask_at + 4 {
            return Ok(None);
        }
        let header = std::mem::take(&mut self.header);
        let length = match extended {
            0 => u64::from(second & 0x7F),
            _ => header[2..mask_at].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        match first & 0x0F {
            CONTINUATION | TEXT => {
                let before = self.fragmented.unwrap_or(0);
                // The length may claim up to 2^64: it is compared before anything is added to it.
                if length > self.max_message_bytes - before.min(self.max_message_bytes) {
                    return Err(Violation { code: CloseCode::TOO_LARGE, reason: "Message too large" });
                }
                let finished = first & 0x80 != 0;
                self.fragmented = (!finished).then_some(before + length);
            }
            CLOSE => {
                let mut mask = [0; 4];
                mask.copy_from_slice(&header[mask_at..]);
                self.close = Some((SmallVec::new(), mask));
            }
            _ => {}
        }
        Ok(Some(length))
    }
}

/// A close frame is empty, or a code that may be sent and a reason in UTF-8 (RFC 6455 5.5.1, 7.4).
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    match payload {
        [] => Ok(()),
        [_] => Err(protocol_error("A close frame of one byte")),
        [high, low, reason @ ..] => {
            if !is_sendable(u16::from_be_bytes([*high, *low])) {
                Err(protocol_error("A close code that must not be sent"))
            } else if std::str::from_utf8(reason).is_err() {
                Err(Violation { code: CloseCode::INVALID_UTF8, reason: "The close reason is not UTF-8" })
            } else {
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1_000;

    /// A masked frame; the mask is not zero, so that unmasking is tested.
    pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0xA1, 0x02, 0x33, 0x7F];
        let mut out = vec![first];
        match payload.len() {
            short @ ..=125 => out.push(0x80 | short as u8),
            medium @ ..=0xFFFF => {
                out.push(0x80 | 126);
                out.extend((medium as u16).to_be_bytes());
            }
            long => {
                out.push(0x80 | 127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    fn verdict(frames: &[Vec<u8>]) -> Result<usize, u16> {
        let mut scanner = Scanner::new(MAX);
        let bytes = frames.concat();
        let (mut at, mut complete) = (0, 0);
        loop {
            match scanner.scan(&bytes[at..]) {
                Scanned::Partial => return Ok(complete),
                Scanned::Frame(len) => (at, complete) = (at + len, complete + 1),
                Scanned::Broken(violation) => return Err(violation.code.as_u16()),
            }
        }
    }

    #[test]
    fn what_may_be() {
        assert_eq!(verdict(&[frame(0x81, b"hi"), frame(0x89, b""), frame(0x8A, b"x"), frame(0x88, b"\x03\xe8bye")]), Ok(4));
        assert_eq!(verdict(&[frame(0x01, b"a"), frame(0x89, b"p"), frame(0x00, b"b"), frame(0x80, b"c"), frame(0x81, b"")]), Ok(5));
        assert_eq!(verdict(&[frame(0x81, &[b'x'; MAX])]), Ok(1));
        assert_eq!(verdict(&[frame(0x88, b"")]), Ok(1));
    }

    #[test]
    fn what_may_not() {
        for (frames, code) in [
            (vec![frame(0xC1, b"x")], 1002),
            (vec![frame(0xA1, b"x")], 1002),
            (vec![frame(0x91, b"x")], 1002),
            (vec![frame(0x83, b"x")], 1002),
            (vec![frame(0x8B, b"x")], 1002),
            (vec![vec![0x81, 0x01, b'x']], 1002),
            (vec![frame(0x09, b"x")], 1002),
            (vec![frame(0x89, &[0; 126])], 1002),
            (vec![frame(0x80, b"x")], 1002),
            (vec![frame(0x01, b"x"), frame(0x81, b"y")], 1002),
            (vec![frame(0x82, b"x")], 1003),
            (vec![frame(0x02, b"x")], 1003),
            (vec![frame(0x81, &[b'x'; MAX + 1])], 1009),
            (vec![frame(0x01, &[b'x'; MAX]), frame(0x80, b"y")], 1009),
            (vec![vec![0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]], 1009),
            (vec![frame(0x88, b"x")], 1002),
            (vec![frame(0x88, &1005_u16.to_be_bytes())], 1002),
            (vec![frame(0x88, &999_u16.to_be_bytes())], 1002),
            (vec![frame(0x88, b"\x03\xe8\xc0\xaf")], 1007),
        ] {
            assert_eq!(verdict(&frames), Err(code), "{frames:x?}");
        }
    }

    #[test]
    fn two_bytes_are_enough_to_be_refused() {
        for start in [[0x81, 0x05], [0xFF, 0xFF], [0x83, 0x80], [0x90, 0xFE], [0x82, 0x80], [0x80, 0x80], [0x09, 0x80], [0x89, 0xFE]] {
            assert!(matches!(Scanner::new(MAX).scan(&start), Scanned::Broken(_)), "{start:x?}");
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(payload in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(1_usize..40, 1..40)) {
            let bytes = [frame(0x81, &payload), frame(0x89, b"ping"), frame(0x88, b"\x03\xe8")].concat();
            let mut scanner = Scanner::new(MAX);
            let (mut at, mut ends) = (0, Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            while at < bytes.len() {
                let chunk = &bytes[at..(at + cuts.next().unwrap()).min(bytes.len())];
                match scanner.scan(chunk) {
                    Scanned::Partial => at += chunk.len(),
                    Scanned::Frame(len) => { at += len; ends.push(at); }
                    Scanned::Broken(violation) => prop_assert!(false, "{:?}", violation),
                }
            }
            prop_assert_eq!(ends.len(), 3);
            prop_assert_eq!(ends[2], bytes.len());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut scanner = Scanner::new(MAX);
            let mut at = 0;
            while let Scanned::Frame(len) = scanner.scan(&bytes[at..]) {
                at += len;
            }
        }
    }
}
