use std::{
    io,
    task::{Context, Poll, Waker},
};

use actix_web::error::PayloadError;
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::link::{Handoff, Socket},
    *,
};

const MASK: [u8; 4] = [0xA1, 0x02, 0x33, 0x7F];

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ ..=125 => out.push(0x80 | short as u8),
        medium => {
            out.push(0x80 | 126);
            out.extend((medium as u16).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn text(text: &str) -> Message {
    Message::Text(text.to_owned())
}

/// What HTTP has read before the socket came, in these pieces; then it waits, or ends.
fn early(pieces: Vec<Vec<u8>>, ends: bool) -> dev::Payload {
    let pieces = stream::iter(pieces.into_iter().map(|piece| Ok::<_, PayloadError>(Bytes::from(piece))));
    let payload: std::pin::Pin<Box<dyn Stream<Item = _>>> =
        if ends { Box::pin(pieces) } else { Box::pin(futures_util::StreamExt::chain(pieces, stream::pending())) };
    dev::Payload::Stream { payload }
}

/// A socket on which these pieces come in, one a read; then it is closed, or silent.
struct Peer {
    pieces: Vec<Vec<u8>>,
    closes: bool,
}

impl Socket for Peer {
    fn forget_unsent(&self) {}
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pieces.is_empty() {
            return if self.closes { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        buf.put_slice(&self.pieces.remove(0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn inbound(early: dev::Payload) -> (Inbound, Rc<Link>) {
    let link = Rc::<Link>::default();
    (Inbound::new(early, 1_000, Rc::clone(&link)), link)
}

fn hand_over(link: &Rc<Link>, pieces: Vec<Vec<u8>>, closes: bool) {
    let handoff = Handoff::default();
    handoff.ask(Rc::clone(link));
    handoff.asked().expect("somebody has asked").receive(Peer { pieces, closes });
}

/// Everything up to the end (true), or up to where more is waited for.
fn all(inbound: &mut Inbound) -> (Vec<Message>, bool) {
    let (mut cx, mut messages) = (Context::from_waker(Waker::noop()), Vec::new());
    loop {
        match Pin::new(&mut *inbound).poll_next(&mut cx) {
            Poll::Ready(Some(message)) => messages.push(message),
            Poll::Ready(None) => return (messages, true),
            Poll::Pending => return (messages, false),
        }
    }
}

#[test]
fn messages_come_in_order_whatever_pieces_they_come_in() {
    let bytes = [
        frame(0x81, b"one"),
        frame(0x01, "Zo\u{eb}".as_bytes()),
        frame(0x89, b"ping"),
        frame(0x00, b" and "),
        frame(0x80, b"so on"),
        frame(0x8a, b""),
        frame(0x81, &[b'x'; 700]),
        frame(0x88, &4001_u16.to_be_bytes()),
        frame(0x88, b""),
    ]
    .concat();
    let long = "x".repeat(700);
    let expected = vec![
        text("one"),
        Message::Fragment,
        Message::Ping(b"ping".to_vec()),
        Message::Fragment,
        text("Zo\u{eb} and so on"),
        Message::Pong,
        text(&long),
        Message::Close(Some(4001)),
        Message::Close(None),
    ];
    for size in [1, 2, 7, 100, bytes.len()] {
        let (mut inbound, link) = inbound(early(vec![], false));
        hand_over(&link, bytes.chunks(size).map(<[u8]>::to_vec).collect(), true);
        assert_eq!(all(&mut inbound), (expected.clone(), true), "in pieces of {size}");
        assert_eq!(link.violation(), None);
    }
}

#[test]
fn what_http_has_read_comes_first_and_the_rest_of_a_frame_from_the_socket() {
    let (first, second) = (frame(0x81, b"early"), frame(0x81, b"split"));
    let (begin, end) = second.split_at(8);
    let (mut inbound, link) = inbound(early(vec![[&first[..], begin].concat()], false));
    assert_eq!(all(&mut inbound), (vec![text("early")], false), "before the socket has come");
    hand_over(&link, vec![end.to_vec(), frame(0x81, b"late")], false);
    assert_eq!(all(&mut inbound), (vec![text("split"), text("late")], false));
}

#[test]
fn a_peer_that_goes_before_the_socket_has_come_is_gone() {
    let (mut inbound, link) = inbound(early(vec![frame(0x81, b"last words")], true));
    assert_eq!(all(&mut inbound), (vec![text("last words")], true));
    assert_eq!(link.violation(), None);
}

#[test]
fn a_socket_that_nobody_hands_over_is_gone() {
    let (mut inbound, link) = inbound(early(vec![], false));
    let handoff = Handoff::default();
    handoff.ask(Rc::clone(&link));
    assert_eq!(all(&mut inbound), (vec![], false));
    drop(handoff.asked());
    assert_eq!(all(&mut inbound), (vec![], true));
}

#[test]
fn whoever_says_too_much_before_the_answer_broke_the_rules() {
    let many = vec![frame(0x81, &[b'x'; 900]); 40];
    let (mut inbound, link) = inbound(early(many, false));
    let (messages, ended) = all(&mut inbound);
    assert!(ended && messages.len() < 40);
    assert_eq!(link.violation().expect("a violation").code.as_u16(), 1002);
}

#[test]
fn good_messages_before_a_bad_frame_are_heard_and_none_behind_it() {
    let bad = [0xC1, 0x81, 0, 0, 0, 0, b'b'].to_vec();
    let (mut inbound, link) = inbound(early(vec![], false));
    hand_over(&link, vec![[frame(0x81, b"a"), frame(0x81, b"b"), bad, frame(0x81, b"c")].concat()], false);
    assert_eq!(all(&mut inbound), (vec![text("a"), text("b")], true));
    assert_eq!(link.violation().expect("a violation").code.as_u16(), 1002);
}

#[test]
fn text_must_be_utf_8_when_its_fragments_are_together() {
    let cut = "\u{eb}".as_bytes();
    let (mut good, good_link) = inbound(early(vec![], false));
    hand_over(&good_link, vec![frame(0x01, &cut[..1]), frame(0x80, &cut[1..])], false);
    assert_eq!(all(&mut good), (vec![Message::Fragment, text("\u{eb}")], false));
    let (mut bad, bad_link) = inbound(early(vec![], false));
    hand_over(&bad_link, vec![frame(0x81, &cut[..1])], false);
    assert_eq!(all(&mut bad), (vec![], true));
    assert_eq!(bad_link.violation().expect("a violation").code.as_u16(), 1007);
}

#[test]
fn an_announced_tebibyte_is_refused_at_its_header() {
    let mut header = vec![0x81, 0x80 | 127];
    header.extend((1_u64 << 40).to_be_bytes());
    header.extend([0; 4]);
    let (mut inbound, link) = inbound(early(vec![], false));
    hand_over(&link, vec![header, vec![0; 500]], false);
    assert_eq!(all(&mut inbound), (vec![], true));
    assert_eq!(link.violation().expect("a violation").code.as_u16(), 1009);
}
