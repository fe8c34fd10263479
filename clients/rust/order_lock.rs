//! Joining `private-order.<id>` holds that order for as long as the page stays open: the same as one `[[apps.holds]]` rule, in Rust.
//!
//! Run it with `cargo run --example order_lock`, and subscribe twice.

use std::time::Duration;

use holdline::{prelude::*, protocol::ChannelPattern};
use serde_json::json;

struct OrderLock {
    order: ChannelPattern,
}

impl Handler for OrderLock {
    /// Who is behind the socket: the connection itself, until it signs in.
    type Conn = Principal;

    async fn on_handshake(&self, request: &Handshake) -> Result<Principal, Reject> {
        Ok(request.conn().socket_id().into())
    }

    async fn on_signin(&self, who: &mut Principal, user: &SignedUser) -> Result<Outcome, Reject> {
        *who = Principal::from(&user.id);
        Ok(Outcome::accept())
    }

    async fn on_subscribe(&self, who: &mut Principal, sub: &Subscribe) -> Result<Outcome, Reject> {
        let Some(order) = sub.capture(&self.order, "id") else { return Ok(Outcome::accept()) };
        let hold = Hold::new(format!("order:{order}"), who.clone())
            .event("Order")
            .context(json!({ "order_id": order, "who": who.to_string() }))
            .grace(Duration::from_secs(5))
            .show_holder(true);
        Ok(Outcome::accept().hold(hold))
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order = ChannelPattern::parse("private-order.{id}")?;
    Ok(Server::new(Settings::default()).handler(OrderLock { order }).run().await?)
}
