//! Greets whoever subscribes to `private-order.{id}` with the id of that order: `cargo run --example hello [PORT]`.

use holdline::prelude::*;

struct Hello {
    orders: ChannelPattern,
}

impl Handler for Hello {
    type Conn = ();

    async fn on_handshake(&self, _request: &Handshake) -> Result<(), Reject> {
        Ok(())
    }

    async fn on_subscribe(&self, _conn: &mut (), sub: &Subscribe) -> Result<Outcome, Reject> {
        let order = sub.capture(&self.orders, "id");
        Ok(order.map_or(Outcome::accept(), |id| Outcome::accept().push("hello", format!("This is order {id}"))))
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = Settings::default();
    settings.server.port = std::env::args().nth(1).map_or(Ok(6001), |port| port.parse())?;
    let hello = Hello { orders: ChannelPattern::parse("private-order.{id}")? };
    let server = Server::new(settings).handler(hello).build().await?;
    println!("Listening on {:?}", server.addrs());
    Ok(server.run_until_stopped().await?)
}
