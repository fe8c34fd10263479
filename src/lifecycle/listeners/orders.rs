//! Who holds what, as a table beside the application's own: `holdline.held`, one row per lock, from its Locked to its Unlocked.

use sqlx::PgConnection;

use crate::lifecycle::{
    listener::{Delivered, EventFilter, ListenerOptions, Retry, TransactionalListener},
    store::EventKind,
};

/// Keeps `holdline.held`. The rows are keyed by fence, so shared locks of a resource stand beside each other, and the end of an old
/// lock cannot touch a newer one.
#[derive(Debug)]
pub(crate) struct OrdersListener {
    name: String,
    filter: EventFilter,
}

impl OrdersListener {
    /// Under which its offset is stored, and which locks the table shows. Two of them share the table.
    pub(crate) fn new(name: impl Into<String>, filter: EventFilter) -> Self {
        Self { name: name.into(), filter }
    }
}

impl TransactionalListener for OrdersListener {
    fn name(&self) -> &str {
        &self.name
    }

    /// Locks that live, and whose Locked is no longer in the log: they were taken long before this listener was configured. The row
    /// locks make an Unlocked that is being written come after this.
    async fn prepare(&self, transaction: &mut PgConnection) -> Result<(), Retry> {
        let rows: Vec<(i64, String, String)> = sqlx::query_as(
            "SELECT l.fence, l.app, holdline.event_type(l.topic, 'locked') FROM holdline.lock l
              WHERE l.state <> 'released' AND NOT EXISTS (SELECT 1 FROM holdline.event e WHERE e.fence = l.fence AND e.kind = 'locked')
              ORDER BY l.fence FOR SHARE OF l",
        )
        .fetch_all(&mut *transaction)
        .await?;
        let fences: Vec<i64> =
            rows.into_iter().filter(|(_, app, name)| self.filter.matches_names(app, name)).map(|(fence, ..)| fence).collect();
        sqlx::query(
            "INSERT INTO holdline.held (fence, app, resource, principal, socket_id, context, event, since)
             SELECT fence, app, resource, principal, socket_id, context, holdline.event_type(topic, 'locked'), acquired_at
               FROM holdline.lock WHERE fence = ANY ($1) ON CONFLICT (fence) DO NOTHING",
        )
        .bind(fences)
        .execute(transaction)
        .await?;
        Ok(())
    }

    async fn handle(&self, transaction: &mut PgConnection, event: &Delivered) -> Result<(), Retry> {
        let Some(fence) = event.fence else { return Ok(()) };
        match event.kind {
            EventKind::Locked => {
                sqlx::query(
                    "INSERT INTO holdline.held (fence, app, resource, principal, socket_id, context, event, since)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8::bigint / 1000.0)) ON CONFLICT (fence) DO NOTHING",
                )
                .bind(fence.0)
                .bind(&event.app)
                .bind(&event.resource)
                .bind(event.principal.as_deref().unwrap_or_default())
                .bind(event.socket_id.as_deref().unwrap_or_default())
                .bind(&event.payload)
                .bind(&event.event_type)
                .bind(event.at.0)
                .execute(transaction)
                .await?;
            }
            EventKind::Unlocked => {
                sqlx::query("DELETE FROM holdline.held WHERE fence = $1").bind(fence.0).execute(transaction).await?;
            }
            EventKind::Event | EventKind::Webhook => {}
        }
        Ok(())
    }

    fn options(&self) -> ListenerOptions {
        ListenerOptions { filter: self.filter.clone(), ..ListenerOptions::default() }
    }
}
