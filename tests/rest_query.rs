//! The reading half of the HTTP API: protocol.md 6.6 to 6.9.

use serde_json::{Value, json};

use crate::support::{Broker, Http, Ws, member, shared, unique, until};

fn info(text: &str) -> [(&str, &str); 1] {
    [("info", text)]
}

/// A broker of its own with two members (three sockets) in `presence-room`, one in `presence-x`, and one subscriber of `news`.
fn populated() -> (Broker, Vec<Ws>) {
    let broker = Broker::start();
    let mut sockets: Vec<Ws> = (0..4).map(|_| broker.ws()).collect();
    for (at, (channel, id)) in
        [("presence-room", "1"), ("presence-room", "2"), ("presence-room", "2"), ("presence-x", "9")].into_iter().enumerate()
    {
        sockets[at].join(channel, &member(id, None));
    }
    sockets[3].subscribe("news");
    (broker, sockets)
}

fn channels(http: &mut Http, query: &[(&str, &str)]) -> Value {
    http.get("/channels", query).json()["channels"].clone()
}

#[test]
fn without_an_occupied_channel_the_list_is_an_empty_object() {
    let broker = Broker::start();
    let _unsubscribed = broker.ws();
    let answer = broker.http().get("/channels", &[]);
    assert_eq!(answer.text(), r#"{"channels":{}}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn occupied_channels_are_listed_and_vanish_when_they_are_left() {
    let (broker, mut sockets) = populated();
    let mut http = broker.http();
    assert_eq!(channels(&mut http, &[]), json!({ "news": {}, "presence-room": {}, "presence-x": {} }));
    sockets[3].unsubscribe("news");
    sockets[3].quiet();
    assert_eq!(channels(&mut http, &[]), json!({ "presence-room": {}, "presence-x": {} }));
    sockets.pop();
    until("presence-x is vacated", || channels(&mut http, &[]) == json!({ "presence-room": {} }));
    sockets.clear();
    until("all is vacated", || channels(&mut http, &[]) == json!({}));
}

#[test]
fn the_list_can_be_filtered_by_any_prefix() {
    let (broker, _sockets) = populated();
    let mut http = broker.http();
    for (prefix, expected) in [
        ("presence-", json!({ "presence-room": {}, "presence-x": {} })),
        ("pres", json!({ "presence-room": {}, "presence-x": {} })),
        ("presence-r", json!({ "presence-room": {} })),
        ("n", json!({ "news": {} })),
        ("News", json!({})),
        ("ews", json!({})),
        (".*", json!({})),
        ("", json!({ "news": {}, "presence-room": {}, "presence-x": {} })),
    ] {
        assert_eq!(channels(&mut http, &[("filter_by_prefix", prefix)]), expected, "prefix {prefix:?}");
    }
}

#[test]
fn user_count_in_the_list_needs_a_presence_filter() {
    let (broker, _sockets) = populated();
    let mut http = broker.http();
    for query in [vec![], vec![("filter_by_prefix", "news")], vec![("filter_by_prefix", "pres")], vec![("filter_by_prefix", "")]] {
        let text = http.get("/channels", &[query, vec![("info", "user_count")]].concat()).refused(400);
        assert_eq!(text.trim_end(), "user_count may only be requested for presence channels");
    }
    let query = [("filter_by_prefix", "presence-"), ("info", "user_count")];
    assert_eq!(channels(&mut http, &query), json!({ "presence-room": { "user_count": 2 }, "presence-x": { "user_count": 1 } }));
}

#[test]
fn subscription_count_in_the_list_is_accepted_and_unknown_attributes_are_ignored() {
    let (broker, _sockets) = populated();
    let mut http = broker.http();
    let all = json!({ "news": { "subscription_count": 1 }, "presence-room": { "subscription_count": 3 }, "presence-x": { "subscription_count": 1 } });
    assert_eq!(channels(&mut http, &info("subscription_count")), all);
    assert_eq!(channels(&mut http, &info("nonsense, subscription_count ,,")), all);
    assert_eq!(channels(&mut http, &info("nonsense"))["news"], json!({}));
    http.get("/channels", &info("cache")).refused(400);
}

#[test]
fn one_channel_tells_whether_it_is_occupied() {
    let (broker, _sockets) = populated();
    let mut http = broker.http();
    let mut ask = |channel: &str, query: &[(&str, &str)]| http.get(&format!("/channels/{channel}"), query).json();
    assert_eq!(ask("news", &[]), json!({ "occupied": true }));
    assert_eq!(ask("nobody", &[]), json!({ "occupied": false }));
    assert_eq!(ask("news", &info("subscription_count")), json!({ "occupied": true, "subscription_count": 1 }));
    assert_eq!(
        ask("presence-room", &info("user_count,subscription_count")),
        json!({ "occupied": true, "user_count": 2, "subscription_count": 3 })
    );
    assert_eq!(
        ask("presence-none", &info("user_count,subscription_count")),
        json!({ "occupied": false, "user_count": 0, "subscription_count": 0 })
    );
    assert_eq!(ask("nobody", &info("subscription_count")), json!({ "occupied": false, "subscription_count": 0 }));
    assert_eq!(ask("news", &info("unknown,,")), json!({ "occupied": true }));
}

#[test]
fn user_count_of_a_channel_without_members_is_400() {
    let broker = shared();
    let mut http = broker.http();
    for channel in ["news", "private-x", "cache-x"] {
        http.get(&format!("/channels/{channel}"), &info("user_count")).refused(400);
    }
}

#[test]
fn an_illegal_channel_name_in_the_path_is_400() {
    let broker = shared();
    let mut http = broker.http();
    let long = "n".repeat(201);
    for channel in ["bad%20name", "a:b", "na%C3%AFve", "%23other", "a%2Fb", "a%0A", &long] {
        for path in [format!("/channels/{channel}"), format!("/channels/{channel}/users")] {
            http.get(&path, &[]).refused(400);
        }
    }
}

#[test]
fn the_cache_attribute_shows_data_and_remaining_seconds() {
    let broker = shared();
    let channel = unique("cache-query");
    let mut http = broker.http();
    let path = format!("/channels/{channel}");
    assert_eq!(http.get(&path, &info("cache")).json(), json!({ "occupied": false, "cache": null }));
    http.publish(&channel, "price", r#"{"v":1}"#);
    let answer = http.get(&path, &info("cache,subscription_count")).json();
    assert_eq!(answer["cache"]["data"], json!(r#"{"v":1}"#));
    let ttl = answer["cache"]["ttl"].as_u64().expect("whole seconds");
    assert!((1790..=1800).contains(&ttl), "{ttl}");
    assert_eq!(answer["subscription_count"], json!(0));
    let plain = format!("/channels/{}", unique("news-query"));
    assert_eq!(http.get(&plain, &info("cache")).json(), json!({ "occupied": false }), "left out where nothing is cached");
}

#[test]
fn users_of_a_presence_channel_are_listed_once_each() {
    let (broker, mut sockets) = populated();
    let mut http = broker.http();
    let mut users = |channel: &str| {
        let answer = http.get(&format!("/channels/{channel}/users"), &[]).json();
        let mut ids: Vec<String> =
            answer["users"].as_array().unwrap().iter().map(|user| user["id"].as_str().expect("ids are strings").to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(users("presence-room"), ["1", "2"]);
    assert_eq!(users("presence-none"), Vec::<String>::new());
    drop(sockets.remove(0));
    until("user 1 is gone", || users("presence-room") == ["2"]);
    assert_eq!(broker.http().get("/channels/presence-x/users", &[]).text(), r#"{"users":[{"id":"9"}]}"#);
}

#[test]
fn users_of_another_kind_of_channel_are_400() {
    let broker = shared();
    let mut http = broker.http();
    for channel in ["news", "private-x", "presenceless", "cache-x"] {
        let text = http.get(&format!("/channels/{channel}/users"), &[]).refused(400);
        assert_eq!(text.trim_end(), "Users can only be retrieved for presence channels");
    }
}

#[test]
fn members_of_presence_cache_channels_are_listed_too() {
    let broker = shared();
    let channel = unique("presence-cache-room");
    let mut ws = broker.ws();
    ws.join(&channel, &member("5", None));
    let answer = broker.http().get(&format!("/channels/{channel}/users"), &[]).json();
    assert_eq!(answer, json!({ "users": [{ "id": "5" }] }));
}
