//! Deliveries to an endpoint that takes them, refuses, hangs, sends elsewhere, or is not there.

use std::{
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    lifecycle::{
        BoxedListener,
        dispatcher::tests::harness::{Script, World, eventually, quick},
        listener::Fault,
        listeners::{signers::Signer, tests::event},
        store::Mode,
    },
    protocol::SigningKey,
};

const SECRET: &str = "app-secret-that-nobody-may-see";

/// A request as it came.
#[derive(Clone, Debug)]
pub(in crate::lifecycle) struct Request {
    pub(in crate::lifecycle) head: String,
    pub(in crate::lifecycle) body: String,
}

impl Request {
    pub(in crate::lifecycle) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
        line.split_once(": ").map(|(_, value)| value)
    }

    pub(in crate::lifecycle) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

type Answers = Arc<dyn Fn(&Request) -> &'static str + Send + Sync>;

/// An HTTP server that keeps what it gets. An empty answer is none at all, ever.
pub(in crate::lifecycle) struct Endpoint {
    pub(in crate::lifecycle) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Endpoint {
    pub(in crate::lifecycle) async fn start(answer: impl Fn(&Request) -> &'static str + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/holdline", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let (kept, answer): (_, Answers) = (Arc::clone(&requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept), Arc::clone(&answer)));
            }
        });
        Self { url, requests }
    }

    pub(in crate::lifecycle) fn got(&self) -> Vec<Request> {
        self.requests.lock().clone()
    }

    /// The types of what came, for one resource.
    fn types_of(&self, resource: &str) -> Vec<String> {
        let types = self.got().into_iter().map(|request| request.json()).filter(|body| body["resource"] == resource);
        types.map(|body| body["type"].as_str().unwrap().to_owned()).collect()
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Vec<Request>>>, answer: Answers) {
    let mut bytes = Vec::new();
    loop {
        let request = loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let request = Request { head: head.to_owned(), body: rest.to_owned() };
                let length: usize = request.header("content-length").unwrap().parse().unwrap();
                if rest.len() >= length {
                    break request;
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        bytes.clear();
        kept.lock().push(request.clone());
        match answer(&request) {
            "" => std::future::pending::<()>().await,
            answer => stream.write_all(answer.as_bytes()).await.unwrap(),
        }
    }
}

pub(in crate::lifecycle) const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
pub(in crate::lifecycle) const FAILS: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

fn signers() -> Signers {
    let signers = Signers::default();
    signers.set("app", Signer { app_key: "app-key".to_owned(), signing_key: SigningKey::new(SECRET), former_key: None });
    signers
}

fn settings(url: &str) -> HttpDeliverySettings {
    HttpDeliverySettings {
        name: "shop".to_owned(),
        url: url.to_owned(),
        signers: signers(),
        headers: vec![("X-Env".to_owned(), "prod".to_owned())],
        retry_for: Duration::from_secs(86_400),
        timeout: Duration::from_secs(1),
        filter: EventFilter::default().app("app"),
    }
}

fn delivery(url: &str) -> HttpDelivery {
    HttpDelivery::try_new(settings(url)).unwrap()
}

fn boxed(url: &str) -> BoxedListener {
    BoxedListener::plain(delivery(url))
}

fn now(event: EventRow) -> Delivered {
    Delivered::new(EventRow { at: Timestamp::now(), ..event }, 1)
}

#[tokio::test]
async fn http_delivery_is_the_entry_signed() {
    let endpoint = Endpoint::start(|_| OK).await;
    let entry = event("OrderLocked", "order:42");
    delivery(&endpoint.url).handle(&Delivered::new(entry.clone(), 1)).await.unwrap();
    let request = endpoint.got().remove(0);
    assert!(request.head.starts_with("POST /holdline HTTP/1.1\r\n"), "{}", request.head);
    let headers = ["x-pusher-key", "x-holdline-event-id", "x-holdline-fence", "x-holdline-position", "x-env", "content-type"];
    let expected = ["app-key", "3-7", "12", "7", "prod", "application/json"];
    assert_eq!(headers.map(|name| request.header(name).unwrap()), expected);
    // As a receiver would: the exact bytes, with the secret.
    assert_eq!(request.header("x-pusher-signature").unwrap(), SigningKey::new(SECRET).sign(&[&request.body]));
    let mut body = entry.to_json();
    body["id"] = json!("3-7");
    body["time_ms"] = json!(1_700_000_000_123_i64);
    assert_eq!(request.json(), body);
    let emitted = EventRow { kind: EventKind::Event, fence: None, ..entry };
    delivery(&endpoint.url).handle(&Delivered::new(emitted, 1)).await.unwrap();
    assert_eq!(endpoint.got()[1].header("x-holdline-fence"), None);
}

#[tokio::test]
async fn http_delivery_takes_nothing_but_2xx_for_a_receipt() {
    const ELSEWHERE: &str = "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let busy_for = Some(Duration::from_secs(7));
    for (answer, fault, after) in [
        (ELSEWHERE, Fault::Entry, None),
        (FAILS, Fault::Entry, None),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Fault::Entry, None),
        (BUSY, Fault::Outage, busy_for),
        ("", Fault::Entry, None),
    ] {
        let endpoint = Endpoint::start(move |_| answer).await;
        let began = Instant::now();
        let retry = delivery(&endpoint.url).handle(&now(event("OrderLocked", "order:42"))).await.unwrap_err();
        assert_eq!((retry.fault(), retry.delay()), (fault, after), "{answer:?}: {retry}");
        assert!(began.elapsed() < Duration::from_secs(20), "there is a time limit");
        assert_eq!(endpoint.got().len(), 1, "a redirect is not followed");
        assert!(!retry.message().contains(SECRET) && !retry.message().contains("127.0.0.1"), "{retry}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let retry = delivery(&format!("http://user:password@{gone}/")).handle(&now(event("OrderLocked", "order:42"))).await.unwrap_err();
    assert_eq!(retry.fault(), Fault::Outage, "{retry}");
    assert!(!retry.message().contains("password"), "{retry}");
}

#[tokio::test]
async fn http_delivery_drops_what_is_too_old_but_no_end_of_a_lock() {
    let endpoint = Endpoint::start(|_| FAILS).await;
    let delivery = delivery(&endpoint.url);
    // Years old.
    delivery.handle(&Delivered::new(event("OrderLocked", "order:42"), 9)).await.unwrap();
    delivery.handle(&Delivered::new(event("OrderUnlocked", "order:42"), 9)).await.unwrap_err();
    delivery.handle(&now(event("OrderLocked", "order:42"))).await.unwrap_err();
    assert_eq!(endpoint.got().len(), 3, "one attempt at least");
}

#[tokio::test]
async fn http_delivery_that_cannot_be_meant_is_refused_at_start() {
    for url in ["", "shop.example", "ftp://shop.example/", "http://"] {
        assert!(matches!(HttpDelivery::try_new(settings(url)), Err(HttpSetupError::Url)), "{url}");
    }
    for (name, value) in [("X Env", "prod"), ("X-Env", "pro\nd")] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let refused = HttpDelivery::try_new(HttpDeliverySettings { headers, ..settings("http://shop.example/") }).unwrap_err();
        assert!(matches!(refused, HttpSetupError::Header { .. }) && !refused.to_string().contains("pro\nd"), "{refused}");
    }
    let headers = vec![("X-Pusher-Signature".to_owned(), "mine".to_owned())];
    let refused = HttpDelivery::try_new(HttpDeliverySettings { headers, ..settings("https://shop.example/") });
    assert!(matches!(refused, Err(HttpSetupError::OwnHeader { .. })));
    let shown = format!("{:?} {:?}", delivery("https://user:password@shop.example/"), settings("https://user:password@shop.example/"));
    assert!(!shown.contains(SECRET) && !shown.contains("password") && !shown.contains("prod"), "{shown}");
}

/// The receiving end of TLS with a certificate of nobody: the client must talk TLS, and must not trust it.
#[tokio::test]
async fn http_delivery_speaks_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let hello = tokio::spawn(async move {
        let mut first = [0; 3];
        listener.accept().await.unwrap().0.read_exact(&mut first).await.unwrap();
        first
    });
    delivery(&url).handle(&now(event("OrderLocked", "order:42"))).await.unwrap_err();
    assert_eq!(hello.await.unwrap()[..2], [0x16, 3], "a TLS handshake");
}

#[tokio::test]
async fn http_delivery_keeps_the_order_of_a_resource_while_others_pass() {
    let world = World::in_postgres().await;
    let healthy = Arc::new(AtomicUsize::new(0));
    let endpoint = {
        let healthy = Arc::clone(&healthy);
        Endpoint::start(move |request| match request.json()["type"] == "OrderUnlocked" && healthy.load(Ordering::SeqCst) == 0 {
            true => FAILS,
            false => OK,
        })
        .await
    };
    let other = world.keys_beside("order:1", 1).remove(0);
    let dispatcher = world.start("node-1", vec![boxed(&endpoint.url)], quick());
    let (_, end) = world.lock("order:1", "user:1", Mode::Exclusive).await;
    world.unlock(end).await;
    world.lock("order:1", "user:2", Mode::Exclusive).await;
    world.log(&[&format!("{other} Saved")]).await;
    eventually("the other is delivered", async || endpoint.types_of(&other) == ["Saved"]).await;
    eventually("the end is tried again", async || endpoint.types_of("order:1").len() > 5).await;
    assert!(endpoint.types_of("order:1")[1..].iter().all(|name| name == "OrderUnlocked"), "what follows it waits");
    healthy.store(1, Ordering::SeqCst);
    eventually("what follows it is delivered", async || endpoint.types_of("order:1").last().unwrap() == "OrderLocked").await;
    eventually("all is done", async || world.lag().await == 0 && world.store.parked("shop", 10).await.unwrap().is_empty()).await;
    dispatcher.stop().await;
    let fences: Vec<_> = endpoint.got().iter().filter_map(|request| request.json()["fence"].as_i64()).collect();
    assert!(fences.is_sorted(), "{fences:?}");
}

#[tokio::test]
async fn http_delivery_to_a_dead_endpoint_delays_no_other_listener() {
    let world = World::in_postgres().await;
    let (hangs, script) = (Endpoint::start(|_| "").await, Script::willing());
    let dispatcher = world.start("node-1", vec![boxed(&hangs.url), script.boxed()], quick());
    let entries: Vec<_> = (0..64).map(|n| format!("key:{n} E{n}")).collect();
    let began = Instant::now();
    world.log(&entries.iter().map(String::as_str).collect::<Vec<_>>()).await;
    eventually("the other listener has all", async || script.heard().len() == 64).await;
    // One after the other they would take 64 times the time limit, more than a minute.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    eventually("the dead one is tried", async || hangs.got().len() > 16).await;
    let stored = world.store.consumers().await.unwrap();
    assert!(stored.iter().any(|row| row.name == "shop" && row.lag() > 0), "and has everything before it");
    let (stop, limit) = (dispatcher.stop(), Duration::from_secs(30));
    tokio::time::timeout(limit, stop).await.unwrap();
}
