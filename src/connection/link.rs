//! The socket of one connection, once HTTP has let go of it.
//!
//! A WebSocket begins as an HTTP request, so its socket belongs to actix-http's dispatcher: with two buffers of 8 KiB, a copy of every frame and
//! a body behind two virtual calls. All that is needed only until the 101 is written. Then the body ends, and instead of shutting the socket
//! down the dispatcher hands it over: [`Handoff`] is how. From then on `frames.rs` reads it and `writer.rs` writes it, and nothing else is kept.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scanner::Violation;

/// How much one read takes, of all connections of a thread one after the other.
const READ: usize = 32 * 1024;

thread_local! {
    /// A connection that waits for its peer has no buffer of its own.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// A byte stream: TCP, TLS or a unix socket.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether to drop it says all there is to say. TLS has a goodbye of its own.
    fn ends_by_itself(&self) -> bool {
        true
    }

    /// What the peer has not taken is not to outlive this value: the kernel would keep it for as long as it hopes.
    fn forget_unsent(&self);
}

/// The socket, shared by who reads and who writes.
#[derive(Default)]
pub(super) struct Link {
    place: RefCell<Place>,
    /// How the client broke the rules, if it did.
    violation: Cell<Option<Violation>>,
    /// Nobody waits for the peer any more.
    hurried: Cell<bool>,
    /// Whoever reads is at work on something else.
    busy: Cell<bool>,
    /// What was read meanwhile.
    ahead: RefCell<BytesMut>,
    /// Those who wait for the socket to come, or to go.
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

#[derive(Default)]
enum Place {
    /// With HTTP: the answer to the request is not written yet.
    #[default]
    Http,
    Here(Box<dyn Socket>),
    Gone,
}

impl Link {
    /// How the client broke the rules, if its frames ended for that.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }

    pub(super) fn violated(&self, violation: Violation) {
        self.violation.set(Some(violation));
    }

    /// Whether HTTP still has the socket.
    pub(super) fn is_with_http(&self) -> bool {
        matches!(*self.place.borrow(), Place::Http)
    }

    /// To be woken when the socket comes or goes.
    pub(super) fn register_reader(&self, cx: &Context<'_>) {
        register(&self.reader, cx);
    }

    /// As [`Self::register_reader`], and when the writer is to hurry.
    pub(super) fn register_writer(&self, cx: &Context<'_>) {
        register(&self.writer, cx);
    }

    /// What is not written soon need not be: both sides have said goodbye, or one of them has had its time.
    pub(super) fn hurry(&self) {
        self.hurried.set(true);
        wake(&self.writer);
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.hurried.get()
    }

    /// While the reader is at work on something else, the writer looks whether the peer is still there.
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.set(busy);
        if busy {
            wake(&self.writer);
        }
    }

    /// Reads ahead of a reader that is busy, up to a bound. `Ready`: the peer is gone.
    pub(super) fn poll_ahead(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.busy.get() && self.ahead.borrow().len() < READ {
            match self.poll_socket(cx, |bytes| self.ahead.borrow_mut().extend_from_slice(bytes)) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// What was read ahead and not taken yet.
    pub(super) fn take_ahead(&self) -> Bytes {
        self.ahead.take().freeze()
    }

    /// Whether something was read ahead.
    pub(super) fn has_ahead(&self) -> bool {
        !self.ahead.borrow().is_empty()
    }

    /// The end of the socket, whoever finds it.
    pub(super) fn close(&self) {
        // Dropped after the borrow: TLS may have something to say about it.
        let _gone = self.place.replace(Place::Gone);
        wake(&self.reader);
        wake(&self.writer);
    }

    fn receive(&self, socket: Box<dyn Socket>) {
        *self.place.borrow_mut() = Place::Here(socket);
        wake(&self.reader);
        wake(&self.writer);
    }

    /// Reads what there is and shows it to `take`; `None` when nothing will come any more.
    pub(super) fn poll_read<T>(&self, cx: &mut Context<'_>, take: impl FnOnce(&[u8]) -> T) -> Poll<Option<T>> {
        let read = self.poll_socket(cx, take);
        if read.is_pending() {
            // The writer may find the end first.
            self.register_reader(cx);
        }
        read
    }

    fn poll_socket<T>(&self, cx: &mut Context<'_>, take: impl FnOnce(&[u8]) -> T) -> Poll<Option<T>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let read = self.with_socket(|socket| socket.poll_read(cx, &mut buffer));
            match read {
                None | Some(Poll::Ready(Err(_))) => Poll::Ready(None),
                Some(Poll::Ready(Ok(()))) if buffer.filled().is_empty() => Poll::Ready(None),
                Some(Poll::Ready(Ok(()))) => Poll::Ready(Some(take(buffer.filled()))),
                Some(Poll::Pending) => Poll::Pending,
            }
        })
    }

    /// Writes some of it.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with_socket(|socket| socket.poll_write(cx, bytes)).unwrap_or_else(gone)
    }

    /// What TLS holds back goes out, too.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_socket(|socket| socket.poll_flush(cx)).unwrap_or_else(gone)
    }

    /// Says that nothing will follow, where that takes more than to drop the socket.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let goodbye = |socket: Pin<&mut dyn Socket>| if socket.ends_by_itself() { Poll::Ready(Ok(())) } else { socket.poll_shutdown(cx) };
        self.with_socket(goodbye).unwrap_or_else(gone)
    }

    /// The end of a socket whose peer does not read.
    pub(super) fn abort(&self) {
        let _gone = self.with_socket(|socket| socket.forget_unsent());
        self.close();
    }

    fn with_socket<T>(&self, act: impl FnOnce(Pin<&mut dyn Socket>) -> T) -> Option<T> {
        match &mut *self.place.borrow_mut() {
            Place::Here(socket) => Some(act(Pin::new(&mut **socket))),
            Place::Http | Place::Gone => None,
        }
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

fn register(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut place = place.borrow_mut();
    if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    let waker = waker.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The way of one socket from HTTP to its connection: whoever owns the socket asks here, before it is shut down, whether it is wanted.
/// One for each HTTP connection, in its data. Cloning is a reference count.
#[derive(Clone, Default)]
pub(crate) struct Handoff(Rc<RefCell<Option<Rc<Link>>>>);

impl Handoff {
    /// The answer is complete: what is shut down next is wanted.
    pub(super) fn ask(&self, link: Rc<Link>) {
        *self.0.borrow_mut() = Some(link);
    }

    /// Who wants the socket, if anybody does.
    pub(crate) fn asked(&self) -> Option<Heir> {
        self.0.borrow_mut().take().map(|link| Heir { link, served: false })
    }
}

/// A connection that waits for its socket. Dropped, it learns that there is none.
pub(crate) struct Heir {
    link: Rc<Link>,
    served: bool,
}

impl Heir {
    /// The socket, on which everything of HTTP is written.
    pub(crate) fn receive(mut self, socket: impl Socket + 'static) {
        self.served = true;
        self.link.receive(Box::new(socket));
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if !self.served {
            self.link.close();
        }
    }
}
