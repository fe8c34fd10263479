use super::*;
use crate::{config::StoreSettings, server::apps::settings_of};

fn planned(app: Value) -> Planned {
    let planned = plan(app.as_object().unwrap()).unwrap();
    settings_of(&planned.row, &StoreSettings::default()).unwrap();
    planned
}

#[test]
fn a_full_row_is_taken_over() {
    let Planned { row, notes } = planned(json!({
        "id": "app-1", "key": "k", "secret": "s", "max_connections": 200, "enable_client_messages": 1, "enabled": 1,
        "max_backend_events_per_sec": -1, "max_client_events_per_sec": 5, "max_read_req_per_sec": 30,
        "max_presence_members_per_channel": 500, "max_presence_member_size_in_kb": 4, "max_channel_name_length": 100,
        "max_event_channels_at_once": 7, "max_event_name_length": 60, "max_event_payload_in_kb": 20, "max_event_batch_size": 3,
        "webhooks": r#"[{"url":"https://hooks.example/x","event_types":["channel_occupied","member_added"],
            "headers":{"X-Token":"t"},"filter":{"channel_name_starts_with":"private-"}}]"#,
        "enable_user_authentication": 1,
    }));
    assert_eq!(notes, Vec::<String>::new());
    let settings = settings_of(&row, &StoreSettings::default()).unwrap();
    assert!(settings.enabled && settings.client_events && settings.user_authentication && settings.max_connections == 200);
    let limits = &settings.limits;
    assert_eq!((limits.publishes_per_second, limits.client_events_per_second, limits.reads_per_second), (0, 5, 30));
    assert_eq!((limits.max_presence_members, limits.max_user_info_bytes, limits.max_channel_name), (500, 4_096, 100));
    assert_eq!((limits.max_channels_per_event, limits.max_event_name, limits.max_batch), (7, 60, 3));
    assert_eq!((limits.max_event_bytes, limits.max_client_event_bytes), (20_480, 20_480));
    let endpoint = &settings.webhooks[0];
    assert_eq!((endpoint.channel_prefix.as_str(), endpoint.events.len(), endpoint.headers.len()), ("private-", 2, 1));
    assert!(!seen(&row).to_string().contains("\"t\""), "a header's value is not shown");
}

#[test]
fn what_soketi_leaves_open_is_what_soketi_does() {
    let Planned { row, notes } = planned(json!({ "id": 7, "key": "k", "secret": "s", "enabled": null, "max_connections": null }));
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!((row.id.as_str(), row.enabled), ("7", true));
    let limits = json!({ "max_user_info_bytes": 2_048, "max_event_bytes": 102_400, "max_client_event_bytes": 102_400, "client_events_per_second": 0 });
    assert_eq!(row.settings, json!({ "user_authentication": false, "limits": limits }));
}

#[test]
fn what_cannot_be_taken_over_is_said() {
    let Planned { row, notes } = planned(json!({
        "id": "a", "key": "k", "secret": "s", "enabled": false, "max_connections": 0, "max_presence_members_per_channel": -1,
        "max_channel_name_length": 9_999, "max_event_batch_size": "many", "color": "red",
        "webhooks": [{ "lambda_function": "f", "event_types": ["channel_occupied"] }, { "url": "https://x.example", "event_types": ["new_kind"] }],
    }));
    assert!(!row.enabled);
    let said = notes.join("\n");
    for expected in [
        "max_connections is 0",
        "max_presence_members_per_channel is no limit: the largest that there is here, 100000",
        "max_channel_name_length is more than can be set here: 1024",
        "max_event_batch_size is many, no number",
        "color is not known here",
        "webhooks[0] calls an AWS Lambda function",
        "webhooks[1] wants new_kind, which are not sent here",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(plan(json!({ "id": "a", "key": "k" }).as_object().unwrap()).is_err());
}
