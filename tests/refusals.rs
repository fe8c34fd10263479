//! Refused connections: always 101, `pusher:error` as an object, a close frame with the same code, and then the end. Protocol.md 1.1, 1.5, 1.7.

use crate::support::{APP, Broker, Frame, OTHER, Ws, one_app, server_with, shared, until, wire};

fn refused(broker: &Broker, target: &str, headers: &[(&str, &str)], code: u16) -> String {
    Ws::upgrade(broker.address(), target, headers).refused(code)
}

#[test]
fn an_unknown_key_is_refused_with_4001() {
    let broker = shared();
    assert_eq!(refused(&broker, "/app/nokey?protocol=7", &[], 4001), "App key nokey does not exist");
    assert_eq!(refused(&broker, "/app/APP-KEY?protocol=7", &[], 4001), "App key APP-KEY does not exist");
    refused(&broker, "/app/%C3%28?protocol=7", &[], 4001);
    refused(&broker, &format!("/app/{}?protocol=7", "k".repeat(4000)), &[], 4001);
}

#[test]
fn an_unsupported_protocol_version_is_refused_with_4007() {
    let broker = shared();
    let connect = |version| (version, Ws::upgrade(broker.address(), &format!("/app/app-key?protocol={version}&client=js"), &[]));
    let attempts = ["3", "1", "0", "8", "-7", "abc", "", "7.0", "7x", "99999999999999999999", "%F0%9F"].map(connect);
    for (version, mut ws) in attempts {
        assert_eq!(ws.refused(4007), "Unsupported protocol version", "protocol={version}");
    }
}

#[test]
fn a_missing_protocol_version_is_refused_with_4008_in_strict_mode() {
    let broker = Broker::with(server_with("strict_protocol = true", ""));
    assert_eq!(refused(&broker, "/app/app-key?client=js", &[], 4008), "No protocol version supplied");
    assert_eq!(refused(&broker, "/app/app-key?protocol=3", &[], 4007), "Unsupported protocol version");
    Ws::open_at(broker.address(), "/app/app-key?protocol=5", &[]).quiet();
}

#[test]
fn a_disabled_app_is_refused_with_4003() {
    let broker = Broker::with(one_app("enabled = false"));
    assert_eq!(refused(&broker, "/app/app-key?protocol=7", &[], 4003), "Application disabled");
    broker.http().get("/channels", &[]).refused(403);
    broker.http().post("/events", r#"{"name":"e","channel":"c","data":""}"#).refused(403);
}

#[test]
fn an_app_that_demands_tls_refuses_plain_sockets_with_4000() {
    let broker = Broker::with(one_app("force_tls = true"));
    let text = refused(&broker, "/app/app-key?protocol=7", &[], 4000);
    assert_eq!(text, "Application only accepts SSL connections, reconnect using wss://");
}

#[test]
fn over_the_quota_of_an_app_the_code_is_4004_and_silent_sockets_count() {
    let broker = Broker::with(one_app("max_connections = 2"));
    let mut first = broker.ws();
    let _second = broker.ws();
    let text = refused(&broker, "/app/app-key?protocol=7", &[], 4004);
    assert_eq!(text, "Application is over connection quota");
    first.quiet();
    assert_eq!(broker.http().connections(), 2);
}

#[test]
fn the_quota_code_can_be_4100_where_a_full_server_is_transient() {
    let broker = Broker::with(one_app("max_connections = 1\nquota_close_code = 4100"));
    let _first = broker.ws();
    refused(&broker, "/app/app-key?protocol=7", &[], 4100);
}

#[test]
fn a_slot_is_given_back_when_its_connection_ends_however_it_ends() {
    let broker = Broker::with(one_app("max_connections = 1"));
    let mut http = broker.http();
    let endings: [fn(Ws); 4] = [
        |mut ws| {
            ws.send_close(1000);
            ws.closed(1000);
        },
        drop,
        |mut ws| {
            ws.send_bytes(&wire(3, b"no such opcode"));
            assert!(matches!(ws.frame(), Frame::Close(Some(1002), _)));
        },
        |mut ws| ws.send_bytes(&[0x81, 0xfe]),
    ];
    for ending in endings {
        let ws = broker.ws();
        refused(&broker, "/app/app-key?protocol=7", &[], 4004);
        ending(ws);
        until("the slot is free", || http.connections() == 0);
    }
}

#[test]
fn refused_sockets_take_no_slot() {
    let broker = Broker::with(one_app("max_connections = 1\nallowed_origins = [\"good.example\"]"));
    refused(&broker, "/app/app-key?protocol=7", &[("Origin", "https://evil.example")], 4009);
    refused(&broker, "/app/app-key?protocol=3", &[], 4007);
    let lingering = Ws::upgrade(broker.address(), "/app/app-key?protocol=2", &[]);
    Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[]).quiet();
    drop(lingering);
}

#[test]
fn the_quota_of_one_app_is_not_the_quota_of_another() {
    let other = format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n", OTHER.id, OTHER.key, OTHER.secret);
    let broker = Broker::with(one_app("max_connections = 1") + &other);
    let _first = broker.ws();
    refused(&broker, &format!("/app/{}", APP.key), &[], 4004);
    Ws::open_at(broker.address(), &format!("/app/{}", OTHER.key), &[]).quiet();
}

#[test]
fn over_the_capacity_of_the_node_the_code_is_4100() {
    let broker = Broker::with(server_with("max_connections = 2", ""));
    let first = broker.ws();
    let mut second = broker.ws();
    assert_eq!(refused(&broker, "/app/app-key?protocol=7", &[], 4100), "Over capacity");
    let mut http = broker.http();
    assert_eq!(http.plain("/accept-traffic").status, 503, "no headroom is left");
    second.quiet();
    drop(first);
    until("a slot is free", || http.connections() == 1);
    assert_eq!(http.plain("/accept-traffic").status, 200);
    broker.ws().quiet();
}

#[test]
fn an_origin_that_is_not_on_the_list_is_refused_with_4009_and_really_closed() {
    let list = r#"allowed_origins = ["https://shop.example", "plain.example", "*.wild.example"]"#;
    let broker = Broker::with(one_app(list));
    let allowed =
        ["https://shop.example", "https://plain.example", "http://plain.example", "https://a.wild.example", "https://a.b.wild.example"];
    for origin in allowed {
        Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[("Origin", origin)]).quiet();
    }
    let denied = [
        "https://evil.example",
        "http://shop.example",
        "https://shop.example.evil.example",
        "https://evil-shop.example",
        "https://notplain.example",
        "https://plain.example.evil.example",
        "https://evilwild.example",
        "https://wild.example.evil",
        "null",
        "https://",
    ];
    let attempts = denied.map(|origin| (origin, Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[("Origin", origin)])));
    for (origin, mut ws) in attempts {
        assert_eq!(ws.refused(4009), "Origin not allowed", "origin {origin:?}");
    }
    Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[]).quiet();
    let mut http = broker.http();
    until("no refused socket stays", || http.connections() == 0);
}

#[test]
fn a_missing_origin_is_refused_only_when_the_app_is_strict() {
    let broker = Broker::with(one_app("allowed_origins = [\"good.example\"]\nstrict_origin = true"));
    assert_eq!(refused(&broker, "/app/app-key?protocol=7", &[], 4009), "Origin not allowed");
    Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[("Origin", "https://good.example")]).quiet();
}

#[test]
fn a_star_and_an_empty_list_allow_every_origin() {
    for list in ["[]", "[\"*\"]"] {
        let broker = Broker::with(one_app(&format!("allowed_origins = {list}")));
        Ws::open_at(broker.address(), "/app/app-key?protocol=7", &[("Origin", "https://any.example")]).quiet();
    }
}
