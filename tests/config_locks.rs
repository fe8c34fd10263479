//! Locks in the configuration: what cannot be right stops the start, by file, key, reason and limit.

use crate::{
    config::{accepted, refused},
    support::{one_app, run_to_end},
};

/// The test application with one rule; `app` are further keys of the application.
fn rule(app: &str, lines: &str) -> String {
    one_app(&format!("{app}\n[[apps.holds]]\n{lines}"))
}

fn order(channel: &str) -> String {
    format!("channel = \"{channel}\"\nresource = \"order:{{order_id}}\"\nevent = \"Order\"")
}

fn open(resource: &str) -> String {
    format!("at = \"open\"\nresource = \"{resource}\"\nevent = \"Order\"")
}

#[test]
fn a_store_that_cannot_be_is_refused() {
    for (lines, named) in [
        ("url = \"mysql://root:hidden-pw@db/shop\"", ["store.url", "mysql://", "postgres://"].as_slice()),
        ("url = \"sqllite\"", &["store.url", "sqlite, memory, none"]),
        ("url = \"\"", &["store.url"]),
        ("url = \"postgres://\"", &["store.url", "without a host"]),
        ("lease = \"2s\"", &["store.lease", "3s"]),
        ("lease = \"12s\"\nheartbeat_interval = \"4s\"", &["store.heartbeat_interval", "4s", "3s", "store.lease"]),
        ("direct_url = \"postgres://h/d\"", &["store.direct_url", "PostgreSQL"]),
        ("shards = 0", &["store.shards", "at least 1"]),
        ("retention = \"never\"", &["store.retention"]),
        ("on_doubt = \"hope\"", &["store.on_doubt", "notify, close"]),
        ("max_holds = 0", &["store.max_holds"]),
        ("max_resource_bytes = 513", &["store.max_resource_bytes", "512"]),
        ("max_context_bytes = \"1MiB\"", &["store.max_context_bytes"]),
        ("acquire_timeout = \"0s\"", &["store.acquire_timeout", "10ms"]),
        ("acquire_timeuot = \"1s\"", &["acquire_timeuot", "store.acquire_timeout"]),
    ] {
        refused(&format!("[store]\n{lines}\n"), named);
    }
    accepted("[store]\nurl = \"memory\"\nlease = \"3s\"\nheartbeat_interval = \"750ms\"\n");
    accepted("[store]\nurl = \"none\"\n");
}

#[test]
fn a_rule_of_anybodys_channel_is_refused() {
    for channel in ["order.{order_id}", "*", "private{order_id}", "cache-{order_id}", "#server-to-user-{order_id}"] {
        refused(&rule("", &order(channel)), &["apps[0].holds[0].channel", "no signature", "private- or presence-"]);
    }
    for channel in ["private-encrypted-order.{order_id}", "private-{order_id}", "private-*"] {
        refused(&rule("", &order(channel)), &["apps[0].holds[0].channel", "private-encrypted-", "decrypt"]);
    }
    accepted(&rule("", &order("private-order.{order_id}")));
    accepted(&rule("", &order("presence-{order_id}")));
    accepted(&rule("", &order("private-cache-order.{order_id}")));
}

#[test]
fn a_pattern_or_a_template_that_is_none_is_refused() {
    refused(&rule("", &order("private-order.{order_id")), &["apps[0].holds[0].channel", "unbalanced brace"]);
    refused(&rule("", &order("private-order.{}")), &["apps[0].holds[0].channel", "{}"]);
    refused(&rule("", &order("private-order:{order_id}")), &["apps[0].holds[0].channel", "':'"]);
    refused(&rule("", &order(&format!("private-{}", "x".repeat(200)))), &["apps[0].holds[0].channel", "200 bytes"]);
    refused(
        &rule("", &order("private-order.{order_id}").replace("order:{order_id}", "order:{order_id")),
        &["apps[0].holds[0].resource", "brace"],
    );
    refused(&rule("", &order("private-order.{user_id}")), &["apps[0].holds[0].channel", "{user_id}"]);
    refused(&rule("", &order("private-orders")), &["apps[0].holds[0].resource", "{order_id}", "captures nothing"]);
    refused(&rule("", &order("private-order.{id}")), &["apps[0].holds[0].resource", "{order_id}", "no such capture"]);
    refused(
        &rule("", &order("private-order.{order_id}").replace("{order_id}\"\nevent", "{tokn.x}\"\nevent")),
        &["resource", "tokn", "token"],
    );
}

#[test]
fn a_channel_where_none_belongs_or_none_where_one_does_is_refused() {
    let subscribe = "resource = \"kitchen\"\nevent = \"Kitchen\"";
    refused(&rule("", subscribe), &["apps[0].holds[0].channel", "is required", "subscribe"]);
    for at in ["open", "signin"] {
        refused(&rule("", &format!("at = \"{at}\"\nchannel = \"private-x\"\n{subscribe}")), &["apps[0].holds[0].channel", at]);
    }
    accepted(&rule("", &format!("at = \"signin\"\n{subscribe}")));
}

#[test]
fn a_value_that_nothing_gives_is_refused() {
    refused(&rule("", &open("order:{order_id}")), &["apps[0].holds[0].resource", "{order_id}"]);
    refused(&rule("", &open("order:{signin.id}")), &["apps[0].holds[0].resource", "{signin.id}"]);
    refused(&rule("", &open("order:{token.id}")), &["apps[0].holds[0].resource", "{token.id}", "handshake_auth"]);
    accepted(&rule("handshake_auth = \"optional\"", &open("order:{token.id}")));
    for carrier in ["query", "header", "cookie"] {
        let placeholder = format!("{{{carrier}.order_id}}");
        refused(&rule("", &open(&format!("order:{placeholder}"))), &["apps[0].holds[0].resource", &placeholder, "trust_query"]);
        accepted(&rule("trust_query = true", &open(&format!("order:{placeholder}"))));
    }
    let context = format!("{}\ncontext = {{ team = \"{{query.team}}\" }}", order("private-order.{order_id}"));
    refused(&rule("", &context), &["apps[0].holds[0].context.team", "{query.team}", "trust_query"]);
}

#[test]
fn a_word_a_name_or_a_time_of_a_rule_that_is_none_is_refused() {
    let with = |line: &str| rule("", &format!("{}\n{line}", order("private-order.{order_id}")));
    for (line, named) in [
        ("principal = \"session\"", ["principal", "user, socket"]),
        ("mode = \"both\"", ["mode", "exclusive, shared"]),
        ("if_taken = \"steal\"", ["if_taken", "take-if-in-grace"]),
        ("on_mismatch = \"ignore\"", ["on_mismatch", "hold_both"]),
        ("grace = \"2 days\"", ["grace", "86400s"]),
        ("show_holder = \"yes\"", ["show_holder", "true or false"]),
        ("context = \"team\"", ["context", "a table"]),
        ("gracee = \"1s\"", ["gracee", "apps[0].holds[0].grace"]),
    ] {
        refused(&with(line), &named);
    }
    let named = |event: &str| order("private-order.{order_id}").replace("\"Order\"", &format!("\"{event}\""));
    refused(&rule("", &named("")), &["apps[0].holds[0].event", "empty"]);
    refused(&rule("", &named(&"x".repeat(201))), &["apps[0].holds[0].event", "201", "200"]);
    accepted(&rule("", &named(&"x".repeat(200))));
    let without = order("private-order.{order_id}").replace("resource = \"order:{order_id}\"", "resource = \"\"");
    refused(&rule("", &without), &["apps[0].holds[0].resource", "empty"]);
}

#[test]
fn two_rules_for_one_channel_are_refused_with_the_channel() {
    let two = |first: &str, second: &str| rule("", &format!("{}\n[[apps.holds]]\n{}", order(first), order(second)));
    refused(&two("private-order.{order_id}", "private-order.{order_id}"), &["apps[0].holds[1].channel", "holds[0]", "private-order.1"]);
    refused(&two("private-a.{order_id}", "private-a*{order_id}"), &["apps[0].holds[1].channel", "holds[0]"]);
    accepted(&two("private-order.{order_id}", "presence-order.{order_id}"));
    let other_app = "[[apps]]\nid = \"b\"\nkey = \"b\"\nsecret = \"b\"\n[[apps.holds]]\n".to_owned() + &order("private-order.{order_id}");
    accepted(&(rule("", &order("private-order.{order_id}")) + &other_app));
}

#[test]
fn a_listener_that_cannot_be_is_refused() {
    let listener = |lines: &str| format!("{}[[listeners]]\n{lines}\n", one_app(""));
    let http = "name = \"shop\"\nkind = \"http\"\nurl = \"https://shop.example/x\"";
    let broadcast = "name = \"board\"\nkind = \"broadcast\"\nchannel = \"orders\"";
    accepted(&listener(http));
    accepted(&listener(broadcast));
    accepted(&format!("[store]\nurl = \"postgres://db/shop\"\n{}", listener("name = \"orders\"\nkind = \"orders\"")));
    for (lines, named) in [
        ("kind = \"http\"".to_owned(), ["listeners[0].name", "required"].as_slice()),
        ("name = \"a\"".to_owned(), &["listeners[0].kind", "required"]),
        ("name = \"a\"\nkind = \"orders\"".to_owned(), &["listeners[0].kind", "PostgreSQL", "sqlite"]),
        ("name = \"a\"\nkind = \"http\"".to_owned(), &["listeners[0].url", "kind = \"http\""]),
        ("name = \"a\"\nkind = \"broadcast\"".to_owned(), &["listeners[0].channel", "kind = \"broadcast\""]),
        (format!("{http}\nchannel = \"x\""), &["listeners[0].channel", "kind = \"http\""]),
        (format!("{broadcast}\nurl = \"http://h\""), &["listeners[0].url", "kind = \"broadcast\""]),
        (format!("{http}\nretry_for = \"0s\""), &["listeners[0].retry_for", "at least 1s"]),
        (format!("{http}\napp = \"nobody\""), &["listeners[0].app", "nobody"]),
        (format!("{http}\nevents = []"), &["listeners[0].events", "empty"]),
        (format!("{http}\nevents = [\"*Locked\"]"), &["listeners[0].events", "'*'"]),
        (format!("{http}\nheaders = {{ Content-Type = \"x\" }}"), &["listeners[0].headers", "Content-Type"]),
        (http.replace("https://", "ftp://"), &["listeners[0].url", "https://", "ftp://"]),
        (http.replace("shop\"", &format!("{}\"", "x".repeat(201))), &["listeners[0].name", "201", "200"]),
        (format!("{http}\n[[listeners]]\n{http}"), &["listeners[1].name", "listeners[0].name"]),
        (broadcast.replace("\"orders\"", "\"orders.{id\""), &["listeners[0].channel", "brace"]),
        (broadcast.replace("\"orders\"", "\"private-encrypted-{resource}\""), &["listeners[0].channel", "encrypted"]),
        (format!("{broadcast}\nevent = \"pusher:x\""), &["listeners[0].event", "pusher:x"]),
    ] {
        refused(&listener(&lines), named);
    }
    let two = one_app("") + "[[apps]]\nid = \"b\"\nkey = \"b\"\nsecret = \"b\"\n";
    refused(&format!("{two}[[listeners]]\n{http}\n"), &["listeners[0].app", "several applications"]);
    accepted(&format!("{two}[[listeners]]\n{http}\napp = \"b\"\n"));
}

#[test]
fn what_is_not_built_yet_is_refused_in_words() {
    for part in ["bus", "redis", "nats"] {
        refused(&format!("[{part}]\nurl = \"x\"\n"), &[part, "not built yet"]);
    }
}

#[test]
fn a_password_is_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    for (url, code) in [("postgres://ada:hidden-pw@db/shop", 0), ("mysql://ada:hidden-pw@db/shop", 1), ("ada:hidden-pw@db", 1)] {
        for args in [["config", "check"], ["config", "print"]] {
            for name in ["DATABASE_URL", "HOLDLINE_STORE__URL"] {
                let ended = run_to_end(directory.path(), &args, &[(name, url)]);
                assert!(!ended.said().contains("hidden-pw"), "{args:?} {name}: {}", ended.said());
                assert_eq!(ended.code.min(1), code, "{args:?} {name} {url}: {}", ended.said());
                assert!(code == 0 || ended.said().contains(name), "{}", ended.said());
                let shown = "url = \"postgres://ada:<redacted>@db/shop\"";
                assert!(code == 1 || args[1] == "check" || ended.stdout.contains(shown), "{}", ended.stdout);
            }
        }
    }
}
