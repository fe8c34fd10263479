//! What clients do to a broker: they leave, vanish, freeze, lie, and come in crowds. F01–F04, F11, F12, F18.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    cluster::{Cluster, Held, SLACK, after},
    fleet::{Order, Spec, subscription},
    journal::{Leave, What, now},
    plan::{G, P, Plan, T, W},
};
use crate::support::{APP, Ws, member, proxy::Weather, until};

#[test]
#[ignore = "fault suite"]
fn f01_clean_unsubscribe() {
    for plan in [Plan::nodes(1), Plan::sqlite()] {
        let cluster = Cluster::start(plan);
        let Held { client, fence, outcome } = cluster.hold(0, "a", "private-order.1");
        assert_eq!(outcome, "granted");
        let from = now();
        cluster.driver.tell(Order::Unsubscribe(client, "private-order.1".to_owned()));
        let event = cluster.unlocked(fence);
        assert_eq!((event.cause.as_deref(), event.after_grace), (Some("unsubscribed"), false));
        assert!(after(&event, from) < Duration::from_millis(200), "{:?}", after(&event, from));
        assert_eq!(cluster.ledger().story("order:1"), ["locked", "unlocked unsubscribed"]);
        cluster.finish();
    }
}

#[test]
#[ignore = "fault suite"]
fn f02_client_kill_9() {
    let cluster = Cluster::start(Plan::nodes(1));
    let process = cluster.process();
    let spec = Spec { channels: vec!["private-order.1".to_owned()], ..cluster.spec(0, Some("a")) };
    let held = cluster.held(process.connect(spec), 1);
    cluster.journal.note(held.client, What::Unreachable);
    let from = now();
    process.signal("KILL");
    let event = cluster.unlocked(held.fence);
    assert_eq!((event.cause.as_deref(), event.after_grace), (Some("gone"), true));
    let took = after(&event, from);
    assert!(took >= G && took < G + W + Duration::from_millis(500) + SLACK, "{took:?}");
    cluster.finish();
}

/// A client whose bytes go nowhere, though its process lives and its connection looks open at both ends.
#[test]
#[ignore = "fault suite"]
fn f03_half_open_without_fin() {
    let cluster = Cluster::start(Plan::nodes(1).front());
    let held = cluster.hold(0, "a", "private-order.1");
    let clients = cluster.nodes[0].footprint().clients;
    cluster.journal.note(held.client, What::Unreachable);
    let from = now();
    cluster.nodes[0].front().set(Weather::black_hole());
    let event = cluster.unlocked(held.fence);
    assert_eq!((event.cause.as_deref(), event.after_grace), (Some("idle"), true));
    let took = after(&event, from);
    assert!(took < P + T + G + W + Duration::from_secs(1) + SLACK, "{took:?}");
    until("the socket is gone", || cluster.nodes[0].footprint().clients < clients);
    cluster.nodes[0].front().heal();
    cluster.finish();
}

/// A client that is stopped: its kernel still acknowledges everything.
#[test]
#[ignore = "fault suite"]
fn f04_frozen_client() {
    let cluster = Cluster::start(Plan::nodes(1));
    let process = cluster.process();
    let spec = Spec { channels: vec!["private-order.1".to_owned()], ..cluster.spec(0, Some("a")) };
    let held = cluster.held(process.connect(spec), 1);
    cluster.journal.note(held.client, What::Unreachable);
    let from = now();
    process.signal("STOP");
    let event = cluster.unlocked(held.fence);
    assert_eq!(event.cause.as_deref(), Some("idle"));
    assert!(after(&event, from) < P + T + G + W + Duration::from_secs(1) + SLACK, "{:?}", after(&event, from));
    process.signal("CONT");
    assert_eq!(cluster.ended(held.client), Some(4201));
    cluster.finish();
}

/// Signatures that were made for something else buy nothing: no hold, no entry.
#[test]
#[ignore = "fault suite"]
fn f11_replayed_signatures() {
    let cluster = Cluster::start(Plan::nodes(1));
    let ledger = cluster.ledger();
    let mut ws = Ws::open(cluster.address(0));
    let mut other = Ws::open(cluster.address(0));
    let refused = |ws: &mut Ws, channel: &str, auth: String, channel_data: Option<&str>| {
        ws.send_subscribe(channel, Some(&auth), channel_data);
        let (kind, status, _) = ws.subscription_error(channel);
        assert_eq!((kind.as_str(), status), ("AuthError", 401), "{channel}");
    };
    let channel = "private-order.1";
    let signed_for = |text: String| APP.auth(&text);
    let data = member("a", None);
    // The signature of another socket, of another channel, without its data, with other data, with the data of somebody else.
    refused(&mut ws, channel, signed_for(format!("{}:{channel}", other.socket_id)), None);
    let id = ws.socket_id.clone();
    refused(&mut ws, channel, signed_for(format!("{id}:private-order.2")), None);
    refused(&mut ws, channel, signed_for(format!("{id}:{channel}")), Some(&data));
    refused(&mut ws, channel, signed_for(format!("{id}:{channel}:{data}")), Some(&member("b", None)));
    refused(&mut ws, channel, signed_for(format!("{id}:{channel}:{data}")), None);
    // Yesterday's request to the API.
    let mut http = cluster.nodes[0].http();
    let old = crate::support::now_seconds() - 86_400;
    let body = json!({ "name": "e", "channels": ["news"], "data": "1" }).to_string();
    let mut query = APP.unsigned_query(&[], body.as_bytes(), old);
    APP.sign("POST", "/apps/app-id/events", &mut query);
    let target = format!("/apps/app-id/events?{}", crate::support::query_string(&query));
    http.request("POST", &target, &[("Content-Type", "application/json")], body.as_bytes()).refused(401);
    ws.quiet();
    other.quiet();
    let now = cluster.ledger();
    assert_eq!((now.locks.len(), now.holds.len(), now.events.len()), (ledger.locks.len(), 0, ledger.events.len()));
    // The right one is still good.
    ws.send_text(&subscription(Some("a"), &id, channel));
    ws.acknowledged(channel);
    ws.expect("holdline:locked");
    drop((ws, other, http));
    cluster.story("order:1", &["locked", "unlocked gone after grace"]);
    cluster.finish();
}

#[test]
#[ignore = "fault suite"]
fn f12_two_tabs_of_one_principal() {
    let cluster = Cluster::start(Plan::nodes(2));
    let one = cluster.hold(0, "a", "private-order.1");
    let two = cluster.hold(1, "a", "private-order.1");
    assert_eq!((one.fence, one.outcome.as_str(), two.outcome.as_str()), (two.fence, "granted", "attached"));
    cluster.settle();
    cluster.driver.leave(one.client, Leave::Fin);
    until("the first hold is gone", || cluster.ledger().holds.len() == 1);
    // Longer than a grace, and any sweep.
    std::thread::sleep(G + W * 2);
    assert_eq!(cluster.ledger().story("order:1"), ["locked"]);
    let from = now();
    cluster.driver.leave(two.client, Leave::CloseFrame);
    let event = cluster.unlocked(two.fence);
    assert_eq!((event.cause.as_deref(), event.after_grace), (Some("client_closed"), true));
    assert!(after(&event, from) >= G - Duration::from_millis(50));
    assert_eq!(cluster.ledger().story("order:1"), ["locked", "unlocked client_closed after grace"]);
    cluster.finish();
}

/// The frame of a subscription, and a reset at once or a little later: around, before and after the commit.
#[test]
#[ignore = "fault suite"]
fn f18_subscribe_and_vanish() {
    const TIMES: u64 = 1_000;
    let cluster = Cluster::start(Plan::nodes(2));
    let started = Instant::now();
    let mut clients = Vec::new();
    for number in 0..TIMES {
        let client = cluster.driver.connect(cluster.spec((number % 2) as usize, Some(&format!("user-{number}"))));
        clients.push((number, client));
        // So many at a time.
        if clients.len() == 25 || number + 1 == TIMES {
            for (_, client) in &clients {
                cluster.opened(*client);
            }
            for (number, client) in clients.drain(..) {
                // Half of them race each other for few orders, in both manners of leaving; the other half are alone.
                let channel = match number % 4 {
                    0 => format!("private-quick.race-{}", number / 16),
                    1 => format!("private-order.race-{}", number / 16),
                    2 => format!("private-quick.alone-{number}"),
                    _ => format!("private-order.alone-{number}"),
                };
                cluster.driver.tell(Order::SubscribeAndVanish(client, channel, number % 10 * 400));
            }
        }
    }
    let ledger = || {
        let ledger = cluster.ledger();
        let of = |kind: &str| ledger.events.iter().filter(|event| event.kind == kind).count();
        (of("locked"), of("unlocked"), ledger.holds.len())
    };
    until("as many unlocked as locked", || {
        let (locked, unlocked, holds) = ledger();
        locked == unlocked && holds == 0 && cluster.nodes.iter().all(|node| node.footprint().clients <= 1)
    });
    let (locked, ..) = ledger();
    println!("{locked} of {TIMES} were granted before they vanished, {:?}", started.elapsed());
    assert!(locked > TIMES as usize / 4, "only {locked} were ever granted: the test tests nothing");
    cluster.finish();
}
