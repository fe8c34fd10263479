//! Frames of RFC 6455 as bytes and as values, and the events inside the text frames.

use serde_json::Value;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One frame from the broker, or the end of the stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// End of file or reset.
    Gone,
}

/// One text frame, read as the protocol reads it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) raw: String,
    pub(crate) json: Value,
}

impl Event {
    pub(crate) fn parse(raw: String) -> Event {
        let json = serde_json::from_str(&raw).unwrap_or_else(|error| panic!("not JSON ({error}): {raw}"));
        Event { raw, json }
    }

    pub(crate) fn name(&self) -> &str {
        self.json["event"].as_str().unwrap_or_else(|| panic!("`event` is not a string: {}", self.raw))
    }

    pub(crate) fn channel(&self) -> Option<&str> {
        self.json["channel"].as_str()
    }

    /// `data`, which is a string in everything but `pusher:error`.
    pub(crate) fn data(&self) -> &str {
        self.json["data"].as_str().unwrap_or_else(|| panic!("`data` is not a string: {}", self.raw))
    }

    /// The JSON inside `data`.
    pub(crate) fn payload(&self) -> Value {
        serde_json::from_str(self.data()).unwrap_or_else(|error| panic!("`data` is not JSON text ({error}): {}", self.raw))
    }
}

/// A masked, well-formed frame.
pub(crate) fn wire(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x80 | opcode, true, payload)
}

/// A frame with the given first byte (FIN, reserved bits, opcode), masked or not.
pub(crate) fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(mask_bit | length as u8),
        length @ 126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(mask_bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// `channel_data` of a presence subscription; `info` is JSON text.
pub(crate) fn member(user_id: &str, info: Option<&str>) -> String {
    match info {
        Some(info) => format!(r#"{{"user_id":"{user_id}","user_info":{info}}}"#),
        None => format!(r#"{{"user_id":"{user_id}"}}"#),
    }
}

/// The first whole frame in these bytes and its length on the wire, after checking what RFC 6455 demands of a server.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "the broker sends whole frames without reserved bits: {first:#x}");
    assert_eq!(second & 0x80, 0, "the broker does not mask");
    let (start, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the broker sends UTF-8");
    let frame = match first & 0x0f {
        1 => Frame::Text(text(payload)),
        8 if payload.is_empty() => Frame::Close(None, String::new()),
        8 => Frame::Close(Some(u16::from_be_bytes([payload[0], payload[1]])), text(payload[2..].to_vec())),
        9 => Frame::Ping(payload),
        10 => Frame::Pong(payload),
        other => panic!("the broker sent opcode {other}"),
    };
    Some((frame, start + length))
}
