//! Inbound frames: whatever comes in, in whatever pieces, only what RFC 6455 and the size limit allow becomes a message.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_web::{
    dev,
    error::PayloadError,
    http::header::{HeaderName, HeaderValue},
    test::TestRequest,
};
use bytes::Bytes;
use futures_util::{Stream, stream};

use super::{
    inbound::{Inbound, Message},
    link::Link,
    peer::{Address, Peer},
    scanner::{Scanned, Scanner},
};
use crate::{
    domain::{TrustedProxies, TrustedProxy},
    fuzz::engine::{Dice, Fuzz},
};

const MAX: usize = 1_000;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame whose length is written in so many bytes: 0, 2 or 8.
fn frame(first: u8, extended: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match extended {
        0 => bytes.push(0x80 | payload.len() as u8),
        2 => bytes.push(0x80 | 126),
        _ => bytes.push(0x80 | 127),
    }
    bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes()[8 - extended..]);
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What RFC 6455 makes of a whole stream: its messages, and the close code of what breaks a rule, if anything does.
#[derive(Debug, PartialEq)]
struct Judgement {
    frames: usize,
    messages: Vec<Message>,
    broken: Option<u16>,
    /// By text that is not UTF-8, which a frame alone does not show.
    by_text: bool,
}

fn judge(bytes: &[u8]) -> Judgement {
    let (mut at, mut frames, mut message) = (0, 0, None::<u128>);
    let (mut messages, mut text) = (Vec::new(), Vec::new());
    loop {
        let so_far = move |messages, broken| Judgement { frames, messages, broken, by_text: false };
        let [first, second, rest @ ..] = &bytes[at..] else { return so_far(messages, None) };
        let (fin, opcode, short) = (first >> 7 == 1, first & 15, second & 127);
        let control = opcode >= 8;
        if first & 0x70 != 0 || second & 0x80 == 0 || matches!(opcode, 3..=7 | 11..=15) {
            return so_far(messages, Some(1002));
        }
        if control && (!fin || short > 125) || opcode == 0 && message.is_none() || matches!(opcode, 1 | 2) && message.is_some() {
            return so_far(messages, Some(1002));
        }
        if opcode == 2 {
            return so_far(messages, Some(1003));
        }
        let extended = if short == 126 {
            2
        } else if short == 127 {
            8
        } else {
            0
        };
        let (Some(length), Some(mask)) = (rest.get(..extended), rest.get(extended..extended + 4)) else {
            return so_far(messages, None);
        };
        let length = if extended == 0 { u128::from(short) } else { length.iter().fold(0, |sum, byte| sum * 256 + u128::from(*byte)) };
        if !control {
            let whole_message = message.unwrap_or(0) + length;
            if whole_message > MAX as u128 {
                return so_far(messages, Some(1009));
            }
            message = (!fin).then_some(whole_message);
        }
        let start = at + 2 + extended + 4;
        let Some(payload) = usize::try_from(length).ok().and_then(|length| bytes.get(start..start.checked_add(length)?)) else {
            return so_far(messages, None);
        };
        let plain: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        if opcode == 8 {
            let code = plain.get(..2).map(|code| u16::from(code[0]) << 8 | u16::from(code[1]));
            let sendable = code
                .is_some_and(|code| (1000..1015).contains(&code) && ![1004, 1005, 1006].contains(&code) || (3000..5000).contains(&code));
            if !plain.is_empty() && !sendable {
                return so_far(messages, Some(1002));
            }
            if std::str::from_utf8(plain.get(2..).unwrap_or_default()).is_err() {
                return so_far(messages, Some(1007));
            }
            messages.push(Message::Close(code));
        }
        at = start + payload.len();
        frames += 1;
        match opcode {
            9 => messages.push(Message::Ping(plain)),
            10 => messages.push(Message::Pong),
            0 | 1 => {
                text.extend(plain);
                if fin {
                    match String::from_utf8(std::mem::take(&mut text)) {
                        Ok(text) => messages.push(Message::Text(text)),
                        Err(_) => return Judgement { by_text: true, ..so_far(messages, Some(1007)) },
                    }
                } else {
                    messages.push(Message::Fragment);
                }
            }
            _ => {}
        }
    }
}

/// The input in pieces that follow from it.
fn pieces(input: &[u8]) -> Vec<Bytes> {
    let mut dice = Dice::new(input.iter().fold(input.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))));
    let longest = dice.pick(&[1, 3, 40, 100_000]);
    let (mut rest, mut pieces) = (input, Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + dice.below(longest)).min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

fn seeds() -> Vec<Vec<u8>> {
    let text = |payload: &str| frame(0x81, if payload.len() > 125 { 2 } else { 0 }, payload.as_bytes());
    let close = |code: u16, reason: &[u8]| frame(0x88, 0, &[&code.to_be_bytes()[..], reason].concat());
    let long = "x".repeat(MAX);
    vec![
        [text(r#"{"event":"pusher:ping","data":{}}"#), frame(0x89, 0, b"ping"), frame(0x8a, 0, b"")].concat(),
        [frame(0x01, 0, b"frag"), frame(0x89, 0, b""), frame(0x00, 0, b"men"), frame(0x80, 0, b"ted"), text("after")].concat(),
        [text(&long), frame(0x01, 2, &long.as_bytes()[..600]), frame(0x80, 2, &long.as_bytes()[..400])].concat(),
        [frame(0x01, 2, &long.as_bytes()[..600]), frame(0x80, 2, &long.as_bytes()[..401])].concat(),
        [frame(0x81, 8, b"long length, short text"), close(1000, b"bye")].concat(),
        [close(1005, b""), text("x")].concat(),
        close(4001, "Zoë".as_bytes()),
        close(1000, b"\xff\xfe"),
        [frame(0x88, 0, b""), frame(0x88, 0, b"x")].concat(),
        frame(0x82, 0, b"binary"),
        [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &MASK, b"hello"].concat(),
        [&[0x01, 0xff][..], &(1_u64 << 63).to_be_bytes(), &MASK, &[0x80, 0xff], &(1_u64 << 63).to_be_bytes(), &MASK].concat(),
        frame(0x89, 0, &[b'p'; 125]),
    ]
}

#[test]
fn messages_are_what_the_rules_make_of_the_bytes_and_nothing_is_heard_behind_a_broken_one() {
    let words: Vec<String> = [[0x01_u8, 0x05], [0x09, 0x0a]].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).into();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Fuzz::new("guard").seeds(seeds()).tokens(&words).run(15_000, |input| {
        let judgement = judge(input);
        let pieces = pieces(input);
        let polls = judgement.messages.len() + 1;
        let payload = stream::iter(pieces.into_iter().map(Ok::<_, PayloadError>));
        let link = Rc::<Link>::default();
        let mut inbound = Inbound::new(dev::Payload::Stream { payload: Box::pin(payload) }, MAX, Rc::clone(&link));
        let (mut cx, mut messages, mut ended) = (Context::from_waker(Waker::noop()), Vec::new(), false);
        for _ in 0..polls {
            match Pin::new(&mut inbound).poll_next(&mut cx) {
                Poll::Ready(Some(message)) => messages.push(message),
                Poll::Ready(None) => {
                    ended = true;
                    break;
                }
                Poll::Pending => {}
            }
        }
        assert!(ended, "it never ends");
        assert_eq!(link.violation().map(|violation| violation.code.as_u16()), judgement.broken);
        assert_eq!(messages, judgement.messages);
        format!("{} {:?}", judgement.frames.min(4), judgement.broken)
    });
}

#[test]
fn the_scanner_takes_every_byte_once() {
    Fuzz::new("scanner").seeds(seeds()).run(15_000, |input| {
        let judgement = judge(input);
        let mut scanner = Scanner::new(MAX);
        let (mut at, mut frames, mut broken) = (0, 0, None);
        while at < input.len() && broken.is_none() {
            match scanner.scan(&input[at..]) {
                Scanned::Partial => at = input.len(),
                Scanned::Frame(length) => {
                    assert!(length > 0 && length <= input.len() - at, "it moves on");
                    (at, frames) = (at + length, frames + 1);
                }
                Scanned::Broken(violation) => broken = Some(violation),
            }
        }
        if !judgement.by_text {
            assert_eq!((frames, broken.map(|violation| violation.code.as_u16())), (judgement.frames, judgement.broken));
        }
        broken.map_or_else(|| format!("{}", frames.min(4)), |violation| violation.reason.to_owned())
    });
}

/// A client behind two trusted proxies, of which the nearer is the peer.
const CLIENT: &str = "198.51.100.7";

/// The right end of a list, read as the proxies have written it.
fn last_stranger(list: &str, trusted: &TrustedProxies) -> Option<IpAddr> {
    let mut client = None;
    for entry in list.rsplit(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let ip = entry.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
        // The brackets of an address without a port.
        let ip = ip.ok().or_else(|| Some(IpAddr::V6(entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?)));
        let Some(ip) = ip.map(|ip| ip.to_canonical()) else { break };
        client = Some(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    client
}

#[test]
fn nobody_is_believed_but_trusted_proxies() {
    let seeds = [
        "X-Forwarded-For: 198.51.100.7, 10.0.0.2\nX-Forwarded-Proto: https",
        "X-Forwarded-For: 203.0.113.9\nX-Forwarded-For: 198.51.100.7:8080,10.1.1.1",
        "Forwarded: for=\"[2001:db8:cafe::17]:4711\";proto=https, for=10.0.0.2",
        "Forwarded: for=unknown;by=\"_x\";host=\"a,for=192.0.2.1\"",
        "X-Real-IP: 198.51.100.7",
        "X-Forwarded-For: [::ffff:10.0.0.9]\nX-Real-IP: 1.1.1.1\nForwarded: for=2.2.2.2",
    ];
    let words = [", ", "for=", "proto=", "https", "wss", "\"", "\n", "X-Forwarded-For: ", "Forwarded: ", "10.0.0.3", "::1", ";", "\\"];
    let trusted: TrustedProxies = ["10.0.0.0/8"].iter().filter_map(|text| text.parse::<TrustedProxy>().ok()).collect();
    Fuzz::new("proxies").seeds(seeds).tokens(&words).run(6_000, |input| {
        let lines = || {
            input.split(|byte| *byte == b'\n').filter_map(|line| {
                let at = line.iter().position(|byte| *byte == b':')?;
                let name = HeaderName::from_bytes(&line[..at]).ok()?;
                Some((name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?))
            })
        };
        let peer = |from: &str, last: Option<&str>| {
            let request = TestRequest::default().peer_addr(SocketAddr::new(from.parse().expect("an address"), 1));
            let request = lines().fold(request, TestRequest::append_header);
            let request = last.into_iter().fold(request, |request, last| request.append_header(("x-forwarded-for", last)));
            Peer::of(&request.to_http_request(), &trusted)
        };
        let ip = |text: &str| Address::Ip(text.parse().expect("an address"));
        assert_eq!(peer("192.0.2.1", None), Peer { address: ip("192.0.2.1"), secure: false }, "a stranger is who it is");
        assert_eq!(peer("10.0.0.1", Some(CLIENT)).address, ip(CLIENT), "what the proxy adds is what counts");
        assert_eq!(peer("10.0.0.1", Some(&format!("{CLIENT}, 10.0.0.2"))).address, ip(CLIENT), "and what a second one adds");

        let behind = peer("10.0.0.1", None);
        let list: Vec<_> = lines().filter(|(name, _)| name == "x-forwarded-for").map(|(_, value)| value).collect();
        if !list.is_empty() && list.iter().all(|value| value.to_str().is_ok()) {
            let list: Vec<&str> = list.iter().filter_map(|value| value.to_str().ok()).collect();
            assert_eq!(behind.address, last_stranger(&list.join(","), &trusted).map_or(ip("10.0.0.1"), Address::Ip));
        }
        format!("{} {}", behind.address == ip("10.0.0.1"), behind.secure)
    });
}
