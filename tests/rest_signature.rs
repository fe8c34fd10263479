//! Who may call the HTTP API: protocol.md 6.1, the negative tests of 6.2, and the order of the checks.

use serde_json::json;

use crate::support::{APP, App, Broker, Http, OTHER, Query, hmac_hex, md5_hex, now_seconds, one_app, query_string, shared};

const PATH: &str = "/apps/app-id/events";
const BODY: &[u8] = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;

fn post(http: &mut Http, query: &Query, body: &[u8]) -> crate::support::Answer {
    http.request("POST", &format!("{PATH}?{}", query_string(query)), &[("Content-Type", "application/json")], body)
}

/// The good query of [`BODY`] after `change`, signed again.
fn resigned(change: impl FnOnce(&mut Query)) -> Query {
    let mut query = APP.unsigned_query(&[], BODY, now_seconds());
    change(&mut query);
    APP.sign("POST", PATH, &mut query);
    query
}

fn set(query: &mut Query, name: &str, value: &str) {
    query.iter_mut().find(|(found, _)| found == name).expect("the parameter is there").1 = value.to_owned();
}

#[test]
fn a_well_signed_request_is_accepted_and_may_be_repeated() {
    let broker = shared();
    let mut http = broker.http();
    let query = resigned(|_| ());
    for _ in 0..2 {
        assert_eq!(post(&mut http, &query, BODY).json(), json!({}));
    }
}

#[test]
fn any_other_body_byte_is_refused() {
    let broker = shared();
    let mut http = broker.http();
    let query = resigned(|_| ());
    let mut body = BODY.to_vec();
    body[12] = b'g';
    post(&mut http, &query, &body).refused(401);
    post(&mut http, &query, &[BODY, b" "].concat()).refused(401);
    post(&mut http, &query, b"").refused(401);
}

#[test]
fn a_timestamp_outside_of_six_hundred_seconds_is_refused() {
    let broker = shared();
    let mut http = broker.http();
    for skew in [-620_i64, -601, 605, 620, 1_000_000] {
        let stamp = (now_seconds() as i64 + skew).to_string();
        let text = post(&mut http, &resigned(|query| set(query, "auth_timestamp", &stamp)), BODY).refused(401);
        assert!(text.to_lowercase().contains("timestamp"), "{text}");
    }
    for skew in [-590_i64, 590] {
        let stamp = (now_seconds() as i64 + skew).to_string();
        assert_eq!(post(&mut http, &resigned(|query| set(query, "auth_timestamp", &stamp)), BODY).status, 200);
    }
    for stamp in ["", "soon", "1.5e9", "-1", "99999999999999999999999"] {
        post(&mut http, &resigned(|query| set(query, "auth_timestamp", stamp)), BODY).refused(401);
    }
}

#[test]
fn another_auth_version_is_refused() {
    let broker = shared();
    let mut http = broker.http();
    for version in ["2.0", "1", "", "1.00"] {
        post(&mut http, &resigned(|query| set(query, "auth_version", version)), BODY).refused(401);
    }
}

#[test]
fn a_missing_parameter_is_refused() {
    let broker = shared();
    let mut http = broker.http();
    for name in ["auth_key", "auth_timestamp", "auth_version", "body_md5"] {
        let query = resigned(|query| query.retain(|(found, _)| found != name));
        post(&mut http, &query, BODY).refused(401);
    }
    let mut query = resigned(|_| ());
    query.pop();
    post(&mut http, &query, BODY).refused(401);
    post(&mut http, &Vec::new(), BODY).refused(401);
}

#[test]
fn a_body_md5_that_does_not_match_is_refused_even_if_it_is_signed() {
    let broker = shared();
    let mut http = broker.http();
    let upper = md5_hex(BODY).to_uppercase();
    for md5 in [md5_hex(b"something else").as_str(), md5_hex(b"").as_str(), "", &upper] {
        post(&mut http, &resigned(|query| set(query, "body_md5", md5)), BODY).refused(401);
    }
}

#[test]
fn the_order_of_the_query_on_the_wire_does_not_matter() {
    let broker = shared();
    let mut http = broker.http();
    let mut query = resigned(|_| ());
    query.reverse();
    assert_eq!(post(&mut http, &query, BODY).json(), json!({}));
}

#[test]
fn an_upper_case_or_shortened_signature_is_refused() {
    let broker = shared();
    let mut http = broker.http();
    let good = resigned(|_| ());
    let signature = good[4].1.clone();
    let flipped = format!("{}{}", &signature[..63], if signature.ends_with('a') { 'b' } else { 'a' });
    for bad in [signature.to_uppercase(), signature[..63].to_owned(), format!("{signature}0"), String::new(), flipped, "é".repeat(32)] {
        let mut query = good.clone();
        set(&mut query, "auth_signature", &bad);
        let text = post(&mut http, &query, BODY).refused(401);
        assert!(bad.contains(&signature) || !text.contains(&signature), "the expected signature leaks: {text}");
        assert!(!text.contains(APP.secret), "the secret leaks: {text}");
    }
}

#[test]
fn a_signature_for_another_method_path_or_secret_is_refused() {
    let broker = shared();
    let mut http = broker.http();
    for (method, path, secret) in [
        ("GET", PATH, APP.secret),
        ("POST", "/apps/app-id/batch_events", APP.secret),
        ("post", PATH, APP.secret),
        ("POST", PATH, "app-secre"),
    ] {
        let mut query = APP.unsigned_query(&[], BODY, now_seconds());
        App { secret, ..APP }.sign(method, path, &mut query);
        post(&mut http, &query, BODY).refused(401);
    }
}

#[test]
fn every_parameter_takes_part_in_the_signature() {
    let broker = shared();
    let mut http = broker.http();
    let query = resigned(|query| query.push(("zz_unknown".to_owned(), "1".to_owned())));
    assert_eq!(post(&mut http, &query, BODY).json(), json!({}));
    let mut added = resigned(|_| ());
    added.push(("info".to_owned(), "user_count".to_owned()));
    post(&mut http, &added, BODY).refused(401);
}

#[test]
fn names_are_lower_cased_and_values_are_not_before_signing() {
    let broker = shared();
    let mut http = broker.http();
    let query = resigned(|query| query.push(("X_Custom".to_owned(), "MiXeD".to_owned())));
    assert_eq!(post(&mut http, &query, BODY).status, 200);
}

#[test]
fn values_are_signed_decoded_however_they_were_escaped() {
    let broker = shared();
    let mut http = broker.http();
    let query = APP.signed_query(
        "GET",
        "/apps/app-id/channels",
        &[("filter_by_prefix", "presence-"), ("info", "user_count,subscription_count")],
        b"",
    );
    let spellings: [fn(&str) -> String; 3] =
        [str::to_owned, |text| text.replace(',', "%2C"), |text| text.replace('-', "%2d").replace(',', "%2c").replace('_', "%5F")];
    for spell in spellings {
        let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", spell(value))).collect();
        let answer = http.plain(&format!("/apps/app-id/channels?{}", pairs.join("&")));
        assert!(answer.json()["channels"].is_object());
    }
}

#[test]
fn a_plus_and_a_percent_twenty_are_both_a_blank() {
    let broker = shared();
    let mut http = broker.http();
    let query = APP.signed_query("GET", "/apps/app-id/channels", &[("filter_by_prefix", "a b")], b"");
    for blank in ["+", "%20"] {
        let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', blank))).collect();
        assert_eq!(http.plain(&format!("/apps/app-id/channels?{}", pairs.join("&"))).json(), json!({ "channels": {} }));
    }
}

#[test]
fn the_md5_of_nothing_on_a_get_is_part_of_the_text_as_python_has_it() {
    let broker = shared();
    let mut http = broker.http();
    let empty = [("body_md5", "d41d8cd98f00b204e9800998ecf8427e")];
    assert!(http.get("/channels", &empty).json()["channels"].is_object());
    assert_eq!(http.get("/channels/presence-none/users", &empty).json(), json!({ "users": [] }));
    http.get("/channels", &[("body_md5", "99914b932bd37a50b983c5e7c90ae93b")]).refused(401);
}

#[test]
fn a_duplicate_parameter_is_400() {
    let broker = shared();
    let mut http = broker.http();
    let target = http.signed_target("GET", "/channels", &[("info", "a")], b"");
    http.plain(&format!("{target}&info=a")).refused(400);
    http.plain(&format!("{target}&auth_key=app-key")).refused(400);
}

#[test]
fn the_path_may_be_signed_raw_or_decoded() {
    let broker = shared();
    let mut http = broker.http();
    for signed in ["/apps/app-id/channels/a%3Bb", "/apps/app-id/channels/a;b"] {
        let query = APP.signed_query("GET", signed, &[], b"");
        let answer = http.plain(&format!("/apps/app-id/channels/a%3Bb?{}", query_string(&query)));
        assert_eq!(answer.json(), json!({ "occupied": false }), "signed over {signed}");
    }
}

#[test]
fn an_unknown_key_and_a_key_of_another_app_are_401_but_an_unknown_app_is_404() {
    let other = format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n", OTHER.id, OTHER.key, OTHER.secret);
    let broker = Broker::with(one_app("") + &other);
    let mut http = broker.http();
    for app in [App { key: "nokey", ..APP }, App { id: APP.id, ..OTHER }, App { key: OTHER.key, ..APP }] {
        let query = app.signed_query("POST", PATH, &[], BODY);
        post(&mut http, &query, BODY).refused(401);
    }
    let stranger = App { id: "nobody", ..APP };
    let mut http = broker.http().signing_as(stranger);
    http.get("/channels", &[]).refused(404);
    http.post("/events", BODY).refused(404);
}

#[test]
fn the_checks_come_in_the_order_of_the_contract() {
    let broker = shared();
    let mut http = broker.http();
    // An unknown app before everything, and a bad signature before a bad body.
    http.request("POST", "/apps/nobody/events", &[], b"not json").refused(404);
    let bad_body = b"not json";
    let mut query = APP.unsigned_query(&[], bad_body, now_seconds());
    query.push(("auth_signature".to_owned(), hmac_hex("wrong", "text")));
    post(&mut http, &query, bad_body).refused(401);
    post(&mut http, &APP.signed_query("POST", PATH, &[], bad_body), bad_body).refused(400);
}
