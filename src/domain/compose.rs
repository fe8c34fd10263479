//! Handlers made of handlers: [`Both`] and [`Only`].

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures_util::FutureExt;

use super::{ClientEvent, Closing, Conflict, ConnectionError, Handler, Handshake, NeverOpened, Outcome, Reject, Subscribe, hold::Side};
use crate::protocol::{ChannelName, ChannelPattern, SignedUser};

/// Two handlers; made by [`Handler::and`]. Enters left to right, leaves right to left, and the first refusal wins.
///
/// Together they have the time limit of one call, and their contexts end together: whoever was asked about the handshake hears
/// of the close, also when another one refused or panicked after that.
#[derive(Clone, Debug)]
pub struct Both<A, B> {
    first: A,
    second: B,
}

impl<A, B> Both<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<A: Handler, B: Handler> Handler for Both<A, B> {
    type Conn = (A::Conn, B::Conn);

    async fn on_handshake(&self, request: &Handshake) -> Result<Self::Conn, Reject> {
        Ok((self.first.on_handshake(request).await?, self.second.on_handshake(request).await?))
    }

    async fn on_open(&self, conn: &mut Self::Conn) -> Result<Outcome, Reject> {
        Ok(both(self.first.on_open(&mut conn.0).await?, self.second.on_open(&mut conn.1).await?))
    }

    async fn on_signin(&self, conn: &mut Self::Conn, user: &SignedUser) -> Result<Outcome, Reject> {
        Ok(both(self.first.on_signin(&mut conn.0, user).await?, self.second.on_signin(&mut conn.1, user).await?))
    }

    async fn on_subscribe(&self, conn: &mut Self::Conn, sub: &Subscribe) -> Result<Outcome, Reject> {
        Ok(both(self.first.on_subscribe(&mut conn.0, sub).await?, self.second.on_subscribe(&mut conn.1, sub).await?))
    }

    async fn on_unsubscribe(&self, conn: &mut Self::Conn, channel: &ChannelName) -> Outcome {
        let second = self.second.on_unsubscribe(&mut conn.1, channel).await;
        second.and(self.first.on_unsubscribe(&mut conn.0, channel).await)
    }

    async fn on_message(&self, conn: &mut Self::Conn, msg: &ClientEvent) -> Result<Outcome, Reject> {
        Ok(both(self.first.on_message(&mut conn.0, msg).await?, self.second.on_message(&mut conn.1, msg).await?))
    }

    async fn on_conflict(&self, conn: &mut Self::Conn, conflict: &Conflict) -> Reject {
        let (side, route) = conflict.hold.route.split();
        let mut conflict = conflict.clone();
        conflict.hold.route = route;
        match side {
            Side::First => self.first.on_conflict(&mut conn.0, &conflict).await,
            Side::Second => self.second.on_conflict(&mut conn.1, &conflict).await,
        }
    }

    fn on_pong(&self, conn: &mut Self::Conn, round_trip: Duration) {
        self.first.on_pong(&mut conn.0, round_trip);
        self.second.on_pong(&mut conn.1, round_trip);
    }

    fn on_error(&self, conn: &mut Self::Conn, error: &ConnectionError) {
        self.first.on_error(&mut conn.0, error);
        self.second.on_error(&mut conn.1, error);
    }

    async fn on_close(&self, conn: Self::Conn, closing: Closing) -> Outcome {
        let told = closing.clone();
        let second = AssertUnwindSafe(async { self.second.on_close(conn.1, told).await }).catch_unwind().await;
        // A panic in one is not the other's fault: it still gets its end.
        let first = self.first.on_close(conn.0, closing).await;
        second.unwrap_or_else(|panic| resume_unwind(panic)).and(first)
    }

    fn hears_close(&self) -> bool {
        self.first.hears_close() || self.second.hears_close()
    }

    fn on_disconnect(&self, peer: &NeverOpened) {
        self.second.on_disconnect(peer);
        self.first.on_disconnect(peer);
    }
}

/// What two handlers ask for, each of its holds knowing which one it was.
fn both(first: Outcome, second: Outcome) -> Outcome {
    first.by(Side::First).and(second.by(Side::Second))
}

/// A handler that sees only the channels of one pattern; made by [`Handler::only`]. It still sees the connection itself.
#[derive(Clone, Debug)]
pub struct Only<H> {
    inner: H,
    pattern: ChannelPattern,
}

impl<H> Only<H> {
    pub(super) fn new(inner: H, pattern: ChannelPattern) -> Self {
        Self { inner, pattern }
    }
}

impl<H: Handler> Handler for Only<H> {
    type Conn = H::Conn;

    async fn on_handshake(&self, request: &Handshake) -> Result<Self::Conn, Reject> {
        self.inner.on_handshake(request).await
    }

    async fn on_open(&self, conn: &mut Self::Conn) -> Result<Outcome, Reject> {
        self.inner.on_open(conn).await
    }

    async fn on_signin(&self, conn: &mut Self::Conn, user: &SignedUser) -> Result<Outcome, Reject> {
        self.inner.on_signin(conn, user).await
    }

    async fn on_subscribe(&self, conn: &mut Self::Conn, sub: &Subscribe) -> Result<Outcome, Reject> {
        if self.pattern.matches(sub.channel.as_str()) { self.inner.on_subscribe(conn, sub).await } else { Ok(Outcome::accept()) }
    }

    async fn on_unsubscribe(&self, conn: &mut Self::Conn, channel: &ChannelName) -> Outcome {
        if self.pattern.matches(channel.as_str()) { self.inner.on_unsubscribe(conn, channel).await } else { Outcome::accept() }
    }

    async fn on_message(&self, conn: &mut Self::Conn, msg: &ClientEvent) -> Result<Outcome, Reject> {
        if self.pattern.matches(msg.channel.as_str()) { self.inner.on_message(conn, msg).await } else { Ok(Outcome::accept()) }
    }

    fn on_pong(&self, conn: &mut Self::Conn, round_trip: Duration) {
        self.inner.on_pong(conn, round_trip);
    }

    fn on_error(&self, conn: &mut Self::Conn, error: &ConnectionError) {
        self.inner.on_error(conn, error);
    }

    async fn on_conflict(&self, conn: &mut Self::Conn, conflict: &Conflict) -> Reject {
        self.inner.on_conflict(conn, conflict).await
    }

    async fn on_close(&self, conn: Self::Conn, closing: Closing) -> Outcome {
        self.inner.on_close(conn, closing).await
    }

    fn hears_close(&self) -> bool {
        self.inner.hears_close()
    }

    fn on_disconnect(&self, peer: &NeverOpened) {
        self.inner.on_disconnect(peer);
    }
}
