//! Random and mutilated input: whatever comes, the process lives, says nothing of a panic, and serves the next one.

use crate::support::{Broker, Launch, Ws, one_app, wire};

/// Xorshift: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

const SEEDS: [&str; 8] = [
    r#"{"event":"pusher:subscribe","data":{"auth":"app-key:00","channel":"presence-room","channel_data":"{\"user_id\":\"7\",\"user_info\":{\"name\":\"Zo\u00eb\"}}"}}"#,
    r#"{"event":"pusher:subscribe","data":"{\"channel\":\"news\"}"}"#,
    r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#,
    r#"{"event":"pusher:signin","data":{"auth":"app-key:00","user_data":"{\"id\":\"42\",\"watchlist\":[\"7\",\"9\"]}"}}"#,
    r#"{"event":"client-typing","channel":"private-room","data":{"on":true,"n":[1.0,-0,1e9]}}"#,
    r#"{"event":"pusher:ping","data":{}}"#,
    r#"{"event":"pusher:pong"}"#,
    r#"{"event":"pusher:subscribe","data":{"channel":"\ud83e\udd80"}}"#,
];

/// One seed with a few bytes replaced, removed, doubled or swapped for something that JSON minds.
fn mutilated(dice: &mut Dice) -> String {
    let mut text = SEEDS[dice.below(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(text.len());
        match dice.below(5) {
            0 => text[at] = b"\"\\{}[]:,0e-.u \n"[dice.below(15)],
            1 => drop(text.drain(at..(at + 1 + dice.below(6)).min(text.len()))),
            2 => text.insert(at, b"\"\\{[9"[dice.below(5)]),
            3 => text.extend_from_within(at..),
            _ => text.truncate(at.max(1)),
        }
        if text.is_empty() {
            text.push(b'{');
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn mutilated_messages_are_answered_or_ignored_and_the_connection_lives_on() {
    let broker = Broker::with(one_app("client_events = true"));
    let mut dice = Dice(0x5eed_0001);
    let mut ws = broker.ws();
    for at in 0..3_000 {
        let text = mutilated(&mut dice);
        ws.send_text(&text);
        // Perhaps it was still a ping: a pong would be no barrier.
        let barrier = format!("barrier-{at}");
        ws.send_subscribe(&barrier, None, None);
        let mut answers = 0;
        loop {
            let event = ws.event();
            if event.channel() == Some(barrier.as_str()) {
                assert_eq!(event.name(), "pusher_internal:subscription_succeeded");
                break;
            }
            answers += 1;
            assert!(answers <= 3, "too many answers to {text}: {}", event.raw);
        }
        ws.unsubscribe(&barrier);
    }
    ws.quiet();
}

#[test]
fn random_bytes_after_the_handshake_harm_nobody() {
    let broker = Broker::with(one_app(""));
    let mut neighbour = broker.ws();
    let mut dice = Dice(0x5eed_0002);
    for round in 0..400 {
        let mut ws = broker.ws();
        let length = 1 + dice.below(300);
        let mut bytes = dice.bytes(length);
        if round % 2 == 0 {
            // A plausible beginning, so that more than the first byte is looked at.
            bytes[0] = [0x81, 0x01, 0x80, 0x88, 0x89, 0x8a][dice.below(6)];
            if let Some(second) = bytes.get_mut(1) {
                *second |= 0x80;
            }
        }
        ws.try_send_bytes(&bytes);
        drop(ws);
    }
    neighbour.quiet();
    let mut http = broker.http();
    crate::support::until("they are all gone", || http.connections() == 1);
}

#[test]
fn random_frames_in_legal_headers_harm_nobody() {
    let broker = Broker::with(one_app(""));
    let mut dice = Dice(0x5eed_0003);
    for _ in 0..200 {
        let mut ws = broker.ws();
        for _ in 0..10 {
            let opcode = [0, 1, 1, 1, 9, 10][dice.below(6)];
            let length = dice.below(126);
            let payload = dice.bytes(length);
            if !ws.try_send_bytes(&wire(opcode, &payload)) {
                break;
            }
        }
    }
    broker.ws().quiet();
}

#[test]
fn random_requests_harm_nobody() {
    let broker = Launch { errors_expected: true, ..Launch::config(one_app("")) }.start();
    let mut dice = Dice(0x5eed_0004);
    let targets = ["/app/app-key", "/apps/app-id/events", "/apps/app-id/channels", "/ctx/x/app/app-key", "/up"];
    for _ in 0..400 {
        let mut http = broker.http();
        let target = targets[dice.below(targets.len())];
        let mut request = format!("POST {target}?auth_key=app-key&auth_timestamp=1&auth_version=1.0&auth_signature=00 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello").into_bytes();
        for _ in 0..=dice.below(8) {
            let at = dice.below(request.len());
            request[at] = dice.next() as u8;
        }
        http.send_bytes(&request);
    }
    let mut ws: Ws = broker.ws();
    ws.quiet();
    assert_eq!(broker.http().plain("/up").status, 200);
}
