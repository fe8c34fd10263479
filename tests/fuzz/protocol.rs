//! What clients send, and what is signed for them: frames, members, users, tokens, authorisations.

use std::borrow::Cow;

use serde_json::json;

use super::{
    engine::Fuzz,
    model::{self, Fields, Json, Node, Text},
};
use crate::protocol::{
    ChannelData, Claims, ClientFrame, FrameError, Member, MemberError, MemberLimits, Signed, SignedUser, SigningKey, SocketId,
    SubscribeRequest,
};

const LIMITS: MemberLimits = MemberLimits { max_user_id: 20, max_user_info_bytes: 60 };
/// Rows A2 to A6 of the vectors.
const MEMBERS: [&str; 7] = [
    r#"{"user_id":"42","user_info":{"name":"Ada"}}"#,
    r#"{"user_id":10}"#,
    r#"{"user_id":"7","user_info":{"name":"Zo\u00eb \/ x"}}"#,
    r#"{"user_id":"7","user_info":{"name":"Zoë"}}"#,
    r#" { "user_info" : null , "user_id" : -1.5e3 , "x" : [1, {"user_id":2}] } "#,
    r#"{"user_id":"exactly-20-character","user_info":"exactly sixty bytes of text in quotes, which count as well"}"#,
    r#"{"user_id":"\ud83e\udd80"}"#,
];
const USERS: [&str; 5] = [
    r#"{"id":"42","user_info":{"name":"Ada"},"watchlist":["7","9"]}"#,
    r#"{"id":"42"}"#,
    r#"{"id":"a_b-c=d@e,f.g;h","watchlist":[]}"#,
    r#"{"watchlist":null,"user_info":null,"id":"4\u0032"}"#,
    r#"{"id":"1","watchlist":["\ud83e\udd80",""],"team":7}"#,
];
/// Frames of the wire contract, and of bug reports about servers of this protocol: data as text, without data, with escaped text in escaped
/// text, numbers that floats cannot hold, an object for an id, deep data.
const FRAMES: [&str; 26] = [
    r#"{"event":"pusher:ping","data":{}}"#,
    r#"{"event": "pusher:ping"}"#,
    r#"{"event":"pusher:ping","data":""}"#,
    r#"{"event":"pusher:pong","data":{}}"#,
    r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#,
    r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"my-channel"}}"#,
    r#"{"event":"pusher:subscribe","data":"{\"channel\":\"news\"}"}"#,
    r#"{"event":"pusher:subscribe","data":{"auth":"app-key:5c9f17e1509a58a80a4f52ec397b2f197843284ecb63add4272a207ab0a44bce","channel":"private-foobar"}}"#,
    r#"{"event":"pusher:subscribe","data":{"auth":"app-key:b1","channel":"presence-room","channel_data":"{\"user_id\":\"42\",\"user_info\":{\"name\":\"Ada\"}}"}}"#,
    r#"{"event":"pusher:subscribe","data":"{\"channel\":\"presence-room\",\"channel_data\":\"{\\\"user_id\\\":\\\"7\\\",\\\"x\\\":\\\"Zo\\\\u00eb\\\"}\"}"}"#,
    r#"{"event":"pusher:subscribe","data":{"channel":"presence-room","channel_data":{"user_id":1},"auth":7}}"#,
    r#"{"event":"pusher:subscribe","data":{"channel":null,"auth":null,"channel_data":null}}"#,
    r##"{"event":"pusher:subscribe","data":{"channel":"#server-to-user-42"}}"##,
    r#"{"event":"pusher:subscribe","data":["news"]}"#,
    r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#,
    r#"{"event":"pusher:unsubscribe","data":{}}"#,
    r#"{"event":"pusher:signin","data":{"auth":"app-key:13ac","user_data":"{\"id\":\"42\",\"watchlist\":[\"7\"]}"}}"#,
    r#"{"event":"pusher:signin","data":"{\"auth\":\"a\",\"user_data\":\"\"}"}"#,
    r#"{"event":"client-typing","channel":"presence-room","data":{"on":true}}"#,
    r#"{"event":"client-typing","channel":"private-room"}"#,
    r#"{"event":"client-x","channel":"private-room","data":"text \ud83e\udd80 \"quoted\""}"#,
    r#"{"event":"client-x","channel":"private-room","data":[ 1.0, -0, 1e400, 12345678901234567890123, "a b" , null ],"user_id":"9","socket_id":"1.1"}"#,
    r#"{"event":"client-x","channel":7,"data":1}"#,
    r#"{"event":"pusher_internal:subscription_succeeded","channel":"x","data":"{}"}"#,
    r#"{"event":"my-event","channel":"news","data":"1"}"#,
    r#"{"x":{"event":1},"event":"pusher:ping","event ":2}"#,
];
const WORDS: [&str; 24] = [
    "\"event\":",
    "\"data\":",
    "\"channel\":",
    "\"auth\":",
    "\"channel_data\":",
    "\"user_data\":",
    "\"user_id\":",
    "\"user_info\":",
    "\"id\":",
    "\"watchlist\":",
    "\"pusher:subscribe\"",
    "\"pusher:unsubscribe\"",
    "\"pusher:signin\"",
    "\"pusher:ping\"",
    "client-",
    "presence-",
    "private-",
    "cache-",
    "#server-to-user-",
    "\"{\\\"",
    "\\\"",
    "\":null,",
    "{\"",
    ",\"",
];

/// A frame without lifetimes and errors without texts: what the model says.
#[derive(Debug, PartialEq)]
enum Meaning {
    Ping,
    Pong,
    Subscribe { channel: String, auth: Option<String>, channel_data: Result<Option<String>, ()> },
    Unsubscribe(String),
    Signin(String, String),
    Event(String, String, String),
    Malformed,
    Missing(&'static str),
    NoChannel,
    Unsupported,
}

impl Meaning {
    fn of(parsed: &Result<ClientFrame<'_>, FrameError>) -> Meaning {
        let own = |text: &Cow<'_, str>| text.clone().into_owned();
        match parsed {
            Ok(ClientFrame::Ping) => Meaning::Ping,
            Ok(ClientFrame::Pong) => Meaning::Pong,
            Ok(ClientFrame::Subscribe(SubscribeRequest { channel, auth, channel_data })) => Meaning::Subscribe {
                channel: own(channel),
                auth: auth.as_ref().map(own),
                channel_data: match channel_data {
                    ChannelData::Absent => Ok(None),
                    ChannelData::Text(text) => Ok(Some(own(text))),
                    ChannelData::NotText => Err(()),
                },
            },
            Ok(ClientFrame::Unsubscribe { channel }) => Meaning::Unsubscribe(own(channel)),
            Ok(ClientFrame::Signin { auth, user_data }) => Meaning::Signin(own(auth), own(user_data)),
            Ok(ClientFrame::Event { event, channel, data }) => Meaning::Event(own(event), own(channel), own(data)),
            Err(FrameError::Malformed) => Meaning::Malformed,
            Err(FrameError::MissingField { field, .. }) => Meaning::Missing(field),
            Err(FrameError::InvalidClientEvent) => Meaning::NoChannel,
            Err(FrameError::Unsupported(_)) => Meaning::Unsupported,
        }
    }

    fn kind(&self) -> String {
        match self {
            Meaning::Subscribe { auth, channel_data, .. } => {
                format!("subscribe {} {:?}", auth.is_some(), channel_data.as_ref().map(Option::is_some))
            }
            Meaning::Event(.., data) => format!("event {:?}", data.bytes().next().filter(|byte| b"{[\"-0tfn".contains(byte))),
            Meaning::Missing(field) => format!("no {field}"),
            other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        }
    }

    /// The frame as a client would write it.
    fn written(&self) -> Option<String> {
        let value = match self {
            Meaning::Ping => json!({ "event": "pusher:ping" }),
            Meaning::Pong => json!({ "event": "pusher:pong" }),
            Meaning::Subscribe { channel, auth, channel_data } => {
                let channel_data = channel_data.as_ref().map_or(json!(0), |text| json!(text));
                json!({ "event": "pusher:subscribe", "data": { "channel": channel, "auth": auth, "channel_data": channel_data } })
            }
            Meaning::Unsubscribe(channel) => json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }),
            Meaning::Signin(auth, user_data) => json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user_data } }),
            Meaning::Event(event, channel, data) => json!({ "event": event, "channel": channel, "data": data }),
            _ => return None,
        };
        Some(value.to_string())
    }
}

/// The contract, sections 1.7, 2.2, 3 and 4.1, read naively. `None`: too deep to be read so.
fn expected(message: &str) -> Option<Meaning> {
    let node = match model::read(message) {
        Text::Json(node) => node,
        Text::NotJson => return Some(Meaning::Malformed),
        Text::TooDeep => return None,
    };
    let Some(frame) = model::object(&node, &["event", "channel", "data"]) else { return Some(Meaning::Malformed) };
    let Ok(Some(event)) = frame.text("event") else { return Some(Meaning::Malformed) };
    Some(match &*event {
        "pusher:ping" => Meaning::Ping,
        "pusher:pong" => Meaning::Pong,
        "pusher:subscribe" => {
            return with_data(frame.get("data"), |data| {
                let Ok(Some(channel)) = data.text("channel") else { return Meaning::Missing("channel") };
                Meaning::Subscribe { channel, auth: data.text("auth").ok().flatten(), channel_data: data.text("channel_data") }
            });
        }
        "pusher:unsubscribe" => {
            return with_data(frame.get("data"), |data| match data.text("channel") {
                Ok(Some(channel)) => Meaning::Unsubscribe(channel),
                _ => Meaning::Missing("channel"),
            });
        }
        "pusher:signin" => {
            return with_data(frame.get("data"), |data| match (data.text("auth"), data.text("user_data")) {
                (Ok(Some(auth)), Ok(Some(user_data))) => Meaning::Signin(auth, user_data),
                (Ok(Some(_)), _) => Meaning::Missing("user_data"),
                _ => Meaning::Missing("auth"),
            });
        }
        name if name.starts_with("client-") => match (frame.text("channel"), frame.get("data")) {
            (Ok(Some(_)), Some(Node { value: Json::Text(None), .. })) => Meaning::Malformed,
            (Ok(Some(channel)), None) => Meaning::Event(event, channel, "null".to_owned()),
            (Ok(Some(channel)), Some(data)) => Meaning::Event(event, channel, data.text().unwrap_or_else(|| data.compact())),
            _ => Meaning::NoChannel,
        },
        _ => Meaning::Unsupported,
    })
}

fn with_data(data: Option<&Node<'_>>, read: impl Fn(Fields<'_, '_>) -> Meaning) -> Option<Meaning> {
    const FIELDS: [&str; 4] = ["channel", "auth", "channel_data", "user_data"];
    let of = |node: &Node<'_>| model::object(node, &FIELDS).map_or(Meaning::Malformed, &read);
    match data {
        None => Some(of(&Node { raw: "{}", value: Json::Object(Vec::new()) })),
        Some(Node { value: Json::Text(None), .. }) => Some(Meaning::Malformed),
        Some(Node { value: Json::Text(Some(text)), .. }) => match model::read(text) {
            Text::Json(node) => Some(of(&node)),
            Text::NotJson => Some(Meaning::Malformed),
            Text::TooDeep => None,
        },
        Some(node) => Some(of(node)),
    }
}

#[test]
fn frames_mean_what_the_contract_says() {
    Fuzz::new("frame").seeds(FRAMES).tokens(&WORDS).run(30_000, |input| {
        let text = String::from_utf8_lossy(input);
        let parsed = ClientFrame::parse(&text);
        let meaning = Meaning::of(&parsed);
        if let Some(expected) = expected(&text) {
            assert_eq!(meaning, expected);
        }
        if let Err(error) = &parsed {
            assert!(error.to_string().len() < 200, "what is said of it is short");
        }
        if let Meaning::Event(event, channel, data) = &meaning {
            assert!(event.len() + channel.len() + data.len() <= text.len(), "nothing grows");
        }
        if let Some(written) = meaning.written() {
            assert_eq!(Meaning::of(&ClientFrame::parse(&written)), meaning, "written and read again");
        }
        meaning.kind()
    });
}

/// An id and an info against [`LIMITS`].
fn within_limits(id: &str, info: Option<&str>) -> Result<(), MemberError> {
    if id.chars().count() > 20 {
        Err(MemberError::TooLarge { max: 20 })
    } else if info.is_some_and(|info| info.len() > 60) {
        Err(MemberError::TooLarge { max: 60 })
    } else {
        Ok(())
    }
}

fn expected_member(text: &str) -> Option<Result<(String, Option<String>), MemberError>> {
    let node = match model::read(text) {
        Text::Json(node) => node,
        Text::NotJson => return Some(Err(MemberError::Invalid)),
        Text::TooDeep => return None,
    };
    let Some(fields) = model::object(&node, &["user_id", "user_info"]) else { return Some(Err(MemberError::Invalid)) };
    let id = fields.get("user_id").and_then(|id| if id.value == Json::Number { Some(id.raw.to_owned()) } else { id.text() });
    let Some(id) = id.filter(|id| !id.is_empty()) else { return Some(Err(MemberError::Invalid)) };
    let info = fields.get("user_info").map(|info| info.raw.to_owned());
    Some(within_limits(&id, info.as_deref()).map(|()| (id, info)))
}

#[test]
fn members_are_who_was_signed() {
    Fuzz::new("member").seeds(MEMBERS).tokens(&WORDS).run(20_000, |input| {
        let text = String::from_utf8_lossy(input);
        let parsed = Member::parse(&text, LIMITS);
        let member = parsed.as_ref().map(|member| (member.user_id.to_string(), member.user_info.as_deref().map(str::to_owned)));
        if let Some(expected) = expected_member(&text) {
            assert_eq!(member.clone().map_err(Clone::clone), expected);
        }
        if let Ok((id, info)) = &member {
            let written = format!(r#"{{"user_id":{},"user_info":{}}}"#, json!(id), info.as_deref().unwrap_or("null"));
            assert_eq!(Member::parse(&written, LIMITS), parsed, "written and read again");
        }
        parsed.map_or_else(|error| format!("{error:?}"), |member| format!("a member {}", member.user_info.is_some()))
    });
}

/// An id, and the ids that are watched.
type User = (String, Option<Vec<String>>);

fn expected_user(text: &str) -> Option<Result<User, MemberError>> {
    let node = match model::read(text) {
        Text::Json(node) => node,
        Text::NotJson => return Some(Err(MemberError::Invalid)),
        Text::TooDeep => return None,
    };
    let read = || {
        let fields = model::object(&node, &["id", "user_info", "watchlist"])?;
        let id = fields.even_null("id")?.text()?;
        let watchlist = match fields.get("watchlist") {
            None => None,
            Some(Node { value: Json::Array(ids), .. }) => Some(ids.iter().map(Node::text).collect::<Option<Vec<_>>>()?),
            Some(_) => return None,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-=@,.;".contains(c);
        (!id.is_empty() && id.chars().all(legal)).then_some((id, watchlist))
    };
    let Some((id, watchlist)) = read() else { return Some(Err(MemberError::Invalid)) };
    Some(within_limits(&id, None).map(|()| (id, watchlist)))
}

#[test]
fn users_are_who_was_signed() {
    Fuzz::new("user").seeds(USERS).tokens(&WORDS).run(20_000, |input| {
        let text = String::from_utf8_lossy(input);
        let parsed = SignedUser::parse(&text, LIMITS);
        let texts = |ids: &Vec<std::sync::Arc<str>>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let user = parsed.as_ref().map(|user| (user.id.to_string(), user.watchlist.as_ref().map(texts)));
        if let Some(expected) = expected_user(&text) {
            assert_eq!(user.map_err(Clone::clone), expected);
        }
        if let Ok(user) = &parsed {
            assert_eq!(&*user.user_data, &*text, "what was signed is kept as it was");
            assert_eq!(user.field("id").as_deref(), Some(&*user.id));
            for name in ["user_info", "watchlist", "team", "name", ""] {
                assert!(user.field(name).is_none_or(|value| value.len() <= text.len()));
            }
        }
        parsed.map_or_else(|error| format!("{error:?}"), |user| format!("a user {:?}", user.watchlist.map(|ids| ids.len().min(3))))
    });
}

#[test]
fn a_token_is_taken_only_as_it_was_signed() {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    let key = SigningKey::new("app-secret");
    let token = |header: &str, payload: &str| {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
        let hex = key.sign(&[&signed]);
        let digest: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        format!("{signed}.{}", BASE64.encode(digest))
    };
    let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
    let good =
        [r#"{"sub":"42","exp":2000000000}"#, r#"{"exp":2e9,"nbf":1,"sub":7,"order":[1,{"a":null}]}"#].map(|payload| token(hs256, payload));
    let bad = [
        token(hs256, r#"{"sub":"42","exp":1}"#),
        token(hs256, r#"{"sub":"42"}"#),
        token(hs256, r#"{"exp":2000000000,"nbf":1999999999}"#),
        token(r#"{"alg":"none"}"#, r#"{"exp":2000000000}"#),
        token(r#"{"alg":"RS256"}"#, r#"{"exp":2000000000}"#),
        token(r#"{"alg":["HS256"]}"#, r#"{"exp":2000000000}"#),
        token(hs256, "[]"),
    ];
    let words = ["eyJhbGciOiJub25lIn0", ".", "..", "=", "HS256", "eyJ"];
    Fuzz::new("token").seeds(good.iter().chain(&bad)).tokens(&words).run(10_000, |input| {
        let text = String::from_utf8_lossy(input);
        let verified = Claims::verify(&text, &key, 1_700_000_000);
        assert_eq!(verified.is_ok(), good.iter().any(|good| *good == text), "{text}");
        if let Ok(claims) = &verified {
            assert!(claims.subject().is_some());
        }
        format!("{:?}", verified.err())
    });
}

#[test]
fn an_authorisation_is_for_one_text() {
    let key = SigningKey::new("app-secret");
    let signed = Signed::Channel { socket_id: "123456.7890123", channel: "private-foobar", channel_data: None };
    let good = signed.auth("app-key", &key);
    Fuzz::new("auth").seeds([&good]).tokens(&["app-key:", ":", "::user::", "5c9f"]).run(10_000, |input| {
        let text = String::from_utf8_lossy(input);
        assert_eq!(signed.verify(&text, "app-key", &key), text == good, "{text}");
        (text == good).to_string()
    });
}

#[test]
fn socket_ids_are_two_numbers() {
    let seeds = ["123456.7890123", "3363.1846347", "0.0", "9007199254740991.1", "9007199254740992.1", "01.1", "1.1:private-x"];
    Fuzz::new("socket_id").seeds(seeds).tokens(&[".", "00", "٣", ":"]).run(10_000, |input| {
        let text = String::from_utf8_lossy(input);
        let halves: Vec<&str> = text.split('.').collect();
        let is_number = |half: &&str| !half.is_empty() && half.chars().all(|c| c.is_ascii_digit());
        let well_formed = halves.len() == 2 && halves.iter().all(is_number) && text.len() <= 64;
        let parsed = SocketId::parse(&text);
        assert_eq!(parsed.is_ok(), well_formed);
        if let Ok(Some(id)) = parsed {
            assert_eq!(id.to_string(), text, "one spelling only");
        }
        format!("{:?}", parsed.map(|id| id.is_some()))
    });
}
