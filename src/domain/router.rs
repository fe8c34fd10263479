//! Routing of client events by the pattern of their name.

use std::{fmt, future::Future, pin::Pin};

use serde::de::DeserializeOwned;

use super::{ClientEvent, Handler, Handshake, Outcome, Reject};
use crate::protocol::ChannelPattern;

/// What a route returns: an `async move` block in a `Box::pin`.
pub type RouteFuture<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Reject>> + Send + 'a>>;

type Route<C> = Box<dyn for<'a> Fn(&'a mut C, &'a ClientEvent) -> RouteFuture<'a> + Send + Sync>;

/// Sends each client event to the first route whose pattern matches its name; events without a route are relayed.
///
/// It is a [`Handler`] of its own when the context can be made from nothing, and a part of yours otherwise: call
/// [`MessageRouter::dispatch`] from `on_message`.
pub struct MessageRouter<C> {
    routes: Vec<(ChannelPattern, Route<C>)>,
}

impl<C> Default for MessageRouter<C> {
    fn default() -> Self {
        Self { routes: Vec::new() }
    }
}

impl<C> fmt::Debug for MessageRouter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|(pattern, _)| pattern)).finish()
    }
}

impl<C: Send + 'static> MessageRouter<C> {
    /// A router without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route, behind those that are there.
    pub fn on(
        mut self,
        pattern: ChannelPattern,
        route: impl for<'a> Fn(&'a mut C, &'a ClientEvent) -> RouteFuture<'a> + Send + Sync + 'static,
    ) -> Self {
        self.routes.push((pattern, Box::new(route)));
        self
    }

    /// Adds a route that gets the event's data as a typed value; data that does not fit is refused before the route is called.
    pub fn on_json<T: DeserializeOwned + Send + 'static>(
        self,
        pattern: ChannelPattern,
        route: impl for<'a> Fn(&'a mut C, &'a ClientEvent, T) -> RouteFuture<'a> + Send + Sync + 'static,
    ) -> Self {
        self.on(pattern, move |conn, msg| match msg.json() {
            Ok(value) => route(conn, msg, value),
            Err(reject) => Box::pin(std::future::ready(Err(reject))),
        })
    }

    /// Runs the route of one event.
    ///
    /// # Errors
    /// What the route returns.
    pub async fn dispatch(&self, conn: &mut C, msg: &ClientEvent) -> Result<Outcome, Reject> {
        match self.routes.iter().find(|(pattern, _)| pattern.matches(&msg.event)) {
            Some((_, route)) => route(conn, msg).await,
            None => Ok(Outcome::accept()),
        }
    }
}

impl<C: Default + Send + 'static> Handler for MessageRouter<C> {
    type Conn = C;

    async fn on_handshake(&self, _request: &Handshake) -> Result<C, Reject> {
        Ok(C::default())
    }

    async fn on_message(&self, conn: &mut C, msg: &ClientEvent) -> Result<Outcome, Reject> {
        self.dispatch(conn, msg).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::protocol::ChannelName;

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("not ready at once"),
        }
    }

    fn message(event: &str, data: &str) -> ClientEvent {
        ClientEvent { channel: ChannelName::parse("private-x", 200).unwrap(), event: event.into(), data: data.into(), user_id: None }
    }

    #[test]
    fn the_first_matching_route_is_taken() {
        let pattern = |text: &str| ChannelPattern::parse(text).unwrap();
        let router = MessageRouter::<Vec<String>>::new()
            .on_json(pattern("client-order.add"), |seen: &mut Vec<String>, _msg, n: u32| {
                seen.push(format!("add {n}"));
                Box::pin(async { Ok(Outcome::accept()) })
            })
            .on(pattern("client-order.*"), |seen: &mut Vec<String>, msg| {
                seen.push(msg.event.clone());
                Box::pin(async { Err(Reject::forbidden("no")) })
            });
        let mut seen = Vec::new();
        assert!(now(router.dispatch(&mut seen, &message("client-order.add", "3"))).is_ok());
        assert!(now(router.dispatch(&mut seen, &message("client-order.drop", "{}"))).is_err());
        assert!(now(router.dispatch(&mut seen, &message("client-typing", "{}"))).is_ok());
        let refused = now(router.dispatch(&mut seen, &message("client-order.add", "not json"))).unwrap_err();
        assert_eq!(refused.message(), "The data of client-order.add is not what it should be.");
        assert_eq!(seen, ["add 3", "client-order.drop"]);
    }
}
