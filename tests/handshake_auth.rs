//! Authentication at the handshake (`handshake_auth`) and the time limit for it afterwards (`authorization_timeout`).

use serde_json::{Value, json};

use crate::support::{APP, Broker, Frame, Ws, jwt, now_seconds, one_app};

fn broker(mode: &str) -> Broker {
    Broker::with(one_app(&format!("handshake_auth = \"{mode}\"")))
}

fn valid() -> String {
    jwt(APP.secret, "HS256", &json!({ "sub": "42", "exp": now_seconds() + 300 }))
}

/// One token per way of being wrong.
fn forgeries() -> Vec<(&'static str, String)> {
    let claims = |exp: Value| json!({ "sub": "42", "exp": exp });
    let later = now_seconds() + 300;
    let good = valid();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other_payload = jwt(APP.secret, "HS256", &claims(json!(later + 1)));
    vec![
        ("expired", jwt(APP.secret, "HS256", &claims(json!(now_seconds() - 300)))),
        ("no exp", jwt(APP.secret, "HS256", &json!({ "sub": "42" }))),
        ("exp of the wrong type", jwt(APP.secret, "HS256", &claims(json!("tomorrow")))),
        ("alg none", jwt(APP.secret, "none", &claims(json!(later)))),
        ("alg HS512 with an HS256 signature", jwt(APP.secret, "HS512", &claims(json!(later))) + signature),
        ("wrong secret", jwt("not-the-secret", "HS256", &claims(json!(later)))),
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("a signature for other claims", format!("{}.{signature}", other_payload.rsplit_once('.').unwrap().0)),
        ("trailing part", format!("{good}.x")),
        ("claims that are not an object", jwt(APP.secret, "HS256", &json!([later]))),
        ("garbage", "garbage".to_owned()),
        ("bad base64", "a!b.c!d.e!f".to_owned()),
    ]
}

fn by_path(broker: &Broker, token: &str) -> Ws {
    Ws::upgrade(broker.address(), &format!("/ctx/{token}/app/app-key?protocol=7"), &[])
}

fn by_header(broker: &Broker, token: &str) -> Ws {
    Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[("Authorization", &format!("Bearer {token}"))])
}

#[test]
fn a_required_token_is_taken_from_the_path_or_the_header() {
    let broker = broker("required");
    for mut ws in [by_path(&broker, &valid()), by_header(&broker, &valid())] {
        ws.established();
        ws.quiet();
    }
}

#[test]
fn without_the_required_token_the_connection_is_refused_with_4009() {
    let broker = broker("required");
    Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[]).refused(4009);
    Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[("Authorization", "Basic YTpi")]).refused(4009);
}

#[test]
fn no_forged_token_passes_when_one_is_required() {
    let broker = broker("required");
    let attempt = |(how, token): (&'static str, String)| (how, [by_path(&broker, &token), by_header(&broker, &token)], token);
    let attempts: Vec<_> = forgeries().into_iter().map(attempt).collect();
    for (how, sockets, token) in attempts {
        for mut ws in sockets {
            let text = ws.refused(4009);
            assert!(!text.contains(APP.secret) && !text.contains(&token), "{how}: {text}");
        }
    }
    assert_eq!(broker.http().connections(), 0);
}

#[test]
fn an_optional_token_may_be_absent_but_not_wrong() {
    let broker = broker("optional");
    Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[]).quiet();
    by_path(&broker, &valid()).established();
    let sockets: Vec<Ws> = forgeries().iter().map(|(_, token)| by_path(&broker, token)).collect();
    for mut ws in sockets {
        ws.refused(4009);
    }
}

#[test]
fn when_it_is_off_a_token_is_not_looked_at() {
    let broker = broker("off");
    by_header(&broker, "garbage").established();
    by_path(&broker, "garbage").established();
}

#[test]
fn an_unknown_key_under_the_token_mount_is_still_4001() {
    let broker = broker("required");
    let target = format!("/ctx/{}/app/nokey?protocol=7", valid());
    Ws::upgrade(broker.address(), &target, &[]).refused(4001);
}

#[test]
fn a_connection_that_is_not_authorized_in_time_is_closed_with_4009() {
    let broker = Broker::with(one_app("authorization_timeout = \"600ms\""));
    let mut authorized: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
    authorized[0].subscribe("private-room");
    authorized[1].join("presence-room", r#"{"user_id":"1"}"#);
    authorized[2].signin(r#"{"id":"42"}"#);

    let mut silent = broker.ws();
    let mut public_only = broker.ws();
    public_only.send_subscribe("news", None, None);
    public_only.acknowledged("news");
    let mut failing = broker.ws();
    failing.send_subscribe("private-room", Some("app-key:00"), None);
    failing.subscription_error("private-room");
    let mut chatty = broker.ws();
    for ws in [&mut silent, &mut public_only, &mut failing] {
        assert_eq!(ws.refused(4009), "Connection not authorized within timeout");
    }
    // Talking does not help: pings are not an authorization.
    chatty.send_text(r#"{"event":"pusher:ping"}"#);
    while let Frame::Text(text) = chatty.frame() {
        if text.contains("pusher:error") {
            break;
        }
        chatty.try_send_bytes(&crate::support::wire(1, br#"{"event":"pusher:ping"}"#));
    }
    chatty.closed(4009);
    for ws in &mut authorized {
        ws.quiet();
    }
}
