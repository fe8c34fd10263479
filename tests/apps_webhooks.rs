//! Webhooks and holds of applications from the table: they start, change and stop while the broker runs.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{
    apps::{Tenants, connected},
    support::{APP, OTHER, Receiver, Reply, hmac_hex, until},
};

fn webhooks(receiver: &Receiver, more: &str) -> String {
    format!("webhooks=[{{\"url\": \"{}\", {more}\"retry_for\": \"1m\"}}]", receiver.url("/hooks"))
}

/// What a receiver has taken, each as `name channel`.
fn told(receiver: &Receiver) -> Vec<String> {
    let line = |event: &Value| format!("{} {}", event["name"].as_str().unwrap(), event["channel"].as_str().unwrap());
    receiver.events().iter().map(line).collect()
}

fn hears(receiver: &Receiver, expected: &str) {
    until(&format!("{expected} is told"), || told(receiver).iter().any(|line| line == expected));
}

fn tenants() -> [Tenants; 2] {
    Tenants::both().map(|mut tenants| {
        tenants.more = "[webhooks]\ndelay = \"0s\"\n".to_owned();
        tenants
    })
}

#[test]
fn endpoints_start_move_and_stop_while_the_broker_runs() {
    for tenants in tenants() {
        let broker = tenants.start();
        let (first, second) = (Receiver::start(), Receiver::start());
        tenants.create(&["client_events=true"]);
        let mut ws = connected(&broker);
        ws.subscribe("early");
        let member = crate::support::member("7", None);
        ws.join("presence-early", &member);
        tenants.ok(&["update", APP.id, "--set", &webhooks(&first, "")]);
        hears(&first, "channel_occupied early");
        hears(&first, "member_added presence-early");
        ws.subscribe("later");
        hears(&first, "channel_occupied later");
        ws.unsubscribe("early");
        hears(&first, "channel_vacated early");
        let listed = broker.http().get("/webhooks", &[]).json();
        assert_eq!(listed["webhooks"][0]["url"], first.url("/hooks"), "{listed}");

        tenants.ok(&["update", APP.id, "--set", &webhooks(&second, "\"events\": [\"channel_vacated\"], ")]);
        until("the endpoint has moved", || {
            ws.subscribe("a");
            ws.unsubscribe("a");
            told(&second).iter().any(|line| line == "channel_vacated a")
        });
        assert!(told(&second).iter().all(|line| line.starts_with("channel_vacated")), "{:?}", told(&second));
        ws.unsubscribe("later");
        hears(&second, "channel_vacated later");
        let before = told(&first).len();

        tenants.ok(&["update", APP.id, "--unset", "webhooks"]);
        until("there is no endpoint", || {
            broker.http().get("/webhooks", &[]).json()["webhooks"].as_array().unwrap().iter().all(|one| one["configured"] == false)
        });
        ws.subscribe("b");
        ws.unsubscribe("b");
        tenants.ok(&["update", APP.id, "--set", &webhooks(&first, "")]);
        until("the first is back", || {
            ws.subscribe("c");
            ws.unsubscribe("c");
            told(&first).iter().any(|line| line == "channel_vacated c")
        });
        let strange = |line: &String| line.ends_with(" b") || line.ends_with(" c");
        assert!(!told(&second).iter().any(strange), "{:?}", told(&second));
        assert!(told(&first).len() > before);
        // Somebody who came while nobody listened, and leaves now.
        ws.unsubscribe("presence-early");
        hears(&first, "channel_vacated presence-early");
        tenants.ok(&["delete", APP.id, "--force"]);
        ws.refused(4001);
    }
}

#[test]
fn two_brokers_deliver_what_happens_on_either_once() {
    let mut tenants = Tenants::postgres();
    tenants.more = "[webhooks]\ndelay = \"5s\"\n".to_owned();
    let [one, two] = [0, 1].map(|node| tenants.launch(node).start());
    let receiver = Receiver::start();
    tenants.create(&[&webhooks(&receiver, "")]);
    let (mut here, mut there) = (connected(&one), connected(&two));
    here.subscribe("news");
    hears(&receiver, "channel_occupied news");
    there.subscribe("news");
    here.unsubscribe("news");
    here.quiet();
    there.unsubscribe("news");
    hears(&receiver, "channel_vacated news");
    assert_eq!(told(&receiver), ["channel_occupied news", "channel_vacated news"]);
}

#[test]
fn during_a_rotation_a_receiver_with_either_secret_takes_what_it_is_owed() {
    for tenants in tenants() {
        let broker = tenants.start();
        let receiver = Receiver::start();
        tenants.create(&[&webhooks(&receiver, "")]);
        let mut ws = connected(&broker);
        let rotated: Value = serde_json::from_str(&tenants.ok(&["rotate-secret", APP.id, "--json"])).unwrap();
        let new = rotated["secret"].as_str().unwrap().to_owned();
        until("the new secret is in use", || {
            ws.subscribe("a");
            ws.unsubscribe("a");
            receiver.got().iter().any(|got| got.header("X-Pusher-Signature") == hmac_hex(&new, &got.body))
        });
        // One that knows the old secret only: what it refuses comes again at once, signed as it expects.
        let requests = AtomicUsize::new(0);
        receiver.does(move |_| Reply::Status(if requests.fetch_add(1, Ordering::SeqCst) == 0 { 401 } else { 200 }));
        let refused = || receiver.got().into_iter().find(|got| got.status == 401);
        ws.subscribe("b");
        until("one is refused", || refused().is_some());
        let refused = refused().unwrap();
        assert_eq!(refused.header("X-Pusher-Signature"), hmac_hex(&new, &refused.body));
        let again = || receiver.got().into_iter().find(|got| got.body == refused.body && got.status == 200);
        until("it is taken", || again().is_some());
        assert_eq!(again().unwrap().header("X-Pusher-Signature"), hmac_hex(APP.secret, &refused.body));
    }
}

#[test]
fn rules_of_holds_are_for_whoever_connects_after_them() {
    for tenants in Tenants::both() {
        let broker = tenants.start();
        tenants.create(&[]);
        let mut before = connected(&broker);
        let rule = r#"holds=[{"channel": "private-order.{order_id}", "resource": "order:{order_id}", "event": "Order"}]"#;
        tenants.ok(&["update", APP.id, "--set", rule]);
        let mut holder = None;
        until("the rule is in force", || {
            let mut ws = broker.ws();
            ws.subscribe("private-order.1");
            ws.send_text(r#"{"event":"pusher:ping"}"#);
            let locked = ws.event().name() == "holdline:locked";
            holder = Some(ws);
            locked
        });
        before.subscribe("private-order.1");
        before.quiet();
        let mut late = broker.ws();
        let auth = APP.auth(&format!("{}:private-order.1", late.socket_id));
        late.send_subscribe("private-order.1", Some(&auth), None);
        assert_eq!(late.subscription_error("private-order.1").0, "LockConflict");
        tenants.ok(&["update", APP.id, "--set", "holds=[]"]);
        until("there is no rule", || {
            let mut ws = broker.ws();
            let auth = APP.auth(&format!("{}:private-order.1", ws.socket_id));
            ws.send_subscribe("private-order.1", Some(&auth), None);
            ws.event().name() == "pusher_internal:subscription_succeeded"
        });
        let held = broker.http().get("/locks", &[]).json();
        assert_eq!(held["locks"].as_array().map(Vec::len), Some(1), "what is held stays held: {held}");
        assert_eq!(held["locks"][0]["resource"], json!("order:1"));
        drop(holder);
    }
}

#[test]
fn listeners_of_the_configuration_speak_for_applications_of_the_table() {
    for mut tenants in tenants() {
        let receiver = Receiver::start();
        let named = Receiver::start();
        tenants.more = format!(
            "[[listeners]]\nname = \"all\"\nkind = \"http\"\nurl = \"{}\"\n[[listeners]]\nname = \"one\"\nkind = \"http\"\napp = \"other\"\n\
             url = \"{}\"\n[[listeners]]\nname = \"board\"\nkind = \"broadcast\"\nchannel = \"orders\"\n",
            receiver.url("/log"),
            named.url("/log")
        );
        let broker = tenants.start();
        let rule = r#"holds=[{"channel": "private-order.{order_id}", "resource": "order:{order_id}", "event": "Order"}]"#;
        tenants.create(&[rule]);
        let mut watcher = connected(&broker);
        watcher.subscribe("orders");
        let mut ws = broker.ws();
        ws.subscribe("private-order.1");
        let event = watcher.event();
        assert_eq!((event.name(), event.channel()), ("OrderLocked", Some("orders")), "{event:?}");
        let types = || -> Vec<Value> { receiver.got().iter().map(|request| request.json()["type"].clone()).collect() };
        until("the lock is posted", || types() == ["OrderLocked"]);
        let request = receiver.got().remove(0);
        assert_eq!(request.header("X-Pusher-Key"), APP.key);
        assert_eq!(request.header("X-Pusher-Signature"), hmac_hex(APP.secret, &request.body));

        let place = tempfile::tempdir().unwrap();
        let secret = place.path().join("secret");
        std::fs::write(&secret, OTHER.secret).unwrap();
        tenants.ok(&["rotate-secret", APP.id, "--secret-file", secret.to_str().unwrap()]);
        let mut others = Vec::new();
        until("the new secret signs", || {
            let (before, mut ws) = (receiver.got().len(), broker.ws());
            ws.subscribe(&format!("private-order.{}", others.len() + 2));
            others.push(ws);
            until("it is posted", || receiver.got().len() > before);
            receiver.got().last().is_some_and(|last| last.header("X-Pusher-Signature") == hmac_hex(OTHER.secret, &last.body))
        });
        tenants.ok(&["delete", APP.id, "--force"]);
        drop((ws, watcher, others));
        until("what ends with the application is told", || types().last().is_some_and(|name| name == "OrderUnlocked"));
        assert!(named.got().is_empty(), "it is for another application");
    }
}
