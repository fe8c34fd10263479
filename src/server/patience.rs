//! How long a peer may take to say what it wants.
//!
//! actix-http limits the time of the first head of a connection only. On a connection that is kept, a second one may be begun and never
//! finished, and its socket is lost for others. So whoever reads here knows whether a request is being served, and if none is, since
//! when the next one is waited for.

use std::{
    cell::Cell,
    error::Error,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::connection::{Handoff, Socket};

/// From the first byte of a request to the end of its head.
const HEAD: Duration = Duration::from_secs(10);

/// What reader and application share about one connection.
#[derive(Debug)]
pub(super) struct Visit {
    /// Requests whose answer is not written to its end.
    serving: Cell<usize>,
    /// A request has begun.
    begun: Cell<bool>,
    /// Since when the next request, or the rest of it, is waited for.
    since: Cell<Instant>,
    idle: Duration,
}

impl Visit {
    /// By when there has to be a whole head; `None` while one is being served.
    fn deadline(&self) -> Option<Instant> {
        // What has come behind a request was not seen to begin.
        let patience = if self.begun.get() { HEAD } else { self.idle + HEAD };
        (self.serving.get() == 0).then(|| self.since.get() + patience)
    }

    fn has_read(&self) {
        if self.serving.get() == 0 && !self.begun.replace(true) {
            self.since.set(Instant::now());
        }
    }

    /// A request has come; it is served until what this gives is dropped.
    pub(super) fn serve(self: &Rc<Self>) -> Serving {
        self.serving.set(self.serving.get() + 1);
        Serving(Rc::clone(self))
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct Serving(Rc<Visit>);

impl Drop for Serving {
    fn drop(&mut self) {
        let Visit { serving, begun, since, .. } = &*self.0;
        serving.set(serving.get().saturating_sub(1));
        begun.set(false);
        since.set(Instant::now());
    }
}

/// The body of an answer. A WebSocket's lasts as long as its connection.
pub(super) struct Served {
    body: BoxBody,
    _serving: Option<Serving>,
}

impl Served {
    pub(super) fn new(body: impl MessageBody + 'static, serving: Option<Serving>) -> Self {
        Self { body: body.boxed(), _serving: serving }
    }
}

impl MessageBody for Served {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// A connection of whose peer a request is waited for, but not for ever. It keeps the stream until a WebSocket goes on with it.
pub(super) struct Patient<T: Socket + 'static> {
    /// Until a WebSocket has it.
    stream: Option<T>,
    handoff: Handoff,
    visit: Rc<Visit>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<T: Socket + 'static> Patient<T> {
    /// `idle`: how long a connection may be kept without a request.
    pub(super) fn new(stream: T, idle: Duration) -> Self {
        let visit = Visit { serving: Cell::new(0), begun: Cell::new(false), since: Cell::new(Instant::now()), idle };
        Self { stream: Some(stream), handoff: Handoff::default(), visit: Rc::new(visit), alarm: None }
    }

    /// The stream, while HTTP has it.
    pub(super) fn get_ref(&self) -> Option<&T> {
        self.stream.as_ref()
    }

    /// Where a WebSocket asks for the stream.
    pub(super) fn handoff(&self) -> Handoff {
        self.handoff.clone()
    }

    pub(super) fn visit(&self) -> Rc<Visit> {
        Rc::clone(&self.visit)
    }

    /// Nothing has come. Has it been too long?
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.visit.deadline() else {
            self.alarm = None;
            return Poll::Pending;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(cx)
    }
}

impl<T: Socket + 'static> AsyncRead for Patient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        match Pin::new(stream).poll_read(cx, buf) {
            Poll::Pending => self.poll_late(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready => {
                if buf.filled().len() > before {
                    self.visit.has_read();
                }
                ready
            }
        }
    }
}

impl<T: Socket + 'static> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().map_or_else(gone, |stream| Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().map_or_else(gone, |stream| Pin::new(stream).poll_flush(cx))
    }

    /// The end of HTTP on this connection, and of the connection, unless a WebSocket goes on with it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match (self.handoff.asked(), &mut self.stream) {
            (Some(heir), stream) => {
                Poll::Ready(stream.take().map(|stream| heir.receive(stream)).ok_or_else(|| io::ErrorKind::NotConnected.into()))
            }
            (None, Some(stream)) => Pin::new(stream).poll_shutdown(cx),
            (None, None) => gone(),
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().map_or_else(gone, |stream| Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

/// A WebSocket that waits for the stream in vain has to know.
impl<T: Socket + 'static> Drop for Patient<T> {
    fn drop(&mut self) {
        drop(self.handoff.asked());
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{sleep, timeout},
    };

    use super::*;

    const IDLE: Duration = Duration::from_secs(75);

    fn connection() -> (DuplexStream, Patient<DuplexStream>) {
        let (peer, ours) = duplex(1024);
        (peer, Patient::new(ours, IDLE))
    }

    /// After how many seconds the reader gives up; `None` if it has not after ten minutes.
    async fn gives_up(reader: &mut Patient<DuplexStream>) -> Option<u64> {
        let started = Instant::now();
        let mut byte = [0];
        timeout(Duration::from_secs(600), async { while reader.read_exact(&mut byte).await.is_ok() {} }).await.ok()?;
        Some(started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_has_to_end_however_slowly_it_comes() {
        let (mut peer, mut reader) = connection();
        let trickle = tokio::spawn(async move {
            while peer.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(gives_up(&mut reader).await, Some(10));
        trickle.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_served_is_not_hurried_and_the_time_counts_from_the_end_of_it() {
        let (mut peer, mut reader) = connection();
        let serving = reader.visit().serve();
        peer.write_all(b"a body").await.unwrap();
        assert_eq!(gives_up(&mut reader).await, None);
        drop(serving);
        assert_eq!(gives_up(&mut reader).await, Some(85), "idle, or with the beginning of a request that came too early");
    }

    #[tokio::test(start_paused = true)]
    async fn every_request_has_its_own_time() {
        let (mut peer, mut reader) = connection();
        for _ in 0..5 {
            sleep(Duration::from_secs(60)).await;
            peer.write_all(b"head").await.unwrap();
            assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 4);
            drop(Served::new("answer", Some(reader.visit().serve())));
        }
        peer.write_all(b"h").await.unwrap();
        assert_eq!(gives_up(&mut reader).await, Some(10));
    }
}
