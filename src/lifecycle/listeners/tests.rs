//! An entry to try listeners with.

use serde_json::json;

use crate::lifecycle::store::{EventKind, EventRow, Fence, Incarnation, Shard, Timestamp};

/// The beginning of user 1's lock on a resource, number 42.
pub(crate) fn event(name: &str, resource: &str) -> EventRow {
    EventRow {
        shard: Shard(3),
        position: 7,
        kind: if name.ends_with("Unlocked") { EventKind::Unlocked } else { EventKind::Locked },
        event_type: name.to_owned(),
        app: "app".to_owned(),
        resource: resource.to_owned(),
        fence: Some(Fence(12)),
        principal: Some("user:1".to_owned()),
        socket_id: Some("1.2".to_owned()),
        incarnation: Some(Incarnation(5)),
        cause: None,
        after_grace: false,
        detected_ms_before_commit: None,
        payload: json!({ "order_id": "42" }),
        at: Timestamp(1_700_000_000_123),
    }
}
