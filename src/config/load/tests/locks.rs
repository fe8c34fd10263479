//! `[store]`, `[[apps.holds]]` and `[[listeners]]`.

use super::*;
use crate::{
    config::{HoldPoint, ListenerKind, SecretUrl, StoreKind},
    domain::{IfTaken, Mode, OnMismatch, PrincipalFrom},
};

/// The refusal of one rule of the application [`TRIO`], with more keys of that application in front.
fn rule_refusal(app: &str, rule: &str) -> String {
    refusal(&format!("{TRIO}{app}\n[[apps.holds]]\n{rule}\n")).split_once(": ").map_or_else(String::new, |(_, said)| said.to_owned())
}

fn rule_accepted(app: &str, rule: &str) {
    let text = format!("{TRIO}{app}\n[[apps.holds]]\n{rule}\n");
    assert_eq!(loaded(&text, &[], &[]).map(|loaded| loaded.settings.apps[0].holds.len()), Ok(1), "{text}");
}

const ORDER: &str = "resource = \"order:{order_id}\"\nevent = \"Order\"\nchannel = \"private-order.{order_id}\"";
const POSTGRES: &str = "[store]\nurl = \"postgres://h/d\"\n";

#[test]
fn a_rule_has_the_defaults_of_its_documentation() {
    let rule = loaded(&format!("{TRIO}[[apps.holds]]\n{ORDER}\n"), &[], &[]).unwrap().settings.apps.remove(0).holds.remove(0);
    assert_eq!(rule, HoldSettings { show_holder: false, ..HoldSettings::development() });
    assert_eq!(
        (rule.at, rule.mode, rule.if_taken, rule.principal),
        (HoldPoint::Subscribe, Mode::Exclusive, IfTaken::Deny, PrincipalFrom::User)
    );
    assert_eq!((rule.grace, rule.notify_when_free, rule.fail_open), (Duration::from_secs(5), true, false));
    assert_eq!((rule.on_mismatch, rule.context.len()), (OnMismatch::Warn, 0));
}

#[test]
fn only_the_development_application_gets_a_rule_by_itself() {
    assert_eq!(Settings::default().apps[0].holds, [HoldSettings::development()]);
    let tuned = with_env(&[("HOLDLINE_APP__MAX_CONNECTIONS", "2")]).unwrap().settings;
    assert_eq!(tuned.apps[0].holds, [HoldSettings::development()]);
    let same = "[[apps]]\nid = \"app-id\"\nkey = \"app-key\"\nsecret = \"app-secret\"\n";
    assert_eq!(loaded(same, &[], &[]).unwrap().settings.apps[0].holds, []);
    let named = with_env(&[("PUSHER_APP_ID", "1"), ("PUSHER_APP_KEY", "2"), ("PUSHER_APP_SECRET", "3")]).unwrap().settings;
    assert_eq!(named.apps[0].holds, []);
}

#[test]
fn a_mistake_in_a_rule_names_its_line_and_its_key() {
    let text = format!("{TRIO}[[apps.holds]]\n{ORDER}\n[[apps.holds]]\nresource = \"x\"\nevent = \"X\"\nchanel = \"private-x\"\n");
    assert_eq!(refusal(&text), r#"test.toml:12: unknown key "apps[0].holds[1].chanel"; did you mean "apps[0].holds[1].channel"?"#);
    assert_eq!(refusal(&format!("{TRIO}[[apps.hold]]\n")), r#"test.toml:5: unknown key "apps[0].hold"; did you mean "apps[0].holds"?"#);
    assert_eq!(
        refusal(&format!("{TRIO}[apps.holds]\n")),
        "test.toml:5: apps[0].holds: expected a list of tables, each under [[apps.holds]], found a table"
    );
    assert_eq!(refusal(&format!("{TRIO}holds = [1]\n")), "test.toml:5: apps[0].holds[0]: expected a table, found a whole number");
    assert_eq!(refusal(&format!("{TRIO}[[apps.holds]]\nevent = \"X\"\n")), "test.toml:5: apps[0].holds[0].resource: is required");
    assert_eq!(refusal(&format!("{TRIO}[[apps.holds]]\nresource = \"x\"\n")), "test.toml:5: apps[0].holds[0].event: is required");
    assert_eq!(
        refusal(&format!("{TRIO}[[apps.holds]]\nresource = \"x\"\nevent = \"X\"\n")),
        "test.toml:5: apps[0].holds[0].channel: is required for at = \"subscribe\""
    );
    assert_eq!(
        refusal("\n[store]\nlease = \"3s\"\n"),
        "test.toml:2: store.heartbeat_interval: 3s is more than 750ms, a quarter of store.lease"
    );
    let overlap = format!("{TRIO}[[apps.holds]]\n{ORDER}\n[[apps.holds]]\nresource = \"x\"\nevent = \"X\"\nchannel = \"private-order*\"\n");
    assert!(refusal(&overlap).starts_with("test.toml:12: apps[0].holds[1].channel: "), "{}", refusal(&overlap));
}

#[test]
fn what_a_rule_says_fits_together() {
    let said = |rule: &str| rule_refusal("", rule);
    let with = |line: &str| said(&format!("{ORDER}\n{line}"));
    assert_eq!(said("resource = \"x\"\nevent = \"X\""), "apps[0].holds[0].channel: is required for at = \"subscribe\"");
    for at in ["open", "signin"] {
        let both = with(&format!("at = \"{at}\"")).replace(at, "AT");
        assert_eq!(both, "apps[0].holds[0].channel: means nothing for at = \"AT\"; remove it");
    }
    assert!(with("at = \"close\"").ends_with("at: expected one of subscribe, open, signin, found \"close\""));
    assert!(with("mode = \"both\"").ends_with("mode: expected one of exclusive, shared, found \"both\""));
    assert!(with("if_taken = \"steal\"").ends_with("if_taken: expected one of deny, take-if-in-grace, take, found \"steal\""));
    assert!(with("principal = \"session\"").ends_with("principal: expected one of user, socket, found \"session\""));
    assert!(with("on_mismatch = \"ignore\"").ends_with("on_mismatch: expected one of warn, reject, switch, hold_both, found \"ignore\""));
    assert!(with("grace = \"25h\"").contains("grace: 90000s is out of range"));
    assert!(with("context = { team = \"{token\" }").ends_with("context: team: `{token` has an unbalanced brace"));
    assert!(with("context = { order_id = \"x\" }").ends_with("context.order_id: order_id is part of the context anyway"));
    let without_value = "resource = \"{order_id\"\nevent = \"X\"\nchannel = \"private-{order_id}x\"";
    assert_eq!(said(without_value), "apps[0].holds[0].resource: `{order_id` has an unbalanced brace");
    assert!(said("resource = \"\"\nevent = \"X\"\nchannel = \"private-x\"").ends_with("resource: must not be empty"));
    assert!(said("resource = \"x\"\nevent = \"\"\nchannel = \"private-x\"").ends_with("event: must not be empty"));
    let long = "x".repeat(201);
    assert!(
        said(&format!("resource = \"x\"\nevent = \"{long}\"\nchannel = \"private-x\""))
            .ends_with("event: has 201 bytes, at most 200 are allowed")
    );
    assert!(
        said("resource = \"x\"\nevent = \"X\"\nchannel = \"private-{a\"")
            .contains("channel: the channel pattern `private-{a` has an unbalanced brace")
    );
}

#[test]
fn a_rule_fits_its_application() {
    let query = "resource = \"order:{query.order_id}\"\nevent = \"Order\"\nat = \"open\"";
    assert!(rule_refusal("", query).contains("resource: {query.order_id} is whatever a client writes into its query"));
    rule_accepted("trust_query = true", query);
    let token = query.replace("query", "token");
    assert!(rule_refusal("", &token).contains("resource: nothing gives {token.order_id}: handshake_auth is off"));
    rule_accepted("handshake_auth = \"optional\"", &token);
    let signin = "resource = \"desk:{user_id}\"\nevent = \"Desk\"\nat = \"signin\"";
    rule_accepted("", signin);
    assert!(rule_refusal("user_authentication = false", signin).contains("at: clients of this application cannot sign in"));
    for channel in ["orders.{order_id}", "private-encrypted-{order_id}", "private-{order_id}", "*"] {
        let said = rule_refusal("", &ORDER.replace("private-order.{order_id}", channel));
        assert!(said.starts_with("apps[0].holds[0].channel: `"), "{said}");
    }
}

#[test]
fn a_channel_has_one_rule_of_an_application() {
    let rules = |first: &str, second: &str| {
        let rule = |channel: &str| format!("[[apps.holds]]\nresource = \"x\"\nevent = \"X\"\nchannel = \"{channel}\"\n");
        loaded(&format!("{TRIO}{}{}", rule(first), rule(second)), &[], &[]).map(|_| ())
    };
    assert_eq!(rules("private-a.{x}", "private-b.{x}"), Ok(()));
    assert_eq!(rules("private-a.{x}", "presence-a.{x}"), Ok(()));
    let said = rules("private-a.{x}", "private-a*").unwrap_err();
    assert!(
        said.ends_with("apps[0].holds[1].channel: matches private-a.1, as holds[0] of this application does, and a channel has one rule"),
        "{said}"
    );
    let many = "[[apps.holds]]\nresource = \"x\"\nevent = \"X\"\nat = \"open\"\n".repeat(201);
    assert!(refusal(&format!("{TRIO}{many}")).ends_with("apps[0].holds: has 201 entries, at most 200 are allowed"));
}

#[test]
fn the_store_can_stand_in_the_environment() {
    let url = |text: &str, env: &[(&str, &str)]| {
        let loaded = loaded(text, env, &[]).unwrap();
        (loaded.settings.store.url.expose().to_owned(), origin(&loaded, "store.url"))
    };
    let (database, ours) = (("DATABASE_URL", "postgres://a/d"), ("HOLDLINE_STORE__URL", "memory"));
    assert_eq!(url("", &[]), ("sqlite".to_owned(), "default".to_owned()));
    assert_eq!(url("", &[database]), ("postgres://a/d".to_owned(), "DATABASE_URL".to_owned()));
    assert_eq!(url(POSTGRES, &[database]), ("postgres://h/d".to_owned(), "test.toml".to_owned()));
    assert_eq!(url(POSTGRES, &[database, ours]), ("memory".to_owned(), "HOLDLINE_STORE__URL".to_owned()));
    let said = with_env(&[("DATABASE_URL", "mysql://root:s3cret@h/d")]).unwrap_err();
    assert_eq!(
        said,
        "DATABASE_URL: store.url: expected sqlite, memory, none or postgres://user:password@host/database, \
         found a URL that begins with mysql://"
    );
}

#[test]
fn the_keys_of_the_store_have_limits() {
    let said = |line: &str| refusal(&format!("[store]\n{line}\n"));
    assert_eq!(said("lease = \"2s\""), "test.toml:2: store.lease: 2s is out of range: at least 3s, at most 3600s");
    assert_eq!(said("heartbeat_interval = \"4s\""), "test.toml:2: store.heartbeat_interval: 4s is more than 3s, a quarter of store.lease");
    assert_eq!(said("direct_url = \"postgres://h/d\""), "test.toml:2: store.direct_url: needs PostgreSQL, and store.url is sqlite");
    assert!(said("shards = 0").contains("store.shards: 0 is out of range"));
    assert!(said("retention = \"0s\"").contains("store.retention"));
    assert!(said("data_dir = \"\"").ends_with("store.data_dir: must not be empty"));
    assert!(said("on_doubt = \"panic\"").ends_with("store.on_doubt: expected one of notify, close, found \"panic\""));
    assert!(said("max_context_bytes = \"1MiB\"").contains("store.max_context_bytes: 1MiB is out of range"));
    assert!(said("ulr = \"sqlite\"").ends_with(r#"unknown key "store.ulr"; did you mean "store.url"?"#));
    let fast = loaded("[store]\nlease = \"3s\"\nheartbeat_interval = \"750ms\"\n", &[], &[]).unwrap().settings.store;
    assert_eq!(fast.heartbeat_interval, Duration::from_millis(750));
}

#[test]
fn parts_that_are_not_built_say_so() {
    for part in ["redis", "nats", "bus"] {
        let said = refusal(&format!("[{part}]\nurl = \"x\"\n"));
        assert_eq!(
            said,
            format!("test.toml:1: {part}: fan-out between nodes over a bus such as Redis or NATS is not built yet; remove this setting")
        );
        let variable = format!("HOLDLINE_{}__URL", part.to_ascii_uppercase());
        assert!(with_env(&[(variable.as_str(), "x")]).unwrap_err().contains("is not built yet"));
    }
}

#[test]
fn without_a_store_only_the_development_rule_is_let_pass() {
    let none = "[store]\nurl = \"none\"\n";
    assert_eq!(loaded(none, &[], &[]).unwrap().settings.store.kind(), StoreKind::Nothing);
    let said = refusal(&format!("{none}{TRIO}[[apps.holds]]\n{ORDER}\n"));
    assert!(said.ends_with("apps[0].holds: needs a store, and store.url is none"), "{said}");
}

fn listener(lines: &str) -> Result<ListenerSettings, String> {
    loaded(&format!("{POSTGRES}[[listeners]]\n{lines}\n"), &[], &[]).map(|mut loaded| loaded.settings.listeners.remove(0))
}

#[test]
fn a_listener_of_each_kind_has_its_keys_and_defaults() {
    let orders = listener("name = \"orders\"\nkind = \"orders\"").unwrap();
    assert_eq!(orders, ListenerSettings { name: "orders".to_owned(), ..ListenerSettings::default() });
    assert_eq!((orders.retry_for, orders.timeout), (Duration::from_secs(86_400), Duration::from_secs(5)));
    let http =
        listener("name = \"a\"\nkind = \"http\"\nurl = \"https://h/x\"\nheaders = { X-Env = \"prod\" }\nevents = [\"Order*\"]").unwrap();
    assert_eq!((http.kind, http.url, http.headers[0].0.as_str()), (ListenerKind::Http, SecretUrl::new("https://h/x"), "X-Env"));
    let broadcast = listener("name = \"a\"\nkind = \"broadcast\"\nchannel = \"orders.{order_id}\"").unwrap();
    assert_eq!((broadcast.channel.as_str(), broadcast.event.as_str()), ("orders.{order_id}", "{event}"));
}

#[test]
fn a_listener_is_named_once_and_has_the_keys_of_its_kind() {
    let said = |lines: &str| listener(lines).map(|_| ()).expect_err(lines).split_once(": ").map(|(_, said)| said.to_owned()).unwrap();
    assert_eq!(said("kind = \"orders\""), "listeners[0].name: is required");
    assert_eq!(said("name = \"a\""), "listeners[0].kind: is required");
    assert_eq!(said("name = \"\"\nkind = \"orders\""), "listeners[0].name: must not be empty");
    assert!(said(&format!("name = \"{}\"\nkind = \"orders\"", "x".repeat(201))).ends_with("has 201 bytes, at most 200 are allowed"));
    assert!(said("name = \"a\"\nkind = \"email\"").ends_with("kind: expected one of orders, http, broadcast, found \"email\""));
    let twice = "name = \"a\"\nkind = \"orders\"\n[[listeners]]\nname = \"a\"\nkind = \"orders\"";
    assert_eq!(said(twice), "listeners[1].name: \"a\" is already taken by listeners[0].name");
    let (orders, http, broadcast) = (
        "name = \"a\"\nkind = \"orders\"\n",
        "name = \"a\"\nkind = \"http\"\nurl = \"http://h\"\n",
        "name = \"a\"\nkind = \"broadcast\"\nchannel = \"c\"\n",
    );
    assert_eq!(said("name = \"a\"\nkind = \"http\""), "listeners[0].url: is required for kind = \"http\"");
    assert_eq!(said("name = \"a\"\nkind = \"broadcast\""), "listeners[0].channel: is required for kind = \"broadcast\"");
    for (kind, line, key) in [
        (orders, "url = \"http://h\"", "url"),
        (broadcast, "url = \"http://h\"", "url"),
        (broadcast, "headers = { a = \"b\" }", "headers"),
        (orders, "retry_for = \"1s\"", "retry_for"),
        (broadcast, "timeout = \"1s\"", "timeout"),
        (orders, "channel = \"c\"", "channel"),
        (http, "channel = \"c\"", "channel"),
        (http, "event = \"x\"", "event"),
    ] {
        let said = said(&format!("{kind}{line}"));
        assert!(said.starts_with(&format!("listeners[0].{key}: means nothing for kind = ")), "{said}");
    }
    assert!(said(&format!("{http}retry_for = \"0s\"")).starts_with("listeners[0].retry_for: 0s is out of range: at least 1s"));
    assert!(said(&http.replace("http://h", "ftp://h")).starts_with("listeners[0].url: expected https://… or http://… with a host"));
    assert_eq!(said(&format!("{orders}events = []")), "listeners[0].events: must not be empty");
    assert!(said(&format!("{orders}events = [\"*Locked\"]")).starts_with("listeners[0].events: must not contain '*'"));
}

#[test]
fn a_listener_fits_the_store_and_the_applications() {
    let with = |store: &str, apps: &str, lines: &str| {
        loaded(&format!("{store}{apps}[[listeners]]\nname = \"a\"\n{lines}\n"), &[], &[]).map(|_| ())
    };
    let (orders, http) = ("kind = \"orders\"", "kind = \"http\"\nurl = \"http://h\"");
    let two = format!("{TRIO}{}", TRIO.replace("\"a\"", "\"b\"").replace("\"k\"", "\"l\""));
    let said = |store: &str, apps: &str, lines: &str| with(store, apps, lines).unwrap_err();
    assert!(said("", "", orders).ends_with("listeners[0].kind: needs PostgreSQL, and store.url is sqlite"));
    let none = "[store]\nurl = \"none\"\n";
    assert!(said(none, "", http).ends_with("listeners[0].kind: needs a log, and store.url is none"));
    assert_eq!(with("", "", http), Ok(()));
    assert_eq!(with(POSTGRES, &two, orders), Ok(()), "orders may be all of them");
    assert!(said("", &two, http).ends_with("listeners[0].app: is required for kind = \"http\" when there are several applications"));
    assert_eq!(with("", &two, &format!("{http}\napp = \"b\"")), Ok(()));
    assert!(said("", &two, &format!("{http}\napp = \"c\"")).ends_with("listeners[0].app: no application has the id \"c\""));
}

#[test]
fn lists_can_stand_in_variables_and_replace_those_of_the_file() {
    let file = "[[listeners]]\nname = \"a\"\nkind = \"http\"\nurl = \"http://h\"\ntimeout = \"1s\"\n";
    let json = r#"[{"name": "b", "kind": "http", "url": "http://g"}]"#;
    let replaced = loaded(file, &[("HOLDLINE_LISTENERS", json)], &[]).unwrap();
    assert_eq!((replaced.settings.listeners.len(), replaced.settings.listeners[0].name.as_str()), (1, "b"));
    assert_eq!(
        (origin(&replaced, "listeners[0].name"), origin(&replaced, "listeners[0].timeout")),
        ("HOLDLINE_LISTENERS".to_owned(), "default".to_owned())
    );
    let unnamed = loaded(file, &[("HOLDLINE_LISTENERS", r#"[{"kind": "http", "url": "http://g"}]"#)], &[]).unwrap_err();
    assert_eq!(unnamed, "HOLDLINE_LISTENERS: listeners[0].name: is required");
    let rules = r#"[{"channel": "private-x.{x}", "resource": "x:{x}", "event": "X"}]"#;
    let app = with_env(&[("HOLDLINE_APP__HOLDS", rules)]).unwrap().settings.apps.remove(0);
    assert_eq!((app.holds.len(), app.holds[0].event.as_str()), (1, "X"));
    let broken = with_env(&[("HOLDLINE_LISTENERS", r#"[{"url": "http://u:s3cret"#)]).unwrap_err();
    assert!(broken.starts_with("HOLDLINE_LISTENERS: listeners: expected a TOML or JSON list") && !broken.contains("s3cret"), "{broken}");
}

#[test]
fn what_is_printed_has_every_list_and_no_password() {
    let text = format!(
        "[store]\nurl = \"postgres://ada:s3cret@h/d\"\ndirect_url = \"postgres://ada:s3cret@g/d\"\n{}trust_query = true\n[[apps.holds]]\n{ORDER}\ncontext = {{ from = \"{{query.from}}\" }}\n\
         [[listeners]]\nname = \"a\"\nkind = \"http\"\nurl = \"https://u:s3cret@h/x\"\nheaders = {{ X-Key = \"s3cret\" }}\n[[listeners]]\nname = \"b\"\nkind = \"orders\"\n",
        TRIO.replace("s3cret", "other")
    );
    let read = loaded(&text, &[], &[]).unwrap();
    let printed = read.to_toml();
    assert!(!printed.contains("s3cret"), "{printed}");
    for line in [
        "url = \"postgres://ada:<redacted>@h/d\"",
        "direct_url = \"postgres://ada:<redacted>@g/d\"",
        "[[apps.holds]]",
        "channel = \"private-order.{order_id}\"",
        "context = { from = \"{query.from}\" }",
        "headers = { X-Key = \"<redacted>\" }",
        "url = \"https://u:<redacted>@h/x\"",
    ] {
        assert!(printed.lines().any(|printed| printed.starts_with(line)), "{line}: {printed}");
    }
    let again = loaded(&printed.replace("<redacted>", "s3cret"), &[], &[]).unwrap().settings;
    assert_eq!((again.store, again.listeners), (read.settings.store, read.settings.listeners));
    assert_eq!(again.apps[0].holds, read.settings.apps[0].holds);
    assert!(loaded(&printed, &[], &[]).unwrap_err().contains("not its redacted form"));
}
