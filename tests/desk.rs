//! The order desk over HTTP: where it is and where it is not, whom it lets in, what it signs, and what it writes.

use serde_json::{Value, json};

use crate::support::{APP, Answer, Broker, Http, Launch, Ws, eventually, one_app, user_auth};

/// A broker without configuration, which is one for development.
fn desk() -> Broker {
    Launch::default().start()
}

/// One request with exactly these headers.
fn raw(broker: &Broker, method: &str, target: &str, headers: &str) -> Answer {
    let mut http = broker.http();
    http.send_bytes(format!("{method} {target} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n").as_bytes());
    http.answer()
}

fn post(http: &mut Http, path: &str, body: &Value) -> Answer {
    http.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
}

fn form(http: &mut Http, path: &str, body: &str) -> Answer {
    http.request("POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], body.as_bytes())
}

const PATHS: [(&str, &str); 9] = [
    ("GET", "/desk"),
    ("GET", "/desk/desk.js"),
    ("GET", "/desk/config"),
    ("GET", "/desk/events"),
    ("GET", "/desk/locks"),
    ("GET", "/desk/orders"),
    ("POST", "/desk/auth"),
    ("POST", "/desk/user-auth"),
    ("POST", "/desk/orders/42"),
];

#[test]
fn the_broker_says_where_the_desk_is_and_all_of_it_is_there() {
    let broker = desk();
    let address = format!("Order desk: http://{}/desk\"", broker.address());
    eventually("the desk is announced", || broker.log_text().contains(&address).then_some(()));
    let mut http = broker.http();
    let page = http.plain("/desk");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for (path, kind) in [("/desk/desk.js", "text/javascript; charset=utf-8"), ("/desk/desk.css", "text/css; charset=utf-8")] {
        assert!(page.text().contains(&format!("\"{path}\"")), "the page names {path}");
        let file = http.plain(path);
        assert_eq!((file.status, file.header("content-type")), (200, Some(kind)));
        assert!(file.body.len() > 5_000, "{path} is the bundle");
    }
    assert!(http.plain("/desk/licences.txt").text().contains("Permission is hereby granted"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let config = http.plain("/desk/config").json();
    assert_eq!((&config["key"], &config["pid"], &config["silence_ms"]), (&json!("app-key"), &json!(broker.pid()), &json!(35_000)));
    assert_eq!(config["grace_ms"], 5_000);
    assert_eq!(http.plain("/desk/nothing").status, 404);
    assert_eq!(http.plain("/desktop").status, 404);
}

#[test]
fn outside_development_or_off_loopback_there_is_no_desk() {
    let configured = Broker::with(r#"apps = [{ id = "app-id", key = "app-key", secret = "not the well-known one" }]"#);
    let exposed = Launch::config(format!("[server]\nhost = \"0.0.0.0\"\n{}", one_app(""))).start();
    for broker in [configured, exposed] {
        for (method, path) in PATHS {
            assert_eq!(raw(&broker, method, path, "Host: 127.0.0.1\r\n").status, 404, "{method} {path}");
        }
        assert!(!broker.log_text().contains("Order desk"));
    }
}

#[test]
fn no_other_name_and_no_other_page_gets_in() {
    let broker = desk();
    for (method, path) in PATHS {
        for headers in [
            "Host: evil.example\r\n",
            "Host: 127.0.0.1.evil.example:6001\r\n",
            "Host: 127.0.0.1:6001\r\nOrigin: http://evil.example\r\n",
            "Host: 127.0.0.1:6001\r\nOrigin: http://127.0.0.1:3000\r\n",
            "Host: 127.0.0.1:6001\r\nOrigin: null\r\n",
        ] {
            raw(&broker, method, path, headers).refused(403);
        }
    }
    for headers in ["Host: 127.0.0.1:6001\r\nOrigin: http://127.0.0.1:6001\r\n", "Host: localhost\r\n", "Host: [::1]:6001\r\n"] {
        assert_eq!(raw(&broker, "GET", "/desk/orders", headers).status, 200, "{headers}");
    }
}

#[test]
fn a_private_channel_is_signed_with_a_name_or_without() {
    let broker = desk();
    let (mut http, mut ws) = (broker.http(), broker.ws());
    let (socket, channel) = (ws.socket_id.clone(), "private-order.42");

    let plain = post(&mut http, "/desk/auth", &json!({ "socket_id": socket, "channel_name": channel })).json();
    assert_eq!(plain, json!({ "auth": APP.auth(&format!("{socket}:{channel}")) }));
    assert_eq!(form(&mut http, "/desk/auth", &format!("socket_id={socket}&channel_name={channel}&user=")).json(), plain);

    let data = r#"{"user_id":"ada","user_info":{"name":"Ada"}}"#;
    let named = form(&mut http, "/desk/auth", &format!("socket_id={socket}&channel_name={channel}&user=ada")).json();
    assert_eq!(named, json!({ "auth": APP.auth(&format!("{socket}:{channel}:{data}")), "channel_data": data }));
    ws.send_subscribe(channel, named["auth"].as_str(), named["channel_data"].as_str());
    ws.acknowledged(channel);
}

#[test]
fn a_person_is_signed_in() {
    let broker = desk();
    let mut ws = broker.ws();
    let user = json!({ "socket_id": ws.socket_id, "user": "grace" });
    let answer = post(&mut broker.http(), "/desk/user-auth", &user).json();
    let data = r#"{"id":"grace","user_info":{"name":"Grace"}}"#;
    assert_eq!(answer, json!({ "auth": user_auth(APP, &ws.socket_id, data), "user_data": data }));
    ws.send(&json!({ "event": "pusher:signin", "data": answer }));
    ws.expect("pusher:signin_success");
}

#[test]
fn the_desk_signs_nothing_else() {
    let broker = desk();
    let mut http = broker.http();
    let mut ask = |socket: &str, channel: &str, user: &str, status: u16| {
        let body = json!({ "socket_id": socket, "channel_name": channel, "user": user });
        post(&mut http, "/desk/auth", &body).refused(status);
    };
    for channel in ["orders", "presence-room", "private-encrypted-vault", "#server-to-user-ada", "private-a:b", "", "private-order 42"] {
        ask("1.2", channel, "", 403);
    }
    // Joined with a channel, this would be the signature of a sign-in.
    ask("1.2::user", "private-order.42", "", 400);
    ask("1", "private-order.42", "", 400);
    ask("1.2", "private-order.42", "mallory", 403);
    post(&mut http, "/desk/user-auth", &json!({ "socket_id": "1.2", "user": "mallory" })).refused(403);
    assert_eq!(post(&mut http, "/desk/auth", &json!({ "socket_id": "1.2" })).status, 400);
    assert_eq!(form(&mut http, "/desk/user-auth", "socket_id=1.2").status, 400);
}

/// Opens an order as somebody, and answers the fence.
fn take(broker: &Broker, ws: &mut Ws, order: u32, user: &str) -> i64 {
    let channel = format!("private-order.{order}");
    let body = json!({ "socket_id": ws.socket_id, "channel_name": channel, "user": user });
    let signed = post(&mut broker.http(), "/desk/auth", &body).json();
    ws.send_subscribe(&channel, signed["auth"].as_str(), signed["channel_data"].as_str());
    ws.acknowledged(&channel);
    ws.expect("holdline:locked").payload()["fence"].as_i64().unwrap()
}

#[test]
fn an_order_is_written_by_the_lock_that_is_alive_and_by_no_other() {
    let broker = desk();
    let mut http = broker.http();
    let change = |fence: i64, note: &str| json!({ "fence": fence, "stage": "packed", "note": note });

    let mut ada = broker.ws();
    let first = take(&broker, &mut ada, 42, "ada");
    let other = take(&broker, &mut ada, 43, "ada");
    let saved = post(&mut http, "/desk/orders/42", &change(first, "one")).json();
    assert_eq!(
        (&saved["order"]["note"], &saved["order"]["saved"]["fence"], &saved["order"]["saved"]["by"]),
        (&json!("one"), &json!(first), &json!("user:ada"))
    );
    let refused = post(&mut http, "/desk/orders/42", &change(other, "of another order")).refused(409);
    assert_eq!(refused, format!("Fence {other} is over: user:ada holds order:42 under fence {first}"));
    post(&mut http, "/desk/orders/42", &change(first + 1_000, "made up")).refused(409);
    post(&mut http, "/desk/orders/7", &change(first, "no such order")).refused(404);
    post(&mut http, "/desk/orders/42", &change(first, &"x".repeat(501))).refused(413);
    assert_eq!(post(&mut http, "/desk/orders/42", &json!({ "fence": first, "stage": "lost", "note": "" })).status, 400);

    ada.unsubscribe("private-order.42");
    let mut grace = broker.ws();
    eventually("the lock is over", || (http.plain("/desk/locks").json()["locks"].as_array()?.len() == 1).then_some(()));
    let refused = post(&mut http, "/desk/orders/42", &change(first, "late")).refused(409);
    assert_eq!(refused, format!("Fence {first} is over: nobody holds order:42"));
    let second = take(&broker, &mut grace, 42, "grace");
    assert!(second > first);
    post(&mut http, "/desk/orders/42", &change(first, "later")).refused(409);
    let orders = http.plain("/desk/orders").json();
    let order = orders["orders"].as_array().unwrap().iter().find(|order| order["id"] == 42).unwrap().clone();
    assert_eq!(order["note"], "one", "what was refused is not written");
    post(&mut http, "/desk/orders/42", &change(second, "two")).json();
}

#[test]
fn the_log_is_read_on_from_a_place_and_at_first_from_its_end() {
    let broker = desk();
    let mut http = broker.http();
    let empty = http.plain("/desk/events").json();
    assert_eq!(empty["events"], json!([]));

    let mut ada = broker.ws();
    let fence = take(&broker, &mut ada, 42, "ada");
    let after = format!("/desk/events?after={}", empty["next"].as_str().unwrap());
    let page = http.plain(&after).json();
    let entry = &page["events"][0];
    assert_eq!((&entry["type"], &entry["resource"], &entry["fence"]), (&json!("OrderLocked"), &json!("order:42"), &json!(fence)));
    assert_eq!(http.plain(&format!("/desk/events?after={}", page["next"].as_str().unwrap())).json()["events"], json!([]));

    // More than one page holds: the first answer is the end of it.
    for _ in 0..60 {
        ada.unsubscribe("private-order.42");
        take(&broker, &mut ada, 42, "ada");
    }
    let last = http.plain("/desk/events").json();
    let positions: Vec<i64> = last["events"].as_array().unwrap().iter().map(|entry| entry["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (22..=121).collect::<Vec<_>>());
    assert_eq!(last["next"], http.plain(&format!("/desk/events?after={}", last["next"].as_str().unwrap())).json()["next"]);
    assert_eq!(http.plain("/desk/events?after=nowhere").refused(400), "This is no place in the log");
}

#[test]
fn a_lock_is_released_by_its_fence_and_its_holder_is_told() {
    let broker = desk();
    let (mut http, mut ada) = (broker.http(), broker.ws());
    let fence = take(&broker, &mut ada, 42, "ada");
    let path = format!("/desk/locks/{fence}/release");
    assert_eq!(post(&mut http, &path, &json!({})).json(), json!({}));
    assert_eq!(ada.expect("holdline:lock_lost").payload(), json!({ "resource": "order:42", "fence": fence, "cause": "force_released" }));
    assert_eq!(post(&mut http, &path, &json!({})).refused(409), format!("Fence {fence} is over"));
    post(&mut http, &format!("/desk/locks/{}/release", fence + 1_000), &json!({})).refused(404);
}

#[test]
fn a_wire_carries_a_connection_until_it_is_cut() {
    let broker = desk();
    let mut http = broker.http();
    let over = |name: &str, key: &str| format!("/desk/wire/{name}/app/{key}?protocol=7&client=test&version=1.0");
    let cut = |http: &mut Http, name: &str, how: &str| post(http, &format!("/desk/wire/{name}/cut"), &json!({ "how": how }));

    let mut ws = Ws::open_at(broker.address(), &over("a", "app-key"), &[]);
    ws.subscribe("private-order.41");
    assert_eq!(ws.expect("holdline:locked").payload()["resource"], "order:41");
    let mut stranger = Ws::upgrade(broker.address(), &over("b", "no-such-key"), &[]);
    stranger.refused(4001);

    assert_eq!(cut(&mut http, "a", "reset").json(), json!({}));
    ws.gone();
    let unlocked = |http: &mut Http, order: &str| {
        let page = http.plain("/desk/events").json();
        let found = page["events"].as_array()?.iter().find(|entry| entry["kind"] == "unlocked" && entry["resource"] == order)?;
        Some(found["cause"].clone())
    };
    assert_eq!(eventually("the broker hears of a reset at once", || unlocked(&mut http, "order:41")), "gone");
    cut(&mut http, "a", "reset").refused(404);

    let mut silent = Ws::open_at(broker.address(), &over("c", "app-key"), &[]);
    silent.subscribe("private-order.42");
    silent.expect("holdline:locked");
    assert_eq!(cut(&mut http, "c", "silence").json(), json!({}));
    silent.gone();
    let connections = |http: &mut Http| http.connections();
    assert_eq!(connections(&mut http), 1, "the broker has not been told");
    assert_eq!(unlocked(&mut http, "order:42"), None);

    assert_eq!(cut(&mut http, "d", "tenderly").status, 400);
    broker.http().plain(&over("e", "app-key")).refused(502);
    broker.http().plain(&over(&"x".repeat(65), "app-key")).refused(404);
}
