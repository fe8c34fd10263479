//! The bodies of webhooks: whatever clients have written into names and data, they say what happened and nothing else.

use std::time::Duration;

use super::body;
use crate::{
    fuzz::{
        engine::Fuzz,
        model::{self, Json, Text},
    },
    lifecycle::{listeners::tests::event, store::EventRow},
};

#[test]
fn a_body_has_one_name_and_one_channel_for_each_event() {
    let seeds = [
        "channel_occupied\nprivate-foobar\n{}",
        "client_event\npresence-room\n{\"event\":\"client-x\",\"data\":\"{\\\"on\\\":true}\",\"socket_id\":\"1.1\",\"user_id\":\"42\"}",
        "subscription_count\nnews\n{\"subscription_count\":3,\"name\":\"other\",\"channel\":\"other\",\"x\":[1,{\"name\":2}]}",
        "member_added\npresence-room\n[\"no object\"]",
    ];
    let words = ["\"name\":", "\"channel\":", "\"events\":", "\"time_ms\":", "\"data\":", "\n", "}]}", "\",\""];
    Fuzz::new("webhooks").seeds(seeds).tokens(&words).run(10_000, |input| {
        let text = String::from_utf8_lossy(input);
        let mut lines = text.splitn(3, '\n');
        let [name, channel, payload] = std::array::from_fn(|_| lines.next().unwrap_or_default());
        let Ok(payload) = serde_json::from_str::<serde_json::Value>(payload) else { return "no payload".to_owned() };
        let row = EventRow { event_type: name.to_owned(), payload: payload.clone(), ..event("x", channel) };
        let written = body(Duration::from_millis(1_700_000_000_123), &[row.clone(), row]).expect("it can be written");
        let Text::Json(node) = model::read(&written) else { return "too deep".to_owned() };
        let fields = model::object(&node, &["time_ms", "events"]).expect("an object");
        assert_eq!(fields.get("time_ms").map(|time| time.raw), Some("1700000000123"));
        let Some(Json::Array(events)) = fields.get("events").map(|events| &events.value) else { panic!("{written}") };
        assert_eq!(events.len(), 2);
        for written_event in events {
            let Json::Object(members) = &written_event.value else { panic!("{written}") };
            let names: Vec<&str> = members.iter().filter_map(|member| member.name.as_deref()).collect();
            let known = model::object(written_event, &names).expect("every name once");
            assert_eq!((known.text("name"), known.text("channel")), (Ok(Some(name.to_owned())), Ok(Some(channel.to_owned()))));
            let extra =
                payload.as_object().map_or(0, |fields| fields.keys().filter(|key| !["name", "channel"].contains(&key.as_str())).count());
            assert_eq!(names.len(), 2 + extra, "nothing is lost");
        }
        format!("{}", payload.is_object())
    });
}
