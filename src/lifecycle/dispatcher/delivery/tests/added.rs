//! Endpoints that come and go while the node is at work.

use std::time::Duration;

use super::harness::{Hooks, Receiver, eventually};

fn names(events: &[&str]) -> Vec<String> {
    events.iter().map(|event| (*event).to_owned()).collect()
}

pub(super) async fn an_endpoint_that_comes_later_gets_what_it_is_owed_and_goes_again(hooks: Hooks) {
    let receiver = Receiver::new();
    let dispatcher = hooks.serve(&receiver).await;
    hooks.record(&["a e1"]).await;
    hooks.settled().await;
    dispatcher.stop().await;
    hooks.record(&["a e2"]).await;
    let dispatcher = hooks.start_to_grow();
    // Three times as long as a place that nobody needs would be kept.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(hooks.place_of(&receiver).await.is_some(), "it is not known yet who needs it");
    dispatcher.add(receiver.boxed());
    dispatcher.all_added();
    hooks.settled().await;
    assert_eq!(receiver.of("a"), names(&["e1", "e2"]));

    dispatcher.remove(&receiver.consumer);
    eventually("its claim is given back", async || hooks.place_of(&receiver).await.is_none_or(|owner| owner.is_none())).await;
    hooks.record(&["a e3"]).await;
    eventually("its place is dropped", async || hooks.place_of(&receiver).await.is_none()).await;
    assert_eq!(receiver.of("a"), names(&["e1", "e2"]), "it is told nothing more");
    dispatcher.stop().await;
}

pub(super) async fn an_endpoint_is_replaced_by_another_of_its_name(hooks: Hooks) {
    let (old, new) = (Receiver::new(), Receiver::new());
    assert_eq!(old.consumer, new.consumer);
    let dispatcher = hooks.start_to_grow();
    dispatcher.add(old.boxed());
    dispatcher.all_added();
    eventually("it has its place", async || hooks.place_of(&old).await.flatten().is_some()).await;
    hooks.record(&["a e1"]).await;
    hooks.settled().await;
    dispatcher.add(new.boxed());
    hooks.record(&["a e2", "a e3"]).await;
    eventually("all is told", async || old.attempts_of("a").len() + new.attempts_of("a").len() == 3 && hooks.world.lag().await == 0).await;
    eventually("the new one is at work", async || {
        let before = new.attempts_of("a").len();
        hooks.record(&["a again"]).await;
        hooks.settled().await;
        new.attempts_of("a").len() > before
    })
    .await;
    let told = old.attempts_of("a").len();
    hooks.record(&["a last"]).await;
    hooks.settled().await;
    assert_eq!((old.attempts_of("a").len(), new.attempts_of("a").last().map(String::as_str)), (told, Some("last")));
    dispatcher.stop().await;
}
