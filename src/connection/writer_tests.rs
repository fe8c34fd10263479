use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    task::Waker,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::link::{Handoff, Link, Socket},
    *,
};
use crate::{
    cluster::Broker,
    domain::{CloseCause, Outbox},
    protocol::{CloseCode, WireFrame},
};

/// What a socket was given, write by write, and how much more it takes.
#[derive(Default)]
struct Wire {
    writes: RefCell<Vec<Vec<u8>>>,
    room: Cell<usize>,
    flushes: Cell<usize>,
    shut: Cell<bool>,
    aborted: Cell<bool>,
}

struct Peer(Rc<Wire>);

impl Socket for Peer {
    fn ends_by_itself(&self) -> bool {
        false
    }

    fn forget_unsent(&self) {
        self.0.aborted.set(true);
    }
}

impl AsyncRead for Peer {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.0.room.get());
        if taken == 0 {
            return Poll::Pending;
        }
        self.0.room.set(self.0.room.get() - taken);
        self.0.writes.borrow_mut().push(bytes[..taken].to_vec());
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.flushes.set(self.0.flushes.get() + 1);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shut.set(true);
        Poll::Ready(Ok(()))
    }
}

struct Bench {
    outbox: Arc<Outbox>,
    link: Rc<Link>,
    wire: Rc<Wire>,
    writer: Writer<Arc<Outbox>>,
    broker: Broker,
}

fn bench(room: usize) -> Bench {
    let (outbox, link) = (Arc::new(Outbox::new(1 << 20, Arc::default())), Rc::<Link>::default());
    let wire = Rc::new(Wire { room: Cell::new(room), ..Wire::default() });
    let broker = Broker::new([], 0);
    let writer = Writer::new(Arc::clone(&outbox), Rc::clone(&link), None, broker.socket());
    Bench { outbox, link, wire, writer, broker }
}

impl Bench {
    fn hand_over(&self) {
        let handoff = Handoff::default();
        handoff.ask(Rc::clone(&self.link));
        handoff.asked().expect("somebody has asked").receive(Peer(Rc::clone(&self.wire)));
    }

    fn poll(&mut self) -> bool {
        Pin::new(&mut self.writer).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn push(&self, texts: &[&str]) {
        for text in texts {
            self.outbox.push(WireFrame::text(text));
        }
    }

    fn written(&self) -> Vec<u8> {
        self.wire.writes.borrow().concat()
    }
}

fn frames(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| WireFrame::text(text).into_bytes()).collect()
}

#[test]
fn what_waits_leaves_in_one_write_and_nothing_before_the_socket_is_here() {
    let mut bench = bench(usize::MAX);
    bench.push(&["one", "two", "three"]);
    assert!(!bench.poll());
    assert!(bench.written().is_empty());
    bench.hand_over();
    assert!(!bench.poll());
    assert_eq!(bench.wire.writes.borrow().len(), 1);
    assert_eq!(bench.written(), frames(&["one", "two", "three"]));
    assert_eq!(bench.wire.flushes.get(), 1);
    assert!(!bench.poll());
    assert_eq!(bench.wire.flushes.get(), 1, "nothing was written since");
}

#[test]
fn what_is_said_first_is_taken_before_the_socket_comes_and_not_said_again() {
    let mut bench = bench(usize::MAX);
    assert!(bench.writer.first_words().is_empty());
    bench.push(&["hello"]);
    assert_eq!(bench.writer.first_words(), [WireFrame::text("hello").into_bytes()]);
    bench.hand_over();
    bench.push(&["then"]);
    assert!(!bench.poll());
    assert_eq!(bench.written(), frames(&["then"]));
}

#[test]
fn a_socket_that_takes_little_gets_every_byte_once_and_in_order() {
    let texts: Vec<String> = (0..300).map(|n| format!("{n} {}", "x".repeat(n))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut bench = bench(0);
    bench.hand_over();
    bench.push(&texts);
    let expected = frames(&texts);
    for room in (1..2_000).cycle() {
        bench.wire.room.set(room);
        assert!(!bench.poll());
        if bench.written().len() == expected.len() {
            break;
        }
        assert_eq!(bench.wire.room.get(), 0, "there was more to write");
    }
    assert_eq!(bench.written(), expected);
}

#[test]
fn frames_that_are_large_are_not_copied_together() {
    let large = "x".repeat(TOGETHER);
    let mut bench = bench(usize::MAX);
    bench.hand_over();
    bench.push(&["small", &large, "a", "b"]);
    assert!(!bench.poll());
    let sizes: Vec<usize> = bench.wire.writes.borrow().iter().map(Vec::len).collect();
    assert_eq!(sizes, [7, TOGETHER + 4, 6]);
}

#[test]
fn everything_is_written_before_the_end_and_then_the_socket_is_gone() {
    let mut bench = bench(usize::MAX);
    bench.hand_over();
    bench.push(&["last"]);
    bench.outbox.fail(CloseCause::Kicked, CloseCode::UNAUTHORIZED, "out");
    assert!(!bench.poll(), "the peer may answer");
    bench.outbox.finish();
    assert!(bench.poll());
    assert!(bench.wire.shut.get() && !bench.wire.aborted.get() && bench.written().starts_with(&frames(&["last"])));
    assert_eq!(Rc::strong_count(&bench.wire), 1, "the socket is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_its_last_words_is_left_after_a_while() {
    let mut bench = bench(0);
    bench.hand_over();
    bench.push(&["unread"]);
    assert!(!bench.poll());
    bench.outbox.fail(CloseCause::SlowConsumer, CloseCode::OVER_CAPACITY, "out");
    bench.outbox.finish();
    assert!(!bench.poll());
    tokio::time::sleep(LAST_WORDS * 2).await;
    assert!(!bench.poll(), "whoever is still waited for has all the time");
    bench.link.hurry();
    assert!(!bench.poll());
    tokio::time::sleep(LAST_WORDS).await;
    assert!(bench.poll());
    assert!(bench.wire.aborted.get());
    assert_eq!(Rc::strong_count(&bench.wire), 1, "the socket is dropped");
}

#[test]
fn the_node_counts_a_socket_until_it_is_gone() {
    let bench = bench(0);
    assert_eq!(bench.broker.socket_count(), 1);
    let Bench { writer, broker, .. } = bench;
    drop(writer);
    assert_eq!(broker.socket_count(), 0);
}
