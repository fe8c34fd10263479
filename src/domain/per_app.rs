//! A handler of its own for each application.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{ClientEvent, Closing, Conflict, ConnectionError, Handler, Handshake, NeverOpened, Outcome, Reject, Subscribe};
use crate::protocol::{ChannelName, SignedUser};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One handler for most applications, and others for some. The price of the choice at run time is a box per call.
#[derive(Clone)]
pub struct PerApp {
    others: Arc<dyn Entrance>,
    by_app: HashMap<String, Arc<dyn Entrance>>,
}

impl fmt::Debug for PerApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_app.keys()).finish()
    }
}

impl PerApp {
    /// The handler of every application that is not named by [`PerApp::app`], and of peers that named no application of ours.
    pub fn new(others: impl Handler) -> Self {
        Self { others: Arc::new(Shared(Arc::new(others))), by_app: HashMap::new() }
    }

    /// The handler of one application.
    pub fn app(mut self, app_id: impl Into<String>, handler: impl Handler) -> Self {
        self.by_app.insert(app_id.into(), Arc::new(Shared(Arc::new(handler))));
        self
    }
}

/// A handler without its type, before it has a context.
trait Entrance: Send + Sync {
    fn on_handshake<'a>(&'a self, request: &'a Handshake) -> Boxed<'a, Result<Box<dyn Session>, Reject>>;
    fn on_disconnect(&self, peer: &NeverOpened);
}

/// A handler together with the context of one connection, without their types.
pub trait Session: Send {
    #[doc(hidden)]
    fn on_open(&mut self) -> Boxed<'_, Result<Outcome, Reject>>;
    #[doc(hidden)]
    fn on_signin<'a>(&'a mut self, user: &'a SignedUser) -> Boxed<'a, Result<Outcome, Reject>>;
    #[doc(hidden)]
    fn on_subscribe<'a>(&'a mut self, sub: &'a Subscribe) -> Boxed<'a, Result<Outcome, Reject>>;
    #[doc(hidden)]
    fn on_unsubscribe<'a>(&'a mut self, channel: &'a ChannelName) -> Boxed<'a, Outcome>;
    #[doc(hidden)]
    fn on_message<'a>(&'a mut self, msg: &'a ClientEvent) -> Boxed<'a, Result<Outcome, Reject>>;
    #[doc(hidden)]
    fn on_pong(&mut self, round_trip: Duration);
    #[doc(hidden)]
    fn on_error(&mut self, error: &ConnectionError);
    #[doc(hidden)]
    fn on_conflict<'a>(&'a mut self, conflict: &'a Conflict) -> Boxed<'a, Reject>;
    #[doc(hidden)]
    fn on_close(self: Box<Self>, closing: Closing) -> Boxed<'static, Outcome>;
}

struct Shared<H>(Arc<H>);

struct Bound<H: Handler> {
    handler: Arc<H>,
    conn: H::Conn,
}

impl<H: Handler> Entrance for Shared<H> {
    fn on_handshake<'a>(&'a self, request: &'a Handshake) -> Boxed<'a, Result<Box<dyn Session>, Reject>> {
        Box::pin(async move {
            let conn = self.0.on_handshake(request).await?;
            Ok(Box::new(Bound { handler: Arc::clone(&self.0), conn }) as Box<dyn Session>)
        })
    }

    fn on_disconnect(&self, peer: &NeverOpened) {
        self.0.on_disconnect(peer);
    }
}

impl<H: Handler> Session for Bound<H> {
    fn on_open(&mut self) -> Boxed<'_, Result<Outcome, Reject>> {
        Box::pin(self.handler.on_open(&mut self.conn))
    }

    fn on_signin<'a>(&'a mut self, user: &'a SignedUser) -> Boxed<'a, Result<Outcome, Reject>> {
        Box::pin(self.handler.on_signin(&mut self.conn, user))
    }

    fn on_subscribe<'a>(&'a mut self, sub: &'a Subscribe) -> Boxed<'a, Result<Outcome, Reject>> {
        Box::pin(self.handler.on_subscribe(&mut self.conn, sub))
    }

    fn on_unsubscribe<'a>(&'a mut self, channel: &'a ChannelName) -> Boxed<'a, Outcome> {
        Box::pin(self.handler.on_unsubscribe(&mut self.conn, channel))
    }

    fn on_message<'a>(&'a mut self, msg: &'a ClientEvent) -> Boxed<'a, Result<Outcome, Reject>> {
        Box::pin(self.handler.on_message(&mut self.conn, msg))
    }

    fn on_pong(&mut self, round_trip: Duration) {
        self.handler.on_pong(&mut self.conn, round_trip);
    }

    fn on_error(&mut self, error: &ConnectionError) {
        self.handler.on_error(&mut self.conn, error);
    }

    fn on_conflict<'a>(&'a mut self, conflict: &'a Conflict) -> Boxed<'a, Reject> {
        Box::pin(self.handler.on_conflict(&mut self.conn, conflict))
    }

    fn on_close(self: Box<Self>, closing: Closing) -> Boxed<'static, Outcome> {
        Box::pin(async move { self.handler.on_close(self.conn, closing).await })
    }
}

impl Handler for PerApp {
    type Conn = Box<dyn Session>;

    async fn on_handshake(&self, request: &Handshake) -> Result<Self::Conn, Reject> {
        self.by_app.get(request.app_id()).unwrap_or(&self.others).on_handshake(request).await
    }

    async fn on_open(&self, conn: &mut Self::Conn) -> Result<Outcome, Reject> {
        conn.on_open().await
    }

    async fn on_signin(&self, conn: &mut Self::Conn, user: &SignedUser) -> Result<Outcome, Reject> {
        conn.on_signin(user).await
    }

    async fn on_subscribe(&self, conn: &mut Self::Conn, sub: &Subscribe) -> Result<Outcome, Reject> {
        conn.on_subscribe(sub).await
    }

    async fn on_unsubscribe(&self, conn: &mut Self::Conn, channel: &ChannelName) -> Outcome {
        conn.on_unsubscribe(channel).await
    }

    async fn on_message(&self, conn: &mut Self::Conn, msg: &ClientEvent) -> Result<Outcome, Reject> {
        conn.on_message(msg).await
    }

    fn on_pong(&self, conn: &mut Self::Conn, round_trip: Duration) {
        conn.on_pong(round_trip);
    }

    fn on_error(&self, conn: &mut Self::Conn, error: &ConnectionError) {
        conn.on_error(error);
    }

    async fn on_conflict(&self, conn: &mut Self::Conn, conflict: &Conflict) -> Reject {
        conn.on_conflict(conflict).await
    }

    async fn on_close(&self, conn: Self::Conn, closing: Closing) -> Outcome {
        conn.on_close(closing).await
    }

    fn on_disconnect(&self, peer: &NeverOpened) {
        let own = peer.app_id.as_deref().and_then(|app_id| self.by_app.get(app_id));
        own.unwrap_or(&self.others).on_disconnect(peer);
    }
}
