//! `GET /connections`, `GET /sockets` and `GET /sockets/{socket_id}`.

use serde_json::{Value, json};

use crate::support::{Broker, Http, OTHER, Ws, member, one_app, until};

fn page(http: &mut Http, query: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
    let answer = http.get("/sockets", query).json();
    let ids = answer["sockets"].as_array().unwrap().iter().map(|socket| socket["socket_id"].as_str().unwrap().to_owned()).collect();
    assert!(answer["next"].is_null() || answer["next"].is_string(), "{answer}");
    (ids, answer["next"].as_str().map(str::to_owned))
}

fn sorted<'a>(ids: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut ids: Vec<String> = ids.cloned().collect();
    ids.sort();
    ids
}

#[test]
fn connections_are_counted_and_forgotten() {
    let broker = Broker::start();
    let mut http = broker.http();
    assert_eq!(http.get("/connections", &[]).text(), r#"{"connections":0}"#);
    let mut sockets: Vec<Ws> = (0..5).map(|_| broker.ws()).collect();
    assert_eq!(http.connections(), 5);
    sockets.truncate(2);
    until("three are gone", || http.connections() == 2);
    Ws::upgrade(broker.address(), "/app/nokey", &[]).refused(4001);
    assert_eq!(http.connections(), 2, "a refused socket is no connection");
}

#[test]
fn a_socket_shows_what_it_is() {
    let broker = Broker::start();
    let mut http = broker.http();
    let mut ws = broker.ws();
    let path = format!("/sockets/{}", ws.socket_id);
    let fresh = http.get(&path, &[]).json();
    assert_eq!(fresh["socket_id"], json!(ws.socket_id));
    assert_eq!(fresh["state"], json!("active"));
    assert_eq!(fresh["remote_ip"], json!("127.0.0.1"));
    assert_eq!((&fresh["user_id"], &fresh["channels"]), (&Value::Null, &json!([])));
    for number in ["connected_for_ms", "bytes_in", "bytes_out"] {
        assert!(fresh[number].is_u64(), "{number}: {fresh}");
    }

    ws.signin(r#"{"id":"42"}"#);
    ws.subscribe("news");
    ws.join("presence-room", &member("7", None));
    let mut later = http.get(&path, &[]).json();
    assert_eq!(later["user_id"], json!("42"));
    let channels = later["channels"].as_array_mut().unwrap();
    channels.sort_by_key(ToString::to_string);
    assert_eq!(channels, &[json!("news"), json!("presence-room")]);
    for number in ["bytes_in", "bytes_out"] {
        assert!(later[number].as_u64() > fresh[number].as_u64(), "{number} grows: {later}");
    }
    ws.unsubscribe("news");
    ws.quiet();
    assert_eq!(http.get(&path, &[]).json()["channels"], json!(["presence-room"]));
    drop(ws);
    until("it is unknown", || http.get(&path, &[]).status == 404);
}

#[test]
fn sockets_of_another_app_are_not_shown() {
    let other = format!("[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\n", OTHER.id, OTHER.key, OTHER.secret);
    let broker = Broker::with(one_app("") + &other);
    let ours = broker.ws();
    let mut theirs = broker.http().signing_as(OTHER);
    assert_eq!(theirs.get("/sockets", &[]).json(), json!({ "sockets": [], "next": null }));
    theirs.get(&format!("/sockets/{}", ours.socket_id), &[]).refused(404);
}

#[test]
fn an_unknown_socket_is_404() {
    let broker = crate::support::shared();
    let mut http = broker.http();
    for id in ["1.1", "nonsense", "99999999999999999999.1", "a%20b"] {
        http.get(&format!("/sockets/{id}"), &[]).refused(404);
    }
}

#[test]
fn the_list_comes_in_pages_that_are_complete_and_do_not_overlap() {
    let broker = Broker::start();
    let mut http = broker.http();
    assert_eq!(http.get("/sockets", &[]).json(), json!({ "sockets": [], "next": null }));
    let sockets: Vec<Ws> = (0..11).map(|_| broker.ws()).collect();
    let expected = sorted(sockets.iter().map(|ws| &ws.socket_id));
    for limit in ["1", "3", "4", "11", "100"] {
        let (mut seen, mut after, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let mut query = vec![("limit", limit)];
            query.extend(after.as_deref().map(|cursor| ("after", cursor)));
            let (ids, next) = page(&mut http, &query);
            assert!(ids.len() <= limit.parse::<usize>().unwrap());
            seen.extend(ids);
            pages += 1;
            assert!(pages <= 12, "the cursor does not advance");
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(sorted(seen.iter()), expected, "limit {limit}");
    }
    let (ids, next) = page(&mut http, &[]);
    assert_eq!((ids.len(), next), (11, None), "the default limit is 100");
}

#[test]
fn paging_survives_sockets_that_leave_between_pages() {
    let broker = Broker::start();
    let mut http = broker.http();
    let mut sockets: Vec<Ws> = (0..9).map(|_| broker.ws()).collect();
    let (first, next) = page(&mut http, &[("limit", "4")]);
    sockets.retain(|ws| !first.contains(&ws.socket_id));
    until("the first page is gone", || http.connections() == 5);
    let (rest, end) = page(&mut http, &[("limit", "100"), ("after", &next.expect("more to come"))]);
    assert_eq!((sorted(rest.iter()), end), (sorted(sockets.iter().map(|ws| &ws.socket_id)), None));
}

#[test]
fn a_nonsensical_page_is_400_and_never_a_crash() {
    let broker = crate::support::shared();
    let mut http = broker.http();
    for limit in ["abc", "-1", "1.5"] {
        http.get("/sockets", &[("limit", limit)]).refused(400);
    }
    for query in [("limit", "0"), ("limit", "99999999999"), ("after", "nonsense"), ("after", "")] {
        let status = http.get("/sockets", &[query]).status;
        assert!(matches!(status, 200 | 400), "{query:?}: {status}");
    }
}

#[test]
fn the_lists_are_signed() {
    let broker = crate::support::shared();
    let mut http = broker.http();
    for path in ["connections", "sockets", "sockets/1.1"] {
        http.plain(&format!("/apps/app-id/{path}")).refused(401);
    }
}
