//! The closing handshake of RFC 6455: which codes are echoed, which are an error, and what comes after.

use serde_json::json;

use crate::support::{Broker, Frame, Ws, frame, shared, until, wire};

/// One connection per code, which has sent a close frame with it. (All at once: an ended socket lingers for a second.)
fn closing(broker: &Broker, codes: &[u16]) -> Vec<(u16, Ws)> {
    let close = |code: &u16| {
        let mut ws = broker.ws();
        ws.send_close(*code);
        (*code, ws)
    };
    codes.iter().map(close).collect()
}

#[test]
fn a_legal_close_code_is_echoed() {
    let broker = shared();
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4001, 4200, 4999];
    for (code, mut ws) in closing(&broker, &codes) {
        assert!(matches!(ws.frame(), Frame::Close(Some(found), _) if found == code), "code {code}");
        ws.gone();
    }
}

#[test]
fn an_illegal_close_code_is_a_protocol_error() {
    let broker = shared();
    for (_, mut ws) in closing(&broker, &[0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]) {
        ws.broken_off(1002);
    }
}

#[test]
fn a_close_without_a_code_is_answered() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&wire(8, b""));
    assert!(matches!(ws.frame(), Frame::Close(None | Some(1000), _)));
    ws.gone();
}

#[test]
fn a_close_of_one_byte_is_a_protocol_error() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&wire(8, &[3]));
    ws.broken_off(1002);
}

#[test]
fn a_close_reason_must_be_utf8() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&wire(8, &[[3, 232].as_slice(), b"\xce\xba\xff"].concat()));
    ws.broken_off(1007);
    let mut ws = broker.ws();
    ws.send_bytes(&wire(8, &[[3, 232].as_slice(), "é".repeat(61).as_bytes(), b"!"].concat()));
    assert!(matches!(ws.frame(), Frame::Close(Some(1000), _)), "123 bytes of reason are legal");
    ws.gone();
}

#[test]
fn nothing_is_handled_after_a_close_frame() {
    let broker = shared();
    let mut ws = broker.ws();
    let ping = wire(1, br#"{"event":"pusher:ping"}"#);
    ws.send_bytes(&[ping.clone(), frame(0x88, true, &1000_u16.to_be_bytes()), ping, wire(9, b"x")].concat());
    ws.expect("pusher:pong");
    assert!(matches!(ws.frame(), Frame::Close(Some(1000), _)));
    ws.gone();
}

#[test]
fn a_close_between_fragments_is_answered() {
    let broker = shared();
    let mut ws = broker.ws();
    ws.send_bytes(&[frame(1, true, b"{\"event\""), wire(8, &1001_u16.to_be_bytes())].concat());
    assert!(matches!(ws.frame(), Frame::Close(Some(1001), _)));
    ws.gone();
}

#[test]
fn a_closed_connection_leaves_its_channels_at_once() {
    let broker = shared();
    let channel = crate::support::unique("close-leaves");
    let mut http = broker.http();
    for abrupt in [false, true] {
        let mut ws = broker.ws();
        ws.subscribe(&channel);
        assert_eq!(http.subscribers(&channel), 1);
        if !abrupt {
            ws.send_close(1000);
            ws.closed(1000);
        }
        drop(ws);
        until("the channel is empty", || http.subscribers(&channel) == 0);
        assert_eq!(http.get(&format!("/channels/{channel}"), &[]).json(), json!({ "occupied": false }));
    }
}

#[test]
fn a_half_closed_socket_is_a_closed_connection() {
    let broker = shared();
    let channel = crate::support::unique("half-closed");
    let mut http = broker.http();
    let mut ws = broker.ws();
    ws.subscribe(&channel);
    ws.half_close();
    until("the channel is empty", || http.subscribers(&channel) == 0);
    let end = ws.frame();
    assert!(matches!(end, Frame::Gone | Frame::Close(..)), "{end:?}");
}

#[test]
fn a_close_frame_is_answered_though_nothing_follows_it() {
    let broker = shared();
    for _ in 0..20 {
        let mut ws = broker.ws();
        ws.send_bytes(&[wire(1, br#"{"event":"pusher:ping"}"#), wire(8, &1000_u16.to_be_bytes())].concat());
        ws.half_close();
        ws.expect("pusher:pong");
        assert_eq!(ws.frame(), Frame::Close(Some(1000), String::new()));
    }
}
