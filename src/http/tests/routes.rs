//! Every endpoint: status, body, headers.

use actix_web::{
    App as Server,
    body::to_bytes,
    dev::ServiceResponse,
    http::{Method, header},
    test::{TestRequest, call_service, init_service},
    web,
};

use super::*;
use crate::{
    http::{Express, HttpSettings, configure, not_found},
    protocol::SignedUser,
};

/// Status, content type, body.
type Answer = (u16, String, String);

fn settings() -> web::Data<HttpSettings> {
    web::Data::new(HttpSettings { max_request_bytes: LIMIT, path_prefix: "/ws".into() })
}

/// As the server does it: past the router, where that is possible.
pub(super) async fn ask(broker: &Broker, method: Method, target: &str, body: &str) -> ServiceResponse {
    match ask_express(broker, method.clone(), target, body).await {
        Some(response) => response,
        None => ask_router(broker, method, target, body).await,
    }
}

/// Past the router, if the request may go that way.
pub(super) async fn ask_express(broker: &Broker, method: Method, target: &str, body: &str) -> Option<ServiceResponse> {
    let express = Express::new(broker.clone(), settings());
    let request = TestRequest::default().method(method).uri(target).set_payload(body.to_owned()).to_srv_request();
    let publish = express.takes(&request)?;
    Some(express.answer(publish, request).await)
}

/// Through the router.
pub(super) async fn ask_router(broker: &Broker, method: Method, target: &str, body: &str) -> ServiceResponse {
    let server = Server::new()
        .app_data(web::Data::new(broker.clone()))
        .app_data(settings())
        .service(web::scope("/ws").configure(configure))
        .configure(configure)
        .default_service(web::to(not_found));
    let request = TestRequest::default().method(method).uri(target).set_payload(body.to_owned()).to_request();
    call_service(&init_service(server).await, request).await
}

async fn answer(broker: &Broker, method: Method, target: &str, body: &str) -> Answer {
    let response = ask(broker, method, target, body).await;
    let kind = response.headers().get(header::CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body()).await.unwrap_or_else(|_| panic!("a body"));
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

/// A signed GET below the application; success is 200 and JSON.
async fn get(broker: &Broker, path: &str, params: &[(&str, &str)]) -> String {
    success(answer(broker, Method::GET, &signed("GET", &format!("/apps/app-id{path}"), params, ""), "").await)
}

pub(super) async fn get_refused(broker: &Broker, path: &str, params: &[(&str, &str)]) -> (u16, String) {
    refusal(answer(broker, Method::GET, &signed("GET", &format!("/apps/app-id{path}"), params, ""), "").await)
}

async fn post(broker: &Broker, path: &str, body: &str) -> String {
    success(answer(broker, Method::POST, &signed("POST", &format!("/apps/app-id{path}"), &[], body), body).await)
}

pub(super) async fn post_refused(broker: &Broker, path: &str, body: &str) -> (u16, String) {
    refusal(answer(broker, Method::POST, &signed("POST", &format!("/apps/app-id{path}"), &[], body), body).await)
}

fn success((status, kind, text): Answer) -> String {
    assert_eq!((status, kind.as_str()), (200, "application/json"), "{text}");
    text
}

fn refusal((status, kind, text): Answer) -> (u16, String) {
    assert!(status >= 400 && !text.is_empty() && !text.contains('\n'), "{status} {text}");
    assert_eq!(kind, "text/plain; charset=utf-8");
    (status, text)
}

#[actix_web::test]
async fn publishing_answers_an_empty_object_or_what_was_asked_for() {
    let broker = broker();
    join(&broker, 1, "42", "presence-room");
    join(&broker, 2, "42", "presence-room");
    join(&broker, 3, "", "news");
    assert_eq!(post(&broker, "/events", EVENT).await, "{}");
    let ask = |channels: &str, info: &str| format!(r#"{{"name":"e","channels":{channels},"data":"1","info":{info}}}"#);
    let both = ask(r#"["presence-room","news","empty"]"#, r#""user_count, subscription_count,,odd,cache""#);
    assert_eq!(
        post(&broker, "/events", &both).await,
        r#"{"channels":{"presence-room":{"user_count":1,"subscription_count":2},"news":{"subscription_count":1},"empty":{"subscription_count":0}}}"#
    );
    assert_eq!(post(&broker, "/events", &ask(r#"["news"]"#, r#""user_count""#)).await, r#"{"channels":{"news":{}}}"#);
    assert_eq!(post(&broker, "/events", &ask(r#"["news"]"#, "null")).await, "{}");
    assert_eq!(post(&broker, "/events", &ask(r##"["#server-to-user-7"]"##, "null")).await, "{}");
}

#[actix_web::test]
async fn nothing_of_a_bad_batch_is_published() {
    let broker = broker();
    let cached = async |broker: &Broker| get(broker, "/channels/cache-a", &[("info", "cache")]).await;
    let good = r#"{"name":"e","channel":"cache-a","data":"1"}"#;
    let large = format!(r#"{{"name":"e","channel":"a","data":"{}"}}"#, "x".repeat(10_241));
    for (bad, status, text) in [
        (r#"{"name":"e","channel":"bad name","data":"1"}"#, 400, "Invalid channel name"),
        (r#"{"name":"e","channel":"a","data":"1","socket_id":"x"}"#, 400, "Invalid socket id"),
        (r#"{"name":"e","channels":["a"],"data":"1"}"#, 400, "At least one channel is required"),
        (r#"{"name":"e","channel":"a"}"#, 400, "data is required"),
        (&large, 413, "The data content of this event exceeds the allowed maximum (10240 bytes)."),
    ] {
        assert_eq!(post_refused(&broker, "/batch_events", &format!(r#"{{"batch":[{good},{bad}]}}"#)).await, (status, text.to_owned()));
    }
    let eleven = [good; 11].join(",");
    let text = "Batch too large: at most 10 events are allowed, this one has 11";
    assert_eq!(post_refused(&broker, "/batch_events", &format!(r#"{{"batch":[{eleven}]}}"#)).await, (400, text.to_owned()));
    assert_eq!(cached(&broker).await, r#"{"occupied":false,"cache":null}"#);
    assert_eq!(post(&broker, "/batch_events", &format!(r#"{{"batch":[{good}]}}"#)).await, "{}");
    assert_eq!(cached(&broker).await, r#"{"occupied":false,"cache":{"data":"1","ttl":1800}}"#);
}

#[actix_web::test]
async fn a_batch_answers_in_order_when_one_item_asks() {
    let broker = broker();
    let batch = r#"{"batch":[{"channel":"a","name":"e1","data":"1"},{"channel":"presence-b","name":"e2","data":"{\"x\":true}","socket_id":"123456.7890123","info":"user_count"}]}"#;
    assert_eq!(post(&broker, "/batch_events", batch).await, r#"{"batch":[{},{"user_count":0}]}"#);
    assert_eq!(post(&broker, "/batch_events", r#"{"batch":[]}"#).await, "{}");
}

#[actix_web::test]
async fn a_body_that_cannot_be_published_is_400_and_too_much_data_is_413() {
    let broker = broker();
    for (body, text) in [
        ("", "The request body must be a JSON object in UTF-8"),
        ("not json", "The request body must be a JSON object in UTF-8"),
        (r#"["e","x","news"]"#, "The request body must be a JSON object in UTF-8"),
        ("{}", "name is required"),
        (r#"{"name":"e","data":"1"}"#, "At least one channel is required"),
        (r#"{"name":"e","data":"1","channels":[]}"#, "At least one channel is required"),
        (r#"{"name":"","data":"1","channel":"a"}"#, "The event name must have 1 to 200 characters"),
        (r#"{"name":"pusher:x","data":"1","channel":"a"}"#, "Event names starting with pusher: or pusher_internal: are reserved"),
        (r#"{"name":"e","data":"1","channel":"a","info":1}"#, "info must be a string"),
    ] {
        assert_eq!(post_refused(&broker, "/events", body).await, (400, text.to_owned()), "{body}");
    }
    let sized = |data: &str, n| format!(r#"{{"name":"e","channel":"a","data":"{}"}}"#, data.repeat(n));
    for (data, fits) in [("x", 10_240), ("é", 5_120), (r"\u00e9", 5_120)] {
        assert_eq!(post(&broker, "/events", &sized(data, fits)).await, "{}");
        let (status, text) = post_refused(&broker, "/events", &sized(data, fits + 1)).await;
        assert_eq!((status, text.as_str()), (413, "The data content of this event exceeds the allowed maximum (10240 bytes)."));
    }
    assert_eq!(
        post_refused(&broker, "/events", &" ".repeat(LIMIT + 1)).await,
        (413, "The request body exceeds the allowed maximum (65536 bytes).".to_owned())
    );
}

#[actix_web::test]
async fn channels_are_listed_as_an_object() {
    let broker = broker();
    assert_eq!(get(&broker, "/channels", &[]).await, r#"{"channels":{}}"#);
    join(&broker, 1, "42", "presence-room");
    join(&broker, 2, "7", "presence-room");
    join(&broker, 3, "", "open");
    assert_eq!(get(&broker, "/channels", &[]).await, r#"{"channels":{"open":{},"presence-room":{}}}"#);
    assert_eq!(
        get(&broker, "/channels", &[("filter_by_prefix", "o"), ("info", "subscription_count")]).await,
        r#"{"channels":{"open":{"subscription_count":1}}}"#
    );
    let presence = [("filter_by_prefix", "presence-"), ("info", "user_count")];
    assert_eq!(get(&broker, "/channels", &presence).await, r#"{"channels":{"presence-room":{"user_count":2}}}"#);
    assert_eq!(get(&broker, "/channels", &[("filter_by_prefix", "O"), ("info", "nonsense")]).await, r#"{"channels":{}}"#);
    let text = "user_count may only be requested for presence channels";
    for prefix in ["", "presence", "news"] {
        assert_eq!(
            get_refused(&broker, "/channels", &[("filter_by_prefix", prefix), ("info", "user_count")]).await,
            (400, text.to_owned())
        );
    }
    assert_eq!(get_refused(&broker, "/channels", &[("info", "cache")]).await.0, 400);
}

#[actix_web::test]
async fn one_channel_is_never_404() {
    let broker = broker();
    join(&broker, 1, "42", "presence-room");
    let counts = [("info", "user_count,subscription_count")];
    assert_eq!(get(&broker, "/channels/presence-room", &counts).await, r#"{"occupied":true,"user_count":1,"subscription_count":1}"#);
    assert_eq!(get(&broker, "/channels/presence-x", &counts).await, r#"{"occupied":false,"user_count":0,"subscription_count":0}"#);
    assert_eq!(get(&broker, "/channels/nobody", &[]).await, r#"{"occupied":false}"#);
    assert_eq!(get(&broker, "/channels/nobody", &[("info", "cache,odd")]).await, r#"{"occupied":false}"#);
    assert_eq!(get_refused(&broker, "/channels/nobody", &counts).await.0, 400);
    for bad in ["bad%20name", "a:b", "%23x", "a%2Fb", "a%252Fb", "a%0A", "%FF"] {
        assert_eq!(get_refused(&broker, &format!("/channels/{bad}"), &[]).await, (400, "Invalid channel name".to_owned()), "{bad}");
    }
    assert_eq!(get(&broker, "/channels/a%3Bb%2Cc", &[]).await, r#"{"occupied":false}"#);
}

#[actix_web::test]
async fn members_are_listed_once_each() {
    let broker = broker();
    join(&broker, 1, "42", "presence-room");
    join(&broker, 2, "42", "presence-room");
    join(&broker, 3, "\"é", "presence-cache-x");
    assert_eq!(get(&broker, "/channels/presence-room/users", &[]).await, r#"{"users":[{"id":"42"}]}"#);
    assert_eq!(get(&broker, "/channels/presence-cache-x/users", &[]).await, r#"{"users":[{"id":"\"é"}]}"#);
    assert_eq!(get(&broker, "/channels/presence-y/users", &[]).await, r#"{"users":[]}"#);
    assert_eq!(
        get_refused(&broker, "/channels/news/users", &[]).await,
        (400, "Users can only be retrieved for presence channels".to_owned())
    );
}

#[actix_web::test]
async fn connections_are_counted_and_shown_in_pages() {
    let broker = broker();
    assert_eq!(get(&broker, "/sockets", &[]).await, r#"{"sockets":[],"next":null}"#);
    (1..=3).for_each(|n| drop(conn(&broker, n)));
    assert_eq!(get(&broker, "/connections", &[]).await, r#"{"connections":3}"#);
    let first = get(&broker, "/sockets", &[("limit", "2")]).await;
    assert!(
        first.contains(r#""socket_id":"1.1","state":"connecting","remote_ip":"127.0.0.1","#) && first.ends_with(r#""next":"2.2"}"#),
        "{first}"
    );
    let second = get(&broker, "/sockets", &[("limit", "2"), ("after", "2.2")]).await;
    assert!(second.contains(r#""socket_id":"3.3""#) && second.ends_with(r#""next":null}"#), "{second}");
    for param in [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("after", "x"), ("after", "")] {
        assert_eq!(get_refused(&broker, "/sockets", &[param]).await.0, 400, "{param:?}");
    }
    assert!(get(&broker, "/sockets/1.1", &[]).await.starts_with(r#"{"socket_id":"1.1","#));
    for unknown in ["9.9", "nonsense", "99999999999999999999.1"] {
        assert_eq!(get_refused(&broker, &format!("/sockets/{unknown}"), &[]).await, (404, "Unknown socket id".to_owned()));
    }
}

#[actix_web::test]
async fn terminating_finds_the_user_by_either_path() {
    let broker = broker();
    for (n, path) in [
        (1, "/apps/app-id/users/a%3Bb/terminate_connections"),
        (2, "/users/a%3Bb/terminate_connections"),
        (3, "/ws/users/a%3Bb/terminate_connections"),
    ] {
        let conn = conn(&broker, n);
        let user = SignedUser { id: "a;b".into(), user_info: None, watchlist: None, user_data: "{}".into() };
        broker.app("app-id").unwrap().sign_in(&conn, &user, "{}", None);
        let path = path.trim_start_matches("/ws");
        for body in ["{}", ""] {
            let target = signed("POST", path, &[], body);
            let target = if n == 3 { format!("/ws{target}") } else { target };
            assert_eq!(success(answer(&broker, Method::POST, &target, body).await), "{}");
        }
        assert!(!conn.send_event("e", ""), "it has ended");
    }
    let target = signed_as("nokey", "POST", "/users/1/terminate_connections", &[], "");
    assert_eq!(refusal(answer(&broker, Method::POST, &target, "").await).0, 401);
    assert_eq!(
        refusal(answer(&broker, Method::POST, "/users/1/terminate_connections", "").await),
        (401, "Missing query parameter: auth_key".to_owned())
    );
}

#[actix_web::test]
async fn the_application_is_known_before_anything_else_is_looked_at() {
    let broker = broker();
    let refused = async |target: String, body| refusal(answer(&broker, Method::POST, &target, body).await);
    let events = |app: &str| format!("/apps/{app}/events");
    assert_eq!(refused(events("nobody"), "not json").await, (404, "Unknown app id".to_owned()));
    assert_eq!(refused(events("app-id"), "not json").await.0, 401);
    assert_eq!(refused(signed_as("other-key", "POST", &events("app-id"), &[], EVENT), EVENT).await.0, 401);
    assert_eq!(refused(signed("POST", &events("app-id"), &[], EVENT), "{}").await.0, 401);
    let twice = format!("{}&info=1&INFO=2", signed("POST", &events("app-id"), &[], EVENT));
    assert_eq!(refused(twice, EVENT).await, (400, "The query parameter \"info\" is given twice".to_owned()));
    let disabled = signed_as("disabled-key", "POST", &events("disabled"), &[], "not json");
    assert_eq!(refused(disabled.clone(), "not json").await, (403, "The app is disabled".to_owned()));
    assert_eq!(refused(disabled, "{}").await.0, 401, "only who is known hears that");
    assert_eq!(refused(signed("POST", &events("app-id"), &[], "not json"), "not json").await.0, 400);
    let (status, text) = refused(format!("{}0", signed("POST", &events("app-id"), &[], EVENT)), EVENT).await;
    assert!(
        status == 401
            && text.starts_with(
                r#"Invalid signature: you should have sent HmacSHA256Hex("POST\n/apps/app-id/events\nauth_key=app-key&auth_timestamp="#
            ),
        "{text}"
    );
}

#[actix_web::test]
async fn the_prefix_of_the_deployment_is_not_signed() {
    let broker = broker();
    let target = signed("POST", "/apps/app-id/events", &[], EVENT);
    assert_eq!(success(answer(&broker, Method::POST, &format!("/ws{target}"), EVENT).await), "{}");
    let target = signed("POST", "/ws/apps/app-id/events", &[], EVENT);
    assert_eq!(refusal(answer(&broker, Method::POST, &target, EVENT).await).0, 401);
    assert_eq!(success(answer(&broker, Method::GET, "/ws/up", "").await), r#"{"health":"OK"}"#);
}

#[actix_web::test]
async fn other_methods_are_405_and_other_paths_404() {
    let broker = broker();
    for (path, allow) in [
        ("/apps/app-id/events", "GET, POST"),
        ("/apps/app-id/batch_events", "POST"),
        ("/apps/app-id/channels", "GET"),
        ("/apps/app-id/channels/a/users", "GET"),
        ("/users/42/terminate_connections", "POST"),
        ("/apps/app-id/sockets/1.1", "GET"),
        ("/up", "GET, HEAD"),
        ("/", "GET, HEAD"),
    ] {
        let response = ask(&broker, Method::PUT, path, "{}").await;
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers().get(header::ALLOW).unwrap(), allow);
    }
    for path in [
        "/apps",
        "/apps/",
        "/apps/app-id",
        "/apps/app-id/",
        "/apps/app-id/events/",
        "/apps/app-id/channels/",
        "/apps/app-id/nothing",
        "/nothing",
    ] {
        for method in [Method::GET, Method::POST] {
            assert_eq!(refusal(answer(&broker, method, path, "{}").await), (404, "There is nothing at this path".to_owned()), "{path}");
        }
    }
}

#[actix_web::test]
async fn health_follows_the_broker() {
    let broker = broker();
    let status = async |path| ask(&broker, Method::GET, path, "").await.status().as_u16();
    assert_eq!((status("/").await, status("/up").await, status("/ready").await, status("/accept-traffic").await), (200, 200, 503, 200));
    broker.set_ready();
    assert_eq!(status("/ready").await, 200);
    assert_eq!(ask(&broker, Method::HEAD, "/ready", "").await.status(), 200);
    broker.start_draining();
    assert_eq!((status("/").await, status("/up").await, status("/ready").await, status("/accept-traffic").await), (200, 200, 503, 503));
    let full = Broker::new([App::for_tests()], 1);
    let _place = full.admit(&full.app("app-id").unwrap(), &conn(&super::broker(), 1)).unwrap();
    assert_eq!(ask(&full, Method::GET, "/accept-traffic", "").await.status(), 503);
}
