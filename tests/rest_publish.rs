//! POST /events: protocol.md 6.4, 6.6, 6.11 and 6.12.

use serde_json::{Value, json};

use crate::support::{Broker, Ws, member, shared, unique};

fn subscriber(broker: &Broker, channel: &str) -> Ws {
    let mut ws = broker.ws();
    ws.enter(channel);
    ws
}

#[test]
fn an_accepted_event_is_answered_with_an_empty_object() {
    let broker = shared();
    let channel = unique("accepted");
    let mut ws = subscriber(&broker, &channel);
    let mut http = broker.http();
    for body in [
        json!({ "name": "e", "channels": [channel], "data": "1" }),
        json!({ "name": "e", "channel": channel, "data": "1" }),
        json!({ "name": "e", "channel": channel, "channels": [channel, channel], "data": "1", "socket_id": null, "info": null, "extra": {} }),
        json!({ "name": "e", "channel": channel, "data": "1", "socket_id": "1.1" }),
        json!({ "name": "e", "channel": channel, "data": "1", "info": "" }),
    ] {
        let answer = http.trigger(&body);
        if body["info"] == json!("") {
            assert!(answer.json().is_object());
        } else {
            assert_eq!(answer.json(), json!({}), "{body}");
        }
        ws.expect_data("e", &channel, "1");
        ws.quiet();
    }
    http.publish(&unique("nobody-listens"), "e", "1");
}

#[test]
fn channel_and_channels_are_both_used_and_each_gets_the_event_once() {
    let broker = shared();
    let (one, two) = (unique("both"), unique("both"));
    let mut ws = subscriber(&broker, &one);
    ws.subscribe(&two);
    let body = json!({ "name": "e", "channel": one, "channels": [two, one, two], "data": "1" });
    assert_eq!(broker.http().trigger(&body).json(), json!({}));
    let mut channels = [ws.event(), ws.event()].map(|event| event.channel().unwrap().to_owned());
    channels.sort();
    let mut expected = [one, two];
    expected.sort();
    assert_eq!(channels, expected);
    ws.quiet();
}

#[test]
fn the_excluded_socket_alone_does_not_get_the_event() {
    let broker = shared();
    let (one, two) = (unique("except"), unique("presence-except"));
    let mut sockets: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
    for ws in &mut sockets {
        ws.subscribe(&one);
    }
    let excluded = sockets[1].socket_id.clone();
    let body = json!({ "name": "e", "channels": [one, two], "data": "1", "socket_id": excluded });
    assert_eq!(broker.http().trigger(&body).json(), json!({}));
    sockets[1].quiet();
    for at in [0, 2] {
        sockets[at].expect_data("e", &one, "1");
        sockets[at].quiet();
    }
}

#[test]
fn data_has_at_most_10240_decoded_bytes() {
    let broker = shared();
    let channel = unique("sizes");
    let mut ws = subscriber(&broker, &channel);
    let mut http = broker.http();
    let body = |data: &str| format!(r#"{{"name":"e","channel":"{channel}","data":"{data}"}}"#);
    for data in ["x".repeat(10_240), r"\u00e9".repeat(5_120), "é".repeat(5_120), r"\n".repeat(10_240), r"\ud83e\udd80".repeat(2_560)] {
        assert_eq!(http.post("/events", body(&data)).json(), json!({}));
        assert_eq!(ws.expect("e").data().len(), 10_240);
    }
    for data in ["x".repeat(10_241), r"\u00e9".repeat(5_121), "é".repeat(5_121)] {
        let text = http.post("/events", body(&data)).refused(413);
        assert_eq!(text.trim_end(), "The data content of this event exceeds the allowed maximum (10240 bytes).");
    }
    ws.quiet();
}

#[test]
fn data_may_be_empty_and_other_json_is_made_compact() {
    let broker = shared();
    let channel = unique("data");
    let mut ws = subscriber(&broker, &channel);
    let mut http = broker.http();
    for (data, expected) in [
        (r#""""#, ""),
        (r#"{ "a" : 1.0, "b":[ 1 ,12345678901234567890123] }"#, r#"{"a":1.0,"b":[1,12345678901234567890123]}"#),
        ("[ ]", "[]"),
        ("17", "17"),
        ("true", "true"),
        (r#"" spaces stay ""#, " spaces stay "),
        (r#""\/ \u00e9""#, "/ é"),
    ] {
        let answer = http.post("/events", format!(r#"{{"name":"e","channel":"{channel}","data":{data}}}"#));
        assert_eq!(answer.json(), json!({}), "{data}");
        ws.expect_data("e", &channel, expected);
    }
}

#[test]
fn a_name_has_one_to_200_characters_of_any_kind() {
    let broker = shared();
    let channel = unique("names");
    let mut ws = subscriber(&broker, &channel);
    let mut http = broker.http();
    for name in ["App\\Events\\OrderShipped", "n", &"é".repeat(200), "with blank", "client-x", "a:b", "\n", ".dot", "pusher-like", "pusher"]
    {
        http.publish(&channel, name, "1");
        ws.expect_data(name, &channel, "1");
    }
    for name in ["", &"n".repeat(201), "pusher:x", "pusher:", "pusher_internal:member_added"] {
        http.trigger(&json!({ "name": name, "channel": channel, "data": "1" })).refused(400);
    }
    ws.quiet();
}

#[test]
fn an_unusable_body_is_400() {
    let broker = shared();
    let channel = unique("bodies");
    let mut ws = subscriber(&broker, &channel);
    let mut http = broker.http();
    let good = json!({ "name": "e", "channel": channel, "data": "1" });
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let bodies = [
        without("name"),
        without("data"),
        without("channel"),
        with("name", json!(7)),
        with("name", json!(null)),
        with("channel", json!(7)),
        with("channels", json!("news")),
        with("channels", json!([7])),
        with("channels", json!({})),
        with("socket_id", json!(7)),
        with("socket_id", json!("")),
        with("socket_id", json!("abc")),
        with("socket_id", json!("1.2.3")),
        with("socket_id", json!("1.2\n")),
        with("socket_id", json!("1:2")),
        with("info", json!(7)),
        json!([]),
        json!("text"),
        json!(null),
        json!({}),
        json!({ "name": "e", "channels": [], "data": "1" }),
    ];
    for body in bodies {
        http.trigger(&body).refused(400);
    }
    for raw in [b"not json".as_slice(), b"{", b"{}{}", b"\xff\xfe", b"{\"name\":\"\xff\",\"channel\":\"x\",\"data\":\"1\"}", b""] {
        let answer = http.post("/events", raw);
        let text = answer.refused(400);
        assert!(!text.contains("line 1"), "the parser speaks to clients: {text}");
    }
    let deep = format!(r#"{{"name":"e","channel":"{channel}","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!((400..500).contains(&http.post("/events", deep).status));
    ws.quiet();
}

#[test]
fn a_hundred_channels_are_legal_and_one_more_is_not() {
    let broker = shared();
    let stem = unique("many");
    let names: Vec<String> = (0..101).map(|at| format!("{stem}-{at}")).collect();
    let mut ws = subscriber(&broker, &names[0]);
    ws.subscribe(&names[99]);
    let mut http = broker.http();
    let body = |channels: &[String]| json!({ "name": "e", "channels": channels, "data": "1" });
    assert_eq!(http.trigger(&body(&names[..100])).json(), json!({}));
    ws.expect_data("e", &names[0], "1");
    ws.expect_data("e", &names[99], "1");
    http.trigger(&body(&names)).refused(400);
    ws.quiet();
}

#[test]
fn one_bad_channel_name_and_nothing_is_published() {
    let broker = shared();
    let good = unique("good");
    let mut ws = subscriber(&broker, &good);
    let mut http = broker.http();
    let long = "n".repeat(201);
    for bad in ["bad name", "", "a:b", "#other", "#server-to-user-", "news\n", "naïve", &long] {
        for channels in [json!([good, bad]), json!([bad, good])] {
            let text = http.trigger(&json!({ "name": "e", "channels": channels, "data": "1" })).refused(400);
            assert!(text.starts_with("Invalid channel name") || bad == long, "{text}");
        }
        http.trigger(&json!({ "name": "e", "channel": bad, "data": "1" })).refused(400);
    }
    ws.quiet();
    http.publish(&"n".repeat(200), "e", "1");
    http.publish("#server-to-user-a=b,c", "e", "1");
}

#[test]
fn info_answers_for_each_target_what_applies_to_it() {
    let broker = shared();
    let (room, news, empty) = (unique("presence-info"), unique("info"), unique("presence-empty"));
    let (mut one, mut two, mut tab) = (broker.ws(), broker.ws(), broker.ws());
    one.join(&room, &member("1", None));
    two.join(&room, &member("2", None));
    tab.join(&room, &member("2", None));
    tab.subscribe(&news);
    let mut http = broker.http();
    let mut ask =
        |channels: Value, info: &str| http.trigger(&json!({ "name": "e", "channels": channels, "data": "1", "info": info })).json();
    assert_eq!(
        ask(json!([room, news, empty]), "user_count,subscription_count"),
        json!({ "channels": {
            room.as_str(): { "user_count": 2, "subscription_count": 3 },
            news.as_str(): { "subscription_count": 1 },
            empty.as_str(): { "user_count": 0, "subscription_count": 0 },
        } })
    );
    assert_eq!(ask(json!([news]), "user_count"), json!({ "channels": { news.as_str(): {} } }));
    assert_eq!(
        ask(json!([news]), " subscription_count , ,unknown,cache"),
        json!({ "channels": { news.as_str(): { "subscription_count": 1 } } })
    );
    assert_eq!(ask(json!([room]), "nonsense"), json!({ "channels": { room.as_str(): {} } }));
}

#[test]
fn several_channels_are_served_in_the_order_of_the_request() {
    let broker = shared();
    let stem = unique("ordered");
    let names: Vec<String> = (0..30).map(|at| format!("{stem}-{at}")).collect();
    let mut ws = broker.ws();
    for name in &names {
        ws.subscribe(name);
    }
    let mut shuffled: Vec<&String> = names.iter().rev().collect();
    shuffled.swap(3, 17);
    assert_eq!(broker.http().trigger(&json!({ "name": "e", "channels": shuffled, "data": "1" })).json(), json!({}));
    for name in shuffled {
        ws.expect_data("e", name, "1");
    }
}

#[test]
fn an_encrypted_channel_may_be_published_together_with_others() {
    let broker = shared();
    let (one, two) = (unique("private-encrypted-mix"), unique("mix"));
    let body = json!({ "name": "e", "channels": [one, two], "data": "1" });
    assert_eq!(broker.http().trigger(&body).json(), json!({}));
}
