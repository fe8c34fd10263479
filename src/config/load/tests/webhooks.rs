//! `[webhooks]` and `[[apps.webhooks]]`.

use super::*;
use crate::{
    config::{SecretUrl, WebhookEndpointSettings},
    domain::{WebhookFilter, WebhookKind},
};

/// The endpoints of the application [`TRIO`], or why they are refused.
fn endpoints(lines: &str) -> Result<Vec<WebhookEndpointSettings>, String> {
    let read = loaded(&format!("{TRIO}[[apps.webhooks]]\n{lines}\n"), &[], &[]);
    read.map(|loaded| loaded.settings.apps[0].webhooks.clone())
        .map_err(|said| said.split_once(": ").map_or_else(String::new, |(_, said)| said.to_owned()))
}

fn said(lines: &str) -> String {
    endpoints(lines).expect_err(lines)
}

const URL: &str = "url = \"http://h/x\"\n";

#[test]
fn an_endpoint_has_the_defaults_of_its_documentation() {
    let endpoint = endpoints(URL).unwrap().remove(0);
    assert_eq!(endpoint, WebhookEndpointSettings { url: SecretUrl::new("http://h/x"), ..WebhookEndpointSettings::default() });
    assert_eq!(endpoint.filter(), WebhookFilter::default());
    assert_eq!((endpoint.batch, endpoint.max_batch, endpoint.batch_window), (false, 100, Duration::from_secs(1)));
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    assert_eq!((endpoint.retry_for, endpoint.order_for, endpoint.timeout), (hours(24), hours(1) / 12, Duration::from_secs(10)));
    let common = Settings::default().webhooks;
    assert_eq!((common.delay, common.queue_size), (Duration::from_secs(3), 64 * 1_024 * 1_024));
    assert_eq!(Settings::default().apps[0].webhooks, []);
}

#[test]
fn an_endpoint_is_read_whole() {
    let lines = "name = \"mail\"\nevents = [\"member_added\", \"cache_miss\"]\nchannel_prefix = \"presence-\"\nchannel_suffix = \".eu\"\n\
                 headers = { X-Env = \"prod\" }\nbatch = true\nbatch_window = \"50ms\"\nmax_batch = 7\nretry_for = \"1m\"\norder_for = \"0s\"\ntimeout = \"2s\"";
    let endpoint = endpoints(&format!("{URL}{lines}")).unwrap().remove(0);
    let filter = endpoint.filter();
    assert_eq!(filter.kinds, [WebhookKind::MemberAdded, WebhookKind::CacheMiss]);
    assert_eq!((filter.channel_prefix.as_str(), filter.channel_suffix.as_str()), ("presence-", ".eu"));
    assert_eq!((endpoint.batch_window, endpoint.max_batch, endpoint.order_for), (Duration::from_millis(50), 7, Duration::ZERO));
}

#[test]
fn a_mistake_in_an_endpoint_is_named_with_its_limit() {
    let with = |line: &str| said(&format!("{URL}{line}"));
    assert_eq!(said("name = \"a\""), "apps[0].webhooks[0].url: is required");
    assert!(said("url = \"ftp://h\"").starts_with("apps[0].webhooks[0].url: expected https://… or http://… with a host"));
    for (line, expected) in [
        ("events = [\"channel_ocupied\"]", "events: expected one of channel_occupied, channel_vacated,"),
        ("events = \"cache_miss\"", "events: expected a list of words such as [\"a\", \"b\"], found a string"),
        ("events = [\"cache_miss\", \"cache_miss\"]", "events: \"cache_miss\" is already taken by entry 1"),
        ("channel_prefix = \"#server-to-user-\"", "channel_prefix: must not contain '#'"),
        ("headers = { Host = \"s3cret\" }", "headers: Host: means nothing"),
        ("batch = true\nmax_batch = 0", "max_batch: 0 is out of range: at least 1, at most 1000"),
        ("batch = true\nbatch_window = \"61s\"", "batch_window: 61s is out of range: at least 10ms, at most 60s"),
        ("max_batch = 5", "max_batch: means nothing for batch = false; remove it"),
        ("batch_window = \"2s\"", "batch_window: means nothing for batch = false; remove it"),
        ("retry_for = \"0s\"", "retry_for: 0s is out of range: at least 1s, at most 2592000s"),
        ("order_for = \"25h\"", "order_for: 90000s is out of range: at least 0s, at most 86400s"),
        ("timeout = \"50ms\"", "timeout: 50ms is out of range: at least 100ms"),
        ("name = \"a:b\"", "name: must not contain ':'"),
    ] {
        let said = with(line);
        assert!(said.starts_with(&format!("apps[0].webhooks[0].{expected}")) && !said.contains("s3cret"), "{said}");
    }
    assert!(with("event = []").starts_with("unknown key \"apps[0].webhooks[0].event\"; did you mean \"apps[0].webhooks[0].events\"?"));
    let many = format!("[[apps.webhooks]]\n{URL}").repeat(50);
    assert_eq!(said(&format!("{URL}{many}")), "apps[0].webhooks: has 51 entries, at most 50 are allowed");
    let delay = refusal("[webhooks]\ndelay = \"2h\"\n");
    assert_eq!(delay, "test.toml:2: webhooks.delay: 7200s is out of range: at least 0s, at most 3600s");
    assert!(refusal("[webhooks]\nqueue_size = \"1KiB\"\n").contains("webhooks.queue_size: 1KiB is out of range: at least 64KiB"));
}

#[test]
fn endpoints_of_one_url_are_told_apart_and_names_occur_once() {
    let two = format!("{URL}[[apps.webhooks]]\n{URL}");
    let names = WebhookEndpointSettings::names(&endpoints(&two).unwrap());
    assert_eq!(names[1], format!("{}-2", names[0]));
    let taken = format!("{URL}[[apps.webhooks]]\nurl = \"http://other\"\nname = \"{}\"", names[0]);
    assert_eq!(said(&taken), format!("apps[0].webhooks[1].name: \"{}\" is already taken by webhooks[0].name", names[0]));
    let named = format!("{URL}name = \"a\"\n[[apps.webhooks]]\n{URL}name = \"a\"");
    assert_eq!(said(&named), "apps[0].webhooks[1].name: \"a\" is already taken by webhooks[0].name");
}

#[test]
fn a_client_event_that_is_told_of_fits_into_the_log() {
    let events = |wanted: &str| {
        let text = format!("{TRIO}[apps.limits]\nmax_client_event_bytes = \"200KiB\"\n[[apps.webhooks]]\n{URL}events = [\"{wanted}\"]\n");
        loaded(&text, &[], &[]).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(events("cache_miss"), Ok(()));
    let said = events("client_event").unwrap_err();
    assert!(said.contains("apps[0].limits.max_client_event_bytes: 200KiB is out of range") && said.contains("at most 128KiB"), "{said}");
}

#[test]
fn webhooks_need_no_store() {
    let text = format!("[store]\nurl = \"none\"\n{TRIO}[[apps.webhooks]]\n{URL}");
    assert_eq!(loaded(&text, &[], &[]).map(|loaded| loaded.settings.apps[0].webhooks.len()), Ok(1));
}

#[test]
fn soketis_list_is_understood() {
    let soketi = r#"[{"url": "https://h/x", "event_types": ["channel_occupied", "client_event"], "headers": {"X-Env": "prod"},
        "filter": {"channel_name_starts_with": "private-", "channel_name_ends_with": ".eu"}}, {"url": "http://h/y", "event_types": ["cache_miss"]}]"#;
    let read = with_env(&[("SOKETI_DEFAULT_APP_WEBHOOKS", soketi)]).unwrap();
    assert_eq!(origin(&read, "apps[0].webhooks[1].url"), "SOKETI_DEFAULT_APP_WEBHOOKS");
    let [first, second] = &read.settings.apps[0].webhooks[..] else { panic!("two endpoints") };
    let filter = WebhookFilter {
        kinds: vec![WebhookKind::ChannelOccupied, WebhookKind::ClientEvent],
        channel_prefix: "private-".to_owned(),
        channel_suffix: ".eu".to_owned(),
    };
    assert_eq!((first.filter(), first.headers[0].1.expose()), (filter, "prod"));
    assert_eq!((second.url.expose(), second.filter().kinds), ("http://h/y", vec![WebhookKind::CacheMiss]));
    let none = with_env(&[("SOKETI_DEFAULT_APP_WEBHOOKS", soketi), ("HOLDLINE_APP__WEBHOOKS", "[]")]).unwrap();
    assert_eq!(none.settings.apps[0].webhooks, [], "our own variable wins, empty as it is");
    let refused = |text: &str| with_env(&[("SOKETI_DEFAULT_APP_WEBHOOKS", text)]).expect_err(text);
    let nothing = refused(r#"[{"url": "http://h", "event_types": []}]"#);
    assert_eq!(nothing, "SOKETI_DEFAULT_APP_WEBHOOKS: webhooks: event_types: must not be empty");
    for text in [r#"[{"lambda_function": "s3cret", "event_types": ["cache_miss"]}]"#, r#"[{"url": "http://u:s3cret@h"#, "s3cret"] {
        let said = refused(text);
        assert!(said.starts_with("SOKETI_DEFAULT_APP_WEBHOOKS: webhooks: expected a JSON list") && !said.contains("s3cret"), "{said}");
    }
    let unknown = refused(r#"[{"url": "http://h", "event_types": ["cache_missed"]}]"#);
    assert!(unknown.starts_with("SOKETI_DEFAULT_APP_WEBHOOKS: apps[0].webhooks[0].events: expected one of channel_occupied"), "{unknown}");
}

#[test]
fn what_is_printed_has_no_password_of_an_endpoint() {
    let lines = "url = \"https://u:s3cret@h/x\"\nevents = [\"cache_miss\"]\nheaders = { Authorization = \"s3cret\" }";
    let text = format!("{}[[apps.webhooks]]\n{lines}\n[webhooks]\ndelay = \"0s\"\n", TRIO.replace("s3cret", "other"));
    let read = loaded(&text, &[], &[]).unwrap();
    let printed = read.to_toml();
    assert!(!printed.contains("s3cret"), "{printed}");
    for line in ["delay = \"0s\"", "[[apps.webhooks]]", "events = [\"cache_miss\"]", "headers = { Authorization = \"<redacted>\" }"] {
        assert!(printed.lines().any(|printed| printed.starts_with(line)), "{line}: {printed}");
    }
    let again = loaded(&printed.replace("https://u:<redacted>@", "https://u:s3cret@").replace("\"<redacted>\"", "\"s3cret\""), &[], &[]);
    assert_eq!(again.map(|again| again.settings.apps[0].webhooks.clone()), Ok(read.settings.apps[0].webhooks.clone()));
}
