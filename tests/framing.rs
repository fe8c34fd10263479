//! RFC 6455 as the broker must read it: fragments, control frames, malformed frames, sizes.

use std::time::Instant;

use crate::support::{Broker, Frame, WAIT, Ws, frame, server_with, shared, wire};

const PING: &str = r#"{"event":"pusher:ping"}"#;

/// Each of these byte sequences breaks its connection off with this code. (All at once: an ended socket lingers for a second.)
fn break_off(broker: &Broker, attempts: impl IntoIterator<Item = Vec<u8>>, code: u16) {
    let send = |bytes: Vec<u8>| {
        let mut ws = broker.ws();
        ws.send_bytes(&bytes);
        ws
    };
    let sockets: Vec<Ws> = attempts.into_iter().map(send).collect();
    for mut ws in sockets {
        ws.broken_off(code);
    }
}

/// A `pusher:ping` of exactly this many bytes.
fn ping_of(length: usize) -> String {
    let empty = r#"{"event":"pusher:ping","data":""}"#;
    format!(r#"{{"event":"pusher:ping","data":"{}"}}"#, "x".repeat(length - empty.len()))
}

/// `text` cut into `parts` fragments.
fn fragments(text: &[u8], parts: usize) -> Vec<Vec<u8>> {
    let size = text.len().div_ceil(parts);
    let pieces: Vec<&[u8]> = text.chunks(size).collect();
    let last = pieces.len() - 1;
    let first_byte = |at: usize| (if at == 0 { 1 } else { 0 }) | (if at == last { 0x80 } else { 0 });
    pieces.iter().enumerate().map(|(at, piece)| frame(first_byte(at), true, piece)).collect()
}

#[test]
fn a_fragmented_message_is_one_message() {
    let broker = shared();
    let mut ws = broker.ws();
    for parts in [2, 3, PING.len()] {
        ws.send_bytes(&fragments(PING.as_bytes(), parts).concat());
        ws.expect("pusher:pong");
    }
    ws.quiet();
}

#[test]
fn empty_fragments_are_legal() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&[frame(1, true, b""), frame(0, true, b""), frame(0, true, PING.as_bytes()), frame(0x80, true, b"")].concat());
    ws.expect("pusher:pong");
    ws.quiet();
}

#[test]
fn control_frames_between_fragments_are_answered_at_once() {
    let broker = shared();
    let mut ws = broker.ws();
    let parts = fragments(PING.as_bytes(), 2);
    ws.send_bytes(&parts[0]);
    ws.send_bytes(&wire(9, b"between"));
    assert_eq!(ws.frame(), Frame::Pong(b"between".to_vec()));
    ws.send_bytes(&wire(10, b"unasked"));
    ws.send_bytes(&parts[1]);
    ws.expect("pusher:pong");
}

#[test]
fn a_ping_frame_is_answered_by_a_pong_frame_with_its_payload_and_nothing_else() {
    let broker = shared();
    let mut ws = broker.ws();
    for payload in [b"abc".to_vec(), Vec::new(), vec![0, 159, 146, 150], vec![7; 125]] {
        ws.send_bytes(&wire(9, &payload));
        assert_eq!(ws.frame(), Frame::Pong(payload));
    }
    ws.quiet();
}

#[test]
fn an_unasked_pong_is_ignored() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&[wire(10, b""), wire(10, b"x")].concat());
    ws.quiet();
}

#[test]
fn frames_arriving_byte_by_byte_are_understood() {
    let broker = shared();
    let mut ws = broker.ws();
    for byte in wire(1, PING.as_bytes()) {
        ws.send_bytes(&[byte]);
    }
    ws.expect("pusher:pong");
}

#[test]
fn every_form_of_length_is_understood() {
    let broker = shared();
    let mut ws = broker.ws();
    for length in [125, 126, 127, 128, 65_535, 65_536] {
        ws.send_text(&ping_of(length));
        ws.expect("pusher:pong");
    }
}

#[test]
fn frames_before_a_bad_one_in_the_same_segment_are_still_handled() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&[wire(1, PING.as_bytes()), wire(1, PING.as_bytes()), frame(0x83, true, b"x")].concat());
    ws.expect("pusher:pong");
    ws.expect("pusher:pong");
    ws.broken_off(1002);
}

#[test]
fn a_reserved_opcode_is_a_protocol_error() {
    let broker = shared();
    break_off(&broker, [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|opcode| wire(opcode, b"")), 1002);
}

#[test]
fn a_reserved_bit_is_a_protocol_error() {
    let broker = shared();
    let bits = [0x40, 0x20, 0x10, 0x70];
    break_off(&broker, bits.map(|bit| frame(0x81 | bit, true, PING.as_bytes())), 1002);
    break_off(&broker, bits.map(|bit| frame(0x89 | bit, true, b"x")), 1002);
}

#[test]
fn an_unmasked_frame_is_a_protocol_error() {
    let broker = shared();
    break_off(&broker, [frame(0x81, false, PING.as_bytes()), frame(0x89, false, b"")], 1002);
}

#[test]
fn a_violation_is_named_alike_when_its_header_comes_in_pieces() {
    let broker = shared();
    let mut neighbours = [broker.ws(), broker.ws(), broker.ws()];
    let bad = [(frame(0x83, true, b"x"), 1002), (frame(0xc1, true, b"x"), 1002), (wire(2, b"x"), 1003), (wire(9, &[b'x'; 126]), 1002)];
    let mut broken = Vec::new();
    for (bytes, code) in bad {
        for cut in 1..6 {
            let mut ws = broker.ws();
            ws.send_bytes(&bytes[..cut]);
            // Time for the first piece to be read alone.
            neighbours.iter_mut().for_each(Ws::quiet);
            ws.try_send_bytes(&bytes[cut..]);
            broken.push((ws, code));
        }
    }
    for (mut ws, code) in broken {
        ws.broken_off(code);
    }
    break_off(&broker, [vec![0xff; 2], vec![0xff; 8], vec![0x83, 0x80], vec![0x90, 0xfe]], 1002);
}

#[test]
fn an_interrupted_fragmented_message_is_a_protocol_error() {
    let broker = shared();
    let start = frame(1, true, b"{\"event\":");
    break_off(&broker, [wire(1, PING.as_bytes()), frame(1, true, b"x")].map(|next| [start.clone(), next].concat()), 1002);
}

#[test]
fn a_continuation_of_nothing_is_a_protocol_error() {
    let broker = shared();
    break_off(&broker, [0x80, 0x00].map(|first| frame(first, true, PING.as_bytes())), 1002);
    let mut ws = broker.ws();
    ws.send_bytes(&[fragments(PING.as_bytes(), 2).concat(), frame(0x80, true, b"more")].concat());
    ws.expect("pusher:pong");
    ws.broken_off(1002);
}

#[test]
fn a_control_frame_is_short_and_whole() {
    let broker = shared();
    break_off(&broker, [8, 9, 10].map(|opcode| wire(opcode, &[b'x'; 126])), 1002);
    break_off(&broker, [8, 9, 10].map(|opcode| frame(opcode, true, b"")), 1002);
}

#[test]
fn a_binary_message_is_refused_with_1003() {
    let broker = shared();
    let fragmented = [frame(2, true, b"\0"), frame(0x80, true, b"\0")].concat();
    break_off(&broker, [wire(2, PING.as_bytes()), wire(2, b""), fragmented], 1003);
}

#[test]
fn text_that_is_not_utf8_is_refused_with_1007() {
    let broker = shared();
    let bad: [&[u8]; 7] =
        [b"\xff", b"\xc3\x28", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok \xe2\x82", b"{\"event\":\"\x80\"}"];
    break_off(&broker, bad.map(|text| wire(1, text)), 1007);
    break_off(&broker, bad.map(|text| [frame(1, true, text), frame(0x80, true, b"")].concat()), 1007);
    break_off(&broker, [[frame(1, true, b"\xe2\x82"), frame(0x80, true, b"x")].concat()], 1007);
}

#[test]
fn a_character_split_over_fragments_is_good_utf8() {
    let broker = shared();
    let text = r#"{"event":"pusher:ping","data":"€🦀"}"#;
    let mut ws = broker.ws();
    ws.send_bytes(&fragments(text.as_bytes(), text.len()).concat());
    ws.expect("pusher:pong");
    ws.quiet();
}

#[test]
fn a_message_above_the_limit_is_refused_with_1009_and_one_at_the_limit_is_not() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_text(&ping_of(64 * 1024));
    ws.expect("pusher:pong");
    ws.send_bytes(&fragments(ping_of(64 * 1024).as_bytes(), 5).concat());
    ws.expect("pusher:pong");
    ws.try_send_bytes(&wire(1, ping_of(64 * 1024 + 1).as_bytes()));
    ws.broken_off(1009);

    let mut ws = broker.ws();
    for fragment in fragments(ping_of(64 * 1024 + 1).as_bytes(), 5) {
        ws.try_send_bytes(&fragment);
    }
    ws.broken_off(1009);
}

#[test]
fn the_message_limit_is_configurable() {
    let broker = Broker::with(server_with("max_message_size = \"1KiB\"", ""));
    let mut ws = broker.ws();
    ws.send_text(&ping_of(1024));
    ws.expect("pusher:pong");
    ws.send_text(&ping_of(1025));
    ws.broken_off(1009);
}

/// Writes until the socket is closed, which takes no longer than the closing handshake may linger.
fn stream_until_refused(ws: &mut Ws, chunk: &[u8]) {
    let started = Instant::now();
    while ws.try_send_bytes(chunk) {
        assert!(started.elapsed() < WAIT, "the broker still reads");
    }
}

/// Sends a frame header that promises a terabyte and then streams until the broker has had enough.
fn promise_a_terabyte(ws: &mut Ws, first: u8) {
    let mut header = vec![first, 0xff];
    header.extend((1_u64 << 40).to_be_bytes());
    header.extend([1, 2, 3, 4]);
    ws.send_bytes(&header);
    stream_until_refused(ws, &vec![b'x'; 256 * 1024]);
}

#[test]
fn a_header_that_announces_a_terabyte_costs_nothing() {
    let broker = Broker::start();
    let mut neighbour = broker.ws();
    broker.ws().quiet();
    let before = broker.rss_kib();
    for first in [0x81, 0x01, 0x82] {
        let mut ws = broker.ws();
        promise_a_terabyte(&mut ws, first);
    }
    let grown = broker.rss_kib() - before;
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
    let mut ws = broker.ws();
    let mut header = vec![0x81, 0xff];
    header.extend((1_u64 << 40).to_be_bytes());
    header.extend([1, 2, 3, 4]);
    ws.send_bytes(&header);
    ws.broken_off(1009);
    neighbour.quiet();
}

#[test]
fn a_length_with_the_highest_bit_set_is_refused() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&[[0x81, 0xff].as_slice(), &[0xff; 8], &[1, 2, 3, 4]].concat());
    loop {
        match ws.frame() {
            Frame::Text(text) => assert!(text.contains("pusher:error")),
            Frame::Close(code, _) => break assert!(matches!(code, Some(1002 | 1009)), "{code:?}"),
            other => panic!("{other:?}"),
        }
    }
    ws.gone();
}

#[test]
fn endless_small_fragments_are_bounded_too() {
    let broker = Broker::start();
    let mut ws = broker.ws();
    let before = broker.rss_kib();
    ws.send_bytes(&frame(1, true, b"x"));
    let chunk = frame(0, true, &[b'x'; 100]).repeat(100);
    stream_until_refused(&mut ws, &chunk);
    assert!(broker.rss_kib() - before < 8 * 1024);
    broker.ws().quiet();
}
