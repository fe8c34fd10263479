//! What a receiver gets, and what counts as a receipt.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    lifecycle::{
        listener::Fault,
        listeners::{
            http::tests::{Endpoint as Receiver, FAILS, OK},
            tests::event,
        },
    },
    protocol::SigningKey,
};

const SECRET: &str = "app-secret";

fn hook(name: &str, channel: &str, payload: Value) -> EventRow {
    EventRow { kind: EventKind::Webhook, event_type: name.to_owned(), payload, ..event("x", channel) }
}

fn endpoint_with(url: &str, change: impl FnOnce(&mut WebhookEndpointSettings)) -> WebhookEndpoint {
    let mut settings = WebhookEndpointSettings {
        name: "shop".to_owned(),
        filter: WebhookFilter::default(),
        options: EndpointOptions {
            app: "app".to_owned(),
            batch: None,
            retry_for: Duration::from_secs(86_400),
            order_for: Duration::from_secs(300),
            timeout: Duration::from_secs(3),
        },
        post: PostSettings { url: url.to_owned(), headers: vec![("X-Env".to_owned(), "prod".to_owned())], timeout: Duration::from_secs(3) },
        signer: Signer { app_key: "app-key".to_owned(), former_key: None, signing_key: SigningKey::new(SECRET) },
    };
    change(&mut settings);
    WebhookEndpoint::try_new(settings).unwrap()
}

fn endpoint(url: &str) -> WebhookEndpoint {
    endpoint_with(url, |_| ())
}

#[test]
fn the_body_is_that_of_the_contract_whatever_order_a_store_gives_fields_back_in() {
    let now = Duration::from_millis(1_700_000_000_000);
    let events = [hook("channel_occupied", "presence-room", json!({})), hook("member_added", "presence-room", json!({ "user_id": "42" }))];
    let text = body(now, &events).unwrap();
    assert_eq!(
        text,
        r#"{"time_ms":1700000000000,"events":[{"name":"channel_occupied","channel":"presence-room"},"#.to_owned()
            + r#"{"name":"member_added","channel":"presence-room","user_id":"42"}]}"#
    );
    assert_eq!(SigningKey::new(SECRET).sign(&[&text]), "7c7a88b91fb416d7640a36266219d239a8b20e9208a5b9e5fdbfdec5547b61cc");
    let fields = json!({ "user_id": "42", "socket_id": "123456.7890123", "event": "client-typing", "data": "{\"on\":true}" });
    let text = body(now, &[hook("client_event", "presence-room", fields)]).unwrap();
    assert_eq!(
        text,
        r#"{"time_ms":1700000000000,"events":[{"name":"client_event","channel":"presence-room","event":"client-typing","#.to_owned()
            + r#""data":"{\"on\":true}","socket_id":"123456.7890123","user_id":"42"}]}"#
    );
    assert_eq!(SigningKey::new(SECRET).sign(&[&text]), "a1dea54e33b724ecfb7a7ac6db755589a66c54fa3c1f0856d082b09661ff875b");
    let count = body(now, &[hook("subscription_count", "news", json!({ "subscription_count": 3, "channel": "x" }))]).unwrap();
    assert!(count.ends_with(r#"[{"name":"subscription_count","channel":"news","subscription_count":3}]}"#), "{count}");
}

#[tokio::test]
async fn a_webhook_is_signed_and_every_attempt_is_written_anew() {
    let receiver = Receiver::start(|_| FAILS).await;
    let endpoint = endpoint(&receiver.url);
    let events = [hook("member_added", "presence-é", json!({ "user_id": "ü\"1" })), hook("channel_vacated", "news", json!({}))];
    for _ in 0..2 {
        endpoint.deliver(&events).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let got = receiver.got();
    for request in &got {
        let headers = ["content-type", "x-pusher-key", "x-holdline-event-id", "x-env"].map(|name| request.header(name).unwrap());
        assert_eq!(headers, ["application/json", "app-key", "3-7", "prod"]);
        assert_eq!(request.header("x-pusher-signature").unwrap(), SigningKey::new(SECRET).sign(&[&request.body]));
        let expected = json!([
            { "name": "member_added", "channel": "presence-é", "user_id": "ü\"1" },
            { "name": "channel_vacated", "channel": "news" },
        ]);
        assert_eq!(request.json()["events"], expected);
    }
    let times: Vec<_> = got.iter().map(|request| request.json()["time_ms"].as_u64().unwrap()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(times[0] < times[1] && now - times[0] < 60_000, "{times:?}");
    assert_ne!(got[0].header("x-pusher-signature"), got[1].header("x-pusher-signature"));
}

/// What comes back on a connection that is closed behind it.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn nothing_but_a_whole_2xx_is_a_receipt() {
    let events = [hook("channel_occupied", "news", json!({}))];
    for answer in [OK, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "HTTP/1.1 202 Accepted\r\n\r\nuntil it closes"] {
        endpoint(&answering(answer).await).deliver(&events).await.unwrap();
    }
    for answer in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbroken o",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbro",
        "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        FAILS,
    ] {
        let retry = endpoint(&answering(answer).await).deliver(&events).await.unwrap_err();
        assert_eq!(retry.fault(), Fault::Entry, "{answer:?}: {retry}");
        assert!(!retry.message().contains("127.0.0.1"), "{retry}");
    }
    let hangs = Receiver::start(|_| "").await;
    endpoint(&hangs.url).deliver(&events).await.unwrap_err();
    let half = Receiver::start(|_| "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nand then").await;
    endpoint(&half.url).deliver(&events).await.unwrap_err();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let retry = endpoint(&format!("http://user:password@{gone}/?token=t0ken")).deliver(&events).await.unwrap_err();
    assert_eq!(retry.fault(), Fault::Outage, "{retry}");
    assert!(!retry.message().contains("password") && !retry.message().contains("t0ken"), "{retry}");
}

#[test]
fn an_endpoint_takes_the_webhooks_of_its_application_that_its_filter_lets_through() {
    let filter =
        WebhookFilter { kinds: vec![WebhookKind::MemberAdded], channel_prefix: "presence-".to_owned(), channel_suffix: ".eu".to_owned() };
    let endpoint = endpoint_with("http://shop.example/", |settings| settings.filter = filter);
    assert_eq!(endpoint.consumer(), "webhook:app:shop");
    let wanted = hook("member_added", "presence-room.eu", json!({ "user_id": "42" }));
    assert!(endpoint.wants(&wanted));
    for other in [
        hook("member_removed", "presence-room.eu", json!({})),
        hook("member_added", "presence-room.us", json!({})),
        hook("member_added", "room.eu", json!({})),
        EventRow { app: "other".to_owned(), ..wanted.clone() },
        EventRow { kind: EventKind::Event, ..wanted.clone() },
    ] {
        assert!(!endpoint.wants(&other), "{other:?}");
    }
    assert!(!format!("{endpoint:?}").contains(SECRET));
}
