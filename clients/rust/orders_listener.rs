//! Keeps `locked_by` in the application's own table of orders, in the PostgreSQL that the broker keeps its locks in: each lock and each
//! unlock takes effect exactly once, in order, whatever is killed in between.
//!
//! `DATABASE_URL=postgres://… cargo run --example orders_listener`, then open `private-order.42` with a client. The table is made if it
//! is not there. A save that comes too late is kept out by the fence:
//! `UPDATE orders SET … WHERE id = 42 AND lock_fence = $fence AND locked_by IS NOT NULL`.

use holdline::{
    config::{Options, load},
    prelude::*,
};
use sqlx::PgConnection;

struct Orders;

impl TransactionalListener for Orders {
    fn name(&self) -> &str {
        "orders-rust"
    }

    async fn prepare(&self, transaction: &mut PgConnection) -> Result<(), Retry> {
        // Brokers that start together make it one after the other.
        sqlx::raw_sql(
            "SELECT pg_advisory_xact_lock(hashtext('orders-rust'));
             CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, locked_by text, lock_fence bigint)",
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    async fn handle(&self, transaction: &mut PgConnection, event: &Delivered) -> Result<(), Retry> {
        let order = event.resource.strip_prefix("order:").and_then(|id| id.parse::<i64>().ok());
        let (Some(order), Some(fence)) = (order, event.fence) else { return Ok(()) };
        // The fence keeps an old entry from touching what a newer lock has written.
        let update = match event.event_type.as_str() {
            "OrderLocked" => {
                sqlx::query("UPDATE orders SET locked_by = $3, lock_fence = $2 WHERE id = $1 AND coalesce(lock_fence, 0) < $2")
                    .bind(order)
                    .bind(fence.0)
                    .bind(&event.principal)
            }
            "OrderUnlocked" => {
                sqlx::query("UPDATE orders SET locked_by = NULL WHERE id = $1 AND lock_fence = $2").bind(order).bind(fence.0)
            }
            _ => return Ok(()),
        };
        update.execute(transaction).await?;
        Ok(())
    }

    fn options(&self) -> ListenerOptions {
        ListenerOptions { filter: EventFilter::default().events(["Order*"]), ..ListenerOptions::default() }
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = load(Options::from_process()?)?.settings;
    let server = Server::new(settings).transactional_listener(Orders).build().await?;
    println!("Listening on {:?}", server.addrs());
    Ok(server.run_until_stopped().await?)
}
