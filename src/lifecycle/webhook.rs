//! The fields of a webhook as they are kept in the log, and as they are sent.
//!
//! They are the same, but for texts with a zero character, which PostgreSQL keeps in no text: those stand in the log as
//! `{"json": "\"a\\u0000b\""}`, their own JSON once more as a text. No field of a webhook is an object otherwise.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::domain::{Seen, WebhookKind};

/// The only field of a text that could not be kept as it is.
const AS_JSON: &str = "json";

/// The kind and the fields of something that only happens; `None` for who is present and who is absent, which is the store's to judge.
pub(super) fn happening(seen: Seen<'_>) -> Option<(WebhookKind, Value)> {
    Some(match seen {
        Seen::ClientEvent { event, data, sender, user_id } => {
            let mut fields = Map::from_iter([
                ("event".to_owned(), kept(event)),
                ("data".to_owned(), kept(data)),
                ("socket_id".to_owned(), sender.to_string().into()),
            ]);
            fields.extend(user_id.map(|id| ("user_id".to_owned(), kept(id))));
            (WebhookKind::ClientEvent, fields.into())
        }
        Seen::CacheMiss => (WebhookKind::CacheMiss, json!({})),
        Seen::SubscriptionCount(count) => (WebhookKind::SubscriptionCount, json!({ "subscription_count": count })),
        Seen::Occupied | Seen::Vacated | Seen::MemberAdded(_) | Seen::MemberRemoved(_) => return None,
    })
}

fn kept(text: &str) -> Value {
    if text.contains('\0') { json!({ AS_JSON: Value::from(text).to_string() }) } else { text.into() }
}

/// A field as it is sent, from what was kept.
pub(crate) fn sent(kept: &Value) -> Cow<'_, Value> {
    let text = kept.get(AS_JSON).and_then(Value::as_str);
    text.and_then(|text| serde_json::from_str(text).ok()).map_or(Cow::Borrowed(kept), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SocketId;

    fn event(data: &str) -> Seen<'_> {
        let sender = SocketId::parse("123456.7890123").unwrap().unwrap();
        Seen::ClientEvent { event: "client-typing", data, sender, user_id: Some("42") }
    }

    #[test]
    fn a_client_event_has_the_fields_of_the_protocol() {
        let (kind, payload) = happening(event(r#"{"on":true}"#)).unwrap();
        let expected = json!({ "event": "client-typing", "data": "{\"on\":true}", "socket_id": "123456.7890123", "user_id": "42" });
        assert_eq!((kind, &payload), (WebhookKind::ClientEvent, &expected));
        assert!(expected.as_object().unwrap().values().all(|value| *sent(value) == *value));
        let count = happening(Seen::SubscriptionCount(3)).unwrap();
        assert_eq!(count, (WebhookKind::SubscriptionCount, json!({ "subscription_count": 3 })));
        assert_eq!(happening(Seen::CacheMiss), Some((WebhookKind::CacheMiss, json!({}))));
        assert_eq!(happening(Seen::MemberAdded("7")), None);
    }

    #[test]
    fn a_zero_character_reaches_the_endpoint_past_a_store_that_has_none() {
        let (_, payload) = happening(event("a\0\"ü")).unwrap();
        assert!(!payload.to_string().contains("\\u0000\"") && !payload["data"].is_string(), "{payload}");
        assert!(payload["data"]["json"].as_str().is_some_and(|text| !text.contains('\0')));
        assert_eq!(*sent(&payload["data"]), json!("a\0\"ü"));
    }
}
