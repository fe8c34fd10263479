//! `POST …/users/{user_id}/terminate_connections`: protocol.md 4.4 and 6.10.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{APP, Frame, Http, OTHER, Ws, in_one_of, md5_hex, member, now_seconds, one_app, query_string, shared, unique, until};
use crate::support::{Broker, hmac_hex};

const KICKED: &str = "You got disconnected by the app.";

fn signed_in(broker: &Broker, id: &str) -> Ws {
    let mut ws = broker.ws();
    ws.signin(&json!({ "id": id }).to_string());
    ws
}

fn terminate(http: &mut Http, id: &str, body: &str) {
    assert_eq!(http.post(&format!("/users/{id}/terminate_connections"), body).json(), json!({}));
}

#[test]
fn all_connections_signed_in_as_the_user_are_closed_with_4009_and_nobody_else() {
    let broker = shared();
    let (id, room) = (unique("kick"), unique("presence-kick"));
    let (mut one, mut two) = (signed_in(&broker, &id), signed_in(&broker, &id));
    // The first channel of one of them is not a presence channel: another broker answers 500 then.
    one.subscribe(&unique("news"));
    one.join(&room, &member("somebody", None));
    let mut same_name = broker.ws();
    same_name.join(&room, &member(&id, None));
    one.expect("pusher_internal:member_added");
    let mut neighbour = signed_in(&broker, &unique("neighbour"));
    let mut http = broker.http();
    terminate(&mut http, &id, "{}");
    for ws in [&mut one, &mut two] {
        assert_eq!(ws.refused(4009), KICKED);
    }
    let gone = same_name.expect("pusher_internal:member_removed");
    assert_eq!(gone.payload(), json!({ "user_id": "somebody" }));
    same_name.quiet();
    neighbour.quiet();
    until("only one is left in the room", || http.subscribers(&room) == 1);
}

/// RFC 6455 7.1.1: the server closes the TCP connection; a browser fires `onclose` no sooner.
#[test]
fn a_client_that_answers_the_close_is_let_go_at_once_and_one_that_does_not_a_little_later() {
    /// How long somebody has to answer.
    const TO_ANSWER: Duration = Duration::from_secs(1);
    let broker = shared();
    // A machine that stands still for so long lets both go.
    in_one_of(10, || {
        let id = unique("kick");
        let (mut polite, mut silent) = (signed_in(&broker, &id), signed_in(&broker, &id));
        let told = Instant::now();
        terminate(&mut broker.http(), &id, "{}");
        assert_eq!(silent.error(4009), KICKED);
        assert!(matches!(silent.frame(), Frame::Close(Some(4009), _)));
        assert_eq!(polite.refused(4009), KICKED);
        let left = silent.frame_within(Duration::from_millis(1));
        if let Some(frame) = left {
            assert!(told.elapsed() >= TO_ANSWER, "it still has time to answer: {frame:?} after {:?}", told.elapsed());
            return Err(format!("{:?} to see both", told.elapsed()));
        }
        silent.gone();
        Ok(())
    });
}

#[test]
fn a_user_without_connections_and_an_empty_body_are_fine() {
    let broker = shared();
    let mut http = broker.http();
    terminate(&mut http, &unique("nobody"), "{}");
    terminate(&mut http, &unique("nobody"), "");
    let id = unique("twice");
    let mut ws = signed_in(&broker, &id);
    terminate(&mut http, &id, "");
    ws.refused(4009);
    terminate(&mut http, &id, "");
}

#[test]
fn the_user_id_is_percent_decoded() {
    let broker = shared();
    let id = unique("a=b,c;d@e");
    let encoded = id.replace('=', "%3D").replace(',', "%2C").replace(';', "%3B").replace('@', "%40");
    let mut http = broker.http();
    let mut ws = signed_in(&broker, &id);
    terminate(&mut http, &encoded, "{}");
    ws.refused(4009);

    // Signed over the decoded path, sent encoded: legal too (6.1).
    let mut ws = signed_in(&broker, &id);
    let query = APP.signed_query("POST", &format!("/apps/app-id/users/{id}/terminate_connections"), &[], b"{}");
    let target = format!("/apps/app-id/users/{encoded}/terminate_connections?{}", query_string(&query));
    assert_eq!(http.request("POST", &target, &[], b"{}").json(), json!({}));
    ws.refused(4009);
}

#[test]
fn the_same_user_id_in_another_app_is_somebody_else() {
    let other = format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n", OTHER.id, OTHER.key, OTHER.secret);
    let broker = Broker::with(one_app("") + &other);
    let mut ours = signed_in(&broker, "42");
    let mut theirs = Ws::open_at(broker.address(), "/app/other-key?protocol=7", &[]);
    let data = r#"{"id":"42"}"#;
    let auth = OTHER.auth(&format!("{}::user::{data}", theirs.socket_id));
    theirs.send(&json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": data } }));
    theirs.expect("pusher:signin_success");
    terminate(&mut broker.http(), "42", "{}");
    ours.refused(4009);
    theirs.quiet();
}

#[test]
fn the_unprefixed_path_of_the_python_sdk_is_understood() {
    let broker = shared();
    let id = unique("python");
    let mut ws = signed_in(&broker, &id);
    let path = format!("/users/{id}/terminate_connections");
    let (stamp, md5) = (now_seconds(), md5_hex(b"{}"));
    let parameters = format!("auth_key=app-key&auth_timestamp={stamp}&auth_version=1.0&body_md5={md5}");
    let signature = hmac_hex(APP.secret, &format!("POST\n{path}\n{parameters}"));
    let mut http = broker.http();
    http.request("POST", &format!("{path}?{parameters}&auth_signature={}", "0".repeat(64)), &[], b"{}").refused(401);
    ws.quiet();
    assert_eq!(http.request("POST", &format!("{path}?{parameters}&auth_signature={signature}"), &[], b"{}").json(), json!({}));
    ws.refused(4009);
}

#[test]
fn an_unsigned_request_terminates_nobody() {
    let broker = shared();
    let id = unique("unsigned");
    let mut ws = signed_in(&broker, &id);
    let mut http = broker.http();
    http.request("POST", &format!("/apps/app-id/users/{id}/terminate_connections"), &[], b"{}").refused(401);
    http.get(&format!("/users/{id}/terminate_connections"), &[]).refused(405);
    ws.quiet();
}
