//! Locks and log through their routes, as far as they are answered without a store.

use actix_web::http::{Method, header};

use super::{
    broker,
    routes::{ask, get_refused, post_refused},
};

#[actix_web::test]
async fn a_broker_without_a_store_says_so() {
    let broker = broker();
    let text = "This broker keeps no locks and no log: its store.url is \"none\"";
    for path in ["/locks", "/locks/order%3A42", "/locks/a/b", "/events"] {
        assert_eq!(get_refused(&broker, path, &[]).await, (501, text.to_owned()), "{path}");
    }
    assert_eq!(post_refused(&broker, "/locks/1/release", "{}").await, (501, text.to_owned()));
    assert_eq!(post_refused(&broker, "/locks/1/release", "").await.0, 501);
    broker.set_ready();
    let response = ask(&broker, Method::GET, "/ready/holds", "").await;
    assert_eq!(response.status(), 503);
    assert_eq!(ask(&broker, Method::GET, "/ready", "").await.status(), 200, "plain clients need no store");
}

#[actix_web::test]
async fn every_refusal_of_a_parameter_names_it_and_its_limit() {
    let broker = broker();
    let long = "x".repeat(513);
    for (path, name, value, rule) in [
        ("/locks", "limit", "0", "must be a number from 1 to 1000"),
        ("/locks", "limit", "1001", "must be a number from 1 to 1000"),
        ("/events", "limit", "+1", "must be a number from 1 to 1000"),
        ("/events", "limit", "", "must be a number from 1 to 1000"),
        ("/events", "limit", "99999999999999999999", "must be a number from 1 to 1000"),
        ("/events", "after", "", "must be a `next` that this log has given"),
        ("/events", "after", "17", "must be a `next` that this log has given"),
        ("/events", "after", "h1-zz", "must be a `next` that this log has given"),
        ("/locks", "after", "h1-1", "must be a whole number from 1 to 9223372036854775807"),
        ("/locks", "after", "0", "must be a whole number from 1 to 9223372036854775807"),
        ("/locks", "state", "free", "must be held, grace or released"),
        ("/locks", "resource", "", "must not be empty"),
        ("/locks", "resource", &long, "must have at most 512 bytes"),
        ("/locks", "principal", "user:\0", "must not have a zero character"),
        ("/locks", "principal", "\u{fffd}", "must be UTF-8"),
    ] {
        assert_eq!(get_refused(&broker, path, &[(name, value)]).await, (400, format!("{name} {rule}")), "{path} {value}");
    }
    for fence in ["x", "0", "-1", "%2B1", "1.0", "9223372036854775808", "%20"] {
        let refused = post_refused(&broker, &format!("/locks/{fence}/release"), "").await;
        assert_eq!(refused, (400, "fence must be a whole number from 1 to 9223372036854775807".to_owned()), "{fence}");
    }
    assert_eq!(get_refused(&broker, &format!("/locks/{long}"), &[]).await, (400, "resource must have at most 512 bytes".to_owned()));
    assert_eq!(get_refused(&broker, "/locks/%FF", &[]).await, (400, "resource must be UTF-8".to_owned()));
}

#[actix_web::test]
async fn releasing_is_a_post_and_all_else_a_get() {
    let broker = broker();
    for (method, path, allow) in [
        (Method::POST, "/apps/app-id/locks", "GET"),
        (Method::DELETE, "/apps/app-id/locks/order:42", "GET"),
        (Method::PUT, "/apps/app-id/events", "GET, POST"),
        (Method::PUT, "/ready/holds", "GET, HEAD"),
    ] {
        let response = ask(&broker, method, path, "").await;
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers().get(header::ALLOW).unwrap(), allow, "{path}");
    }
    assert_eq!(get_refused(&broker, "/locks/5/release", &[]).await.0, 501, "a resource may be called so");
}
