//! `pusher_internal:subscription_count`: protocol.md 2.9.

use serde_json::json;

use crate::support::{Broker, Ws, member, one_app, shared, unique};

const COUNT: &str = "pusher_internal:subscription_count";

fn counts(ws: &mut Ws, channel: &str, count: u32) {
    let event = ws.expect(COUNT);
    assert_eq!((event.channel(), event.payload()), (Some(channel), json!({ "subscription_count": count })));
}

fn counting() -> Broker {
    Broker::with(one_app("subscription_count = true\nclient_events = true"))
}

#[test]
fn every_subscribe_and_unsubscribe_is_counted_for_all_subscribers() {
    let broker = counting();
    for channel in ["news", "private-news", "private-encrypted-news"] {
        let (mut one, mut two) = (broker.ws(), broker.ws());
        one.subscribe(channel);
        counts(&mut one, channel, 1);
        two.subscribe(channel);
        counts(&mut two, channel, 2);
        counts(&mut one, channel, 2);
        two.unsubscribe(channel);
        counts(&mut one, channel, 1);
        two.quiet();
        two.subscribe(channel);
        counts(&mut two, channel, 2);
        counts(&mut one, channel, 2);
        drop(two);
        counts(&mut one, channel, 1);
        one.quiet();
    }
}

#[test]
fn on_a_cache_channel_the_acknowledgement_still_comes_first() {
    let broker = counting();
    let mut ws = broker.ws();
    ws.subscribe("cache-news");
    let names = [ws.event().name().to_owned(), ws.event().name().to_owned()];
    assert!(names.contains(&COUNT.to_owned()) && names.contains(&"pusher:cache_miss".to_owned()), "{names:?}");
    ws.quiet();
}

#[test]
fn a_repeated_subscribe_changes_no_count() {
    let broker = counting();
    let (mut one, mut two) = (broker.ws(), broker.ws());
    one.subscribe("news");
    counts(&mut one, "news", 1);
    two.subscribe("news");
    counts(&mut two, "news", 2);
    counts(&mut one, "news", 2);
    two.subscribe("news");
    two.quiet();
    one.quiet();
}

#[test]
fn a_refused_subscribe_changes_no_count() {
    let broker = counting();
    let (mut one, mut two) = (broker.ws(), broker.ws());
    one.subscribe("private-news");
    counts(&mut one, "private-news", 1);
    two.send_subscribe("private-news", Some("app-key:00"), None);
    two.subscription_error("private-news");
    one.quiet();
}

#[test]
fn presence_and_user_channels_are_never_counted() {
    let broker = counting();
    let (mut one, mut two) = (broker.ws(), broker.ws());
    one.join("presence-room", &member("1", None));
    two.join("presence-room", &member("2", None));
    one.expect("pusher_internal:member_added");
    two.signin(r#"{"id":"2"}"#);
    two.send_subscribe("#server-to-user-2", Some(""), None);
    two.acknowledged("#server-to-user-2");
    one.quiet();
    two.quiet();
}

#[test]
fn the_option_is_off_by_default() {
    let broker = shared();
    let channel = unique("uncounted");
    let (mut one, mut two) = (broker.ws(), broker.ws());
    one.subscribe(&channel);
    two.subscribe(&channel);
    drop(two);
    one.quiet();
}
