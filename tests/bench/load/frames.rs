//! Frames as a client sees them, and the mark that every published event carries. Nothing here allocates per frame received.

/// What the data of each event of ours begins with.
const MARK: &str = "@@";

/// One frame from the server.
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Close(u16),
    Other,
}

/// Payload and whole length of the frame that `bytes` begin with; `None` if it is not complete.
pub(crate) fn take(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (head, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(head..head + length)?;
    let frame = match first & 0x0f {
        1 => Frame::Text(payload),
        8 => Frame::Close(payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))),
        9 => Frame::Ping(payload),
        _ => Frame::Other,
    };
    Some((frame, head + length))
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PONG: u8 = 10;

/// A frame of a client: masked, as RFC 6455 wants it.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = Vec::with_capacity(payload.len() + 14);
    head(&mut frame, opcode, payload.len(), 0x80);
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame of a server.
pub(crate) fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    head(&mut frame, opcode, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

fn head(frame: &mut Vec<u8>, opcode: u8, length: usize, mask: u8) {
    frame.push(0x80 | opcode);
    match length {
        0..126 => frame.push(mask | length as u8),
        126..=0xffff => {
            frame.push(mask | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// What the data of an event begins with: who published it, the how-manieth of that publisher on its channel it is, and which flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) lane: usize,
    pub(crate) number: u32,
    pub(crate) flight: u32,
}

/// Bytes of a mark.
const LENGTH: usize = MARK.len() + 3 + 8 + 8;

impl Mark {
    /// The data of one event: the mark, filled up to `size` bytes.
    pub(crate) fn data(&self, size: usize) -> String {
        let mut data = format!("{MARK}{:03}{:08}{:08}", self.lane, self.number, self.flight);
        data.extend(std::iter::repeat_n('x', size.saturating_sub(data.len())));
        data
    }

    /// Finds the mark in a message, first where the last one stood.
    pub(crate) fn find(message: &[u8], at: &mut usize) -> Option<Self> {
        let mark = MARK.as_bytes();
        if message.get(*at..*at + mark.len()) != Some(mark) {
            *at = message.windows(mark.len()).position(|window| window == mark)?;
        }
        let digits = message.get(*at + mark.len()..*at + LENGTH)?;
        Some(Self { lane: number(&digits[..3]) as usize, number: number(&digits[3..11]), flight: number(&digits[11..19]) })
    }
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit & 0x0f))
}
