//! Locks and entries of the log as the one JSON object they are everywhere: command line, HTTP API, deliveries, broadcasts. Programs
//! are written against these names: add, never rename.

use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::{Value, json};

use super::{EventRow, LockRow};

impl Serialize for EventRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_struct("Event", 13)?;
        entry.serialize_field("position", &self.position)?;
        entry.serialize_field("shard", &self.shard)?;
        entry.serialize_field("kind", &self.kind)?;
        entry.serialize_field("type", &self.event_type)?;
        entry.serialize_field("app", &self.app)?;
        entry.serialize_field("resource", &self.resource)?;
        entry.serialize_field("principal", &self.principal)?;
        entry.serialize_field("socket_id", &self.socket_id)?;
        entry.serialize_field("fence", &self.fence)?;
        entry.serialize_field("cause", &self.cause)?;
        entry.serialize_field("after_grace", &self.after_grace)?;
        entry.serialize_field("at", &self.at.to_rfc3339())?;
        entry.serialize_field("context", &self.payload)?;
        entry.end()
    }
}

impl EventRow {
    /// The entry as JSON; what it does not have is `null`.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Serialize for LockRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let holder = |holder: &super::HolderRow| json!({ "socket_id": holder.socket_id, "node": holder.incarnation, "since": holder.since.to_rfc3339() });
        let mut lock = serializer.serialize_struct("Lock", 11)?;
        lock.serialize_field("resource", &self.resource)?;
        lock.serialize_field("fence", &self.fence)?;
        lock.serialize_field("state", &self.state)?;
        lock.serialize_field("mode", &self.mode)?;
        lock.serialize_field("principal", &self.principal)?;
        lock.serialize_field("app", &self.app)?;
        lock.serialize_field("event", &self.topic)?;
        lock.serialize_field("acquired_at", &self.acquired_at.to_rfc3339())?;
        match self.grace_until {
            Some(until) => lock.serialize_field("grace_until", &until.to_rfc3339())?,
            None => lock.skip_field("grace_until")?,
        }
        lock.serialize_field("context", &self.context)?;
        lock.serialize_field("holders", &self.holders.iter().map(holder).collect::<Vec<_>>())?;
        lock.end()
    }
}

impl LockRow {
    /// The lock as JSON; `grace_until` only while the grace runs. A holder's `node` is the incarnation.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::store::*;

    #[test]
    fn an_entry_has_the_documented_names_in_their_order() {
        let event = EventRow {
            shard: Shard(3),
            position: 7,
            kind: EventKind::Unlocked,
            event_type: "OrderUnlocked".to_owned(),
            app: "app".to_owned(),
            resource: "order:42".to_owned(),
            fence: Some(Fence(12)),
            principal: Some("user:1".to_owned()),
            socket_id: Some("1.2".to_owned()),
            incarnation: Some(Incarnation(5)),
            cause: Some(CloseCause::ClientClosed),
            after_grace: true,
            detected_ms_before_commit: Some(9),
            payload: json!({ "order_id": "42" }),
            at: Timestamp(1_700_000_000_123),
        };
        let line = r#"{"position":7,"shard":3,"kind":"unlocked","type":"OrderUnlocked","app":"app","resource":"order:42","#.to_owned()
            + r#""principal":"user:1","socket_id":"1.2","fence":12,"cause":"client_closed","after_grace":true,"#
            + r#""at":"2023-11-14T22:13:20.123Z","context":{"order_id":"42"}}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
        let emitted =
            EventRow { kind: EventKind::Event, fence: None, principal: None, socket_id: None, cause: None, after_grace: false, ..event };
        let emitted = emitted.to_json();
        assert_eq!((&emitted["fence"], &emitted["cause"], &emitted["kind"]), (&Value::Null, &Value::Null, &json!("event")));
        assert_eq!(emitted.as_object().unwrap().len(), 13, "a name is always there");
    }

    #[test]
    fn a_lock_has_the_documented_names() {
        let lock = LockRow {
            fence: Fence(12),
            shard: Shard(0),
            app: "app".to_owned(),
            resource: "order:42".to_owned(),
            mode: Mode::Exclusive,
            principal: "user:1".to_owned(),
            state: LockState::Grace,
            topic: "Order".to_owned(),
            context: json!({}),
            grace: Duration::from_secs(5),
            grace_until: Some(Timestamp(1_700_000_005_000)),
            acquired_at: Timestamp(1_700_000_000_000),
            released_at: None,
            socket_id: "1.2".to_owned(),
            cause: Some(CloseCause::Gone),
            holders: Vec::new(),
        };
        let line = r#"{"resource":"order:42","fence":12,"state":"grace","mode":"exclusive","principal":"user:1","app":"app","#.to_owned()
            + r#""event":"Order","acquired_at":"2023-11-14T22:13:20.000Z","grace_until":"2023-11-14T22:13:25.000Z","context":{},"#
            + r#""holders":[]}"#;
        assert_eq!(serde_json::to_string(&lock).unwrap(), line);
        let holder = HolderRow {
            hold: HoldId::random(),
            socket_id: "1.2".to_owned(),
            incarnation: Incarnation(5),
            since: Timestamp(1_700_000_000_000),
        };
        let held = LockRow { state: LockState::Held, grace_until: None, cause: None, holders: vec![holder], ..lock }.to_json();
        assert_eq!(held["holders"], json!([{ "socket_id": "1.2", "node": 5, "since": "2023-11-14T22:13:20.000Z" }]));
        assert_eq!(held.get("grace_until"), None);
    }
}
