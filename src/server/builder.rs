//! A server in the making: settings, handler, middleware, routes.

use std::{fmt, sync::Arc};

use actix_web::{
    Scope,
    dev::HttpServiceFactory,
    web::{self, ServiceConfig},
};

use super::{Application, ServerError, bootstrap, wiring};
use crate::{
    cluster::Broker,
    config::Settings,
    domain::Handler,
    lifecycle::{BoxedListener, Listener, TransactionalListener},
};

/// Adds the broker's routes to a scope of the embedding program.
pub(super) type Wrap = Arc<dyn Fn(Scope, &mut ServiceConfig) + Send + Sync>;
/// Adds routes of the embedding program.
pub(super) type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// A broker to be started inside another program.
///
/// ```no_run
/// # async fn embed() -> Result<(), holdline::ServerError> {
/// use holdline::{Server, Settings};
///
/// Server::new(Settings::default()).run().await
/// # }
/// ```
#[must_use = "a server does nothing until it runs"]
pub struct Server<H: Handler = ()> {
    pub(super) settings: Settings,
    pub(super) broker: Broker,
    pub(super) handler: H,
    pub(super) wrap: Option<Wrap>,
    pub(super) routes: Vec<Routes>,
    pub(super) listeners: Vec<BoxedListener>,
}

impl<H: Handler> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Server {
    /// A server with these settings and no handler.
    pub fn new(settings: Settings) -> Self {
        let broker = Broker::new(settings.apps.iter().map(wiring::app), settings.server.max_connections);
        Self { settings, broker, handler: (), wrap: None, routes: Vec::new(), listeners: Vec::new() }
    }
}

impl<H: Handler> Server<H> {
    /// The application's code; replaces the one that was given before. Combine several with [`Handler::and`], or with
    /// [`crate::PerApp`] for one per application.
    pub fn handler<N: Handler>(self, handler: N) -> Server<N> {
        let Self { settings, broker, handler: _, wrap, routes, listeners } = self;
        Server { settings, broker, handler, wrap, routes, listeners }
    }

    /// The broker, for handlers and for the rest of the program: publish, look around, disconnect.
    pub fn broker(&self) -> Broker {
        self.broker.clone()
    }

    /// actix middleware around everything the broker serves, WebSocket upgrades included: `|scope| scope.wrap(MyMiddleware)`.
    /// As with actix, what is added last is outermost.
    pub fn wrap<S: HttpServiceFactory + 'static>(mut self, wrap: impl Fn(Scope) -> S + Send + Sync + 'static) -> Self {
        let inner = self.wrap.take();
        self.wrap = Some(Arc::new(move |scope, routes| {
            let scope = match &inner {
                Some(inner) => web::scope("").configure(|routes| inner(scope, routes)),
                None => scope,
            };
            routes.service(wrap(scope));
        }));
        self
    }

    /// More routes beside the broker's own, which win.
    pub fn routes(mut self, routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> Self {
        self.routes.push(Arc::new(routes));
        self
    }

    /// Somebody who hears each entry of the log at least once, from an offset of its own. Any number of them.
    pub fn listener(mut self, listener: impl Listener) -> Self {
        self.listeners.push(BoxedListener::plain(listener));
        self
    }

    /// Somebody whose effects are rows in the same PostgreSQL, committed together with its offset: exactly once.
    pub fn transactional_listener(mut self, listener: impl TransactionalListener) -> Self {
        self.listeners.push(BoxedListener::transactional(listener));
        self
    }

    /// Binds the listener. Call it inside an actix system, whose main thread outlives every connection.
    ///
    /// # Errors
    /// [`ServerError`] when the settings break a rule or the address cannot be listened on.
    pub async fn build(self) -> Result<Application, ServerError> {
        bootstrap::build(self).await
    }

    /// [`Server::build`], then [`Application::run_until_stopped`].
    ///
    /// # Errors
    /// As those two.
    pub async fn run(self) -> Result<(), ServerError> {
        self.build().await?.run_until_stopped().await
    }
}
