//! The HTTP side: queries, signatures, bodies.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::json;

use super::{
    claim::{Claim, check_body},
    error::ApiError,
    fields::{EventFields, batch},
    query::Query,
};
use crate::{
    domain::App,
    fuzz::{
        engine::Fuzz,
        model::{self, Fields, Json, Node, Text},
    },
    protocol::{SigningKey, body_md5},
};

const NOW: u64 = 1_700_000_000;

/// `%41` is `A`, `+` is a blank, what is neither stays.
fn decoded(text: &str, plus: bool) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| *byte == b'%').filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(escaped) => out.push(escaped),
            None if *byte == b'+' && plus => out.push(b' '),
            None => out.push(*byte),
        }
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The parameters by name; `None` if one stands there twice.
fn parameters(text: &str) -> Option<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !pair.is_empty() && parameters.insert(decoded(name, true).to_ascii_lowercase(), decoded(value, true)).is_some() {
            return None;
        }
    }
    Some(parameters)
}

fn canonical(method: &str, path: &str, parameters: &BTreeMap<String, String>) -> String {
    let pairs = parameters.iter().filter(|(name, _)| *name != "auth_signature").map(|(name, value)| format!("{name}={value}"));
    format!("{method}\n{path}\n{}", pairs.collect::<Vec<_>>().join("&"))
}

const QUERIES: [&str; 6] = [
    "auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f&auth_signature=00",
    "filter_by_prefix=presence-&info=user_count%2Csubscription_count",
    "Info=a%2Cb+c&&x&y=1=2&%41=%FF&Z=Q",
    "a=1&a=1",
    "limit=100&after=123456.7890123&state=released",
    "a=%F0%9F%A6%80&%C3%A9=%zz%4",
];
const QUERY_WORDS: [&str; 14] =
    ["&", "=", "%", "+", "%26", "%3D", "%2B", "%25", "auth_key=", "auth_signature=", "AUTH_VERSION=", "body_md5=", "info=", "%E9"];

#[test]
fn a_query_is_what_forms_make_of_it() {
    Fuzz::new("query").seeds(QUERIES).tokens(&QUERY_WORDS).run(20_000, |input| {
        let text = String::from_utf8_lossy(input);
        let (query, model) = (Query::parse(&text), parameters(&text));
        assert_eq!(query.is_ok(), model.is_some(), "{text:?}");
        let (Ok(query), Some(model)) = (query, model) else { return "twice".to_owned() };
        let pairs: Vec<(&str, &str)> = model.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(query.iter().collect::<Vec<_>>(), pairs);
        let signed = query.canonical("GET", "/p");
        assert_eq!(signed, canonical("GET", "/p", &model));
        assert!(signed.len() <= 3 * text.len() + 16, "three bytes for a broken one");
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let written: Vec<String> = pairs.iter().rev().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        assert_eq!(Query::parse(&written.join("&")).expect("it was good").canonical("GET", "/p"), signed, "written and read again");
        format!("{}", pairs.len().min(8))
    });
}

/// `METHOD path?query`, a line end, and the body.
fn request(method: &str, path: &str, extra: &str, body: &str) -> String {
    let md5 = if body.is_empty() { String::new() } else { format!("&body_md5={}", body_md5(body.as_bytes())) };
    let query = format!("auth_key=app-key&auth_timestamp={NOW}&auth_version=1.0{md5}{extra}");
    let signature = SigningKey::new("app-secret").sign(&[&canonical(method, path, &parameters(&query).expect("no name twice"))]);
    format!("{method} {path}?{query}&auth_signature={signature}\n{body}")
}

#[test]
fn a_request_is_believed_only_as_it_was_signed() {
    let event = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    let seeds = [
        request("POST", "/apps/app-id/events", "", event),
        request("GET", "/apps/app-id/channels", "&filter_by_prefix=presence-&info=user_count", ""),
        request("GET", "/apps/app-id/channels/presence-room", "&info=user_count,subscription_count", ""),
        request("GET", "/apps/app-id/locks/doc%2F7", "", ""),
        request("GET", "/apps/app-id/locks/doc/7", "", "").replace("doc/7", "doc%2F7"),
        request("POST", "/apps/app-id/users/42/terminate_connections", "", "{}"),
    ];
    let app = App::for_tests();
    Fuzz::new("claim").seeds(seeds).tokens(&QUERY_WORDS).run(15_000, |input| {
        let text = String::from_utf8_lossy(input);
        let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
        let (method, target) = head.split_once(' ').unwrap_or((head, ""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (parsed, model) = (Query::parse(query), parameters(query));
        let (Ok(parsed), Some(model)) = (parsed, model) else { return "twice".to_owned() };
        let checked = Claim { method, path, query: &parsed }.check_head(&app, NOW);

        let get = |name: &str| model.get(name).map(String::as_str);
        let signature = |path: &str| SigningKey::new("app-secret").sign(&[&canonical(method, path, &model)]);
        let time =
            get("auth_timestamp").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).and_then(|text| text.parse::<u64>().ok());
        let expected = get("auth_key") == Some("app-key")
            && get("auth_version") == Some("1.0")
            && time.is_some_and(|time| time.abs_diff(NOW) <= app.limits.timestamp_tolerance.as_secs())
            && get("auth_signature").is_some_and(|sent| sent == signature(path) || sent == signature(&decoded(path, false)));
        assert_eq!(checked.is_ok(), expected, "{text}");
        let md5 = get("body_md5");
        let right_body = md5 == Some(&*body_md5(body.as_bytes())) || md5.is_none() && body.is_empty();
        assert_eq!(check_body(&parsed, body.as_bytes()).is_ok(), right_body);
        match checked {
            Ok(()) => format!("believed {right_body}"),
            Err(error) => {
                let right = signature(path);
                let told = format!("{error} {}", error.text()).contains(&right);
                assert!(!told || get("auth_signature").is_some_and(|sent| sent.contains(&right)), "the right signature is never told");
                format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
            }
        }
    });
}

const BODIES: [&str; 10] = [
    r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#,
    r#"{"name":"e","channel":"a","channels":["b","a","\u0061"],"data":" {\"a\": 1} ","socket_id":"123456.7890123","info":"user_count"}"#,
    r#"{"data":{ "b" : 1.0, "a":[ 1 ,12345678901234567890123, " " ] },"name":"e\ud83e\udd80"}"#,
    r#"{"name":null,"channel":null,"channels":null,"data":null,"socket_id":null,"info":null,"other":{"deep":[1]}}"#,
    r#"{"name":1,"data":"\ud800","channel":[],"socket_id":1,"info":{}}"#,
    r#"{"name":"a","name":"b"}"#,
    r#"["e","x","a"]"#,
    r#"{"batch":[{"channel":"a","name":"e1","data":"1"},{"channel":"presence-b","name":"e2","data":"{\"x\":true}","socket_id":"123456.7890123","info":"user_count"}]}"#,
    r#"{"batch":[{},{"channels":["a"],"channel":"b"},{"data":null}]}"#,
    r#"{"batch":[null,"x"]}"#,
];
const BODY_WORDS: [&str; 12] = [
    "\"name\":",
    "\"data\":",
    "\"channel\":",
    "\"channels\":",
    "\"socket_id\":",
    "\"info\":",
    "\"batch\":[",
    ":null",
    "{",
    "}",
    ",",
    "[\"a\",\"b\"]",
];
const FIELDS: [&str; 6] = ["name", "data", "channel", "channels", "socket_id", "info"];

/// Name, data, channels, socket id and info of an event; `Err` where the field is refused.
type Fact<T> = Result<T, ()>;
type Event = (Fact<String>, Fact<String>, Fact<Vec<String>>, Fact<Option<String>>, Fact<Option<String>>);

fn of(fields: &EventFields<'_>) -> Event {
    let own = |text: Cow<'_, str>| text.into_owned();
    (
        fields.name().map(own).map_err(drop),
        fields.data().map(own).map_err(drop),
        fields.channels().map(|names| names.into_iter().map(own).collect()).map_err(drop),
        fields.socket_id().map(|id| id.map(own)).map_err(drop),
        fields.info().map(|info| info.map(own)).map_err(drop),
    )
}

fn expected(fields: &Fields<'_, '_>, is_item: bool) -> Event {
    let data = fields.even_null("data").ok_or(()).and_then(|data| match &data.value {
        Json::Text(text) => text.clone().ok_or(()),
        _ => Ok(data.compact()),
    });
    let channels = || {
        let mut names = match fields.get("channels").filter(|_| !is_item) {
            None => Vec::new(),
            Some(Node { value: Json::Array(names), .. }) => names.iter().map(|name| name.text().ok_or(())).collect::<Result<_, ()>>()?,
            Some(_) => return Err(()),
        };
        names.extend(fields.text("channel")?.filter(|name| !names.contains(name)));
        Ok(names)
    };
    (fields.text("name").and_then(|name| name.ok_or(())), data, channels(), fields.text("socket_id"), fields.text("info"))
}

#[test]
fn a_body_is_the_json_that_it_is() {
    Fuzz::new("body").seeds(BODIES).tokens(&BODY_WORDS).run(20_000, |input| {
        let parsed = EventFields::parse(input);
        let node = std::str::from_utf8(input).map_or(Text::NotJson, model::read);
        let event = parsed.as_ref().ok().map(of);
        match &node {
            Text::TooDeep => {}
            Text::NotJson => assert!(matches!(parsed, Err(ApiError::NotAnObject))),
            Text::Json(node) => assert_eq!(event, model::object(node, &FIELDS).map(|fields| expected(&fields, false))),
        }
        if let (Text::Json(node), items) = (&node, batch(input, 5)) {
            assert_eq!(items.as_ref().ok().map(|items| items.iter().map(of).collect::<Vec<_>>()), items_of(node));
        }
        let Some(event) = event else { return "no object".to_owned() };
        if let (Ok(name), Ok(data), Ok(channels), Ok(socket_id), Ok(info)) = &event {
            assert!(name.len() + data.len() <= input.len(), "nothing grows");
            let written = json!({ "name": name, "data": data, "channels": channels, "socket_id": socket_id, "info": info }).to_string();
            assert_eq!(of(&EventFields::parse(written.as_bytes()).expect("an object")), event, "written and read again");
        }
        let (name, data, channels, ..) = event;
        format!("{} {} {:?}", name.is_ok(), data.is_ok(), channels.map(|names| names.len().min(3)))
    });
}

fn items_of(node: &Node<'_>) -> Option<Vec<Event>> {
    let fields = model::object(node, &["batch"])?;
    let Json::Array(items) = &fields.get("batch")?.value else { return None };
    let event = |item: &Node<'_>| model::object(item, &FIELDS).map(|fields| expected(&fields, true));
    items.iter().map(event).collect::<Option<Vec<_>>>().filter(|items| items.len() <= 5)
}
