//! What a handler knows of the request behind a handshake, by every carrier of context (design 3.3).

use holdline::{
    Server, Settings,
    config::HandshakeAuth,
    domain::{Handshake, Outcome, Reject},
};
use serde_json::{Value, json};

use crate::{
    handlers::{Live, settings, told_off},
    handlers_script::{Answer, Journal},
    support::{APP, Ws, jwt, now_seconds},
};

/// Tells each client, when it opens, what `look` saw in its handshake.
struct Mirror(fn(&Handshake) -> Value);

impl holdline::Handler for Mirror {
    type Conn = Value;

    async fn on_handshake(&self, request: &Handshake) -> Result<Value, Reject> {
        Ok((self.0)(request))
    }

    async fn on_open(&self, seen: &mut Value) -> Result<Outcome, Reject> {
        Ok(Outcome::accept().push("seen", seen))
    }
}

fn mirror(change: impl FnOnce(&mut Settings), look: fn(&Handshake) -> Value) -> Live {
    Live::start(&Journal::new(), Server::new(settings(change)).handler(Mirror(look)))
}

fn seen(live: &Live, target: &str, headers: &[(&str, &str)]) -> Value {
    Ws::open_at(live.address, target, headers).expect("seen").payload()
}

#[test]
fn the_connection_to_be_its_application_and_its_address() {
    let live = mirror(
        |_| {},
        |request| {
            json!([request.conn().socket_id().to_string(), request.app_id(), request.remote_ip().map(|ip| ip.to_string()), request.path()])
        },
    );
    let mut ws = Ws::open_at(live.address, "/app/other-key?protocol=7&x=1", &[]);
    assert_eq!(ws.expect("seen").payload(), json!([ws.socket_id, "other-id", "127.0.0.1", "/app/other-key"]));
}

#[test]
fn query_parameters_are_decoded_and_the_first_of_a_name_counts() {
    let live = mirror(|_| {}, |request| json!(["order_id", "name", "empty", "twice", "none"].map(|name| request.query(name))));
    let target = "/app/app-key?order_id=42&name=Zo%C3%AB+%26%20x&empty=&twice=1&twice=2&protocol=7";
    assert_eq!(seen(&live, target, &[]), json!(["42", "Zoë & x", "", "1", null]));
}

#[test]
fn a_second_question_mark_is_an_ampersand() {
    let live = mirror(|_| {}, |request| json!(["user_id", "order_id", "x", "protocol", "client"].map(|name| request.query(name))));
    let target = "/app/app-key?user_id=7&order_id=42&x=?protocol=7&client=js&version=8.4.0&flash=false";
    assert_eq!(seen(&live, target, &[]), json!(["7", "42", "", "7", "js"]));
}

#[test]
fn headers_are_found_in_any_case_and_cookies_by_name() {
    let live = mirror(
        |_| {},
        |request| {
            json!([
                request.header("x-tenant"),
                request.header("X-TENANT"),
                request.header("x-none"),
                request.cookie("session"),
                request.cookie("theme"),
                request.cookie("Session"),
            ])
        },
    );
    let headers = [("X-Tenant", "acme"), ("Cookie", "theme=dark; session=a=b==; lonely")];
    assert_eq!(seen(&live, "/app/app-key?protocol=7", &headers), json!(["acme", "acme", null, "a=b==", "dark", null]));
    assert_eq!(seen(&live, "/app/app-key?protocol=7", &[]), json!([null, null, null, null, null, null]));
}

#[test]
fn the_token_of_the_path_is_decoded_once() {
    let live = mirror(|_| {}, |request| json!([request.path_token(), request.app_id(), request.claims().is_some()]));
    for (token, text) in [("abc", "abc"), ("a.b-c_d~e", "a.b-c_d~e"), ("a%2Fb%20c", "a/b c"), ("Zo%C3%AB", "Zoë"), ("100%2525", "100%25")]
    {
        assert_eq!(seen(&live, &format!("/ctx/{token}/app/app-key?protocol=7"), &[]), json!([text, "app-id", false]), "{token}");
    }
    assert_eq!(seen(&live, "/app/app-key?protocol=7", &[]), json!([null, "app-id", false]));
}

#[test]
fn a_verified_token_gives_its_claims_wherever_it_came_from() {
    let look = |request: &Handshake| {
        let claims = request.claims();
        json!([claims.and_then(|claims| claims.subject()), claims.and_then(|claims| claims.get("order").cloned())])
    };
    let live = mirror(|settings| settings.apps[0].handshake_auth = HandshakeAuth::Optional, look);
    let token = jwt(APP.secret, "HS256", &json!({ "sub": "42", "order": 7, "exp": now_seconds() + 300 }));
    let bearer = format!("Bearer {token}");
    assert_eq!(seen(&live, &format!("/ctx/{token}/app/app-key?protocol=7"), &[]), json!(["42", 7]));
    assert_eq!(seen(&live, "/app/app-key?protocol=7", &[("Authorization", &bearer)]), json!(["42", 7]));
    assert_eq!(seen(&live, "/app/app-key?protocol=7", &[]), json!([null, null]));
    assert_eq!(seen(&live, &format!("/ctx/{token}/app/other-key?protocol=7"), &[]), json!([null, null]), "off for that application");
    let foreign = jwt("other-secret", "HS256", &json!({ "sub": "42", "exp": now_seconds() + 300 }));
    told_off(&mut Ws::upgrade(live.address, &format!("/ctx/{foreign}/app/app-key?protocol=7"), &[]), 4009);
}

#[test]
fn the_context_is_made_of_the_handshake_and_outlives_it() {
    let journal = Journal::new();
    let hooks = |call: &crate::handlers_script::Call<'_>| Answer::Accept(Outcome::accept().push("you-are", call.who));
    let live = Live::start(&journal, Server::new(settings(|_| {})).handler(crate::handlers_script::Scripted::new(&journal, hooks)));
    let mut clients: Vec<Ws> = (0..5).map(|n| live.ws_as(&format!("client{n}"))).collect();
    for (n, ws) in clients.iter_mut().enumerate() {
        assert_eq!(ws.expect("you-are").payload(), json!(format!("client{n}")));
        ws.signin(&format!(r#"{{"id":"{n}"}}"#));
        assert_eq!(ws.expect("you-are").payload(), json!(format!("client{n}")));
    }
    drop(clients);
    for n in 0..5 {
        assert_eq!(journal.closed(&format!("client{n}")).hooks_before, 2);
    }
}
