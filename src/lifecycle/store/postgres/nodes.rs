//! Incarnations: their begin, their pulse, their end.

use std::time::Duration;

use super::session::{Slot, within};
use crate::lifecycle::store::{Incarnation, Naming, NewNode, NodeState, NodeView, StoreError};

pub(super) async fn register(slot: &Slot, node: &NewNode) -> Result<Incarnation, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_scalar("SELECT holdline.register($1, $2, $3, $4)")
        .bind(&node.name)
        .bind(node.boot.0)
        .bind(i32::try_from(node.ttl.as_millis()).unwrap_or(i32::MAX))
        .bind(node.naming == Naming::Unique)
        .fetch_one(&mut session.connection);
    let incarnation = within(session.limit, call).await;
    session.settle(incarnation).map(Incarnation)
}

pub(super) async fn heartbeat(slot: &Slot, node: Incarnation) -> Result<Vec<NodeView>, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_as::<_, (i64, String, i64, String, i32)>(
        "SELECT incarnation, name, heartbeat, state, ttl_ms FROM holdline.heartbeat($1)",
    )
    .bind(node.0)
    .fetch_all(&mut session.connection);
    let rows = within(session.limit, call).await;
    let view = |(incarnation, name, heartbeat, state, ttl_ms): (i64, String, i64, String, i32)| {
        Ok(NodeView {
            incarnation: Incarnation(incarnation),
            name,
            heartbeat,
            state: NodeState::parse(&state)?,
            ttl: Duration::from_millis(u64::try_from(ttl_ms).unwrap_or(0)),
        })
    };
    session.settle(rows)?.into_iter().map(view).collect()
}

pub(super) async fn declare_dead(slot: &Slot, by: Incarnation, node: Incarnation, seen: i64) -> Result<bool, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_scalar("SELECT holdline.declare_dead($1, $2, $3)")
        .bind(by.0)
        .bind(node.0)
        .bind(seen)
        .fetch_one(&mut session.connection);
    let declared = within(session.limit, call).await;
    session.settle(declared)
}

pub(super) async fn set_draining(slot: &Slot, node: Incarnation) -> Result<(), StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query("SELECT holdline.set_draining($1)").bind(node.0).execute(&mut session.connection);
    let done = within(session.limit, call).await;
    session.settle(done).map(drop)
}

pub(super) async fn deregister(slot: &Slot, node: Incarnation) -> Result<bool, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_scalar("SELECT holdline.deregister($1)").bind(node.0).fetch_one(&mut session.connection);
    let done = within(session.limit, call).await;
    session.settle(done)
}
