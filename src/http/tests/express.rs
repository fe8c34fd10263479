//! Publishes past the router are answered as the router would have them answered.

use actix_web::{
    HttpMessage,
    body::to_bytes,
    dev::ServiceResponse,
    http::{Method, header},
};

use super::{
    EVENT, LIMIT, broker, join,
    routes::{ask_express, ask_router},
    signed, signed_as,
};
use crate::{
    cluster::Broker,
    http::{Account, account},
};

/// Status, headers that we set, body; and what the application was charged for it.
type Answer = (u16, Vec<Option<String>>, String, (u64, u64, u64));

async fn seen(broker: &Broker, response: ServiceResponse) -> Answer {
    let header = |name| response.headers().get(name).map(|value: &header::HeaderValue| value.to_str().unwrap().to_owned());
    let headers = [header::CONTENT_TYPE, header::ALLOW, header::RETRY_AFTER].map(header).to_vec();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body()).await.unwrap_or_else(|_| panic!("a body"));
    let charged = broker.app("app-id").unwrap().stats().http();
    (status, headers, String::from_utf8(body.to_vec()).unwrap(), (charged.calls, charged.bytes_in, charged.bytes_out))
}

#[actix_web::test]
async fn both_ways_give_the_same_answers() {
    let large = format!(r#"{{"name":"e","channel":"news","data":"{}"}}"#, "x".repeat(10_241));
    let batch = format!(r#"{{"batch":[{EVENT},{{"name":"e","channel":"presence-a","data":"1","info":"user_count"}}]}}"#);
    let info = r#"{"name":"e","channels":["news","presence-a"],"data":{ "a": 1 },"info":"subscription_count,user_count"}"#;
    for (path, body) in [
        ("/apps/app-id/events", EVENT),
        ("/ws/apps/app-id/events", EVENT),
        ("/apps/app-id/events", info),
        ("/apps/app-id/events", large.as_str()),
        ("/apps/app-id/events", "{}"),
        ("/apps/app-id/events", ""),
        ("/apps/app-id/events", &" ".repeat(LIMIT + 1)),
        ("/apps/app-id/batch_events", batch.as_str()),
        ("/apps/app-id/batch_events", EVENT),
        ("/apps/disabled/events", EVENT),
        ("/apps/other/events", EVENT),
        ("/apps/nobody/events", EVENT),
    ] {
        let signable = path.strip_prefix("/ws").unwrap_or(path);
        let good = format!("{}{}", &path[..path.len() - signable.len()], signed("POST", signable, &[], body));
        let strange = good.replace("app-key", "other-key");
        let unsigned = good.replace("auth_signature=", "auth_signature=0");
        let twice = format!("{good}&auth_version=1.0");
        let other = signed_as("disabled-key", "POST", path, &[], body);
        for target in [&*good, &strange, &unsigned, &twice, &other, path] {
            let (one, two) = (broker(), broker());
            for broker in [&one, &two] {
                join(broker, 1, "42", "presence-a");
            }
            let Some(express) = ask_express(&one, Method::POST, target, body).await else { panic!("{target} is left to the router") };
            let express = seen(&one, express).await;
            let router = ask_router(&two, Method::POST, target, body).await;
            // As the middleware of the server does it.
            if let Some(Account { hub, bytes_in }) = router.request().extensions().get::<Account>() {
                account(hub, *bytes_in, router.response());
            }
            assert_eq!(express, seen(&two, router).await, "{target} {body:.100}");
        }
    }
}

#[actix_web::test]
async fn what_the_router_might_see_otherwise_is_left_to_it() {
    let broker = broker();
    for path in [
        "/apps/app%2Did/events",
        "/apps//events",
        "/apps/app-id/events/",
        "/apps/app-id/event",
        "/apps/a/b/events",
        "/apps/app-id/batch_events/1",
        "/ws/ws/apps/app-id/events",
        "/wsx/apps/app-id/events",
        "/apps/app-id",
        "/events",
        "/",
    ] {
        assert!(ask_express(&broker, Method::POST, path, EVENT).await.is_none(), "{path}");
    }
    for method in [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS, Method::DELETE] {
        assert!(ask_express(&broker, method, "/apps/app-id/events", EVENT).await.is_none());
    }
}
