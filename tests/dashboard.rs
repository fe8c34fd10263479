//! The dashboard over HTTP: where it is and where it is not, whom it lets in, what it shows, and what it does.

use std::{
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use serde_json::{Value, json};

use crate::support::{APP, Answer, Broker, Feed, Launch, OTHER, Reply, Ws, one_app, request_bytes, until, user_auth};

const TOKEN: &str = "a-token-that-nobody-guesses";

const VIEWS: [&str; 10] = [
    "overview",
    "nodes",
    "connections?app=app-id",
    "channels?app=app-id",
    "channel?app=app-id&name=news",
    "locks?app=app-id",
    "events?app=app-id",
    "listeners",
    "webhooks?app=app-id",
    "webhooks/dead?app=app-id",
];

/// An application with a rule for orders, behind a token.
fn config(dashboard: &str) -> String {
    let holds = r#"holds = [{ channel = "private-order.{id}", resource = "order:{id}", event = "Order", grace = "1h" }]"#;
    let other = format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n", OTHER.id, OTHER.key, OTHER.secret);
    format!("[dashboard]\n{dashboard}\n{}{other}", one_app(&format!("client_events = true\n{holds}")))
}

fn guarded() -> Broker {
    Broker::with(config(&format!("token = \"{TOKEN}\"")))
}

/// One request on a connection of its own, from some address of this machine.
fn ask_from(from: &str, broker: &Broker, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let any = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    any.bind(&format!("{from}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    any.connect(&broker.address().into()).unwrap();
    let mut stream = TcpStream::from(any);
    std::io::Write::write_all(&mut stream, &request_bytes(method, target, headers, body.as_bytes())).unwrap();
    Answer::read(&mut stream, &mut Vec::new()).unwrap()
}

fn ask(broker: &Broker, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    ask_from("127.0.0.1", broker, method, target, headers, body)
}

fn get(broker: &Broker, path: &str) -> Answer {
    ask(broker, "GET", &format!("/dashboard/api/{path}"), &[("Authorization", &format!("Bearer {TOKEN}"))], "")
}

fn post(broker: &Broker, path: &str, body: &Value) -> Answer {
    let token = format!("Bearer {TOKEN}");
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    ask(broker, "POST", &format!("/dashboard/api/{path}"), &headers, &body.to_string())
}

/// A refusal: this status, and one sentence in JSON.
fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    body["error"].as_str().expect("a sentence").to_owned()
}

/// Takes the lock of an order as a user, and answers its fence.
fn take(ws: &mut Ws, order: &str, user: &str) -> i64 {
    let (channel, data) = (format!("private-order.{order}"), format!(r#"{{"user_id":"{user}"}}"#));
    let auth = APP.auth(&format!("{}:{channel}:{data}", ws.socket_id));
    ws.send_subscribe(&channel, Some(&auth), Some(&data));
    ws.acknowledged(&channel);
    ws.expect("holdline:locked").payload()["fence"].as_i64().expect("a fence")
}

#[test]
fn without_a_token_outside_development_it_does_not_exist() {
    let other_secret = "apps = [{ id = \"app-id\", key = \"app-key\", secret = \"not the well-known one\" }]";
    for config in [
        other_secret.to_owned(),
        format!("[server]\nhost = \"0.0.0.0\"\n{}", one_app("")),
        format!("[dashboard]\nenabled = false\ntoken = \"{TOKEN}\"\n{}", one_app("")),
        format!("[dashboard]\nenabled = false\n{}", one_app("")),
    ] {
        let broker = Broker::with(&*config);
        for path in ["/dashboard", "/dashboard/", "/dashboard/main.js", "/dashboard/api/overview"] {
            let answer = ask(&broker, "GET", path, &[("Authorization", &format!("Bearer {TOKEN}"))], "");
            assert_eq!((answer.status, answer.text().as_str()), (404, "There is nothing at this path"), "{path}: {config}");
        }
        assert!(!broker.log_text().contains("Dashboard:"));
    }
}

#[test]
fn in_development_it_is_for_the_names_and_the_pages_of_this_machine() {
    let broker = Launch::default().start();
    until("it is announced", || broker.log_text().contains(&format!("Dashboard: http://{}/dashboard\"", broker.address())));
    let with = |headers: &str, target: &str| {
        let mut http = broker.http();
        http.send_bytes(format!("GET {target} HTTP/1.1\r\n{headers}\r\n").as_bytes());
        http.answer()
    };
    for target in ["/dashboard", "/dashboard/main.js", "/dashboard/api/overview", "/dashboard/api/events?app=app-id"] {
        assert_eq!(with("Host: localhost:6001\r\n", target).status, 200, "{target}");
        assert_eq!(with("Host: 127.0.0.1:6001\r\nOrigin: http://127.0.0.1:6001\r\n", target).status, 200, "{target}");
        for headers in [
            "Host: evil.example\r\n",
            "Host: 127.0.0.1.evil.example:6001\r\n",
            "Host: 127.0.0.1:6001\r\nOrigin: http://evil.example\r\n",
            "Host: 127.0.0.1:6001\r\nOrigin: null\r\n",
            "Host: 127.0.0.1:6001\r\nX-Forwarded-For: 198.51.100.7\r\n",
        ] {
            let sentence = refused(&with(headers, target), 403);
            assert!(sentence.contains("for this machine only"), "{sentence}");
        }
    }
}

#[test]
fn the_page_and_all_it_loads_are_there_also_below_the_prefix() {
    let broker = Broker::with(format!("[server]\npath_prefix = \"/ws\"\n{}", config(&format!("token = \"{TOKEN}\""))));
    for prefix in ["", "/ws"] {
        let page = ask(&broker, "GET", &format!("{prefix}/dashboard"), &[], "");
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("cache-control", "no-store")] {
            assert_eq!(page.header(name), Some(value));
        }
        // Where it is itself is where it looks: no path of it begins with a slash.
        assert!(!page.text().contains("\"/"), "{}", page.text());
        assert!(!page.text().contains("style=") && !page.text().contains("onclick"), "nothing is inline");
        for (name, kind) in
            [("main.js", "text/javascript; charset=utf-8"), ("dashboard.css", "text/css; charset=utf-8"), ("icon.svg", "image/svg+xml")]
        {
            assert!(page.text().contains(&format!("\"dashboard/{name}\"")), "{name}");
            let file = ask(&broker, "GET", &format!("{prefix}/dashboard/{name}"), &[], "");
            assert_eq!((file.status, file.header("content-type")), (200, Some(kind)), "{name}");
            assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        }
        let slash = ask(&broker, "GET", &format!("{prefix}/dashboard/"), &[], "");
        assert_eq!((slash.status, slash.header("location")), (308, Some("../dashboard")));
        assert_eq!(ask(&broker, "GET", &format!("{prefix}/dashboard/nothing.js"), &[], "").status, 404);
        let api = ask(&broker, "GET", &format!("{prefix}/dashboard/api/overview"), &[("Authorization", &format!("Bearer {TOKEN}"))], "");
        assert_eq!(api.json()["apps"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn the_api_is_for_whoever_has_the_token() {
    let broker = guarded();
    let good = format!("Bearer {TOKEN}");
    for path in VIEWS {
        assert_eq!(get(&broker, path).status, 200, "{path}");
        let target = format!("/dashboard/api/{path}");
        let none = ask_from("127.0.0.2", &broker, "GET", &target, &[], "");
        assert!(refused(&none, 401).contains("A token is needed"), "{path}");
        assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"dashboard\""));
        assert!(none.header("content-security-policy").is_some(), "also a refusal tells the browser what to do");
    }
    for wrong in ["Bearer x", &good[..good.len() - 1], &format!("{good}x"), &good.to_uppercase()] {
        let answer = ask_from("127.0.0.3", &broker, "GET", "/dashboard/api/overview", &[("Authorization", wrong)], "");
        assert_eq!(refused(&answer, 401), "This is not the dashboard.token", "{wrong}");
    }
    let bare = ask_from("127.0.0.3", &broker, "GET", "/dashboard/api/overview", &[("Authorization", TOKEN)], "");
    assert!(refused(&bare, 401).contains("A token is needed"));
    // In the query it would stand in logs.
    assert_eq!(ask_from("127.0.0.3", &broker, "GET", &format!("/dashboard/api/overview?token={TOKEN}"), &[], "").status, 401);
    assert!(!broker.log_text().contains(TOKEN), "it is never logged");
    until("wrong ones are", || broker.log_text().contains("Refused a wrong dashboard token from 127.0.0.3"));
}

#[test]
fn whoever_guesses_has_to_wait_and_nobody_else() {
    let broker = guarded();
    let try_from = |from: &str, token: &str| {
        ask_from(from, &broker, "GET", "/dashboard/api/overview", &[("Authorization", &format!("Bearer {token}"))], "")
    };
    // One is forgiven every six seconds, which a slow machine may need for ten: then it takes more of them.
    let (began, mut guesses) = (Instant::now(), 0);
    while try_from("127.0.0.4", &format!("guess-{guesses}")).status == 401 {
        guesses += 1;
        let most = 10 + began.elapsed().as_secs() / 6;
        assert!((1..=most).contains(&guesses), "{guesses} guesses, at most {most} may be");
    }
    assert!(guesses >= 10, "only {guesses}");
    let locked = try_from("127.0.0.4", TOKEN);
    assert!(refused(&locked, 429).starts_with("Too many wrong tokens from this address"), "a right one, too, or guessing would go on");
    assert!(locked.header("retry-after").unwrap().parse::<u64>().unwrap() <= 7);
    assert_eq!(try_from("127.0.0.5", TOKEN).status, 200, "each address has its own");
}

#[test]
fn pages_of_other_origins_have_to_be_named() {
    let broker = Broker::with(config(&format!("token = \"{TOKEN}\"\nallowed_origins = [\"https://ops.example\", \"*.inside.example\"]")));
    let good = format!("Bearer {TOKEN}");
    let from = |method: &str, origin: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("Origin", origin), ("Authorization", good.as_str())];
        headers.extend(more);
        ask(&broker, method, "/dashboard/api/overview", &headers, "")
    };
    // What the client sends as Host is 127.0.0.1.
    let own = from("GET", "http://127.0.0.1", &[]);
    assert_eq!((own.status, own.header("access-control-allow-origin")), (200, None));
    for origin in ["https://evil.example", "http://ops.example", "null", "http://127.0.0.1:9999"] {
        let answer = from("GET", origin, &[]);
        assert!(refused(&answer, 403).contains("dashboard.allowed_origins"), "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    for origin in ["https://ops.example", "https://a.inside.example"] {
        let answer = from("GET", origin, &[]);
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin)));
        let preflight =
            ask(&broker, "OPTIONS", "/dashboard/api/overview", &[("Origin", origin), ("Access-Control-Request-Method", "GET")], "");
        assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (204, Some("authorization, content-type")));
    }
    let stranger = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "GET")];
    assert_eq!(ask(&broker, "OPTIONS", "/dashboard/api/overview", &stranger, "").status, 403);
}

#[test]
fn connections_and_channels_are_shown_in_pages_that_can_be_searched_and_sorted() {
    let broker = guarded();
    let mut crowd: Vec<Ws> = (0..25).map(|_| broker.ws()).collect();
    for (n, ws) in crowd.iter_mut().enumerate() {
        ws.subscribe(&format!("room-{}", n % 5));
        if n % 5 == 0 {
            ws.subscribe("news");
        }
    }
    let user = r#"{"id":"ada"}"#;
    let auth = user_auth(APP, &crowd[3].socket_id, user);
    crowd[3].send(&json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user } }));
    crowd[3].expect("pusher:signin_success");

    let mut seen = Vec::new();
    for offset in [0, 10, 20] {
        let page = get(&broker, &format!("connections?app=app-id&sort=oldest&limit=10&offset={offset}")).json();
        assert_eq!((&page["total"], &page["matched"], &page["complete"]), (&json!(25), &json!(25), &json!(true)));
        seen.extend(page["rows"].as_array().unwrap().iter().map(|row| row["socket_id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, crowd.iter().map(|ws| ws.socket_id.clone()).collect::<Vec<_>>(), "in the order of their coming");
    assert_eq!(get(&broker, "connections?app=app-id&offset=25").json()["rows"], json!([]));

    let by_user = get(&broker, "connections?app=app-id&q=ADA").json();
    assert_eq!((&by_user["matched"], &by_user["rows"][0]["user_id"]), (&json!(1), &json!("ada")));
    assert_eq!(get(&broker, "connections?app=app-id&q=news").json()["matched"], 5);
    assert_eq!(get(&broker, &format!("connections?app=app-id&q={}", crowd[7].socket_id)).json()["matched"], 1);
    assert_eq!(get(&broker, "connections?app=app-id&q=127.0.0.1").json()["matched"], 25);
    assert_eq!(get(&broker, &format!("connections?app={}", OTHER.id)).json()["total"], 0, "each application has its own");

    let one = get(&broker, &format!("connections/{}?app=app-id", crowd[5].socket_id)).json();
    assert_eq!((&one["state"], &one["ip"], &one["channels"]), (&json!("active"), &json!("127.0.0.1"), &json!(["news", "room-0"])));
    refused(&get(&broker, &format!("connections/{}?app={}", crowd[5].socket_id, OTHER.id)), 404);
    refused(&get(&broker, "connections/1.2?app=app-id"), 404);

    until("the list is fresh", || get(&broker, "channels?app=app-id").json()["total"] == 6);
    let channels = get(&broker, "channels?app=app-id&limit=2&sort=name").json();
    assert_eq!(
        (&channels["total"], &channels["rows"][0]["name"], &channels["rows"][0]["subscriptions"]),
        (&json!(6), &json!("news"), &json!(5))
    );
    assert_eq!(channels["rows"].as_array().unwrap().len(), 2);
    assert_eq!(get(&broker, "channels?app=app-id&q=room-").json()["matched"], 5);
    assert_eq!(get(&broker, "channels?app=app-id&kind=private").json()["matched"], 0);
    let news = get(&broker, "channel?app=app-id&name=news").json();
    assert_eq!((&news["subscriptions"], news["sockets"].as_array().unwrap().len()), (&json!(5), 5));
    assert_eq!(get(&broker, "channel?app=app-id&name=nobody").json()["subscriptions"], 0);
}

#[test]
fn messages_are_counted_for_each_channel() {
    let broker = guarded();
    let (mut ws, mut http) = (broker.ws(), broker.http());
    ws.subscribe("busy");
    ws.subscribe("quiet");
    let row = |name: &str| {
        let page = get(&broker, "channels?app=app-id&sort=rate").json();
        page["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned()
    };
    until("both are there", || row("busy").is_some() && row("quiet").is_some());
    for n in 0..20 {
        http.publish("busy", "e", &n.to_string());
    }
    until("the rate is shown", || row("busy").is_some_and(|row| row["events"] == 20 && row["per_second"].as_f64() > Some(0.0)));
    assert_eq!(row("quiet").unwrap()["events"], 0);
    let overview = get(&broker, "overview").json();
    let app = overview["apps"].as_array().unwrap().iter().find(|app| app["id"] == APP.id).cloned().unwrap();
    assert_eq!((&app["published"], &app["delivered"], &app["connections"]), (&json!(20), &json!(20), &json!(1)));
}

#[test]
fn a_lock_is_released_by_its_fence_and_the_log_says_so() {
    let broker = guarded();
    let mut ada = broker.ws();
    let fence = take(&mut ada, "42", "ada");
    assert_eq!(get(&broker, "locks?app=app-id&q=ADA").json()["rows"][0]["principal"], "user:ada");
    assert_eq!(get(&broker, "locks?app=app-id&q=order:42").json()["rows"].as_array().unwrap().len(), 1);
    for nobody in ["locks?app=app-id&q=linus", "locks?app=app-id&state=grace", &format!("locks?app={}", OTHER.id)] {
        assert_eq!(get(&broker, nobody).json()["rows"], json!([]), "{nobody}");
    }
    let row = get(&broker, "connections?app=app-id&q=order.42").json()["rows"][0].clone();
    assert_eq!((&row["holds"], &row["hold_count"]), (&json!(["order:42"]), &json!(1)));
    let one = get(&broker, &format!("connections/{}?app=app-id", ada.socket_id)).json();
    assert_eq!(one["holds"], json!([{ "resource": "order:42", "fence": fence, "channel": "private-order.42" }]));
    let before = get(&broker, "events?app=app-id").json();
    assert_eq!(before["rows"][0]["type"], "OrderLocked");

    let release = |app: &str, fence: i64| post(&broker, &format!("locks/{fence}/release"), &json!({ "app": app }));
    refused(&release(OTHER.id, fence), 404);
    refused(&release(APP.id, fence + 1), 404);
    assert_eq!(release(APP.id, fence).json(), json!({ "released": true }));
    let lost = ada.expect("holdline:lock_lost");
    assert!(lost.data().contains("force_released"), "{lost:?}");
    assert_eq!(refused(&release(APP.id, fence), 409), "The lock is over already");
    let next = before["next"].as_str().unwrap();
    let after = get(&broker, &format!("events?app=app-id&after={next}")).json();
    assert_eq!((&after["rows"][0]["type"], &after["rows"][0]["cause"]), (&json!("OrderUnlocked"), &json!("force_released")));
    assert_eq!(get(&broker, &format!("events?app={}", OTHER.id)).json()["rows"], json!([]));
}

#[test]
fn locks_come_in_pages_also_when_they_are_searched() {
    let broker = guarded();
    let mut ws = broker.ws();
    let fences: Vec<i64> = (0..7).map(|n| take(&mut ws, &format!("{n}"), "ada")).collect();
    for search in ["", "&q=order:"] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = get(&broker, &format!("locks?app=app-id&limit=3{search}{after}")).json();
            let rows = page["rows"].as_array().unwrap();
            assert!(rows.len() <= 3);
            found.extend(rows.iter().map(|lock| lock["fence"].as_i64().unwrap()));
            match page["next"].as_i64() {
                None => break,
                Some(next) => after = format!("&after={next}"),
            }
            assert!(found.len() < 8, "it ends");
        }
        assert_eq!(found, fences);
    }
}

#[test]
fn a_connection_is_closed_for_good_or_to_come_back() {
    let broker = guarded();
    for (reconnect, code) in [(false, 4009), (true, 4200)] {
        let mut ws = broker.ws();
        let path = format!("connections/{}/close", ws.socket_id);
        refused(&post(&broker, &path, &json!({ "app": OTHER.id })), 404);
        assert_eq!(post(&broker, &path, &json!({ "app": APP.id, "reconnect": reconnect })).json(), json!({ "closed": true }));
        assert!(ws.error(code).starts_with("Closed by an operator"));
        ws.closed(code);
        until("it is not there any more", || post(&broker, &path, &json!({ "app": APP.id })).status == 404);
    }
}

#[test]
fn an_event_is_sent_as_it_was_written() {
    let broker = guarded();
    let (mut one, mut two) = (broker.ws(), broker.ws());
    one.subscribe("orders");
    two.subscribe("news");
    let data = r#"{"id": 42, "text": "<b>ü</b>"}"#;
    let answer = post(&broker, "publish", &json!({ "app": APP.id, "channels": ["orders", "news"], "event": "OrderShipped", "data": data }));
    assert_eq!(answer.json(), json!({ "published": 2, "subscribers": 2 }));
    one.expect_data("OrderShipped", "orders", data);
    two.expect_data("OrderShipped", "news", data);

    let send = |channels: Value, event: &str, data: &str| {
        post(&broker, "publish", &json!({ "app": APP.id, "channels": channels, "event": event, "data": data }))
    };
    for (answer, status, says) in [
        (send(json!(["orders"]), "e", "{"), 400, "data must be JSON"),
        (send(json!(["orders"]), "e", ""), 400, "data must be JSON"),
        (send(json!(["a b"]), "e", "{}"), 400, "channels is no channel name"),
        (send(json!([]), "e", "{}"), 400, "At least one channel"),
        (send(json!(["private-encrypted-x"]), "e", "{}"), 400, "channels must not be encrypted"),
        (send(json!(["orders"]), "pusher:e", "{}"), 400, "reserved"),
        (send(json!(["orders"]), "", "{}"), 400, "1 to 200 characters"),
        (send(json!(["orders"]), "e", &format!("\"{}\"", "x".repeat(10_240))), 413, "10240 bytes"),
        (post(&broker, "publish", &json!({ "app": "nobody", "channels": ["a"], "event": "e", "data": "{}" })), 404, "Unknown app"),
        (post(&broker, "publish", &json!({ "app": APP.id, "event": "e", "data": "{}" })), 400, "missing field `channels`"),
        (post(&broker, "publish", &json!({ "app": APP.id, "channels": ["a"], "event": "e", "data": {} })), 400, "expected a string"),
        (post(&broker, "publish", &json!([1])), 400, "must be a JSON object"),
    ] {
        let sentence = refused(&answer, status);
        assert!(sentence.contains(says), "{sentence}");
    }
    one.quiet();
}

#[test]
fn the_page_gets_a_signature_to_listen_and_is_told_when_that_takes_a_lock() {
    let broker = guarded();
    let mut ws = broker.ws();
    let socket = ws.socket_id.clone();
    let auth = |channel: &str, more: Value| {
        let mut body = json!({ "app": APP.id, "socket_id": socket, "channel": channel });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&broker, "auth", &body)
    };
    let plain = auth("private-room", json!({})).json();
    ws.send_subscribe("private-room", plain["auth"].as_str(), None);
    ws.acknowledged("private-room");
    let member = auth("presence-room", json!({ "user_id": "dashboard-1", "user_info": { "name": "Dashboard" } })).json();
    ws.send_subscribe("presence-room", member["auth"].as_str(), member["channel_data"].as_str());
    ws.acknowledged("presence-room");
    let room = get(&broker, "channel?app=app-id&name=presence-room").json();
    assert_eq!(room["members"], json!([{ "id": "dashboard-1", "info": { "name": "Dashboard" } }]));

    assert!(refused(&auth("private-order.42", json!({})), 409).contains("takes a lock"));
    let meant = auth("private-order.42", json!({ "take_lock": true })).json();
    ws.send_subscribe("private-order.42", meant["auth"].as_str(), None);
    ws.acknowledged("private-order.42");
    assert_eq!(get(&broker, "locks?app=app-id").json()["rows"][0]["principal"], format!("socket:{socket}"));

    assert!(refused(&auth("news", json!({})), 400).contains("others need no signature"));
    assert!(refused(&auth("private-encrypted-x", json!({})), 400).contains("must not be encrypted"));
    assert!(refused(&auth("presence-room", json!({})), 400).contains("user_id is required"));
    assert!(refused(&auth("private-a:b", json!({})), 400).contains("channel is no channel name"));
    // Joined with a channel, this would be the signature of a sign-in.
    let forged = post(&broker, "auth", &json!({ "app": APP.id, "socket_id": "1.2::user", "channel": "private-room" }));
    assert!(refused(&forged, 400).contains("socket_id must have the form"));
}

#[test]
fn bad_input_gets_a_sentence_that_names_the_field_and_its_limit() {
    let broker = guarded();
    for (path, status, says) in [
        ("connections", 400, "app is required"),
        ("connections?app=", 400, "app is required"),
        ("connections?app=nobody", 404, "Unknown app"),
        ("connections?app=app-id&limit=0", 400, "limit must be a number from 1 to 500"),
        ("connections?app=app-id&limit=501", 400, "limit must be a number from 1 to 500"),
        ("channels?app=app-id&limit=-1", 400, "limit must be a number from 1 to 500"),
        ("channels?app=app-id&offset=1000001", 400, "offset must be a number from 0 to 1000000"),
        ("channels?app=app-id&sort=luck", 400, "sort must be name, subscribers, rate or events"),
        ("channels?app=app-id&kind=or", 400, "kind must be one of public, private,"),
        ("connections?app=app-id&sort=luck", 400, "sort must be newest"),
        ("channel?app=app-id", 400, "name is required"),
        ("channel?app=app-id&name=a%20b", 400, "name is no channel name"),
        ("locks?app=app-id&after=x", 400, "after must be a whole number"),
        ("locks?app=app-id&state=released", 400, "state must be held or grace"),
        ("events?app=app-id&after=x", 400, "after must be a `next`"),
        ("events?app=app-id&after=h1-ffff", 400, "after must be a `next`"),
        ("webhooks/dead?app=app-id&after=x", 400, "after must be the id of a dead letter"),
        ("parked", 400, "name is required"),
        ("nothing", 404, "There is nothing at this path"),
        ("publish", 405, "this path takes POST"),
    ] {
        let sentence = refused(&get(&broker, path), status);
        assert!(sentence.contains(says), "{path}: {sentence}");
    }
    let long = format!("connections?app=app-id&q={}", "x".repeat(201));
    assert_eq!(refused(&get(&broker, &long), 400), "q must have at most 200 bytes");
    assert!(refused(&post(&broker, "overview", &json!({})), 405).contains("this path takes GET"));
    assert!(refused(&post(&broker, "locks/0/release", &json!({ "app": APP.id })), 400).contains("fence must be a whole number"));
    let large = post(&broker, "publish", &json!({ "app": APP.id, "channels": ["a"], "event": "e", "data": "x".repeat(1 << 20) }));
    assert_eq!(refused(&large, 413), "The request body exceeds the allowed maximum (1048576 bytes).");
}

#[test]
fn dead_letters_are_sent_again_or_dropped() {
    let endpoint = "name = \"shop\"\nevents = [\"client_event\"]\nretry_for = \"1s\"\nheaders = { \"X-Token\" = \"open-sesame\" }";
    let feed = Feed { endpoint: endpoint.to_owned(), ..Feed::sqlite() };
    feed.receiver.does(|body| Reply::Status(if body.contains("client-bad") { 500 } else { 200 }));
    let mut launch = feed.launch(0);
    launch.config = format!("[dashboard]\ntoken = \"{TOKEN}\"\n{}", launch.config);
    let broker = launch.start();
    let mut ws = broker.ws();
    ws.subscribe("private-room");
    for name in ["bad-1", "bad-2", "bad-3"] {
        ws.send_text(&format!(r#"{{"event":"client-{name}","channel":"private-room","data":"{name}"}}"#));
    }
    let dead = |query: &str| get(&broker, &format!("webhooks/dead?app=app-id{query}")).json();
    until("they are given up", || dead("")["rows"].as_array().unwrap().len() == 3);
    let page = dead("&limit=2");
    assert_eq!(page["rows"].as_array().unwrap().len(), 2);
    assert_eq!(dead(&format!("&after={}", page["next"].as_str().unwrap()))["rows"].as_array().unwrap().len(), 1);
    let endpoints = get(&broker, "webhooks?app=app-id");
    assert_eq!((&endpoints.json()["rows"][0]["endpoint"], &endpoints.json()["rows"][0]["dead"]), (&json!("shop"), &json!(3)));
    assert!(!endpoints.text().contains("open-sesame") && !endpoints.text().contains(APP.secret), "secrets are not shown");
    until("the overview counts them", || get(&broker, "overview").json()["store"]["dead"] == 3);

    let id = page["rows"][0]["id"].as_str().unwrap();
    assert_eq!(post(&broker, &format!("webhooks/dead/{id}/drop"), &json!({ "app": APP.id })).json(), json!({ "count": 1, "more": false }));
    refused(&post(&broker, &format!("webhooks/dead/{id}/drop"), &json!({ "app": APP.id })), 404);
    feed.receiver.does(|_| Reply::Status(200));
    let other = page["rows"][1]["id"].as_str().unwrap();
    post(&broker, &format!("webhooks/dead/{other}/replay"), &json!({ "app": APP.id })).json();
    until("it is sent again", || feed.receiver.events().len() == 1);
    assert_eq!(post(&broker, "webhooks/replay", &json!({ "app": APP.id, "endpoint": "shop" })).json()["count"], 1);
    until("the last one, too", || feed.receiver.events().len() == 2 && dead("")["rows"].as_array().unwrap().is_empty());
}

#[test]
fn listeners_and_nodes_of_all_are_shown() {
    let listener = "[[listeners]]\nname = \"erp\"\nkind = \"http\"\napp = \"app-id\"\nurl = \"http://user:hush@127.0.0.1:9/\"\n";
    let board = "[[listeners]]\nname = \"board\"\nkind = \"broadcast\"\napp = \"app-id\"\nchannel = \"board\"\nevent = \"{type}\"\n";
    let broker = Broker::with(format!("{}{listener}{board}", config(&format!("token = \"{TOKEN}\""))));
    let mut ws = broker.ws();
    take(&mut ws, "1", "ada");
    let erp = || get(&broker, "listeners").json()["rows"][0].clone();
    until("it cannot be told", || erp()["lag"] == 1 && erp()["attempts"].as_i64() > Some(0));
    assert_eq!((&erp()["name"], &erp()["kind"], erp()["last_error"].is_string()), (&json!("erp"), &json!("http"), true));
    let all = get(&broker, "listeners");
    assert_eq!((&all.json()["rows"][1]["name"], &all.json()["rows"][1]["lag"]), (&json!("board"), &Value::Null));
    assert!(!all.text().contains("hush"), "{}", all.text());
    assert_eq!(get(&broker, "parked?name=erp").json()["rows"], json!([]));
    let nodes = get(&broker, "nodes").json()["nodes"].clone();
    assert_eq!((&nodes[0]["state"], &nodes[0]["this"], &nodes[0]["holds"]), (&json!("alive"), &json!(true), &json!(1)));
}

#[test]
fn without_a_store_what_is_live_is_there_and_the_rest_says_why_not() {
    let broker = Broker::with(format!("[store]\nurl = \"none\"\n[dashboard]\ntoken = \"{TOKEN}\"\n{}", one_app("")));
    let mut ws = broker.ws();
    ws.subscribe("news");
    let overview = get(&broker, "overview").json();
    assert_eq!((&overview["store"]["keeps_locks"], &overview["connections"]), (&json!(false), &json!(1)));
    assert_eq!(get(&broker, "channels?app=app-id").json()["total"], 1);
    assert_eq!(get(&broker, "connections?app=app-id").json()["total"], 1);
    for path in ["locks?app=app-id", "events?app=app-id", "listeners", "nodes", "webhooks?app=app-id"] {
        assert!(refused(&get(&broker, path), 501).contains("keeps no locks and no log"), "{path}");
    }
}

#[test]
fn no_answer_has_a_secret() {
    let broker = guarded();
    let mut ws = broker.ws();
    take(&mut ws, "1", "ada");
    for path in VIEWS {
        let text = get(&broker, path).text();
        for secret in [APP.secret, OTHER.secret, TOKEN] {
            assert!(!text.contains(secret), "{path}: {text}");
        }
    }
}

#[test]
fn a_token_that_could_be_guessed_stops_the_start() {
    for (token, says) in [
        ("short", "dashboard.token: has 5 bytes, at least 16 are needed"),
        ("a token with blanks in it", "dashboard.token: must not contain ' '"),
        ("<redacted>", "dashboard.token: expected the secret itself, not its redacted form"),
    ] {
        let refused = Launch::config(config(&format!("token = \"{token}\""))).try_start().err().expect("it does not start");
        assert!(refused.contains(says), "{refused}");
        assert!(token == "<redacted>" || !refused.contains(token), "{refused}");
    }
}
