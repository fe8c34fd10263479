//! The application's own code fails in the middle of everything. F28.

use std::time::{Duration, Instant};

use holdline::{Server, prelude::*};

use super::ledger::Sql;
use crate::{
    handlers::{Live, settings, told_off},
    handlers_script::{Journal, ON_PURPOSE},
    support::{WAIT, Ws, postgres::Postgres, proxy::runtime},
};

/// Every subscription to `x.<name>` holds that name; what has `boom` in it panics.
struct Fragile;

fn hold(channel: &ChannelName) -> Option<Hold> {
    let name = channel.as_str().strip_prefix("x.")?;
    Some(Hold::new(name, format!("user-of-{name}")).event("Order").grace(Duration::from_millis(300)))
}

impl Handler for Fragile {
    type Conn = bool;

    async fn on_handshake(&self, _: &Handshake) -> Result<bool, Reject> {
        Ok(false)
    }

    async fn on_subscribe(&self, _: &mut bool, sub: &Subscribe) -> Result<Outcome, Reject> {
        assert!(!sub.channel.as_str().contains("boom"), "{ON_PURPOSE}");
        Ok(hold(&sub.channel).map_or_else(Outcome::accept, |hold| Outcome::accept().hold(hold)))
    }

    async fn on_unsubscribe(&self, _: &mut bool, channel: &ChannelName) -> Outcome {
        assert!(!channel.as_str().contains("bang"), "{ON_PURPOSE}");
        Outcome::accept()
    }

    async fn on_signin(&self, fails_at_its_end: &mut bool, _: &SignedUser) -> Result<Outcome, Reject> {
        *fails_at_its_end = true;
        Ok(Outcome::accept())
    }

    async fn on_close(&self, fails_at_its_end: bool, _: Closing) -> Outcome {
        assert!(!fails_at_its_end, "{ON_PURPOSE}");
        Outcome::accept()
    }
}

/// Waits for the story of a resource.
fn story(sql: &Sql, resource: &str, expected: &[&str]) {
    let deadline = Instant::now() + WAIT;
    while sql.ledger().story(resource) != expected {
        assert!(Instant::now() < deadline, "{resource}: {:?}, not {expected:?}", sql.ledger().story(resource));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn holding(live: &Live, name: &str) -> Ws {
    let mut ws = live.ws();
    ws.subscribe(&format!("x.{name}"));
    ws.expect("holdline:locked");
    ws
}

fn panics_release(url: &str, data_dir: &std::path::Path, sql: &Sql) {
    let settings = settings(|settings| {
        settings.store.url = url.into();
        settings.store.data_dir = data_dir.display().to_string();
        settings.store.sweep_interval = Duration::from_millis(100);
    });
    let live = Live::start(&Journal::new(), Server::new(settings).handler(Fragile));
    let mut calm = holding(&live, "calm");

    let mut ws = holding(&live, "subscribes");
    ws.send_subscribe("boom", None, None);
    told_off(&mut ws, 4100);
    story(sql, "subscribes", &["locked", "unlocked handler_failed after grace"]);

    let mut ws = holding(&live, "bang");
    ws.unsubscribe("x.bang");
    told_off(&mut ws, 4100);
    story(sql, "bang", &["locked", "unlocked handler_failed after grace"]);

    // The last hook of all fails: the connection is over anyway, and so is its hold.
    let mut ws = holding(&live, "closes");
    ws.signin(r#"{"id":"1"}"#);
    drop(ws);
    story(sql, "closes", &["locked", "unlocked gone after grace"]);

    // Nobody else noticed, and the next one is served.
    assert_eq!(sql.ledger().story("calm"), ["locked"]);
    calm.quiet();
    for number in 0..8 {
        holding(&live, &format!("next-{number}"));
    }
    drop(calm);
    story(sql, "calm", &["locked", "unlocked gone after grace"]);
    drop(live);
    let ledger = sql.ledger();
    assert_eq!((ledger.holds.len(), ledger.live().filter(|lock| lock.state == "held").count()), (0, 0));
}

#[test]
#[ignore = "fault suite"]
fn f28_a_panic_in_a_handler() {
    let place = tempfile::tempdir().unwrap();
    panics_release("sqlite", place.path(), &Sql::Sqlite(place.path().join("holdline.sqlite")));
    let place = tempfile::tempdir().unwrap();
    let server = Postgres::shared();
    let database = runtime().block_on(server.create_database());
    panics_release(&server.url_through(server.address(), &database), place.path(), &Sql::postgres(server.url(&database, "postgres")));
}
