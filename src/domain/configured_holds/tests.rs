mod lasting;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{Fence, Hold, Holder, IfTaken, LockState, Mode, Pairs, Principal, Template, conn::tests::conn},
    protocol::{ChannelName, Claims, Member, MemberLimits},
};

const LIMITS: MemberLimits = MemberLimits { max_user_id: 128, max_user_info_bytes: 1_024 };

fn rule(occasion: Occasion, resource: &str) -> HoldRule {
    HoldRule::new(occasion, Template::parse(resource).unwrap(), "Order")
}

fn on(pattern: &str, resource: &str) -> HoldRule {
    rule(Occasion::Subscribe(ChannelPattern::parse(pattern).unwrap()), resource)
}

fn orders() -> HoldRule {
    on("private-order.{order_id}", "order:{order_id}")
}

/// A connection, 1.1, of an application with these rules.
struct Seat {
    holds: ConfiguredHolds,
    conn: Option<Box<Guest>>,
}

impl Seat {
    fn new(rules: impl IntoIterator<Item = HoldRule>, shape: impl FnOnce(&mut Handshake)) -> Self {
        Self::at(ConfiguredHolds::new(HoldLimits::default()).app("app-id", rules), shape)
    }

    fn at(holds: ConfiguredHolds, shape: impl FnOnce(&mut Handshake)) -> Self {
        let mut handshake = Handshake {
            conn: conn(1),
            path: "/app/app-key".to_owned(),
            path_token: None,
            query: Pairs::default(),
            headers: Pairs::default(),
            claims: None,
        };
        shape(&mut handshake);
        let conn = holds.on_handshake(&handshake).now_or_never().unwrap().unwrap();
        Self { holds, conn }
    }

    fn plain(rules: impl IntoIterator<Item = HoldRule>) -> Self {
        Self::new(rules, |_| {})
    }

    fn with_token(rules: impl IntoIterator<Item = HoldRule>, claims: Value) -> Self {
        Self::new(rules, |handshake| handshake.claims = Some(Claims::for_tests(claims)))
    }

    fn open(&mut self) -> Result<Outcome, Reject> {
        self.holds.on_open(&mut self.conn).now_or_never().unwrap()
    }

    fn sign_in(&mut self, user_data: &str) -> Result<Outcome, Reject> {
        let user = SignedUser::parse(user_data, LIMITS).unwrap();
        self.holds.on_signin(&mut self.conn, &user).now_or_never().unwrap()
    }

    fn subscribe(&mut self, sub: Subscribe) -> Result<Outcome, Reject> {
        self.holds.on_subscribe(&mut self.conn, &sub).now_or_never().unwrap()
    }

    fn take(&mut self, channel: &str) -> Hold {
        only_hold(&self.subscribe(to(channel)).unwrap())
    }

    fn refusal(&mut self, sub: Subscribe) -> (String, u16, String) {
        said(&self.subscribe(sub).unwrap_err())
    }
}

fn said(reject: &Reject) -> (String, u16, String) {
    let error = reject.as_subscription_error();
    (error.kind.to_string(), error.status, error.error.to_string())
}

fn to(channel: &str) -> Subscribe {
    Subscribe { channel: ChannelName::parse(channel, 1_024).unwrap(), member: None, user_id: None, channel_data: None }
}

fn only_hold(outcome: &Outcome) -> Hold {
    assert_eq!((outcome.holds().len(), outcome.releases().len()), (1, 0), "{outcome:?}");
    outcome.holds()[0].clone()
}

fn resources(outcome: &Outcome) -> Vec<&str> {
    outcome.holds().iter().map(Hold::resource).collect()
}

fn own_socket() -> Principal {
    Principal::Socket(conn(1).socket_id())
}

#[test]
fn a_subscription_holds_what_its_channel_names() {
    let mut seat = Seat::plain([orders()]);
    assert_eq!(seat.open(), Ok(Outcome::accept()));
    let expected = Hold::new("order:42", conn(1).socket_id()).event("Order").context(json!({ "order_id": "42" }));
    assert_eq!(seat.subscribe(to("private-order.42")), Ok(Outcome::accept().hold(expected)));
    for other in ["private-orders.42", "private-order.42.7", "private-order.", "order.42", "presence-order.42"] {
        assert_eq!(seat.subscribe(to(other)), Ok(Outcome::accept()), "{other}");
    }
}

#[test]
fn everything_a_rule_says_is_said_of_the_hold() {
    let tuned = HoldRule {
        mode: Mode::Shared,
        if_taken: IfTaken::TakeIfInGrace,
        grace: Duration::from_secs(60),
        show_holder: true,
        notify_when_free: false,
        fail_open: true,
        event: "Page".to_owned(),
        ..on("presence-page.{page}", "page:{page}")
    };
    let sub = Subscribe { member: Some(Member { user_id: "7".into(), user_info: None }), ..to("presence-page.a") };
    let expected = Hold::new("page:a", "7").event("Page").context(json!({ "page": "a", "user_id": "7" })).shared();
    let expected = expected.if_taken(IfTaken::TakeIfInGrace).grace(Duration::from_secs(60)).show_holder(true);
    let expected = expected.notify_when_free(false).fail_open(true);
    assert_eq!(Seat::plain([tuned]).subscribe(sub), Ok(Outcome::accept().hold(expected)));
}

#[test]
fn an_application_without_rules_has_no_context_and_no_holds() {
    let mut seat = Seat::plain([]);
    assert!(seat.conn.is_none());
    assert!(seat.holds.apps.read().is_empty());
    assert_eq!(seat.open(), Ok(Outcome::accept()));
    assert_eq!(seat.sign_in(r#"{"id":"7"}"#), Ok(Outcome::accept()));
    assert_eq!(seat.subscribe(to("private-order.42")), Ok(Outcome::accept()));
    assert_eq!(size_of_val(&seat.conn), size_of::<usize>());
}

#[test]
fn the_user_is_who_the_application_has_signed_in_the_order_of_trust() {
    let full = || Subscribe {
        user_id: Some("signed-in".into()),
        member: Some(Member { user_id: "member".into(), user_info: None }),
        channel_data: Some(r#"{"user_id":"data"}"#.to_owned()),
        ..to("presence-order.1")
    };
    let rule = || on("presence-order.{order_id}", "order:{order_id}");
    let principal = |claims: Option<Value>, sub: Subscribe| {
        let mut seat = Seat::new([rule()], |handshake| handshake.claims = claims.map(Claims::for_tests));
        let hold = only_hold(&seat.subscribe(sub).unwrap());
        let user_id = hold.context["user_id"].as_str().map(str::to_owned);
        assert_eq!(user_id.map(Principal::User).unwrap_or_else(own_socket), *hold.principal(), "the context names the same user");
        hold.principal().to_string()
    };
    let token = json!({ "user_id": "token", "sub": "subject" });
    assert_eq!(principal(Some(token.clone()), full()), "user:signed-in");
    assert_eq!(principal(Some(token.clone()), Subscribe { user_id: None, ..full() }), "user:member");
    assert_eq!(principal(Some(token.clone()), Subscribe { user_id: None, member: None, ..full() }), "user:data");
    assert_eq!(principal(Some(token), to("presence-order.1")), "user:token");
    assert_eq!(principal(Some(json!({ "sub": 7 })), to("presence-order.1")), "user:7");
    assert_eq!(principal(Some(json!({ "sub": "" })), to("presence-order.1")), own_socket().to_string());
    assert_eq!(principal(None, to("presence-order.1")), own_socket().to_string());
}

#[test]
fn channel_data_that_names_nobody_names_nobody() {
    for data in [r#"{"user_id":""}"#, r#"{"user_id":true}"#, r#"{"user_info":{"user_id":"7"}}"#, "[]", "nonsense"] {
        let sub = Subscribe { channel_data: Some(data.to_owned()), ..to("private-order.1") };
        assert_eq!(only_hold(&Seat::plain([orders()]).subscribe(sub).unwrap()).principal(), &own_socket(), "{data}");
    }
    let sub = Subscribe { channel_data: Some(r#"{"user_id":10}"#.to_owned()), ..to("private-order.1") };
    assert_eq!(only_hold(&Seat::plain([orders()]).subscribe(sub).unwrap()).principal(), &Principal::from("10"));
}

#[test]
fn a_principal_never_comes_from_an_untrusted_carrier() {
    let mut seat = Seat::new([orders()], |handshake| {
        handshake.query = [("user_id".to_owned(), "admin".to_owned()), ("sub".to_owned(), "admin".to_owned())].into_iter().collect();
        handshake.headers =
            [("user_id".to_owned(), "admin".to_owned()), ("cookie".to_owned(), "user_id=admin".to_owned())].into_iter().collect();
    });
    assert_eq!(seat.take("private-order.1").principal(), &own_socket());
}

#[test]
fn a_socket_rule_asks_for_the_socket_whoever_is_known() {
    let mut seat = Seat::plain([HoldRule { principal: PrincipalFrom::Socket, ..orders() }]);
    let hold = only_hold(&seat.subscribe(Subscribe { user_id: Some("7".into()), ..to("private-order.1") }).unwrap());
    assert_eq!((hold.principal(), &hold.context["user_id"]), (&own_socket(), &json!("7")));
    assert_eq!(hold.effective_grace(), Duration::ZERO, "a socket cannot come back");
}

#[test]
fn every_carrier_gives_its_fields() {
    let resource = |seat: &mut Seat, sub: Subscribe| seat.subscribe(sub).map(|outcome| only_hold(&outcome).resource().to_owned());
    let of = |placeholder: &str| on("private-x.{x}", &format!("{{x}}:{placeholder}"));
    let untrusted = |handshake: &mut Handshake| {
        handshake.query = [("order".to_owned(), "1".to_owned()), ("order".to_owned(), "2".to_owned())].into_iter().collect();
        handshake.headers =
            [("X-Order".to_owned(), "3".to_owned()), ("cookie".to_owned(), "a=b; order=4".to_owned())].into_iter().collect();
        handshake.claims = Some(Claims::for_tests(json!({ "order": 5, "vip": true, "list": [] })));
    };
    for (placeholder, value) in
        [("{query.order}", "1"), ("{header.x-order}", "3"), ("{cookie.order}", "4"), ("{token.order}", "5"), ("{token.vip}", "true")]
    {
        let mut seat = Seat::new([of(placeholder)], untrusted);
        assert_eq!(resource(&mut seat, to("private-x.a")), Ok(format!("a:{value}")), "{placeholder}");
    }
    let data = Some(r#"{"order":6,"user_info":{"order":"no","team":"7"}}"#.to_owned());
    for (placeholder, value) in [("{channel_data.order}", "6"), ("{channel_data.team}", "7")] {
        let sub = Subscribe { channel_data: data.clone(), ..to("private-x.a") };
        assert_eq!(resource(&mut Seat::plain([of(placeholder)]), sub), Ok(format!("a:{value}")), "{placeholder}");
    }
    let mut seat = Seat::plain([of("{signin.team}:{user_id}")]);
    let signed_in = || Subscribe { user_id: Some("42".into()), ..to("private-x.a") };
    assert_eq!(seat.sign_in(r#"{"id":"42","user_info":{"team":"8"}}"#), Ok(Outcome::accept()));
    assert_eq!(resource(&mut seat, signed_in()), Ok("a:8:42".to_owned()));
    assert_eq!(seat.sign_in(r#"{"id":"42","user_info":{"team":"9"}}"#), Ok(Outcome::accept()));
    assert_eq!(resource(&mut seat, signed_in()), Ok("a:9:42".to_owned()), "the data of the last sign-in");
    let refused = resource(&mut seat, to("private-x.a")).unwrap_err();
    assert_eq!(said(&refused).0, "InvalidResource", "a sign-in that was refused afterwards gives nothing");
}

#[test]
fn a_subscription_without_its_value_is_refused_and_told_which() {
    let mut seat = Seat::new([on("private-order", "order:{query.order_id}")], |handshake| {
        handshake.query = [("order_id".to_owned(), String::new())].into_iter().collect();
    });
    let expected = "No value for {query.order_id} of order:{query.order_id}: 1 to 200 bytes are needed";
    assert_eq!(seat.refusal(to("private-order")), ("InvalidResource".to_owned(), 400, expected.to_owned()));
    let mut nobody = Seat::plain([on("private-basket", "basket:{user_id}")]);
    assert!(nobody.refusal(to("private-basket")).2.contains("{user_id}"));
}

#[test]
fn a_value_that_is_no_part_of_a_lock_is_refused() {
    let with = |value: &str| {
        let value = value.to_owned();
        Seat::new([on("private-order", "order:{query.order_id}")], |handshake| {
            handshake.query = [("order_id".to_owned(), value)].into_iter().collect()
        })
    };
    for bad in ["a\0b", "a\nb", "\u{7f}", "\u{85}"] {
        let (kind, status, message) = with(bad).refusal(to("private-order"));
        assert_eq!((kind.as_str(), status), ("InvalidResource", 400));
        assert_eq!(message, "The value of {query.order_id} has a control character", "{bad:?}");
    }
    assert!(with(&"x".repeat(194)).subscribe(to("private-order")).is_ok(), "200 bytes");
    let (kind, _, message) = with(&"x".repeat(195)).refusal(to("private-order"));
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("InvalidResource", "The resource order:{query.order_id} has 201 bytes, at most 200 are allowed")
    );
    assert!(with(&"é".repeat(98)).subscribe(to("private-order")).is_err(), "bytes, not characters");
}

#[test]
fn a_user_that_cannot_own_a_lock_is_refused() {
    let mut seat = Seat::plain([orders()]);
    let by = |user: String| Subscribe { user_id: Some(user.into()), ..to("private-order.1") };
    assert!(seat.subscribe(by("x".repeat(195))).is_ok());
    assert!(seat.refusal(by("x".repeat(196))).2.contains("has 201 bytes, at most 200 are allowed"));
    assert!(seat.refusal(by("a\0".to_owned())).2.contains("control character"));
}

#[test]
fn the_context_has_the_captures_the_user_and_what_the_rule_adds() {
    let context = ["{token.team}", "{channel_data.none}", "{token.team}-{order_id}", "fixed"];
    let context =
        context.iter().zip(["team", "none", "both", "kind"]).map(|(text, name)| (name.to_owned(), Template::parse(text).unwrap()));
    let mut seat = Seat::with_token([HoldRule { context: context.collect(), ..orders() }], json!({ "team": "t" }));
    let hold = only_hold(&seat.subscribe(Subscribe { user_id: Some("7".into()), ..to("private-order.42") }).unwrap());
    assert_eq!(hold.context, json!({ "order_id": "42", "user_id": "7", "team": "t", "both": "t-42", "kind": "fixed" }));
}

#[test]
fn a_context_has_its_limits_too() {
    let with = |team: String| {
        let context = vec![("team".to_owned(), Template::parse("{token.team}").unwrap())];
        Seat::with_token([HoldRule { context, ..orders() }], json!({ "team": team })).subscribe(to("private-order.1"))
    };
    assert!(with("x".repeat(4_000)).is_ok());
    assert!(said(&with("x".repeat(4_096)).unwrap_err()).2.ends_with("bytes, at most 4096 are allowed"));
    assert!(said(&with("\0".to_owned()).unwrap_err()).2.contains("{token.team}"));
}

proptest! {
    #[test]
    fn whatever_a_client_carries_a_hold_keeps_the_limits_of_the_store(value in "\\PC{0,240}|[\\x00-\\x7f]{0,4}", user in "\\PC{0,240}|[\\x00-\\x7f]{0,4}") {
        let context = vec![("raw".to_owned(), Template::parse("<{query.v}>").unwrap())];
        let rule = HoldRule { context, ..on("private-order.{order_id}", "order:{order_id}:{query.v}") };
        let mut seat = Seat::new([rule], |handshake| handshake.query = [("v".to_owned(), value.clone())].into_iter().collect());
        let sub = Subscribe { user_id: Some(Arc::from(user.as_str())), ..to("private-order.1") };
        match seat.subscribe(sub) {
            Ok(outcome) => {
                let hold = only_hold(&outcome);
                prop_assert_eq!(hold.resource(), format!("order:1:{value}"));
                prop_assert!((1..=200).contains(&hold.resource().len()) && !hold.resource().contains('\0'));
                prop_assert!(hold.principal().to_string().len() <= 200 && !hold.principal().to_string().contains('\0'));
                prop_assert!(hold.context.to_string().len() <= 4_096);
            }
            Err(reject) => {
                let too_long = value.len() > 192 || user.len() > 195;
                let has_control = [&value, &user].iter().any(|text| text.contains(char::is_control));
                prop_assert!(too_long || has_control || value.is_empty(), "{reject}");
                prop_assert_eq!(said(&reject).0, "InvalidResource");
            }
        }
    }
}
