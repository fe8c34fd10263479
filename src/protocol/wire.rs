//! RFC 6455 frames, encoded once and shared by every receiver.

use bytes::Bytes;

use super::{
    close::CloseCode,
    json_out::{Length, Sink},
    limits::MAX_CLOSE_REASON,
};

const FIN_TEXT: u8 = 0x81;
const FIN_CLOSE: u8 = 0x88;
const FIN_PING: u8 = 0x89;
const FIN_PONG: u8 = 0x8a;

/// A whole server-to-client frame, header included. Cloning is a reference count, so that ten thousand subscribers share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireFrame(Bytes);

impl WireFrame {
    /// A text message.
    pub fn text(text: &str) -> Self {
        Self::frame(FIN_TEXT, &[text.as_bytes()])
    }

    /// A ping; at most 125 bytes of payload are taken.
    pub fn ping(payload: &[u8]) -> Self {
        Self::frame(FIN_PING, &[control(payload)])
    }

    /// The answer to a ping, with the payload of the ping.
    pub fn pong(payload: &[u8]) -> Self {
        Self::frame(FIN_PONG, &[control(payload)])
    }

    /// A close frame. The reason is cut at 123 bytes, between characters.
    pub fn close(code: CloseCode, reason: &str) -> Self {
        Self::frame(FIN_CLOSE, &[&code.as_u16().to_be_bytes(), cut(reason, MAX_CLOSE_REASON).as_bytes()])
    }

    /// The answer to a close frame that carried no code.
    pub fn close_without_code() -> Self {
        Self::frame(FIN_CLOSE, &[])
    }

    /// A text message, written by `write`, which is called twice: see `json_out.rs`.
    pub(super) fn written(write: impl Fn(&mut dyn Sink)) -> Self {
        let mut length = Length::default();
        write(&mut length);
        let mut out = header(FIN_TEXT, length.0);
        let end = out.len() + length.0;
        write(&mut out);
        debug_assert_eq!(out.len(), end, "it is as long as it was measured");
        Self(out.into())
    }

    fn frame(head: u8, parts: &[&[u8]]) -> Self {
        let mut out = header(head, parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| out.extend_from_slice(part));
        Self(out.into())
    }

    /// Bytes on the wire, header included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: the smallest frame has two bytes. Here because `len` is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same frame in other hands.
    pub(crate) fn map_bytes(self, map: impl FnOnce(Bytes) -> Bytes) -> Self {
        Self(map(self.0))
    }

    /// The shared bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// A frame's header, with room for exactly its payload: then the memory itself becomes the frame.
fn header(head: u8, len: usize) -> Vec<u8> {
    let mut out;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ ..=125), _) => {
            out = Vec::with_capacity(2 + len);
            out.extend_from_slice(&[head, short]);
        }
        (_, Ok(medium)) => {
            let [high, low] = medium.to_be_bytes();
            out = Vec::with_capacity(4 + len);
            out.extend_from_slice(&[head, 126, high, low]);
        }
        _ => {
            out = Vec::with_capacity(10 + len);
            out.extend_from_slice(&[head, 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out
}

fn control(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(125)]
}

/// The longest prefix of at most `max` bytes that ends between two characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frame: WireFrame) -> Vec<u8> {
        frame.into_bytes().to_vec()
    }

    #[test]
    fn the_three_lengths_of_rfc_6455() {
        assert_eq!(bytes(WireFrame::text("hi")), b"\x81\x02hi");
        assert_eq!(bytes(WireFrame::text(&"x".repeat(125)))[..2], [0x81, 125]);
        assert_eq!(bytes(WireFrame::text(&"x".repeat(126)))[..4], [0x81, 126, 0, 126]);
        assert_eq!(bytes(WireFrame::text(&"x".repeat(65_535)))[..4], [0x81, 126, 0xff, 0xff]);
        assert_eq!(bytes(WireFrame::text(&"x".repeat(65_536)))[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        assert_eq!(bytes(WireFrame::close(CloseCode::UNKNOWN_APP, "no")), b"\x88\x04\x0f\xa1no");
        assert_eq!(bytes(WireFrame::close_without_code()), b"\x88\x00");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = bytes(WireFrame::close(CloseCode::NORMAL, &"é".repeat(100)));
        assert_eq!(frame[1], 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
